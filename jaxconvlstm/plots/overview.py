"""Pictures of data as they are: a contact sheet of many sequences, and an animation of one."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from jaxconvlstm.plots.drawing import (
    GAP,
    INK,
    LINE,
    MARGIN,
    MOST_WIDTH,
    OUTLINE,
    USUAL_CELL,
    USUAL_PANEL,
    WHITE,
    adaptive_palette,
    colours,
    new_file,
    paste_frame,
    save_gif,
    text_font,
    wrap_text,
)

MISSING = (230, 0, 200)
"""Colour of pixels without a value: one that no picture of greys holds."""

# All in pixels. A label is a frame's name, in smaller letters than titles.
MOST_SIDE = 240
LEAST_LABEL = 72
LEAST_WIDTH = 480
LABEL_SIZE = 13
LABEL_LINE = 18


class Scene(NamedTuple):
    """Frames of one sequence, in order.

    Attributes:
      title: the sequence and where in it.
      labels: a short name of each frame.
      frames: `[time, height, width, channels]`, float, shares of the value range; three channels
        are colours, of any other number the first is shown as grey.
      missing: `[time, height, width]`, whether a pixel has no value.
    """

    title: str
    labels: Sequence[str]
    frames: np.ndarray
    missing: np.ndarray


def contact_sheet(scenes: Sequence[Scene], path: str | Path, legend: Sequence[str] = ()) -> None:
    """Writes a PNG with one row of frames for each scene, its title above.

    Args:
      scenes: at least one; frames of any size, the same in all.
      path: the file; its folder is made.
      legend: lines below. One on missing pixels is added where there are any.
    """
    columns = max(len(scene.frames) for scene in scenes)
    room = (MOST_WIDTH - 2 * MARGIN + GAP) // columns - GAP
    size = _fitted(scenes[0].frames.shape[1:3], min(room, MOST_SIDE), USUAL_CELL)
    cell = max(size[1], min(LEAST_LABEL, room))
    width = max(2 * MARGIN + columns * (cell + GAP) - GAP, LEAST_WIDTH)
    small = text_font(LABEL_SIZE)
    block = LINE + LABEL_LINE + size[0] + 2 * GAP
    page = _Page(width, len(scenes) * block, scenes, legend)
    for number, scene in enumerate(scenes):
        top = MARGIN + number * block
        page.text((MARGIN, top), scene.title)
        for column, (label, frame) in enumerate(zip(scene.labels, _painted(scene, size))):
            x = MARGIN + column * (cell + GAP)
            shown = _shortened(label, small, cell)
            page.draw.text((x, top + LINE), shown, INK, small)
            paste_frame(page.canvas, page.draw, frame, (x + 1, top + LINE + LABEL_LINE), size)
    with new_file(path) as file:
        page.canvas.save(file, format="PNG")


def clip(
    scene: Scene, path: str | Path, legend: Sequence[str] = (), *, frames_per_second: float = 8
) -> None:
    """Writes a GIF that plays a scene, at most 320 pixels wide and high, with its labels.

    Args:
      scene: all its frames are shown.
      path, legend: see `contact_sheet`.
      frames_per_second: above 0.
    """
    size = _fitted(scene.frames.shape[1:3], USUAL_PANEL, USUAL_PANEL)
    width = 2 * MARGIN + max(size[1] + 2, USUAL_PANEL)
    pages = []
    for label, frame in zip(scene.labels, _painted(scene, size)):
        page = _Page(width, 2 * LINE + size[0] + 2 * GAP, [scene], legend)
        page.text((MARGIN, MARGIN), scene.title)
        page.text((MARGIN, MARGIN + LINE), label)
        place = ((width - size[1]) // 2, MARGIN + 2 * LINE + GAP // 2)
        paste_frame(page.canvas, page.draw, frame, place, size)
        pages.append(page.canvas)
    paint = adaptive_palette if scene.frames.shape[-1] == 3 else _greys_and_missing
    save_gif([paint(page) for page in pages], path, frames_per_second)


class _Page:
    """A white page with the legend at its foot.

    Args:
      width, height: in pixels; the height without margins and legend.
      scenes: what is shown.
      legend: lines of text.
    """

    def __init__(self, width: int, height: int, scenes: Sequence[Scene], legend: Sequence[str]):
        self._font = text_font()
        self._inner = width - 2 * MARGIN
        lines = [line for text in legend for line in wrap_text(text, self._font, self._inner)]
        missing = any(scene.missing.any() for scene in scenes)
        foot = LINE * (len(lines) + missing)
        self.canvas = Image.new("RGB", (width, height + foot + 2 * MARGIN), WHITE)
        self.draw = ImageDraw.Draw(self.canvas)
        for number, line in enumerate(lines):
            self.draw.text((MARGIN, MARGIN + height + LINE * number), line, INK, self._font)
        if missing:
            top = MARGIN + height + LINE * len(lines)
            box = (MARGIN, top + 3, MARGIN + LINE - 8, top + LINE - 5)
            self.draw.rectangle(box, MISSING, OUTLINE)
            self.draw.text((MARGIN + LINE, top), "missing", INK, self._font)

    def text(self, place: tuple[int, int], text: str) -> None:
        """A line that is shortened to the page's width."""
        self.draw.text(place, _shortened(text, self._font, self._inner), INK, self._font)


def _painted(scene: Scene, size: tuple[int, int]) -> list[np.ndarray]:
    """Frames `[height, width, 3]` uint8, those that are large reduced to `size`.

    A pixel that stands for several is missing if most of them are, so that it is either a value or
    plainly missing.
    """
    painted = []
    for frame, missing in zip(colours(scene.frames), scene.missing):
        if size[0] < len(frame) or size[1] < frame.shape[1]:
            shape = size[::-1]
            share = Image.fromarray(missing.astype(np.uint8) * 255)
            missing = np.asarray(share.resize(shape, Image.Resampling.BOX)) >= 128
            frame = np.array(Image.fromarray(frame).resize(shape, Image.Resampling.BOX))
        painted.append(np.where(missing[..., None], np.array(MISSING, np.uint8), frame))
    return painted


def _fitted(shape: Sequence[int], most: int, usual: int) -> tuple[int, int]:
    """Height and width to show a frame with: enlarged by a whole factor up to `usual`, or reduced
    to `most` pixels on its longer side."""
    height, width = shape
    factor: float = max(1, min(usual, most) // max(shape))
    factor = min(factor, most / max(shape))
    return max(1, round(height * factor)), max(1, round(width * factor))


def _shortened(text: str, font: Any, width: int) -> str:
    """At most `width` pixels of a text on one line: of a name that is too long the end is kept,
    which is where frames differ."""
    text = " ".join(text.encode("utf-8", "replace").decode().split())
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(f"...{text}") > width:
        text = text[max(1, len(text) // 50) :]
    return f"...{text}"


def _greys_and_missing(page: Image.Image) -> Image.Image:
    """Every grey but one as it is, and the colour of missing pixels: nothing is dithered."""
    pixels = np.asarray(page)
    indices = pixels[..., 0].copy()
    indices[indices == 254] = 255
    indices[(pixels == MISSING).all(axis=-1)] = 254
    palette = np.arange(256, dtype=np.uint8)[:, None].repeat(3, axis=1)
    palette[254] = MISSING
    indexed = Image.fromarray(indices)
    indexed.putpalette(palette.tobytes())
    return indexed
