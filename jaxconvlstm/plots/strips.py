"""Strips of one window and grids of several, with time running to the right."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxconvlstm.checks import check_same_shape
from jaxconvlstm.errors import ConfigError
from jaxconvlstm.plots.drawing import (
    USUAL_CELL,
    check_clip,
    difference_scale,
    difference_to_rgb,
    has_missing,
    input_labels,
    save_png,
    signed_difference,
    to_rgb,
)
from jaxconvlstm.plots.sheets import MOST_COLUMNS, Block, Row, cell_size, draw_sheet
from jaxconvlstm.spread import spread

_GRID_CELL = 128  # pixels
_GRID_INPUTS = 4
_LEAST_INPUTS = 6

Clip = tuple[Any, Any, Any | None]
"""Inputs, predictions and targets of one window, as `strip` takes them."""


def strip(
    inputs: Any, predictions: Any, targets: Any | None, path: str | Path, *, title: str = ""
) -> None:
    """Write a PNG with a row each for input, prediction, truth and difference.

    Small frames are enlarged by a whole factor, large ones reduced, so that the picture is at most
    2000 pixels wide. Of many inputs the last few are shown; of very many predictions some, evenly
    spread. The difference is prediction minus truth, averaged over the channels: blue is too low,
    red too high; the row's label tells the scale.

    Args:
      inputs: `[T, height, width, channels]`, float, [0, 1].
      predictions: `[K, height, width, channels]`, likewise.
      targets: as predictions, or None: without ground truth there are two rows only.
      path: the file; its folder is made.
      title: a line above.

    Raises:
      ConfigError: another shape, or integers.
    """
    inputs, predictions, targets = check_clip(inputs, predictions, targets)
    leads = spread(len(predictions), MOST_COLUMNS)
    # As many inputs as predictions, but a few even beside a single prediction.
    given = np.arange(len(inputs))[-min(MOST_COLUMNS, max(len(leads), _LEAST_INPUTS)) :]
    size = cell_size(predictions.shape[1:3], max(len(leads), len(given)), USUAL_CELL)
    predicted = [Row("prediction", [*to_rgb(predictions[leads])], size)]
    if targets is not None:
        difference = signed_difference(predictions, targets)
        scale = difference_scale(difference)
        label = f"difference\nblue too low\nred too high\nscale ±{scale:g}"
        predicted.append(Row("truth", [*to_rgb(targets[leads])], size))
        predicted.append(Row(label, [*difference_to_rgb(difference[leads], scale)], size))
    blocks = [
        Block("", input_labels(len(inputs), given), [Row("input", [*to_rgb(inputs[given])], size)]),
        Block("", [f"+{lead + 1}" for lead in leads], predicted),
    ]
    missing = has_missing(inputs[given], predictions, targets)
    save_png(draw_sheet(blocks, title=title, missing=missing), path)


def grid(
    clips: Sequence[Clip], path: str | Path, *, title: str = "", names: Sequence[str] = ()
) -> None:
    """Write a PNG with two rows for each window: the truth, and below it the prediction.

    To the left of the line are the last few inputs. Of very many predictions some are shown, evenly
    spread, so that the picture is at most 2000 pixels wide.

    Args:
      clips: `(inputs, predictions, targets)` of each window, see `strip`; all predictions of one
        shape. About eight windows fit on a screen.
      path: the file; its folder is made.
      title: a line above.
      names: a line above each window, one for each.

    Raises:
      ConfigError: another shape, integers, or no window.
    """
    checked = [check_clip(*clip) for clip in clips]
    if not checked:
        raise ConfigError("clips: expected at least one window, got none")
    if names and len(names) != len(checked):
        raise ConfigError(f"names: expected {len(checked)}, one for each window, got {len(names)}")
    shape = checked[0][1].shape
    for _, predictions, _ in checked[1:]:
        check_same_shape("predictions", predictions, "those of the first window", checked[0][1])
    past = min(_GRID_INPUTS, max(len(inputs) for inputs, _, _ in checked))
    leads = spread(len(checked[0][1]), MOST_COLUMNS - past - 1)  # One less: the line needs room.
    size = cell_size(shape[1:3], past + len(leads) + 1, _GRID_CELL)
    labels = [*input_labels(past, np.arange(past)), *(f"+{lead + 1}" for lead in leads)]
    blocks = []
    for number, (inputs, predictions, targets) in enumerate(checked):
        # Windows with fewer inputs than others begin with empty cells: their last inputs line up.
        given: list[np.ndarray | None] = [None] * (past - len(inputs[-past:]))
        given += list(to_rgb(inputs[-past:]))
        rows = [Row("prediction", [*given, *to_rgb(predictions[leads])], size)]
        if targets is not None:
            rows = [
                Row("truth", [*given, *to_rgb(targets[leads])], size),
                Row("prediction", [*[None] * past, *to_rgb(predictions[leads])], size),
            ]
        blocks.append(Block(names[number] if names else "", () if number else labels, rows))
    missing = any(has_missing(inputs[-past:], *rest) for inputs, *rest in checked)
    save_png(draw_sheet(blocks, title=title, split=past, missing=missing), path)
