"""What pictures are drawn with: layout, colours, palettes, text and files."""

import functools
import importlib.util
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from jaxconvlstm.atomic import replacing
from jaxconvlstm.errors import JaxConvLSTMError

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
MISSING = (230, 0, 200)
"""Of pixels that are not a number: a colour that no picture of greys holds."""

# Red-blue of ColorBrewer, darkened at the ends: the prediction is too low, right, too high.
DIFFERENCE_COLOURS = np.array(
    [(5, 48, 97), (67, 147, 195), (247, 247, 247), (214, 96, 77), (103, 0, 31)], np.float64
)
DIFFERENCE_SCALES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)


class MissingLibraryError(JaxConvLSTMError, ImportError):
    """A library that this picture needs is not installed (exit code 2)."""

    exit_code = 2


def clip(frames: np.ndarray) -> np.ndarray:
    """To [0, 1]; what is not a number stays so."""
    return np.clip(frames, 0, 1)


def has_missing(*clips: np.ndarray | None) -> bool:
    """Whether any value is not a number."""
    return any(clip is not None and bool(np.isnan(clip).any()) for clip in clips)


def colours(frames: np.ndarray) -> np.ndarray:
    """`[time, height, width, 3]` uint8, clipped; other than three channels become grey; pixels that
    are not a number get their own colour."""
    frames = frames if frames.shape[-1] == 3 else np.repeat(frames[..., :1], 3, axis=-1)
    painted = np.rint(clip(np.nan_to_num(frames, nan=0.0)) * 255).astype(np.uint8)
    painted[np.isnan(frames).any(axis=-1)] = MISSING
    return painted


def signed_difference(predictions: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Prediction minus truth as shown, `[time, height, width]`, mean over the channels."""
    return (clip(predictions) - clip(targets)).mean(axis=-1)


def difference_scale(difference: np.ndarray) -> float:
    """The smallest round number that no difference exceeds."""
    largest = np.nan_to_num(np.abs(difference)).max()
    return next(scale for scale in DIFFERENCE_SCALES if largest <= scale or scale == 1)


def difference_colours(difference: np.ndarray, scale: float) -> np.ndarray:
    """`[time, height, width, 3]` uint8: blue at `-scale`, near white at 0, red at `scale`."""
    # As many steps as fit beside the greys in the palette of a GIF.
    steps = np.rint(np.clip(np.nan_to_num(difference) / scale, -1, 1) * 40) / 40
    anchors = np.linspace(-1, 1, len(DIFFERENCE_COLOURS))
    channels = [np.interp(steps, anchors, DIFFERENCE_COLOURS[:, index]) for index in range(3)]
    painted = np.rint(np.stack(channels, axis=-1)).astype(np.uint8)
    painted[np.isnan(difference)] = MISSING
    return painted


def input_labels(count: int, shown: np.ndarray) -> list[str]:
    """`t-2`, `t-1`, `t0`: the last input is time 0."""
    return [f"t{index - count + 1:d}" for index in shown]


def shown_size(
    size: Sequence[int], most_width: int, usual: int, most_height: int = MOST_CELL
) -> tuple[int, int]:
    """Height and width that a frame is shown with.

    Enlarged by the largest whole factor that keeps it within `usual`; never reduced unless it is
    wider than `most_width` or higher than `most_height`.
    """
    height, width = size
    factor = min(usual, most_width) // max(width, height)
    if factor >= 1:
        return height * factor, width * factor
    reduction = min(1.0, most_width / width, most_height / height)
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
        canvas.paste(_resized(frame, size), place)


def _resized(frame: np.ndarray, size: tuple[int, int]) -> Image.Image:
    """Enlarged pixel by pixel, or reduced: of what a pixel then stands for, missing ones do not
    count, unless most of them are."""
    shape = size[::-1]
    if size[0] >= len(frame):
        return Image.fromarray(frame).resize(shape, Image.Resampling.NEAREST)
    there = (frame != MISSING).any(axis=-1)
    if there.all():
        return Image.fromarray(frame).resize(shape, Image.Resampling.BOX)

    def reduced(values: np.ndarray) -> np.ndarray:
        picture = Image.fromarray(values.astype(np.float32))
        return np.asarray(picture.resize(shape, Image.Resampling.BOX))

    share = reduced(there)[..., None]
    total = np.stack([reduced(frame[..., channel] * there) for channel in range(3)], axis=-1)
    mean = np.rint(total / np.maximum(share, 1e-6)).clip(0, 255)
    return Image.fromarray(np.where(share >= 0.5, mean, MISSING).astype(np.uint8))


def draw_missing_key(draw: ImageDraw.ImageDraw, place: tuple[int, int]) -> None:
    """A line that says which colour stands for missing pixels."""
    x, y = place
    draw.rectangle((x, y + 3, x + LINE - 8, y + LINE - 5), MISSING, OUTLINE)
    draw.text((x + LINE, y), "missing", INK, text_font())


@functools.cache
def text_font(size: int = TEXT_SIZE, bold: bool = False) -> Any:
    """DejaVu Sans, which knows most alphabets and comes with Matplotlib; else Pillow's own."""
    found = importlib.util.find_spec("matplotlib")
    if found is None or found.origin is None:
        return ImageFont.load_default(size=size)
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    path = Path(found.origin).parent / "mpl-data" / "fonts" / "ttf" / name
    return ImageFont.truetype(path, size) if path.is_file() else ImageFont.load_default(size=size)


def wrap_text(text: str, font: Any, width: int) -> list[str]:
    """Lines that are at most `width` pixels wide, with what no font can draw replaced."""
    text = " ".join(text.encode("utf-8", "replace").decode().split())
    for characters in range(len(text), 1, -1):
        lines = textwrap.wrap(text, characters)
        if all(font.getlength(line) <= width for line in lines):
            return lines
    return list(text)


def shortened(text: str, font: Any, width: int) -> str:
    """The start of a text on one line, at most `width` pixels wide."""
    text = " ".join(text.encode("utf-8", "replace").decode().split())
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(f"{text}...") > width:
        text = text[:-1]
    return f"{text}..."


def grey_palette(page: Image.Image) -> Image.Image:
    """Exactly the page's own greys and the colours of the difference: nothing is dithered.

    Of 256 colours 81 are the difference's and one is that of missing pixels; the 174 others are
    greys, 1.5 of 255 apart.
    """
    difference = difference_colours(np.linspace(-1, 1, 81), 1.0)
    greys = np.rint(np.linspace(0, 255, 174)).astype(np.uint8)[:, None].repeat(3, axis=1)
    palette = np.concatenate([greys, difference, np.array([MISSING], np.uint8)])
    pixels = np.asarray(page).astype(np.int32)
    codes, inverse = np.unique(pixels @ np.array([1 << 16, 1 << 8, 1]), return_inverse=True)
    colours = np.stack([codes >> 16, codes >> 8 & 255, codes & 255], axis=-1)
    distance = ((colours[:, None] - palette[None].astype(np.int32)) ** 2).sum(axis=-1)
    nearest = distance.argmin(axis=1).astype(np.uint8)
    indexed = Image.fromarray(nearest[inverse].reshape(pixels.shape[:2]))
    indexed.putpalette(palette.tobytes())
    return indexed


def adaptive_palette(page: Image.Image) -> Image.Image:
    """The page's own best colours, dithered; the paper and missing pixels stay what they are."""
    fixed = (WHITE, MISSING)
    best = page.quantize(256 - len(fixed), Image.Quantize.MAXCOVERAGE)
    palette = (best.getpalette() or [])[: 3 * (256 - len(fixed))]
    dithered = np.array(page.quantize(palette=best, dither=Image.Dither.FLOYDSTEINBERG))
    first = len(palette) // 3
    for number, colour in enumerate(fixed):
        dithered[(np.asarray(page) == colour).all(axis=-1)] = first + number
    indexed = Image.fromarray(dithered)
    indexed.putpalette([*palette, *WHITE, *MISSING])
    return indexed


def save_gif(pages: Iterable[Image.Image], path: str | Path, frames_per_second: float) -> None:
    """Writes pages with palettes as a GIF that starts again when it is over; at least one."""
    with new_file(path) as file:
        write_gif(pages, file, frames_per_second)


def write_gif(pages: Iterable[Image.Image], file: IO[bytes], frames_per_second: float) -> None:
    """See `save_gif`."""
    first, *others = pages
    first.save(
        file,
        format="GIF",
        save_all=True,
        append_images=others,
        duration=10 * page_hundredths(frames_per_second),
        loop=0,
        optimize=False,
    )


def page_hundredths(frames_per_second: float) -> int:
    """How long a page is held, in hundredths of a second.

    GIF counts in them, up to some minutes, and viewers play at most 50 pages a second.
    """
    return max(2, round(min(100 / frames_per_second, 60_000)))


def save_png(picture: Image.Image, path: str | Path) -> None:
    with new_file(path) as file:
        picture.save(file, format="PNG")


@contextmanager
def new_file(path: str | Path) -> Iterator[IO[bytes]]:
    """A file that takes its place at `path` once it is whole; its folder is made if need be."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as file:
        yield file
