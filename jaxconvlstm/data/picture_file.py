"""One picture file to an array `[height, width, channels]` that keeps the file's precision."""

import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from jaxconvlstm.data.values import round_to_integers
from jaxconvlstm.errors import DataError

EXTENSIONS = ("png", "jpg", "jpeg", "bmp", "tif", "tiff", "webp", "pgm", "ppm", "gif")
# Pillow tries every decoder it has on any file; a file that says it is a picture gets only these.
FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP", "PPM", "GIF")
LARGEST_PICTURE = 89_478_485
"""Most pixels that are decoded: Pillow's own limit, where it only warns."""

GREY_8_BIT = ("1", "L", "LA", "La")
GREY_16_BIT = ("I;16", "I;16B", "I;16L", "I;16N", "I")
ORIENTATION_TAG = 0x0112

# Threads that meet a format first would race to register the decoders, and the loser would say
# that it cannot identify the file.
Image.init()


class Picture(NamedTuple):
    """A decoded picture: `frame [height, width, channels]`, and whether the file is in colour."""

    frame: np.ndarray
    colour: bool


class PictureHeader(NamedTuple):
    """What the first bytes of a picture say, without decoding it."""

    height: int
    width: int
    colour: bool
    dtype: np.dtype[Any]


def printable(name: str | os.PathLike[str]) -> str:
    """A file name on one line that any UTF-8 terminal or log can hold.

    File names are bytes: Python shows those that are not UTF-8 as lone surrogates, which cannot be
    printed. They, and newlines, are written as escapes.
    """
    text = os.fspath(name)
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def read_header(path: Path) -> PictureHeader:
    """Opens a picture without decoding it.

    Raises:
      DataError: as `read_picture`, except for damage behind the header.
    """
    try:
        with Image.open(path, formats=FORMATS) as image:
            _refuse_unreadable(image)
            width, height = image.size
            # `getexif` would decode a PNG to look for the tag behind the pixels.
            if "exif" in image.info and image.getexif().get(ORIENTATION_TAG, 1) >= 5:
                width, height = height, width
            return PictureHeader(height, width, _is_colour(image), _dtype(image))
    except Exception as error:
        raise _explained(path, error) from error


def read_picture(
    path: Path,
    channels: int | None = None,
    size: tuple[int, int] | None = None,
    missing: float | None = None,
) -> Picture:
    """Decodes a picture, turned as its EXIF tag says.

    Args:
      path: the file; any name the file system allows.
      channels: 1 for grey, 3 for colour (a grey picture is repeated); None for what the file has.
      size: height and width to resize to (bicubic, antialiased).
      missing: value of pixels without data; resizing does not mix it into its neighbours.

    Returns:
      The frame `[height, width, channels]`: uint8, uint16 for files with 16 bits a pixel (mode "I"
      too), float32 for mode "F".

    Raises:
      DataError: the file cannot be read, is damaged, too large or no picture, holds several pages,
        or cannot be represented without loss of bits; the message names it.
    """
    try:
        with Image.open(path, formats=FORMATS) as image:
            _refuse_unreadable(image)
            colour = _is_colour(image)
            frame = _to_array(ImageOps.exif_transpose(image), channels or (3 if colour else 1))
    except Exception as error:
        # Not only OSError: on damaged bytes Pillow's decoders raise whatever they stumble over.
        raise _explained(path, error) from error
    if size is not None and size != frame.shape[:2]:
        frame = resize(frame, size, missing)
    return Picture(frame, colour)


def resize(frame: np.ndarray, size: tuple[int, int], missing: float | None = None) -> np.ndarray:
    """Bicubic, antialiased resizing of `[height, width, channels]` that keeps dtype and precision.

    With a `missing` value, a pixel of the result is the weighted mean of the valid pixels below the
    kernel, or missing where less than half of the kernel's weight is valid.
    """
    if frame.dtype == np.uint8 and missing is None:
        picture = Image.fromarray(frame[..., 0] if frame.shape[-1] == 1 else frame)
        resized = np.asarray(picture.resize(size[::-1], Image.Resampling.BICUBIC))
        return resized.reshape(*size, frame.shape[-1])
    planes = np.moveaxis(frame, -1, 0)
    return np.stack([_resize_plane(plane, size, missing) for plane in planes], axis=-1)


def _resize_plane(plane: np.ndarray, size: tuple[int, int], missing: float | None) -> np.ndarray:
    """One channel `[height, width]`, through float32."""
    if missing is None:
        exact = _bicubic(plane, size)
        return exact if plane.dtype.kind == "f" else round_to_integers(exact, plane.dtype)
    valid = plane != missing
    share = _bicubic(valid, size)
    enough = share >= 0.5
    exact = _bicubic(np.where(valid, plane, 0), size) / np.where(enough, share, 1)
    if plane.dtype.kind != "f":
        exact = round_to_integers(exact, plane.dtype, missing)
    return np.where(enough, exact, missing).astype(plane.dtype)


def _bicubic(plane: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    picture = Image.fromarray(plane.astype(np.float32))
    return np.array(picture.resize(size[::-1], Image.Resampling.BICUBIC))


def _to_array(image: Image.Image, channels: int) -> np.ndarray:
    """`[height, width, channels]` in the dtype that holds every value of the file."""
    # Transparency has no place in a frame, and Pillow warns when a palette's is dropped.
    image.info.pop("transparency", None)
    if _dtype(image) == np.uint8:
        pixels = np.array(image.convert("L" if channels == 1 else "RGB"))
        return pixels[..., None] if channels == 1 else pixels
    # Never through convert("L"), which clips 16 bits at 255.
    pixels = np.asarray(image)
    if pixels.dtype.kind == "f":
        if not np.isfinite(pixels).all():
            row, column = np.argwhere(~np.isfinite(pixels))[0]
            raise ValueError(f"NaN or infinity at row {row}, column {column}")
    elif pixels.min() < 0 or pixels.max() > 65535:
        raise ValueError("32-bit integers beyond 0 to 65535 are not supported")
    return np.repeat(pixels.astype(_dtype(image))[..., None], channels, axis=-1)


def _is_colour(image: Image.Image) -> bool:
    return image.mode not in (*GREY_8_BIT, *GREY_16_BIT, "F")


def _dtype(image: Image.Image) -> np.dtype[Any]:
    if image.mode in GREY_16_BIT:
        return np.dtype(np.uint16)
    return np.dtype(np.float32 if image.mode == "F" else np.uint8)


def _refuse_unreadable(image: Image.Image) -> None:
    """Before a single pixel is decoded."""
    width, height = image.size
    if width * height > LARGEST_PICTURE:
        raise Image.DecompressionBombError(f"{width}x{height} pixels")
    # Telephones append previews and gain maps to a JPEG (Pillow's "MPO"): the first page is it.
    if getattr(image, "n_frames", 1) > 1 and image.format != "MPO":
        raise ValueError("multi-page files are not read as sequences yet")
    if _dtype(image) == np.uint8 and any(map(_has_16_bits, getattr(image, "tile", ()))):
        raise ValueError(
            "16 bits in each of several channels would be cut to 8; "
            "save it as 16-bit grey or as 8-bit colour"
        )


def _has_16_bits(tile: Any) -> bool:
    """Whether a part of the file that Pillow decodes to 8 bits a channel holds more."""
    arguments = tile.args if isinstance(tile.args, tuple) else (tile.args,)
    if tile.codec_name in ("ppm", "ppm_plain"):
        return bool(arguments[-1] > 255)  # The file's maximum value.
    return any(isinstance(raw_mode, str) and ";16" in raw_mode for raw_mode in arguments)


def _explained(path: Path, error: Exception) -> DataError:
    """The error of a picture on one line that names it."""
    if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
        reason = f"more pixels than the {LARGEST_PICTURE:,} that are decoded"
    elif isinstance(error, UnidentifiedImageError):
        empty = path.stat().st_size == 0
        reason = "the file is empty" if empty else f"not a picture ({', '.join(FORMATS)})"
    elif isinstance(error, OSError) and error.strerror:
        reason = error.strerror
    else:
        reason = " ".join(str(error).split()) or type(error).__name__
    return DataError(f"{printable(path)}: cannot be read: {reason}")
