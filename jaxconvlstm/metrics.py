"""Scores of predicted frames, per example and lead time, and their exact means over a data set.

MSE and MAE are of the values as they are; PSNR and SSIM, which judge pictures, are of predictions
clipped to [0, 1]. Pixels of weight 0 are left out, and a frame without a valid one does not count.
"""

import functools
import importlib.util
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxconvlstm.checks import check_rank, check_same_shape
from jaxconvlstm.errors import ConfigError
from jaxconvlstm.losses import LAYOUT, Video, Weight, expand_weight

PSNR_CAP = 100.0
SSIM_WINDOW = 11
SSIM_SIGMA = 1.5

DEFINITIONS = {
    "mse": (
        "Mean squared error over the valid values of each frame, then over frames; network scale "
        "squared, where the data's value range is [0, 1]; from 0, lower is better; predictions "
        "are not clipped."
    ),
    "mae": (
        "Mean absolute error over the valid values of each frame, then over frames; network "
        "scale, where the data's value range is [0, 1]; from 0, lower is better; predictions are "
        "not clipped."
    ),
    "psnr": (
        "Peak signal-to-noise ratio of each frame, 10 log10(1 / MSE), then the mean over frames; "
        "dB, data range 1; up to 100, at which an exact match is capped, higher is better; "
        "predictions are clipped to [0, 1]."
    ),
    "ssim": (
        "Structural similarity of Wang et al. (2004), dm_pix: Gaussian window of 11 x 11 pixels "
        "(the largest odd size that fits, where a frame is smaller) and sigma 1.5, population "
        "covariance, K1 0.01, K2 0.03, data range 1, mean over channels and over the windows that "
        "lie inside the frame and hold no missing pixel, then over frames; no unit, -1 to 1, "
        "higher is better; predictions are clipped to [0, 1]."
    ),
}

PerFrame = Float[Array, "batch steps"]
Score = tuple[PerFrame, PerFrame]


def frame_scores(predictions: Video, targets: Video, weight: Weight) -> dict[str, Score]:
    """All scores of every frame, as `DEFINITIONS` defines them.

    Args:
      predictions: `[batch, steps, height, width, channels]`, network scale.
      targets: likewise.
      weight: broadcastable to them; a value counts if its weight is above 0. What lies where it
        does not count may be anything, NaN too.

    Returns:
      For each key a pair `(scores, valid)` of float32 `[batch, steps]`. `valid` is 1 where the
      frame counts; elsewhere it is 0, and so is the score. SSIM also needs one whole window
      without a missing pixel. It is left out if dm_pix is not installed.
    """
    check_rank("predictions", predictions, 5, LAYOUT)
    check_same_shape("targets", targets, "predictions", predictions)
    mask = expand_weight(weight, predictions) > 0
    p, y = (jnp.where(mask, values, 0).astype(jnp.float32) for values in (predictions, targets))
    shown = jnp.clip(p, 0, 1)
    squared = _mean_over_frame((shown - y) ** 2, mask)
    scores = {
        "mse": _mean_over_frame((p - y) ** 2, mask),
        "mae": _mean_over_frame(jnp.abs(p - y), mask),
        "psnr": (_psnr(squared[0]) * squared[1], squared[1]),
    }
    if importlib.util.find_spec("dm_pix") is not None:
        scores["ssim"] = _ssim(shown, y, mask)
    return scores


def _mean_over_frame(values: Array, mask: Array) -> Score:
    """Mean over height, width and channels where `mask` holds, and whether it does anywhere."""
    axes = (2, 3, 4)
    count = jnp.sum(mask, axes, dtype=jnp.float32)
    mean = jnp.sum(jnp.where(mask, values, 0), axes) / jnp.maximum(count, 1)
    return mean, (count > 0).astype(jnp.float32)


def _psnr(mean_squared_error: Array) -> Array:
    """`10 log10(1 / mse)` in dB; an exact match, which would be infinite, is `PSNR_CAP`."""
    smallest = 10 ** (-PSNR_CAP / 10)
    return -10 * jnp.log10(jnp.maximum(mean_squared_error, smallest))


def _ssim(predictions: Array, targets: Array, mask: Array) -> Score:
    """Mean of the SSIM map over the windows where every pixel of `mask` holds."""
    import dm_pix

    batch, steps, height, width, channels = predictions.shape
    size = min(SSIM_WINDOW, height, width)
    size -= 1 - size % 2
    weights = _window(size)

    def blur(frames: Array) -> Array:
        # dm_pix's own blur is the same sum, but 7 to 10 times slower on a CPU.
        for axis in (1, 2):
            length = frames.shape[axis] - size + 1
            shifted = (
                weight * jax.lax.slice_in_dim(frames, first, first + length, axis=axis)
                for first, weight in enumerate(weights)
            )
            frames = functools.reduce(jnp.add, shifted)
        return frames

    frames = (batch * steps, height, width, channels)
    similarity = dm_pix.ssim(
        predictions.reshape(frames), targets.reshape(frames), filter_fn=blur, return_map=True
    )
    whole = jax.lax.reduce_window(
        mask.reshape(frames), True, jax.lax.bitwise_and, (1, size, size, 1), (1, 1, 1, 1), "VALID"
    )
    windows = (batch, steps, *similarity.shape[1:])
    return _mean_over_frame(similarity.reshape(windows), whole.reshape(windows))


def _window(size: int) -> list[float]:
    """A Gaussian window of sum 1 along one axis."""
    weights = np.exp(-0.5 * ((np.arange(size) - size // 2) / SSIM_SIGMA) ** 2)
    return [float(weight) for weight in weights / weights.sum()]


class ScoreSums:
    """Means of frame scores over a data set, exact however it is cut into batches.

    Scores are summed in float64, together with the number of frames that count. A frame counts
    once, however many of its pixels are valid; a row that only pads a batch does not.

    Example:
      >>> sums = ScoreSums()
      >>> sums.add({"mse": (np.array([[0.1, 0.3], [9.0, 9.0]]), np.array([[1, 1], [0, 0]]))})
      >>> sums.per_lead(), sums.means()
      ({'mse': [0.1, 0.3]}, {'mse': 0.2})
    """

    def __init__(self) -> None:
        self._sums: dict[str, tuple[np.ndarray, np.ndarray]] = {}

    def add(self, scores: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> None:
        """Adds a batch.

        Args:
          scores: what `frame_scores` gives: key to `(scores, valid)`, each `[batch, steps]`.

        Raises:
          ConfigError: other keys or another number of steps than before.
        """
        if self._sums and scores.keys() != self._sums.keys():
            raise ConfigError(f"scores: expected {', '.join(self._sums)}, got {', '.join(scores)}")
        for key, (values, valid) in scores.items():
            counted = np.asarray(valid) > 0
            total = np.where(counted, values, 0).astype(np.float64).sum(axis=0)
            count = counted.sum(axis=0)
            if key in self._sums:
                old_total, old_count = self._sums[key]
                check_same_shape(f"steps of {key}", total, "earlier batches", old_total)
                total, count = old_total + total, old_count + count
            self._sums[key] = (total, count)

    def per_lead(self) -> dict[str, list[float]]:
        """Mean over frames for each lead time; NaN where no frame counted."""
        return {
            key: [_ratio(*pair) for pair in zip(total, count)]
            for key, (total, count) in self._sums.items()
        }

    def means(self) -> dict[str, float]:
        """Mean over the frames of all lead times; NaN if no frame counted."""
        return {key: _ratio(total.sum(), count.sum()) for key, (total, count) in self._sums.items()}


def _ratio(total: np.floating, count: np.integer) -> float:
    return float(total / count) if count else float("nan")
