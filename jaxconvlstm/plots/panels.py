"""Panels: the pages of an animation, all of one size, with frames side by side."""

from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image, ImageDraw

from jaxconvlstm.plots.drawing import (
    GAP,
    INK,
    LINE,
    MARGIN,
    WHITE,
    draw_lines,
    draw_missing_key,
    one_line,
    paste_frame,
    text_font,
    wrap_text,
)

# In pixels.
LEAST_PANEL = 96
LEAST_PAGE = 200
LABEL_WIDTH = 160
MARK_SIZE = 28
MARK_LINE = 40


class Panels:
    """Pages that all have the same size, so that nothing jumps from one to the next.

    Args:
      sizes: height and width to draw the frames of each panel with.
      labels: for each panel, the labels it will have over all pages.
      title: above all of it, wrapped.
      marks: words in large letters below the title, and their colours; a page has one of them.
      foot: lines at the foot, wrapped.
      missing: whether there are pixels whose colour has to be explained.
    """

    def __init__(
        self,
        sizes: Sequence[tuple[int, int]],
        labels: Sequence[Sequence[str]],
        *,
        title: str = "",
        marks: Mapping[str, tuple[int, int, int]] | None = None,
        foot: Sequence[str] = (),
        missing: bool = False,
    ):
        self._sizes, self._marks, self._missing = sizes, marks or {}, missing
        self._font, self._strong = text_font(), text_font(bold=True)
        self._mark_font = text_font(MARK_SIZE, bold=True)
        # Longer labels than LABEL_WIDTH are wrapped, so that no name makes a page much wider.
        texts = [max(map(self._font.getlength, map(one_line, each)), default=0) for each in labels]
        self._cells = [
            max(size[1], LEAST_PANEL, min(int(text) + 1, LABEL_WIDTH))
            for size, text in zip(sizes, texts)
        ]
        mark_width = max(map(self._mark_font.getlength, self._marks), default=0)
        panels_width = sum(self._cells) + 2 * GAP * (len(sizes) - 1)
        inner = max(panels_width, LEAST_PAGE, int(mark_width) + 1)
        self._width = 2 * MARGIN + inner
        self._left = MARGIN + (inner - panels_width) // 2
        self._title = wrap_text(title, self._strong, inner)
        self._mark_height = MARK_LINE if self._marks else 0
        # The frames of all pages stand at the same height, below the label with the most lines.
        self._label_lines = max(
            len(wrap_text(label, self._font, cell))
            for cell, each in zip(self._cells, labels)
            for label in each
        )
        self._foot = [line for text in foot for line in wrap_text(text, self._font, inner)]
        self._frames_top = MARGIN + LINE * (len(self._title) + self._label_lines) + GAP
        self._frames_top += self._mark_height
        self._foot_top = self._frames_top + max(height for height, _ in sizes) + GAP
        foot_lines = len(self._foot) + missing
        self._height = self._foot_top + LINE * foot_lines + (MARGIN if foot_lines else GAP)

    def page(
        self, contents: Sequence[tuple[str, np.ndarray | None]], mark: str = ""
    ) -> Image.Image:
        """Draw one page.

        Args:
          contents: for each panel its label and its frame, `[height, width, 3]` uint8; None leaves
            the panel empty.
          mark: one of the marks.
        """
        canvas = Image.new("RGB", (self._width, self._height), WHITE)
        draw = ImageDraw.Draw(canvas)
        top = draw_lines(draw, (MARGIN, MARGIN), self._title, self._strong)
        if mark:
            middle = top + self._mark_height // 2
            place = (self._left, middle)
            draw.text(place, mark, self._marks[mark], self._mark_font, anchor="lm")
        left = self._left
        for (label, frame), (height, width), cell in zip(contents, self._sizes, self._cells):
            lines = wrap_text(label, self._font, cell)
            # From the last line up: labels of one line stand right above their frames.
            for number, line in enumerate(reversed(lines)):
                place = (left + cell // 2, self._frames_top - GAP - LINE * number)
                draw.text(place, line, INK, self._font, anchor="md")
            place = (left + (cell - width) // 2, self._frames_top)
            paste_frame(canvas, frame, place, (height, width))
            left += cell + 2 * GAP
        top = draw_lines(draw, (MARGIN, self._foot_top), self._foot, self._font)
        if self._missing:
            draw_missing_key(draw, (MARGIN, top))
        return canvas
