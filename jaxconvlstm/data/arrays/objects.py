"""Sequences in Python objects: anything with a length and items that are arrays."""

import threading
from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxconvlstm.data.arrays.array_series import Series, Source
from jaxconvlstm.data.arrays.array_stores import LIBRARY_LOCK
from jaxconvlstm.data.arrays.axes import find_layout
from jaxconvlstm.data.arrays.stored_array import Key, OpenArray, StoredArray, in_memory, one_line
from jaxconvlstm.errors import ConfigError, DataError

_BY_RANK = {3: "THW", 4: "THWC"}


def is_array(value: Any) -> bool:
    """Whether a value is an array by itself, not something that holds arrays."""
    return hasattr(value, "shape") and hasattr(value, "dtype") and hasattr(value, "__getitem__")


def from_array(array: Any, axes: str | None) -> list[Series]:
    """The sequences of one array.

    Raises:
      ConfigError: the axes do not fit.
      DataError: the values cannot be read, or the axes are unclear.
    """
    stored = _stored("array", _as_array("array", array))
    layout = find_layout("array", stored.shape, stored.dtype.itemsize, axes)
    return [Series("array", [Source.of(stored, layout)])]


def from_objects(
    objects: Any, axes: str | None, sequences: tuple[int, int] | None, most_bytes: float
) -> tuple[list[Series], int]:
    """One sequence for each item, an array with time in it or a list of frames; and their number.

    Args:
      objects: has `__len__` and `__getitem__`. Used by one thread at a time.
      axes: of each item; by default THW or THWC.
      sequences: the items to use; None for all.
      most_bytes: items are kept in memory if all together take no more.

    Raises:
      ConfigError: the axes do not fit, or `sequences` goes beyond the last item.
      DataError: an item is no array, or of another kind than can be read; its index is named.
    """
    if isinstance(objects, Mapping | str | bytes) or not (
        hasattr(objects, "__len__") and hasattr(objects, "__getitem__")
    ):
        raise DataError(
            f"data: a {type(objects).__name__} is neither an array nor a list of arrays"
        )
    count = len(objects)
    first, stop = sequences or (0, count)
    if stop > count:
        raise ConfigError(f"--sequences {first} {stop}: the data hold {count} sequences")
    items = _Items(objects)
    series = [_series(items, index, axes) for index in range(first, stop)]
    size = sum(source.nbytes for each in series for source in each.sources if source is not None)
    items.keeps = size <= most_bytes
    return series, count


class _Items:
    """Items of an object that need not be safe from several threads."""

    def __init__(self, objects: Any):
        self.objects = objects
        self.keeps = isinstance(objects, list | tuple)
        self.lock = threading.RLock()
        self._kept: dict[int, np.ndarray] = {}

    def get(self, index: int) -> Any:
        """An item as an array or a list."""
        kept = self._kept.get(index)
        if kept is not None:
            return kept
        name = f"sequence {index}"
        try:
            with self.lock:
                item = self.objects[index]
        # Whatever the user's code raises.
        except Exception as error:
            raise DataError(f"{name}: {type(error).__name__}: {one_line(error)}") from error
        if isinstance(item, list | tuple):
            return item
        array = _as_array(name, item)
        if self.keeps and isinstance(array, np.ndarray):
            self._kept[index] = array
        return array


def _series(items: _Items, index: int, axes: str | None) -> Series:
    item, name = items.get(index), f"sequence {index}"
    if not isinstance(item, list | tuple):
        shape = tuple(item.shape)
        wanted = _BY_RANK.get(len(shape)) if axes is None else axes
        if wanted is None or "N" in wanted:
            raise DataError(
                f"{name}: shape {list(shape)}; an item is one sequence, [time, height, width] or "
                "[time, height, width, channels]"
            )
        stored = _item(items, index, None, item)
        layout = find_layout(name, shape, stored.dtype.itemsize, wanted)
        return Series(str(index), [Source.of(stored, layout)])
    if not item:
        raise DataError(f"{name}: holds no frames")
    sources: list[Source | None] = []
    for number, frame in enumerate(item):
        label = f"{name}, frame {number}"
        array = _as_array(label, frame)
        wanted = (axes or "THWC").replace("T", "")[: len(array.shape)]
        if len(array.shape) not in (2, 3) or len(wanted) != len(array.shape):
            raise DataError(
                f"{label}: shape {list(array.shape)}; a frame is [height, width] or "
                "[height, width, channels]"
            )
        stored = _item(items, index, number, array)
        sources.append(
            Source.of(
                stored, find_layout(label, array.shape, stored.dtype.itemsize, wanted, (), True)
            )
        )
    return Series(str(index), sources)


def _item(items: _Items, index: int, number: int | None, array: Any) -> StoredArray:
    """An item, or a frame of one, that is got anew for each reading."""
    name = f"sequence {index}" + ("" if number is None else f", frame {number}")
    if isinstance(items.objects, list | tuple) and isinstance(array, np.ndarray):
        return in_memory(name, array)
    seen = _stored(name, array)

    def get(key: Key) -> np.ndarray:
        found = items.get(index)
        if number is not None:
            found = _as_array(name, found[number])
        if not is_array(found) or tuple(found.shape) != seen.shape or found.dtype != seen.dtype:
            raise DataError(f"{name}: its shape or dtype has changed since it was first seen")
        if isinstance(found, np.ndarray):
            return found[key]
        return _stored(name, found).open().get(key)

    opened = OpenArray(get)
    return StoredArray(name, seen.shape, seen.dtype, lambda: opened)


def _stored(name: str, array: Any) -> StoredArray:
    if isinstance(array, np.ndarray):
        return in_memory(name, array)
    dtype = np.dtype(array.dtype)

    def get(key: Key) -> np.ndarray:
        try:
            with LIBRARY_LOCK:  # It may well be of h5py or netCDF4.
                values = np.asarray(_filled(name, array[key]))
        except DataError:
            raise
        except Exception as error:
            raise DataError(f"{name}: {type(error).__name__}: {one_line(error)}") from error
        if values.dtype != dtype:
            raise DataError(f"{name}: says that it holds {dtype}, but gave {values.dtype} values")
        return values

    opened = OpenArray(get)
    return StoredArray(name, tuple(array.shape), dtype, lambda: opened)


def _as_array(name: str, value: Any) -> Any:
    """A NumPy array, or something that is sliced like one.

    Raises:
      DataError: neither.
    """
    if isinstance(value, np.ndarray):
        return np.asarray(_filled(name, value))
    if not is_array(value):
        raise DataError(f"{name}: a {type(value).__name__} is no array")
    try:
        # Arrays of other libraries that are in memory share it, or are copied, as a whole.
        value = np.asarray(value) if hasattr(value, "__dlpack__") else value
        np.dtype(value.dtype)
        len(value.shape)
    except Exception as error:
        raise DataError(f"{name}: {type(error).__name__}: {one_line(error)}") from error
    return value


def _filled(name: str, values: Any) -> Any:
    """Masked values as NaN."""
    if not np.ma.isMaskedArray(values):
        return values
    if values.dtype.kind == "f":
        return values.filled(np.nan)
    if np.ma.getmaskarray(values).any():
        raise DataError(f"{name}: masked {values.dtype} values; fill them, or make them floats")
    return values.data
