"""Arrays in netCDF files, of which slices are read when asked for."""

from pathlib import Path
from typing import Any

import numpy as np

from jaxconvlstm.data.sources.arrays.array_values import dtype_to_read
from jaxconvlstm.data.sources.arrays.coordinates import has_coordinate, read_coordinate
from jaxconvlstm.data.sources.arrays.library_arrays import (
    LIBRARY_LOCK,
    MISSING_MARKS,
    Locked,
    import_library,
    packing_remarks,
    unit_of,
    unmask,
)
from jaxconvlstm.data.sources.arrays.stored_array import (
    OpenArray,
    StoredArray,
    choose_variable,
    unreadable,
)
from jaxconvlstm.messages import printable


def open_netcdf(path: Path, variable: str | None, rank: int | None) -> StoredArray:
    """A variable of a netCDF file, as its attributes say: scaled, and NaN where it is missing.

    Raises:
      DataError: damaged, netCDF4 is not installed, or unclear which variable is meant.
    """
    netcdf = import_library("netCDF4")
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
    marks = bool(MISSING_MARKS & set(attributes))
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
            opened = Locked(label, opener, prepare)
        except Exception as error:
            raise unreadable(label, error) from error
        return OpenArray(lambda key: unmask(opened.read(key), read_dtype))

    def coordinate(axis: int) -> np.ndarray | None:
        with LIBRARY_LOCK, opener() as file:
            return read_coordinate(_netcdf_variables(file).get, key, dimensions[axis])

    remarks = [remark] if remark else []
    if not (marks or scaled) and dtype == np.float64:
        remarks.append("float64 values read as float32")
    remarks += packing_remarks(marks, scaled)
    return StoredArray(
        label, shape, read_dtype, open_variable, "library", dimensions, unit_of(attributes), marks,
        tuple(remarks), coordinate if has_times else None,
    )  # fmt: skip


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
