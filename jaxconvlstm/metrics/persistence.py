"""Persistence, the forecast that nothing changes: what every model has to beat."""

from typing import Any


def last_valid(inputs: Any, valid: Any) -> Any:
    """Find each pixel's last value so far that is not missing, which persistence repeats.

    It works alike on NumPy and JAX arrays.

    Args:
      inputs: `[..., time, height, width, channels]`, on the network's scale.
      valid: likewise; 0 where a value is missing.

    Returns:
      The same shape and dtype: for each time the newest value up to and with it. A pixel that has
      not been there yet keeps its own value, which `Values.scale` makes 0.
    """
    space = inputs.__array_namespace__()  # numpy or jax.numpy
    newest, seen = inputs[..., 0, :, :, :], valid[..., 0, :, :, :] > 0
    frames = [newest]
    for time in range(1, inputs.shape[-4]):
        there = valid[..., time, :, :, :] > 0
        newest = space.where(there | ~seen, inputs[..., time, :, :, :], newest)
        seen = seen | there
        frames.append(newest)
    return space.stack(frames, axis=-4)
