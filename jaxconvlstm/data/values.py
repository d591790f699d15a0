"""From the files' values to the network's scale and back."""

import dataclasses
from typing import Any

import numpy as np

from jaxconvlstm.errors import DataError


@dataclasses.dataclass(frozen=True)
class Values:
    """The linear scale between a data set's own values and the network's [0, 1].

    It works alike on NumPy and JAX arrays: the loader ships integers, the device scales them.

    Attributes:
      low, high: the values that become 0 and 1, in the data's own unit.
      dtype: the files' dtype, e.g. "uint8".
      missing: the value that stands for "no data", if there is one. NaN is not handled here.
    """

    low: float
    high: float
    dtype: str
    missing: float | None = None

    @classmethod
    def for_dtype(
        cls,
        dtype: Any,
        value_range: tuple[float, float] | None = None,
        missing: float | None = None,
    ) -> "Values":
        """The whole range of an integer dtype, [0, 1] for floats, unless `value_range` says."""
        dtype = np.dtype(dtype)
        if dtype.kind not in "buif":
            raise DataError(f"expected numbers, got an array of {dtype}")
        if value_range is None:
            integer = dtype.kind in "ui"
            value_range = (0.0, float(np.iinfo(dtype).max)) if integer else (0.0, 1.0)
        return cls(float(value_range[0]), float(value_range[1]), dtype.name, missing)

    def scale(self, values: Any) -> Any:
        """The data's own values to float32, `low` to 0 and `high` to 1; missing ones to 0."""
        scaled = (values.astype("float32") - self.low) * (1.0 / (self.high - self.low))
        return scaled if self.missing is None else scaled * self.valid(values)

    def valid(self, values: Any) -> Any:
        """Float32, 1 where a value is there and 0 where it is missing."""
        if self.missing is None:
            return (values == values).astype("float32")
        return (values != self.missing).astype("float32")

    def unscale(self, scaled: np.ndarray, dtype: Any = None) -> np.ndarray:
        """The inverse of `scale`, on NumPy arrays: integers are rounded and clipped to their range.

        No integer of the result is the missing value's code: 255 for "no data" is no prediction,
        so that 254 is predicted in its place.

        Args:
          scaled: values on the network's scale.
          dtype: dtype of the result; the files' own by default.
        """
        dtype = np.dtype(self.dtype if dtype is None else dtype)
        values = np.asarray(scaled, np.float64) * (self.high - self.low) + self.low
        if dtype.kind in "ui":
            return round_to_integers(values, dtype, self.missing)
        return values.astype(dtype)

    def to_json(self) -> dict[str, Any]:
        """As a plain dictionary, for the checkpoint."""
        return dataclasses.asdict(self)


def round_to_integers(values: np.ndarray, dtype: Any, missing: float | None = None) -> np.ndarray:
    """Rounds and clips to an integer dtype, past the code that stands for a missing value.

    A value that would become `missing` goes to the neighbour on its own side of it, or to the one
    that the dtype has.
    """
    limits = np.iinfo(dtype)
    rounded: np.ndarray = np.clip(np.rint(values), limits.min, limits.max)
    if missing is not None:
        below = (values <= missing) & (missing > limits.min) | (missing >= limits.max)
        rounded = np.where(rounded == missing, np.where(below, missing - 1, missing + 1), rounded)
    return rounded.astype(dtype)
