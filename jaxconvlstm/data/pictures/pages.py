"""Pages of one picture file, read in one go."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from PIL import Image

from jaxconvlstm.data.pictures.picture_file import FORMATS, Picture, _convert, _explained


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
