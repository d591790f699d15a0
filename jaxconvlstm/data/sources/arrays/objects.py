"""Sequences in Python objects: anything with a length and items that are arrays."""

import threading
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import numpy as np

from jaxconvlstm.data.sources.arrays.array_series import Series, Source
from jaxconvlstm.data.sources.arrays.axes import find_layout
from jaxconvlstm.data.sources.arrays.library_arrays import LIBRARY_LOCK
from jaxconvlstm.data.sources.arrays.stored_array import (
    Key,
    OpenArray,
    StoredArray,
    in_memory,
    one_line,
)
from jaxconvlstm.errors import DataError

T = TypeVar("T")

_BY_RANK = {3: "THW", 4: "THWC"}


def is_array(value: Any) -> bool:
    """True if a value is an array by itself, not something that holds arrays."""
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


def count(objects: Any) -> int:
    """Number of items.

    Raises:
      DataError: not an object that has any.
    """
    if isinstance(objects, Mapping | str | bytes) or not (
        hasattr(objects, "__len__") and hasattr(objects, "__getitem__")
    ):
        raise DataError(
            f"data: a {type(objects).__name__} is neither an array nor a list of arrays"
        )
    return len(objects)


def from_objects(objects: Any, axes: str | None, used: range, most_bytes: float) -> list[Series]:
    """One sequence for each item, an array with time in it or a list of frames.

    Args:
      objects: has `__len__` and `__getitem__`. Used by one thread at a time.
      axes: of each item; by default THW or THWC.
      used: the items to use.
      most_bytes: items are kept in memory if all together take no more.

    Raises:
      ConfigError: the axes do not fit.
      DataError: an item is no array, or of another kind than can be read; its index is named.
    """
    items = _Items(objects)

    def look(index: int) -> Series:
        return items.use(index, lambda item: _series(items, index, item, axes))

    series = [look(index) for index in used]
    size = sum(source.nbytes for each in series for source in each.sources if source is not None)
    items.keeps = items.lasting or size <= most_bytes
    return series


class _Items:
    """Items of an object that need not be safe from several threads.

    Attributes:
      lasting: the items stay what they are. Those of any other object may be views of a buffer
        that it fills anew for the next one.
      keeps: whether items that were got are kept.
    """

    def __init__(self, objects: Any):
        self.objects = objects
        self.lasting = self.keeps = isinstance(objects, list | tuple)
        self._lock = threading.RLock()
        self._kept: dict[int, Any] = {}

    def use(self, index: int, then: Callable[[Any], T]) -> T:
        """The result of a function of an item, which is an array or a list, while it lasts."""
        if index in self._kept:
            return then(self._kept[index])
        name = f"sequence {index}"
        with self._lock:
            try:
                item = self.objects[index]
            # Whatever the user's code raises.
            except Exception as error:
                raise DataError(f"{name}: {type(error).__name__}: {one_line(error)}") from error
            if isinstance(item, list | tuple):
                if self.keeps and not self.lasting:
                    item = [
                        self.copied(_as_array(f"{name}, frame {number}", frame))
                        for number, frame in enumerate(item)
                    ]
            else:
                item = _as_array(name, item)
                if self.keeps:
                    item = self.copied(item)
            if self.keeps:
                self._kept[index] = item
            return then(item)

    def copied(self, array: Any) -> Any:
        """An array that lasts."""
        copies = isinstance(array, np.ndarray) and not self.lasting
        return array.copy() if copies else array


def _series(items: _Items, index: int, item: Any, axes: str | None) -> Series:
    name = f"sequence {index}"
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
        layout = find_layout(label, stored.shape, stored.dtype.itemsize, wanted, (), True)
        sources.append(Source.of(stored, layout))
    alike = len({(source.stored.shape, source.dtype) for source in sources if source}) == 1
    if alike and not items.lasting:
        stored = _clip(items, index, len(item), stored)
        layout = find_layout(name, stored.shape, stored.dtype.itemsize, f"T{wanted}")
        return Series(str(index), [Source.of(stored, layout)])
    return Series(str(index), sources)


def _item(items: _Items, index: int, number: int | None, array: Any) -> StoredArray:
    """An item, or a frame of one, that is got anew for each reading."""
    name = f"sequence {index}" + ("" if number is None else f", frame {number}")
    if items.lasting and isinstance(array, np.ndarray):
        return in_memory(name, array)
    # Not the array itself, which would be kept for ever.
    shape, dtype = tuple(array.shape), np.dtype(array.dtype)

    def get(key: Key) -> np.ndarray:
        # Copied where the item may not last; the slice, not the whole.
        return items.use(
            index, lambda item: items.copied(_part(name, item, number, shape, dtype, key))
        )

    opened = OpenArray(get)
    return StoredArray(name, shape, dtype, lambda: opened)


def _clip(items: _Items, index: int, length: int, frame: StoredArray) -> StoredArray:
    """An item that is a list of frames like this one, got once for several of them."""
    name, shape, dtype = f"sequence {index}", frame.shape, frame.dtype

    def get(key: Key) -> np.ndarray:
        times, rest = key[0], key[1:]
        assert isinstance(times, slice)
        numbers = range(length)[times]

        def cut(item: Any) -> np.ndarray:
            frames = (_part(f"{name}, frame {n}", item, n, shape, dtype, rest) for n in numbers)
            return np.stack(list(frames))

        return items.use(index, cut)

    opened = OpenArray(get)
    return StoredArray(name, (length, *shape), dtype, lambda: opened)


def _part(
    name: str, item: Any, number: int | None, shape: tuple[int, ...], dtype: np.dtype[Any], key: Key
) -> np.ndarray:
    """A slice of an item, or of a frame of it, if it is still like it was first seen."""
    try:
        found = item if number is None else _as_array(name, item[number])
    except IndexError:
        found = None
    if not is_array(found) or tuple(found.shape) != shape or found.dtype != dtype:
        raise DataError(f"{name}: its shape or dtype has changed since it was first seen")
    return _stored(name, found).open().get(key)


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
