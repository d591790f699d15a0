"""One training step, and whole runs in this process."""

import dataclasses
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxconvlstm as jcl
from jaxconvlstm.batch import Batch
from jaxconvlstm.config.data import DataConfig, Split
from jaxconvlstm.config.model import ModelConfig
from jaxconvlstm.config.run import Config
from jaxconvlstm.config.training import TrainingConfig
from jaxconvlstm.errors import ConfigError, NonFiniteError
from jaxconvlstm.models import FramePredictor
from jaxconvlstm.scale import Values
from jaxconvlstm.task import Forecasting
from jaxconvlstm.training.step import init_state, make_train_step

VALUES = Values(0.0, 1.0, "float32")
TINY = Config(
    DataConfig(input_frames=3, target_frames=2, limit=6),
    ModelConfig(features=(4,), layers=1),
    TrainingConfig(epochs=2, batch_size=2, log_every=1, warmup_steps=0),
)


def batch(seed: int = 0) -> Batch:
    frames = np.random.default_rng(seed).random((2, 5, 12, 12, 1), np.float32)
    return Batch(frames[:, :3], frames[:, 3:], np.ones((2, 1, 1, 1, 1), np.float32))


def step_and_state(
    values: Values = VALUES, ema: float = 0.0, **settings: object
) -> tuple[object, object]:
    module = FramePredictor(channels=1, features=(4,))
    optimizer = optax.adam(1e-2)
    task = Forecasting(module, values, dataclasses.replace(TINY.training, **settings))
    step = jax.jit(make_train_step(task, optimizer, ema))
    return step, init_state(module, optimizer, (12, 12, 1), seed=0, ema=ema)


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


def test_a_lower_rate_scale_makes_smaller_steps() -> None:
    step, state = step_and_state()
    kernels = []
    for scale in (1.0, 0.25, 0.0):
        after, _ = step(state.replace(rate_scale=jnp.float32(scale)), batch())
        kernels.append(np.asarray(after.variables["params"]["decoder"]["head"]["kernel"]))
    start = np.asarray(state.variables["params"]["decoder"]["head"]["kernel"])
    np.testing.assert_array_equal(kernels[2], start)
    np.testing.assert_allclose(kernels[1] - start, (kernels[0] - start) / 4, atol=1e-7)


def test_the_moving_average_follows_the_weights() -> None:
    """Of the first steps it is their own average, whatever the decay."""
    step, state = step_and_state(ema=0.5)
    average = np.asarray(state.variables["params"]["decoder"]["head"]["bias"], np.float64)
    for number in range(20):
        state, _ = step(state, batch(number))
        decay = min(0.5, (1 + number) / (10 + number))
        bias = np.asarray(state.variables["params"]["decoder"]["head"]["bias"], np.float64)
        average = decay * average + (1 - decay) * bias
    held = state.evaluated["params"]["decoder"]["head"]["bias"]
    np.testing.assert_allclose(held, average, atol=1e-6)
    assert not np.allclose(held, bias, atol=1e-4)


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


def test_weight_decay_belongs_to_adamw(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--weight-decay: needs --optimizer adamw"):
        dataclasses.replace(TINY.training, weight_decay=0.5)
    runs = []
    for decay in (0.0, 0.5):
        training = dataclasses.replace(TINY.training, optimizer="adamw", weight_decay=decay)
        jcl.fit(dataclasses.replace(TINY, training=training), tmp_path / str(decay))
        runs.append(jcl.load(tmp_path / str(decay), "last").variables)
    kernels = [run["params"]["decoder"]["head"]["kernel"] for run in runs]
    assert bool(jnp.any(kernels[0] != kernels[1]))


def test_a_diverging_run_stops_and_keeps_the_last_good_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jcl.fit(TINY, tmp_path / "run")
    training = dataclasses.replace(TINY.training, epochs=TINY.training.epochs + 5)
    wild = TINY.training.learning_rate * 1e25

    def diverge(config: TrainingConfig, *lengths: int) -> optax.Schedule:
        return optax.constant_schedule(wild)

    monkeypatch.setattr("jaxconvlstm.training.optimizer.make_schedule", diverge)
    with pytest.raises(
        NonFiniteError, match=r"step 7: loss .* learning rate .*last good .* step 6"
    ):
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
    assert [p.name for p in result.pictures] == ["history.png"]
    assert not (tmp_path / "run" / "samples").exists()


def test_spatial_peepholes_fix_the_frame_size(tmp_path: Path) -> None:
    model = dataclasses.replace(TINY.model, peephole="spatial")
    jcl.fit(dataclasses.replace(TINY, model=model), tmp_path / "run")
    loaded = jcl.load(tmp_path / "run")
    assert loaded.predict(np.zeros((3, 40, 40, 1), np.float32)).shape == (1, 40, 40, 1)
    with pytest.raises(ConfigError, match="made for 40x40, got 48x40"):
        loaded.predict(np.zeros((3, 48, 40, 1), np.float32))
