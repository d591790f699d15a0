"""Reads a picture file to an array `[height, width, channels]` without losing its precision."""

import gzip
import io
import os
import stat
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from jaxconvlstm.config.data import LARGEST_FRAME
from jaxconvlstm.data.sources.images.products import Product, product_of
from jaxconvlstm.data.sources.images.tiff_tags import CUT_TO_8_BITS, refuse_misread
from jaxconvlstm.errors import DataError
from jaxconvlstm.messages import printable

EXTENSIONS = ("png", "jpg", "jpeg", "bmp", "tif", "tiff", "webp", "pgm", "ppm", "gif")
# Pillow tries every decoder it has on any file; a file that says it is a picture gets only these.
FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP", "PPM", "GIF")

GREY_8_BIT = ("1", "L", "LA", "La")
GREY_16_BIT = ("I;16", "I;16B", "I;16L", "I;16N", "I")
TRANSPARENT = ("LA", "La", "PA", "RGBA", "RGBa")
ORIENTATION_TAG = 0x0112
# Where Pillow looks for it.
ORIENTATION_KEYS = frozenset({"exif", "xmp", "XML:com.adobe.xmp", "Raw profile type exif"})

SMALL_FILE = 2**24
"""Bytes of a file up to which it is read as a whole."""

LARGEST_UNZIPPED = 2**28
"""Bytes that a gzipped picture may have."""

PAGED_FORMATS = ("GIF", "TIFF", "WEBP")
"""Formats whose pages are frames of a sequence."""

# What Pillow needs to change nothing in: each mode as it is stored in a PNG and in a JPEG.
PLAIN = {"L": 1, ("L", ""): 1, "RGB": 3, ("RGB", ""): 3}

# Of damaged tags Pillow warns, and reads the others or fails: what matters is said in one error.
# Not for the time of reading only, as that would be undone by other threads that do the same.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.TiffImagePlugin")

# Threads that meet a format first would race to register the decoders, and the loser would say
# that it cannot identify the file.
Image.init()


class Picture(NamedTuple):
    """A decoded picture: `frame [height, width, channels]`, and whether the file is in colour.

    The frame may be read-only. Of a product that is recognised it holds measurements, float32 and
    NaN where they are missing.
    """

    frame: np.ndarray
    colour: bool
    product: Product | None = None


class PictureHeader(NamedTuple):
    """The header of a picture file; no pixel is decoded for it.

    Attributes:
      height, width: of the picture turned as its EXIF tag says.
      colour: whether the file, or its first page, is in colour.
      dtype: that `read_picture` gives.
      pages: more than 1 only for GIF, TIFF and WebP files.
      mode, format: Pillow's names, e.g. "RGB" and "PNG"; of the first page.
      transparent: whether there is a transparency, which no frame has.
      product: whose measurements the picture holds, where one is recognised.
    """

    height: int
    width: int
    colour: bool
    dtype: np.dtype[Any]
    pages: int
    mode: str
    format: str
    transparent: bool = False
    product: Product | None = None


def read_header(path: str | os.PathLike[str]) -> PictureHeader:
    """Opens a picture without decoding it.

    Raises:
      DataError: as `read_picture`, except for damage behind the header.
    """
    try:
        _refuse_special(os.stat(path))  # noqa: PTH116, any path will do
        with Image.open(_unzipped(path) or path, formats=FORMATS) as image:
            _refuse_unreadable(image)
            product = product_of(image)
            width, height = image.size
            # `getexif` would decode a PNG to look for the tag behind the pixels.
            if "exif" in image.info and image.getexif().get(ORIENTATION_TAG, 1) >= 5:
                width, height = height, width
            colour, dtype = _is_colour(image), _dtype(image)
            if product is not None:
                colour, dtype = False, product.values.dtype
            mode, picture_format = image.mode, image.format or ""
            # Last: counting the pages of a GIF goes through all of them.
            pages = _pages(image)
            if pages > 1 and picture_format not in PAGED_FORMATS:
                raise _too_many(pages)
            # That of a clip in GIF marks what has not changed.
            keyed = "transparency" in image.info and not (picture_format == "GIF" and pages > 1)
            transparent = keyed or mode in TRANSPARENT
            return PictureHeader(
                height, width, colour, dtype, pages, mode, picture_format, transparent, product
            )
    except Exception as error:
        raise _explained(path, error) from error


def read_picture(
    path: str | os.PathLike[str],
    channels: int | None = None,
    *,
    page: int | None = None,
    allow_nan: bool = False,
) -> Picture:
    """Decodes a picture, turned as its EXIF tag says.

    Args:
      path: the file; any name the file system allows.
      channels: 1 for grey, 3 for colour (a grey picture is repeated); None for what the file has:
        its first page decides for all.
      page: which page of a file that may hold several, counted from 0; a GIF's with all that it
        draws on. None refuses a file with more than one.
      allow_nan: let NaN and infinity pass.

    Returns:
      The frame `[height, width, channels]`: uint8, uint16 for files with 16 bits a pixel (mode "I"
      too), float32 for mode "F".

    Raises:
      DataError: the file cannot be read, is damaged, too large or no picture, lacks the page, or
        cannot be represented without loss of bits; the message names it.
    """
    try:
        # Read at once, so that threads hand Python's lock to each other once and not ten times.
        content = _unzipped(path) or (_content(path) if page is None else None)
        with Image.open(path if content is None else content, formats=FORMATS) as image:
            if page is None and _is_plain(image, channels):
                pixels = np.asarray(image)
                # Not earlier: a PNG's tags may stand behind its pixels.
                if ORIENTATION_KEYS.isdisjoint(image.info):
                    colour = pixels.ndim == 3
                    return Picture(pixels if colour else pixels[..., None], colour)
            return _convert(image, channels, page, allow_nan)
    except Exception as error:
        # Not only OSError: on damaged bytes Pillow's decoders raise whatever they stumble over.
        where = "" if not page else f"page {page}: "
        raise _explained(path, error, where) from error


def read_pages(
    path: Path, pages: Iterable[int], channels: int, *, allow_nan: bool = False
) -> Iterator[Picture]:
    """Decodes pages one after the other, as `read_picture` does each.

    A page of a GIF or WebP file can only be drawn on those before it: one by one, each would cost
    as much as all of them.

    Args:
      path: of a file that may hold several pages.
      pages: in rising order, counted from 0.
      channels: 1 for grey, 3 for colour.
      allow_nan: let NaN and infinity pass.

    Raises:
      DataError: as `read_picture`.
    """
    page = 0
    try:
        with Image.open(path, formats=FORMATS) as image:
            for page in pages:
                yield _convert(image, channels, page, allow_nan)
    except Exception as error:
        where = f"page {page}: " if page else ""
        raise _explained(path, error, where) from error


def _unzipped(path: str | os.PathLike[str]) -> io.BytesIO | None:
    """The content of a gzipped file, of bounded size; None for any other, by its name."""
    if not os.fspath(path).endswith((".gz", ".GZ")):
        return None
    _refuse_special(os.stat(path))  # noqa: PTH116, any path will do
    with gzip.open(path) as file:
        content = file.read(LARGEST_UNZIPPED + 1)
    if len(content) > LARGEST_UNZIPPED:
        raise ValueError(f"more than {LARGEST_UNZIPPED:,} bytes when unzipped")
    return io.BytesIO(content)


def _content(path: str | os.PathLike[str]) -> io.BytesIO | None:
    """The bytes of a small file; None for a larger one, which the decoder reads itself."""
    # Opening a pipe without O_NONBLOCK would wait for someone to write to it.
    file = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        status = os.fstat(file)
        _refuse_special(status)
        size = status.st_size
        content = os.read(file, size) if size <= SMALL_FILE else b""
        return io.BytesIO(content) if content and len(content) == size else None
    finally:
        os.close(file)


def _refuse_special(status: os.stat_result) -> None:
    """A pipe or device behind a picture's name may never end, or never begin."""
    if not stat.S_ISREG(status.st_mode):
        raise ValueError("not an ordinary file")


def _is_plain(image: Image.Image, channels: int | None) -> bool:
    """True if the decoded pixels are the frame: 8 bits, of the channels asked for, one page."""
    tiles: Any = getattr(image, "tile", ())
    if image.format not in ("PNG", "JPEG") or len(tiles) != 1:
        return False
    found = PLAIN.get(tiles[0].args)
    width, height = image.size
    return (
        found is not None
        and channels in (None, found)
        and getattr(image, "n_frames", 1) == 1
        and width * height <= LARGEST_FRAME
    )


def _convert(
    image: Image.Image, channels: int | None, page: int | None, allow_nan: bool
) -> Picture:
    """Any picture, or a page of one."""
    _refuse_unreadable(image)
    product = product_of(image)
    if product is not None:
        return Picture(product.read(np.asarray(image), channels or 1), False, product)
    colour = _is_colour(image)
    if page is None and (pages := _pages(image)) > 1:
        raise _too_many(pages)
    if page:
        try:
            image.seek(page)
        except EOFError:
            raise ValueError("no such page") from None
        _refuse_unreadable(image)
    upright = ImageOps.exif_transpose(image)
    return Picture(_to_array(upright, channels or (3 if colour else 1), allow_nan), colour)


def _pages(image: Image.Image) -> int:
    # Telephones append previews and gain maps to a JPEG (Pillow's "MPO"): the first page is it.
    return 1 if image.format == "MPO" else getattr(image, "n_frames", 1)


def _too_many(pages: int) -> ValueError:
    return ValueError(
        f"{pages} pages, where one is expected; only those of GIF, TIFF and WebP files can be read "
        "as a sequence"
    )


def _to_array(image: Image.Image, channels: int, allow_nan: bool) -> np.ndarray:
    """`[height, width, channels]` in the dtype that holds every value of the file."""
    # Transparency has no place in a frame, and Pillow warns when a palette's is dropped.
    image.info.pop("transparency", None)
    if _dtype(image) == np.uint8:
        pixels = np.array(image.convert("L" if channels == 1 else "RGB"))
        return pixels[..., None] if channels == 1 else pixels
    # Never through convert("L"), which clips 16 bits at 255.
    pixels = np.asarray(image)
    if pixels.dtype.kind == "f":
        if not (allow_nan or np.isfinite(pixels).all()):
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
    if width * height > LARGEST_FRAME:
        raise Image.DecompressionBombError(f"{width}x{height} pixels")
    if image.format == "TIFF":
        refuse_misread(image)
    if _dtype(image) == np.uint8 and any(map(_has_16_bits, getattr(image, "tile", ()))):
        raise ValueError(CUT_TO_8_BITS)


def _has_16_bits(tile: Any) -> bool:
    """True if a tile of the file that Pillow decodes to 8 bits a channel holds more."""
    arguments = tile.args if isinstance(tile.args, tuple) else (tile.args,)
    if tile.codec_name in ("ppm", "ppm_plain"):
        return bool(arguments[-1] > 255)  # The file's maximum value.
    return any(isinstance(raw_mode, str) and ";16" in raw_mode for raw_mode in arguments)


def _explained(path: str | os.PathLike[str], error: Exception, where: str = "") -> DataError:
    """The error of a picture on one line that names it."""
    if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
        reason = f"more pixels than the {LARGEST_FRAME:,} that are decoded"
    elif isinstance(error, UnidentifiedImageError):
        empty = Path(path).stat().st_size == 0
        reason = "the file is empty" if empty else f"not a picture ({', '.join(FORMATS)})"
    elif isinstance(error, OSError) and error.strerror:
        reason = error.strerror
    else:
        reason = " ".join(str(error).split()) or type(error).__name__
    return DataError(f"{printable(path)}: {where}cannot be read: {reason}")
