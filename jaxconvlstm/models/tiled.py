"""Tiled prediction of frames that are too large for memory."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxconvlstm.checks import check_rank

OVERLAP = 4
"""Neighbouring tiles overlap by at least one `OVERLAP`-th of their height and width."""


def predict_tiled(
    predict: Callable[[Array], Array],
    inputs: Float[Array, "batch time height width channels"],
    tile: tuple[int, int],
) -> Float[Array, "batch steps height width channels"]:
    """Predict tile by tile, and blend where tiles overlap.

    Memory is that of one tile, and of the result. A pixel that several tiles cover is their mean,
    weighted by the distance from each tile's edge, so that no seam shows.

    Args:
      predict: from `[batch, time, tile height, tile width, channels]` to `[batch, steps, ...]`.
      inputs: `[batch, time, height, width, channels]`.
      tile: height and width in pixels; an axis on which the frame is smaller is not divided.

    Returns:
      `[batch, steps, height, width, channels]`, float32; of frames that fit into one tile, whatever
      `predict` gives.
    """
    check_rank("inputs", inputs, 5, "batch, time, height, width, channels")
    batch, time, height, width, channels = inputs.shape
    rows, columns = min(tile[0], height), min(tile[1], width)
    tops, lefts = _starts(height, rows), _starts(width, columns)
    if len(tops) == len(lefts) == 1:
        return predict(inputs)
    # [1, 1, tile height, tile width, 1]
    weight = jnp.asarray(np.outer(_ramp(rows), _ramp(columns))[None, None, :, :, None], jnp.float32)
    corners = jnp.array([(top, left) for top in tops for left in lefts])

    def add_tile(sums: tuple[Array, Array], corner: Array) -> tuple[tuple[Array, Array], None]:
        total, weights = sums
        top, left = corner
        here = (batch, time, rows, columns, channels)
        predicted = predict(jax.lax.dynamic_slice(inputs, (0, 0, top, left, 0), here))
        at = (0, 0, top, left, 0)
        old = jax.lax.dynamic_slice(total, at, predicted.shape)
        total = jax.lax.dynamic_update_slice(total, old + weight * predicted, at)
        old = jax.lax.dynamic_slice(weights, at, weight.shape)
        return (total, jax.lax.dynamic_update_slice(weights, old + weight, at)), None

    # Only the shape of a prediction is needed for the sums.
    part = jax.eval_shape(
        predict, jax.ShapeDtypeStruct((batch, time, rows, columns, channels), inputs.dtype)
    )
    empty = jnp.zeros((*part.shape[:2], height, width, part.shape[-1]), jnp.float32)
    # A loop, not a batch of tiles, which would need the memory of the whole frame.
    (total, weights), _ = jax.lax.scan(
        add_tile, (empty, jnp.zeros((1, 1, height, width, 1))), corners
    )
    return total / weights


def _starts(length: int, tile: int) -> list[int]:
    """First pixels of as few tiles as cover an axis with enough overlap, evenly spread."""
    if tile >= length:
        return [0]
    # At least one pixel further each time, however small the tile.
    step = max(tile - max(tile // OVERLAP, 1), 1)
    count = -(-(length - tile) // step) + 1
    return [int(start) for start in np.linspace(0, length - tile, count).round()]


def _ramp(length: int) -> np.ndarray:
    """Weight along a tile's side: the distance from its nearer end, from 1 on."""
    places = np.arange(length)  # + 1 below: a pixel that only one tile's edge covers needs a weight
    return np.minimum(places, places[::-1]) + 1.0
