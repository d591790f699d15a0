"""Strips of classified clips: a few frames of each, and the probabilities of its classes."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from jaxconvlstm.checks import check_rank
from jaxconvlstm.errors import ConfigError
from jaxconvlstm.plots.drawing import (
    GAP,
    INK,
    LEAST_CELL,
    LINE,
    MARGIN,
    MOST_WIDTH,
    OUTLINE,
    WHITE,
    check_frames,
    draw_label,
    draw_lines,
    draw_missing_key,
    has_missing,
    paste_frame,
    save_png,
    shortened,
    shown_size,
    text_font,
    to_rgb,
    wrap_text,
)
from jaxconvlstm.spread import spread

RIGHT = (26, 127, 55)
WRONG = (200, 0, 30)
UNKNOWN = (33, 102, 172)
OTHER = (175, 175, 175)

# In pixels.
_CELL = 128
_MOST_NAME = 320
_BAR = 140
_NUMBER = 110
_MOST_FRAMES = 6
_MOST_BARS = 5


class _Verdict(NamedTuple):
    """Text and bars beside one clip.

    Attributes:
      lines: the predicted class, and the true one where they differ.
      colour: of the first line and of the bar of the predicted class.
      bars: a class, its probability, and whether it is the true one.
      predicted: the predicted class; None where the probabilities are not numbers.
    """

    lines: Sequence[str]
    colour: tuple[int, int, int]
    bars: Sequence[tuple[int, float, bool]]
    predicted: int | None


def classified(
    clips: Sequence[Any],
    classes: Sequence[str],
    probabilities: Any,
    labels: Sequence[int] | None,
    path: str | Path,
    *,
    title: str = "",
) -> None:
    """Write a PNG with a row for each clip: some frames, evenly spread, and the likeliest classes.

    A right prediction is green, a wrong one red, one without a label blue; the true class has
    a dark outline.

    Args:
      clips: each `[time, height, width, channels]`, float, [0, 1]; all frames of one size.
      classes: the names of the classes.
      probabilities: `[clips, classes]`, [0, 1].
      labels: the true class of each clip, as its index; or None where it is not known.
      path: the file; its folder is made.
      title: a line above.

    Raises:
      ConfigError: another shape, integers, or a label that is no class.
    """
    checked = [check_frames("clips", clip) for clip in clips]
    probabilities = np.asarray(probabilities, np.float64)
    check_rank("probabilities", probabilities, 2, "clips, classes")
    expected = len(checked), len(classes)
    if probabilities.shape != expected or 0 in expected:
        raise ConfigError(
            f"probabilities: expected {expected[0]} clips of {expected[1]} classes, "
            f"got shape {probabilities.shape}"
        )
    if labels is not None:
        truth = [int(label) for label in labels]
        if len(truth) != len(checked) or not all(0 <= label < len(classes) for label in truth):
            raise ConfigError(
                f"labels: expected {expected[0]} from 0 to {expected[1] - 1}, got {truth}"
            )
    verdicts = [
        _judge(chances, classes, None if labels is None else truth[number])
        for number, chances in enumerate(probabilities)
    ]

    font, strong = text_font(), text_font(bold=True)
    name = min(_MOST_NAME, int(max(map(strong.getlength, classes))) + 1)
    side_width = name + _BAR + _NUMBER + 2 * GAP
    columns = min(_MOST_FRAMES, max(len(clip) for clip in checked))
    room = (MOST_WIDTH - 2 * MARGIN - side_width) // columns - GAP
    size = shown_size(checked[0].shape[1:3], min(room, _CELL), _CELL)
    cell = max(size[1], LEAST_CELL)
    side = MARGIN + columns * (cell + GAP) + 2 * GAP
    width = side + side_width + MARGIN
    title_lines = wrap_text(title, strong, width - 2 * MARGIN)
    missing = has_missing(*checked)
    texts = [LINE * (len(each.lines) + len(each.bars)) for each in verdicts]
    heights = [max(LINE + size[0], text) for text in texts]
    height = 2 * MARGIN + LINE * (len(title_lines) + missing) + sum(heights)
    height += 2 * GAP * len(heights) + (GAP if title_lines else 0)
    canvas = Image.new("RGB", (width, height), WHITE)
    draw = ImageDraw.Draw(canvas)
    top = draw_lines(draw, (MARGIN, MARGIN), title_lines, strong)
    top += GAP if title_lines else 0
    for clip, verdict, row_height in zip(checked, verdicts, heights):
        shown = spread(len(clip), columns)
        for column, (number, frame) in enumerate(zip(shown, to_rgb(clip[shown]))):
            left = MARGIN + column * (cell + GAP)
            label = f"{number + 1}" if column else f"frame {number + 1}"
            draw_label(draw, (left, top), label, font, cell)
            paste_frame(canvas, frame, (left + (cell - size[1]) // 2, top + LINE), size)
        y = top
        for number, line in enumerate(verdict.lines):
            colour = verdict.colour if number == 0 else INK
            draw.text((side, y), shortened(line, strong, side_width), colour, strong)
            y += LINE
        for index, chance, is_true in verdict.bars:
            colour = verdict.colour if index == verdict.predicted else OTHER
            _draw_bar(draw, (side, y), name, classes[index], chance, is_true, colour)
            y += LINE
        top += row_height + 2 * GAP
    if missing:
        draw_missing_key(draw, (MARGIN, top))
    save_png(canvas, path)


def _judge(chances: np.ndarray, classes: Sequence[str], truth: int | None) -> _Verdict:
    """Choose the most probable classes, the true one among them, and the words beside them."""
    if not np.isfinite(chances).all():
        return _Verdict(["no class: not a number", *_true_line(classes, truth)], WRONG, [], None)
    # Stable: of equally probable classes the first one is predicted, as by argmax.
    order = np.argsort(-chances, kind="stable").tolist()
    predicted, shown = order[0], order[:_MOST_BARS]
    if truth is not None and truth not in shown:
        shown[-1] = truth
    bars = [(index, float(chances[index]), index == truth) for index in shown]
    if truth is None:
        return _Verdict([classes[predicted]], UNKNOWN, bars, predicted)
    if predicted == truth:
        return _Verdict([classes[predicted]], RIGHT, bars, predicted)
    lines = [f"wrong: {classes[predicted]}", *_true_line(classes, truth)]
    return _Verdict(lines, WRONG, bars, predicted)


def _true_line(classes: Sequence[str], truth: int | None) -> list[str]:
    return [] if truth is None else [f"true: {classes[truth]}"]


def _draw_bar(
    draw: ImageDraw.ImageDraw,
    place: tuple[int, int],
    name_width: int,
    name: str,
    chance: float,
    is_true: bool,
    colour: tuple[int, int, int],
) -> None:
    font = text_font(bold=is_true)
    x, y = place
    draw.text((x, y), shortened(name, font, name_width), INK, font)
    left = x + name_width + GAP
    draw.rectangle((left, y + 4, left + _BAR, y + LINE - 4), WHITE, INK if is_true else OUTLINE)
    filled = round(min(max(chance, 0.0), 1.0) * (_BAR - 2))
    if filled:
        draw.rectangle((left + 1, y + 5, left + filled, y + LINE - 5), colour)
    text = f"{100 * chance:.0f} %" + (" true" if is_true else "")
    draw.text((left + _BAR + GAP, y), text, INK, font)
