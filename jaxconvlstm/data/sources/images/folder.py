"""Pictures as sequences of frames: those of a folder, of a path list, or the pages of a file."""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from jaxconvlstm.config.data import SourceOptions
from jaxconvlstm.data.preprocess import Preparation
from jaxconvlstm.data.sources.base import CHECK_ALL_UP_TO, FrameCache, Frames, Region, stack
from jaxconvlstm.data.sources.images.image_check import Findings, Run, check_pictures
from jaxconvlstm.data.sources.images.image_file import (
    Picture,
    PictureHeader,
    read_header,
    read_pages,
    read_picture,
)
from jaxconvlstm.data.sources.images.listing import (
    PAGED_EXTENSIONS,
    Listing,
    PictureSequence,
    list_sequences,
    may_have_pages,
    name_apart,
    split_pages,
)
from jaxconvlstm.data.sources.images.numbering import GAPS_ALLOWED, number_frames
from jaxconvlstm.data.sources.images.path_list import group_lines, number_files, read_path_list
from jaxconvlstm.data.sources.images.products import Product
from jaxconvlstm.data.sources.split_folders import splits_of_folders
from jaxconvlstm.errors import ConfigError, DataError
from jaxconvlstm.messages import printable

CHECKED_AT_ONCE = 16
"""Frames that a thread checks one after the other."""


class FolderFrames(Frames):
    """The frames of picture files; see `Frames`.

    Every folder at or below `root` that directly holds pictures is one sequence, its pictures in
    natural order: frame2 before frame10. A file of several pages is a sequence of its own. All
    frames have one shape and dtype, those of the first.

    Attributes:
      sequences: the files of each.
    """

    def __init__(self, source: str | Path, config: SourceOptions):
        """Lists the pictures and checks them.

        What of every picture is read now follows from `config.check_files`; None is "all" up to
        `CHECK_ALL_UP_TO` pictures, and "none" above. With `config.on_bad_frame` "skip" all are
        decoded now, and left out if they cannot be read or are unlike the first frame.

        Args:
          source: a folder; a path list (.txt) with a sequence a line; or a file of several pages.
          config: how pictures are found, read and prepared.

        Raises:
          ConfigError: a time format that cannot be read; or one, or `allow_gaps`, where names are
            not looked at.
          DataError: nothing there, or a picture that is damaged or unlike the first one.
        """
        super().__init__()
        root = Path(source)
        self._prepare, self._allow_nan = Preparation(config), config.nan == "mask"
        # Of a path list, the number of each frame's file, which may be in several lines.
        self._files: list[list[int]] | None = None
        is_folder = not root.is_file()
        for flag, given in (
            ("--time-format", config.time_format),
            ("--allow-gaps", config.allow_gaps),
        ):
            if given and not is_folder:
                raise ConfigError(f"{flag}: {printable(root)} has an order of its own")
        listing = _list_pictures(root)
        self.notes += listing.notes
        count = len(listing.sequences)
        used = self._choose_sequences(count, config.sequences, printable(root))
        self.sequences = name_apart(listing.sequences)[used.start : used.stop]
        if is_folder:
            self.folders = [
                tuple(map(printable, sequence.folder.relative_to(root).parts))
                for sequence in self.sequences
            ]
            self.splits, notes = splits_of_folders(self.folders)
            self.notes += notes
            self._find_gaps(config.time_format, config.allow_gaps)
        elif _is_path_list(root):
            self._list_folder = root.parent
            self._find_groups()
        self.names = [sequence.name for sequence in self.sequences]
        self.lengths = [sequence.length for sequence in self.sequences]

        skip, check_files = config.on_bad_frame == "skip", config.check_files
        first = self._read_first(skip)
        # All frames have one number of channels: that asked for, or that of the first picture.
        self._as_first = config.channels is None
        self._colour = first.colour if self._as_first else config.channels == 3
        # Compared before preparation, which would hide that one is of another size.
        self._raw = first.frame.shape[:2], first.frame.dtype
        self._product = first.product
        if first.product is not None:
            self.unit, self.nan_is_missing = first.product.unit, True
            self.notes.append(
                f"values by the convention of {first.product.name}: {first.product.convention}"
            )
        prepared = self._prepare(first.frame)
        self.frame_shape, self.dtype = prepared.shape, prepared.dtype
        self._cache = FrameCache(self._count(), prepared.nbytes, config.cache * 2**30)
        if check_files is None:
            check_files = "all" if self._count() <= CHECK_ALL_UP_TO else "none"
        if skip:
            self._check(decode=True, skip=True)
        elif check_files != "none":
            self._check(decode=check_files == "all", skip=False)
        else:
            findings = Findings()
            findings.count(read_header(self._first_path))
            self.details = findings.details(self._count())

    def read(
        self, sequence: int, frames: Sequence[int], region: Region | None = None
    ) -> np.ndarray:
        """See `Frames.read`."""
        found = {frame: self._cache.get(*self._key(sequence, frame)) for frame in frames}
        # In rising order, as the pages of a file can only be decoded one after the other.
        missing = sorted(frame for frame, pixels in found.items() if pixels is None)
        for frame, picture in zip(missing, self._pictures(sequence, missing)):
            found[frame] = picture.frame
        return stack((found[frame] for frame in frames), region)  # type: ignore[misc]

    def frame_name(self, sequence: int, frame: int) -> str:
        """The file's name, and the page, if it has several; its path from a path list's folder."""
        if self._files is None:
            return self.sequences[sequence].frame_name(frame)
        return printable(os.path.relpath(self.path(sequence, frame), self._list_folder))

    def path(self, sequence: int, frame: int) -> Path:
        """The file of a frame."""
        return self.sequences[sequence].path(frame)

    def _find_gaps(self, time_format: str | None, allow_gaps: bool) -> None:
        """Orders frames by time, if asked to, and finds where some are missing."""
        if allow_gaps:
            numbering = number_frames(self.sequences, time_format, GAPS_ALLOWED)
        else:
            numbering = number_frames(self.sequences, time_format)
            self.gaps = numbering.gaps
        self.sequences = numbering.sequences
        self.notes += numbering.notes

    def _find_groups(self) -> None:
        """Lines of a path list that share frames, or hold one twice, belong together."""
        self._files = number_files([sequence.files for sequence in self.sequences])
        groups = group_lines(self._files)
        sharing = sum(size for size in Counter(groups).values() if size > 1)
        repeating = sum(len(set(files)) < len(files) for files in self._files)
        if sharing:
            self.notes.append(f"lines that share frames: {sharing}, kept in the same split")
        if repeating:
            self.notes.append(f"lines that hold a frame twice: {repeating}, not divided in time")
        if sharing or repeating:
            self.groups = groups

    def _count(self) -> int:
        """Number of frames, each file of a path list counted once."""
        if self._files is None:
            return sum(self.lengths)
        return 1 + max(map(max, self._files))

    def _key(self, sequence: int, frame: int) -> tuple[int, int]:
        """The key of a frame in the cache, which all frames of one file share."""
        return (sequence, frame) if self._files is None else (0, self._files[sequence][frame])

    def _read_first(self, skip: bool) -> Picture:
        """The first picture, or the first that can be read: all others must be like it."""
        refusal = None
        for index, sequence in enumerate(self.sequences):
            for frame in range(sequence.length):
                self._first_path = self.path(index, frame)
                page = None if sequence.pages is None else frame
                try:
                    return read_picture(
                        self._first_path,
                        self._prepare.options.channels,
                        page=page,
                        allow_nan=self._allow_nan,
                    )
                except DataError as error:
                    if not skip:
                        raise
                    refusal = refusal or error
        raise DataError(f"none of the {self._count()} pictures can be used, e.g. {refusal}")

    def _pictures(self, sequence: int, frames: Sequence[int]) -> Iterator[Picture]:
        """Decodes and prepares frames, compares them with the first, and keeps them if all fit."""
        chosen = self.sequences[sequence]
        channels: Literal[1, 3] = 3 if self._colour else 1
        if chosen.pages is None:
            pictures: Iterator[Picture] = (
                # Not `chosen.path`: a `Path` takes a tenth of the time that a small picture does.
                read_picture(
                    os.path.join(chosen.folder, chosen.files[frame]),  # noqa: PTH118
                    channels,
                    allow_nan=self._allow_nan,
                )
                for frame in frames
            )
        else:
            pictures = read_pages(chosen.path(0), frames, channels, allow_nan=self._allow_nan)
        for frame, picture in zip(frames, pictures):
            self._compare(
                chosen, frame, picture.frame.shape[:2], picture.frame.dtype, picture.product
            )
            pixels = self._prepare(picture.frame)
            self._cache.put(*self._key(sequence, frame), pixels)
            yield Picture(pixels, picture.colour)

    def _compare(
        self,
        chosen: PictureSequence,
        frame: int,
        size: tuple[int, ...],
        dtype: np.dtype[Any],
        product: Product | None,
    ) -> None:
        """Refuses a frame unlike the first one."""
        if (size, dtype) == self._raw and product is self._product:
            return
        name = printable(chosen.path(frame)) + (f" page {frame}" if chosen.pages and frame else "")
        first = printable(self._first_path)
        if size != self._raw[0] and self._prepare.options.size is None:
            raise DataError(
                "{}: {}x{} pixels (height x width), but {} has {}x{}; --size H W resizes all to "
                "one size".format(name, *size, first, *self._raw[0])
            )
        if product is not self._product:
            own, other = (p.name if p else "no known product" for p in (product, self._product))
            raise DataError(f"{name}: {own}, but {first} is {other}")
        if dtype != self._raw[1]:
            raise DataError(f"{name}: {dtype} values, but {first} has {self._raw[1]}")

    def _check(self, decode: bool, skip: bool) -> None:
        """Reads every picture once."""
        findings = check_pictures(
            self._runs(),
            self._pictures if decode else None,
            self._look,
            lambda run: printable(self.path(run[0], run[1][0])),
            skip,
        )
        converted = findings.colour[not self._colour]
        if converted and self._as_first:
            kinds = ("grey", "colour") if self._colour else ("colour", "grey")
            self.notes.append(
                f"{kinds[0]} pictures read as {kinds[1]}, as the first is: {converted}"
            )
        if findings.transparent:
            self.notes.append(f"pictures whose transparency is left out: {findings.transparent}")
        if findings.refused:
            example = next(iter(findings.refused.values()))
            self.notes.append(
                f"bad frames skipped: {len(findings.refused)}, e.g. {example}; "
                "no window touches one"
            )
            # Each file of a path list was read once; in all its places it is bad.
            reasons = {self._key(*place): why for place, why in findings.refused.items()}
            self.bad = self._places(reasons)
        self.details = findings.details(self._count())

    def _look(self, sequence: int, frame: int) -> tuple[PictureHeader, int] | None:
        """A frame's header, compared with the first, and the number of frames that it is of."""
        chosen = self.sequences[sequence]
        if chosen.pages is not None and frame:
            return None  # The header is that of the file, and was looked at with its first page.
        header = read_header(chosen.path(frame))
        self._compare(chosen, frame, (header.height, header.width), header.dtype, header.product)
        return header, chosen.pages or 1

    def _runs(self) -> Iterator[Run]:
        """The frames of each sequence, a few at a time; every file of a path list once."""
        seen: set[int] = set()
        for sequence, length in enumerate(self.lengths):
            frames: Sequence[int] = range(length)
            if self._files is not None:
                new = {n: frame for frame, n in enumerate(self._files[sequence]) if n not in seen}
                frames = list(new.values())
                seen.update(new)
            # The pages of a file all at once: those of a GIF are drawn on the ones before.
            paged = self.sequences[sequence].pages is not None
            step = length if paged else CHECKED_AT_ONCE
            for start in range(0, len(frames), step):
                yield sequence, frames[start : start + step]

    def _places(self, reasons: dict[tuple[int, int], str]) -> dict[int, dict[int, str]]:
        """Every frame that shows a refused picture: in a path list, maybe of several lines."""
        places: dict[int, dict[int, str]] = {}
        for sequence, length in enumerate(self.lengths):
            keys = ((frame, self._key(sequence, frame)) for frame in range(length))
            bad = {frame: reasons[key] for frame, key in keys if key in reasons}
            if bad:
                places[sequence] = bad
        return places


def _is_path_list(root: Path) -> bool:
    """True if the file's name says that it is a path list."""
    return root.suffix.lower() == ".txt"


def _list_pictures(root: Path) -> Listing:
    """The sequences of a folder, a path list or a file of several pages.

    Raises:
      DataError: nothing there, or something else.
    """
    if not root.is_file():
        listed = list_sequences(root)
        split = split_pages(listed.sequences, root)
        return Listing(split.sequences, [*listed.notes, *split.notes])
    if _is_path_list(root):
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
