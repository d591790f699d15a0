"""Sheets: frames in rows and columns, with labels; time runs to the right."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from jaxconvlstm.plots.drawing import (
    GAP,
    LEAST_CELL,
    LINE,
    MARGIN,
    MOST_CELL,
    MOST_WIDTH,
    OUTLINE,
    TEXT_SIZE,
    WHITE,
    draw_label,
    draw_lines,
    draw_missing_key,
    paste_frame,
    shown_size,
    text_font,
    wrap_text,
)

# In pixels.
LABEL_COLUMN = 120
LEAST_SHEET = 400

MOST_COLUMNS = (MOST_WIDTH - 2 * MARGIN - LABEL_COLUMN) // (LEAST_CELL + GAP)
"""As many fit beside the labels of rows."""


class Row(NamedTuple):
    """Frames side by side.

    Attributes:
      label: stands at the left; its lines are wrapped.
      frames: `[height, width, 3]` uint8, one for each column; None leaves a place empty.
      size: height and width to draw them with, from `cell_size`.
    """

    label: str
    frames: Sequence[np.ndarray | None]
    size: tuple[int, int]


class Block(NamedTuple):
    """Rows under the same labels.

    Attributes:
      heading: a line above, wrapped, or "".
      labels: of the columns, above the first row; none leaves their line out.
      rows: from top to bottom.
    """

    heading: str
    labels: Sequence[str]
    rows: Sequence[Row]


def cell_size(
    shape: Sequence[int],
    columns: int,
    usual: int,
    *,
    most: int = MOST_CELL,
    label_width: int = LABEL_COLUMN,
) -> tuple[int, int]:
    """Height and width to draw frames of a shape with, so that all columns fit.

    Args:
      shape: height and width of a frame.
      columns: frames side by side.
      usual: what small frames are enlarged to.
      most: the longest side.
      label_width: see `draw_sheet`.
    """
    room = (MOST_WIDTH - 2 * MARGIN - label_width) // columns - GAP
    return shown_size(shape, min(room, most), usual, most)


def draw_sheet(
    blocks: Sequence[Block],
    *,
    title: str = "",
    foot: Sequence[str] = (),
    split: int | None = None,
    missing: bool = False,
    label_width: int = LABEL_COLUMN,
    label_size: int = TEXT_SIZE,
) -> Image.Image:
    """Draw blocks below each other.

    Args:
      blocks: at most `MOST_COLUMNS` frames in each row.
      title: a line above, wrapped.
      foot: lines below, wrapped.
      split: the first column to the right of a line, if there is to be one.
      missing: whether there are pixels whose colour has to be explained.
      label_width: pixels that are kept for the labels of rows; 0 where they have none.
      label_size: letters of the labels of columns.
    """
    font, strong, label_font = text_font(), text_font(bold=True), text_font(label_size)
    columns = max(len(row.frames) for block in blocks for row in block.rows)
    cell = max(LEAST_CELL, *(row.size[1] for block in blocks for row in block.rows))
    lefts = [MARGIN + label_width + column * (cell + GAP) for column in range(columns)]
    if split is not None:
        lefts = [left + 2 * GAP * (column >= split) for column, left in enumerate(lefts)]
    width = max(lefts[-1] + cell + MARGIN, LEAST_SHEET)
    inner = width - 2 * MARGIN

    # All text is wrapped before anything is drawn: the height of the canvas follows from it.
    title_lines = wrap_text(title, strong, inner)
    headings = [wrap_text(block.heading, font, inner) for block in blocks]
    foot_lines = [line for text in foot for line in wrap_text(text, font, inner)]
    row_labels = [
        [_label_lines(row.label, label_width - GAP) for row in block.rows] for block in blocks
    ]
    row_heights = [
        [max(row.size[0], LINE * len(lines)) for row, lines in zip(block.rows, labels)]
        for block, labels in zip(blocks, row_labels)
    ]
    height = 2 * MARGIN + (GAP if title_lines else 0)
    height += LINE * (len(title_lines) + len(foot_lines) + missing)
    for block, heading, heights in zip(blocks, headings, row_heights):
        height += LINE * (len(heading) + bool(block.labels)) + sum(heights)
        height += GAP * (len(heights) + 1)

    canvas = Image.new("RGB", (width, height), WHITE)
    draw = ImageDraw.Draw(canvas)
    top = draw_lines(draw, (MARGIN, MARGIN), title_lines, strong)
    top += GAP if title_lines else 0
    for block, heading, labels, heights in zip(blocks, headings, row_labels, row_heights):
        top = draw_lines(draw, (MARGIN, top), heading, font)
        for left, label in zip(lefts, block.labels):
            draw_label(draw, (left, top), label, label_font, cell)
        top += LINE * bool(block.labels) + GAP // 2
        if split is not None:
            x = lefts[split] - GAP - GAP // 2
            draw.line((x, top, x, top + sum(heights) + GAP * (len(heights) - 1)), OUTLINE)
        for row, lines, row_height in zip(block.rows, labels, heights):
            draw_lines(draw, (MARGIN, top), lines, font)
            for left, frame in zip(lefts, row.frames):
                if frame is not None:
                    place = (left + (cell - row.size[1]) // 2, top)
                    paste_frame(canvas, frame, place, row.size)
            top += row_height + GAP
        top += GAP - GAP // 2
    top = draw_lines(draw, (MARGIN, top), foot_lines, font)
    if missing:
        draw_missing_key(draw, (MARGIN, top))
    return canvas


def _label_lines(label: str, room: int) -> list[str]:
    return [line for text in label.split("\n") for line in wrap_text(text, text_font(), room)]
