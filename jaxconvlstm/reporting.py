"""What an evaluation shows beside its numbers: a table, curves, strips and animations."""

import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from jaxconvlstm import pictures
from jaxconvlstm.data.datasets import Windows
from jaxconvlstm.data.values import Values
from jaxconvlstm.evaluation import Evaluation
from jaxconvlstm.metrics import DEFINITIONS
from jaxconvlstm.spread import spread

Predict = Callable[[Any], Any]
"""Inputs `[batch, time, height, width, channels]` on the network's scale to the frames scored."""


def scores(evaluation: Evaluation) -> dict[str, Any]:
    """The scores of `metrics.json`: means, by lead time, and what each key means."""
    model, persistence = evaluation.model, evaluation.persistence
    return {
        "model": model.means(),
        "persistence": persistence.means(),
        "per_lead": {"model": model.per_lead(), "persistence": persistence.per_lead()},
        "count": evaluation.count,
        "definitions": {key: DEFINITIONS[key] for key in model.means()},
    }


def print_table(result: Mapping[str, Any], first_lead: int = 1) -> None:
    """Scores by lead time, persistence's in brackets; the ratio of the errors last."""
    per_lead = result["per_lead"]
    keys = [key for key in DEFINITIONS if key in result["model"]]
    print(
        "lead  " + "".join(f"{key.upper() + ' (persistence)':>22}" for key in keys) + "   MSE ratio"
    )
    rows: list[tuple[Any, dict[str, float], dict[str, float]]] = [
        (
            lead + first_lead,
            {key: per_lead["model"][key][lead] for key in keys},
            {key: per_lead["persistence"][key][lead] for key in keys},
        )
        for lead in range(len(per_lead["model"]["mse"]))
    ]
    for lead, ours, theirs in [*rows, ("mean", result["model"], result["persistence"])]:
        cells = "".join(f"{f'{ours[key]:.4g} ({theirs[key]:.4g})':>22}" for key in keys)
        ratio = ours["mse"] / theirs["mse"] if theirs["mse"] else float("nan")
        print(f"{lead:<6}{cells}{ratio:>12.3f}")


def describe_error(result: Mapping[str, Any], values: Values) -> str | None:
    """The mean absolute error in the data's own unit; None where the scale is not linear."""
    if values.log:
        return None
    ours, theirs = (
        result[name]["mae"] * (values.high - values.low) for name in ("model", "persistence")
    )
    unit = values.unit or "in the data's own values"
    return f"mean absolute error {ours:.4g} {unit}, persistence {theirs:.4g}"


def draw(
    predict: Predict, values: Values, windows: Windows, samples: int, folder: Path
) -> list[Path]:
    """Strips and animations of a few windows, spread over the data."""
    written = []
    for number, index in enumerate(spread(len(windows), samples).tolist()):
        inputs, targets = (values.scale(frames) for frames in windows.read(0, index))
        predicted = values.display(predict(inputs[None])[0])
        shown = values.display(inputs), predicted, values.display(targets)
        strip, animation = folder / f"strip-{number}.png", folder / f"animation-{number}.gif"
        pictures.strip(*shown, strip, title=windows.name(index))
        pictures.animation(*shown, animation)
        written += [strip, animation]
    return written


def draw_curves(result: Mapping[str, Any], path: Path) -> list[Path]:
    """Scores over lead time, where Matplotlib is installed."""
    try:
        pictures.curves(result["per_lead"], path)
    except ImportError as error:
        print(f"no curves: {error}")
        return []
    return [path]


def frames_per_second(predict: Predict, values: Values, windows: Windows, batch_size: int) -> float:
    """Predicted frames per second of the model alone, compiled: the median of three batches."""
    rows = min(batch_size, len(windows))
    inputs = values.scale(windows.read(0, 0)[0])[None].repeat(rows, axis=0)
    frames = rows * predict(inputs).shape[1]
    seconds = []
    for _ in range(3):
        began = time.perf_counter()
        predict(inputs)
        seconds.append(time.perf_counter() - began)
    return frames / statistics.median(seconds)
