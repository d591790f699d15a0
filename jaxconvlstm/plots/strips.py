"""Strips and grids of frames, single frames, and the pair of a prediction and its truth."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from jaxconvlstm.checks import check_rank, check_same_shape
from jaxconvlstm.errors import ConfigError
from jaxconvlstm.plots.animations import check_clip
from jaxconvlstm.plots.drawing import (
    USUAL_CELL,
    clip,
    colours,
    difference_colours,
    difference_scale,
    has_missing,
    input_labels,
    save_png,
    signed_difference,
)
from jaxconvlstm.plots.sheets import MOST_COLUMNS, Block, Row, cell_size, draw_sheet
from jaxconvlstm.spread import spread

GRID_CELL = 128  # pixels
GRID_INPUTS = 4

Clip = tuple[Any, Any, Any | None]
"""Inputs, predictions and targets of one window, as `strip` takes them."""


def strip(
    inputs: Any, predictions: Any, targets: Any | None, path: str | Path, *, title: str = ""
) -> None:
    """Writes a PNG that shows a prediction at a glance, one row each for input, prediction, truth
    and difference, with time running to the right.

    Small frames are enlarged by a whole factor, large ones reduced, so that the picture is at most
    2000 pixels wide. Of many inputs the last few are shown; of very many predictions some, evenly
    spread. The difference is prediction minus truth, averaged over the channels: blue is too low,
    red too high, on the scale that its label tells.

    Args:
      inputs: `[T, height, width, channels]`, float, [0, 1].
      predictions: `[K, height, width, channels]`, likewise.
      targets: as predictions, or None: without ground truth there are two rows only.
      path: the file; its folder is made.
      title: a line above.

    Raises:
      ConfigError: a shape or dtype that is not of this kind.
    """
    inputs, predictions, targets = check_clip(inputs, predictions, targets)
    leads = spread(len(predictions), MOST_COLUMNS)
    given = np.arange(len(inputs))[-min(MOST_COLUMNS, max(len(leads), 6)) :]
    size = cell_size(predictions.shape[1:3], max(len(leads), len(given)), USUAL_CELL)
    predicted = [Row("prediction", [*colours(predictions[leads])], size)]
    if targets is not None:
        difference = signed_difference(predictions, targets)
        scale = difference_scale(difference)
        label = f"difference\nblue too low\nred too high\nscale ±{scale:g}"
        predicted.append(Row("truth", [*colours(targets[leads])], size))
        predicted.append(Row(label, [*difference_colours(difference[leads], scale)], size))
    blocks = [
        Block(
            "", input_labels(len(inputs), given), [Row("input", [*colours(inputs[given])], size)]
        ),
        Block("", [f"+{lead + 1}" for lead in leads], predicted),
    ]
    missing = has_missing(inputs[given], predictions, targets)
    save_png(draw_sheet(blocks, title=title, missing=missing), path)


def grid(
    clips: Sequence[Clip], path: str | Path, *, title: str = "", names: Sequence[str] = ()
) -> None:
    """Writes a PNG that shows several windows at once: for each a row of what came and below it one
    of what was predicted, with time running to the right; at most 2000 pixels wide.

    To the left of the line are the last few inputs. Of very many predictions some are shown, evenly
    spread.

    Args:
      clips: `(inputs, predictions, targets)` of each window, see `strip`; all predictions of one
        shape. About eight windows fit on a screen.
      path: the file; its folder is made.
      title: a line above.
      names: a line above each window, one for each.

    Raises:
      ConfigError: a shape or dtype that is not of this kind; there is no window.
    """
    checked = [check_clip(*clip) for clip in clips]
    if not checked:
        raise ConfigError("clips: expected at least one window, got none")
    if names and len(names) != len(checked):
        raise ConfigError(f"names: expected {len(checked)}, one for each window, got {len(names)}")
    shape = checked[0][1].shape
    for _, predictions, _ in checked[1:]:
        check_same_shape("predictions", predictions, "those of the first window", checked[0][1])
    past = min(GRID_INPUTS, max(len(inputs) for inputs, _, _ in checked))
    leads = spread(len(checked[0][1]), MOST_COLUMNS - past - 1)  # The line needs room too.
    size = cell_size(shape[1:3], past + len(leads) + 1, GRID_CELL)
    labels = [*input_labels(past, np.arange(past)), *(f"+{lead + 1}" for lead in leads)]
    blocks = []
    for number, (inputs, predictions, targets) in enumerate(checked):
        given: list[np.ndarray | None] = [None] * (past - len(inputs[-past:]))
        given += list(colours(inputs[-past:]))
        rows = [Row("prediction", [*given, *colours(predictions[leads])], size)]
        if targets is not None:
            rows = [
                Row("truth", [*given, *colours(targets[leads])], size),
                Row("prediction", [*[None] * past, *colours(predictions[leads])], size),
            ]
        blocks.append(Block(names[number] if names else "", () if number else labels, rows))
    missing = any(has_missing(inputs[-past:], *rest) for inputs, *rest in checked)
    save_png(draw_sheet(blocks, title=title, split=past, missing=missing), path)


def decoded_and_raw(prediction: Any, target: Any, stem: str | Path) -> tuple[Path, Path]:
    """Writes a predicted frame and its truth as two PNGs, pixel for pixel and without any label.

    Args:
      prediction: `[height, width, channels]`, float, [0, 1]; values beyond are clipped, and what is
        not a number is 0.
      target: likewise.
      stem: the files are `STEM-decoded.png` (the prediction) and `STEM-raw.png` (the truth).

    Returns:
      Both files.

    Raises:
      ConfigError: a shape or dtype that is not of this kind.
    """
    paths = Path(f"{stem}-decoded.png"), Path(f"{stem}-raw.png")
    for name, frame, path in zip(("prediction", "target"), (prediction, target), paths):
        frame = np.asarray(frame)
        check_rank(name, frame, 3, "height, width, channels")
        if frame.dtype.kind in "buic":
            raise ConfigError(f"{name}: expected floats from 0 to 1, got {frame.dtype}")
        shares = clip(np.nan_to_num(frame.astype(np.float32), nan=0.0))
        save_frame(np.rint(shares * 255).astype(np.uint8), path)
    return paths


def save_frame(frame: np.ndarray, path: str | Path) -> None:
    """Writes one frame as a PNG that holds exactly its values.

    PNG as written here holds 8 bits in 1 or 3 channels, or 16 bits in 1: of a frame with any other
    number of channels the first is written.

    Args:
      frame: `[height, width, channels]`, uint8 or uint16.
      path: the file; its folder is made.

    Raises:
      ConfigError: any other dtype; floats have to be scaled to uint8 first.
    """
    frame = np.asarray(frame)
    check_rank("frame", frame, 3, "height, width, channels")
    name = frame.dtype.newbyteorder("=").name
    if name not in ("uint8", "uint16"):
        raise ConfigError(f"frame: expected uint8 or uint16, got {frame.dtype}")
    if frame.size == 0:
        raise ConfigError(f"frame: expected pixels to write, got shape {frame.shape}")
    pixels = frame.astype(name)
    in_colour = frame.shape[-1] == 3 and name == "uint8"
    save_png(Image.fromarray(pixels if in_colour else pixels[..., 0]), path)
