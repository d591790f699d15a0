"""Array files: their extensions, and the function that opens each."""

import os
import stat
from collections.abc import Callable
from pathlib import Path

from jaxconvlstm.data.sources.arrays.hdf5_files import open_hdf5
from jaxconvlstm.data.sources.arrays.netcdf_files import open_netcdf
from jaxconvlstm.data.sources.arrays.npy_files import open_npy, open_npz
from jaxconvlstm.data.sources.arrays.stored_array import StoredArray, unreadable
from jaxconvlstm.data.sources.arrays.zarr_files import open_zarr
from jaxconvlstm.errors import DataError
from jaxconvlstm.messages import printable

_OPENERS: dict[str, Callable[[Path, str | None, int | None], StoredArray]] = {
    ".npy": open_npy,
    ".npz": open_npz,
    **dict.fromkeys((".h5", ".hdf5", ".hdf"), open_hdf5),
    **dict.fromkeys((".nc", ".nc4", ".cdf"), open_netcdf),
    ".zarr": open_zarr,
}
EXTENSIONS = tuple(_OPENERS)


def is_array_file(path: str | os.PathLike[str]) -> bool:
    """True if the name ends as that of a file of arrays does (.zarr is a folder)."""
    return Path(path).suffix.lower() in _OPENERS


def open_array(path: Path, variable: str | None = None, rank: int | None = None) -> StoredArray:
    """Looks at an array in a file, of whatever kind its extension says, without its values.

    Args:
      path: the file, or the folder of a Zarr array.
      variable: name of the array in a file of several.
      rank: number of axes that it should have; None for 3 or more.

    Raises:
      DataError: the file is missing, damaged or of an unknown kind, or it is unclear which array
        is meant.
    """
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError) as error:
        raise unreadable(path, error) from error
    opener = _OPENERS.get(path.suffix.lower())
    if opener is None:
        raise DataError(f"{printable(path)}: no array file; known are {', '.join(EXTENSIONS)}")
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise DataError(f"{printable(path)}: cannot be read: not an ordinary file")
    if path.is_dir() != (opener is open_zarr):
        kind = "a folder" if path.is_dir() else "a file"
        raise DataError(f"{printable(path)}: is {kind}, which its extension does not fit")
    return opener(path, variable, rank)
