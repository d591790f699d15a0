"""Files of handwritten digits: IDX, as MNIST comes in, and NumPy's .npy and .npz."""

import gzip
import math
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import IO

import numpy as np

from jaxconvlstm.data.sources.arrays.npy_files import open_npy, open_npz
from jaxconvlstm.data.sources.arrays.stored_array import unreadable
from jaxconvlstm.errors import DataError
from jaxconvlstm.messages import printable

MOST_BYTES = 2**30
"""Of pixels: over a million digits of 28x28. A header that claims more is not believed."""
_GZIP = b"\x1f\x8b"
_UNSIGNED_BYTE = 0x08
_OPENERS = {".npy": open_npy, ".npz": open_npz}


def read_digits(path: Path, variable: str | None = None) -> tuple[np.ndarray, list[str]]:
    """All digits of a file, and notes on what was converted.

    Args:
      path: an IDX file of unsigned bytes, gzipped or not (yann.lecun.com/exdb/mnist, "The IDX file
        format"); or an array in a .npy or .npz file: of integers from 0 to 255, truth values, or
        floats from 0 to 1.
      variable: name of the array in a .npz file of several.

    Returns:
      uint8 `[count, height, width]`.

    Raises:
      DataError: no such file, damaged, or something else than digits.
    """
    if not path.is_file():
        what = "is a folder, expected a file of digits" if path.is_dir() else "no such file"
        raise DataError(f"{printable(path)}: {what}")
    opener = _OPENERS.get(path.suffix.lower())
    if opener is not None:
        # The shape is known before the values are read, which a wrong file may have too many of.
        stored = opener(path, variable, 3)
        _check_shape(stored.name, stored.shape, stored.dtype.itemsize)
        try:
            values = stored.open().get((slice(None),))
        except OSError as error:
            raise unreadable(path, error) from error
        return _as_bytes(stored.name, values)
    if variable is not None:
        raise DataError(f"{printable(path)}: --variable {variable}: an IDX file holds one array")
    try:
        # By content, not by name: MNIST's files are passed on with and without ".gz".
        with path.open("rb") as raw:
            packed = raw.read(len(_GZIP)) == _GZIP
            raw.seek(0)
            if not packed:
                return _read_idx(printable(path), raw), []
            with gzip.GzipFile(fileobj=raw) as file:
                return _read_idx(printable(path), file), []
    except (OSError, EOFError, zlib.error) as error:
        raise unreadable(path, error) from error


def _read_idx(name: str, file: IO[bytes] | gzip.GzipFile) -> np.ndarray:
    """An IDX file's digits: two zero bytes, type, number of dimensions, their sizes, the values."""
    head = file.read(4)
    if len(head) < 4 or head[:2] != b"\0\0":
        raise DataError(
            f"{name}: no file of digits; expected IDX (as train-images-idx3-ubyte.gz), .npy or .npz"
        )
    if head[2] != _UNSIGNED_BYTE:
        raise DataError(f"{name}: IDX values of type {head[2]:#04x}, expected unsigned bytes")
    sizes = file.read(4 * head[3])
    if len(sizes) < 4 * head[3]:
        raise DataError(f"{name}: truncated, within its header")
    shape = struct.unpack(f">{head[3]}I", sizes)
    _check_shape(name, shape, 1)
    wanted = math.prod(shape)
    values = bytearray()
    # In pieces, so that memory is taken only as values really come; and one byte beyond, where a
    # gzipped file's checksum is compared.
    while piece := file.read(min(2**22, wanted + 1 - len(values))):
        values += piece
    if len(values) != wanted:
        found = f"{len(values)} bytes" if len(values) < wanted else "more bytes"
        raise DataError(f"{name}: holds {found} of pixels, but {list(shape)} needs {wanted}")
    return np.frombuffer(values, np.uint8).reshape(shape)


def _check_shape(name: str, shape: Sequence[int], itemsize: int) -> None:
    """Refuses what cannot be digits, before any is read."""
    shown = f"{name} {list(shape)}"
    if len(shape) != 3:
        hint = {1: ", which may be labels", 4: ", which may be clips: --dataset array reads those"}
        raise DataError(
            f"{shown}: expected digits [count, height, width], got {len(shape)} axes"
            + hint.get(len(shape), "")
        )
    if 0 in shape:
        raise DataError(f"{shown}: no digits, an axis has length 0")
    if math.prod(shape) * itemsize > MOST_BYTES:
        raise DataError(f"{shown}: more than the {MOST_BYTES // 2**30} GiB of digits that are read")


def _as_bytes(name: str, values: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """An array's values as uint8, and a note if they were something else."""
    if values.dtype == np.uint8:
        return np.array(values), []
    truth, floats = values.dtype == bool, values.dtype.kind == "f"
    high = 1 if floats or truth else 255
    # A comparison with NaN is false.
    if values.dtype.kind not in "buif" or not (values.min() >= 0 and values.max() <= high):
        raise DataError(
            f"{name}: expected integers from 0 to 255 or floats from 0 to 1, got {values.dtype}"
            + (f" from {values.min():g} to {values.max():g}" if values.dtype.kind in "iuf" else "")
        )
    factor = 255 if floats or truth else 1
    note = f"{name}: {values.dtype} digits" + (" from 0 to 1" if floats else "") + " read as uint8"
    return np.rint(values.astype(np.float32) * factor).astype(np.uint8), [note]
