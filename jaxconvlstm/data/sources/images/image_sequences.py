"""The sequences of pictures that a path names, whatever it is."""

import os
from pathlib import Path

from jaxconvlstm.data.sources.images.image_file import read_header
from jaxconvlstm.data.sources.images.listing import (
    PAGED_EXTENSIONS,
    Listing,
    PictureSequence,
    list_sequences,
    may_have_pages,
    split_pages,
)
from jaxconvlstm.data.sources.images.path_list import read_path_list
from jaxconvlstm.errors import DataError, printable


def is_path_list(root: Path) -> bool:
    """Whether a file is to be read as a path list, by its name."""
    return root.suffix.lower() == ".txt"


def list_pictures(root: Path) -> Listing:
    """The sequences of a folder, a path list or a file of several pages.

    Raises:
      DataError: nothing there, or something else.
    """
    if not root.is_file():
        listed = list_sequences(root)
        split = split_pages(listed.sequences, root)
        return Listing(split.sequences, [*listed.notes, *split.notes])
    if is_path_list(root):
        lines, numbers, notes = read_path_list(root)
        return Listing(
            [
                PictureSequence(f"line {number}", Path(), [os.fspath(path) for path in line])
                for number, line in zip(numbers, lines)
            ],
            notes,
        )
    if not may_have_pages(root.name):
        raise DataError(
            f"{printable(root)}: expected a folder of pictures, a path list (.txt), or a file of "
            f"several pages (.{', .'.join(PAGED_EXTENSIONS)})"
        )
    pages = read_header(root).pages
    if pages == 1:
        raise DataError(f"{printable(root)}: one picture is no sequence; name the folder it is in")
    return Listing([PictureSequence(printable(root.name), root.parent, [root.name], pages)], [])
