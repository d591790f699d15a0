"""Arrays in files or in memory of which a slice can be read without the rest."""

import dataclasses
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal

import numpy as np

from jaxconvlstm.data.sources.arrays.axes import Layout
from jaxconvlstm.errors import DataError
from jaxconvlstm.messages import printable

Key = tuple[int | slice, ...]


@dataclasses.dataclass(frozen=True)
class OpenArray:
    """An array that is ready to be read.

    Attributes:
      get: reads the values at an index of integers and slices, safe from several threads.
      array: the whole array, where it is in memory or mapped into it.
      bytes_held: memory that it keeps.
      forget: hands pages of a memory map back to the system.
    """

    get: Callable[[Key], np.ndarray]
    array: np.ndarray | None = None
    bytes_held: int = 0
    forget: Callable[[], None] | None = None


@dataclasses.dataclass(frozen=True)
class StoredArray:
    """Description of an array whose values are not read yet.

    Attributes:
      name: printable, as in errors: "x.npy", "x.h5:group/rain".
      shape, dtype: of what reading gives, before axes are moved.
      open: opens it for reading.
      reading: "direct" takes a slice from memory, a memory map or a user's object; "whole" loads
        all of it first; "library" decodes the slice each time that it is asked for.
      dimensions: the file's own names of the axes.
      unit: of the values.
      marks_missing: whether missing values are marked, and read as NaN.
      remarks: what was assumed or converted; one line each, without the name.
      coordinate: reads the numbers along an axis, such as times, where the file may hold some.
    """

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    open: Callable[[], OpenArray]
    reading: Literal["direct", "whole", "library"] = "direct"
    dimensions: tuple[str, ...] = ()
    unit: str | None = None
    marks_missing: bool = False
    remarks: tuple[str, ...] = ()
    coordinate: Callable[[int], np.ndarray | None] | None = None


def in_memory(name: str, array: np.ndarray) -> StoredArray:
    """An array that is there already."""
    opened = OpenArray(array.__getitem__, array)
    return StoredArray(name, array.shape, array.dtype, lambda: opened)


Cut = Callable[[int, slice, slice, slice], np.ndarray]
"""Reads `[time, height, width, channels]` of a sequence's number, times, rows and columns."""


class OpenFiles:
    """Arrays kept open, those used last: a folder may hold more files than may be open at once.

    Args:
      most: number of them.
      most_bytes: memory that they may keep together (one may keep more).
    """

    MAPPED_BYTES = 2**28
    """Bytes read through one memory map before its pages are handed back, so that the memory of
    the process stays small, whatever the size of the file."""

    def __init__(self, most: int = 64, most_bytes: float = 2**30):
        self._most, self._most_bytes = most, most_bytes
        self._cuts: OrderedDict[int, tuple[Cut, int]] = OrderedDict()
        self._lock = threading.Lock()

    def cut(self, stored: StoredArray, layout: Layout) -> Cut:
        """The function that reads slices of an array, which is opened if it is not open."""
        key = id(stored)
        # Without the lock as long as nothing is thrown out: then the order of use does not matter.
        if len(self._cuts) < self._most:
            kept = self._cuts.get(key)
            if kept is not None:
                return kept[0]
        with self._lock:
            kept = self._cuts.get(key)
            if kept is not None:
                self._cuts.move_to_end(key)
                return kept[0]
            opened = stored.open()
            cut = self._cutter(opened, layout)
            self._cuts[key] = cut, opened.bytes_held
            while len(self._cuts) > 1 and (
                len(self._cuts) > self._most
                or sum(held for _, held in self._cuts.values()) > self._most_bytes
            ):
                # It closes once no thread uses it any more.
                self._cuts.popitem(last=False)
            return cut

    def _cutter(self, opened: OpenArray, layout: Layout) -> Cut:
        if opened.array is None:
            return lambda number, time, rows, columns: layout.arrange(
                opened.get(layout.key(number, time, rows, columns))
            )
        view = layout.view(opened.array)
        if opened.forget is None or opened.array.nbytes <= self.MAPPED_BYTES:
            return lambda number, time, rows, columns: view[number, time, rows, columns]
        return _MappedCut(view, opened.forget, self.MAPPED_BYTES)


class _MappedCut:
    """Reads from a memory map, and hands its pages back after so many bytes."""

    def __init__(self, view: np.ndarray, forget: Callable[[], None], most_bytes: int):
        self._view, self._forget, self._most_bytes = view, forget, most_bytes
        self._bytes = 0

    def __call__(self, number: int, time: slice, rows: slice, columns: slice) -> np.ndarray:
        values = self._view[number, time, rows, columns]
        self._bytes += values.nbytes
        if self._bytes > self._most_bytes:
            self._bytes = 0
            self._forget()
        return values


def choose_variable(
    name: str,
    found: Mapping[str, Sequence[int]],
    variable: str | None,
    rank: int | None,
    notes: Mapping[str, str] | None = None,
) -> tuple[str, str | None]:
    """The array of a file that is meant, and a remark if nobody said so.

    Args:
      name: of the file, for errors.
      found: shape of each array in it.
      variable: as the user gave it.
      rank: number of axes that the user gave; None for none, and 3 or more are looked for, then 2.
      notes: what else is to be said of an array where all are listed, such as its quantity.

    Raises:
      DataError: the array is not there, or several may be meant.
    """

    def shown(keys: Iterable[str]) -> str:
        more = notes or {}
        return ", ".join(
            f"{printable(key)} {list(found[key])}" + f" {printable(more.get(key, ''))}".rstrip()
            for key in list(keys)[:20]
        )

    listed = shown(found)
    if variable is not None:
        wanted = variable.strip("/")
        if wanted not in found:
            raise DataError(
                f"{name}: no array {printable(variable)!r}; it holds {listed or 'none'}"
            )
        return wanted, None
    fits = [
        key
        for key, shape in found.items()
        if (len(shape) >= 3 if rank is None else len(shape) == rank)
    ]
    if not fits and rank is None:
        fits = [key for key, shape in found.items() if len(shape) == 2 and min(shape) > 1]
    if not fits and len(found) == 1:
        fits = list(found)
    if not fits:
        raise DataError(
            f"{name}: no array of {'3 or more' if rank is None else rank} axes; "
            f"it holds {listed or 'none'}"
        )
    if len(fits) > 1:
        raise DataError(f"{name}: several arrays, --variable NAME says which: {shown(fits)}")
    only = "the only array" if len(found) == 1 else "the only array of enough axes"
    return fits[0], f"{only}, {printable(fits[0])}, is read"


def one_line(error: BaseException) -> str:
    """The message of another library's error on one line of bounded length."""
    if isinstance(error, OSError) and error.strerror and isinstance(error.errno, int):
        text = error.strerror if error.errno < 0 else os.strerror(error.errno)
    else:
        text = " ".join(str(error).split())
    return printable(text)[:200] or type(error).__name__


def unreadable(path: str | os.PathLike[str], error: BaseException) -> DataError:
    """The error for a file that a library cannot read."""
    if isinstance(error, DataError):
        return error
    if isinstance(error, MemoryError):
        return DataError(f"{printable(path)}: needs more memory than there is")
    return DataError(f"{printable(path)}: cannot be read: {one_line(error)}")
