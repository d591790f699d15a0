"""The files of a folder, at any depth: in natural order, each real one once."""

import errno
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from jaxconvlstm.errors import DataError
from jaxconvlstm.messages import printable

MOST_LINKS = 40
"""Links to links that are followed, as in the Linux kernel."""

_DIGITS = re.compile("[0-9]+")


def natural_key(name: str) -> str:
    """Sort key that puts frame2 before frame10, whether or not numbers are padded with zeros.

    Each number is preceded by its count of digits, so that plain text order is the order of
    numbers; the name itself settles what is equal otherwise (frame1, frame01). One text rather
    than a list of parts keeps a million names small.
    """
    return f"{_DIGITS.sub(_with_digit_count, name.casefold())}\0{name}"


def _with_digit_count(number: re.Match[str]) -> str:
    digits = number.group().lstrip("0")
    return f"{len(digits):03d}{digits}"


class Folder(NamedTuple):
    """A folder that directly holds files of the kind that is wanted.

    Attributes:
      path: of the folder.
      names: of the files, in natural order.
    """

    path: Path
    names: list[str]


def walk(
    root: Path,
    wanted: Callable[[os.DirEntry[str]], bool],
    kind: str,
    accepted: Sequence[str],
    hard_links: bool = False,
) -> tuple[list[Folder], list[str]]:
    """The folders at or below `root` that hold wanted files, and notes on what was left out.

    Folders come depth first, in natural order. Hidden folders and files are passed over. Links are
    followed, but each real folder is listed once, so that a link to a folder above ends, and each
    real file once, so that no frame is both trained on and tested: of a file and links to it the
    file is kept. Only names are read, and links: there may be a million files.

    Args:
      root: the folder.
      wanted: says of an entry, which may be a folder as a whole, that it is of the kind.
      kind: the files' name in notes and errors, e.g. "videos".
      accepted: their extensions, for errors.
      hard_links: of several hard links to a file keep only the first, which takes a look at every
        file.

    Raises:
      DataError: a folder is missing, no folder or cannot be listed, or there is no such file.
    """
    folders: list[Folder] = []
    links: dict[int, list[str]] = {}
    ignored, example = 0, ""
    # From device and inode to the index in `folders`; None for a folder without wanted files.
    seen: dict[tuple[int, int], int | None] = {}
    waiting = [root]
    while waiting:
        path = waiting.pop()
        try:
            status = path.stat()  # Of a link, that of the real folder.
            identity = status.st_dev, status.st_ino
            if identity in seen:
                continue
            with os.scandir(path) as entries:
                found = _sort_out(entries, wanted)
        except OSError as error:
            raise DataError(f"{printable(path)}: cannot be listed: {error.strerror}") from error
        seen[identity] = len(folders) if found.files else None
        if found.links:
            links[len(folders)] = found.links
        if found.files:
            folders.append(Folder(path, sorted(found.files, key=natural_key)))
        ignored += len(found.others)
        if found.others and not example:
            example = printable(path / min(found.others, key=natural_key))
        # Last in, first out: reversed, so that of two links to a folder the first one names it.
        waiting += [path / name for name in sorted(found.folders, key=natural_key, reverse=True)]
    if not folders:
        among = f" among {ignored} files" if ignored else ""
        known = ", ".join(accepted)
        raise DataError(f"{printable(root)}: no {kind}{among}; accepted are {known}")
    notes = [f"files ignored that are no {kind}: {ignored}, e.g. {example}"] if ignored else []
    repeated = _repeated_links(folders, links, seen)
    if hard_links:
        _add_hard_links(folders, links, repeated)
    if repeated:
        first = min(repeated)
        link = folders[first].path / min(repeated[first], key=natural_key)
        notes.append(
            f"links to {kind} that are listed already, left out: "
            f"{sum(map(len, repeated.values()))}, e.g. {printable(link)}"
        )
        for index, names in repeated.items():
            path, files = folders[index]
            folders[index] = Folder(path, [name for name in files if name not in names])
    return [folder for folder in folders if folder.names], notes


class _Entries(NamedTuple):
    """The names in a folder; links to wanted files are among the files, too."""

    folders: list[str]
    files: list[str]
    links: list[str]
    others: list[str]


def _sort_out(
    entries: Iterable[os.DirEntry[str]], wanted: Callable[[os.DirEntry[str]], bool]
) -> _Entries:
    found = _Entries([], [], [], [])
    for entry in entries:
        name = entry.name
        hidden = name.startswith(".")
        if not hidden and wanted(entry):
            found.files.append(name)
            if entry.is_symlink():
                found.links.append(name)
        elif not is_folder(entry):
            found.others.append(name)
        elif not hidden:
            found.folders.append(name)
    return found


def is_folder(entry: os.DirEntry[str]) -> bool:
    """True for a folder, or a link to one."""
    try:
        return entry.is_dir()
    except OSError:  # A link to itself.
        return False


def _repeated_links(
    folders: Sequence[Folder],
    links: Mapping[int, list[str]],
    seen: Mapping[tuple[int, int], int | None],
) -> dict[int, set[str]]:
    """The links of each folder to files that are listed themselves, or by an earlier link."""
    # A real file is known by device and inode of its folder, and its name there.
    taken: set[tuple[int, int, str]] = set()
    names_in: dict[int, set[str]] = {}
    repeated: dict[int, set[str]] = {}
    identities: dict[Path, tuple[int, int]] = {}
    for index, names in links.items():
        for name in sorted(names, key=natural_key):
            real = _real_file(folders[index].path / name, identities)
            if real is None:
                continue
            owner = seen.get(real[:2])
            if owner is not None and owner not in names_in:
                names_in[owner] = set(folders[owner].names)
            if real in taken or (owner is not None and real[2] in names_in[owner]):
                repeated.setdefault(index, set()).add(name)
            taken.add(real)
    return repeated


def _real_file(path: Path, identities: dict[Path, tuple[int, int]]) -> tuple[int, int, str] | None:
    """Device and inode of the folder that a link's file is really in, and its name there.

    Much quicker than `Path.resolve`, which looks at every part of the path, and comparable with
    files of which nothing but the name was read.
    """
    for _ in range(MOST_LINKS):
        folder = path.parent
        try:
            if folder not in identities:
                status = folder.stat()
                identities[folder] = status.st_dev, status.st_ino
            path = folder / path.readlink()
        except OSError as error:
            # Not a link: the end of the chain. A broken one must fail when it is read.
            return (*identities[folder], path.name) if error.errno == errno.EINVAL else None
    return None


def _add_hard_links(
    folders: Sequence[Folder], links: Mapping[int, list[str]], repeated: dict[int, set[str]]
) -> None:
    """Adds the files that an earlier one is a hard link to; symbolic links come last."""
    seen: set[object] = set()
    places = [(index, name) for index, folder in enumerate(folders) for name in folder.names]
    for index, name in sorted(places, key=lambda place: place[1] in links.get(place[0], ())):
        if name in repeated.get(index, ()):
            continue
        identity = file_identity(folders[index].path / name)
        if identity in seen:
            repeated.setdefault(index, set()).add(name)
        seen.add(identity)


def find_files(
    root: Path, wanted: Callable[[os.DirEntry[str]], bool], kind: str, accepted: Sequence[str]
) -> tuple[list[Path], list[str]]:
    """The files that `walk` finds, one by one, hard links told; for files that are all opened."""
    folders, notes = walk(root, wanted, kind, accepted, hard_links=True)
    return [path / name for path, names in folders for name in names], notes


def file_identity(path: str | os.PathLike[str]) -> object:
    """A value that two paths of one real file have in common; the path itself if it is gone."""
    try:
        status = os.stat(path)  # noqa: PTH116, any path will do
    except OSError:  # A broken link, or gone meanwhile: reading it says so.
        return path
    return status.st_dev, status.st_ino
