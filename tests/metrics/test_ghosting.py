"""Ghosting is what is still seen where an object was: by hand, in extremes, and under masks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxconvlstm.metrics.frame_scores import ScoreSums, frame_scores

ONES = jnp.ones((1, 1, 1, 1, 1))
GIVEN = 4
SCORES = jax.jit(lambda *arguments: frame_scores(*arguments)["trail"])


def clip(length: int = 8, size: int = 24, speed: int = 2) -> np.ndarray:
    """A bright square of 4 x 4 with soft edges, moving to the right: `[length, size, size, 1]`."""
    frames = np.zeros((length, size, size, 1), np.float32)
    for time in range(length):
        column = 2 + speed * time
        frames[time, 9:15, column : column + 6] = 0.4
        frames[time, 10:14, column + 1 : column + 5] = 1
    return frames


def trail_of(predictions, targets, inputs, weight=ONES) -> tuple[np.ndarray, np.ndarray]:
    """Values and validity of each frame, `[steps]`, of one example."""
    arrays = (jnp.asarray(a)[None] for a in (predictions, targets))
    values, valid = jax.device_get(SCORES(*arrays, weight, jnp.asarray(inputs)[None]))
    return values[0], valid[0]


def parts() -> tuple[np.ndarray, np.ndarray]:
    """Inputs and targets of the clip."""
    frames = clip()
    return frames[:GIVEN], frames[GIVEN:]


def history(inputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """The brightest that each pixel has been up to and with each target."""
    return np.maximum.accumulate(np.concatenate([inputs, targets]))[len(inputs) :]


def blurred(frames: np.ndarray, size: int = 5) -> np.ndarray:
    """Mean over `size` x `size` pixels."""
    reach = size // 2
    padded = np.pad(frames, ((0, 0), (reach, reach), (reach, reach), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (size, size), axis=(1, 2))
    return windows.mean((-2, -1)).astype(np.float32)


def test_known_value() -> None:
    """One pixel moves from column 2 to 6: what is left there is 0.25 of 1.25.

    A haze of 0.05 is background, and what is predicted where nothing has been is no trail.
    """
    inputs, targets = np.zeros((1, 9, 12, 1), np.float32), np.zeros((1, 9, 12, 1), np.float32)
    inputs[0, 4, 2] = targets[0, 4, 6] = 1
    predictions = targets + 0.05 * (targets == 0)
    predictions[0, 4, 2] = 0.5
    values, valid = trail_of(predictions, targets, inputs)
    np.testing.assert_allclose(values, 0.25 / 1.25, rtol=1e-6)
    assert valid == 1
    predictions[0, 7, 9] = 0.5
    values, _ = trail_of(predictions, targets, inputs)
    np.testing.assert_allclose(values, 0.25 / 1.5, rtol=1e-6)


def test_a_perfect_prediction_has_none() -> None:
    """Soft edges, down to what hardly differs from the background, and noise below it."""
    inputs, targets = parts()
    generator = np.random.default_rng(0)
    for edge in (inputs, targets):
        edge += np.float32(0.06) * (blurred(edge, 7) > 0) * (edge == 0)
        edge += generator.uniform(-0.02, 0.02, edge.shape).astype(np.float32)
    values, valid = trail_of(targets, targets, inputs)
    np.testing.assert_array_equal(values, 0)
    np.testing.assert_array_equal(valid, 1)


def test_a_whole_visible_trajectory_scores_high() -> None:
    """The whole trajectory stays visible: ever more of what is seen is trail."""
    inputs, targets = parts()
    values, _ = trail_of(history(inputs, targets), targets, inputs)
    assert values[0] > 0.49 and values[-1] > 0.65 and (np.diff(values) > 0).all()
    faint, _ = trail_of(np.maximum(targets, 0.3 * history(inputs, targets)), targets, inputs)
    assert (faint > 0.05).all() and (faint < 0.4 * values).all()


def test_ghosting_grows_with_its_brightness() -> None:
    inputs, targets = parts()
    ghosts = [np.maximum(targets, share * history(inputs, targets)) for share in (0, 0.3, 0.6, 1)]
    means = [trail_of(ghost, targets, inputs)[0].mean() for ghost in ghosts]
    assert means[0] == 0 and (np.diff(means) > 0.03).all()


def test_persistence_of_a_moving_object_is_ghosting() -> None:
    """It stands where the object was: the more, the further the object is away."""
    inputs, targets = parts()
    values, valid = trail_of(np.repeat(inputs[-1:], len(targets), axis=0), targets, inputs)
    assert valid.all() and 0 < values[0] < values[1] and values[-1] == 1


def test_blur_is_hardly_ghosting() -> None:
    """A blurred prediction that moves along scores far below one that does not let go."""
    inputs, targets = parts()
    values, valid = trail_of(blurred(targets), targets, inputs)
    ghost, _ = trail_of(history(inputs, targets), targets, inputs)
    assert valid.all() and (values < 0.06).all() and (values < 0.1 * ghost).all()


def test_the_pixel_beside_the_object_does_not_count() -> None:
    """An edge predicted a pixel too wide, on the side where the object came from."""
    inputs, targets = parts()
    wide = np.maximum(targets, np.roll(targets, -1, axis=2))
    np.testing.assert_array_equal(trail_of(wide, targets, inputs)[0], 0)
    wider = np.maximum(wide, np.roll(targets, -2, axis=2))
    assert (trail_of(wider, targets, inputs)[0] > 0).all()


def test_an_object_may_come_back() -> None:
    """Where the object is now is no trail, though it has been there before."""
    inputs, targets = parts()
    back = inputs[::-1].copy()
    values, valid = trail_of(back, back, np.concatenate([inputs, targets]))
    np.testing.assert_array_equal(values, 0)
    np.testing.assert_array_equal(valid, 1)


def test_later_frames_do_not_count() -> None:
    inputs, targets = parts()
    ghost = history(inputs, targets)
    values, _ = trail_of(ghost, targets, inputs)
    changed = targets.copy()
    changed[2:] = np.roll(changed[2:], 8, axis=1)
    other, _ = trail_of(ghost, changed, inputs)
    np.testing.assert_array_equal(other[:2], values[:2])
    assert (other[2:] != values[2:]).all()


def test_earlier_true_frames_count() -> None:
    """Not only the inputs: a trail of places that were first reached while predicting."""
    inputs, targets = parts()
    ghost = history(targets[:1], targets[1:])
    values, _ = trail_of(np.concatenate([targets[:1], ghost]), targets, inputs[:1])
    assert values[0] == 0 and values[1] > 0.03 and values[2] > 0.25


@pytest.mark.parametrize("change", ["ground", "colour", "pale"])
def test_any_ground_colour_and_contrast(change: str) -> None:
    """Dark on light, colours, and half the contrast give what bright on black does."""

    def changed(frames: np.ndarray) -> np.ndarray:
        if change == "ground":
            return 1 - frames
        if change == "pale":
            return 0.2 + 0.5 * frames
        return np.concatenate([0.3 + 0 * frames, frames, 1 - frames], axis=-1)

    inputs, targets = parts()
    ghost = np.maximum(targets, 0.5 * history(inputs, targets))
    expected, _ = trail_of(ghost, targets, inputs)
    values, valid = trail_of(*map(changed, (ghost, targets, inputs)))
    np.testing.assert_allclose(values, expected, rtol=0.01)
    np.testing.assert_array_equal(valid, 1)


@pytest.mark.parametrize("case", ["empty", "still", "texture", "crowded", "hidden"])
def test_frames_that_say_nothing_do_not_count(case: str) -> None:
    """No energy; nothing left; no background; too little of it, or of what there is to see.

    Then there is no such key.
    """
    inputs, targets = parts()
    weight = np.ones((1, *targets.shape), np.float32)
    predictions = history(inputs, targets)
    if case == "empty":
        predictions = predictions * 0 + 0.04
    elif case == "still":
        targets = np.repeat(inputs[-1:], len(targets), axis=0)
        inputs = inputs[-1:]
    elif case == "texture":
        targets = np.random.default_rng(0).random(targets.shape).astype(np.float32)
    elif case == "crowded":
        targets[:, :8] = 1
    else:
        weight *= 0
        weight[:, :, 9:15, 8:20] = 1
    values, valid = trail_of(predictions, targets, inputs, weight)
    np.testing.assert_array_equal([values, valid], 0)
    sums = ScoreSums()
    sums.add({"trail": (values[None], valid[None])})
    assert sums.means() == {} and sums.per_lead() == {}


def test_missing_pixels_are_left_out() -> None:
    """NaN in predictions and targets where the weight is 0, and in the inputs; on light ground."""
    inputs, targets = parts()
    ghost = 1 - np.maximum(targets, 0.5 * history(inputs, targets))
    inputs, targets = 1 - inputs, 1 - targets
    weight = np.ones((1, *targets.shape), np.float32)
    weight[:, :, 12:] = 0
    dirty = [np.where(weight[0] > 0, frames, np.nan) for frames in (ghost, targets)]
    masked, valid = trail_of(*dirty, inputs, jnp.asarray(weight))
    part, _ = trail_of(ghost[:, :12], targets[:, :12], inputs[:, :12])
    np.testing.assert_allclose(masked, part, rtol=1e-5)
    np.testing.assert_array_equal(valid, 1)
    unseen, valid = trail_of(ghost, targets, np.full_like(inputs, np.nan))
    np.testing.assert_array_equal(unseen, trail_of(ghost, targets, np.ones_like(inputs))[0])
    assert unseen[0] == 0 and unseen[1] > 0
    np.testing.assert_array_equal(valid, [0, 1, 1, 1])


def test_each_example_is_by_itself() -> None:
    inputs, targets = parts()
    ghost = history(inputs, targets)
    batch = [jnp.stack([frames, frames[:, ::-1, ::-1]]) for frames in (ghost, targets, inputs)]
    batch[0] = batch[0].at[1].set(batch[1][1])
    values, valid = SCORES(batch[0], batch[1], ONES, batch[2])
    np.testing.assert_array_equal(valid, 1)
    np.testing.assert_allclose(values[0], trail_of(ghost, targets, inputs)[0], rtol=1e-5)
    np.testing.assert_array_equal(values[1], 0)


def test_gradient_is_finite() -> None:
    inputs, targets = (jnp.asarray(frames)[None] for frames in parts())

    def total(predictions: jax.Array) -> jax.Array:
        return frame_scores(predictions, targets, ONES, inputs)["trail"][0].sum()

    gradient = jax.jit(jax.grad(total))
    for predictions in (targets, targets * 0, targets * 0 + 0.5):
        assert jnp.isfinite(gradient(predictions)).all()
