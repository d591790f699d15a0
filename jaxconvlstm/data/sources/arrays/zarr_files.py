"""Arrays in Zarr files, of which slices are read when asked for."""

import base64
import contextlib
import dataclasses
import math
import struct
from pathlib import Path
from typing import Any

import numpy as np

from jaxconvlstm.data.sources.arrays.array_values import dtype_to_read
from jaxconvlstm.data.sources.arrays.coordinates import has_coordinate, read_coordinate
from jaxconvlstm.data.sources.arrays.library_arrays import (
    MOST_CHUNK_BYTES,
    Packing,
    attribute_number,
    import_library,
    stored_variable,
    unpacking,
)
from jaxconvlstm.data.sources.arrays.stored_array import (
    Key,
    OpenArray,
    StoredArray,
    choose_variable,
    unreadable,
)
from jaxconvlstm.errors import DataError
from jaxconvlstm.messages import printable


def open_zarr(path: Path, variable: str | None, rank: int | None) -> StoredArray:
    """An array of a Zarr folder.

    Raises:
      DataError: damaged, zarr is not installed, or unclear which array is meant.
    """
    zarr = import_library("zarr")
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
    packing = Packing.of(attributes, dtype)

    def read(key: Key) -> np.ndarray:
        try:
            return np.asarray(node[key])
        except Exception as error:
            raise unreadable(label, error) from error

    opened = OpenArray(unpacking(read, packing))
    names = tuple(map(str, dimensions))
    stored = stored_variable(
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
    fill = attribute_number(array.metadata.fill_value) if array.metadata.zarr_format == 2 else None
    if fill is None or stored is not None or not (fill or "_ARRAY_DIMENSIONS" in attributes):
        return []
    attributes["_FillValue"] = fill
    return [f"its fill_value, {fill}, is taken to mark missing values, as xarray does"]


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
