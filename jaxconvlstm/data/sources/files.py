"""Which files a folder holds, at any depth, each real one once."""

import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from jaxconvlstm.errors import DataError, printable

_DIGITS = re.compile("[0-9]+")


def natural_key(name: str) -> str:
    """Sorts frame2 before frame10, whether or not the numbers are padded with zeros.

    Each number is preceded by its count of digits, so that plain text order is the order of
    numbers; the name itself settles what is equal otherwise (frame1, frame01). One text rather
    than a list of parts keeps a million names small.
    """
    return f"{_DIGITS.sub(_with_digit_count, name.casefold())}\0{name}"


def _with_digit_count(number: re.Match[str]) -> str:
    digits = number.group().lstrip("0")
    return f"{len(digits):03d}{digits}"


def find_files(
    root: Path, wanted: Callable[[Path], bool], kind: str, accepted: Sequence[str]
) -> tuple[list[Path], list[str]]:
    """The wanted files at or below a folder, in natural order, and notes on what was left out.

    Hidden folders and files are passed over. Links are followed, but each real folder is listed
    once, so that a link to a folder above ends, and each real file once.

    Args:
      root: the folder.
      wanted: whether a file, or a folder as a whole, is of the kind.
      kind: what the files are called in notes and errors, e.g. "videos".
      accepted: their extensions, for errors.

    Raises:
      DataError: a folder is missing or cannot be listed, or there is no such file.
    """
    found: list[Path] = []
    ignored: list[Path] = []
    seen: set[tuple[int, int]] = set()
    waiting = [root]
    while waiting:
        folder = waiting.pop()
        try:
            status = folder.stat()
            if (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
            paths = sorted(folder.iterdir(), key=lambda path: natural_key(path.name))
        except OSError as error:
            raise DataError(f"{printable(folder)}: cannot be listed: {error.strerror}") from error
        folders = []
        for path in paths:
            hidden = path.name.startswith(".")
            if not hidden and wanted(path):
                found.append(path)
            elif not path.is_dir():
                ignored.append(path)
            elif not hidden:
                folders.append(path)
        # Last in, first out: reversed, so that folders come in order.
        waiting += reversed(folders)
    if not found:
        among = f" among {len(ignored)} files" if ignored else ""
        known = ", ".join(accepted)
        raise DataError(f"{printable(root)}: no {kind}{among}; accepted are {known}")
    kept, repeated = _without_repeats(found)
    left_out = {
        f"files ignored that are no {kind}": ignored,
        f"links to {kind} that are listed already, left out": repeated,
    }
    notes = [f"{what}: {len(p)}, e.g. {printable(p[0])}" for what, p in left_out.items() if p]
    return kept, notes


def _without_repeats(paths: list[Path]) -> tuple[list[Path], list[Path]]:
    """Each real file once, so that no frame is both trained on and tested; and the other links.

    Of a file and symbolic links to it, the file is kept; of hard links, the first.
    """
    identities = {path: _identity(path) for path in paths}
    owners: dict[object, Path] = {}
    for path in sorted(paths, key=os.path.islink):
        owners.setdefault(identities[path], path)
    kept = [path for path in paths if owners[identities[path]] == path]
    return kept, [path for path in paths if owners[identities[path]] != path]


def _identity(path: Path) -> object:
    """What is the same for the same file."""
    try:
        status = path.stat()
    except OSError:  # A broken link: that it cannot be read is said later.
        return path
    return status.st_dev, status.st_ino
