"""The losses are what their formulas say, their gradients are finite, and the mask is exact."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from jaxconvlstm.errors import ConfigError
from jaxconvlstm.metrics.losses import LOSSES, batch_loss, masked_mean

SHAPE = (3, 2, 4, 5, 2)
NAMES = tuple(LOSSES)
OF_VALUES = ("mse", "mae", "bce", "huber")  # the others look at neighbours too
ONES = np.ones((1, 1, 1, 1, 1), np.float32)


@jax.jit
def losses(predictions: Any, targets: Any, weight: Any) -> dict[str, Any]:
    """Of each loss: that of the batch, of each example, and gradients in predictions and targets.

    One program a shape, which all the tests share.
    """
    results = {}
    for name, loss in LOSSES.items():
        both = jax.value_and_grad(lambda p, y, name=name: batch_loss(name, p, y, weight), (0, 1))
        value, gradients = both(predictions, targets)
        results[name] = value, loss(predictions, targets, weight), gradients
    return results


def example() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Predictions, targets and a weight of zeros and ones; every example has valid values."""
    generator = np.random.default_rng(0)
    predictions = generator.uniform(0.05, 0.95, SHAPE).astype(np.float32)
    targets = generator.random(SHAPE, np.float32)
    return predictions, targets, (generator.random(SHAPE) < 0.7).astype(np.float32)


def reference(name: str, p: Any, y: Any) -> np.ndarray:
    """The error of each value in NumPy, float64."""
    p, y = np.asarray(p, np.float64), np.asarray(y, np.float64)
    if name == "bce":
        p = p.clip(1e-7, 1 - 1e-7)
        return -(y * np.log(p) + (1 - y) * np.log(1 - p))
    if name == "huber":  # keras.losses.Huber(delta=0.1), written as its definition
        e = np.abs(p - y)
        return np.where(e <= 0.1, e**2 / 2, 0.1 * e - 0.1**2 / 2)
    return (p - y) ** 2 if name == "mse" else np.abs(p - y)


def test_losses_of_values_equal_their_formulas() -> None:
    predictions, targets, weight = example()
    for name in OF_VALUES:
        error, w = reference(name, predictions, targets), weight.astype(np.float64)
        whole, each, _ = losses(predictions, targets, weight)[name]
        expected = (w * error).sum((1, 2, 3, 4)) / w.sum((1, 2, 3, 4))
        np.testing.assert_allclose(each, expected, rtol=1e-5, err_msg=name)
        np.testing.assert_allclose(whole, (w * error).sum() / w.sum(), rtol=1e-5, err_msg=name)


def test_known_values() -> None:
    """By hand: errors 0.5 and 0.1; -ln 0.5 and -ln 0.9; Huber's 0.1 * 0.45 and 0.1**2 / 2."""
    predictions = np.array([0.5, 0.9], np.float32).reshape(1, 1, 1, 2, 1)
    by_hand = {"mse": 0.13, "mae": 0.3, "bce": 0.3992538, "huber": 0.025}
    # The one difference there is, along the width, is 0.4 in the predictions and 0 in the targets.
    by_hand["mse-gdl"] = 0.13 + 0.4
    found = losses(predictions, np.ones_like(predictions), ONES)
    for name, expected in by_hand.items():
        np.testing.assert_allclose(found[name][0], expected, rtol=1e-5, err_msg=name)


def test_errors_outside_the_range_are_not_clipped_but_probabilities_are() -> None:
    """However far: rounding on the way must not reach 0 or 1, whose logarithm is infinite."""
    frames = np.ones(SHAPE, np.float32)
    found = losses(3 * frames, frames, ONES)
    assert (found["mse"][0], found["mae"][0]) == (4, 2)
    for p in (-5.0, 0.0, 1.2, 1.3, 100.0):
        target = float(p <= 0)
        expected = -np.log(1e-7) if p <= 0 else -np.log(1 - float(np.float32(1 - 1e-7)))
        loss, _, (gradient, _) = losses(p * frames, target * frames, ONES)["bce"]
        np.testing.assert_allclose(loss, expected, rtol=1e-5, err_msg=str(p))
        assert np.isfinite(gradient).all()


def test_saturated_probabilities_are_pushed_back() -> None:
    count = np.prod(SHAPE)
    for probability in (0.0, 1.0):
        predictions = np.full(SHAPE, probability, np.float32)
        wrong, right = (
            np.asarray(losses(predictions, targets, ONES)["bce"][2][0]) * count
            for targets in (1 - predictions, predictions)
        )
        assert np.isfinite([wrong, right]).all()
        assert (np.sign(wrong) == (1 if probability else -1)).all() and np.abs(wrong).min() > 1e6
        assert np.abs(right).max() < 1.1


def test_only_valid_values_count() -> None:
    """NaN and huge values under weight 0 change neither loss nor gradient."""
    predictions, targets, weight = example()
    dirt = np.where(np.arange(weight.size).reshape(SHAPE) % 2 == 0, np.nan, np.float32(1e30))
    clean = losses(predictions, targets, weight)
    dirty = losses(*(np.where(weight > 0, a, dirt) for a in (predictions, targets)), weight)
    jax.tree.map(np.testing.assert_array_equal, dirty, clean)
    for name, (_, _, gradients) in clean.items():
        for gradient in gradients:
            assert ((np.asarray(gradient) == 0) | (weight > 0)).all(), name


def test_masked_equals_unmasked_on_the_valid_part() -> None:
    predictions, targets, _ = example()
    weight = np.ones(SHAPE, np.float32)
    weight[:, :, :, 3:] = 0
    masked = losses(predictions, targets, weight)
    part = losses(predictions[:, :, :, :3], targets[:, :, :, :3], ONES)
    for name in NAMES:
        np.testing.assert_allclose(masked[name][1], part[name][1], rtol=1e-6, err_msg=name)


def test_padding_rows_never_count() -> None:
    arrays = example()
    padding = ((0, 2), *[(0, 0)] * 4)
    padded = [np.pad(a, padding, constant_values=value) for a, value in zip(arrays, (7, 0, 0))]
    expected = losses(*arrays)
    for name, (loss, rows, _) in losses(*padded).items():
        np.testing.assert_allclose(loss, expected[name][0], rtol=1e-6, err_msg=name)
        np.testing.assert_array_equal(rows[3:], 0, err_msg=name)


def test_order_of_batch_and_channels_does_not_matter() -> None:
    arrays = example()
    expected = losses(*arrays)
    for turned in ([a[::-1] for a in arrays], [a[..., ::-1] for a in arrays]):
        for name, (loss, _, _) in losses(*turned).items():
            np.testing.assert_allclose(loss, expected[name][0], rtol=1e-6, err_msg=name)


def test_weight_broadcasts() -> None:
    predictions, targets, _ = example()
    shapes = [(), (2,), (3, 1, 1, 1, 1), (3, 2, 4, 5, 1), (1, 1, 4, 5, 1)]
    weights = [np.random.default_rng(5).random(shape).astype(np.float32) for shape in shapes]
    weights[0] = np.float32(weights[0])
    found = jax.jit(lambda p, y, all_w: [batch_loss("mse", p, y, w) for w in all_w])
    for loss, weight in zip(found(predictions, targets, list(map(jnp.asarray, weights))), weights):
        whole = np.broadcast_to(weight, SHAPE)
        expected = losses(predictions, targets, whole)["mse"][0]
        np.testing.assert_allclose(loss, expected, rtol=1e-5)


def test_no_valid_value_gives_zero_and_no_gradient() -> None:
    predictions, targets, weight = example()
    for name, (loss, each, gradients) in losses(predictions, targets, 0 * weight).items():
        assert loss == 0 and not np.any(each), name
        assert not any(map(np.any, gradients)), name


def test_gradients_are_the_numerical_ones(float64: None) -> None:
    predictions, targets, weight = (jnp.asarray(a, jnp.float64) for a in example())
    every = jax.jit(lambda p: [batch_loss(name, p, targets, weight) for name in NAMES])
    check_grads(every, (predictions,), 1, ("rev",), rtol=1e-6)


# scikit-image 0.26.0 on `pictures`, as float64, picture by picture, mean over both of a clip:
# structural_similarity(targets, predictions, gaussian_weights=True, sigma=1.5,
# use_sample_covariance=False, data_range=1, channel_axis=-1).
SIMILARITY = [0.7994244969322898, 0.8281734303706123]


def pictures() -> tuple[np.ndarray, np.ndarray]:
    """Predictions and targets in [0, 1], `[2, 2, 14, 17, 2]`."""
    generator = np.random.default_rng(5)
    targets = generator.random((2, 2, 14, 17, 2)).astype(np.float32)
    noise = 0.2 * generator.standard_normal(targets.shape).astype(np.float32)
    return np.clip(targets + noise, 0, 1), targets


@jax.jit
def similarity_and_error(predictions: Any, targets: Any, weight: Any) -> tuple[Any, Any]:
    """Of each example."""
    return tuple(LOSSES[name](predictions, targets, weight) for name in ("mae-ssim", "mae"))


def test_similarity_equals_scikit_image() -> None:
    predictions, targets = pictures()
    error = np.abs(predictions.astype(np.float64) - targets).mean((1, 2, 3, 4))
    expected = 0.84 * (1 - np.array(SIMILARITY)) + 0.16 * error
    found, _ = similarity_and_error(predictions, targets, np.ones((1, 1, 14, 17, 1), np.float32))
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_gradient_difference_equals_formula() -> None:
    """Pair by pair in float64, with a third of the values missing."""
    predictions, targets, weight = (np.asarray(a, np.float64) for a in example())
    expected = (weight * (predictions - targets) ** 2).sum((1, 2, 3, 4)) / weight.sum((1, 2, 3, 4))
    for axis in (2, 3):
        total, count = np.zeros(SHAPE[0]), np.zeros(SHAPE[0])
        for first in range(SHAPE[axis] - 1):
            (p0, p1), (y0, y1), (w0, w1) = (
                (a.take(first, axis), a.take(first + 1, axis))
                for a in (predictions, targets, weight)
            )
            both = w0 * w1
            total += (both * np.abs(np.abs(p1 - p0) - np.abs(y1 - y0))).sum((1, 2, 3))
            count += both.sum((1, 2, 3))
        expected += total / count
    np.testing.assert_allclose(losses(*example())["mse-gdl"][1], expected, rtol=1e-5)


def test_similarity_leaves_out_windows_with_a_hole() -> None:
    """A hole in the middle of 14 x 17 leaves the windows of 11 x 11 none: then the error alone."""
    predictions, targets = pictures()
    hole, edge = np.ones((2, 1, 1, 14, 17, 1), np.float32)
    hole[:, :, 7, 8] = 0
    mixed, error = similarity_and_error(predictions, targets, hole)
    np.testing.assert_allclose(mixed, 0.16 * error, rtol=1e-6)
    edge[:, :, :, 0] = 0
    part, _ = similarity_and_error(predictions[:, :, :, 1:], targets[:, :, :, 1:], ONES)
    whole, _ = similarity_and_error(predictions, targets, edge)
    np.testing.assert_allclose(whole, part, rtol=1e-5)


def test_best_and_worst_and_finite_gradients_on_constant_frames() -> None:
    """An exact match of zeros and ones costs nothing; black for white costs what is said here.

    Where variances, differences and errors are 0, gradients are finite.
    """
    halves = np.zeros((1, 1, 12, 12, 1), np.float32)
    halves[:, :, :6] = 1
    worst = {"mse": 1, "mae": 1, "bce": -np.log(1e-7), "huber": 0.095, "mse-gdl": 1}
    worst["mae-ssim"] = 1 - 0.84 * 1e-4 / (1 + 1e-4)
    match, black = losses(halves, halves, ONES), losses(0 * halves, 0 * halves + 1, ONES)
    for name in NAMES:
        np.testing.assert_allclose(match[name][0], 0, atol=2e-7, err_msg=name)
        np.testing.assert_allclose(black[name][0], worst[name], rtol=1e-5, err_msg=name)
    for p, y in ((0.0, 0.0), (1.0, 1.0), (0.0, 1.0), (1.0, 0.0), (0.3, 0.4)):
        found = losses(0 * halves + np.float32(p), 0 * halves + np.float32(y), ONES)
        for name, (_, _, (gradient, _)) in found.items():
            assert np.isfinite(gradient).all(), name


def test_blur_costs_more_with_gradient_differences() -> None:
    """An edge that is spread out costs no squared error that a wrong shade would not cost too."""
    edge = np.zeros((1, 1, 12, 12, 1), np.float32)
    edge[:, :, :, 4:] = 1
    blurred = edge.copy()
    blurred[:, :, :, 3:5, 0] = 0.25, 0.75
    spread = losses(blurred, edge, ONES)
    shade = losses(edge + np.sqrt(spread["mse"][0]), edge, ONES)
    np.testing.assert_allclose(shade["mse-gdl"][0], spread["mse"][0], rtol=1e-5)
    assert spread["mse-gdl"][0] > 5 * shade["mse-gdl"][0]


def test_narrow_predictions_are_summed_in_float32() -> None:
    predictions = jnp.full((1, 1, 64, 64, 1), 0.25, jnp.bfloat16)
    targets = np.full(predictions.shape, 0.75, np.float32)
    every = jax.jit(lambda p, y: {name: batch_loss(name, p, y, ONES) for name in OF_VALUES})
    for name, loss in every(predictions, targets).items():
        assert loss.dtype == jnp.float32
        np.testing.assert_allclose(loss, reference(name, 0.25, 0.75), rtol=1e-5, err_msg=name)


def test_masked_mean_weighs_examples_by_their_valid_values() -> None:
    weight = np.zeros((2, 1, 1, 4, 1), np.float32)
    weight[0], weight[1, 0, 0, 0] = 1, 1
    assert masked_mean(jnp.array([1.0, 6.0]), weight) == 2  # (4 * 1 + 1 * 6) / 5


def test_bad_arguments_are_named(as_user: None) -> None:
    frames = jnp.zeros(SHAPE)
    with pytest.raises(ConfigError, match=r"loss: expected one of mse, mae, .*, got 'ssim'"):
        batch_loss("ssim", frames, frames, ONES)
    with pytest.raises(ConfigError, match="predictions: expected 5 axes"):
        batch_loss("mse", frames[0], frames[0], ONES)
    with pytest.raises(ConfigError, match="targets: expected the shape of predictions"):
        batch_loss("mse", frames, frames[:, :1], ONES)
    with pytest.raises(ConfigError, match="weight: expected a shape that broadcasts"):
        batch_loss("mse", frames, frames, jnp.ones((7,)))
    with pytest.raises(ConfigError, match=r"weight: expected \[3, ...\]"):
        masked_mean(jnp.zeros(3), ONES)
