"""Arrays as sequences of frames: NumPy, HDF5, netCDF and Zarr files, and Python objects."""

import dataclasses
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxconvlstm.config.data import SourceOptions
from jaxconvlstm.data.preprocess import Preparation
from jaxconvlstm.data.sources.arrays import objects
from jaxconvlstm.data.sources.arrays.array_gaps import find_gaps
from jaxconvlstm.data.sources.arrays.array_reader import WHOLE, ArrayReader
from jaxconvlstm.data.sources.arrays.array_search import search_frames
from jaxconvlstm.data.sources.arrays.array_series import Series, Source, choose_from, from_path
from jaxconvlstm.data.sources.arrays.array_values import describe_bad, first_bad
from jaxconvlstm.data.sources.base import FrameCache, Frames, Region
from jaxconvlstm.data.sources.split_folders import splits_of_folders
from jaxconvlstm.errors import ConfigError, DataError
from jaxconvlstm.messages import printable

CHECK_ALL_UP_TO = 2**30
"""Bytes of values that are all searched for NaN before training, unless the user says otherwise."""
BLOCK_BYTES = 2**25
"""Bytes searched at a time."""


class ArrayFrames(Frames):
    """The frames of an array, of several, or of a folder of files of them.

    Files are opened, not loaded: reading takes only the frames and the region asked for, from a
    memory map (.npy) or by the file's library. What a library would have to decompress over and
    over is loaded, if all of it fits in the memory allowed; of .npz files, each as it is read.
    """

    def __init__(self, source: Any, config: SourceOptions):
        """Looks at the arrays and, by default, searches up to 1 GiB of floats for NaN.

        With `config.check_files` "all" all values are read now; "headers" and "none" read none.
        `config.allow_gaps` and `time_format` are about the numbers and times in the names of files
        of one frame each, and about time coordinates.

        Args:
          source: a file (.npy, .npz, .h5, .nc, .zarr), a folder of such files, an array, or any
            object with `__len__` and `__getitem__` whose items are sequences: arrays
            `[time, height, width]` or `[time, height, width, channels]`, or lists of frames.
          config: how arrays are read and prepared.

        Raises:
          ConfigError: `axes` does not fit the data; or a time format that cannot be read, or where
            no frames are files of their own.
          DataError: missing, damaged, unclear, values that are refused, or fewer sequences.
        """
        super().__init__()
        self._config = config
        self._prepare = Preparation(config)
        # The same without resizing: each pixel by itself.
        self._by_pixel = Preparation(dataclasses.replace(config, size=None, fit="stretch"))
        self._refuse, self._checked = config.nan == "error", False
        most_bytes = config.cache * 2**30
        self._series = self._find(source, most_bytes)
        self._set_shape()
        self._describe()
        self._name_sequences()
        self.gaps, notes = find_gaps(self._series, config.time_format, config.allow_gaps)
        self.notes += notes
        searched = config.on_bad_frame == "skip" or self._to_be_searched()
        self._reader = ArrayReader(self._series, self._raw_dtype, most_bytes)
        if config.check_files in (None, "all") and self._reader.load_small():
            self.details["reading"] = "loaded into memory"
        frame_bytes = int(np.prod(self.frame_shape)) * self.dtype.itemsize
        self._cache = FrameCache(sum(self.lengths), frame_bytes, most_bytes)
        if searched:
            self._search()

    def read(
        self, sequence: int, frames: Sequence[int], region: Region | None = None
    ) -> np.ndarray:
        """See `Frames.read`."""
        if self._resizes:
            return self._read_resized(sequence, frames, region)
        values = self._read(sequence, frames, WHOLE if region is None else region)
        if not self._prepare.changes_pixels:
            return values
        # All frames at once, as one tall frame [time * height, width, channels].
        time, height, width, channels = values.shape
        prepared = self._by_pixel(values.reshape(time * height, width, channels))
        return prepared.reshape(time, height, width, -1)

    def _read_resized(
        self, sequence: int, frames: Sequence[int], region: Region | None
    ) -> np.ndarray:
        found: dict[int, np.ndarray] = {}
        missing = []
        for frame in frames:
            kept = self._cache.get(sequence, frame)
            if kept is None:
                missing.append(frame)
            else:
                found[frame] = kept
        # Frames of one size are read together, others one by one.
        for together in [missing] if self._alike else [[frame] for frame in missing]:
            values = self._read(sequence, together, WHOLE) if together else ()
            for frame, pixels in zip(together, values):
                # A copy, lest a frame that stays as it is keeps all the others in memory.
                found[frame] = np.array(self._prepare(pixels))
                self._cache.put(sequence, frame, found[frame])
        return np.stack([found[f] if region is None else found[f][region] for f in frames])

    def _read(self, sequence: int, frames: Sequence[int], region: Region) -> np.ndarray:
        """Frames before their preparation, searched for NaN."""
        values = self._reader.read(sequence, frames, region)
        # Once all values were searched, reading need not look again.
        if self._refuse and not self._checked:
            where = first_bad(values, self.nan_is_missing)
            if where is not None:
                sides = zip(region, self._raw_shape)
                top, left = (side.indices(size)[0] for side, size in sides)
                raise DataError(
                    f"{self._reader.place(sequence, [frames[where[0]]])}: "
                    f"{describe_bad(values, where, top, left)}; --nan mask leaves such pixels out"
                )
        return values

    def _find(self, source: Any, most_bytes: float) -> list[Series]:
        """The arrays of the sequences asked for."""
        config = self._config
        axes, variable = config.axes, config.variable
        found: list[Series] | None = None
        if isinstance(source, str | os.PathLike):
            found, notes = from_path(Path(source), axes, variable, config.on_bad_frame)
            self.notes += notes
        elif variable is not None:
            raise ConfigError(f"--variable {variable}: has no effect on data in memory")
        elif objects.is_array(source):
            found = objects.from_array(source, axes)
        count = objects.count(source) if found is None else sum(each.stop for each in found)
        place = printable(source) if isinstance(source, str | os.PathLike) else "data"
        used = self._choose_sequences(count, config.sequences, place)
        if found is None:
            # Only those used are asked for: an item may be loaded by getting it.
            found = objects.from_objects(source, axes, used, most_bytes)
        else:
            found = choose_from(found, used)
        if not found:
            raise DataError("data: no sequences")
        return found

    def _sources(self) -> Iterator[Source]:
        for series in self._series:
            yield from (source for source in series.sources if source is not None)

    def _set_shape(self) -> None:
        """The shape and dtype of all frames, which must be alike."""
        first = self._series[0].any_source
        for series in self._series:
            for index, source in enumerate(series.sources):
                unlike = source and self._unlike(source, first)
                if not unlike:
                    continue
                if self._config.on_bad_frame == "error" or series.whole is not None:
                    raise DataError(unlike)
                series.bad[index], series.sources[index] = unlike, None
            if not any(series.sources):
                raise DataError(f"{series.name}: no frame can be used, e.g. {series.bad[0]}")
        self._raw_shape, self._raw_dtype = first.layout.frame_shape, first.dtype
        self.frame_shape = self._prepare.shape(self._raw_shape)
        self.dtype = self._prepare.dtype(self._raw_dtype)
        sizes = {source.layout.frame_shape[:2] for source in self._sources()}
        self._alike = len(sizes) == 1
        size = self._config.size
        self._resizes = size is not None and sizes != {size}
        # Refuses channels that cannot be made.
        self._by_pixel(np.zeros((1, 1, self._raw_shape[2]), self._raw_dtype))

    def _unlike(self, source: Source, first: Source) -> str | None:
        """The difference of an array from the first one, as an error says it; None if alike."""
        name, other = source.stored.name, first.stored.name
        if source.dtype != first.dtype:
            return f"{name}: {source.dtype} values, but {other} has {first.dtype}"
        shape, wanted = source.layout.frame_shape, first.layout.frame_shape
        if shape == wanted or (self._config.size is not None and shape[2] == wanted[2]):
            return None
        return (
            "{}: frames of {}x{}x{} (height x width x channels), but {} has {}x{}x{}"
            "; --size H W resizes all to one size".format(name, *shape, other, *wanted)
        )

    def _describe(self) -> None:
        """Notes on what was assumed and converted, unit and details."""
        tally: dict[str, list[str]] = {}
        units: dict[str | None, None] = {}
        for source in self._sources():
            stored = source.stored
            units[stored.unit] = None
            self.nan_is_missing |= stored.marks_missing
            shown = f"{stored.name} {list(stored.shape)}"
            tally.setdefault(f"read as {source.layout.axes}", []).append(shown)
            for remark in source.remarks:
                tally.setdefault(remark, []).append(stored.name)
        for text, names in tally.items():
            axes = text.startswith("read as ")
            if len(names) == 1:
                self.notes.append(f"axes of {names[0]} {text}" if axes else f"{names[0]}: {text}")
            else:
                what = f"axes {text}" if axes else text
                self.notes.append(f"{what}: {len(names)} arrays, e.g. {names[0]}")
        if all(source.stored.dtype == bool for source in self._sources()):
            self.value_range = 0.0, 1.0
        if len(units) > 1:
            listed = ", ".join("none" if unit is None else unit for unit in units)
            self.notes.append(f"units of the arrays differ, so none is assumed: {listed}")
        else:
            self.unit = next(iter(units))
        stored = self._series[0].any_source.stored
        self.details["array"] = f"{stored.name} {list(stored.shape)} {stored.dtype}"
        count = sum(1 for _ in self._sources())
        if count > 1:
            self.details["array"] += f", the first of {count}"

    def _name_sequences(self) -> None:
        names = [name for series in self._series for name in series.names()]
        if len(set(names)) < len(names):
            names = [f"{name} ({index})" for index, name in enumerate(names)]
        counts = [series.stop - series.first for series in self._series]
        self.names = names
        self.lengths = [
            length
            for length, count in zip((series.length for series in self._series), counts)
            for _ in range(count)
        ]
        inside = [tuple(map(printable, series.folder.parts)) for series in self._series]
        self.folders = [folders for folders, count in zip(inside, counts) for _ in range(count)]
        self.splits, notes = splits_of_folders(self.folders)
        self.notes += notes

    def _to_be_searched(self) -> bool:
        """True if all values are to be read now, so that faults are met before training."""
        check_files = self._config.check_files
        if check_files in ("headers", "none"):
            return False
        may_fail = any(
            (self._refuse and source.dtype.kind == "f")
            or (check_files == "all" and source.stored.dtype != source.dtype)
            or source.stored.reading != "direct"
            for source in self._sources()
        )
        size = sum(source.nbytes for source in self._sources())
        return may_fail and (check_files == "all" or size <= CHECK_ALL_UP_TO)

    def _search(self) -> None:
        """Reads every frame once, and lists or raises what is bad."""
        size = max(1, BLOCK_BYTES // (int(np.prod(self._raw_shape)) * self._raw_dtype.itemsize))
        bad = search_frames(
            lambda sequence, frames: self._read(sequence, frames, WHOLE),
            self._reader.place,
            self.lengths,
            size if self._alike else 1,
            skip=self._config.on_bad_frame == "skip",
        )
        self.bad, self._checked = bad, True
        count = sum(map(len, bad.values()))
        if count:
            example = next(iter(next(iter(bad.values())).values()))
            if count == sum(self.lengths):
                raise DataError(f"no frame can be used, e.g. {example}")
            self.notes.append(f"frames that cannot be used: {count}, e.g. {example}")
