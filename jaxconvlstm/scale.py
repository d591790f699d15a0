"""Scaling of raw values to the network's scale, and back."""

import dataclasses
from typing import Any

import numpy as np

from jaxconvlstm.errors import DataError

# Names in a checkpoint that differ from those of the fields.
_KEYS = {"mean": "shift", "std": "spread"}


@dataclasses.dataclass(frozen=True)
class Values:
    """The scale between a data set's raw values and the network's.

    Raw values first become fractions of the value range, so that `low` is 0 and `high` is 1; they
    are not clipped. Pictures and scores are on this unit scale. Then each channel may be normalised
    (`mean`, `std`), which gives the network's scale; without, the two are the same.

        fraction = (v - low) / (high - low), or, with log, L(v - low) / L(high - low),
                L(x) = sign(x) log(1 + |x|)
        scaled = (fraction - mean) / std

    It works alike on NumPy and JAX arrays: the loader ships integers, the device scales them.

    Attributes:
      low, high: the values that become 0 and 1, in the data's own unit.
      dtype: the files' dtype, e.g. "uint8".
      missing: the value that stands for "no data", if there is one.
      nan: whether NaN and infinity mean "no data" too.
      log: whether fractions are of the logarithm, for skewed values such as rain rates.
      mean, std: one number per channel, in fractions of the value range; empty for none.
      unit: name of the unit, e.g. "dBZ".
    """

    low: float
    high: float
    dtype: str
    missing: float | None = None
    nan: bool = False
    log: bool = False
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    unit: str | None = None

    @classmethod
    def for_dtype(
        cls,
        dtype: Any,
        value_range: tuple[float, float] | None = None,
        missing: float | None = None,
    ) -> "Values":
        """The scale of a dtype: its whole range for integers, [0, 1] for floats.

        Args:
          dtype: of the raw values.
          value_range: the values that become 0 and 1, if others.
          missing: the value that stands for "no data", if there is one.

        Raises:
          DataError: the dtype is none of numbers.
        """
        dtype = np.dtype(dtype)
        if dtype.kind not in "buif":
            raise DataError(f"expected numbers, got an array of {dtype}")
        if value_range is None:
            integer = dtype.kind in "ui"
            limits = np.iinfo(dtype) if integer else None
            value_range = (0.0, 1.0) if limits is None else (min(limits.min, 0), limits.max)
        return cls(float(value_range[0]), float(value_range[1]), dtype.name, missing)

    def scale(self, values: Any) -> Any:
        """Raw values `[..., channels]` to the network's scale, float32; missing ones to 0.

        `valid` tells the missing ones, which no loss and no score may count.
        """
        valid = self.valid(values) > 0 if self.missing is not None or self.nan else None
        scaled = self.fraction(values)
        if self.mean:
            mean, std = self._per_channel(scaled)
            scaled = (scaled - mean) * (1 / std)
        if valid is None:
            return scaled
        # Chosen, not multiplied: 0 times NaN is NaN.
        return _namespace(scaled).where(valid, scaled, np.float32(0))

    def valid(self, values: Any) -> Any:
        """Float32, 1 where a value is there and 0 where it is missing."""
        there = values == values  # NaN is unlike itself; integers have none.
        if self.missing is not None:
            there = there & (values != self.missing)
        if self.nan and values.dtype.kind == "f":
            # Not isfinite, which NumPy and JAX arrays do not have as a method.
            there = there & (abs(values) < np.inf)
        return there.astype("float32")

    def to_unit(self, scaled: Any) -> Any:
        """The network's scale to fractions of the value range, for pictures and scores."""
        if not self.mean:
            return scaled
        mean, std = self._per_channel(scaled)
        return scaled * std + mean

    def raw_to_unit(self, values: np.ndarray) -> np.ndarray:
        """Raw values to fractions of the value range, NaN where they are missing; for pictures."""
        fractions = self.to_unit(self.scale(values))
        return np.where(self.valid(values) > 0, fractions, np.float32(np.nan))

    def inverse(self, scaled: np.ndarray, dtype: Any = None) -> np.ndarray:
        """The inverse of `scale`, on NumPy arrays: integers are rounded and clipped to their range.

        No integer of the result is the missing value's code: 255 for "no data" is no prediction,
        so that 254 is predicted in its place.

        Args:
          scaled: values on the network's scale.
          dtype: dtype of the result; the files' own by default.
        """
        dtype = np.dtype(self.dtype if dtype is None else dtype)
        # In float64, as float32 does not hold every 32-bit integer.
        values = np.asarray(self.to_unit(np.asarray(scaled, np.float64)), np.float64)
        if self.log:
            values = values * np.log1p(self.high - self.low)
            values = np.sign(values) * np.expm1(np.abs(values)) + self.low
        else:
            values = values * (self.high - self.low) + self.low
        if dtype.kind in "ui":
            return round_to_integers(values, dtype, self.missing)
        return values.astype(dtype)

    def describe(self) -> str:
        """The value range in words, e.g. "0 to 255 dBZ"."""
        text = f"{self.low:g} to {self.high:g}"
        return f"{text} {self.unit}" if self.unit else text

    def to_json(self) -> dict[str, Any]:
        """As a plain dictionary, for the checkpoint; its keys are those of format 4."""
        settings = dataclasses.asdict(self)
        return {_KEYS.get(name, name): value for name, value in settings.items()}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "Values":
        """The inverse of `to_json`; lists become tuples."""
        names = {key: name for name, key in _KEYS.items()}
        settings: Any = {
            names.get(key, key): tuple(value) if isinstance(value, list) else value
            for key, value in values.items()
        }
        return cls(**settings)

    def _per_channel(self, array: Any) -> list[np.ndarray]:
        """Mean and standard deviation in the rank of an array whose last axis is channels."""
        # [channels] -> [1, ..., 1, channels]: ranks are never promoted silently here.
        shape = (*(1 for _ in array.shape[:-1]), -1)
        return [np.array(pair, np.float32).reshape(shape) for pair in (self.mean, self.std)]

    def fraction(self, values: Any) -> Any:
        """Raw values to fractions of the value range, float32; missing ones to anything.

        Differences of two are in the same unit, for what compares frames.
        """
        # First to float32: of integers minus a float NumPy would make float64, and JAX float32.
        above = values.astype("float32") - self.low
        if not self.log:
            with np.errstate(over="ignore"):  # infinities are met, and said, where they matter
                return above * (1.0 / (self.high - self.low))
        space = _namespace(above)
        logarithm = space.sign(above) * space.log1p(abs(above))
        return logarithm * np.float32(1.0 / np.log1p(self.high - self.low))


def _namespace(array: Any) -> Any:
    """NumPy or jax.numpy, whichever an array is of."""
    return array.__array_namespace__() if hasattr(array, "__array_namespace__") else np


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
