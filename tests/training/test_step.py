"""One training step, and whole runs in this process."""

import functools
from typing import Any

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
from jaxconvlstm.errors import ConfigError
from jaxconvlstm.models import FramePredictor
from jaxconvlstm.scale import Values
from jaxconvlstm.task import Forecasting
from jaxconvlstm.training.step import init_state, make_train_step
from jaxconvlstm.training.trainer import FitResult

VALUES = Values(0.0, 1.0, "float32")


def batch(seed: int = 0) -> Batch:
    frames = np.random.default_rng(seed).random((2, 5, 12, 12, 1), np.float32)
    return Batch(frames[:, :3], frames[:, 3:], np.ones((2, 1, 1, 1, 1), np.float32))


@functools.cache
def step_and_state(values: Values = VALUES, ema: float = 0.0, loss: str = "mse") -> tuple[Any, Any]:
    """A compiled step and a state to start from; neither changes by being used."""
    module = FramePredictor(channels=1, features=(4,))
    optimizer = optax.adam(1e-2)
    task = Forecasting(module, values, TrainingConfig(loss=loss))
    step = jax.jit(make_train_step(task, optimizer, ema))
    return step, init_state(module, optimizer, (12, 12, 1), seed=0, ema=ema)


@pytest.mark.parametrize(("loss", "ema"), [("mse", 0.0), ("mae", 0.5)])
def test_training_fits_a_batch(loss: str, ema: float) -> None:
    step, state = step_and_state(ema=ema, loss=loss)
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
    step, state = step_and_state(ema=0.5, loss="mae")
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


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory) -> FitResult:
    """An epoch without validation and samples, of a network for one frame size."""
    config = Config(
        DataConfig(input_frames=3, target_frames=2, limit=6, split=Split(0.8, 0.0, 0.2)),
        ModelConfig(features=(4,), layers=1, peephole="spatial"),
        TrainingConfig(epochs=1, batch_size=2, sample_every=0, checkpoint_every=2),
    )
    return jcl.fit(config, tmp_path_factory.mktemp("short"))


def test_without_validation_the_newest_weights_are_the_best(short: FitResult) -> None:
    assert short.best is None
    assert jcl.load(short.folder).step == short.step == 3


def test_checkpoints_between_epochs(short: FitResult) -> None:
    saved = (short.folder / "checkpoints").glob("[0-9]*")
    assert sorted(int(path.name) for path in saved) == [2, 3]


def test_no_samples_if_none_are_asked_for(short: FitResult) -> None:
    assert [p.name for p in short.pictures] == ["history.png"]
    assert not (short.folder / "samples").exists()


def test_spatial_peepholes_fix_the_frame_size(short: FitResult) -> None:
    loaded = jcl.load(short.folder)
    assert loaded.predict(np.zeros((3, 40, 40, 1), np.float32)).shape == (1, 40, 40, 1)
    with pytest.raises(ConfigError, match="made for 40x40, got 48x40"):
        loaded.predict(np.zeros((3, 48, 40, 1), np.float32))
