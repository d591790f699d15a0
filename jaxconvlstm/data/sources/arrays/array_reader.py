"""Reads frames of numbered sequences from the arrays that hold them."""

import itertools
from bisect import bisect_right
from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxconvlstm.data.sources.arrays.array_series import Series, Source
from jaxconvlstm.data.sources.arrays.array_values import convert
from jaxconvlstm.data.sources.arrays.axes import Layout
from jaxconvlstm.data.sources.arrays.stored_array import OpenFiles, in_memory
from jaxconvlstm.data.sources.base import Region
from jaxconvlstm.errors import DataError

WHOLE = (slice(None), slice(None))
"""The region that is the whole frame."""


class ArrayReader:
    """The sequences of several series, numbered from 0.

    Args:
      series: all of one dtype and, unless each frame is read alone, one frame shape.
      dtype: that values are read as.
      most_bytes: memory that open files may keep.
    """

    def __init__(self, series: Sequence[Series], dtype: np.dtype[Any], most_bytes: float):
        self._series, self._dtype, self._most_bytes = series, dtype, most_bytes
        self._files = OpenFiles(most_bytes=most_bytes)
        counts = [each.stop - each.first for each in series]
        self._starts = [0, *itertools.accumulate(counts)][:-1]

    def read(self, sequence: int, frames: Sequence[int], region: Region = WHOLE) -> np.ndarray:
        """Frames before their preparation, `[time, height, width, channels]`, not to be written to.

        Raises:
          DataError: the file cannot be read, or a value does not fit the dtype.
        """
        series, number = self._locate(sequence)
        try:
            pieces = self._pieces(series, number - series.offset, frames, region)
            if len(pieces) == 1:
                values = convert(pieces[0], self._dtype)
            else:
                values = np.concatenate([convert(piece, self._dtype) for piece in pieces])
        except DataError:
            raise
        except ValueError as error:
            raise DataError(f"{self.place(sequence, frames)}: {error}") from error
        except MemoryError as error:
            place = self.place(sequence, frames)
            raise DataError(f"{place}: needs more memory than there is") from error
        if len(values) != len(frames):
            raise IndexError(f"{self.place(sequence, frames)}: no such frames")
        return values

    def place(self, sequence: int, frames: Sequence[int]) -> str:
        """Names some frames of a sequence, with their file."""
        series, number = self._locate(sequence)
        source = series.any_source
        within = f", sequence {number}" if "N" in source.layout.axes else ""
        if series.whole is None:
            return f"{(series.sources[frames[0]] or source).stored.name}{within}"
        several = f"s {frames[0]} to {frames[-1]}" if len(frames) > 1 else f" {frames[0]}"
        return f"{source.stored.name}{within}, frame{several}"

    def load_small(self) -> bool:
        """Loads what a library would have to decompress anew for each window, if it all fits.

        Raises:
          DataError: a file is damaged.
        """
        # Of sequences that are not used nothing is loaded, so they do not count.
        size, slow = 0.0, []
        for series in self._series:
            fraction = (series.stop - series.first) / series.any_source.layout.size("N")
            for index, source in enumerate(series.sources):
                if source is not None and source.stored.reading == "library":
                    slow.append((series, index, source))
                    size += fraction * source.nbytes
        if not slow or size > self._most_bytes:
            return False
        for series, index, source in slow:
            axes, chosen = source.layout.axes, slice(series.first, series.stop)
            key = tuple(chosen if letter == "N" else slice(None) for letter in axes)
            stored = in_memory(source.stored.name, source.stored.open().get(key))
            series.sources[index] = Source(stored, Layout(stored.shape, axes), source.dtype, ())
            series.offset = series.first
        return True

    def _locate(self, sequence: int) -> tuple[Series, int]:
        """The series of a sequence, and its number along the axis N."""
        index = bisect_right(self._starts, sequence) - 1
        series = self._series[index]
        return series, sequence - self._starts[index] + series.first

    def _pieces(
        self, series: Series, number: int, frames: Sequence[int], region: Region
    ) -> list[np.ndarray]:
        rows, columns = region
        whole = series.whole
        if whole is not None:
            cut = self._files.cut(whole.stored, whole.layout)
            return [cut(number, times, rows, columns) for times in runs(frames)]
        pieces = []
        for frame in frames:
            one = series.sources[frame]
            if one is None:
                raise DataError(series.bad[frame])
            cut = self._files.cut(one.stored, one.layout)
            pieces.append(cut(number, slice(None), rows, columns))
        return pieces


def runs(frames: Sequence[int]) -> list[slice]:
    """Frame numbers as slices: one, if they rise evenly."""
    if isinstance(frames, range) and frames.step > 0:
        return [slice(frames.start, frames.stop, frames.step)]
    if len(frames) == 0:
        return [slice(0, 0)]
    first, last = int(frames[0]), int(frames[-1])
    step = int(frames[1]) - first if len(frames) > 1 else 1
    even = range(first, last + 1, step) if step > 0 else range(0)
    if list(frames) == list(even):
        return [slice(first, last + 1, step)]
    found = []
    start = 0
    for index in range(1, len(frames) + 1):
        if index == len(frames) or frames[index] != frames[index - 1] + 1:
            found.append(slice(int(frames[start]), int(frames[index - 1]) + 1))
            start = index
    return found
