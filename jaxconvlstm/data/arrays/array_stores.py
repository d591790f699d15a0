"""Arrays in HDF5, netCDF and Zarr files, of which parts are read when asked for."""

import base64
import contextlib
import dataclasses
import math
import struct
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxconvlstm.data.arrays.array_values import dtype_to_read
from jaxconvlstm.data.arrays.coordinates import has_coordinate, read_coordinate
from jaxconvlstm.data.arrays.stored_array import (
    Key,
    OpenArray,
    StoredArray,
    choose_variable,
    unreadable,
)
from jaxconvlstm.data.pictures.picture_file import printable
from jaxconvlstm.errors import DataError

LIBRARY_LOCK = threading.RLock()
"""HDF5, below both h5py and netCDF4, is not safe from several threads."""
MOST_CHUNK_BYTES = 2**32
"""A chunk is read as a whole, however little of it is asked for."""
_MISSING_MARKS = {"_FillValue", "missing_value", "valid_min", "valid_max", "valid_range"}


@dataclasses.dataclass(frozen=True)
class _Packing:
    """How stored values stand for others, by the attributes of the CF conventions."""

    fills: tuple[float, ...] = ()
    scale: float = 1.0
    offset: float = 0.0

    @classmethod
    def of(cls, attributes: Mapping[str, Any], dtype: np.dtype[Any]) -> "_Packing":
        fills = [n for mark in ("_FillValue", "missing_value") for n in _numbers(attributes, mark)]
        scale = _number(attributes.get("scale_factor"))
        offset = _number(attributes.get("add_offset"))
        if dtype.kind != "f":  # No integer is NaN and the like.
            fills = [fill for fill in fills if float(fill).is_integer()]
        return cls(
            tuple(dict.fromkeys(fills)),
            1.0 if scale is None else scale,
            0.0 if offset is None else offset,
        )

    @property
    def needed(self) -> bool:
        return self != _Packing()

    def unpack(self, values: np.ndarray) -> np.ndarray:
        """As float32, NaN where missing."""
        unpacked = values.astype(np.float64) * self.scale + self.offset
        for fill in self.fills:
            unpacked[values == fill] = np.nan
        with np.errstate(over="ignore"):
            return unpacked.astype(np.float32)

    def remarks(self) -> list[str]:
        return _packing_remarks(bool(self.fills), (self.scale, self.offset) != (1, 0))


class _Locked:
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


def open_hdf5(path: Path, variable: str | None, rank: int | None) -> StoredArray:
    """A dataset of an HDF5 file.

    Raises:
      DataError: damaged, h5py is not installed, or unclear which dataset is meant.
    """
    h5py = _library("h5py")
    name = printable(path)

    def opener() -> Any:
        return h5py.File(path, "r")

    found: dict[str, Any] = {}

    def visit(key: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset) and item.shape is not None:
            found[key] = item

    try:
        with LIBRARY_LOCK, opener() as file:
            file.visititems(visit)
            numbers = {key: item.shape for key, item in found.items() if item.dtype.kind in "biuf"}
            shapes = numbers or {key: item.shape for key, item in found.items()}
            if variable is not None:
                shapes = {key: item.shape for key, item in found.items()}
            key, remark = choose_variable(name, shapes, variable, rank)
            dataset, label = found[key], f"{name}:{printable(key)}"
            shape, dtype = tuple(dataset.shape), dataset.dtype
            dtype_to_read(label, dtype)
            attributes = _hdf5_attributes(dataset)
            dimensions = _hdf5_dimensions(dataset)
            found.clear()
            has_times = has_coordinate(file.get, key, dimensions)
    except Exception as error:
        raise unreadable(path, error) from error
    packing = _Packing.of(attributes, dtype)

    def open_dataset() -> OpenArray:
        try:
            opened = _Locked(label, opener, lambda file: file[key])
        except Exception as error:
            raise unreadable(label, error) from error
        return OpenArray(_unpacking(opened.read, packing))

    def coordinate(axis: int) -> np.ndarray | None:
        with LIBRARY_LOCK, opener() as file:
            return read_coordinate(file.get, key, dimensions[axis])

    stored = _stored(label, shape, dtype, open_dataset, dimensions, attributes, packing, remark)
    return dataclasses.replace(stored, coordinate=coordinate if has_times else None)


def open_netcdf(path: Path, variable: str | None, rank: int | None) -> StoredArray:
    """A variable of a netCDF file, as its attributes say: scaled, and NaN where it is missing.

    Raises:
      DataError: damaged, netCDF4 is not installed, or unclear which variable is meant.
    """
    netcdf = _library("netCDF4")
    name = printable(path)

    def opener() -> Any:
        return netcdf.Dataset(path, "r")

    def find(file: Any, key: str) -> Any:
        return _netcdf_variables(file)[key]

    try:
        with LIBRARY_LOCK, opener() as file:
            found = _netcdf_variables(file)
            shapes = {key: item.shape for key, item in found.items()}
            key, remark = choose_variable(name, shapes, variable, rank)
            label, chosen = f"{name}:{printable(key)}", found[key]
            shape, dtype = tuple(chosen.shape), chosen.dtype
            dtype_to_read(label, dtype)
            attributes = {name: chosen.getncattr(name) for name in chosen.ncattrs()}
            dimensions = tuple(chosen.dimensions)
            has_times = has_coordinate(found.get, key, dimensions)
    except Exception as error:
        raise unreadable(path, error) from error
    marks = bool(_MISSING_MARKS & set(attributes))
    scaled = bool({"scale_factor", "add_offset"} & set(attributes))
    if attributes.get("_Unsigned") == "true" and dtype.kind == "i":
        dtype = np.dtype(f"u{dtype.itemsize}")
    # Floats may be missing without any mark: the library's own fill value, never written over.
    convert = marks or scaled or dtype.kind == "f"
    read_dtype = np.dtype(np.float32) if convert else dtype

    def open_variable() -> OpenArray:
        def prepare(file: Any) -> Any:
            chosen = find(file, key)
            chosen.set_auto_maskandscale(convert)
            if not convert:
                chosen.set_auto_scale(True)  # For _Unsigned alone.
            return chosen

        try:
            opened = _Locked(label, opener, prepare)
        except Exception as error:
            raise unreadable(label, error) from error
        return OpenArray(lambda key: _unmask(opened.read(key), read_dtype))

    def coordinate(axis: int) -> np.ndarray | None:
        with LIBRARY_LOCK, opener() as file:
            return read_coordinate(_netcdf_variables(file).get, key, dimensions[axis])

    remarks = [remark] if remark else []
    if not (marks or scaled) and dtype == np.float64:
        remarks.append("float64 values read as float32")
    remarks += _packing_remarks(marks, scaled)
    return StoredArray(
        label, shape, read_dtype, open_variable, "library", dimensions, _unit(attributes), marks,
        tuple(remarks), coordinate if has_times else None,
    )  # fmt: skip


def open_zarr(path: Path, variable: str | None, rank: int | None) -> StoredArray:
    """An array of a Zarr folder.

    Raises:
      DataError: damaged, zarr is not installed, or unclear which array is meant.
    """
    zarr = _library("zarr")
    name = printable(path)
    try:
        node = zarr.open(path, mode="r")
        arrays: dict[str, Any] = {}
        if isinstance(node, zarr.Group):
            arrays = {k: a for k, a in node.members(max_depth=None) if isinstance(a, zarr.Array)}
            shapes = {key: array.shape for key, array in arrays.items()}
            key, remark = choose_variable(name, shapes, variable, rank)
            node, label = arrays[key], f"{name}:{printable(key)}"
        elif variable is not None:
            raise DataError(f"{name}: --variable {printable(variable)}: it is one array, no group")
        else:
            key, label, remark = "", name, None
        shape, dtype = tuple(node.shape), np.dtype(node.dtype)
        dtype_to_read(label, dtype)
        attributes = dict(node.attrs)
        dimensions = getattr(node.metadata, "dimension_names", None)
        dimensions = dimensions or attributes.get("_ARRAY_DIMENSIONS") or ()
        remarks = _missing_chunks(node)
        remarks += _take_zarr_fill(node, attributes)
    except Exception as error:
        raise unreadable(path, error) from error
    if math.prod(node.chunks) * dtype.itemsize > MOST_CHUNK_BYTES:
        raise DataError(f"{label}: chunks of {list(node.chunks)} {dtype}: this cannot be right")
    packing = _Packing.of(attributes, dtype)

    def read(key: Key) -> np.ndarray:
        try:
            return np.asarray(node[key])
        except Exception as error:
            raise unreadable(label, error) from error

    opened = OpenArray(_unpacking(read, packing))
    names = tuple(map(str, dimensions))
    stored = _stored(
        label, shape, dtype, lambda: opened, names, attributes, packing, remark, *remarks
    )
    if not has_coordinate(arrays.get, key, names):
        return stored
    return dataclasses.replace(
        stored, coordinate=lambda axis: read_coordinate(arrays.get, key, names[axis])
    )


def _take_zarr_fill(array: Any, attributes: dict[str, Any]) -> list[str]:
    """Completes the attributes by the fill value as xarray writes and reads it; remarks on it."""
    stored = attributes.get("_FillValue")
    if isinstance(stored, str) and array.dtype.kind == "f":
        # JSON has no NaN: xarray writes the bytes of a float in base64.
        with contextlib.suppress(ValueError, struct.error):
            attributes["_FillValue"] = struct.unpack("<d", base64.b64decode(stored))[0]
    fill = _number(array.metadata.fill_value) if array.metadata.zarr_format == 2 else None
    if fill is None or stored is not None or not (fill or "_ARRAY_DIMENSIONS" in attributes):
        return []
    attributes["_FillValue"] = fill
    return [f"its fill_value, {fill}, is taken to mark missing values, as xarray does"]


def _stored(
    label: str,
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    opener: Callable[[], OpenArray],
    dimensions: tuple[str, ...],
    attributes: Mapping[str, Any],
    packing: _Packing,
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
        unit=_unit(attributes),
        marks_missing=bool(packing.fills),
        remarks=tuple(said),
    )


def _unpacking(read: Callable[[Key], Any], packing: _Packing) -> Callable[[Key], np.ndarray]:
    if not packing.needed:
        return read
    return lambda key: packing.unpack(np.asarray(read(key)))


def _unmask(values: Any, dtype: np.dtype[Any]) -> np.ndarray:
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


def _packing_remarks(marks: bool, scaled: bool) -> list[str]:
    remarks = []
    if scaled:
        remarks.append("scale_factor and add_offset applied, values read as float32")
    if marks:
        remarks.append("values that the file marks as missing are read as NaN, all as float32")
    return remarks


def _netcdf_variables(group: Any, prefix: str = "") -> dict[str, Any]:
    found = {
        prefix + key: item
        for key, item in group.variables.items()
        # Strings and structures have no NumPy dtype of numbers.
        if isinstance(item.dtype, np.dtype) and item.dtype.kind in "biuf"
    }
    for key, child in group.groups.items():
        found |= _netcdf_variables(child, f"{prefix}{key}/")
    return found


def _hdf5_attributes(dataset: Any) -> dict[str, Any]:
    found = {}
    for key in ("units", "unit", "_FillValue", "missing_value", "scale_factor", "add_offset"):
        # Attributes may be of types that h5py cannot read.
        with contextlib.suppress(Exception):
            if key in dataset.attrs:
                found[key] = dataset.attrs[key]
    return found


def _hdf5_dimensions(dataset: Any) -> tuple[str, ...]:
    with contextlib.suppress(Exception):
        names = [
            axis.label or (axis[0].name.rpartition("/")[2] if len(axis) else "")
            for axis in dataset.dims
        ]
        if all(names):
            return tuple(names)
    return ()


def _missing_chunks(array: Any) -> list[str]:
    """A chunk that is not stored is read as the fill value, whether it was left out or lost."""
    there, all_of_them = array.nchunks_initialized, array.nchunks
    if hasattr(array, "shards") and array.shards is not None:
        all_of_them = math.prod(-(-n // m) for n, m in zip(array.shape, array.shards))
        there = min(there, all_of_them)
    if there >= all_of_them:
        return []
    return [
        f"chunks that are not stored, read as {array.fill_value}: {all_of_them - there} of "
        f"{all_of_them}"
    ]


def _number(value: Any) -> Any:
    """An attribute that is one number; None for what is not."""
    found = _numbers({"": value}, "")
    return found[0] if len(found) == 1 else None


def _numbers(attributes: Mapping[str, Any], name: str) -> list[Any]:
    """An attribute of one or more numbers; empty for what is not."""
    with contextlib.suppress(TypeError, ValueError):
        array = np.asarray(attributes.get(name))
        if array.dtype.kind in "iuf":
            return array.reshape(-1).tolist()
    return []


def _unit(attributes: Mapping[str, Any]) -> str | None:
    value = attributes.get("units", attributes.get("unit"))
    if isinstance(value, np.ndarray) and value.size == 1:
        value = value.reshape(-1)[0]
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    return printable(value.strip())[:40] or None if isinstance(value, str) else None


def _library(name: str) -> Any:
    import importlib

    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise DataError(
            f"{name} is not installed, which reads such files: pip install 'jaxconvlstm[arrays]'"
        ) from error
