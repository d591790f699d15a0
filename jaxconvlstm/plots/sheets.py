"""Sheets: frames in rows and columns, with labels; time runs to the right."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from jaxconvlstm.plots.drawing import (
    GAP,
    INK,
    LEAST_CELL,
    LINE,
    MARGIN,
    MOST_CELL,
    MOST_WIDTH,
    OUTLINE,
    WHITE,
    draw_missing_key,
    paste_frame,
    shown_size,
    text_font,
    wrap_text,
)

# In pixels.
LABEL_COLUMN = 120
LEAST_SHEET = 400

_ROOM = MOST_WIDTH - 2 * MARGIN - LABEL_COLUMN
MOST_COLUMNS = _ROOM // (LEAST_CELL + GAP)
"""As many fit beside the labels."""


class Row(NamedTuple):
    """Frames side by side.

    Attributes:
      label: stands at the left; its lines are wrapped.
      frames: `[height, width, 3]` uint8, one for each column; None leaves a place empty.
      size: height and width that they are shown with, from `cell_size`.
    """

    label: str
    frames: Sequence[np.ndarray | None]
    size: tuple[int, int]


class Block(NamedTuple):
    """Rows under the same labels.

    Attributes:
      heading: a line above, or "".
      labels: of the columns, above the first row; none leaves their line out.
      rows: from top to bottom.
    """

    heading: str
    labels: Sequence[str]
    rows: Sequence[Row]


def cell_size(shape: Sequence[int], columns: int, usual: int) -> tuple[int, int]:
    """Height and width to show frames of a shape with, so that all columns fit."""
    return shown_size(shape, min(_ROOM // columns - GAP, MOST_CELL), usual)


def draw_sheet(
    blocks: Sequence[Block],
    *,
    title: str = "",
    split: int | None = None,
    missing: bool = False,
) -> Image.Image:
    """Draws blocks below each other.

    Args:
      blocks: at most `MOST_COLUMNS` frames in each row.
      title: a line above, wrapped.
      split: the first column to the right of a line, if there is to be one.
      missing: whether there are pixels whose colour has to be explained.
    """
    font, strong = text_font(), text_font(bold=True)
    columns = max(len(row.frames) for block in blocks for row in block.rows)
    cell = max(LEAST_CELL, *(row.size[1] for block in blocks for row in block.rows))
    lefts = [MARGIN + LABEL_COLUMN + column * (cell + GAP) for column in range(columns)]
    if split is not None:
        lefts = [left + 2 * GAP * (column >= split) for column, left in enumerate(lefts)]
    width = max(lefts[-1] + cell + MARGIN, LEAST_SHEET)
    title_lines = wrap_text(title, strong, width - 2 * MARGIN)
    headings = [wrap_text(block.heading, font, width - 2 * MARGIN) for block in blocks]
    row_labels = [[_label_lines(row.label) for row in block.rows] for block in blocks]
    row_heights = [
        [max(row.size[0], LINE * len(lines)) for row, lines in zip(block.rows, labels)]
        for block, labels in zip(blocks, row_labels)
    ]

    height = 2 * MARGIN + LINE * (len(title_lines) + missing) + (GAP if title_lines else 0)
    for block, heading, heights in zip(blocks, headings, row_heights):
        height += LINE * (len(heading) + bool(block.labels)) + sum(heights)
        height += GAP * (len(heights) + 1)
    canvas = Image.new("RGB", (width, height), WHITE)
    draw = ImageDraw.Draw(canvas)

    top = MARGIN
    for line in title_lines:
        draw.text((MARGIN, top), line, INK, strong)
        top += LINE
    top += GAP if title_lines else 0
    for block, heading, labels, heights in zip(blocks, headings, row_labels, row_heights):
        for line in heading:
            draw.text((MARGIN, top), line, INK, font)
            top += LINE
        for left, label in zip(lefts, block.labels):
            draw.text((left + cell // 2, top + LINE - 2), label, INK, font, anchor="md")
        top += LINE * bool(block.labels) + GAP // 2
        if split is not None:
            x = lefts[split] - GAP - GAP // 2
            draw.line((x, top, x, top + sum(heights) + GAP * (len(heights) - 1)), OUTLINE)
        for row, lines, row_height in zip(block.rows, labels, heights):
            for number, line in enumerate(lines):
                draw.text((MARGIN, top + LINE * number), line, INK, font)
            for left, frame in zip(lefts, row.frames):
                if frame is not None:
                    place = (left + (cell - row.size[1]) // 2, top)
                    paste_frame(canvas, draw, frame, place, row.size)
            top += row_height + GAP
        top += GAP - GAP // 2
    if missing:
        draw_missing_key(draw, (MARGIN, top))
    return canvas


def _label_lines(label: str) -> list[str]:
    room = LABEL_COLUMN - GAP
    return [line for part in label.split("\n") for line in wrap_text(part, text_font(), room)]
