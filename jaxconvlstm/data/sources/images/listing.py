"""The pictures of a folder as sequences: files in natural order, or the pages of one file."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from jaxconvlstm.data.prefetch import map_in_threads
from jaxconvlstm.data.sources.files import is_folder, walk
from jaxconvlstm.data.sources.images.image_file import EXTENSIONS, read_header
from jaxconvlstm.errors import DataError
from jaxconvlstm.messages import printable

PAGED_EXTENSIONS = ("gif", "tif", "tiff", "webp")
"""Of files that may hold several pictures."""
OPENED_UP_TO = 10_000
"""Files with such an extension that are opened to count their pages; more are not opened, and taken
for single pictures."""
COUNT_TIMEOUT = 300.0
"""Seconds that are waited for one of them: counting a GIF's pages goes through all."""
_SUFFIXES = tuple(f".{extension}" for extension in EXTENSIONS)
_PAGED_SUFFIXES = tuple(f".{extension}" for extension in PAGED_EXTENSIONS)


class PictureSequence(NamedTuple):
    """A folder that directly holds pictures, or the pages of a file.

    Attributes:
      name: relative to the folder that was listed; printable.
      folder: that the files are in.
      files: their names in order. Of pages, the only one.
      pages: number of a file's pages; None for a sequence of files.
    """

    name: str
    folder: Path
    files: Sequence[str]
    pages: int | None = None

    @property
    def length(self) -> int:
        """Number of frames."""
        return self.pages or len(self.files)

    def path(self, frame: int) -> Path:
        """The file of a frame."""
        return self.folder / self.files[frame if self.pages is None else 0]

    def frame_path(self, frame: int) -> str:
        """The frame's name behind the sequence's."""
        return f"{self.name}/{self.frame_name(frame)}"

    def frame_name(self, frame: int) -> str:
        """The file's name, and the page, as `read_picture` counts them: from 0."""
        name = printable(self.path(frame).name)
        return name if self.pages is None else f"{name} page {frame}"


class Listing(NamedTuple):
    """The sequences found in a folder, and a note on each kind of thing that was left out."""

    sequences: list[PictureSequence]
    notes: list[str]


def list_sequences(root: Path) -> Listing:
    """The folders at or below `root` that hold pictures, each a sequence in natural order.

    See `files.walk` for links and hidden files. Only names are read.

    Raises:
      DataError: a folder is missing, or no folder, or cannot be listed, or no picture was found.
    """
    folders, notes = walk(root, _is_picture_file, "pictures", _SUFFIXES)
    return Listing(
        [
            PictureSequence(
                printable(root.resolve().name if path == root else path.relative_to(root)),
                path,
                names,
            )
            for path, names in folders
        ],
        notes,
    )


def _is_picture_file(entry: os.DirEntry[str]) -> bool:
    # A broken link too: it must fail when read, not silently be less. But no pipe or device.
    return (
        is_picture(entry.name) and not is_folder(entry) and (entry.is_symlink() or entry.is_file())
    )


def split_pages(sequences: Sequence[PictureSequence], root: Path) -> Listing:
    """Makes each file that holds several pages a sequence by itself.

    Files that cannot be opened stay where they are: reading them says why.

    Args:
      sequences: of files.
      root: the folder that was listed; files directly in it are named without it.
    """
    candidates = sum(may_have_pages(name) for found in sequences for name in found.files)
    if candidates > OPENED_UP_TO:
        note = (
            f"GIF, TIFF and WebP files taken for single pictures, being more than {OPENED_UP_TO:,}"
            f": {candidates:,}"
        )
        return Listing(list(sequences), [note])
    paths = [
        found.folder / name for found in sequences for name in found.files if may_have_pages(name)
    ]
    counts = map_in_threads(count_pages, paths, printable, timeout=COUNT_TIMEOUT)
    # `counts` is one iterator over the candidates of all sequences: each takes its own from it.
    split = []
    for sequence in sequences:
        opened = filter(may_have_pages, sequence.files) if paths else ()
        pages = {name: count for name, count in zip(opened, counts) if count}
        if not pages:
            split.append(sequence)
            continue
        single = [name for name in sequence.files if name not in pages]
        if single:
            split.append(sequence._replace(files=single))
        start = "" if sequence.folder == root else f"{sequence.name}/"
        split += [
            PictureSequence(start + printable(name), sequence.folder, [name], count)
            for name, count in pages.items()
        ]
    return Listing(split, [])


def count_pages(path: Path) -> int | None:
    """Number of pages of a file that holds several; None of one that does not, or is damaged."""
    try:
        pages = read_header(path).pages
    except DataError:
        return None
    return pages if pages > 1 else None


def name_apart(sequences: Iterable[PictureSequence]) -> list[PictureSequence]:
    """Numbers the names that would be alike, as two can be once they are printable."""
    taken: set[str] = set()
    apart = []
    for sequence in sequences:
        name, number = sequence.name, 1
        while name in taken:
            number += 1
            name = f"{sequence.name} ({number})"
        taken.add(name)
        apart.append(sequence._replace(name=name))
    return apart


def is_picture(name: str) -> bool:
    """True if a file is a picture by its name."""
    return name.lower().removesuffix(".gz").endswith(_SUFFIXES)


def may_have_pages(name: str) -> bool:
    """True if a file may hold several pictures, by its name."""
    return name.lower().endswith(_PAGED_SUFFIXES)
