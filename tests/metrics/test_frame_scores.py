"""The scores equal other libraries', mask exactly, and average without bias."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxconvlstm.errors import ConfigError
from jaxconvlstm.metrics.frame_scores import DEFINITIONS, ScoreSums, frame_scores
from jaxconvlstm.metrics.ssim import gaussian_window, similarity_map

KEYS = tuple(key for key in DEFINITIONS if key != "trail")  # which needs inputs: test_ghosting.py
ONES = np.ones((1, 1, 1, 1, 1), np.float32)
SCORES = jax.jit(frame_scores)

# scikit-image 0.26.0 on the arrays of `golden_frames`, as float64, predictions clipped to [0, 1],
# frame by frame: structural_similarity(targets, predictions, gaussian_weights=True, sigma=1.5,
# use_sample_covariance=False, data_range=1, channel_axis=-1) and
# peak_signal_noise_ratio(targets, predictions, data_range=1); for OpenSTL's, what version 0.19 does
# by default: structural_similarity(targets, predictions, data_range=2, channel_axis=-1).
GOLDEN = {
    "ssim": [[0.8162398039635576, 0.801232632182697], [0.8375724871647944, 0.8531407725430197]],
    "psnr": [[14.999831072875558, 14.811927455629148], [15.077021718366536, 15.802798153513054]],
    "openstl_ssim": [
        [0.8219351237104603, 0.8123965101069383],
        [0.8402787320462339, 0.8537498634778556],
    ],
}


def golden_frames() -> tuple[np.ndarray, np.ndarray]:
    """Predictions, some outside [0, 1], and targets: `[2, 2, 16, 20, 3]`."""
    generator = np.random.default_rng(7)
    targets = generator.random((2, 2, 16, 20, 3)).astype(np.float32)
    noisy = targets + 0.2 * generator.standard_normal(targets.shape)
    return np.clip(noisy, -0.3, 1.3).astype(np.float32), targets


def scores_of(predictions: np.ndarray, targets: np.ndarray, weight: np.ndarray) -> dict:
    return jax.device_get(SCORES(predictions, targets, weight))


def reference_ssim(p: np.ndarray, y: np.ndarray, valid: np.ndarray, size: int) -> float:
    """Wang et al. (2004), equation 13, window by window in float64; one channel."""
    line = np.exp(-0.5 * (np.arange(size) - size // 2) ** 2 / 1.5**2)
    window = np.outer(line, line) / line.sum() ** 2
    values = []
    for i in range(p.shape[0] - size + 1):
        for j in range(p.shape[1] - size + 1):
            place = slice(i, i + size), slice(j, j + size)
            if not valid[place].all():
                continue
            a, b = p[place].astype(np.float64), y[place].astype(np.float64)
            mean_a, mean_b = (window * a).sum(), (window * b).sum()
            variances = (window * (a - mean_a) ** 2).sum() + (window * (b - mean_b) ** 2).sum()
            covariance = (window * (a - mean_a) * (b - mean_b)).sum()
            top = (2 * mean_a * mean_b + 1e-4) * (2 * covariance + 9e-4)
            values.append(top / ((mean_a**2 + mean_b**2 + 1e-4) * (variances + 9e-4)))
    return float(np.mean(values))


def test_equals_scikit_image() -> None:
    found = scores_of(*golden_frames(), ONES)
    for key, expected in GOLDEN.items():
        scores, valid = found[key]
        np.testing.assert_allclose(scores, expected, rtol=2e-5, err_msg=key)
        np.testing.assert_array_equal(valid, 1)


def test_errors_are_not_clipped() -> None:
    predictions, targets = golden_frames()
    p, y = np.asarray(predictions, np.float64), np.asarray(targets, np.float64)
    scores = scores_of(predictions, targets, ONES)
    np.testing.assert_allclose(scores["mse"][0], ((p - y) ** 2).mean((2, 3, 4)), rtol=1e-5)
    np.testing.assert_allclose(scores["mae"][0], np.abs(p - y).mean((2, 3, 4)), rtol=1e-5)


def openstl(predictions: np.ndarray, targets: np.ndarray) -> dict[str, float]:
    """The formulas of `openstl/core/metrics.py` (chengtan9907/OpenSTL, c74deb5), NumPy, float64.

    Its arrays are `[batch, time, channels, height, width]`; its means are over batch and time.
    """
    pred, true = (np.moveaxis(np.asarray(a, np.float64), -1, 2) for a in (predictions, targets))
    shown = np.minimum(np.maximum(pred, 0), 1)
    frames = [(shown[b, t], true[b, t]) for b in range(len(pred)) for t in range(pred.shape[1])]
    return {
        "openstl_mse": np.mean((pred - true) ** 2, axis=(0, 1)).sum(),
        "openstl_mae": np.mean(np.abs(pred - true), axis=(0, 1)).sum(),
        "openstl_psnr": np.mean(
            [20 * np.log10(1 / np.sqrt(np.mean((p - y) ** 2))) for p, y in frames]
        ),
    }


def test_equals_openstl() -> None:
    sums = ScoreSums()
    sums.add(scores_of(*golden_frames(), ONES))
    for key, expected in openstl(*golden_frames()).items():
        np.testing.assert_allclose(sums.means()[key], expected, rtol=1e-5, err_msg=key)


def shi(predictions: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Cross-entropy of each sequence, all pixels of all frames summed; `[batch]`, float64."""
    margin = np.float32(1e-7)
    p = np.clip(np.asarray(predictions), margin, np.float32(1) - margin).astype(np.float64)
    y = np.asarray(targets, np.float64)
    return -(y * np.log(p) + (1 - y) * np.log(1 - p)).sum((1, 2, 3, 4))


def test_cross_entropy_is_per_sequence() -> None:
    """Golden frames saturate on either side; the mean is over sequences, not over frames."""
    predictions, targets = golden_frames()
    assert predictions.min() < 0 and predictions.max() > 1
    sums = ScoreSums()
    for row in range(2):
        sums.add(scores_of(predictions[row : row + 1], targets[row : row + 1], ONES))
    expected = shi(predictions, targets).mean()
    np.testing.assert_allclose(sums.means()["shi_cross_entropy"], expected, rtol=1e-5)
    np.testing.assert_allclose(sum(sums.per_lead()["shi_cross_entropy"]), expected, rtol=1e-5)


def test_cross_entropy_of_one_half_throughout() -> None:
    """By hand: ten frames of 64 x 64, predicted as 0.5 throughout: 40960 ln 2 nats a sequence."""
    frames = np.zeros((3, 10, 64, 64, 1), np.float32)
    frames[:, :, :, 32:] = 1
    sums = ScoreSums()
    sums.add(scores_of(np.full_like(frames, 0.5), frames, ONES))
    np.testing.assert_allclose(sums.means()["shi_cross_entropy"], 28391.31, rtol=1e-6)


def test_cross_entropy_needs_probabilities() -> None:
    """A frame with a target outside [0, 1] does not count; if none does, there is no key."""
    predictions, targets = golden_frames()
    spoilt = targets.copy()
    spoilt[0, 1, 3, 3, 0], spoilt[1, 0, 3, 3, 0] = 1.1, -1e-6
    score, valid = scores_of(predictions, spoilt, ONES)["shi_cross_entropy"]
    np.testing.assert_array_equal(valid, [[1, 0], [1, 1]])
    assert score[0, 1] == 0
    sums = ScoreSums()
    sums.add(scores_of(predictions, targets - 1, ONES))
    assert "shi_cross_entropy" not in sums.means() and "shi_cross_entropy" not in sums.per_lead()
    assert np.isfinite(sums.means()["mse"])


def test_a_lead_time_without_a_frame_leaves_no_sum() -> None:
    """The sum over lead times is unknown then, and not merely smaller."""
    sums = ScoreSums()
    sums.add({"shi_cross_entropy": (np.ones((2, 2)), np.array([[1, 0], [1, 0]]))})
    assert sums.per_lead()["shi_cross_entropy"][0] == 1
    assert np.isnan(sums.means()["shi_cross_entropy"])


def test_small_frames_have_no_seven_by_seven_window() -> None:
    def scores(*size: int) -> dict:
        frames = jax.ShapeDtypeStruct((1, 1, *size, 1), np.float32)
        return jax.eval_shape(frame_scores, frames, frames, ONES)

    assert "openstl_ssim" not in scores(6, 20) and "openstl_ssim" in scores(7, 7)


def test_small_frames_use_the_largest_odd_window() -> None:
    sizes, pairs = [(7, 9), (8, 20), (5, 7), (1, 1), (2, 30)], []
    for size in sizes:
        predictions, targets = (f[0, 0, : size[0], : size[1], 0] for f in golden_frames())
        pairs.append((np.resize(predictions.clip(0, 1), size), np.resize(targets, size)))

    @jax.jit
    def ssim_of(pairs: list) -> list:
        clips = (jnp.stack(pair)[:, None, None, ..., None] for pair in pairs)
        return [frame_scores(p, y, ONES)["ssim"][0] for p, y in clips]

    for size, pair, score in zip(sizes, pairs, ssim_of(pairs)):
        window = min(11, *size) - (1 - min(11, *size) % 2)
        expected = reference_ssim(*pair, np.ones(size), window)
        np.testing.assert_allclose(score, [[expected]], rtol=1e-4, err_msg=str(size))


def test_exact_match_is_the_best_score() -> None:
    _, targets = golden_frames()
    scores = scores_of(targets, targets, ONES)
    errors = [(key, 0) for key in ("mse", "mae", "openstl_mse", "openstl_mae")]
    for key, best in (*errors, ("psnr", 100), ("ssim", 1), ("openstl_ssim", 1)):
        np.testing.assert_allclose(scores[key][0], best, rtol=1e-5, err_msg=key)


def test_worst_match() -> None:
    """Black against white: error 1, 0 dB; SSIM is C1 / (1 + C1), C1 = 1e-4 or, range 2, 4e-4."""
    black = np.zeros((1, 1, 12, 12, 1), np.float32)
    scores = scores_of(black, black + 1, ONES)
    similarity = {"ssim": 1e-4 / (1 + 1e-4), "openstl_ssim": 4e-4 / (1 + 4e-4)}
    sums = {"openstl_mse": 144, "openstl_mae": 144, "shi_cross_entropy": -144 * np.log(1e-7)}
    for key, worst in {"mse": 1, "mae": 1, "psnr": 0, **similarity, **sums}.items():
        np.testing.assert_allclose(scores[key][0], worst, rtol=1e-3, atol=1e-6, err_msg=key)


def test_masked_ssim_is_the_mean_over_whole_windows() -> None:
    predictions, targets = (f[:1, :1, ..., :1].clip(0, 1) for f in golden_frames())
    mask = np.ones((16, 20), np.float32)
    mask[3, 15] = mask[12, 19] = 0
    expected = reference_ssim(predictions[0, 0, ..., 0], targets[0, 0, ..., 0], mask, 11)
    score, valid = scores_of(predictions, targets, mask[None, None, :, :, None])["ssim"]
    np.testing.assert_allclose(score, [[expected]], rtol=1e-5)
    assert valid == 1


def test_masked_equals_unmasked_on_the_valid_part() -> None:
    predictions, targets = golden_frames()
    weight = np.ones((1, 1, 1, 20, 1), np.float32)
    weight[:, :, :, 14:] = 0
    masked = scores_of(*(np.where(weight > 0, f, np.nan) for f in golden_frames()), weight)
    part = scores_of(predictions[:, :, :, :14], targets[:, :, :, :14], ONES)
    for key in KEYS:
        np.testing.assert_allclose(masked[key], part[key], rtol=2e-5, err_msg=key)


def test_frames_without_valid_pixels_do_not_count() -> None:
    predictions, targets = golden_frames()
    weight = np.ones((2, 2, 1, 1, 1), np.float32)
    weight[0, 1] = 0
    for key, (scores, valid) in scores_of(predictions * np.nan, targets, weight * 0).items():
        np.testing.assert_array_equal([scores, valid], 0, err_msg=key)
    for key, (scores, valid) in scores_of(predictions, targets, weight).items():
        np.testing.assert_array_equal(valid, [[1, 0], [1, 1]], err_msg=key)
        assert scores[0, 1] == 0


def test_a_hole_in_every_window_leaves_no_ssim() -> None:
    predictions, targets = golden_frames()
    weight = np.ones((1, 1, 16, 20, 1), np.float32)
    weight[:, :, 8, 10] = 0
    scores = scores_of(predictions, targets, weight)
    np.testing.assert_array_equal(scores["ssim"][1], 0)
    np.testing.assert_array_equal(scores["mse"][1], 1)


def test_order_of_batch_and_channels_does_not_matter() -> None:
    predictions, targets = golden_frames()
    scores = scores_of(predictions, targets, ONES)
    turned = scores_of(predictions[::-1, ..., ::-1], targets[::-1, ..., ::-1], ONES)
    for key in KEYS:
        np.testing.assert_allclose(turned[key][0][::-1], scores[key][0], rtol=1e-5)


def test_gradients_are_finite() -> None:
    """Where predictions differ from the targets, and where they equal them."""

    def totals(predictions: jax.Array) -> dict[str, jax.Array]:
        scores = frame_scores(predictions, targets, ONES)
        return {key: score.sum() for key, (score, _) in scores.items()}

    predictions, targets = golden_frames()
    gradients = jax.jit(jax.jacrev(totals))
    for frames in (predictions, targets):
        for key, gradient in gradients(frames).items():
            assert jnp.isfinite(gradient).all(), key


def test_sums_do_not_depend_on_the_batches() -> None:
    """Five windows: at once; in twos with a padding row; the means are the plain ones."""
    generator = np.random.default_rng(0)
    values = generator.random((5, 3)).astype(np.float32)
    at_once, in_twos = ScoreSums(), ScoreSums()
    at_once.add({"mse": (values, np.ones((5, 3), np.float32))})
    padded = np.concatenate([values, np.full((1, 3), 99, np.float32)])
    for start in (0, 2, 4):
        rows = slice(start, start + 2)
        in_twos.add({"mse": (padded[rows], (np.arange(6)[rows, None] < 5) * np.ones((2, 3)))})
    for sums in (at_once, in_twos):
        expected = values.astype(np.float64)
        np.testing.assert_allclose(sums.per_lead()["mse"], expected.mean(axis=0), rtol=1e-12)
        np.testing.assert_allclose(sums.means()["mse"], expected.mean(), rtol=1e-12)


def test_each_counted_frame_weighs_the_same() -> None:
    sums = ScoreSums()
    sums.add({"mse": (np.array([[1.0, np.nan], [3.0, 5.0]]), np.array([[1, 0], [1, 1]]))})
    assert sums.per_lead() == {"mse": [2.0, 5.0]}
    assert sums.means() == {"mse": 3.0}
    nothing = ScoreSums()
    nothing.add({"mse": (np.zeros((2, 1)), np.zeros((2, 1)))})
    assert np.isnan([nothing.means()["mse"], nothing.per_lead()["mse"][0]]).all()
    assert ScoreSums().means() == {}


def test_batches_that_do_not_belong_together_are_refused() -> None:
    sums = ScoreSums()
    sums.add({"mse": (np.zeros((2, 3)), np.ones((2, 3)))})
    with pytest.raises(ConfigError, match="steps of mse"):
        sums.add({"mse": (np.zeros((2, 1)), np.ones((2, 1)))})
    with pytest.raises(ConfigError, match="scores: expected mse, got mae"):
        sums.add({"mae": (np.zeros((2, 3)), np.ones((2, 3)))})


def test_every_score_is_defined() -> None:
    frames = jax.ShapeDtypeStruct((2, 2, 16, 20, 3), jnp.float32)
    assert set(jax.eval_shape(frame_scores, frames, frames, ONES)) == set(KEYS)
    assert set(jax.eval_shape(frame_scores, frames, frames, ONES, frames)) == set(DEFINITIONS)
    for key in DEFINITIONS:
        assert "clipped" in DEFINITIONS[key] and "range" in DEFINITIONS[key]


def test_map_of_nearly_equal_large_values_is_finite() -> None:
    """Variances that rounding would make negative, with a data range that hides nothing."""
    frames = jnp.full((1, 16, 16, 1), 1e3) + jax.random.uniform(jax.random.key(0), (1, 16, 16, 1))
    window = gaussian_window(16, 16)

    def mean(p: jax.Array) -> jax.Array:
        return similarity_map(p, frames, window, data_range=1e-3).mean()

    value, gradient = jax.jit(jax.value_and_grad(mean))(frames * 1.001)
    assert jnp.isfinite(value) and jnp.isfinite(gradient).all()
