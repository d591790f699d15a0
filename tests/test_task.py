"""What a batch costs in training, and how it is scored: frames and classes."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numerics import Tree, normal

from jaxconvlstm import Batch, ConvLSTMClassifier, FramePredictor, TrainingConfig, Values
from jaxconvlstm.metrics.losses import batch_loss
from jaxconvlstm.task import Classification, Forecasting, last_valid

VALUES = Values(0.0, 1.0, "float32")
MODEL = FramePredictor(1, (4,), (3,), downsample=1, output="change")
CLIP = np.random.default_rng(0).random((2, 9, 8, 8, 1), np.float32)
ONES = np.ones((2, 1, 1, 1, 1), np.float32)
GIVEN = 4


@pytest.fixture(scope="module")
def untrained() -> Tree:
    """A model of the change that predicts none, which is persistence."""
    return jax.jit(MODEL.init)(jax.random.key(0), CLIP)


@pytest.fixture(scope="module")
def variables(untrained: Tree) -> Tree:
    return jax.tree.map(lambda leaf: leaf + 0.1 * normal(leaf.size, *leaf.shape), untrained)


def evaluate(
    variables: Tree, batch: Batch, *keys: str, values: Values = VALUES, **settings: Any
) -> dict[str, Any]:
    """What is named of an evaluation; the rest is not compiled."""
    task = Forecasting(MODEL, values, TrainingConfig(), **settings)
    run = jax.jit(lambda *given: {key: task.evaluate(*given)[key] for key in keys})
    return jax.device_get(run(variables, batch))


def batch(dense_targets: bool = False) -> Batch:
    """4 frames given and 2 to predict, or all after the first."""
    return Batch(CLIP[:, :GIVEN], CLIP[:, 1 if dense_targets else GIVEN : GIVEN + 2], ONES)


def test_persistence_stands_beside_the_model(untrained: Tree) -> None:
    result = evaluate(untrained, batch(), "loss", "persistence_loss", "weight")
    np.testing.assert_allclose(result["loss"], result["persistence_loss"], rtol=1e-6)
    expected = np.mean((batch().inputs[:, -1:] - batch().targets) ** 2)
    np.testing.assert_allclose(result["persistence_loss"], expected, rtol=1e-5)
    assert result["weight"] == batch().targets.size


def test_persistence_repeats_the_last_value_that_was_there() -> None:
    inputs = np.arange(4.0).reshape(1, 4, 1, 1, 1) + np.array([0.0, 10.0]).reshape(1, 1, 1, 2, 1)
    valid = np.array([[1, 1, 1, 0], [0, 0, 0, 0]]).T.reshape(1, 4, 1, 2, 1)
    # Never there: the last one, of which nothing counts.
    last = last_valid(jnp.asarray(inputs), jnp.asarray(valid))
    np.testing.assert_array_equal(last[:, -1].ravel(), [2, 13])


@pytest.mark.parametrize("missing, nan", [(9.0, False), (None, True)])
def test_missing_pixels_count_neither_as_zero_nor_in_the_loss(
    untrained: Tree, missing: float | None, nan: bool
) -> None:
    values = Values(0.0, 1.0, "float32", missing, nan)
    inputs, targets = (np.full((2, time, 8, 8, 1), 0.5, np.float32) for time in (GIVEN, 2))
    inputs[:, -1, :4] = targets[:, :, :, :3] = np.nan if nan else missing
    result = evaluate(
        untrained, Batch(inputs, targets, ONES), "loss", "persistence_loss", "weight", values=values
    )
    assert result["persistence_loss"] == 0 and np.isfinite(result["loss"])
    assert result["weight"] == 2 * 2 * 8 * 5


def test_the_horizon_is_predicted_through_and_not_scored(variables: Tree) -> None:
    keys = "predictions", "model"
    whole = evaluate(variables, Batch(CLIP[:, :GIVEN], CLIP[:, GIVEN:], ONES), *keys)
    later = Batch(CLIP[:, :GIVEN], CLIP[:, GIVEN + 3 :], ONES)
    later = evaluate(variables, later, *keys, horizon=4)
    np.testing.assert_allclose(later["predictions"], whole["predictions"][:, 3:], atol=1e-6)
    np.testing.assert_allclose(later["model"]["mse"][0], whole["model"]["mse"][0][:, 3:], atol=1e-6)


def test_scores_are_on_the_value_range_whatever_the_networks_scale(untrained: Tree) -> None:
    keys = "persistence", "persistence_loss", "model"
    normal = dataclasses.replace(VALUES, mean=(0.4,), std=(0.2,))
    plain, shifted = (
        evaluate(untrained, batch(), *keys, values=values) for values in (VALUES, normal)
    )
    for who in ("persistence", "model"):
        for key in ("mse", "mae", "psnr", "ssim"):
            theirs = [result[who][key][0] for result in (plain, shifted)]
            np.testing.assert_allclose(*theirs, rtol=1e-4)
    expected = 25 * float(plain["persistence_loss"])
    assert float(shifted["persistence_loss"]) == pytest.approx(expected, rel=1e-4)


def test_persistence_of_every_frame_is_the_frame_before(variables: Tree) -> None:
    given = batch(dense_targets=True)
    result = evaluate(variables, given, "predictions", "persistence_loss", dense_targets=True)
    unmoved = np.concatenate([CLIP[:, :GIVEN], CLIP[:, GIVEN - 1 : GIVEN]], axis=1)
    expected = np.mean((unmoved - given.targets) ** 2)
    np.testing.assert_allclose(result["persistence_loss"], expected, rtol=1e-5)
    assert result["predictions"].shape == given.targets.shape


def loss(variables: Tree, given: Batch, *steps: int, **settings: Any) -> list[float]:
    """The loss of a batch at each of some steps of training, of which 10 sample."""
    dense_targets = settings.pop("dense_targets", False)
    training = TrainingConfig(**settings)
    task = Forecasting(MODEL, VALUES, training, dense_targets=dense_targets, sampling_steps=10)
    run = jax.jit(task.loss)
    key = jax.random.key(1)
    return [float(run(variables, given, jnp.int32(step), key)[0]) for step in steps or (0,)]


def test_every_frame_after_the_first_can_be_supervised(variables: Tree) -> None:
    """The loss is of one-step predictions while the input is read, then of free-running ones."""
    given = batch(dense_targets=True)

    @jax.jit
    def expected(variables: Tree, frames: jax.Array) -> jax.Array:
        first = [MODEL.apply(variables, frames[:, :t], steps=1) for t in range(1, GIVEN)]
        rest = MODEL.apply(variables, frames, steps=2)
        predictions = jnp.concatenate([*first, rest], axis=1)
        return batch_loss("mse", predictions, given.targets, given.weight)

    (found,) = loss(variables, given, supervise="all", dense_targets=True)
    assert found == pytest.approx(float(expected(variables, given.inputs)), rel=1e-5)


def test_a_teacher_shows_the_true_frames_and_scheduled_sampling_ends_without(
    variables: Tree,
) -> None:
    given = batch()
    predict = jax.jit(lambda v, x, y: MODEL.apply(v, x, steps=2, teacher=y))
    taught = predict(variables, *given[:2])
    expected = float(batch_loss("mse", taught, given.targets, given.weight))
    (free,) = loss(variables, given)
    assert loss(variables, given, sampling="teacher") == pytest.approx([expected], rel=1e-5)
    scheduled = loss(variables, given, 0, 10, sampling="scheduled")
    assert scheduled == pytest.approx([expected, free], rel=1e-5)
    assert free != pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("dense_targets", [False, True])
def test_reverse_sampling_hides_inputs_at_first_and_ends_as_a_forecast(
    variables: Tree, dense_targets: bool
) -> None:
    given = batch(dense_targets)
    settings = {"dense_targets": dense_targets, "supervise": "all" if dense_targets else "targets"}
    (free,) = loss(variables, given, **settings)
    begun, ended = loss(variables, given, 0, 10, sampling="reverse", **settings)
    assert ended == pytest.approx(free, rel=1e-5)
    assert begun != pytest.approx(free, rel=1e-4)


def test_dropout_follows_the_key(variables: Tree) -> None:
    module = dataclasses.replace(MODEL, dropout=0.5, recurrent_dropout=0.5)
    run = jax.jit(Forecasting(module, VALUES, TrainingConfig()).loss)
    losses = [
        float(run(variables, batch(), jnp.int32(0), jax.random.key(seed))[0]) for seed in (0, 0, 1)
    ]
    assert losses[0] == losses[1] != losses[2]


def test_classes_are_scored_without_padding() -> None:
    module = ConvLSTMClassifier(classes=3, features=(4,), kernel_size=(3,), downsample=1)
    task, labels = Classification(module, VALUES), np.array([0, 2, 1], np.int32)
    frames = np.random.default_rng(0).random((3, 4, 8, 8, 1), np.float32)

    @jax.jit
    def run(variables: Tree, batch: Batch) -> tuple[dict[str, Any], Any]:
        cost, _ = task.loss(variables, batch, jnp.int32(0), jax.random.key(0))
        return task.evaluate(variables, batch)["scores"], cost

    variables = jax.jit(module.init)(jax.random.key(0), frames)
    whole = Batch(frames[:2], labels[:2], np.ones(2, np.float32))
    padded = Batch(frames, labels, np.array([1, 1, 0], np.float32))
    (scores, cost), (padded_scores, padded_cost) = jax.device_get(
        [run(variables, given) for given in (whole, padded)]
    )
    np.testing.assert_allclose(scores["cross_entropy"], padded_scores["cross_entropy"], rtol=1e-5)
    np.testing.assert_array_equal(scores["confusion"], padded_scores["confusion"])
    np.testing.assert_allclose(cost, padded_cost, rtol=1e-5)
    np.testing.assert_allclose(cost, scores["cross_entropy"] / 2, rtol=1e-5)
