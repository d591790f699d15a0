"""Losses: pure functions, masked, one number per example.

All of them take predictions and targets `[batch, steps, height, width, channels]` on the network's
scale, where [0, 1] is the data's value range, and a weight that broadcasts to them. Values are
never clipped to that range. Values of weight 0 are ignored, so that even a NaN there reaches
neither the loss nor its gradient.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from jaxconvlstm.checks import check_choice, check_rank, check_same_shape
from jaxconvlstm.errors import ConfigError
from jaxconvlstm.metrics.ssim import gaussian_window, similarity_map, smallest_in_window
from jaxconvlstm.nn.dtypes import widest

LAYOUT = "batch, steps, height, width, channels"
PROBABILITY_MARGIN = 1e-7  # Keras's epsilon, about the distance of 1 from the float32 below it
HUBER_DELTA = 0.1
SSIM_WEIGHT = 0.84  # Zhao et al. 2017, section III-D

AnyArray = Array | np.ndarray
Video = Float[AnyArray, "batch steps height width channels"]
Weight = Float[AnyArray, "..."]
PerExample = Float[Array, "batch"]


def mean_squared_error(predictions: Video, targets: Video, weight: Weight) -> PerExample:
    """Compute the mean squared error of each example.

    With `p` the predictions, `y` the targets and `w` the weight, sums over all axes but the batch:

        sum(w * (p - y)**2) / sum(w)

    Args:
      predictions: `[batch, steps, height, width, channels]`, network scale.
      targets: likewise.
      weight: broadcastable to them, 0 or more; 0 leaves a value out.

    Returns:
      `[batch]`, float32, from 0, in squared units of the network's scale; 0 where no value counts.
    """
    return _per_example(lambda p, y: (p - y) ** 2, predictions, targets, weight)


def mean_absolute_error(predictions: Video, targets: Video, weight: Weight) -> PerExample:
    """Compute the mean absolute error of each example.

        sum(w * |p - y|) / sum(w)

    Args:
      predictions, targets, weight: see `mean_squared_error`.

    Returns:
      `[batch]`, float32, from 0, in units of the network's scale; 0 where no value counts.
    """
    return _per_example(lambda p, y: jnp.abs(p - y), predictions, targets, weight)


def binary_cross_entropy(predictions: Video, targets: Video, weight: Weight) -> PerExample:
    """Compute the binary cross-entropy of each example, of probabilities.

        sum(w * -(y * log(q) + (1 - y) * log(1 - q))) / sum(w),  q = clip(p, 1e-7, 1 - 1e-7)

    Its smallest value is the targets' own entropy, which is 0 only if every target is 0 or 1.

    The derivative by `p` is taken to be the one by `q`, `(q - y) / (q * (1 - q))`. It is finite,
    and a probability that saturated on the wrong side, `p = 0` where `y = 1`, is pushed back with
    `-1e7`; differentiating the clip itself would give 0 just where the error is largest.

    Args:
      predictions: `[batch, steps, height, width, channels]`, probabilities in [0, 1].
      targets: likewise, in [0, 1].
      weight: see `mean_squared_error`.

    Returns:
      `[batch]`, float32, from 0 to about 16.1, in nats; 0 where no value counts.
    """
    return _per_example(value_cross_entropy, predictions, targets, weight)


def value_cross_entropy(p: Array, y: Array) -> Array:
    """Compute the binary cross-entropy of each value by itself; see `binary_cross_entropy`."""
    clipped = jnp.clip(p, PROBABILITY_MARGIN, 1 - PROBABILITY_MARGIN)
    # The difference is exactly 0 and has p's derivative: the clipped value with the gradient of one
    # that is not clipped.
    q = jax.lax.stop_gradient(clipped) + (p - jax.lax.stop_gradient(p))
    return -(y * jnp.log(q) + (1 - y) * jnp.log1p(-q))  # log(1 - q), exact for small q


def huber_error(predictions: Video, targets: Video, weight: Weight) -> PerExample:
    """Compute Huber's error of each example: small errors are squared, large ones count linearly.

        sum(w * h(|p - y|)) / sum(w),  h(e) = e**2 / 2 if e <= d else d * (e - d / 2)

    with `d = 0.1`, a tenth of the value range. At the usual 1 no error of values in [0, 1] would
    ever be a large one, and this would be half the mean squared error.

    Args:
      predictions, targets, weight: see `mean_squared_error`.

    Returns:
      `[batch]`, float32, from 0; 0 where no value counts.

    References:
      Huber, Robust estimation of a location parameter, 1964; `optax.losses.huber_loss`.
    """
    huber = functools.partial(optax.losses.huber_loss, delta=HUBER_DELTA)
    return _per_example(huber, predictions, targets, weight)


def absolute_error_and_similarity(predictions: Video, targets: Video, weight: Weight) -> PerExample:
    """Mix absolute error with structural similarity, which rewards sharp detail.

        0.84 * (1 - SSIM) + 0.16 * sum(w * |p - y|) / sum(w)

    SSIM is the mean of `ssim.similarity_map` (Gaussian window of 11 x 11 pixels, or the
    largest odd size that fits; data range 1) over windows, each of the smallest weight in it, so
    that those with a missing pixel are left out; the first term is 0 where none remains.

    Args:
      predictions, targets, weight: see `mean_squared_error`; SSIM is meant for values in [0, 1].

    Returns:
      `[batch]`, float32, from 0; 0 where no value counts.

    References:
      Zhao et al., Loss functions for image restoration with neural networks, 2017, section III-D:
      the weights; at one scale here, as MS-SSIM's five need frames of 176 pixels.
    """
    p, y, weight = _masked(predictions, targets, weight)
    window = gaussian_window(*p.shape[2:4])
    # A window with a missing pixel, which is 0 in both pictures, would be alike without merit.
    dissimilarity = _mean(1 - similarity_map(p, y, window), smallest_in_window(weight, len(window)))
    error = _mean(jnp.abs(p - y), weight)
    return SSIM_WEIGHT * dissimilarity + (1 - SSIM_WEIGHT) * error


def squared_error_and_gradient_difference(
    predictions: Video, targets: Video, weight: Weight
) -> PerExample:
    """Add to the squared error the gradient difference, which punishes blurred edges.

        sum(w * (p - y)**2) / sum(w)  +  for each of height and width:
        sum(v * | |dp| - |dy| |) / sum(v)

    with `dp` and `dy` the differences of neighbours along that axis and `v` the smaller of their
    two weights, so that a difference across a missing pixel is left out.

    Args:
      predictions, targets, weight: see `mean_squared_error`.

    Returns:
      `[batch]`, float32, from 0; 0 where no value counts.

    References:
      Mathieu et al., Deep multi-scale video prediction beyond mean square error, 2016, equation 6
      with alpha 1, and both terms of the same weight; means in place of its sums.
    """
    p, y, weight = _masked(predictions, targets, weight)
    loss = _mean((p - y) ** 2, weight)
    for axis in (2, 3):  # height, width
        length = weight.shape[axis]
        before, after = (
            jax.lax.slice_in_dim(weight, start, length - 1 + start, axis=axis) for start in (0, 1)
        )
        changes = (jnp.abs(jnp.diff(values, axis=axis)) for values in (p, y))
        loss += _mean(jnp.abs(jnp.subtract(*changes)), jnp.minimum(before, after))
    return loss


def masked_mean(per_example: PerExample, weight: Weight) -> Float[Array, ""]:
    """Compute the mean over the batch, each example counted by its total weight.

    The result is the total weighted sum over the total weight: every valid value of the batch
    counts the same, whichever example it is in, and a row of weight 0 does not count at all.

    Args:
      per_example: `[batch]`, from a loss of this file.
      weight: `[batch, steps, height, width, channels]`, the weight that it was given; axes of
        size 1 broadcast, except the batch.

    Returns:
      A scalar; 0 if the total weight is 0.
    """
    check_rank("per_example", per_example, 1, "batch")
    if weight.ndim == 0 or weight.shape[0] != per_example.shape[0]:
        raise ConfigError(
            f"weight: expected [{per_example.shape[0]}, ...], got shape {tuple(weight.shape)}"
        )
    totals = jnp.sum(jnp.asarray(weight, per_example.dtype), axis=tuple(range(1, weight.ndim)))
    return _divide(jnp.sum(per_example * totals), jnp.sum(totals))


LOSSES: dict[str, Callable[[Video, Video, Weight], PerExample]] = {
    "mse": mean_squared_error,
    "mae": mean_absolute_error,
    "bce": binary_cross_entropy,
    "huber": huber_error,
    "mae-ssim": absolute_error_and_similarity,
    "mse-gdl": squared_error_and_gradient_difference,
}


def batch_loss(name: str, predictions: Video, targets: Video, weight: Weight) -> Float[Array, ""]:
    """Compute the loss that training minimizes: the mean over a batch.

    Examples count by their total weight: for errors of single values, every valid value counts the
    same, `sum(w * error(p, y)) / sum(w)` over all axes.

    Args:
      name: a key of `LOSSES`.
      predictions, targets, weight: see `mean_squared_error`.

    Returns:
      A scalar, float32; 0 if no value counts.

    Raises:
      ConfigError: an unknown name, or shapes that do not belong together.
    """
    check_choice("loss", name, tuple(LOSSES))
    per_example = LOSSES[name](predictions, targets, weight)
    return masked_mean(per_example, expand_weight(weight, predictions))


def _per_example(
    error: Callable[[Array, Array], Array], predictions: Video, targets: Video, weight: Weight
) -> PerExample:
    """`sum(w * error(p, y)) / sum(w)` over all axes but the batch."""
    p, y, weight = _masked(predictions, targets, weight)
    return _mean(error(p, y), weight)


def _masked(predictions: Video, targets: Video, weight: Weight) -> tuple[Array, Array, Array]:
    """Predictions, targets and weight of one shape, float32 or wider; 0 where nothing counts."""
    check_rank("predictions", predictions, 5, LAYOUT)
    check_same_shape("targets", targets, "predictions", predictions)
    dtype = widest(predictions.dtype, targets.dtype, jnp.float32)
    weight = expand_weight(weight, predictions).astype(dtype)
    # Masked before the error, not after it: 0 times NaN is NaN, in the gradient too.
    p, y = (jnp.where(weight > 0, values, 0).astype(dtype) for values in (predictions, targets))
    return p, y, weight


def _mean(values: Array, weight: Array) -> PerExample:
    """Weighted mean over all axes but the batch; 0 where the weight is."""
    axes = (1, 2, 3, 4)
    return _divide(jnp.sum(weight * values, axes), jnp.sum(weight, axes))


def expand_weight(
    weight: Weight, predictions: Video
) -> Float[Array, "batch steps height width channels"]:
    """Broadcast `weight` to the shape of `predictions`.

    Raises:
      ConfigError: it does not broadcast.
    """
    try:
        return jnp.broadcast_to(weight, predictions.shape)
    except ValueError:
        raise ConfigError(
            f"weight: expected a shape that broadcasts to {tuple(predictions.shape)}, "
            f"got {tuple(weight.shape)}"
        ) from None


def _divide(total: Array, weight: Array) -> Array:
    """`total / weight`, and 0 where the weight is 0."""
    # Two choices: the outer one alone would have a NaN gradient through the division by 0.
    return jnp.where(weight > 0, total / jnp.where(weight > 0, weight, 1), 0)
