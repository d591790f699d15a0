"""Arrays in .npy files, which are mapped into memory, and .npz files, which are loaded."""

import contextlib
import io
import math
import mmap
import warnings
import zipfile
import zlib
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

from jaxconvlstm.data.sources.arrays.array_values import dtype_to_read
from jaxconvlstm.data.sources.arrays.stored_array import (
    OpenArray,
    StoredArray,
    choose_variable,
    unreadable,
)
from jaxconvlstm.errors import DataError
from jaxconvlstm.messages import printable

HEADER_BYTES = 2**16
"""NumPy's own headers are far shorter."""
DEFLATE_RATIO = 1040
"""The most that deflate can shrink; the header of a member that claims more is wrong."""
_ZIP_ERRORS = (
    OSError, ValueError, EOFError, RuntimeError, NotImplementedError, KeyError, MemoryError,
    zipfile.BadZipFile, zlib.error,
)  # fmt: skip


class _Header(NamedTuple):
    shape: tuple[int, ...]
    fortran_order: bool
    dtype: np.dtype[Any]
    offset: int

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize

    @property
    def order(self) -> Any:
        return "F" if self.fortran_order else "C"


def open_npy(path: Path, variable: str | None, rank: int | None) -> StoredArray:
    """The array of a .npy file; what is not read stays on the disk.

    Raises:
      DataError: no .npy file, damaged, or Python objects.
    """
    del rank
    name = printable(path)
    if variable is not None:
        raise DataError(f"{name}: --variable {printable(variable)}: a .npy file holds one array")
    try:
        with path.open("rb") as file:
            header = _read_header(name, file)
            size = path.stat().st_size - header.offset
    except OSError as error:
        raise unreadable(path, error) from error
    if size < header.nbytes:
        raise DataError(
            f"{name}: truncated: {size} bytes of values, but {list(header.shape)} "
            f"{header.dtype} needs {header.nbytes}"
        )

    def open_map() -> OpenArray:
        try:
            with path.open("rb") as file:
                mapping = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            array: np.ndarray = np.ndarray(
                header.shape, header.dtype, mapping, header.offset, order=header.order
            )
        # A buffer that has become too small since is a TypeError.
        except (OSError, ValueError, TypeError) as error:
            raise unreadable(path, error) from error
        forget = None
        if hasattr(mmap, "MADV_DONTNEED"):

            def forget() -> None:
                mapping.madvise(mmap.MADV_DONTNEED)

        return OpenArray(array.__getitem__, array, forget=forget)

    return StoredArray(name, header.shape, header.dtype, open_map)


def open_npz(path: Path, variable: str | None, rank: int | None) -> StoredArray:
    """An array of a .npz file; all of it is loaded when it is first read.

    Raises:
      DataError: no .npz file, damaged, Python objects, or unclear which array is meant.
    """
    name = printable(path)
    headers: dict[str, _Header] = {}
    shapes: dict[str, tuple[int, ...]] = {}
    unusable: dict[str, DataError] = {}
    try:
        with zipfile.ZipFile(path) as archive:
            for info in archive.infolist():
                key = info.filename.removesuffix(".npy")
                if info.is_dir():
                    continue
                try:
                    with archive.open(info) as file:
                        headers[key] = _read_header(f"{name}:{printable(key)}", file)
                    shapes[key] = headers[key].shape
                except DataError as error:
                    unusable[key] = error
    except _ZIP_ERRORS as error:
        raise unreadable(path, error) from error
    wanted = None if variable is None else variable.strip("/")
    if wanted in unusable:
        raise unusable[wanted]
    if not shapes and unusable:
        raise next(iter(unusable.values()))
    key, remark = choose_variable(name, shapes, wanted, rank)
    header, label = headers[key], f"{name}:{printable(key)}"

    def load() -> OpenArray:
        try:
            array = _load(path, key, header)
        except _ZIP_ERRORS as error:
            raise unreadable(label, error) from error
        return OpenArray(array.__getitem__, array, bytes_held=array.nbytes)

    _check_member(path, key, header, label)
    return StoredArray(
        label,
        header.shape,
        header.dtype,
        load,
        reading="whole",
        remarks=(remark,) if remark else (),
    )


def _read_header(name: str, file: IO[bytes]) -> _Header:
    """Reads a bounded number of bytes, whatever the header says of itself."""
    head = file.read(HEADER_BYTES)
    start = io.BytesIO(head)
    try:
        # Headers that Python 2 wrote are warned of, and read.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            version = np.lib.format.read_magic(start)
            if version == (1, 0):
                shape, fortran_order, dtype = np.lib.format.read_array_header_1_0(start)
            elif version == (2, 0):
                shape, fortran_order, dtype = np.lib.format.read_array_header_2_0(start)
            else:
                raise DataError(f"{name}: .npy format {version}: only arrays of plain numbers")
    except DataError:
        raise
    # A header is a Python literal, and parsing a hostile one fails in many ways.
    except Exception as error:
        kind = {b"PK": "a zip file, perhaps .npz", b"\x80": "a pickle, which is never loaded"}
        found = next((text for magic, text in kind.items() if head.startswith(magic)), "")
        found = found or ("empty" if not head else "")
        raise DataError(
            f"{name}: no array in NumPy's .npy format{found and f', but {found}'}"
            if not head.startswith(b"\x93NUMPY")
            else f"{name}: damaged header"
        ) from error
    dtype_to_read(name, dtype)
    if any(not isinstance(n, int) or n < 0 for n in shape):
        raise DataError(f"{name}: damaged header: shape {list(shape)}")
    return _Header(tuple(shape), fortran_order, dtype, start.tell())


def _check_member(path: Path, key: str, header: _Header, label: str) -> None:
    """Refuses a member whose header claims more than there can be, before memory is taken."""
    with contextlib.suppress(OSError), zipfile.ZipFile(path) as archive:
        info = _member(archive, key)
        size = info.file_size - header.offset
        limit = min(info.compress_size, path.stat().st_size) * DEFLATE_RATIO + HEADER_BYTES
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise DataError(f"{label}: compressed in a way that NumPy does not write")
        if size != header.nbytes or info.file_size > limit:
            raise DataError(
                f"{label}: damaged: {max(min(size, limit), 0)} bytes of values at most, but "
                f"{list(header.shape)} {header.dtype} needs {header.nbytes}"
            )


def _load(path: Path, key: str, header: _Header) -> np.ndarray:
    """Reads a member piece by piece: memory is taken only as values really come."""
    array: np.ndarray = np.empty(header.shape, header.dtype, order=header.order)
    target = memoryview(array.reshape(-1, order=header.order).view(np.uint8))
    with zipfile.ZipFile(path) as archive, archive.open(_member(archive, key)) as file:
        file.read(header.offset)
        done = 0
        while done < len(target):
            piece = file.read(min(2**22, len(target) - done))
            if not piece:
                raise EOFError("truncated")
            target[done : done + len(piece)] = piece
            done += len(piece)
        file.read(1)  # The end, where the checksum is compared.
    return array


def _member(archive: zipfile.ZipFile, key: str) -> zipfile.ZipInfo:
    names = archive.NameToInfo
    return names[f"{key}.npy"] if f"{key}.npy" in names else names[key]
