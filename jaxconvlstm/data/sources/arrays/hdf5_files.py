"""Arrays in HDF5 files, of which slices are read when asked for."""

import contextlib
import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from jaxconvlstm.data.sources.arrays.array_values import dtype_to_read
from jaxconvlstm.data.sources.arrays.coordinates import has_coordinate, read_coordinate
from jaxconvlstm.data.sources.arrays.library_arrays import (
    LIBRARY_LOCK,
    Locked,
    Packing,
    import_library,
    stored_variable,
    unpacking,
)
from jaxconvlstm.data.sources.arrays.radar_hdf5 import find_radar_image
from jaxconvlstm.data.sources.arrays.stored_array import (
    OpenArray,
    StoredArray,
    choose_variable,
    unreadable,
)
from jaxconvlstm.messages import printable


def open_hdf5(path: Path, variable: str | None, rank: int | None) -> StoredArray:
    """A dataset of an HDF5 file.

    Raises:
      DataError: damaged, h5py is not installed, or unclear which dataset is meant.
    """
    h5py = import_library("h5py")
    name = printable(path)

    def opener() -> Any:
        return h5py.File(path, "r")

    found: dict[str, Any] = {}

    def visit(key: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset) and item.shape is not None:
            found[key] = item

    try:
        with LIBRARY_LOCK, opener() as file:
            radar = find_radar_image(name, file, variable)
            if radar is not None:
                variable = radar.key
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
    packing = Packing.of(attributes, dtype)
    said: tuple[str, ...] = (remark,) if remark else ()
    if radar is not None:
        packing, said = radar.packing, radar.remarks
        attributes["units"] = radar.unit

    def open_dataset() -> OpenArray:
        try:
            opened = Locked(label, opener, lambda file: file[key])
        except Exception as error:
            raise unreadable(label, error) from error
        return OpenArray(unpacking(opened.read, packing))

    def coordinate(axis: int) -> np.ndarray | None:
        with LIBRARY_LOCK, opener() as file:
            return read_coordinate(file.get, key, dimensions[axis])

    stored = stored_variable(
        label, shape, dtype, open_dataset, dimensions, attributes, packing, *said
    )
    return dataclasses.replace(stored, coordinate=coordinate if has_times else None)


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
