"""Animations of a prediction beside its truth: GIF, MP4, or a PNG for each step."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from jaxconvlstm.checks import check_positive
from jaxconvlstm.errors import ConfigError
from jaxconvlstm.plots.drawing import (
    MOST_CELL,
    USUAL_PANEL,
    check_clip,
    check_frames,
    difference_scale,
    difference_to_rgb,
    has_missing,
    input_labels,
    new_file,
    save_png,
    shown_size,
    signed_difference,
    to_rgb,
)
from jaxconvlstm.plots.gif import write_gif
from jaxconvlstm.plots.mp4 import save_mp4
from jaxconvlstm.plots.panels import Panels

INITIAL = "initial trajectory"
PREDICTION = "prediction"
_MARK_COLOURS = {INITIAL: (33, 102, 172), PREDICTION: (178, 24, 43)}
_MOST_STEP_PANEL = 800  # pixels; a picture of its own may be larger than a page of a clip.


def animation(
    inputs: Any,
    predictions: Any,
    targets: Any | None,
    path: str | Path,
    *,
    frames_per_second: float = 5,
    title: str = "",
) -> None:
    """Write a clip that plays the input and then the prediction, beside truth and difference.

    Every frame is labelled, "input t-3" or "prediction +2"; while the input plays, it is shown in
    the place of the truth too. A GIF starts again when it is over.

    Args:
      inputs, predictions, targets: see `strip`; all frames are shown.
      path: the file, `.gif` or `.mp4` (H.264, which needs PyAV); its folder is made.
      frames_per_second: above 0; GIF counts in hundredths of a second, and 50 is the most that
        viewers play.
      title: a line above.

    Raises:
      ConfigError: another shape, integers, or another ending of the file's name.
      MissingLibraryError: an MP4 is wanted, and PyAV is not installed.
    """
    check_positive("frames_per_second", frames_per_second)
    inputs, predictions, targets = check_clip(inputs, predictions, targets)
    in_colour = 3 in (inputs.shape[-1], predictions.shape[-1])
    pages = _pages(inputs, predictions, targets, title)
    save_clip(pages, path, frames_per_second, in_colour)


def _pages(
    inputs: np.ndarray, predictions: np.ndarray, targets: np.ndarray | None, title: str
) -> Iterator[Image.Image]:
    # Labels of given, predicted and true frames; the size of all pages follows from all of them.
    given = [f"input {label}" for label in input_labels(len(inputs), np.arange(len(inputs)))]
    future = [f"prediction +{lead + 1}" for lead in range(len(predictions))]
    size = shown_size(predictions.shape[1:3], MOST_CELL, USUAL_PANEL)
    missing = has_missing(inputs, predictions, targets)
    if targets is None:
        panels = Panels([size], [[*given, *future]], title=title, missing=missing)
        for label, frame in zip([*given, *future], [*to_rgb(inputs), *to_rgb(predictions)]):
            yield panels.page([(label, frame)])
        return
    truth = [f"truth +{lead + 1}" for lead in range(len(predictions))]
    difference = signed_difference(predictions, targets)
    scale = difference_scale(difference)
    explanation = f"difference ±{scale:g}"
    panels = Panels(
        [size] * 3,
        [[*given, *future], [*given, *truth], [explanation]],
        title=title,
        foot=["difference: blue is too low, red too high"],
        missing=missing,
    )
    for label, frame in zip(given, to_rgb(inputs)):
        # There is nothing to compare yet: the input stands in the place of its truth.
        yield panels.page([(label, frame), (label, frame), (explanation, None)])
    rows = zip(to_rgb(predictions), to_rgb(targets), difference_to_rgb(difference, scale))
    for lead, (predicted, true, error) in enumerate(rows):
        yield panels.page([(future[lead], predicted), (truth[lead], true), (explanation, error)])


def step_pictures(
    inputs: Any,
    predictions: Any,
    targets: Any | None,
    folder: str | Path,
    *,
    title: str = "",
) -> list[Path]:
    """Write a PNG for each step of the clip: what the network has, beside the ground truth.

    While the given frames play, a picture is marked "initial trajectory" and shows them; after
    them it is marked "prediction". The files are `step-000.png`, `step-001.png` and so on, all of
    one size.

    Args:
      inputs: `[T, height, width, channels]`, float, [0, 1].
      predictions: `[K, height, width, channels]`, likewise.
      targets: `[K, ...]`, the truth of the predictions; or `[T - 1 + K, ...]`, of all frames after
        the first, where the given ones have a truth too (without noise, say); or None: then no
        truth is drawn. A given frame without a truth stands on both sides.
      folder: where to; it is made.
      title: a line above.

    Returns:
      The T + K files in order.

    Raises:
      ConfigError: another shape, or integers.
    """
    inputs, predictions = check_frames("inputs", inputs), check_frames("predictions", predictions)
    given, steps = len(inputs), len(inputs) + len(predictions)
    left = [*to_rgb(inputs), *to_rgb(predictions)]
    left_labels = [f"given frame {step + 1} of {given}" for step in range(given)]
    left_labels += [f"predicted frame +{lead + 1}" for lead in range(len(predictions))]
    size = shown_size(predictions.shape[1:3], _MOST_STEP_PANEL, USUAL_PANEL, _MOST_STEP_PANEL)
    sizes, labels = [size], [left_labels]
    right: list[np.ndarray] = []  # Frames from 0 on, as in `left`.
    if targets is not None:
        targets = _check_truth(targets, inputs, predictions)
        right = [*to_rgb(inputs)[: steps - len(targets)], *to_rgb(targets)]
        sizes, labels = [size] * 2, [left_labels, ["ground truth"]]
    panels = Panels(
        sizes,
        labels,
        title=title,
        marks=_MARK_COLOURS,
        missing=has_missing(inputs, predictions, targets),
    )
    digits = max(3, len(str(steps - 1)))
    written = []
    for step in range(steps):
        contents = [(left_labels[step], left[step])]
        contents += [("ground truth", right[step])] if right else []
        path = Path(folder) / f"step-{step:0{digits}}.png"
        save_png(panels.page(contents, INITIAL if step < given else PREDICTION), path)
        written.append(path)
    return written


def save_clip(
    pages: Iterator[Image.Image], path: str | Path, frames_per_second: float, in_colour: bool
) -> None:
    """Write pages as an MP4 if the file's name ends so, as a GIF if it ends so or has no ending.

    Args:
      pages: RGB, all of one size; at least one.
      path: the file; its folder is made.
      frames_per_second: above 0.
      in_colour: the frames have colours, which a GIF dithers; greys it keeps within 1 of 255.
    """
    kind = Path(path).suffix.lower()
    if kind not in ("", ".gif", ".mp4"):
        raise ConfigError(f"{path}: expected a clip's name to end in .gif or .mp4")
    if kind == ".mp4":
        save_mp4(pages, path, frames_per_second)
    else:
        with new_file(path) as file:
            write_gif(pages, file, frames_per_second, in_colour)


def _check_truth(targets: Any, inputs: np.ndarray, predictions: np.ndarray) -> np.ndarray:
    """The truth of the predictions, or of all frames after the first."""
    targets = check_frames("targets", targets)
    counts = (len(predictions), len(inputs) - 1 + len(predictions))
    if len(targets) not in counts or targets.shape[1:] != predictions.shape[1:]:
        frame = ", ".join(map(str, predictions.shape[1:]))
        raise ConfigError(
            f"targets: expected {counts[0]} frames, or the {counts[1]} after the first, of shape "
            f"[{frame}], got shape {targets.shape}"
        )
    return targets
