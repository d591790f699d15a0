"""Which pictures a folder holds, as sequences of files in order."""

import errno
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from jaxconvlstm.data.prefetch import map_in_threads
from jaxconvlstm.data.sources.files import natural_key
from jaxconvlstm.data.sources.images.image_file import EXTENSIONS, read_header
from jaxconvlstm.errors import DataError, printable

PAGED_EXTENSIONS = ("gif", "tif", "tiff", "webp")
"""Of files that may hold several pictures."""
OPENED_UP_TO = 10_000
"""So many of those files are opened to count their pages; more are taken for single pictures."""
COUNT_TIMEOUT = 300.0
"""Seconds that are waited for one of them: counting a GIF's pages goes through all."""
_SUFFIXES = tuple(f".{extension}" for extension in EXTENSIONS)
_PAGED_SUFFIXES = tuple(f".{extension}" for extension in PAGED_EXTENSIONS)
MOST_LINKS = 40
"""Links to links that are followed, as in the Linux kernel."""


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
        """What the file is called, and the page, as `read_picture` counts them: from 0."""
        name = printable(self.path(frame).name)
        return name if self.pages is None else f"{name} page {frame}"


class Listing(NamedTuple):
    """What was found in a folder, and a note on each kind of thing that was left out."""

    sequences: list[PictureSequence]
    notes: list[str]


def list_sequences(root: Path) -> Listing:
    """The folders at or below `root` that hold pictures, each a sequence in natural order.

    Hidden folders and files are passed over. Links are followed, but each real folder is listed
    once, so that a link to a folder above ends, and each real file once, so that no frame is both
    trained on and tested. Only names are read.

    Raises:
      DataError: a folder is missing, or no folder, or cannot be listed, or no picture was found.
    """
    sequences: list[PictureSequence] = []
    links: dict[int, list[str]] = {}
    ignored, example = 0, ""
    # By its device and inode, the index of a folder's sequence; None if it has none.
    seen: dict[tuple[int, int], int | None] = {}
    waiting = [root]
    while waiting:
        folder = waiting.pop()
        try:
            status = folder.stat()
            identity = status.st_dev, status.st_ino
            if identity in seen:
                continue
            with os.scandir(folder) as entries:
                found = _sort_out(entries)
        except OSError as error:
            raise DataError(f"{printable(folder)}: cannot be listed: {error.strerror}") from error
        seen[identity] = len(sequences) if found.pictures else None
        if found.links:
            links[len(sequences)] = found.links
        if found.pictures:
            found.pictures.sort(key=natural_key)
            name = root.resolve().name if folder == root else folder.relative_to(root)
            sequences.append(PictureSequence(printable(name), folder, found.pictures))
        ignored += len(found.others)
        if found.others and not example:
            example = printable(folder / found.others[0])
        # Last in, first out: reversed, so that of two links to a folder the first one names it.
        found.folders.sort(key=natural_key, reverse=True)
        waiting += [folder / name for name in found.folders]
    if not sequences:
        among = f" among {ignored} files" if ignored else ""
        raise DataError(
            f"{printable(root)}: no pictures{among}; accepted are .{', .'.join(EXTENSIONS)}"
        )
    notes = []
    if ignored:
        notes.append(f"files ignored that are no pictures: {ignored}, e.g. {example}")
    repeated = _repeated(sequences, links, seen)
    if repeated:
        index, names = next(iter(repeated.items()))
        link = sequences[index].folder / min(names, key=natural_key)
        notes.append(
            "links to pictures that are listed already, left out: "
            f"{sum(map(len, repeated.values()))}, e.g. {printable(link)}"
        )
        for index, names in repeated.items():
            files = [name for name in sequences[index].files if name not in names]
            sequences[index] = sequences[index]._replace(files=files)
    return Listing([sequence for sequence in sequences if sequence.files], notes)


def split_pages(sequences: Sequence[PictureSequence], root: Path) -> Listing:
    """Makes a sequence of its own of each file that holds several pages.

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


class _Entries(NamedTuple):
    """The names in a folder; links to pictures are among the pictures too."""

    folders: list[str]
    pictures: list[str]
    links: list[str]
    others: list[str]


def _sort_out(entries: Iterable[os.DirEntry[str]]) -> _Entries:
    found = _Entries([], [], [], [])
    for entry in entries:
        name = entry.name
        hidden = name.startswith(".")
        if _is_folder(entry):
            if not hidden:
                found.folders.append(name)
        elif not hidden and is_picture(name) and entry.is_symlink():
            # A broken link too: it must fail when read, not silently be less.
            found.pictures.append(name)
            found.links.append(name)
        elif not hidden and is_picture(name) and entry.is_file():
            found.pictures.append(name)
        else:
            found.others.append(name)
    return found


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # A link to itself.
        return False


def is_picture(name: str) -> bool:
    """Whether a file is a picture by its name."""
    return name.lower().endswith(_SUFFIXES)


def may_have_pages(name: str) -> bool:
    """Whether a file may hold several pictures, by its name."""
    return name.lower().endswith(_PAGED_SUFFIXES)


def _repeated(
    sequences: Sequence[PictureSequence],
    links: Mapping[int, list[str]],
    folders: Mapping[tuple[int, int], int | None],
) -> dict[int, set[str]]:
    """The links of each sequence to files that are listed themselves, or by another link."""
    taken: set[tuple[int, int, str]] = set()
    names_in: dict[int, set[str]] = {}
    repeated: dict[int, set[str]] = {}
    identities: dict[Path, tuple[int, int]] = {}
    for index, names in links.items():
        for name in sorted(names, key=natural_key):
            real = _real_file(sequences[index].folder / name, identities)
            if real is None:
                continue
            owner = folders.get(real[:2])
            if owner is not None and owner not in names_in:
                names_in[owner] = set(sequences[owner].files)
            if real in taken or (owner is not None and real[2] in names_in[owner]):
                repeated.setdefault(index, set()).add(name)
            taken.add(real)
    return repeated


def _real_file(path: Path, identities: dict[Path, tuple[int, int]]) -> tuple[int, int, str] | None:
    """Device and inode of the folder that a link's file is really in, and its name there.

    Much quicker than `Path.resolve`, which looks at every part of the path.
    """
    for _ in range(MOST_LINKS):
        folder = path.parent
        try:
            if folder not in identities:
                status = folder.stat()
                identities[folder] = status.st_dev, status.st_ino
            path = folder / path.readlink()
        except OSError as error:
            # Not a link: the end of the chain.
            return (*identities[folder], path.name) if error.errno == errno.EINVAL else None
    return None
