"""One training step, and whole runs in this process."""

import dataclasses
import itertools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxconvlstm as jcl
from jaxconvlstm.config import Config, DataConfig, ModelConfig, Split, TrainingConfig
from jaxconvlstm.data.batch import Batch
from jaxconvlstm.data.values import Values
from jaxconvlstm.errors import ConfigError, NonFiniteError
from jaxconvlstm.models import FramePredictor
from jaxconvlstm.training import (
    init_state,
    last_valid,
    make_eval_step,
    make_schedule,
    make_train_step,
)

VALUES = Values(0.0, 1.0, "float32")
TINY = Config(
    DataConfig(input_frames=3, target_frames=2, limit=6),
    ModelConfig(features=(4,), layers=1),
    TrainingConfig(epochs=2, batch_size=2, log_every=1, warmup_steps=0),
)


def batch(seed: int = 0) -> Batch:
    frames = np.random.default_rng(seed).random((2, 5, 12, 12, 1), np.float32)
    return Batch(frames[:, :3], frames[:, 3:], np.ones((2, 1, 1, 1, 1), np.float32))


def step_and_state(values: Values = VALUES, **settings: object) -> tuple[object, object]:
    module = FramePredictor(channels=1, features=(4,))
    optimizer = optax.adam(1e-2)
    config = dataclasses.replace(TINY.training, **settings)
    step = jax.jit(make_train_step(module, optimizer, values, config))
    return step, init_state(module, optimizer, (12, 12, 1), seed=0)


@pytest.mark.parametrize("loss", ["mse", "mae"])
def test_training_fits_a_batch(loss: str) -> None:
    step, state = step_and_state(loss=loss)
    losses = []
    for _ in range(30):
        state, metrics = step(state, batch())
        losses.append(float(metrics["loss"]))
    assert losses[-1] < 0.7 * losses[0]
    assert int(state.step) == 30


def test_a_step_that_is_not_finite_changes_no_weights() -> None:
    step, state = step_and_state()
    spoiled = batch()
    spoiled.inputs[0, 0, 0, 0, 0] = np.nan
    after, metrics = step(state, spoiled)
    assert not bool(metrics["finite"])
    for one, other in zip(
        jax.tree.leaves((state.variables, state.opt_state)),
        jax.tree.leaves((after.variables, after.opt_state)),
        strict=True,
    ):
        np.testing.assert_array_equal(one, other)


def test_padded_rows_and_missing_pixels_change_nothing() -> None:
    """Whatever stands in a row of weight 0, or where a value is missing in the targets."""
    values = Values(0.0, 1.0, "float32", missing=9.0)
    step, state = step_and_state(values)
    clean = batch()
    clean.weight[1] = 0
    clean.targets[0, :, :4] = 9.0
    other = Batch(clean.inputs.copy(), clean.targets.copy(), clean.weight)
    other.inputs[1] = other.targets[1] = 0.3
    first, _ = step(state, clean)
    second, _ = step(state, other)
    for one, two in zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True):
        np.testing.assert_allclose(one, two, atol=1e-6)


def test_integers_are_scaled_on_the_device() -> None:
    step, state = step_and_state(Values.for_dtype(np.uint8))
    floats = batch()
    whole = Batch(*(np.uint8(np.rint(a * 255)) for a in floats[:2]), floats.weight)
    same = Batch(*(np.float32(a / 255) for a in whole[:2]), floats.weight)
    plain, _ = step_and_state()
    _, from_integers = step(state, whole)
    _, from_floats = plain(state, same)
    np.testing.assert_allclose(from_integers["loss"], from_floats["loss"], rtol=1e-5)


def test_persistence_stands_beside_the_model() -> None:
    module = FramePredictor(channels=1, features=(4,), output="change")
    variables = module.init(jax.random.key(0), jnp.zeros((1, 1, 12, 12, 1)))
    result = jax.jit(make_eval_step(module, VALUES, "mse", 2))(variables, batch())
    # An untrained model of the change predicts none, which is persistence.
    np.testing.assert_allclose(result["loss"], result["persistence_loss"], rtol=1e-6)
    expected = np.mean((batch().inputs[:, -1:] - batch().targets) ** 2)
    np.testing.assert_allclose(result["persistence_loss"], expected, rtol=1e-5)


def test_persistence_repeats_the_last_value_that_was_there() -> None:
    inputs = jnp.arange(4.0).reshape(1, 4, 1, 1, 1) + jnp.array([0.0, 10.0]).reshape(1, 1, 1, 2, 1)
    valid = jnp.array([[1, 1, 1, 0], [0, 0, 0, 0]]).T.reshape(1, 4, 1, 2, 1)
    # Never there: the last one, of which nothing counts.
    np.testing.assert_array_equal(last_valid(inputs, valid).ravel(), [2, 13])


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
    result = jax.jit(make_eval_step(module, values, "mse", 2))(variables, batch)
    assert float(result["persistence_loss"]) == 0
    assert np.isfinite(result["loss"])


def test_the_horizon_is_predicted_through_and_not_scored() -> None:
    values = Values(0.0, 1.0, "float32")
    film = np.random.default_rng(0).random((2, 9, 8, 8, 1)).astype(np.float32)
    weight = np.ones((2, 1, 1, 1, 1), np.float32)
    module = FramePredictor(1, (4,), (3,), downsample=1)
    variables = module.init(jax.random.key(0), jnp.zeros((1, 1, 8, 8, 1)))
    whole = jax.jit(make_eval_step(module, values, "mse", 5))(
        variables, Batch(film[:, :4], film[:, 4:], weight)
    )
    later = jax.jit(make_eval_step(module, values, "mse", 2, horizon=4))(
        variables, Batch(film[:, :4], film[:, 7:], weight)
    )
    np.testing.assert_allclose(later["predictions"], whole["predictions"][:, 3:], atol=1e-6)
    np.testing.assert_allclose(later["model"]["mse"][0], whole["model"]["mse"][0][:, 3:], atol=1e-6)


def test_scores_are_on_the_value_range_whatever_the_network_s_scale() -> None:
    film = np.random.default_rng(0).random((2, 6, 8, 8, 1)).astype(np.float32)
    batch = Batch(film[:, :4], film[:, 4:], np.ones((2, 1, 1, 1, 1), np.float32))
    module = FramePredictor(1, (4,), (3,), downsample=1)
    variables = module.init(jax.random.key(0), jnp.zeros((1, 1, 8, 8, 1)))
    plain, shifted = (
        jax.jit(make_eval_step(module, values, "mse", 2))(variables, batch)
        for values in (
            Values(0.0, 1.0, "float32"),
            Values(0.0, 1.0, "float32", shift=(0.4,), spread=(0.2,)),
        )
    )
    for key in ("mse", "mae", "psnr", "ssim"):
        theirs = [result["persistence"][key][0] for result in (plain, shifted)]
        np.testing.assert_allclose(*theirs, rtol=1e-4)
    assert float(shifted["persistence_loss"]) == pytest.approx(
        25 * float(plain["persistence_loss"]), rel=1e-4
    )


def test_learning_rate_schedules() -> None:
    settings = TrainingConfig(learning_rate=1.0, warmup_steps=4, schedule="cosine")
    cosine = [float(make_schedule(settings, 20)(step)) for step in range(20)]
    assert cosine[0] == pytest.approx(0.2) and max(cosine) == cosine[4] == pytest.approx(1.0)
    assert all(a > b for a, b in itertools.pairwise(cosine[4:]))
    assert float(make_schedule(settings, 20)(20)) == pytest.approx(0.01)
    constant = make_schedule(dataclasses.replace(settings, schedule="constant"), 20)
    assert [float(constant(step)) for step in (4, 10, 19)] == [1.0, 1.0, 1.0]


def test_the_same_seed_gives_the_same_weights(tmp_path: Path) -> None:
    for name in ("a", "b"):
        jcl.fit(TINY, tmp_path / name)
    first, second = (jcl.load(tmp_path / name, "last") for name in ("a", "b"))
    for one, other in zip(
        jax.tree.leaves(first.variables), jax.tree.leaves(second.variables), strict=True
    ):
        np.testing.assert_array_equal(one, other)


def test_without_validation_the_newest_weights_are_the_best(tmp_path: Path) -> None:
    config = dataclasses.replace(
        TINY, data=dataclasses.replace(TINY.data, split=Split(0.8, 0.0, 0.2))
    )
    result = jcl.fit(config, tmp_path / "run")
    assert result.best is None
    assert jcl.load(tmp_path / "run").step == result.step == 6


@pytest.mark.parametrize("optimizer", ["adam", "adamw"])
def test_weight_decay_belongs_to_adamw(tmp_path: Path, optimizer: str) -> None:
    runs = []
    for decay in (0.0, 0.5):
        training = dataclasses.replace(TINY.training, optimizer=optimizer, weight_decay=decay)
        jcl.fit(dataclasses.replace(TINY, training=training), tmp_path / str(decay))
        runs.append(jcl.load(tmp_path / str(decay), "last").variables)
    kernels = [run["params"]["decoder"]["head"]["kernel"] for run in runs]
    assert bool(jnp.all(kernels[0] == kernels[1])) == (optimizer == "adam")


def test_a_diverging_run_stops_and_keeps_the_last_good_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jcl.fit(TINY, tmp_path / "run")
    training = dataclasses.replace(TINY.training, epochs=TINY.training.epochs + 5)
    wild = TINY.training.learning_rate * 1e25

    def diverge(config: TrainingConfig, total_steps: int) -> optax.Schedule:
        return optax.constant_schedule(wild)

    monkeypatch.setattr("jaxconvlstm.training.make_schedule", diverge)
    with pytest.raises(NonFiniteError, match=r"step \d+: loss .* learning rate"):
        jcl.fit(dataclasses.replace(TINY, training=training), tmp_path / "run", resume="must")
    model = jcl.load(tmp_path / "run", "last")
    assert model.step >= 1
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(model.variables))


def test_checkpoints_between_epochs(tmp_path: Path) -> None:
    training = dataclasses.replace(TINY.training, checkpoint_every=2, epochs=1)
    jcl.fit(dataclasses.replace(TINY, training=training), tmp_path / "run")
    assert sorted(int(p.name) for p in (tmp_path / "run" / "checkpoints").glob("[0-9]*")) == [2, 3]


def test_no_samples_if_none_are_asked_for(tmp_path: Path) -> None:
    training = dataclasses.replace(TINY.training, sample_every=0, epochs=1)
    result = jcl.fit(dataclasses.replace(TINY, training=training), tmp_path / "run")
    assert result.pictures == [] and not (tmp_path / "run" / "samples").exists()


def test_spatial_peepholes_fix_the_frame_size(tmp_path: Path) -> None:
    model = dataclasses.replace(TINY.model, peephole="spatial")
    jcl.fit(dataclasses.replace(TINY, model=model), tmp_path / "run")
    loaded = jcl.load(tmp_path / "run")
    assert loaded.predict(np.zeros((3, 40, 40, 1), np.float32)).shape == (1, 40, 40, 1)
    with pytest.raises(ConfigError, match="peephole"):
        loaded.predict(np.zeros((3, 48, 40, 1), np.float32))
