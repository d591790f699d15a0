"""What pictures are drawn with: layout, colours, palettes and text."""

import os
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

# All in pixels. A cell is what one frame is drawn in.
MOST_WIDTH = 2000
LEAST_CELL = 64
USUAL_CELL = 160
USUAL_PANEL = 320
MOST_CELL = 480
GAP = 6
MARGIN = 12
TEXT_SIZE = 16
LINE = 22

WHITE = (255, 255, 255)
INK = (30, 30, 30)
OUTLINE = (170, 170, 170)
EMPTY = (235, 235, 235)

# Red-blue of ColorBrewer, darkened at the ends: the prediction is too low, right, too high.
DIFFERENCE_COLOURS = np.array(
    [(5, 48, 97), (67, 147, 195), (247, 247, 247), (214, 96, 77), (103, 0, 31)], np.float64
)
DIFFERENCE_SCALES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)


def clip(frames: np.ndarray) -> np.ndarray:
    return np.clip(np.nan_to_num(frames, nan=0.0), 0, 1)


def colours(frames: np.ndarray) -> np.ndarray:
    """`[time, height, width, 3]` uint8, clipped; other than three channels become grey."""
    frames = frames if frames.shape[-1] == 3 else np.repeat(frames[..., :1], 3, axis=-1)
    return np.rint(clip(frames) * 255).astype(np.uint8)


def signed_difference(predictions: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Prediction minus truth as shown, `[time, height, width]`, mean over the channels."""
    return (clip(predictions) - clip(targets)).mean(axis=-1)


def difference_scale(difference: np.ndarray) -> float:
    """The smallest round number that no difference exceeds."""
    largest = np.abs(difference).max()
    return next(scale for scale in DIFFERENCE_SCALES if largest <= scale or scale == 1)


def difference_colours(difference: np.ndarray, scale: float) -> np.ndarray:
    """`[time, height, width, 3]` uint8: blue at `-scale`, near white at 0, red at `scale`."""
    # As many steps as fit beside the greys in the palette of a GIF.
    steps = np.rint(np.clip(difference / scale, -1, 1) * 40) / 40
    anchors = np.linspace(-1, 1, len(DIFFERENCE_COLOURS))
    channels = [np.interp(steps, anchors, DIFFERENCE_COLOURS[:, index]) for index in range(3)]
    return np.rint(np.stack(channels, axis=-1)).astype(np.uint8)


def input_labels(count: int, shown: np.ndarray) -> list[str]:
    """`t-2`, `t-1`, `t0`: the last input is time 0."""
    return [f"t{index - count + 1:d}" for index in shown]


def shown_size(size: Sequence[int], most_width: int, usual: int) -> tuple[int, int]:
    """Height and width that a frame is shown with.

    Enlarged by the largest whole factor that keeps it within `usual`; never reduced unless it is
    wider than `most_width` or higher than a cell may be.
    """
    height, width = size
    factor = min(usual, most_width) // max(width, height)
    if factor >= 1:
        return height * factor, width * factor
    reduction = min(1.0, most_width / width, MOST_CELL / height)
    return max(1, round(height * reduction)), max(1, round(width * reduction))


def paste_frame(
    canvas: Image.Image,
    draw: ImageDraw.ImageDraw,
    frame: np.ndarray | None,
    place: tuple[int, int],
    size: tuple[int, int],
) -> None:
    """Draws a frame, or an empty panel, in a thin outline that covers none of its pixels."""
    height, width = size
    x, y = place
    draw.rectangle((x - 1, y - 1, x + width, y + height), fill=EMPTY, outline=OUTLINE)
    if frame is not None:
        method = Image.Resampling.NEAREST if height >= len(frame) else Image.Resampling.BOX
        canvas.paste(Image.fromarray(frame).resize((width, height), method), place)


def text_font(size: int = TEXT_SIZE) -> Any:
    return ImageFont.load_default(size=size)


def wrap_text(text: str, font: Any, width: int) -> list[str]:
    """Lines that are at most `width` pixels wide, with what no font can draw replaced."""
    text = " ".join(text.encode("utf-8", "replace").decode().split())
    for characters in range(len(text), 1, -1):
        lines = textwrap.wrap(text, characters)
        if all(font.getlength(line) <= width for line in lines):
            return lines
    return list(text)


def grey_palette(page: Image.Image) -> Image.Image:
    """Exactly the page's own greys and the colours of the difference: nothing is dithered.

    Of 256 colours 81 are the difference's; the 175 others are greys, 1.5 of 255 apart.
    """
    difference = difference_colours(np.linspace(-1, 1, 81), 1.0)
    greys = np.rint(np.linspace(0, 255, 175)).astype(np.uint8)[:, None].repeat(3, axis=1)
    palette = np.concatenate([greys, difference])
    pixels = np.asarray(page).astype(np.int32)
    codes, inverse = np.unique(pixels @ np.array([1 << 16, 1 << 8, 1]), return_inverse=True)
    colours = np.stack([codes >> 16, codes >> 8 & 255, codes & 255], axis=-1)
    distance = ((colours[:, None] - palette[None].astype(np.int32)) ** 2).sum(axis=-1)
    nearest = distance.argmin(axis=1).astype(np.uint8)
    indexed = Image.fromarray(nearest[inverse].reshape(pixels.shape[:2]))
    indexed.putpalette(palette.tobytes())
    return indexed


def adaptive_palette(page: Image.Image) -> Image.Image:
    """The page's own best colours, dithered; the paper stays white."""
    best = page.quantize(255, Image.Quantize.MEDIANCUT)
    palette = (best.getpalette() or [])[: 3 * 255]
    dithered = np.array(page.quantize(palette=best, dither=Image.Dither.FLOYDSTEINBERG))
    white = len(palette) // 3
    dithered[(np.asarray(page) == 255).all(axis=-1)] = white
    indexed = Image.fromarray(dithered)
    indexed.putpalette([*palette, *WHITE])
    return indexed


def save_gif(pages: Sequence[Image.Image], path: str | Path, frames_per_second: float) -> None:
    """Writes pages with palettes as a GIF that starts again when it is over.

    GIF counts in hundredths of a second, and viewers play at most 50 pages a second.
    """
    hundredths = max(2, round(100 / frames_per_second))
    with replacing(path) as file:
        pages[0].save(
            file,
            format="GIF",
            save_all=True,
            append_images=pages[1:],
            duration=10 * hundredths,
            loop=0,
            optimize=False,
        )


@contextmanager
def replacing(path: str | Path) -> Iterator[IO[bytes]]:
    """A file under a temporary name that takes its place at `path` once it is whole."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            yield file
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
