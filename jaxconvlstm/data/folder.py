"""A folder of pictures as sequences of frames."""

import os
import re
import warnings
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from PIL import Image

from jaxconvlstm.data.picture_file import (
    EXTENSIONS,
    Picture,
    PictureHeader,
    printable,
    read_header,
    read_picture,
)
from jaxconvlstm.errors import DataError

CHECK_ALL_UP_TO = 10_000
"""Pictures of a folder that are all decoded before training, unless the user says otherwise."""
CACHE_BYTES = 2**30
"""Frames are kept in memory while all of them together take no more than this."""


class PictureSequence(NamedTuple):
    """A folder that directly holds pictures: its name to show, its path, its files in order."""

    name: str
    folder: Path
    files: list[str]


class FolderFrames:
    """The frames of a folder, each read as `[height, width, channels]` in its own dtype.

    Every folder at or below `root` that directly holds pictures is one sequence, its pictures in
    natural order: frame2 before frame10. All frames have one shape and dtype. Reading is safe from
    several threads.

    Attributes:
      sequences: in natural order of their paths.
      frame_shape: `(height, width, channels)` of every frame.
      dtype: of every frame: uint8, uint16 or float32.
      notes: one line for each kind of thing that was left out or converted, with its count.
    """

    def __init__(
        self,
        root: str | Path,
        *,
        channels: Literal[1, 3] | None = None,
        size: tuple[int, int] | None = None,
        missing: float | None = None,
        check_files: Literal["all", "headers", "none"] | None = None,
    ):
        """Lists the folder and checks its files.

        Args:
          root: the folder.
          channels: 1 for grey, 3 for colour; None for what the first picture is.
          size: height and width to resize all pictures to.
          missing: value of pixels without data, which resizing keeps apart.
          check_files: what to read of every picture now; None is "all" up to `CHECK_ALL_UP_TO`
            pictures, and "none" above.

        Raises:
          DataError: nothing there, or a picture that is damaged or unlike the first one.
        """
        self.sequences, ignored = list_sequences(Path(root))
        self.notes = []
        if ignored:
            example = printable(ignored[0])
            self.notes.append(f"files ignored that are no pictures: {len(ignored)}, e.g. {example}")
        self._size, self._missing = size, missing
        self._cache: dict[tuple[int, int], np.ndarray] = {}
        self._first_path = self.path(0, 0)

        first = read_picture(self._first_path, channels, size, missing)
        self._as_first = channels is None
        self._colour = first.colour if channels is None else channels == 3
        self.frame_shape: tuple[int, int, int] = first.frame.shape
        self.dtype = first.frame.dtype
        self._keep = self.frames * first.frame.nbytes <= CACHE_BYTES
        if check_files is None:
            check_files = "all" if self.frames <= CHECK_ALL_UP_TO else "none"
        if check_files != "none":
            self._check(self._load if check_files == "all" else self._look)

    @property
    def lengths(self) -> list[int]:
        """Number of frames of each sequence."""
        return [len(sequence.files) for sequence in self.sequences]

    @property
    def frames(self) -> int:
        """Number of frames of all sequences."""
        return sum(self.lengths)

    def path(self, sequence: int, frame: int) -> Path:
        """The file of a frame."""
        chosen = self.sequences[sequence]
        return chosen.folder / chosen.files[frame]

    def read(self, sequence: int, frame: int) -> np.ndarray:
        """The frame `[height, width, channels]`, not to be written to.

        Raises:
          DataError: the file is gone, damaged or unlike the first one.
        """
        kept = self._cache.get((sequence, frame))
        return self._load(sequence, frame).frame if kept is None else kept

    def read_many(self, sequence: int, frames: Iterable[int]) -> np.ndarray:
        """Some frames of a sequence as a new array `[time, height, width, channels]`."""
        return np.stack([self.read(sequence, frame) for frame in frames])

    def _load(self, sequence: int, frame: int) -> Picture:
        """Decodes a frame, compares it with the first one, and keeps it if all fit in memory."""
        path = self.path(sequence, frame)
        picture = read_picture(path, 3 if self._colour else 1, self._size, self._missing)
        self._compare(path, picture.frame.shape[:2], picture.frame.dtype)
        picture.frame.flags.writeable = False
        if self._keep:
            self._cache[sequence, frame] = picture.frame
        return picture

    def _look(self, sequence: int, frame: int) -> PictureHeader:
        """Opens a frame without decoding it, and compares it with the first one."""
        path = self.path(sequence, frame)
        header = read_header(path)
        size = self._size or (header.height, header.width)
        self._compare(path, size, header.dtype)
        return header

    def _compare(self, path: Path, size: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        """Refuses a frame unlike the first one."""
        first = printable(self._first_path)
        if size != self.frame_shape[:2]:
            raise DataError(
                "{}: {}x{} pixels (height x width), but {} has {}x{}; --size H W resizes all to "
                "one size".format(printable(path), *size, first, *self.frame_shape[:2])
            )
        if dtype != self.dtype:
            raise DataError(f"{printable(path)}: {dtype} values, but {first} has {self.dtype}")

    def _check(self, read: Callable[[int, int], Picture | PictureHeader]) -> None:
        """Reads every picture once, so that a bad one is met before training and not in it."""
        converted = 0
        with warnings.catch_warnings(), ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
            # Pillow warns of what `read` then refuses; an error is one line.
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            for index, sequence in enumerate(self.sequences):
                # `map` hands out results in order, so that always the same bad file is named.
                frames = range(len(sequence.files))
                for picture in pool.map(read, [index] * len(frames), frames):
                    converted += self._as_first and picture.colour != self._colour
        if converted:
            kinds = ("grey", "colour") if self._colour else ("colour", "grey")
            self.notes.append(
                f"{kinds[0]} pictures read as {kinds[1]}, as the first is: {converted}"
            )


def list_sequences(root: Path) -> tuple[list[PictureSequence], list[Path]]:
    """The folders at or below `root` that hold pictures, and the files that are ignored.

    Hidden folders and files are passed over. Links are followed, but each real folder is listed
    once, so that a link to a folder above ends. Only names are read.

    Raises:
      DataError: a folder is missing, or no folder, or cannot be listed, or no picture was found.
    """
    sequences: list[PictureSequence] = []
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
            with os.scandir(folder) as entries:
                folders, pictures, others = _sort_out(entries)
        except OSError as error:
            raise DataError(f"{printable(folder)}: cannot be listed: {error.strerror}") from error
        if pictures:
            pictures.sort(key=natural_key)
            name = root.resolve().name if folder == root else folder.relative_to(root)
            sequences.append(PictureSequence(printable(name), folder, pictures))
        ignored += [folder / name for name in others]
        # Last in, first out: reversed, so that of two links to a folder the first one names it.
        folders.sort(key=natural_key, reverse=True)
        waiting += [folder / name for name in folders]
    if not sequences:
        found = f" among {len(ignored)} files" if ignored else ""
        raise DataError(
            f"{printable(root)}: no pictures{found}; accepted are .{', .'.join(EXTENSIONS)}"
        )
    return sequences, ignored


def natural_key(name: str) -> tuple[str, str]:
    """Sorts frame2 before frame10, whether or not the numbers are padded with zeros.

    Each number is preceded by its count of digits, so that plain text order is the order of
    numbers; the name itself settles what is equal otherwise (frame1, frame01). One text rather
    than a list of parts keeps a million names small.
    """
    return re.sub(r"[0-9]+", _with_digit_count, name.casefold()), name


def _with_digit_count(number: re.Match[str]) -> str:
    digits = number.group().lstrip("0")
    return f"{len(digits):03d}{digits}"


def _sort_out(entries: Iterable[os.DirEntry[str]]) -> tuple[list[str], list[str], list[str]]:
    """The names of a folder's folders, pictures and ignored files."""
    folders: list[str] = []
    pictures: list[str] = []
    others: list[str] = []
    for entry in entries:
        hidden = entry.name.startswith(".")
        if _is_folder(entry):
            if not hidden:
                folders.append(entry.name)
        elif not hidden and _is_picture(entry):
            pictures.append(entry.name)
        else:
            others.append(entry.name)
    return folders, pictures, others


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # A link to itself.
        return False


def _is_picture(entry: os.DirEntry[str]) -> bool:
    """By its extension. A broken link is one too: it must fail when read, not silently be less."""
    _, dot, extension = entry.name.rpartition(".")
    known = bool(dot) and extension.lower() in EXTENSIONS
    return known and (entry.is_symlink() or entry.is_file())
