"""Checks of arguments at public boundaries: "expected ..., got ...", raised while JAX traces."""

import numbers
from collections.abc import Sequence
from typing import Any

from jaxconvlstm.errors import ConfigError


def check_rank(name: str, array: Any, rank: int, layout: str) -> None:
    """Raises `ConfigError` unless `array` has `rank` axes; `layout` names them for the message."""
    if array.ndim != rank:
        raise ConfigError(
            f"{name}: expected {rank} axes [{layout}], got shape {tuple(array.shape)}"
        )


def check_clips(inputs: Any, channels: int | None = None) -> None:
    """Raise `ConfigError` unless `inputs` are clips of at least one frame, of so many channels.

    Args:
      inputs: `[batch, time, height, width, channels]`.
      channels: number of channels that the model was made for; any by default.
    """
    check_rank("inputs", inputs, 5, "batch, time, height, width, channels")
    check_positive("inputs: number of frames", inputs.shape[1])
    if channels is not None:
        check_channels("inputs", inputs, channels)


def check_channels(name: str, frames: Any, channels: int) -> None:
    """Raise `ConfigError` unless the last axis of `frames` is `channels` long."""
    if frames.shape[-1] != channels:
        raise ConfigError(
            f"{name}: the model was made for {channels} channel(s), got {frames.shape[-1]}"
        )


def check_same_shape(name: str, array: Any, other_name: str, other: Any) -> None:
    """Raises `ConfigError` unless both arrays have the same shape."""
    if array.shape != other.shape:
        raise ConfigError(
            f"{name}: expected the shape of {other_name}, {tuple(other.shape)}, "
            f"got {tuple(array.shape)}"
        )


def check_choice(name: str, value: Any, choices: Sequence[Any]) -> None:
    """Raises `ConfigError` unless `value` is one of `choices`."""
    if value not in choices:
        raise ConfigError(f"{name}: expected one of {', '.join(map(str, choices))}, got {value!r}")


def check_positive(name: str, value: Any) -> None:
    """Raises `ConfigError` unless `value` is greater than zero."""
    if not value > 0:
        raise ConfigError(f"{name}: expected a value above 0, got {value!r}")


def check_count(name: str, value: Any) -> None:
    """Raises `ConfigError` unless `value` is a whole number above zero."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value <= 0:
        raise ConfigError(f"{name}: expected a whole number above 0, got {value!r}")


def per_layer(name: str, values: Sequence[Any], layers: int) -> tuple[Any, ...]:
    """One value per layer: a single value is repeated, any other number must match `layers`."""
    values = tuple(values)
    if len(values) == 1:
        return values * layers
    if len(values) != layers:
        raise ConfigError(
            f"{name}: expected 1 or {layers} values (one per layer), got {len(values)}"
        )
    return values


def plural(count: int, noun: str) -> str:
    """Counts things in a message: `1, "channel"` as "1 channel", `3, "channel"` as "3 channels"."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
