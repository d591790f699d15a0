"""Ghosting: the energy of a prediction that lies where a moving object has been."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

# Noise and compression stay below so much of the value range; objects that one sees exceed it.
TOLERANCE = 0.05
# Fraction of a frame's valid pixels that must show background for "object" to mean anything.
LEAST_BACKGROUND = 0.75
# The median is found to 1 in 1024, finer than 8 bits are.
MEDIAN_BITS = 10

Frames = Float[Array, "batch steps height width channels"]
Valid = Bool[Array, "batch steps height width channels"]
PerFrame = Float[Array, "batch steps"]


def ghosting(
    predictions: Frames,
    targets: Frames,
    valid: Valid,
    inputs: Float[Array, "batch time height width channels"],
) -> tuple[PerFrame, PerFrame]:
    """Compute the fraction of each frame's energy that lies where an object was and no longer is.

    The background `b` of a true frame is its median, channel by channel. A pixel shows background
    if it is within 0.05 of it, in every channel, and an object if not. With `p` the prediction
    and `y` the truth, sums over pixels and channels:

        energy   = (p - b)**2 where |p - b| > 0.05, else 0
        left     = an object in any input or earlier true frame, and none in `y` within one pixel
        ghosting = sum(energy where left) / sum(energy)

    Squares, not absolute values, because this measures visibility: a haze over many pixels, which
    every prediction of an uncertain future has, weighs little beside an object of full contrast.
    They also treat a dark object on a light ground like a light one on a dark ground.

    The pixel around the object does not count: a blurred edge reaches that far wherever the
    object came from. Everything outside the objects of `y` is background there, so that a perfect
    prediction has no energy outside of them, antialiased edges included, and its ghosting is
    exactly 0.

    An object that stands still in the prediction while the true one moves on counts too, as it is
    visible where it no longer is. One that is predicted where none has been does not.

    A frame counts where at least three quarters of its valid pixels show background (elsewhere,
    "object" would mean nothing), where there is a place that an object has left, and where the
    prediction has energy at all.

    Args:
      predictions: `[batch, steps, height, width, channels]`, on the scale where [0, 1] is the
        value range, clipped to it.
      targets: likewise, not clipped; the frames between the inputs and the first target, if there
        are any, are not looked at.
      valid: which of these values are there.
      inputs: `[batch, time, height, width, channels]`, the frames that were given; NaN where a
        value is missing, where there is no object.

    Returns:
      `(ghosting, counts)`, each float32 `[batch, steps]`: from 0, which is ideal, to 1; and 1 where
      the frame counts. Elsewhere both are 0.
    """
    objects, background = _objects(targets, valid)
    given, _ = _objects(inputs, jnp.isfinite(inputs))
    # [batch, time + steps, height, width]; a running maximum in time is "in any frame so far".
    clip = jnp.concatenate([given, objects], axis=1).astype(jnp.uint8)
    been = jax.lax.cummax(clip, axis=1)[:, inputs.shape[1] :] > 0
    left = been & ~_dilated(objects)

    # Against the true frame's background: a prediction's own may hold the ghost.
    deviation = predictions - background
    seen = valid & (jnp.abs(deviation) > TOLERANCE)
    energy = jnp.sum(jnp.where(seen, deviation**2, 0), axis=-1)
    frame = (2, 3)
    total = jnp.sum(energy, frame)
    fraction = jnp.sum(jnp.where(left, energy, 0), frame) / jnp.where(total > 0, total, 1)

    there = jnp.any(valid, axis=-1)  # pixels with a valid channel
    visible, pixels = (jnp.sum(a, frame, dtype=jnp.float32) for a in (there & ~objects, there))
    mostly = visible >= LEAST_BACKGROUND * pixels
    counts = mostly & jnp.any(left & there, frame) & (total > 0)
    return jnp.where(counts, fraction, 0), counts.astype(jnp.float32)


def _objects(frames: Array, valid: Array) -> tuple[Array, Array]:
    """Find pixels that differ from their frame's background in any channel, and that background.

    Returns:
      `[batch, time, height, width]`, boolean, and `[batch, time, 1, 1, channels]`.
    """
    background = _median(frames, valid)
    differs = valid & (jnp.abs(frames - background) > TOLERANCE)
    return jnp.any(differs, axis=-1), background


def _median(frames: Array, valid: Array) -> Array:
    """Median over height and width of the valid values in [0, 1), rounded down to 1 in 1024.

    Found by halving [0, 1): counting ten times is many times faster than sorting a frame once.
    """
    axes = (2, 3)
    count = jnp.sum(valid, axes, keepdims=True)

    def halve(halving: Array, low: Array) -> Array:
        middle = low + 0.5 ** (halving.astype(low.dtype) + 1)
        below = jnp.sum(valid & (frames < middle), axes, keepdims=True)
        return jnp.where(2 * below < count, middle, low)

    return jax.lax.fori_loop(0, MEDIAN_BITS, halve, jnp.zeros(count.shape, frames.dtype))


def _dilated(objects: Array) -> Array:
    """Dilate `[batch, steps, height, width]` by one pixel in all eight directions."""
    return jax.lax.reduce_window(
        objects, False, jax.lax.bitwise_or, (1, 1, 3, 3), (1, 1, 1, 1), "SAME"
    )
