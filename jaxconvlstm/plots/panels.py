"""Pages of one size with frames side by side, as a clip turns them over."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from jaxconvlstm.plots.drawing import (
    GAP,
    INK,
    LINE,
    MARGIN,
    WHITE,
    draw_missing_key,
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
    """Draws pages that all have the same size, so that nothing jumps from one to the next.

    Args:
      sizes: height and width that the frames of each panel are shown with.
      labels: for each panel, the labels it will have over all pages.
      title: above all of it, wrapped.
      marks: the marks that pages will have, in large letters below the title.
      foot: lines at the foot, wrapped.
      missing: whether there are pixels whose colour has to be explained.
    """

    def __init__(
        self,
        sizes: Sequence[tuple[int, int]],
        labels: Sequence[Sequence[str]],
        *,
        title: str = "",
        marks: Sequence[str] = (),
        foot: Sequence[str] = (),
        missing: bool = False,
    ):
        self._sizes, self._missing = sizes, missing
        self._font, self._strong = text_font(), text_font(bold=True)
        self._mark_font = text_font(MARK_SIZE, bold=True)
        # Longer labels than LABEL_WIDTH are wrapped, so that no name makes a page much wider.
        texts = [max(map(self._font.getlength, each), default=0) for each in labels]
        self._cells = [
            max(size[1], LEAST_PANEL, min(int(text) + 1, LABEL_WIDTH))
            for size, text in zip(sizes, texts)
        ]
        mark_width = max(map(self._mark_font.getlength, marks), default=0)
        panels_width = sum(self._cells) + 2 * GAP * (len(sizes) - 1)
        inner = max(panels_width, LEAST_PAGE, int(mark_width) + 1)
        self._width = 2 * MARGIN + inner
        self._left = MARGIN + (inner - panels_width) // 2
        self._title = wrap_text(title, self._strong, inner)
        self._mark_height = MARK_LINE if marks else 0
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
        self,
        contents: Sequence[tuple[str, np.ndarray | None]],
        mark: str = "",
        mark_colour: tuple[int, int, int] = INK,
    ) -> Image.Image:
        """One page.

        Args:
          contents: for each panel its label and its frame, `[height, width, 3]` uint8; None leaves
            the panel empty.
          mark: one of the marks.
          mark_colour: what it is written in.
        """
        canvas = Image.new("RGB", (self._width, self._height), WHITE)
        draw = ImageDraw.Draw(canvas)
        for number, line in enumerate(self._title):
            draw.text((MARGIN, MARGIN + LINE * number), line, INK, self._strong)
        if mark:
            middle = MARGIN + LINE * len(self._title) + self._mark_height // 2
            draw.text((self._left, middle), mark, mark_colour, self._mark_font, anchor="lm")
        left = self._left
        for (label, frame), (height, width), cell in zip(contents, self._sizes, self._cells):
            lines = wrap_text(label, self._font, cell)
            for number, line in enumerate(reversed(lines)):
                place = (left + cell // 2, self._frames_top - GAP - LINE * number)
                draw.text(place, line, INK, self._font, anchor="md")
            place = (left + (cell - width) // 2, self._frames_top)
            paste_frame(canvas, draw, frame, place, (height, width))
            left += cell + 2 * GAP
        for number, line in enumerate(self._foot):
            draw.text((MARGIN, self._foot_top + LINE * number), line, INK, self._font)
        if self._missing:
            draw_missing_key(draw, (MARGIN, self._foot_top + LINE * len(self._foot)))
        return canvas
