"""Scores of predicted frames, per example and lead time, and their exact means over a data set.

Errors are of the values as they are; image metrics (PSNR, SSIM, ghosting) are of predictions
clipped to [0, 1]. Pixels of weight 0 are left out, and a frame without a valid one does not count.

Some scores have several variants, so that one evaluation can stand beside any published table.
Those of OpenSTL (`chengtan9907/OpenSTL`, `openstl/core/metrics.py`) are its `metric()`
with `spatial_norm=False`, as for all its video benchmarks.
"""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxconvlstm.checks import check_rank, check_same_shape
from jaxconvlstm.errors import ConfigError
from jaxconvlstm.metrics.ghosting import ghosting
from jaxconvlstm.metrics.losses import LAYOUT, Video, Weight, expand_weight, value_cross_entropy
from jaxconvlstm.metrics.ssim import (
    gaussian_window,
    similarity_map,
    smallest_in_window,
    uniform_window,
)

# An exact match has an infinite PSNR, which would swallow the mean over frames. 100 dB is an error
# of 1e-5 of the range, less than a step of 16 bits.
PSNR_CAP = 100.0
# scikit-image's default window, and its data range for floats, -1 to 1, up to version 0.19.
OPENSTL_WINDOW = 7
OPENSTL_RANGE = 2.0
# Normalising and back leaves a 1 within so much of it in float32.
ROUNDING = 1e-5

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
        "Structural similarity of Wang et al. (2004): Gaussian window of 11 x 11 pixels (the "
        "largest odd size that fits, where a frame is smaller) and sigma 1.5, population "
        "covariance, K1 0.01, K2 0.03, data range 1, mean over channels and over the windows that "
        "lie inside the frame and hold no missing pixel, then over frames; no unit, -1 to 1, "
        "higher is better; predictions are clipped to [0, 1]."
    ),
    "openstl_mse": (
        "OpenSTL's MSE: squared error summed over height, width and channels of each frame (over "
        "its valid values only), then the mean over frames; scale and range as mse, lower is "
        "better, grows with the frame; predictions are not clipped."
    ),
    "openstl_mae": (
        "OpenSTL's MAE: absolute error summed over height, width and channels of each frame (over "
        "its valid values only), then the mean over frames; scale and range as mae, lower is "
        "better, grows with the frame; predictions are not clipped."
    ),
    "openstl_ssim": (
        "OpenSTL's SSIM, which is scikit-image's default for floats up to version 0.19: uniform "
        "window of 7 x 7 pixels, sample covariance, K1 0.01, K2 0.03, data range 2, mean over "
        "channels and over the windows that lie inside the frame and hold no missing pixel, then "
        "over frames; no unit, -1 to 1, higher is better; the larger data range lets the "
        "same frames score higher than with 1; predictions are clipped to [0, 1]. Absent "
        "where a frame is smaller than the window."
    ),
    "openstl_psnr": (
        "OpenSTL's PSNR, since June 2023: defined as psnr is, so the same number (OpenSTL gives "
        "infinity where a frame matches exactly); dB, data range 1, higher is better; predictions "
        "are clipped to [0, 1]."
    ),
    "shi_cross_entropy": (
        "Binary cross-entropy per sequence of Shi et al. (2015): -(y log p + (1 - y) log(1 - p)) "
        "summed over height, width and channels of each frame (over its valid values only), mean "
        "over frames for each lead time, summed over lead times; nats; range from the targets' "
        "own entropy up, lower is better, grows with frame and horizon; predictions are clipped "
        "to [1e-7, 1 - 1e-7]. Absent where no frame's targets all lie in [0, 1]."
    ),
    "trail": (
        "Fraction of a predicted frame's energy that lies where an object was in an earlier frame, "
        "given or true, and no longer is within one pixel: energy is the squared difference from "
        "the true frame's median where it exceeds 0.05, an object is what differs from its "
        "frame's median by more than 0.05; mean over frames; no unit, range 0 to 1, lower is "
        "better, 0 for a perfect prediction; predictions are clipped to [0, 1]. Absent where no "
        "frame counts: one does if three quarters of it are background, something has left its "
        "place and the prediction is not empty."
    ),
}
SUMMED_OVER_LEADS = ("shi_cross_entropy",)
OPTIONAL = ("shi_cross_entropy", "trail")

PerFrame = Float[Array, "batch steps"]
Score = tuple[PerFrame, PerFrame]


def frame_scores(
    predictions: Video,
    targets: Video,
    weight: Weight,
    inputs: Float[Array | np.ndarray, "batch time height width channels"] | None = None,
) -> dict[str, Score]:
    """Compute all scores of every frame, as `DEFINITIONS` defines them.

    Args:
      predictions: `[batch, steps, height, width, channels]`, on the scale where [0, 1] is the
        data's value range.
      targets: likewise.
      weight: broadcastable to them; a value counts if its weight is above 0. Where it does not,
        predictions and targets may be anything, NaN too.
      inputs: `[batch, time, height, width, channels]`, the frames that were given, on the same
        scale, NaN where a value is missing; without them there is no `trail`.

    Returns:
      For each key a pair `(scores, valid)` of float32 `[batch, steps]`. `valid` is 1 where the
      frame counts; elsewhere it is 0, and so is the score. SSIM also needs one whole window
      without a missing pixel; the others that need more say so in their definition.
    """
    check_rank("predictions", predictions, 5, LAYOUT)
    check_same_shape("targets", targets, "predictions", predictions)
    mask = expand_weight(weight, predictions) > 0
    # Masked before the arithmetic: 0 times NaN is NaN.
    p, y = (jnp.where(mask, values, 0).astype(jnp.float32) for values in (predictions, targets))
    clipped = jnp.clip(p, 0, 1)
    squared, absolute = (p - y) ** 2, jnp.abs(p - y)
    clipped_error, counts = _mean_over_frame((clipped - y) ** 2, mask)
    psnr = (_psnr(clipped_error) * counts, counts)  # 0 where no pixel counts, which has error 0
    height, width = p.shape[2:4]
    scores = {
        "mse": _mean_over_frame(squared, mask),
        "mae": _mean_over_frame(absolute, mask),
        "psnr": psnr,
        "ssim": _ssim(clipped, y, mask, gaussian_window(height, width)),
        "openstl_mse": _sum_over_frame(squared, mask),
        "openstl_mae": _sum_over_frame(absolute, mask),
        "openstl_psnr": psnr,  # the same definition
        "shi_cross_entropy": _cross_entropy(p, y, mask),
    }
    if min(height, width) >= OPENSTL_WINDOW:
        window = uniform_window(OPENSTL_WINDOW)
        scores["openstl_ssim"] = _ssim(
            clipped, y, mask, window, data_range=OPENSTL_RANGE, sample_covariance=True
        )
    # The key is older than the name of the score, ghosting.
    if inputs is not None:
        check_rank("inputs", inputs, 5, "batch, time, height, width, channels")
        scores["trail"] = ghosting(clipped, y, mask, jnp.asarray(inputs, jnp.float32))
    return scores


def _sum_over_frame(values: Array, mask: Array) -> Score:
    """Sum over height, width and channels where `mask` holds, and 1 where it holds anywhere."""
    axes = (2, 3, 4)
    return jnp.sum(jnp.where(mask, values, 0), axes), jnp.any(mask, axes).astype(jnp.float32)


def _mean_over_frame(values: Array, mask: Array) -> Score:
    """Mean over height, width and channels where `mask` holds, and 1 where it holds anywhere."""
    total, counts = _sum_over_frame(values, mask)
    # Divided by 1 where no pixel counts, for 0 in place of NaN.
    return total / jnp.maximum(jnp.sum(mask, (2, 3, 4), dtype=jnp.float32), 1), counts


def _psnr(mean_squared_error: Array) -> Array:
    """`10 log10(1 / mse)` in dB; an exact match, which would be infinite, is `PSNR_CAP`."""
    smallest = 10 ** (-PSNR_CAP / 10)
    return -10 * jnp.log10(jnp.maximum(mean_squared_error, smallest))


def _ssim(
    predictions: Array, targets: Array, mask: Array, window: tuple[float, ...], **variant: Any
) -> Score:
    """Mean of the SSIM map over the windows where every pixel of `mask` holds."""
    similarity = similarity_map(predictions, targets, window, **variant)
    return _mean_over_frame(similarity, smallest_in_window(mask, len(window)))


def _cross_entropy(predictions: Array, targets: Array, mask: Array) -> Score:
    """Sum over each frame; it counts if its targets are probabilities."""
    total, counts = _sum_over_frame(value_cross_entropy(predictions, targets), mask)
    probability = (targets >= -ROUNDING) & (targets <= 1 + ROUNDING)
    counts = jnp.where(jnp.all(probability, (2, 3, 4)), counts, 0)
    return jnp.where(counts > 0, total, 0), counts


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
        """Add the scores of a batch.

        Args:
          scores: from `frame_scores`: key to `(scores, valid)`, each `[batch, steps]`.

        Raises:
          ConfigError: other keys or another number of steps than before.
        """
        if self._sums and scores.keys() != self._sums.keys():
            raise ConfigError(f"scores: expected {', '.join(self._sums)}, got {', '.join(scores)}")
        for key, (values, valid) in scores.items():
            counted = np.asarray(valid) > 0
            # float64: float32 sums of many thousand frames would depend on the batch size.
            total = np.where(counted, values, 0).astype(np.float64).sum(axis=0)
            count = counted.sum(axis=0)
            if key in self._sums:
                old_total, old_count = self._sums[key]
                check_same_shape(f"steps of {key}", total, "earlier batches", old_total)
                total, count = old_total + total, old_count + count
            self._sums[key] = (total, count)

    def per_lead(self) -> dict[str, list[float]]:
        """Compute the mean over frames for each lead time; NaN where no frame counted.

        A key of `OPTIONAL` is left out if no frame of any lead time counted.
        """
        return {
            key: [_ratio(*pair) for pair in zip(total, count)]
            for key, (total, count) in self._sums.items()
            if count.any() or key not in OPTIONAL
        }

    def means(self) -> dict[str, float]:
        """Compute the mean over the frames of all lead times; NaN if no frame counted.

        Keys are those of `per_lead`; of a key in `SUMMED_OVER_LEADS` it is the sum over lead times.
        """
        means = {}
        for key, leads in self.per_lead().items():
            total, count = self._sums[key]
            summed = key in SUMMED_OVER_LEADS
            means[key] = sum(leads) if summed else _ratio(total.sum(), count.sum())
        return means


def _ratio(total: np.floating, count: np.integer) -> float:
    return float(total / count) if count else float("nan")
