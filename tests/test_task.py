"""What a batch costs in training, and how it is scored: frames and classes."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxconvlstm.batch import Batch
from jaxconvlstm.config.training import TrainingConfig
from jaxconvlstm.metrics.losses import batch_loss
from jaxconvlstm.models import ConvLSTMClassifier, FramePredictor
from jaxconvlstm.scale import Values
from jaxconvlstm.task import Classification, Forecasting, last_valid

VALUES = Values(0.0, 1.0, "float32")


def task(module: FramePredictor, values: Values = VALUES, **settings: object) -> Forecasting:
    return Forecasting(module, values, TrainingConfig(), **settings)


def batch(seed: int = 0, dense_targets: bool = False) -> Batch:
    frames = np.random.default_rng(seed).random((2, 5, 12, 12, 1), np.float32)
    return Batch(
        frames[:, :3], frames[:, 1 if dense_targets else 3 :], np.ones((2, 1, 1, 1, 1), np.float32)
    )


def test_persistence_stands_beside_the_model() -> None:
    module = FramePredictor(channels=1, features=(4,), output="change")
    variables = module.init(jax.random.key(0), jnp.zeros((1, 1, 12, 12, 1)))
    result = jax.jit(task(module).evaluate)(variables, batch())
    # An untrained model of the change predicts none, which is persistence.
    np.testing.assert_allclose(result["loss"], result["persistence_loss"], rtol=1e-6)
    expected = np.mean((batch().inputs[:, -1:] - batch().targets) ** 2)
    np.testing.assert_allclose(result["persistence_loss"], expected, rtol=1e-5)


def test_persistence_repeats_the_last_value_that_was_there() -> None:
    inputs = jnp.arange(4.0).reshape(1, 4, 1, 1, 1) + jnp.array([0.0, 10.0]).reshape(1, 1, 1, 2, 1)
    valid = jnp.array([[1, 1, 1, 0], [0, 0, 0, 0]]).T.reshape(1, 4, 1, 2, 1)
    # Never there: the last one, of which nothing counts.
    np.testing.assert_array_equal(last_valid(inputs, valid)[:, -1].ravel(), [2, 13])


@pytest.mark.parametrize("missing, nan", [(9.0, False), (None, True)])
def test_a_missing_last_pixel_does_not_count_as_zero(missing, nan) -> None:
    values = Values(0.0, 1.0, "float32", missing, nan)
    inputs = np.full((1, 3, 8, 8, 1), 0.5, np.float32)
    inputs[:, -1, :4] = np.nan if nan else missing
    batch = Batch(
        inputs, np.full((1, 2, 8, 8, 1), 0.5, np.float32), np.ones((1, 1, 1, 1, 1), np.float32)
    )
    module = FramePredictor(1, (4,), (3,), downsample=1)
    variables = module.init(jax.random.key(0), jnp.zeros((1, 1, 8, 8, 1)))
    result = jax.jit(task(module, values).evaluate)(variables, batch)
    assert float(result["persistence_loss"]) == 0
    assert np.isfinite(result["loss"])


def test_the_horizon_is_predicted_through_and_not_scored() -> None:
    values = Values(0.0, 1.0, "float32")
    clip = np.random.default_rng(0).random((2, 9, 8, 8, 1)).astype(np.float32)
    weight = np.ones((2, 1, 1, 1, 1), np.float32)
    module = FramePredictor(1, (4,), (3,), downsample=1)
    variables = module.init(jax.random.key(0), jnp.zeros((1, 1, 8, 8, 1)))
    whole = jax.jit(task(module, values).evaluate)(
        variables, Batch(clip[:, :4], clip[:, 4:], weight)
    )
    later = jax.jit(task(module, values, horizon=4).evaluate)(
        variables, Batch(clip[:, :4], clip[:, 7:], weight)
    )
    np.testing.assert_allclose(later["predictions"], whole["predictions"][:, 3:], atol=1e-6)
    np.testing.assert_allclose(later["model"]["mse"][0], whole["model"]["mse"][0][:, 3:], atol=1e-6)


def test_scores_are_on_the_value_range_whatever_the_network_s_scale() -> None:
    clip = np.random.default_rng(0).random((2, 6, 8, 8, 1)).astype(np.float32)
    batch = Batch(clip[:, :4], clip[:, 4:], np.ones((2, 1, 1, 1, 1), np.float32))
    module = FramePredictor(1, (4,), (3,), downsample=1)
    variables = module.init(jax.random.key(0), jnp.zeros((1, 1, 8, 8, 1)))
    plain, shifted = (
        jax.jit(task(module, values).evaluate)(variables, batch)
        for values in (
            Values(0.0, 1.0, "float32"),
            Values(0.0, 1.0, "float32", mean=(0.4,), std=(0.2,)),
        )
    )
    for key in ("mse", "mae", "psnr", "ssim"):
        theirs = [result["persistence"][key][0] for result in (plain, shifted)]
        np.testing.assert_allclose(*theirs, rtol=1e-4)
    assert float(shifted["persistence_loss"]) == pytest.approx(
        25 * float(plain["persistence_loss"]), rel=1e-4
    )


@pytest.fixture(scope="module")
def predictor() -> tuple[FramePredictor, object]:
    module = FramePredictor(1, (4,), (3,), downsample=1)
    return module, module.init(jax.random.key(0), jnp.zeros((1, 1, 12, 12, 1)))


def loss(predictor: tuple[FramePredictor, object], given: Batch, **settings: object) -> float:
    module, variables = predictor
    dense_targets = settings.pop("dense_targets", False)
    steps = settings.pop("sampling_steps", 10)
    step = jnp.int32(settings.pop("step", 0))
    training = TrainingConfig(**settings)
    made = Forecasting(module, VALUES, training, dense_targets=dense_targets, sampling_steps=steps)
    return float(jax.jit(made.loss)(variables, given, step, jax.random.key(1))[0])


def test_every_frame_after_the_first_can_be_supervised(predictor) -> None:
    """The loss is of one-step predictions while the input is read, then of free-running ones."""
    module, variables = predictor
    given = batch(dense_targets=True)
    frames = jnp.concatenate([given.inputs[:, :1], given.targets], axis=1)
    first = [module.apply(variables, frames[:, :t], steps=1) for t in (1, 2)]
    rest = module.apply(variables, frames[:, :3], steps=2)
    predictions = jnp.concatenate([*first, rest], axis=1)
    expected = batch_loss("mse", predictions, frames[:, 1:], given.weight)
    assert loss(predictor, given, supervise="all", dense_targets=True) == pytest.approx(
        float(expected), rel=1e-5
    )


def test_persistence_of_every_frame_is_the_frame_before(predictor) -> None:
    module, variables = predictor
    given = batch(dense_targets=True)
    result = jax.jit(task(module, dense_targets=True).evaluate)(variables, given)
    frames = np.concatenate([given.inputs[:, :1], given.targets], axis=1)
    unmoved = np.concatenate([frames[:, :3], frames[:, 2:3]], axis=1)
    expected = np.mean((unmoved - frames[:, 1:]) ** 2)
    np.testing.assert_allclose(result["persistence_loss"], expected, rtol=1e-5)
    assert result["predictions"].shape == frames[:, 1:].shape


def test_a_teacher_shows_the_true_frames(predictor) -> None:
    module, variables = predictor
    given = batch()
    frames, truth = map(jnp.asarray, given[:2])
    taught = module.apply(variables, frames, steps=2, teacher=truth)
    expected = batch_loss("mse", taught, given.targets, given.weight)
    assert loss(predictor, given, sampling="teacher") == pytest.approx(float(expected), rel=1e-5)
    # Scheduled sampling begins with the teacher and ends without.
    assert loss(predictor, given, sampling="scheduled") == pytest.approx(float(expected), rel=1e-5)
    alone = loss(predictor, given, sampling="scheduled", step=10)
    assert alone == pytest.approx(loss(predictor, given), rel=1e-5)
    assert alone != pytest.approx(float(expected), rel=1e-4)


@pytest.mark.parametrize("dense_targets", [False, True])
def test_reverse_sampling_hides_inputs_at_first_and_ends_as_a_forecast(
    predictor, dense_targets
) -> None:
    given = batch(dense_targets=dense_targets)
    settings = {"dense_targets": dense_targets, "supervise": "all" if dense_targets else "targets"}
    free = loss(predictor, given, **settings)
    ended = loss(predictor, given, sampling="reverse", step=10, **settings)
    assert ended == pytest.approx(free, rel=1e-5)
    begun = loss(predictor, given, sampling="reverse", step=0, **settings)
    assert begun != pytest.approx(free, rel=1e-4)


def test_dropout_follows_the_key(predictor) -> None:
    _, variables = predictor
    module = dataclasses.replace(predictor[0], dropout=0.5, recurrent_dropout=0.5)
    made = jax.jit(task(module).loss)
    losses = [
        float(made(variables, batch(), jnp.int32(0), jax.random.key(seed))[0]) for seed in (0, 0, 1)
    ]
    assert losses[0] == losses[1] != losses[2]


def test_classes_are_scored_without_padding() -> None:
    module = ConvLSTMClassifier(classes=3, features=(4,), kernel_size=(3,), downsample=1)
    frames = np.random.default_rng(0).random((3, 4, 8, 8, 1), np.float32)
    variables = module.init(jax.random.key(0), jnp.asarray(frames))
    labels = np.array([0, 2, 1], np.int32)
    made = Classification(module, VALUES)
    whole = Batch(frames[:2], labels[:2], np.ones(2, np.float32))
    padded = Batch(frames, labels, np.array([1, 1, 0], np.float32))
    results = [jax.jit(made.evaluate)(variables, given)["scores"] for given in (whole, padded)]
    np.testing.assert_allclose(results[0]["cross_entropy"], results[1]["cross_entropy"], rtol=1e-5)
    np.testing.assert_array_equal(results[0]["confusion"], results[1]["confusion"])
    losses = [
        float(jax.jit(made.loss)(variables, given, jnp.int32(0), jax.random.key(0))[0])
        for given in (whole, padded)
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    assert losses[0] == pytest.approx(float(results[0]["cross_entropy"]) / 2, rel=1e-5)
