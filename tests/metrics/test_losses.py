"""The losses are what their formulas say, their gradients are finite, and the mask is exact."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from jaxconvlstm.errors import ConfigError
from jaxconvlstm.metrics import losses
from jaxconvlstm.metrics.losses import masked_mean

SHAPE = (3, 2, 4, 5, 2)
LOSSES = {name: jax.jit(loss) for name, loss in losses.LOSSES.items()}
NAMES = tuple(LOSSES)
OF_VALUES = ("mse", "mae", "bce", "huber")  # the others look at neighbours too
ONES = jnp.ones((1, 1, 1, 1, 1))
batch_loss = jax.jit(losses.batch_loss, static_argnums=0)


def example(seed: int = 0) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Predictions, targets and a weight of zeros and ones; every example has valid values."""
    keys = jax.random.split(jax.random.key(seed), 3)
    predictions = jax.random.uniform(keys[0], SHAPE, minval=0.05, maxval=0.95)
    targets = jax.random.uniform(keys[1], SHAPE)
    weight = (jax.random.uniform(keys[2], SHAPE) < 0.7).astype(jnp.float32)
    return predictions, targets, weight


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


@pytest.mark.parametrize("name", OF_VALUES)
def test_equals_formula(name: str) -> None:
    predictions, targets, weight = example()
    error, w = reference(name, predictions, targets), np.asarray(weight, np.float64)
    expected = (w * error).sum((1, 2, 3, 4)) / w.sum((1, 2, 3, 4))
    np.testing.assert_allclose(LOSSES[name](predictions, targets, weight), expected, rtol=1e-5)
    whole = batch_loss(name, predictions, targets, weight)
    np.testing.assert_allclose(whole, (w * error).sum() / w.sum(), rtol=1e-5)


def test_known_values() -> None:
    """By hand: errors 0.5 and 0.1; -ln 0.5 and -ln 0.9; Huber's 0.1 * 0.45 and 0.1**2 / 2."""
    predictions = jnp.array([0.5, 0.9]).reshape(1, 1, 1, 2, 1)
    targets = jnp.array([1.0, 1.0]).reshape(1, 1, 1, 2, 1)
    by_hand = {"mse": 0.13, "mae": 0.3, "bce": 0.3992538, "huber": 0.025}
    # The one difference there is, along the width, is 0.4 in the predictions and 0 in the targets.
    by_hand["mse-gdl"] = 0.13 + 0.4
    for name, expected in by_hand.items():
        np.testing.assert_allclose(batch_loss(name, predictions, targets, ONES), expected, 1e-5)


@pytest.mark.parametrize("name", ["mse", "mae"])
def test_values_outside_the_range_are_not_clipped(name: str) -> None:
    predictions, targets = jnp.full(SHAPE, 3.0), jnp.full(SHAPE, 1.0)
    assert batch_loss(name, predictions, targets, ONES) == {"mse": 4, "mae": 2}[name]


@pytest.mark.parametrize("name", NAMES)
def test_only_valid_values_count(name: str) -> None:
    """NaN and huge values under weight 0 change neither loss nor gradient."""
    predictions, targets, weight = example()
    dirt = jnp.where(jnp.arange(weight.size).reshape(SHAPE) % 2 == 0, jnp.nan, 1e30)
    grad = jax.jit(jax.value_and_grad(lambda p, y: batch_loss(name, p, y, weight)))
    clean = grad(predictions, targets)
    dirty = grad(*(jnp.where(weight > 0, values, dirt) for values in (predictions, targets)))
    assert jax.tree.all(jax.tree.map(jnp.array_equal, clean, dirty))
    assert jnp.all((clean[1] == 0) | (weight > 0))


@pytest.mark.parametrize("name", NAMES)
def test_masked_equals_unmasked_on_the_valid_part(name: str) -> None:
    predictions, targets, _ = example()
    weight = jnp.ones(SHAPE).at[:, :, :, 3:].set(0)
    masked = LOSSES[name](predictions, targets, weight)
    part = LOSSES[name](predictions[:, :, :, :3], targets[:, :, :, :3], ONES)
    np.testing.assert_allclose(masked, part, rtol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_padding_rows_never_count(name: str) -> None:
    predictions, targets, weight = example()
    padding = ((0, 2), *[(0, 0)] * 4)
    padded = [jnp.pad(predictions, padding, constant_values=7.0), jnp.pad(targets, padding)]
    loss = batch_loss(name, predictions, targets, weight)
    np.testing.assert_allclose(batch_loss(name, *padded, jnp.pad(weight, padding)), loss, 1e-6)
    rows = LOSSES[name](*padded, jnp.pad(weight, padding))
    np.testing.assert_array_equal(rows[3:], 0)


@pytest.mark.parametrize("name", NAMES)
def test_order_of_batch_and_channels_does_not_matter(name: str) -> None:
    arguments = example()
    loss = batch_loss(name, *arguments)
    for turned in ([a[::-1] for a in arguments], [a[..., ::-1] for a in arguments]):
        np.testing.assert_allclose(batch_loss(name, *turned), loss, rtol=1e-6)


@pytest.mark.parametrize("shape", [(), (2,), (3, 1, 1, 1, 1), (3, 2, 4, 5, 1), (1, 1, 4, 5, 1)])
def test_weight_broadcasts(shape: tuple[int, ...]) -> None:
    predictions, targets, _ = example()
    weight = jax.random.uniform(jax.random.key(5), shape)
    expected = batch_loss("mse", predictions, targets, jnp.broadcast_to(weight, SHAPE))
    np.testing.assert_allclose(batch_loss("mse", predictions, targets, weight), expected, 1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_no_valid_value_gives_zero_and_no_gradient(name: str) -> None:
    predictions, targets, _ = example()
    zero = jnp.zeros_like(ONES)
    grad = jax.jit(jax.value_and_grad(lambda p: batch_loss(name, p, targets, zero)))
    loss, gradient = grad(predictions)
    assert loss == 0 and not gradient.any()


@pytest.mark.parametrize("name", NAMES)
def test_gradient(name: str, float64: None) -> None:
    predictions, targets, weight = (a.astype(jnp.float64) for a in example())
    loss = jax.jit(lambda p: batch_loss(name, p, targets, weight))
    check_grads(loss, (predictions,), 1, ("rev",), rtol=1e-6)


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


def test_similarity_equals_scikit_image() -> None:
    predictions, targets = pictures()
    error = np.abs(predictions.astype(np.float64) - targets).mean((1, 2, 3, 4))
    expected = 0.84 * (1 - np.array(SIMILARITY)) + 0.16 * error
    found = LOSSES["mae-ssim"](predictions, targets, ONES)
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
    np.testing.assert_allclose(LOSSES["mse-gdl"](*example()), expected, rtol=1e-5)


def test_similarity_leaves_out_windows_with_a_hole() -> None:
    """A hole in the middle of 14 x 17 leaves the windows of 11 x 11 none: then the error alone."""
    predictions, targets = pictures()
    hole = np.ones((1, 1, 14, 17, 1), np.float32)
    hole[:, :, 7, 8] = 0
    mae = LOSSES["mae"](predictions, targets, jnp.asarray(hole))
    mixed = LOSSES["mae-ssim"](predictions, targets, jnp.asarray(hole))
    np.testing.assert_allclose(mixed, 0.16 * mae, rtol=1e-6)
    edge = np.ones((1, 1, 14, 17, 1), np.float32)
    edge[:, :, :, 0] = 0
    part = LOSSES["mae-ssim"](predictions[:, :, :, 1:], targets[:, :, :, 1:], ONES)
    whole = LOSSES["mae-ssim"](predictions, targets, jnp.asarray(edge))
    np.testing.assert_allclose(whole, part, rtol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_best_and_worst(name: str) -> None:
    """An exact match of zeros and ones costs nothing; black for white costs what is said here."""
    halves = jnp.zeros((1, 1, 12, 12, 1)).at[:, :, :6].set(1)
    np.testing.assert_allclose(batch_loss(name, halves, halves, ONES), 0, atol=2e-7)
    worst = {"mse": 1, "mae": 1, "bce": -np.log(1e-7), "huber": 0.095, "mse-gdl": 1}
    worst["mae-ssim"] = 1 - 0.84 * 1e-4 / (1 + 1e-4)
    black = jnp.zeros((1, 1, 12, 12, 1))
    np.testing.assert_allclose(batch_loss(name, black, black + 1, ONES), worst[name], rtol=1e-5)


def test_blur_costs_more_with_gradient_differences() -> None:
    """An edge that is spread out costs no squared error that a wrong shade would not cost too."""
    edge = jnp.zeros((1, 1, 4, 8, 1)).at[:, :, :, 4:].set(1)
    blurred = edge.at[:, :, :, 3].set(0.25).at[:, :, :, 4].set(0.75)
    shade = jnp.sqrt(batch_loss("mse", blurred, edge, ONES))
    np.testing.assert_allclose(
        batch_loss("mse-gdl", edge + shade, edge, ONES),
        batch_loss("mse", blurred, edge, ONES),
        rtol=1e-5,
    )
    assert batch_loss("mse-gdl", blurred, edge, ONES) > 0.1


@pytest.mark.parametrize("name", NAMES)
def test_gradient_on_constant_frames_is_finite(name: str) -> None:
    """Where variances, differences and errors are 0."""
    grad = jax.jit(jax.grad(lambda p, y: batch_loss(name, p, y, ONES)))
    for p, y in ((0.0, 0.0), (1.0, 1.0), (0.0, 1.0), (1.0, 0.0), (0.3, 0.4)):
        frames = jnp.full((1, 1, 12, 12, 1), p), jnp.full((1, 1, 12, 12, 1), y)
        assert jnp.isfinite(grad(*frames)).all()


def test_probabilities_beyond_the_range_are_clipped() -> None:
    """However far: rounding on the way must not reach 0 or 1, whose logarithm is infinite."""
    for p in (-5.0, 1.2, 1.3, 100.0):
        predictions = jnp.full((1, 1, 1, 1, 1), p)
        targets = jnp.full_like(predictions, float(p < 0))
        expected = -np.log(1e-7) if p < 0 else -np.log(1 - float(np.float32(1 - 1e-7)))
        np.testing.assert_allclose(batch_loss("bce", predictions, targets, ONES), expected, 1e-5)


@pytest.mark.parametrize("probability", [0.0, 1.0])
def test_saturated_probabilities_are_pushed_back(probability: float) -> None:
    predictions = jnp.full((1, 1, 1, 1, 1), probability)
    grad = jax.grad(lambda p, y: batch_loss("bce", p, y, ONES))
    wrong = grad(predictions, 1 - predictions).item()
    right = grad(predictions, predictions).item()
    assert np.isfinite([wrong, right]).all()
    assert np.sign(wrong) == (1 if probability else -1) and abs(wrong) > 1e6
    assert abs(right) < 1.1


def test_largest_cross_entropy_is_finite() -> None:
    predictions = jnp.zeros((1, 1, 1, 1, 1))
    loss = batch_loss("bce", predictions, predictions + 1, ONES)
    np.testing.assert_allclose(loss, -np.log(1e-7), rtol=1e-5)


@pytest.mark.parametrize("name", OF_VALUES)
def test_narrow_predictions_are_summed_in_float32(name: str) -> None:
    predictions = jnp.full((1, 1, 64, 64, 1), 0.25, jnp.bfloat16)
    loss = batch_loss(name, predictions, jnp.full(predictions.shape, 0.75), ONES)
    assert loss.dtype == jnp.float32
    np.testing.assert_allclose(loss, reference(name, 0.25, 0.75), rtol=1e-5)


def test_masked_mean_weighs_examples_by_their_valid_values() -> None:
    weight = jnp.zeros((2, 1, 1, 4, 1)).at[0].set(1).at[1, 0, 0, 0].set(1)
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
