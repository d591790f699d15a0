"""Reports of an evaluation: scores as JSON and text, and pictures of them and of some windows."""

import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxconvlstm import plots
from jaxconvlstm.config.data import DataConfig
from jaxconvlstm.data.dataset import Windows
from jaxconvlstm.evaluation.classifier import Classifier
from jaxconvlstm.evaluation.evaluate import Classes, Forecasts
from jaxconvlstm.evaluation.predictor import Predictor
from jaxconvlstm.messages import say
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


class FrameReport:
    """Scores of predicted frames by lead time, with persistence's beside them."""

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
        """Store what the report is about.

        Args:
          model, values: the model, and the scale of the data.
          windows: those to draw, with `steps` targets each.
          scored: the scores of all windows.
          data: tells how frames are predicted (horizon, tile).
          steps: frames to predict.
          first_lead: the first frame that was scored, counted from the last one given.
        """
        self._model, self._values, self._windows = model, values, windows
        self._scored, self._data, self._steps = scored, data, steps
        self._first_lead = first_lead

    def scores(self, batch_size: int) -> dict[str, Any]:
        """The scores of `metrics.json`, with a definition of each key."""
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
        """Print the scores as text."""
        print_table(result, self._first_lead)
        if line := describe_error(result, self._values):
            say(line)
        others = [
            f"{name} {result['model'][key]:.4g} ({result['persistence'].get(key, np.nan):.4g})"
            for key, name in _OTHER_DIALECTS.items()
            if key in result["model"]
        ]
        say("in other dialects (persistence): " + ", ".join(others))
        if self._first_lead < 1:
            say(
                "means and sums are over all of these frames; those up to lead 1 are predicted one "
                "step ahead, from the true frames before them"
            )

    def draw(self, result: Mapping[str, Any], samples: int, folder: Path) -> list[Path]:
        """Draw the scores and at most `samples` windows; return the files."""
        written = [folder / "curves.png"]
        plots.curves(result["per_lead"], written[0], first_lead=self._first_lead)
        if not samples:
            return written
        chosen = spread(len(self._windows), samples).tolist()
        for number, index in enumerate(chosen):
            clip, name = self._clip(index), self._windows.name(index)
            strip, animation = folder / f"strip-{number}.png", folder / f"animation-{number}.gif"
            pair = folder / f"frame-{number}"
            written += draw_clip(clip, strip, pair, title=name, animation=animation)
            written += _draw_video(clip, folder / f"film-{number}.mp4")
            if number == 0:
                plots.step_pictures(*clip, folder / "steps", title=name)
        several = spread(len(self._windows), _GRID_WINDOWS).tolist()
        plots.grid(
            [self._clip(index) for index in several],
            folder / "grid.png",
            names=[self._windows.name(index) for index in several],
        )
        return [*written, folder / "steps", folder / "grid.png"]

    def _clip(self, index: int) -> plots.Clip:
        """Predict a window and scale all of it for pictures."""
        window = self._windows.read(0, index)
        # [T, H, W, C] -> [1, T, H, W, C] -> [steps, H, W, C]
        predicted = self._predict(self._values.scale(window[0])[None])[0]
        return unit_clip(self._values, window, predicted)

    def _predict(self, inputs: Any) -> Any:
        """Predict the frames that are scored, `[batch, steps, ...]`, on the network's scale."""
        skipped = self._data.horizon - 1
        predicted = self._model.predict_scaled(inputs, skipped + self._steps, self._data.tile)
        return predicted[:, skipped:]


class ClassReport:
    """Accuracy and confusion of classes, beside always naming the most frequent one."""

    def __init__(self, model: Classifier, values: Values, windows: Windows, scored: Classes):
        """Store the model, the scale of the data, all windows and their scores."""
        self._model, self._values, self._windows, self._scored = model, values, windows, scored

    def scores(self, batch_size: int) -> dict[str, Any]:
        """See `FrameReport.scores`."""
        sums = self._scored.sums
        return {
            "model": sums.means(),
            # A baseline that looks at no clip takes the place that persistence has for forecasts.
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
        """See `FrameReport.print`."""
        for key, value in result["model"].items():
            name = key.replace("_", " ")
            say(f"{name} {value:.4f} (the most frequent class: {result['persistence'][key]:.4f})")
        for truth, row in zip(result["classes"], result["confusion"]):
            mistaken = ", ".join(
                f"{count} as {name}"
                for name, count in zip(result["classes"], row)
                if count and name != truth
            )
            right = row[result["classes"].index(truth)]
            say(f"{truth}: {right} of {sum(row)} right" + (f"; {mistaken}" if mistaken else ""))

    def draw(self, result: Mapping[str, Any], samples: int, folder: Path) -> list[Path]:
        """See `FrameReport.draw`."""
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
        plots.confusion(result["confusion"], classes, matrix)
        return [*written, matrix]


def print_table(result: Mapping[str, Any], first_lead: int = 1) -> None:
    """Print scores by lead time, persistence's in brackets, and the ratio of the MSEs."""
    per_lead = result["per_lead"]
    keys = [key for key in IN_TABLE if key in result["model"]]
    say(
        "lead  " + "".join(f"{key.upper() + ' (persistence)':>22}" for key in keys) + "   MSE ratio"
    )
    leads = len(per_lead["model"]["mse"])
    nowhere = [float("nan")] * leads  # Persistence lacks some scores: it has no ghosting, say.
    rows: list[tuple[Any, dict[str, float], dict[str, float]]] = [
        (
            lead + first_lead,
            {key: per_lead["model"][key][lead] for key in keys},
            {key: per_lead["persistence"].get(key, nowhere)[lead] for key in keys},
        )
        for lead in range(leads)
    ]
    means = {key: result["persistence"].get(key, np.nan) for key in keys}
    for lead, ours, theirs in [*rows, ("mean", result["model"], means)]:
        cells = "".join(f"{f'{ours[key]:.4g} ({theirs[key]:.4g})':>22}" for key in keys)
        ratio = ours["mse"] / theirs["mse"] if theirs["mse"] else float("nan")
        say(f"{lead:<6}{cells}{ratio:>12.3f}")


def describe_error(result: Mapping[str, Any], values: Values) -> str | None:
    """Describe the mean absolute error in the data's own unit; None on a logarithmic scale."""
    if values.log:
        return None  # A difference of logarithms is a ratio of values, without their unit.
    ours, theirs = (
        result[name]["mae"] * (values.high - values.low) for name in ("model", "persistence")
    )
    unit = values.unit or "in the data's raw values"
    return f"mean absolute error {ours:.4g} {unit}, persistence {theirs:.4g}"


def unit_clip(values: Values, window: tuple[Any, Any], predicted: Any) -> plots.Clip:
    """Scale a window and its prediction for pictures.

    Args:
      values: the scale of the data.
      window: given and true frames, `[time, height, width, channels]`, as in the files.
      predicted: `[steps, height, width, channels]`, on the network's scale.

    Returns:
      Given, predicted and true frames in fractions of the value range, NaN where missing.
    """
    inputs, targets = window
    return values.raw_to_unit(inputs), values.to_unit(predicted), values.raw_to_unit(targets)


def draw_clip(
    clip: plots.Clip, strip: Path, pair: Path, *, title: str, animation: Path | None = None
) -> list[Path]:
    """Draw a prediction and its truth.

    Args:
      clip: from `unit_clip`.
      strip: a PNG of all frames.
      pair: beginning of the names of two PNGs, predicted and true, if a single frame is predicted.
      title: a line above the strip.
      animation: a GIF of all frames; None for none.

    Returns:
      The files.
    """
    plots.strip(*clip, strip, title=title)
    written = [strip]
    if animation is not None:
        plots.animation(*clip, animation)
        written.append(animation)
    _, predicted, targets = clip
    if len(predicted) == 1 and targets is not None:
        written += plots.decoded_and_raw(predicted[0], targets[0], pair)
    return written


def _draw_video(clip: plots.Clip, path: Path) -> list[Path]:
    """Draw a clip as MP4 where PyAV is installed; the GIF shows the same."""
    try:
        plots.animation(*clip, path)
    except plots.MissingLibraryError:
        return []
    return [path]


def frames_per_second(
    predict: Callable[[Any], Any], values: Values, windows: Windows, batch_size: int, frames: int
) -> float:
    """Measure the model alone: the median of three batches, in frames per second.

    Args:
      predict: takes inputs `[batch, time, ...]` on the network's scale.
      values, windows: give the inputs, those of the first window in every row.
      batch_size: windows at once.
      frames: frames of a window that count, predicted or classified.
    """
    rows = min(batch_size, len(windows))
    # [T, H, W, C] -> [rows, T, H, W, C]
    inputs = values.scale(windows.read(0, 0)[0])[None].repeat(rows, axis=0)
    predict(inputs)  # Compiles.
    seconds = []
    for _ in range(3):
        began = time.perf_counter()
        predict(inputs)
        seconds.append(time.perf_counter() - began)
    return rows * frames / statistics.median(seconds)
