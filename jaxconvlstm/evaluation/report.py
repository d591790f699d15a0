"""What an evaluation shows beside its numbers: tables, curves, strips, clips, confusion."""

import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from jaxconvlstm import plots
from jaxconvlstm.config.data import DataConfig
from jaxconvlstm.data.dataset import Windows
from jaxconvlstm.evaluation.classifier import Classifier
from jaxconvlstm.evaluation.evaluate import Classes, Forecasts
from jaxconvlstm.evaluation.predictor import Predictor
from jaxconvlstm.metrics.class_scores import CLASS_DEFINITIONS
from jaxconvlstm.metrics.frame_scores import DEFINITIONS
from jaxconvlstm.scale import Values
from jaxconvlstm.spread import spread

IN_TABLE = ("mse", "mae", "psnr", "ssim", "trail")
"""Scores by lead time that are printed; metrics.json and the curves have all."""
_OTHER_DIALECTS = {
    "openstl_mse": "OpenSTL's MSE",
    "openstl_mae": "MAE",
    "openstl_ssim": "SSIM",
    "openstl_psnr": "PSNR",
    "shi_cross_entropy": "Shi's cross-entropy",
}
_GRID_WINDOWS = 8


class Report(Protocol):
    """What is shown of an evaluation."""

    def scores(self, batch_size: int) -> dict[str, Any]:
        """The scores of `metrics.json`, and what each key means."""

    def print(self, result: Mapping[str, Any]) -> None:
        """The same for people, as text."""

    def draw(self, result: Mapping[str, Any], samples: int, folder: Path) -> list[Path]:
        """Pictures of the scores and of a few windows; what was written."""


class FrameReport:
    """Scores of predicted frames by lead time, with persistence's beside them; see `Report`."""

    def __init__(
        self,
        model: Predictor,
        values: Values,
        windows: Windows,
        scored: Forecasts,
        data: DataConfig,
        steps: int,
        first_lead: int,
    ):
        """Takes what was scored.

        Args:
          model, values: what predicts, and the scale of the data.
          windows: those to draw, with `steps` targets each.
          scored: the scores of all windows.
          data: says how frames are predicted (horizon, tile).
          steps: frames to predict.
          first_lead: the first frame that was scored, counted from the last one given.
        """
        self._model, self._values, self._windows = model, values, windows
        self._scored, self._data, self._steps = scored, data, steps
        self._first_lead = first_lead

    def scores(self, batch_size: int) -> dict[str, Any]:
        """See `Report.scores`."""
        model, persistence = self._scored.model, self._scored.persistence
        return {
            "model": model.means(),
            "persistence": persistence.means(),
            "per_lead": {"model": model.per_lead(), "persistence": persistence.per_lead()},
            "count": self._scored.count,
            "frames_per_second": frames_per_second(
                self._predict, self._values, self._windows, batch_size, self._steps
            ),
            "definitions": {key: DEFINITIONS[key] for key in model.means()},
        }

    def print(self, result: Mapping[str, Any]) -> None:
        """See `Report.print`."""
        print_table(result, self._first_lead)
        if line := describe_error(result, self._values):
            print(line)
        others = [
            f"{name} {result['model'][key]:.4g} ({result['persistence'].get(key, np.nan):.4g})"
            for key, name in _OTHER_DIALECTS.items()
            if key in result["model"]
        ]
        print("in other dialects (persistence): " + ", ".join(others))
        if self._first_lead < 1:
            print(
                "means and sums are over all of these frames; those up to lead 1 are predicted one "
                "step ahead, from the true frames before them"
            )

    def draw(self, result: Mapping[str, Any], samples: int, folder: Path) -> list[Path]:
        """See `Report.draw`."""
        written = draw_curves(result, folder / "curves.png", self._first_lead)
        if not samples:
            return written
        chosen = spread(len(self._windows), samples).tolist()
        for number, index in enumerate(chosen):
            clip, name = self._clip(index), self._windows.name(index)
            written += _draw_clip(*clip, name, folder, number)
            if number == 0:
                plots.step_pictures(*clip, folder / "steps", title=name)
        several = spread(len(self._windows), _GRID_WINDOWS).tolist()
        plots.grid(
            [self._clip(index) for index in several],
            folder / "grid.png",
            names=[self._windows.name(index) for index in several],
        )
        return [*written, folder / "steps", folder / "grid.png"]

    def _clip(self, index: int) -> tuple[Any, Any, Any]:
        """A window's inputs, predictions and targets, as pictures show them."""
        inputs, targets = self._windows.read(0, index)
        predicted = self._predict(self._values.scale(inputs)[None])[0]
        return (
            self._values.raw_to_unit(inputs),
            self._values.to_unit(predicted),
            self._values.raw_to_unit(targets),
        )

    def _predict(self, inputs: Any) -> Any:
        """Inputs `[batch, time, ...]` on the network's scale to the frames scored."""
        skipped = self._data.horizon - 1
        predicted = self._model.predict_scaled(inputs, skipped + self._steps, self._data.tile)
        return predicted[:, skipped:]


class ClassReport:
    """Accuracy and confusion of classes, beside always naming the most frequent; see `Report`."""

    def __init__(self, model: Classifier, values: Values, windows: Windows, scored: Classes):
        """Takes what was scored: the model, the scale of the data, all windows, their scores."""
        self._model, self._values, self._windows, self._scored = model, values, windows, scored

    def scores(self, batch_size: int) -> dict[str, Any]:
        """See `Report.scores`."""
        sums = self._scored.sums
        return {
            "model": sums.means(),
            # What looks at no clip stands where repeating the last frame does for forecasts.
            "persistence": sums.baseline(),
            "classes": list(self._model.classes),
            "confusion": sums.confusion.tolist(),
            "count": self._scored.count,
            "frames_per_second": frames_per_second(
                self._model.probabilities,
                self._values,
                self._windows,
                batch_size,
                self._windows.read(0, 0)[0].shape[0],
            ),
            "definitions": {
                **CLASS_DEFINITIONS,
                "persistence": "The same scores of always naming the most frequent class.",
            },
        }

    def print(self, result: Mapping[str, Any]) -> None:
        """See `Report.print`."""
        for key, value in result["model"].items():
            name = key.replace("_", " ")
            print(f"{name} {value:.4f} (the most frequent class: {result['persistence'][key]:.4f})")
        for truth, row in zip(result["classes"], result["confusion"]):
            mistaken = ", ".join(
                f"{count} as {name}"
                for name, count in zip(result["classes"], row)
                if count and name != truth
            )
            right = row[result["classes"].index(truth)]
            print(f"{truth}: {right} of {sum(row)} right" + (f"; {mistaken}" if mistaken else ""))

    def draw(self, result: Mapping[str, Any], samples: int, folder: Path) -> list[Path]:
        """See `Report.draw`."""
        written, classes = [], result["classes"]
        chosen = spread(len(self._windows), samples).tolist()
        for number, index in enumerate(chosen):
            frames, label = self._windows.read(0, index)
            shown = self._values.raw_to_unit(frames)
            strip, animation = folder / f"strip-{number}.png", folder / f"animation-{number}.gif"
            probabilities = self._model.probabilities(self._values.scale(frames)[None])
            title = self._windows.name(index)
            plots.classified([shown], classes, probabilities, [int(label)], strip, title=title)
            plots.show(shown, title=f"{title}: {classes[int(label)]}").save(animation)
            written += [strip, animation]
        matrix = folder / "confusion.png"
        return written + _with_matplotlib(
            lambda: plots.confusion(result["confusion"], classes, matrix), matrix
        )


def print_table(result: Mapping[str, Any], first_lead: int = 1) -> None:
    """Scores by lead time, persistence's in brackets; the ratio of the errors last."""
    per_lead = result["per_lead"]
    keys = [key for key in IN_TABLE if key in result["model"]]
    print(
        "lead  " + "".join(f"{key.upper() + ' (persistence)':>22}" for key in keys) + "   MSE ratio"
    )
    rows: list[tuple[Any, dict[str, float], dict[str, float]]] = [
        (
            lead + first_lead,
            {key: per_lead["model"][key][lead] for key in keys},
            {key: per_lead["persistence"].get(key, _Missing())[lead] for key in keys},
        )
        for lead in range(len(per_lead["model"]["mse"]))
    ]
    means = {key: result["persistence"].get(key, np.nan) for key in keys}
    for lead, ours, theirs in [*rows, ("mean", result["model"], means)]:
        cells = "".join(f"{f'{ours[key]:.4g} ({theirs[key]:.4g})':>22}" for key in keys)
        ratio = ours["mse"] / theirs["mse"] if theirs["mse"] else float("nan")
        print(f"{lead:<6}{cells}{ratio:>12.3f}")


class _Missing:
    """NaN at every lead time, where persistence has no such score."""

    def __getitem__(self, lead: int) -> float:
        return float("nan")


def describe_error(result: Mapping[str, Any], values: Values) -> str | None:
    """The mean absolute error in the data's own unit; None where the scale is not linear."""
    if values.log:
        return None
    ours, theirs = (
        result[name]["mae"] * (values.high - values.low) for name in ("model", "persistence")
    )
    unit = values.unit or "in the data's raw values"
    return f"mean absolute error {ours:.4g} {unit}, persistence {theirs:.4g}"


def _draw_clip(
    inputs: Any, predicted: Any, targets: Any, name: str, folder: Path, number: int
) -> list[Path]:
    """One window as a strip and as an animation, and as a video where PyAV is installed."""
    shown = inputs, predicted, targets
    strip, animation = folder / f"strip-{number}.png", folder / f"animation-{number}.gif"
    plots.strip(*shown, strip, title=name)
    plots.animation(*shown, animation)
    written = [strip, animation]
    if len(predicted) == 1:
        written += plots.decoded_and_raw(predicted[0], targets[0], folder / f"frame-{number}")
    try:
        plots.animation(*shown, folder / f"film-{number}.mp4")
    except ImportError:
        return written  # the animation shows the same
    return [*written, folder / f"film-{number}.mp4"]


def draw_curves(result: Mapping[str, Any], path: Path, first_lead: int = 1) -> list[Path]:
    """Scores over lead time, where Matplotlib is installed."""
    return _with_matplotlib(
        lambda: plots.curves(result["per_lead"], path, first_lead=first_lead), path
    )


def _with_matplotlib(draw: Callable[[], None], path: Path) -> list[Path]:
    try:
        draw()
    except ImportError as error:
        print(f"no {path.stem}: {error}")
        return []
    return [path]


def frames_per_second(
    predict: Callable[[Any], Any], values: Values, windows: Windows, batch_size: int, frames: int
) -> float:
    """Frames per second of the model alone, compiled: the median of three batches.

    Args:
      predict: takes inputs `[batch, time, ...]` on the network's scale.
      values, windows: where inputs come from.
      batch_size: windows at once.
      frames: what counts of a window: frames predicted, or frames classified.
    """
    rows = min(batch_size, len(windows))
    inputs = values.scale(windows.read(0, 0)[0])[None].repeat(rows, axis=0)
    predict(inputs)
    seconds = []
    for _ in range(3):
        began = time.perf_counter()
        predict(inputs)
        seconds.append(time.perf_counter() - began)
    return rows * frames / statistics.median(seconds)
