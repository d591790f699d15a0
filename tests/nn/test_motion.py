"""Block matching, moving a frame along what it finds, and filters for each place."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from jaxconvlstm import FramePredictor
from jaxconvlstm.nn.motion import filter_locally, match, warp

MATCH, WARP = jax.jit(match, static_argnames="reach"), jax.jit(warp)
SHIFTS = [(0, 0), (4, 0), (0, -6), (3, 5), (-8, 2)]


def texture(height: int, width: int, channels: int = 1) -> np.ndarray:
    """A smooth random picture, `[1, height, width, channels]`."""
    noise = np.random.default_rng(0).random((height + 4, width + 4, channels))
    rows = sum(noise[k : k + height] for k in range(5))
    smooth = sum(rows[:, k : k + width] for k in range(5)) / 25
    return np.asarray(smooth[None], np.float32)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_shift_is_found(channels: int) -> None:
    picture = texture(64, 80, channels)
    shifted = np.concatenate([np.roll(picture, shift, (1, 2)) for shift in SHIFTS])
    previous = np.broadcast_to(picture, shifted.shape)
    flow = np.asarray(MATCH(previous, shifted, reach=10))[:, 16:-16, 16:-16]
    np.testing.assert_allclose(np.median(flow, axis=(1, 2)), np.negative(SHIFTS), atol=0.6)


def test_two_halves_may_move_apart() -> None:
    previous = texture(64, 128)
    current = np.concatenate(
        [np.roll(previous, 4, 1)[:, :, :64], np.roll(previous, -4, 1)[:, :, 64:]], axis=2
    )
    flow = np.asarray(MATCH(previous, current, reach=8))
    np.testing.assert_allclose(np.median(flow[:, 16:-16, 12:40, 0]), -4, atol=0.6)
    np.testing.assert_allclose(np.median(flow[:, 16:-16, 88:116, 0]), 4, atol=0.6)


@pytest.mark.parametrize("size", [(5, 7), (16, 16), (18, 30)])
def test_what_does_not_change_does_not_move(size: tuple[int, int]) -> None:
    """Also where blocks do not divide the size."""
    pictures = np.concatenate([np.full((1, *size, 1), 0.4, np.float32), texture(*size)])
    flow = MATCH(pictures, pictures, reach=8)
    assert flow.shape == (2, *size, 2) and np.isfinite(flow).all()
    np.testing.assert_allclose(WARP(pictures, flow), pictures, atol=5e-3)


def test_whole_pixels_are_moved_exactly() -> None:
    shifts = [(0, 0), (2, 0), (0, -3), (1, 4)]
    frame = texture(12, 14, 3)
    expected = np.concatenate([np.roll(frame, shift, (1, 2)) for shift in shifts])
    flow = np.broadcast_to(-np.array(shifts, np.float32)[:, None, None], (4, 12, 14, 2))
    moved = np.asarray(WARP(np.broadcast_to(frame, expected.shape), flow))
    np.testing.assert_allclose(moved[:, 4:-4, 4:-4], expected[:, 4:-4, 4:-4], atol=1e-6)


def test_between_pixels_it_interpolates_and_outside_the_edge_goes_on() -> None:
    frame = np.broadcast_to(np.arange(5, dtype=np.float32)[None, None, :, None], (2, 1, 5, 1))
    flow = np.array([[0.0, 0.5], [9.0, -9.0]], np.float32)[:, None, None]
    half, far = WARP(frame, np.broadcast_to(flow, (2, 1, 5, 2)))[:, 0, :, 0]
    np.testing.assert_allclose(half, [0.5, 1.5, 2.5, 3.5, 4.0])
    np.testing.assert_allclose(far, np.zeros(5))


def test_gradients_of_moving_are_the_numerical_ones(float64: None) -> None:
    generator = np.random.default_rng(0)
    frame = jnp.asarray(generator.normal(size=(2, 5, 6, 2)))
    # Between pixels, away from the kinks on them.
    flow = generator.integers(-3, 3, (2, 5, 6, 2)) + generator.uniform(0.2, 0.8, (2, 5, 6, 2))
    check_grads(WARP, (frame, jnp.asarray(flow)), 1, modes=("rev",), atol=1e-6, rtol=1e-6)


def test_no_gradient_passes_through_matching() -> None:
    frame = texture(16, 16)
    total = jax.grad(lambda f: jnp.sum(match(f, jnp.roll(f, 2, 1), 4)))
    assert not np.any(jax.jit(total)(frame))


def test_an_untrained_model_of_motion_goes_on_moving() -> None:
    """Its change starts at zero, so it beats persistence before any training."""
    picture = texture(64, 64)[0]  # moves 3 pixels down and 2 to the left each frame
    clip = np.stack([np.roll(picture, (3 * t, -2 * t), (0, 1)) for t in range(7)])[None]
    model = FramePredictor(channels=1, features=(4,), output="motion")
    predict = jax.jit(partial(model.init_with_output, steps=3))
    predicted = predict(jax.random.key(0), clip[:, :4])[0]
    inner = (slice(None), slice(None), slice(16, -16), slice(16, -16))
    error = np.mean((predicted - clip[:, 4:])[inner] ** 2)
    persistence = np.mean((clip[:, 3:4] - clip[:, 4:])[inner] ** 2)
    assert error < 0.3 * persistence


@pytest.mark.parametrize("block", [(1, 1), (2, 3)])
def test_each_block_has_its_own_filter(float64: None, block: tuple[int, int]) -> None:
    generator = np.random.default_rng(0)
    frames = generator.normal(size=(2, 3, 4, 6, 2))
    filters = generator.normal(size=(2, 3, 4 // block[0], 6 // block[1], 25))
    padded = np.pad(frames, ((0, 0), (0, 0), (2, 2), (2, 2), (0, 0)), mode="edge")
    expected = np.zeros_like(frames)
    for y in range(4):
        for x in range(6):
            weights = filters[:, :, y // block[0], x // block[1]].reshape((2, 3, 5, 5))
            around = padded[:, :, y : y + 5, x : x + 5]
            expected[:, :, y, x] = np.einsum("btij,btijc->btc", weights, around)
    run, arrays = jax.jit(filter_locally), (jnp.asarray(frames), jnp.asarray(filters))
    np.testing.assert_allclose(run(*arrays), expected, rtol=0, atol=1e-12)
    check_grads(run, arrays, order=1, modes=["rev"])
