"""Preparation of every frame as it is read: channels, cropping, resizing, a threshold."""

import dataclasses
from typing import Any

import numpy as np
from PIL import Image

from jaxconvlstm.config.data import SourceOptions
from jaxconvlstm.errors import DataError
from jaxconvlstm.scale import round_to_integers

# Rec. 601, as Pillow's convert("L").
LUMA = (0.299, 0.587, 0.114)


@dataclasses.dataclass(frozen=True)
class Preparation:
    """Turns a frame `[height, width, channels]` of a source into one that windows are cut from.

    In this order: grey or colour (`channels`), cropping and bicubic, antialiased resizing (`size`,
    `fit`), and a `threshold`, which makes uint8 of 0 and 1. Pixels of the `missing_value`, and NaN,
    are not mixed into their neighbours.

    Attributes:
      options: the configuration with these settings.
    """

    options: SourceOptions

    def __call__(self, frame: np.ndarray) -> np.ndarray:
        """The prepared frame; the same array where nothing changes.

        Raises:
          DataError: the channels asked for cannot be made of those that there are.
        """
        options = self.options
        frame = self._with_channels(frame)
        if options.size is not None and frame.shape[:2] != options.size:
            if options.fit == "crop":
                frame = frame[centre(frame.shape[:2], options.size)]
            if frame.shape[:2] != options.size:
                frame = resize(frame, options.size, options.missing_value)
        if options.threshold is None:
            return frame
        return (frame >= options.threshold).astype(np.uint8)

    def shape(self, frame_shape: tuple[int, int, int]) -> tuple[int, int, int]:
        """Shape `(height, width, channels)` of a prepared frame."""
        height, width = self.options.size or frame_shape[:2]
        return height, width, self.options.channels or frame_shape[2]

    def dtype(self, dtype: Any) -> np.dtype[Any]:
        """Dtype of a prepared frame."""
        return np.dtype(dtype if self.options.threshold is None else np.uint8)

    @property
    def changes_pixels(self) -> bool:
        """True if a region of a prepared frame may differ from the same region of the source."""
        options = self.options
        settings = (options.channels, options.size, options.threshold)
        return any(setting is not None for setting in settings)

    def _with_channels(self, frame: np.ndarray) -> np.ndarray:
        wanted, found = self.options.channels, frame.shape[-1]
        missing = self.options.missing_value
        if wanted in (None, found):
            return frame
        if found == 1:
            return np.repeat(frame, wanted, axis=-1)
        if found != 3:
            raise DataError(f"--channels {wanted}: the frames have {found} channels")
        valid = (frame == frame) if missing is None else (frame != missing)
        # [height, width, 3] -> [height, width, 1]
        grey = (frame @ np.array(LUMA, np.float32))[..., None]
        if frame.dtype.kind in "ui":
            grey = round_to_integers(grey, frame.dtype, missing)
        if missing is not None:
            # One missing channel makes the pixel missing: its luma would be of the code.
            grey = np.where(valid.all(axis=-1, keepdims=True), grey, missing)
        return grey.astype(frame.dtype)


def centre(shape: tuple[int, ...], size: tuple[int, int]) -> tuple[slice, slice]:
    """The largest centred part of a frame `shape` that has the proportions of `size`."""
    height, width = shape
    rows = min(height, round(width * size[0] / size[1]))
    columns = min(width, round(height * size[1] / size[0]))
    top, left = (height - rows) // 2, (width - columns) // 2
    return slice(top, top + rows), slice(left, left + columns)


def resize(frame: np.ndarray, size: tuple[int, int], missing: float | None = None) -> np.ndarray:
    """Bicubic, antialiased resizing of `[height, width, channels]` that keeps dtype and precision.

    With a `missing` value, a pixel of the result is the weighted mean of the valid pixels below the
    kernel, or missing where less than half of the kernel's weight is valid; so with NaN.
    """
    channels = frame.shape[-1]
    if frame.dtype == np.uint8 and missing is None and channels in (1, 3):
        picture = Image.fromarray(frame[..., 0] if channels == 1 else frame)
        resized = np.asarray(picture.resize(size[::-1], Image.Resampling.BICUBIC))
        return resized.reshape(*size, channels)
    planes = np.moveaxis(frame, -1, 0)  # [channels, height, width]
    return np.stack([_resize_plane(plane, size, missing) for plane in planes], axis=-1)


def _resize_plane(plane: np.ndarray, size: tuple[int, int], missing: float | None) -> np.ndarray:
    """One channel `[height, width]`, through float32."""
    floats = plane.dtype.kind == "f"
    valid = np.isfinite(plane) if floats else np.ones(plane.shape, bool)
    if missing is not None:
        valid &= plane != missing
    if valid.all():
        exact = _bicubic(plane, size)
        return (
            exact.astype(plane.dtype) if floats else round_to_integers(exact, plane.dtype, missing)
        )
    # Fraction of the kernel's weight that lies on valid pixels.
    fraction = _bicubic(valid, size)
    enough = fraction >= 0.5
    exact = _bicubic(np.where(valid, plane, 0), size) / np.where(enough, fraction, 1)
    if not floats:
        exact = round_to_integers(exact, plane.dtype, missing)
    return np.where(enough, exact, np.nan if missing is None else missing).astype(plane.dtype)


def _bicubic(plane: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    # Pillow's mode "F": unlike 8 bits, nothing is rounded or clipped on the way.
    picture = Image.fromarray(plane.astype(np.float32))
    return np.array(picture.resize(size[::-1], Image.Resampling.BICUBIC))
