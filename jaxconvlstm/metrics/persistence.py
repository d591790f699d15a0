"""Persistence, the forecast that nothing changes: what every model has to beat."""

from typing import Any


def last_valid(inputs: Any, valid: Any) -> Any:
    """Find each pixel's last value so far that is not missing, which persistence repeats.

    It works alike on NumPy and JAX arrays.

    Args:
      inputs: `[..., time, height, width, channels]`, on the network's scale.
      valid: likewise; 0 where a value is missing.

    Returns:
      The same shape and dtype: for each time the newest value up to and with it, and 0 before the
      first one.
    """
    space = inputs.__array_namespace__()  # numpy or jax.numpy
    newest = space.zeros_like(inputs[..., 0, :, :, :])
    frames = []
    for time in range(inputs.shape[-4]):
        newest = space.where(valid[..., time, :, :, :] > 0, inputs[..., time, :, :, :], newest)
        frames.append(newest)
    return space.stack(frames, axis=-4)
