"""Block matching and moving a frame along what it finds."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from jaxconvlstm.models import FramePredictor
from jaxconvlstm.nn.motion import filter_locally, match, warp


def texture(height: int, width: int, channels: int = 1) -> jax.Array:
    """A smooth random picture, `[1, height, width, channels]`."""
    noise = np.random.default_rng(0).random((height + 4, width + 4, channels))
    rows = sum(noise[k : k + height] for k in range(5))
    smooth = sum(rows[:, k : k + width] for k in range(5)) / 25
    return jnp.asarray(smooth[None], jnp.float32)


@pytest.mark.parametrize("shift", [(0, 0), (4, 0), (0, -6), (3, 5), (-8, 2)])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_shift_is_found(shift: tuple[int, int], channels: int) -> None:
    previous = texture(64, 80, channels)
    current = jnp.roll(previous, shift, (1, 2))
    flow = np.asarray(match(previous, current, reach=10))[:, 16:-16, 16:-16]
    np.testing.assert_allclose(np.median(flow, axis=(0, 1, 2)), np.negative(shift), atol=0.6)


def test_two_halves_may_move_apart() -> None:
    previous = texture(64, 128)
    current = jnp.concatenate(
        [jnp.roll(previous, 4, 1)[:, :, :64], jnp.roll(previous, -4, 1)[:, :, 64:]], axis=2
    )
    flow = np.asarray(match(previous, current, reach=8))
    np.testing.assert_allclose(np.median(flow[:, 16:-16, 12:40, 0]), -4, atol=0.6)
    np.testing.assert_allclose(np.median(flow[:, 16:-16, 88:116, 0]), 4, atol=0.6)


def test_what_does_not_change_does_not_move() -> None:
    for picture in (jnp.full((1, 24, 24, 1), 0.4), texture(24, 24)):
        flow = match(picture, picture, reach=8)
        np.testing.assert_allclose(warp(picture, flow), picture, atol=5e-3)


@pytest.mark.parametrize("shift", [(0, 0), (2, 0), (0, -3), (1, 4)])
def test_whole_pixels_are_moved_exactly(shift: tuple[int, int]) -> None:
    frame = texture(12, 14, 3)
    flow = jnp.broadcast_to(-jnp.asarray(shift, jnp.float32), (1, 12, 14, 2))
    moved = np.asarray(warp(frame, flow))
    expected = jnp.roll(frame, shift, (1, 2))
    np.testing.assert_allclose(moved[:, 4:-4, 4:-4], expected[:, 4:-4, 4:-4], atol=1e-6)


def test_between_pixels_it_interpolates_and_outside_the_edge_goes_on() -> None:
    frame = jnp.arange(5.0).reshape((1, 1, 5, 1))
    half = warp(frame, jnp.broadcast_to(jnp.asarray([0.0, 0.5]), (1, 1, 5, 2)))
    np.testing.assert_allclose(half[0, 0, :, 0], [0.5, 1.5, 2.5, 3.5, 4.0])
    far = warp(frame, jnp.broadcast_to(jnp.asarray([9.0, -9.0]), (1, 1, 5, 2)))
    np.testing.assert_allclose(far[0, 0, :, 0], np.zeros(5))


@pytest.mark.usefixtures("float64")
def test_gradients_of_moving() -> None:
    frame = jax.random.normal(jax.random.key(0), (2, 5, 6, 2), jnp.float64)
    flow = 2 * jax.random.normal(jax.random.key(1), (2, 5, 6, 2), jnp.float64)
    check_grads(
        lambda *a: warp(*map(jnp.asarray, a)),
        (frame, flow),
        1,
        modes=("rev",),
        atol=1e-6,
        rtol=1e-6,
    )


def test_no_gradient_passes_through_matching() -> None:
    frame = jnp.asarray(texture(16, 16))
    gradient = jax.grad(lambda f: jnp.sum(match(f, jnp.roll(f, 2, 1), 4)))(frame)
    assert not np.any(gradient)


@pytest.mark.parametrize("size", [(5, 7), (16, 16), (18, 30)])
def test_sizes_that_blocks_do_not_divide(size: tuple[int, int]) -> None:
    flow = match(texture(*size), texture(*size), reach=6)
    assert flow.shape == (1, *size, 2) and np.isfinite(flow).all()


def moving_clip(steps: int) -> jax.Array:
    """A texture that moves 3 pixels down and 2 to the left each frame."""
    picture = texture(64, 64)
    return jnp.stack([jnp.roll(picture[0], (3 * t, -2 * t), (0, 1)) for t in range(steps)])[None]


def test_an_untrained_model_of_motion_goes_on_moving() -> None:
    """Its change starts at zero, so it beats persistence before any training."""
    clip = moving_clip(7)
    model = FramePredictor(channels=1, features=(4,), output="motion")
    variables = jax.jit(model.init)(jax.random.key(0), clip[:, :3])
    apply = jax.jit(model.apply, static_argnames="steps")
    predicted = apply(variables, clip[:, :4], steps=3)
    inner = (slice(None), slice(None), slice(16, -16), slice(16, -16))
    error = np.mean((predicted - clip[:, 4:])[inner] ** 2)
    persistence = np.mean((clip[:, 3:4] - clip[:, 4:])[inner] ** 2)
    assert error < 0.3 * persistence


def test_a_stream_of_motion_is_the_same_as_reading_at_once() -> None:
    clip = moving_clip(4)[:, :, :22, :18]
    model = FramePredictor(channels=1, features=(4,), downsample=4, output="motion")
    variables = jax.jit(model.init)(jax.random.key(0), clip)
    variables["params"]["decoder"]["head"]["kernel"] += 0.1
    together = jax.jit(model.apply, static_argnames="steps")(variables, clip, steps=3)
    step = jax.jit(lambda *arguments: model.apply(*arguments, method="step"))
    carry = model.apply(variables, clip[:, 0].shape, method="initialize_carry")
    for t in range(clip.shape[1]):
        carry, frame = step(variables, carry, clip[:, t])
    streamed = [frame]
    for _ in range(2):
        carry, frame = step(variables, carry, frame)
        streamed.append(frame)
    # The softmax over costs magnifies rounding a thousandfold.
    np.testing.assert_allclose(np.stack(streamed, 1), together, rtol=1e-3)


def test_motion_is_causal() -> None:
    """Changing a later frame changes nothing that was predicted before it."""
    clip = moving_clip(5)
    other = clip.at[:, 4].set(1 - clip[:, 4])
    model = FramePredictor(channels=1, features=(4,), output="motion")
    variables = jax.jit(model.init)(jax.random.key(0), clip)
    variables["params"]["decoder"]["head"]["kernel"] += 0.1

    step = jax.jit(lambda *arguments: model.apply(*arguments, method="step"))

    def all_predictions(clip: jax.Array) -> list[np.ndarray]:
        carry = model.apply(variables, clip[:, 0].shape, method="initialize_carry")
        frames = []
        for t in range(clip.shape[1]):
            carry, frame = step(variables, carry, clip[:, t])
            frames.append(np.asarray(frame))
        return frames

    first, second = all_predictions(clip), all_predictions(other)
    np.testing.assert_array_equal(first[:4], second[:4])
    assert np.abs(first[4] - second[4]).max() > 0.01


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
    arrays = jnp.asarray(frames), jnp.asarray(filters)
    np.testing.assert_allclose(filter_locally(*arrays), expected, rtol=0, atol=1e-12)
    check_grads(lambda *a: filter_locally(*map(jnp.asarray, a)), arrays, order=1, modes=["rev"])
