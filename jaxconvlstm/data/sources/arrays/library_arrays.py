"""Common to arrays in HDF5, netCDF and Zarr files: packing, missing values, locking."""

import contextlib
import dataclasses
import threading
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from jaxconvlstm.data.sources.arrays.stored_array import Key, OpenArray, StoredArray, unreadable
from jaxconvlstm.errors import DataError
from jaxconvlstm.messages import printable

LIBRARY_LOCK = threading.RLock()
"""HDF5, below both h5py and netCDF4, is not safe from several threads."""
MOST_CHUNK_BYTES = 2**32
"""A chunk is read as a whole, however little of it is asked for."""
MISSING_MARKS = {"_FillValue", "missing_value", "valid_min", "valid_max", "valid_range"}


@dataclasses.dataclass(frozen=True)
class Packing:
    """How stored values become values in their unit.

    Attributes:
      fills: codes of missing values.
      scale, offset: value = stored * scale + offset.
      codes: further codes, each with the value in its unit that it stands for.
      always: whether values are read as float32 and NaN as missing even if nothing else is given.
    """

    fills: tuple[float, ...] = ()
    scale: float = 1.0
    offset: float = 0.0
    codes: tuple[tuple[float, float], ...] = ()
    always: bool = False

    @classmethod
    def of(cls, attributes: Mapping[str, Any], dtype: np.dtype[Any]) -> "Packing":
        """By attributes of the CF conventions."""
        fills = [
            n
            for mark in ("_FillValue", "missing_value")
            for n in attribute_numbers(attributes, mark)
        ]
        scale = attribute_number(attributes.get("scale_factor"))
        offset = attribute_number(attributes.get("add_offset"))
        if dtype.kind != "f":  # No integer is NaN and the like.
            fills = [fill for fill in fills if float(fill).is_integer()]
        return cls(
            tuple(dict.fromkeys(fills)),
            1.0 if scale is None else scale,
            0.0 if offset is None else offset,
        )

    @property
    def needed(self) -> bool:
        return self != Packing()

    def unpack(self, values: np.ndarray) -> np.ndarray:
        """As float32, NaN where missing."""
        unpacked = values.astype(np.float64) * self.scale + self.offset
        for fill in self.fills:
            unpacked[values == fill] = np.nan
        for code, value in self.codes:
            unpacked[values == code] = value
        with np.errstate(over="ignore"):
            return unpacked.astype(np.float32)

    def remarks(self) -> list[str]:
        if self.always:  # said by whoever knows the convention
            return []
        return packing_remarks(bool(self.fills), (self.scale, self.offset) != (1, 0))


class Locked:
    """An open file whose every use, and closing, is alone."""

    def __init__(self, path: str, opener: Callable[[], Any], find: Callable[[Any], Any]):
        self._path, self._file = path, None
        with LIBRARY_LOCK:
            self._file = opener()
            self._variable = find(self._file)

    def read(self, key: Key) -> Any:
        # Each library has errors of its own for damage, and one must not end as a traceback.
        try:
            with LIBRARY_LOCK:
                return self._variable[key]
        except Exception as error:
            raise unreadable(self._path, error) from error

    def __del__(self) -> None:
        # Closed when nobody can read any more, not at once, since another thread may still.
        with LIBRARY_LOCK, contextlib.suppress(Exception):
            if self._file is not None:
                self._file.close()


def stored_variable(
    label: str,
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    opener: Callable[[], OpenArray],
    dimensions: tuple[str, ...],
    attributes: Mapping[str, Any],
    packing: Packing,
    *remarks: str | None,
) -> StoredArray:
    said = [remark for remark in remarks if remark] + packing.remarks()
    return StoredArray(
        label,
        shape,
        np.dtype(np.float32) if packing.needed else dtype,
        opener,
        "library",
        dimensions=dimensions,
        unit=unit_of(attributes),
        marks_missing=bool(packing.fills) or packing.always,
        remarks=tuple(said),
    )


def unpacking(read: Callable[[Key], Any], packing: Packing) -> Callable[[Key], np.ndarray]:
    if not packing.needed:
        return read
    return lambda key: packing.unpack(np.asarray(read(key)))


def unmask(values: Any, dtype: np.dtype[Any]) -> np.ndarray:
    """A masked array as a plain one, NaN where it is masked."""
    if not np.ma.isMaskedArray(values):
        values = np.asarray(values)
        with np.errstate(over="ignore"):
            return values.astype(dtype, copy=False)
    with np.errstate(over="ignore", invalid="ignore"):
        plain = values.data.astype(dtype)
    mask = np.ma.getmaskarray(values)
    if mask.any():
        plain[mask] = np.nan
    return plain


def packing_remarks(marks: bool, scaled: bool) -> list[str]:
    remarks = []
    if scaled:
        remarks.append("scale_factor and add_offset applied, values read as float32")
    if marks:
        remarks.append("values that the file marks as missing are read as NaN, all as float32")
    return remarks


def attribute_number(value: Any) -> Any:
    """An attribute that is one number; None for what is not."""
    found = attribute_numbers({"": value}, "")
    return found[0] if len(found) == 1 else None


def attribute_numbers(attributes: Mapping[str, Any], name: str) -> list[Any]:
    """An attribute of one or more numbers; empty for what is not."""
    with contextlib.suppress(TypeError, ValueError):
        array = np.asarray(attributes.get(name))
        if array.dtype.kind in "iuf":
            return array.reshape(-1).tolist()
    return []


def unit_of(attributes: Mapping[str, Any]) -> str | None:
    value = attributes.get("units", attributes.get("unit"))
    if isinstance(value, np.ndarray) and value.size == 1:
        value = value.reshape(-1)[0]
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    return printable(value.strip())[:40] or None if isinstance(value, str) else None


def import_library(name: str) -> Any:
    import importlib

    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise DataError(
            f"{name} is not installed, which reads such files: pip install 'jaxconvlstm[arrays]'"
        ) from error
