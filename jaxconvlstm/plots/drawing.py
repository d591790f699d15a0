"""Tools for drawing: checked frames, colours, sizes, text, whole files; and frames as they are."""

import functools
import importlib.util
import textwrap
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import IO, Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from jaxconvlstm.atomic import replacing
from jaxconvlstm.checks import check_rank, check_same_shape
from jaxconvlstm.errors import ConfigError

# All in pixels. A cell is the place that one frame is drawn in.
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
"""Colour of missing pixels: no picture of greys holds it."""

# Red-blue of ColorBrewer, darkened at the ends: the prediction is too low, right, too high.
DIFFERENCE_COLOURS = np.array(
    [(5, 48, 97), (67, 147, 195), (247, 247, 247), (214, 96, 77), (103, 0, 31)], np.float64
)
DIFFERENCE_SCALES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
DIFFERENCE_STEPS = 81
"""Shades of the difference: as many as fit beside the greys into the palette of a GIF."""


def check_frames(name: str, frames: Any) -> np.ndarray:
    """Frames as float32 `[time, height, width, channels]`, or a `ConfigError`."""
    frames = np.asarray(frames)
    check_rank(name, frames, 4, "time, height, width, channels")
    check_floats(name, frames)
    if frames.size == 0:
        raise ConfigError(f"{name}: expected frames to show, got shape {frames.shape}")
    return frames.astype(np.float32)


def check_floats(name: str, frames: np.ndarray) -> None:
    """Raises `ConfigError` for integers: they would be clipped to 0 and 1."""
    if frames.dtype.kind in "buic":
        raise ConfigError(f"{name}: expected floats from 0 to 1, got {frames.dtype}")


def check_clip(
    inputs: Any, predictions: Any, targets: Any | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Given, predicted and true frames as `check_frames` returns them, or a `ConfigError`."""
    inputs, predictions = check_frames("inputs", inputs), check_frames("predictions", predictions)
    if targets is not None:
        targets = check_frames("targets", targets)
        check_same_shape("targets", targets, "predictions", predictions)
    return inputs, predictions, targets


def has_missing(*clips: np.ndarray | None) -> bool:
    """Whether any clip holds a NaN."""
    return any(clip is not None and bool(np.isnan(clip).any()) for clip in clips)


def to_bytes(frames: np.ndarray) -> np.ndarray:
    """Fractions of the value range as uint8, clipped; NaN becomes 0."""
    return np.rint(np.clip(np.nan_to_num(frames, nan=0.0), 0, 1) * 255).astype(np.uint8)


def to_rgb(frames: np.ndarray) -> np.ndarray:
    """Paint frames: `[time, height, width, 3]` uint8, in grey unless there are three channels."""
    frames = frames if frames.shape[-1] == 3 else np.repeat(frames[..., :1], 3, axis=-1)
    painted = to_bytes(frames)
    painted[np.isnan(frames).any(axis=-1)] = MISSING
    return painted


def signed_difference(predictions: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Prediction minus truth, both clipped, mean over the channels: `[time, height, width]`."""
    return (np.clip(predictions, 0, 1) - np.clip(targets, 0, 1)).mean(axis=-1)


def difference_scale(difference: np.ndarray) -> float:
    """The smallest of `DIFFERENCE_SCALES` that no difference exceeds."""
    largest = np.nan_to_num(np.abs(difference)).max()
    return next(scale for scale in DIFFERENCE_SCALES if largest <= scale or scale == 1)


def difference_to_rgb(difference: np.ndarray, scale: float) -> np.ndarray:
    """`[time, height, width, 3]` uint8: blue at `-scale`, near white at 0, red at `scale`."""
    half = DIFFERENCE_STEPS // 2
    steps = np.rint(np.clip(np.nan_to_num(difference) / scale, -1, 1) * half) / half
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
    """Height and width to draw a frame with.

    A frame is enlarged by the largest whole factor that keeps it within `usual`, and reduced only
    if it is wider than `most_width` or higher than `most_height`.
    """
    height, width = size
    factor = min(usual, most_width) // max(width, height)
    if factor >= 1:
        return height * factor, width * factor
    reduction = min(1.0, most_width / width, most_height / height)
    return max(1, round(height * reduction)), max(1, round(width * reduction))


def paste_frame(
    canvas: Image.Image, frame: np.ndarray | None, place: tuple[int, int], size: tuple[int, int]
) -> None:
    """Draw a frame, or an empty panel, in a thin outline that covers none of its pixels."""
    height, width = size
    x, y = place
    ImageDraw.Draw(canvas).rectangle((x - 1, y - 1, x + width, y + height), EMPTY, OUTLINE)
    if frame is not None:
        canvas.paste(_resized(frame, size), place)


def _resized(frame: np.ndarray, size: tuple[int, int]) -> Image.Image:
    """Enlarge pixel by pixel, or reduce to means of the pixels that are not missing.

    A reduced pixel is missing if most of those that it stands for are.
    """
    shape = size[::-1]  # (height, width) -> Pillow's (width, height)
    if size[0] >= len(frame):
        return Image.fromarray(frame).resize(shape, Image.Resampling.NEAREST)
    valid = (frame != MISSING).any(axis=-1)
    if valid.all():
        return Image.fromarray(frame).resize(shape, Image.Resampling.BOX)

    def reduced(values: np.ndarray) -> np.ndarray:
        picture = Image.fromarray(values.astype(np.float32))
        return np.asarray(picture.resize(shape, Image.Resampling.BOX))

    # A mean over the valid pixels: the masked mean over the mean of the mask.
    fraction = reduced(valid)[..., None]
    total = np.stack([reduced(frame[..., channel] * valid) for channel in range(3)], axis=-1)
    mean = np.rint(total / np.maximum(fraction, 1e-6)).clip(0, 255)
    return Image.fromarray(np.where(fraction >= 0.5, mean, MISSING).astype(np.uint8))


def draw_lines(
    draw: ImageDraw.ImageDraw, place: tuple[int, int], lines: Sequence[str], font: Any
) -> int:
    """Draw lines of text below each other and return where the next one would begin."""
    x, top = place
    for line in lines:
        draw.text((x, top), line, INK, font)
        top += LINE
    return top


def draw_label(
    draw: ImageDraw.ImageDraw, place: tuple[int, int], label: str, font: Any, width: int
) -> None:
    """Draw a label in the middle of a line of some width; of a long one the end is kept."""
    x, top = place
    # Names of frames differ at their ends.
    label = shortened(label, font, width, keep_end=True)
    draw.text((x + width // 2, top + LINE - 2), label, INK, font, anchor="md")


def draw_missing_key(draw: ImageDraw.ImageDraw, place: tuple[int, int]) -> None:
    """Draw a line that tells the colour of missing pixels."""
    x, y = place
    draw.rectangle((x, y + 3, x + LINE - 8, y + LINE - 5), MISSING, OUTLINE)
    draw.text((x + LINE, y), "missing", INK, text_font())


@functools.cache
def text_font(size: int = TEXT_SIZE, bold: bool = False) -> Any:
    """DejaVu Sans, which has the letters of most alphabets and comes with Matplotlib."""
    # Found, not imported: importing Matplotlib takes longer than drawing a strip.
    found = importlib.util.find_spec("matplotlib")
    assert found is not None and found.origin is not None
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    # Where a distribution keeps fonts elsewhere, Pillow looks for the name among the system's.
    path = Path(found.origin).parent / "mpl-data" / "fonts" / "ttf" / name
    return ImageFont.truetype(path, size)


def wrap_text(text: str, font: Any, width: int) -> list[str]:
    """Break a text into lines of at most `width` pixels."""
    text = one_line(text)
    # `textwrap` counts characters, whose widths differ: the most that fit are tried from above.
    for characters in range(len(text), 1, -1):
        lines = textwrap.wrap(text, characters)
        if all(font.getlength(line) <= width for line in lines):
            return lines
    return list(text)


def shortened(text: str, font: Any, width: int, *, keep_end: bool = False) -> str:
    """The start, or the end, of a text on one line of at most `width` pixels."""
    text = one_line(text)
    if font.getlength(text) <= width:
        return text
    form = "...{}" if keep_end else "{}..."
    while text and font.getlength(form.format(text)) > width:
        text = text[1:] if keep_end else text[:-1]
    return form.format(text)


def one_line(text: str) -> str:
    """A text without line breaks; bytes of file names that are not UTF-8 become "?"."""
    return " ".join(text.encode("utf-8", "replace").decode().split())


def save_png(picture: Image.Image, path: str | Path) -> None:
    """Write a picture as PNG; its folder is made."""
    with new_file(path) as file:
        picture.save(file, format="PNG")


def new_file(path: str | Path) -> AbstractContextManager[IO[bytes]]:
    """A file that takes its place at `path` once it is whole; its folder is made if need be."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    return replacing(path)


def decoded_and_raw(prediction: Any, target: Any, stem: str | Path) -> tuple[Path, Path]:
    """Write a predicted frame and its truth as two PNGs, pixel for pixel and without any label.

    Args:
      prediction: `[height, width, channels]`, float, [0, 1]; values beyond are clipped, and NaN
        is drawn as 0.
      target: likewise.
      stem: the files are `STEM-decoded.png` (the prediction) and `STEM-raw.png` (the truth).

    Returns:
      Both files.

    Raises:
      ConfigError: another shape, or integers.
    """
    paths = Path(f"{stem}-decoded.png"), Path(f"{stem}-raw.png")
    for name, frame, path in zip(("prediction", "target"), (prediction, target), paths):
        frame = np.asarray(frame)
        check_rank(name, frame, 3, "height, width, channels")
        check_floats(name, frame)
        save_frame(to_bytes(frame.astype(np.float32)), path)
    return paths


def save_frame(frame: np.ndarray, path: str | Path) -> None:
    """Write one frame as a PNG that holds exactly its values.

    Pillow writes 8 bits in 1 or 3 channels, or 16 bits in 1: of a frame with any other number of
    channels the first is written.

    Args:
      frame: `[height, width, channels]`, uint8 or uint16, of either byte order.
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
