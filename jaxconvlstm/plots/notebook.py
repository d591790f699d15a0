"""Frames shown in a notebook, as an animation or a still: `show`."""

import base64
import functools
import html
import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from jaxconvlstm.checks import check_positive
from jaxconvlstm.errors import ConfigError
from jaxconvlstm.plots.animations import save_clip
from jaxconvlstm.plots.drawing import USUAL_PANEL, has_missing, save_png, shown_size, to_rgb
from jaxconvlstm.plots.gif import write_gif
from jaxconvlstm.plots.panels import Panels
from jaxconvlstm.plots.sheets import MOST_COLUMNS, Block, Row, cell_size, draw_sheet
from jaxconvlstm.spread import spread

# In pixels: the room in a notebook.
_PAGE_WIDTH = 960
_PAGE_HEIGHT = 640
_SHEET_CELL = 128


class _Clip(NamedTuple):
    """One of the clips or stills that are shown.

    Attributes:
      name: above them, or "".
      frames: `[time, height, width, channels]`, float32, [0, 1] or NaN.
      still: a single frame, which stays for as long as others play.
      scale: the values of black and white, where they do not follow from the dtype.
    """

    name: str
    frames: np.ndarray
    still: bool
    scale: str

    def __str__(self) -> str:
        count, height, width, _ = self.frames.shape
        size = f"{height} x {width}" if self.still else f"{count} frames of {height} x {width}"
        return f"{self.name} ({size})" if self.name else size

    def label(self, number: int) -> str:
        """The line above a frame."""
        if self.still or number >= len(self.frames):
            return self.name
        return f"{self.name} {number + 1} of {len(self.frames)}".strip()


class Picture:
    """The result of `show`: a notebook displays it, `save` writes it."""

    def __init__(self, clips: Sequence[_Clip], frames_per_second: float, title: str):
        self._clips = clips
        self._frames_per_second = frames_per_second
        self._title = title
        self._still = all(clip.still for clip in clips)
        self._in_colour = any(clip.frames.shape[-1] == 3 for clip in clips)

    def __repr__(self) -> str:
        name = "picture.png" if self._still else "clip.gif"
        return f"<{', '.join(map(str, self._clips))}; save('{name}') writes it>"

    def save(self, path: str | Path) -> None:
        """Write the picture to a file.

        Args:
          path: `.gif`, `.mp4` (which needs PyAV), or `.png`: of clips a sheet with time running to
            the right, some frames of long ones. Its folder is made.

        Raises:
          ConfigError: the file's name ends otherwise.
          MissingLibraryError: an MP4 is wanted, and PyAV is not installed.
        """
        if Path(path).suffix.lower() != ".png":
            save_clip(self._pages(), path, self._frames_per_second, self._in_colour)
        elif self._still:
            save_png(next(self._pages()), path)
        else:
            save_png(self._sheet(), path)

    def _repr_html_(self) -> str | None:
        if self._still:
            return None
        source = f"data:image/gif;base64,{base64.b64encode(self._gif).decode()}"
        return f'<img src="{source}" alt="{html.escape(self._title)}" style="max-width: 100%">'

    def _repr_png_(self) -> bytes | None:
        if not self._still:
            return None
        file = io.BytesIO()
        next(self._pages()).save(file, format="PNG")
        return file.getvalue()

    @functools.cached_property
    def _gif(self) -> bytes:
        file = io.BytesIO()
        write_gif(self._pages(), file, self._frames_per_second, self._in_colour)
        return file.getvalue()

    def _scales(self) -> list[str]:
        """Every scale once, with the names of its clips unless it is that of all."""
        lines = []
        for scale in dict.fromkeys(clip.scale for clip in self._clips if clip.scale):
            names = [clip.name for clip in self._clips if clip.scale == scale]
            shared = len(names) == len(self._clips)
            lines.append(scale if shared else f"{', '.join(names)}: {scale}")
        return lines

    def _pages(self) -> Iterator[Image.Image]:
        most = _PAGE_WIDTH // len(self._clips)
        sizes = [
            shown_size(clip.frames.shape[1:3], most, min(most, USUAL_PANEL), _PAGE_HEIGHT)
            for clip in self._clips
        ]
        painted = [to_rgb(clip.frames) for clip in self._clips]
        panels = Panels(
            sizes,
            [[clip.label(number) for number in range(len(clip.frames))] for clip in self._clips],
            title=self._title,
            foot=self._scales(),
            missing=has_missing(*(clip.frames for clip in self._clips)),
        )
        for number in range(max(map(len, painted))):
            yield panels.page(
                [
                    (clip.label(number), _frame(clip, frames, number))
                    for clip, frames in zip(self._clips, painted)
                ]
            )

    def _sheet(self) -> Image.Image:
        count = max(len(clip.frames) for clip in self._clips)
        shown = spread(count, MOST_COLUMNS)
        rows = []
        for clip in self._clips:
            painted = to_rgb(clip.frames)
            size = cell_size(clip.frames.shape[1:3], len(shown), _SHEET_CELL)
            frames = [_frame(clip, painted, number) for number in shown]
            rows.append(Row(clip.name, frames, size))
        title = "; ".join(filter(None, [self._title, *self._scales()]))
        return draw_sheet(
            [Block("", [f"{number + 1}" for number in shown], rows)],
            title=title,
            missing=has_missing(*(clip.frames for clip in self._clips)),
        )


def show(*clips: Any, frames_per_second: float = 5, title: str = "") -> Picture:
    """Show frames: a notebook plays them in place, and `save` writes them.

    Several clips play side by side. Bytes, and floats from 0 to 1, are shown as they are; any other
    values from the least (black) to the greatest (white) in all clips of their dtype, as a line
    below says. A value that is not a number gets a colour of its own.

    Args:
      clips: arrays of NumPy or JAX, `[time, height, width]`, `[time, height, width, channels]`,
        `[height, width]` or `[height, width, channels]`, or mappings from names to arrays. Of three
        axes, a last one of length 1 or 3 is taken for channels. Three channels are colours; of any
        other number the first is shown as grey.
      frames_per_second: above 0; at most 50 are played.
      title: a line above.

    Raises:
      ConfigError: there is no array, or one that does not hold frames.

    Example:
      future = jcl.load("RUN").predict(frames, steps=12)
      jcl.show(future)
      jcl.show({"truth": truth, "prediction": future}, title="RUN").save("future.mp4")
    """
    check_positive("frames_per_second", frames_per_second)
    given: list[tuple[str, Any]] = []
    for clip in clips:
        given += clip.items() if isinstance(clip, Mapping) else [("", clip)]
    if not given:
        raise ConfigError("clips: expected at least one array, got none")
    if len(given) > 1:
        given = [(str(name) or str(number), clip) for number, (name, clip) in enumerate(given, 1)]
    arrays = [_check(f"clips[{name!r}]" if name else "clips", clip) for name, clip in given]
    ranges = _ranges(arrays)
    shown = []
    for (name, _), array in zip(given, arrays):
        frames, still = _with_axes(array)
        low, high, scale = ranges[array.dtype.name]
        # In float64: the range of two float32 may be more than the greatest float32.
        fractions = (frames.astype(np.float64) - low) / (high - low)
        shown.append(_Clip(str(name), fractions.astype(np.float32), still, scale))
    return Picture(shown, frames_per_second, title)


def _check(name: str, clip: Any) -> np.ndarray:
    """The clip as an array of real numbers with pixels, or a `ConfigError`."""
    try:
        array = np.asarray(clip)
    except ValueError:
        raise ConfigError(f"{name}: expected an array, got a {type(clip).__name__}") from None
    if array.dtype.name == "bfloat16":
        array = array.astype(np.float32)
    if array.dtype.kind not in "buif":
        raise ConfigError(f"{name}: expected real numbers, got {array.dtype}")
    if array.ndim not in (2, 3, 4):
        hint = "; of a batch show one example" if array.ndim == 5 else ""
        raise ConfigError(
            f"{name}: expected [time, height, width] with or without time and channels, "
            f"got shape {array.shape}{hint}"
        )
    if array.size == 0:
        raise ConfigError(f"{name}: expected pixels to show, got shape {array.shape}")
    return array


def _with_axes(array: np.ndarray) -> tuple[np.ndarray, bool]:
    """Add the axes that are left out: `[time, height, width, channels]`, and whether time was."""
    if array.ndim == 4:
        return array, False
    if array.ndim == 2:
        return array[None, ..., None], True  # [H, W] -> [1, H, W, 1]
    if array.shape[-1] in (1, 3):
        return array[None], True  # [H, W, C] -> [1, H, W, C]
    return array[..., None], False  # [T, H, W] -> [T, H, W, 1]


def _ranges(arrays: Sequence[np.ndarray]) -> dict[str, tuple[float, float, str]]:
    """The values of black and white for each dtype, and a line that tells them if need be."""
    ranges = {}
    for name in dict.fromkeys(array.dtype.name for array in arrays):
        if name in ("uint8", "bool"):
            ranges[name] = 0.0, 255.0 if name == "uint8" else 1.0, ""
            continue
        finite = [array[np.isfinite(array)] for array in arrays if array.dtype.name == name]
        extremes = [(float(v.min()), float(v.max())) for v in finite if v.size] or [(0.0, 1.0)]
        low, high = min(low for low, _ in extremes), max(high for _, high in extremes)
        # A forecast of values in [0, 1] may leave them by rounding: it is shown as it is.
        if name.startswith("float") and low > -1e-4 and high < 1 + 1e-4:
            ranges[name] = 0.0, 1.0, ""
        elif low == high:
            ranges[name] = low, low + max(1.0, abs(low)), f"all values are {low:.4g}"
        else:
            ranges[name] = low, high, f"black is {low:.4g}, white is {high:.4g}"
    return ranges


def _frame(clip: _Clip, painted: np.ndarray, number: int) -> np.ndarray | None:
    """The frame at some time: a still's own, none after the end of a clip."""
    if clip.still:
        return painted[0]
    return painted[number] if number < len(painted) else None
