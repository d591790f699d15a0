"""Numbers and times in the names of frames: their order, and where frames are missing."""

import itertools
import re
from array import array
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from jaxconvlstm.data.sources.images.listing import PictureSequence
from jaxconvlstm.data.sources.timestamps import SECOND, read_times, time_forms, to_microseconds
from jaxconvlstm.errors import DataError
from jaxconvlstm.messages import printable

GAP = 1.5
"""Frames further apart than this many typical steps have others missing between them."""
AFTER_GAPS = "no window crosses one (--allow-gaps lets them)"
GAPS_ALLOWED = "windows may cross them (--allow-gaps)"
LONG_NUMBER = 10**7
"""Numbers from here on may be times of a form that is not recognised."""
LEAST_FRACTION = 0.2
"""The typical step is the smallest one that makes up at least this fraction of all."""

_DIGITS = re.compile("[0-9]+")


class Gaps(NamedTuple):
    """The gaps that the names of a sequence's frames tell.

    Attributes:
      positions: of the frames before which others are missing.
      missing: number of frames missing, at the typical step.
      step: the typical one, in microseconds for times; 0 where there is none.
      kind: "number", or how the names tell the time, as in strftime; "" if they say nothing.
      repeated: positions of the frames that have the same number or time as the one before.
      last: the highest number or time.
    """

    positions: np.ndarray
    missing: int
    step: int
    kind: str
    repeated: Sequence[int] = ()
    last: int = 0


NOTHING = Gaps(np.zeros(0, np.int64), 0, 0, "")


def find_gaps(names: Iterable[str], time_format: str | None = None) -> Gaps:
    """The gaps in the numbers or times of a sequence's frames.

    Args:
      names: of all frames in order, without their extensions.
      time_format: how they tell the time, as in strftime, maybe between other text. By default
        common forms are recognised; other names are numbered if a single number varies.

    Raises:
      ConfigError: a format that cannot be read.
      DataError: a name that is not of the format.
    """
    if time_format is not None:
        return gaps_in(read_times(names, time_format), time_format)
    return gaps_in(*_read_numbers(names))


class Numbering(NamedTuple):
    """The order and the gaps that the names of all sequences tell.

    Attributes:
      sequences: with their frames in order of time, if a format was given.
      gaps: for each sequence with gaps, their positions.
      notes: a line each: forms that were recognised, gaps, and sequences without numbers.
    """

    sequences: list[PictureSequence]
    gaps: dict[int, list[int]]
    notes: list[str]


def number_frames(
    sequences: Sequence[PictureSequence],
    time_format: str | None = None,
    after_gaps: str = AFTER_GAPS,
) -> Numbering:
    """Looks for gaps in all sequences but those of a file's pages.

    Args:
      sequences: of files.
      time_format: see `find_gaps`.
      after_gaps: what the note says is done about them.

    Raises:
      ConfigError: a format that cannot be read.
      DataError: a name that is not of the format.
    """
    ordered = list(sequences)
    gaps: dict[int, list[int]] = {}
    missing, silent, example, hint = 0, 0, "", ""
    repeated: list[str] = []
    steps: dict[str, list[int]] = {}
    for index, sequence in enumerate(sequences):
        if sequence.pages is not None:
            continue
        # Not a list: a million more texts would take as much memory as the names themselves.
        stems = (name[: name.rfind(".")] for name in sequence.files)
        if time_format is None:
            found = find_gaps(stems)
        else:
            ordered[index], times = _by_time(sequence, stems, time_format)
            found = gaps_in(times, time_format)
        if found.kind:
            steps.setdefault(found.kind, []).append(found.step)
        elif len(sequence.files) > 1:
            silent += 1
        repeated += [ordered[index].frame_path(frame) for frame in found.repeated]
        if len(found.positions):
            if found.kind == "number" and found.last >= LONG_NUMBER:
                hint = "; --time-format reads times instead"
            gaps[index] = found.positions.tolist()
            missing += found.missing
            example = example or ordered[index].frame_path(gaps[index][0])
    notes = [_description(kind, found) for kind, found in steps.items()]
    if gaps:
        count = sum(map(len, gaps.values()))
        notes.append(
            f"gaps in numbering: {count} ({missing} frames missing), e.g. before {example}; "
            f"{after_gaps}{hint}"
        )
    if repeated:
        notes.append(
            f"files with the same number or time as another: {len(repeated)}, e.g. {repeated[0]}"
        )
    if silent:
        notes.append(f"numbering of {silent} sequences says nothing about gaps")
    return Numbering(ordered, gaps, [note for note in notes if note])


def _by_time(
    sequence: PictureSequence, stems: Iterable[str], time_format: str
) -> tuple[PictureSequence, np.ndarray]:
    """The sequence in order of time, and its times."""
    try:
        times = read_times(stems, time_format)
    except DataError as error:
        raise DataError(f"{printable(sequence.folder)}/{error}") from None
    order = np.argsort(times, kind="stable")  # Frames of one time keep the order of their names.
    if (np.diff(order) < 0).any():
        sequence = sequence._replace(files=[sequence.files[i] for i in order])
    return sequence, times[order]


def gaps_in(values: np.ndarray, kind: str) -> Gaps:
    """The gaps in rising integers."""
    steps = np.diff(values)
    repeated = (np.flatnonzero(steps == 0) + 1).tolist()
    if repeated:
        return NOTHING._replace(repeated=repeated)
    if not len(steps) or not (steps > 0).all():  # Below 0: the difference was beyond 64 bits.
        return NOTHING
    sizes, counts = np.unique(steps, return_counts=True)
    # Neither the smallest step, which may be a slip of the clock, nor the most common: where most
    # of the frames are missing, that would be the length of a gap.
    common = sizes[counts >= LEAST_FRACTION * len(steps)]
    if not len(common):
        return NOTHING
    step = int(common[0])
    positions = np.flatnonzero(steps > GAP * step)
    missing = int((np.rint(steps[positions] / step) - 1).sum())
    return Gaps(positions + 1, missing, step, kind, last=int(values[-1]))


def _read_numbers(names: Iterable[str]) -> tuple[np.ndarray, str]:
    """The number or time that varies in the names, and its kind; none where several vary."""
    nothing = NOTHING.positions, ""
    names = iter(names)
    first = next(names, "")
    texts = _DIGITS.split(first)
    if len(texts) == 1:
        return nothing
    # All names must be of the same text around as many numbers.
    match = re.compile("([0-9]+)".join(map(re.escape, texts))).fullmatch
    flat, digits = array("q"), array("H")
    for name in itertools.chain((first,), names):
        found = match(name)
        if found is None:
            return nothing
        groups = found.groups()
        digits.extend(map(len, groups))
        try:
            flat.extend(map(int, groups))
        except (OverflowError, ValueError):  # Beyond 64 bits: no number of a frame.
            return nothing
    values = np.frombuffer(flat, np.int64).reshape(-1, len(texts) - 1)
    lengths = np.frombuffer(digits, np.uint16).reshape(values.shape)
    # [name, number]: a number that is the same everywhere, like a version, says nothing.
    varies = (values != values[0]).any(axis=0)
    fixed = (lengths == lengths[0]).all(axis=0)

    for form in time_forms(texts, np.where(fixed, lengths[0], 0).tolist()):
        inside = slice(form.start, form.stop)
        if varies.any() and varies[inside].sum() == varies.sum():
            times = to_microseconds(values[:, inside], form)
            if times is not None:
                return times, form.format
    return (values[:, varies.argmax()], "number") if varies.sum() == 1 else nothing


def _description(kind: str, steps: list[int]) -> str:
    """A note on numbers or times; empty for frames counted one by one."""
    apart = Counter(steps)
    if kind == "number":
        if apart.keys() == {1}:
            return ""
        count = len(steps) - apart[1]
        common = max((step for step in apart if step != 1), key=apart.__getitem__)
        return f"sequences numbered in steps other than 1: {count}, e.g. steps of {common}"
    smallest, largest = min(steps), max(steps)
    range_of = "" if smallest == largest else f"{_duration(smallest)} to "
    return f"times read from names as {printable(kind)}, {range_of}{_duration(largest)} apart"


def _duration(microseconds: int) -> str:
    seconds = microseconds / SECOND
    for length, unit in ((86400, "days"), (3600, "h"), (60, "min")):
        if seconds >= length and seconds % length == 0:
            count = int(seconds // length)
            return "1 day" if (count, unit) == (1, "days") else f"{count} {unit}"
    return f"{seconds:g} s"
