"""The values of arrays: the dtypes that are read, conversions, and the search for NaN."""

import math
import sys
from typing import Any

import numpy as np

from jaxconvlstm.errors import DataError

READ_AS = {"float64": "float32", "int64": "int32", "uint64": "int32", "uint32": "int32"}
READ_AS |= {"bool": "uint8", "float128": "float32", "longdouble": "float32"}
AS_THEY_ARE = {"uint8", "int8", "uint16", "int16", "int32", "float16", "float32"}
_NATIVE = {"little": "<", "big": ">"}[sys.byteorder]


def dtype_to_read(name: str, dtype: Any) -> tuple[np.dtype[Any], str | None]:
    """The dtype that values are read as, of at most 32 bits and native, and a remark if unlike.

    Raises:
      DataError: these values are no pixels, or would have to be unpickled.
    """
    try:
        dtype = np.dtype(dtype)
    except TypeError:
        raise DataError(f"{name}: {dtype} values cannot be read") from None
    if dtype.hasobject:
        raise DataError(
            f"{name}: holds Python objects (dtype object), which are never unpickled; "
            "save plain numbers"
        )
    native = dtype.newbyteorder("=")
    if native.name in AS_THEY_ARE:
        swapped = dtype.byteorder not in ("=", "|", _NATIVE)
        return native, "values in foreign byte order" if swapped else None
    if native.name not in READ_AS:
        raise DataError(f"{name}: {dtype} values cannot be read as pixels")
    return np.dtype(READ_AS[native.name]), f"{native.name} values read as {READ_AS[native.name]}"


def convert(values: np.ndarray, dtype: np.dtype[Any]) -> np.ndarray:
    """Values in a dtype that `dtype_to_read` gave: themselves, where that is theirs.

    Raises:
      ValueError: an integer does not fit.
    """
    if values.dtype == dtype:
        return values
    if values.dtype.kind in "iu" and not np.can_cast(values.dtype, dtype):
        limits = np.iinfo(dtype)
        low, high = values.min(), values.max()
        if low < limits.min or high > limits.max:
            raise ValueError(f"{low if low < limits.min else high} does not fit in {dtype}")
    with np.errstate(over="ignore"):  # Then infinite, which is met below.
        return values.astype(dtype, order="C")


def first_bad(values: np.ndarray, nan_is_missing: bool) -> tuple[int, ...] | None:
    """Index of the first NaN or infinity, or of the first infinity with `nan_is_missing`."""
    if values.dtype.kind != "f" or _surely_finite(values):
        return None
    bad = np.isinf(values) if nan_is_missing else ~np.isfinite(values)
    return tuple(map(int, np.unravel_index(bad.argmax(), bad.shape))) if bad.any() else None


def _surely_finite(values: np.ndarray) -> bool:
    """One quick pass: a sum of squares is finite only if all values are (large ones may miss)."""
    if values.dtype == np.float16:  # Its squares overflow; its exponent is all ones if not finite.
        return not ((values.view(np.uint16) & 0x7C00) == 0x7C00).any()
    with np.errstate(all="ignore"):
        return math.isfinite(np.vdot(values, values))


def describe_bad(values: np.ndarray, where: tuple[int, ...], top: int, left: int) -> str:
    """E.g. "NaN at row 3, column 5", for a position in `[time, height, width, channels]`."""
    _, row, column, channel = where
    what = "NaN" if np.isnan(values[where]) else "infinity"
    within = f", channel {channel}" if values.shape[-1] > 1 else ""
    return f"{what} at row {top + row}, column {left + column}{within}"
