"""Path lists: text files with one sequence of pictures a line."""

import itertools
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from jaxconvlstm.atomic import replacing
from jaxconvlstm.data.sources.files import file_identity
from jaxconvlstm.data.sources.images.image_file import EXTENSIONS
from jaxconvlstm.data.sources.images.listing import is_picture, list_sequences, split_pages
from jaxconvlstm.data.sources.images.numbering import number_frames
from jaxconvlstm.errors import ConfigError, DataError
from jaxconvlstm.json_files import parse
from jaxconvlstm.messages import printable

LONGEST_LINE = 2**24
"""Bytes of a line; a file with a longer one is no path list."""


class PathList(NamedTuple):
    """The content of a path list.

    Attributes:
      lines: the pictures of each line. Of the same path there is only one object.
      numbers: of those lines in the file, from 1.
      notes: a line each: what was assumed, with a count.
    """

    lines: list[list[Path]]
    numbers: list[int]
    notes: list[str]


def read_path_list(path: Path) -> PathList:
    """Reads a path list: in each line either paths separated by blanks, or a JSON list of them.

    Paths are relative to the list's folder, or, where nothing is there, to the current one.

    Raises:
      DataError: no text, a file that is missing or no picture, or no line at all.
    """
    lines: list[list[Path]] = []
    numbers: list[int] = []
    known: dict[str, Path] = {}
    elsewhere: list[str] = []
    for number, line in enumerate(_lines(path), 1):
        names, ours = _names(line)  # `ours`: of the form that `write_path_list` writes.
        if not names and not ours:
            continue
        place = f"{printable(path)} line {number}"
        if not any(map(is_picture, names)):
            raise DataError(f"{place}: no pictures; accepted are .{', .'.join(EXTENSIONS)}")
        for name in names:
            # Overlapping windows repeat each path many times: it is looked up, and kept, once.
            if name not in known:
                known[name], moved = _find(name, path.parent, place, ours)
                if moved:
                    elsewhere.append(name)
        lines.append([known[name] for name in names])
        numbers.append(number)
    if not lines:
        raise DataError(f"{printable(path)}: no pictures: the path list is empty")
    notes = []
    if elsewhere:
        notes.append(
            "paths taken from the current folder, as they are not in the list's own: "
            f"{len(elsewhere)}, e.g. {printable(elsewhere[0])}"
        )
    if len(lines) > 1 and all(len(line) == 1 for line in lines):
        notes.append("every line holds one picture: a line is a sequence")
    return PathList(lines, numbers, notes)


def write_path_list(
    root: str | Path,
    out: str | Path,
    *,
    length: int = 8,
    stride: int = 8,
    overwrite: bool = False,
) -> tuple[int, int, list[str]]:
    """Cuts the sequences of a folder into lines, none of which crosses a gap in numbering.

    Each line is a JSON list in ASCII, which any file name survives. Paths are relative to the
    list's folder if the pictures are in it, so that both can be moved together.

    Args:
      root: the folder of pictures.
      out: the file to write; it is there complete or not at all.
      length: frames in a line.
      stride: frames from the start of a line to that of the next.
      overwrite: replace a file that is there.

    Returns:
      Number of lines and of the sequences they are of, and notes on what was left out.

    Raises:
      ConfigError: `out` is there, or cannot be written, or does not end in .txt.
      DataError: no pictures, or no sequence that is long enough.
    """
    root, out = Path(root), Path(out)
    if out.suffix.lower() != ".txt":
        raise ConfigError(f"--out {printable(out)}: a path list is known by its name's end, .txt")
    if not overwrite and (out.exists() or out.is_symlink()):
        raise ConfigError(f"--out {printable(out)}: is already there; --overwrite replaces it")
    listed = list_sequences(root)
    split = split_pages(listed.sequences, root)
    files = [sequence for sequence in split.sequences if sequence.pages is None]
    numbering = number_frames(files, after_gaps="no line crosses one")
    notes = [*listed.notes, *split.notes, *numbering.notes]
    if len(files) < len(split.sequences):
        notes.append(
            "files with several pages left out, which a path list cannot hold: "
            f"{len(split.sequences) - len(files)}"
        )
    lines, sequences, unused = 0, 0, sum(sequence.length for sequence in files)
    try:
        with replacing(out, "w") as file:
            for index, sequence in enumerate(numbering.sequences):
                start = _relative(sequence.folder, out.parent)
                before, used = lines, 0
                ends = [0, *numbering.gaps.get(index, ()), sequence.length]
                for first, stop in itertools.pairwise(ends):
                    for begin in range(first, stop - length + 1, stride):
                        names = sequence.files[begin : begin + length]
                        file.write(json.dumps([os.path.join(start, n) for n in names]) + "\n")  # noqa: PTH118
                        lines += 1
                        # Lines may overlap: only frames that no line before had.
                        unused -= begin + length - max(begin, used)
                        used = begin + length
                sequences += lines > before
            if not lines:
                raise DataError(f"{printable(root)}: no {length} frames in a row")
    except OSError as error:
        raise ConfigError(f"--out {printable(out)}: cannot be written: {error.strerror}") from error
    if unused:
        notes.append(f"frames in no line: {unused}")
    return lines, sequences, notes


def number_files(lines: Iterable[Sequence[str]]) -> list[list[int]]:
    """A number for each real file, the same in all lines and by whatever path."""
    by_path: dict[str, int] = {}
    by_file: dict[object, int] = {}
    numbered = []
    for line in lines:
        for path in line:
            if path not in by_path:
                by_path[path] = by_file.setdefault(file_identity(path), len(by_file))
        numbered.append([by_path[path] for path in line])
    return numbered


def group_lines(files: Sequence[Sequence[int]]) -> list[int]:
    """The group of each line, so that lines that share a file, or share with one that does, are in
    the same."""
    # Union-find: each group is a tree of lines, known by its root.
    parents = list(range(len(files)))

    def find(line: int) -> int:
        while parents[line] != line:
            parents[line] = parents[parents[line]]  # Halves the way for the next time.
            line = parents[line]
        return line

    owners: dict[int, int] = {}
    for line, numbers in enumerate(files):
        for number in numbers:
            parents[find(line)] = find(owners.setdefault(number, line))
    groups: dict[int, int] = {}
    return [groups.setdefault(find(line), len(groups)) for line in range(len(files))]


def _lines(path: Path) -> Iterator[bytes]:
    """The lines of a text file, however large what is no text may be."""
    try:
        with path.open("rb") as file:
            while line := file.readline(LONGEST_LINE):
                if b"\0" in line or len(line) == LONGEST_LINE:
                    raise DataError(f"{printable(path)}: not a path list: not text in lines")
                yield line.removeprefix(b"\xef\xbb\xbf") if file.tell() == len(line) else line
    except OSError as error:
        raise DataError(f"{printable(path)}: cannot be read: {error.strerror}") from error


def _names(line: bytes) -> tuple[list[str], bool]:
    """The paths in a line, and whether it is a JSON list."""
    if line.startswith(b"["):
        try:
            names = parse(line)
        except ValueError:
            pass
        else:
            if isinstance(names, list) and all(isinstance(name, str) for name in names):
                return names, True
    return [os.fsdecode(name) for name in line.split()], False


def _find(name: str, folder: Path, place: str, ours: bool) -> tuple[Path, bool]:
    """The file that a path in a list means, and whether it is relative to the current folder."""
    try:
        # The list's folder first, so that a list that moves with its pictures still finds them.
        for base in (folder, Path()):
            if (base / name).is_file():
                return base / name, base != folder
    except (OSError, ValueError):  # What no file name can be.
        pass
    hint = "; names with blanks need the form that `python -m jaxconvlstm pathlist` writes"
    hint = "" if ours else hint
    raise DataError(f"{place}: no such file: {printable(name)}{hint}")


def _relative(folder: Path, start: Path) -> str:
    """The folder as seen from the list's, if it is in there; else from the root."""
    absolute = folder.absolute()
    try:
        return os.fspath(absolute.relative_to(start.absolute()))
    except ValueError:
        return os.fspath(absolute)
