"""The interface of every source of real data: sequences of frames of one shape and dtype."""

import abc
import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from jaxconvlstm.errors import DataError

SplitName = Literal["train", "val", "test"]
CHECK_ALL_UP_TO = 10_000
"""Pictures or frames of videos that are all decoded before training, unless the user says no."""

Region = tuple[slice, slice]
"""Rows and columns of a part of the frames."""

Window = tuple[np.ndarray, np.ndarray]
"""The inputs of a window, and its targets: frames, or a class; see `dataset.Windows.read`."""


class Segment(NamedTuple):
    """The frames `start` to `stop - 1` of a sequence."""

    sequence: int
    start: int
    stop: int


class Frames(abc.ABC):
    """Sequences of frames. Reading is safe from several threads.

    Attributes:
      names: the sequences' names, unlike each other and printable, in order.
      lengths: number of frames of each sequence.
      frame_shape: `(height, width, channels)` of every frame, as `read` gives it.
      dtype: of every frame, as `read` gives it: of at most 32 bits, in native byte order.
      notes: one line each for what was left out, converted or assumed, with counts.
      gaps: positions in a sequence before which frames are missing. No window crosses one.
      bad: frames of a sequence that cannot be used, and why. No window touches one.
      folders: for each sequence the printable names of the folders that it lies in, below the one
        that was opened, from the outermost in; None where the data lie in no folders.
      splits: for each sequence the split that the names of its folders put it in, or None where
        they say nothing.
      groups: for each sequence the number of its group; sequences that share frames are in one
        group and must not be in different splits, and none is divided. None where no frame is in
        two sequences, or twice in one.
      unit: of the values, e.g. "dBZ", where the data name it.
      value_range: lowest and highest value, where the data say it: 0 and 1 for truth values.
      nan_is_missing: the data themselves mark missing values, which are read as NaN.
      details: what `inspect` prints beside the counts, e.g. `{"files": "PNG", "modes": "RGB 40"}`.
    """

    names: Sequence[str]
    lengths: Sequence[int]
    frame_shape: tuple[int, int, int]
    dtype: np.dtype[Any]
    notes: list[str]
    gaps: Mapping[int, Sequence[int]]
    bad: Mapping[int, Mapping[int, str]]
    folders: Sequence[tuple[str, ...]] | None = None
    splits: Sequence[SplitName] | None = None
    groups: Sequence[int] | None = None
    unit: str | None = None
    value_range: tuple[float, float] | None = None
    nan_is_missing: bool = False
    details: dict[str, str]

    def __init__(self) -> None:
        self.notes, self.gaps, self.bad, self.details = [], {}, {}, {}

    @abc.abstractmethod
    def read(
        self, sequence: int, frames: Sequence[int], region: Region | None = None
    ) -> np.ndarray:
        """Some frames `[time, height, width, channels]`, or a region of them; not to be written to.

        Raises:
          DataError: a frame is gone, damaged, holds NaN where that is refused, or is unlike the
            first one; the message names the file and frame.
        """

    def frame_name(self, sequence: int, frame: int) -> str:
        """The data's own name of a frame: that of its file, or its time; else its number."""
        del sequence
        return str(frame)

    def _choose_sequences(self, count: int, chosen: tuple[int, int] | None, place: str) -> range:
        """The numbers of the sequences to use, with a note: `--sequences FIRST STOP`, or all.

        Args:
          count: number of sequences that there are.
          chosen: the first number, and the one after the last; None for all.
          place: where they are, for the error.

        Raises:
          DataError: there are not so many.
        """
        if chosen is None:
            return range(count)
        first, stop = chosen
        if stop > count:
            raise DataError(
                f"{place}: --sequences {first} {stop}: there are only {count}, counted from 0"
            )
        self.notes.append(f"sequences {first} to {stop - 1} of {count} used (--sequences)")
        return range(first, stop)

    def segments(self) -> list[Segment]:
        """The runs of usable frames without a gap, in order."""
        found = []
        for sequence, length in enumerate(self.lengths):
            bad = self.bad.get(sequence, {})
            # A segment ends at a gap, and before and after each bad frame.
            cuts = {0, length, *self.gaps.get(sequence, ()), *bad, *(frame + 1 for frame in bad)}
            ends = sorted(cuts)
            found += [
                Segment(sequence, start, stop)
                for start, stop in itertools.pairwise(ends)
                if start not in bad
            ]
        return found


class FrameCache:
    """Decoded frames by `(sequence, frame)`, kept if all of them together fit.

    Args:
      frames: number of frames that there are in all.
      frame_bytes: bytes of one.
      limit: bytes that may be kept.
    """

    def __init__(self, frames: int, frame_bytes: int, limit: float):
        # All or nothing, so that nothing ever has to be thrown out.
        self.keeps = frames * frame_bytes <= limit
        self._frames: dict[tuple[int, int], np.ndarray] = {}

    def get(self, sequence: int, frame: int) -> np.ndarray | None:
        """The frame, if it was kept."""
        return self._frames.get((sequence, frame))

    def put(self, sequence: int, frame: int, pixels: np.ndarray) -> None:
        """Keeps a frame, which nobody may write to from now on."""
        # Windows that overlap share it: a change of one would show in the other.
        pixels.flags.writeable = False
        if self.keeps:
            self._frames[sequence, frame] = pixels


def stack(frames: Iterable[np.ndarray], region: Region | None = None) -> np.ndarray:
    """Frames `[height, width, channels]`, or a region of each, as one new array."""
    return np.stack([frame if region is None else frame[region] for frame in frames])
