"""Learning rates against formulae, and optimizers against Keras's updates in NumPy."""

import itertools
import math
import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxconvlstm.config.training import TrainingConfig
from jaxconvlstm.training.optimizer import make_optimizer, make_schedule

pytestmark = pytest.mark.usefixtures("foreign_code")  # Optax's arithmetic on dtypes

SCHEDULES = ("constant", "cosine", "one-cycle", "exponential", "step")


def rates(steps: int, steps_per_epoch: int = 10, **settings: Any) -> np.ndarray:
    """The rates of steps 0 to `steps`, compiled as in training."""
    config = TrainingConfig(**{"learning_rate": 1.0, "warmup_steps": 0, **settings})
    schedule = make_schedule(config, steps, steps_per_epoch)
    found = jax.jit(jax.vmap(schedule))(jnp.arange(steps + 1))
    return np.broadcast_to(np.asarray(found, np.float64), steps + 1)


def test_the_warm_up_rises_in_a_line_and_its_first_step_moves() -> None:
    for schedule in ("constant", "cosine", "exponential", "step"):
        found = rates(20, warmup_steps=4, schedule=schedule)
        np.testing.assert_allclose(found[:5], [0.2, 0.4, 0.6, 0.8, 1.0], rtol=1e-6)


def test_the_constant_schedule_stays_at_its_rate() -> None:
    np.testing.assert_array_equal(rates(20, warmup_steps=4, schedule="constant")[4:], 1)


def test_cosine_goes_down_to_a_hundredth() -> None:
    found = rates(24, warmup_steps=4, schedule="cosine")[4:]
    since = np.arange(21)
    expected = 0.01 + 0.99 * (1 + np.cos(np.pi * since / 20)) / 2
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert found[-1] == pytest.approx(0.01) and found[10] == pytest.approx(0.505)


def test_the_exponential_schedule_is_keras_s() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its own, at the first import
        import keras
    theirs = keras.optimizers.schedules.ExponentialDecay(1.0, 25, 0.3)
    found = rates(60, 10, schedule="exponential", decay_rate=0.3, decay_epochs=2.5)
    np.testing.assert_allclose(found, [float(theirs(step)) for step in range(61)], rtol=1e-5)
    assert found[25] == pytest.approx(0.3) and found[50] == pytest.approx(0.09)


@pytest.mark.parametrize("steps_per_epoch", [1, 7, 41, 61, 121])
def test_the_step_schedule_is_pytorch_s_step_lr(steps_per_epoch: int) -> None:
    """StepLR: gamma to the power of whole intervals. 41 is where dividing in XLA is inexact."""
    steps = 10 * steps_per_epoch
    found = rates(steps, steps_per_epoch, schedule="step", decay_rate=0.5, decay_epochs=1)
    expected = [0.5 ** (step // steps_per_epoch) for step in range(steps + 1)]
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_the_step_schedule_begins_after_the_warm_up() -> None:
    found = rates(30, 10, schedule="step", warmup_steps=4, decay_epochs=1)
    np.testing.assert_allclose(found[[4, 13, 14, 23, 24]], [1, 1, 0.1, 0.1, 0.01], rtol=1e-6)


def test_one_cycle_is_pytorch_s() -> None:
    """OneCycleLR's `_annealing_cos` between its three rates, with their default shares."""

    def annealed(start: float, end: float, share: float) -> float:
        return end + (start - end) / 2 * (1 + math.cos(math.pi * share))

    steps, peak = 50, 0.02
    found = rates(steps, learning_rate=peak, schedule="one-cycle")
    for step in range(steps + 1):
        if step <= 15:
            expected = annealed(peak / 25, peak, step / 15)
        else:
            expected = annealed(peak, peak / 25 / 1e4, (step - 15) / 35)
        assert found[step] == pytest.approx(expected, rel=1e-4, abs=2e-8)
    assert found.argmax() == 15


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_rates_rise_to_one_peak_and_fall_after_it(schedule: str) -> None:
    for warmup in (0,) if schedule == "one-cycle" else (0, 1, 9):
        found = rates(40, 3, schedule=schedule, warmup_steps=warmup)
        peak = int(found.argmax())
        assert found[peak] == pytest.approx(1)
        assert all(a <= b for a, b in itertools.pairwise(found[: peak + 1]))
        assert all(a >= b for a, b in itertools.pairwise(found[peak:]))


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("steps", [0, 1, 2, 3, 5])
def test_rates_of_very_short_runs_are_positive(schedule: str, steps: int) -> None:
    """Shorter than the warm-up; and 0 steps, as a finished run has that is only looked at."""
    config = TrainingConfig(learning_rate=1.0, schedule=schedule, warmup_steps=20)
    made = make_schedule(config, steps, 1)
    assert all(0 < float(made(step)) <= 1 for step in range(max(steps, 1)))


# Keras's updates, as its `update_step`s have them; each yields the change of every step.
GRADIENTS = np.random.default_rng(0).normal(size=(6, 5)) * [1, 1e-3, 10, 0.1, 1]
RATE = 0.01


def adadelta(gradients: np.ndarray) -> Any:
    squares, changes = np.zeros(5), np.zeros(5)
    for gradient in gradients:
        squares = 0.95 * squares + 0.05 * gradient**2
        change = -np.sqrt(changes + 1e-7) / np.sqrt(squares + 1e-7) * gradient
        changes = 0.95 * changes + 0.05 * change**2
        yield RATE * change


def rmsprop(gradients: np.ndarray) -> Any:
    squares = np.zeros(5)
    for gradient in gradients:
        squares = 0.9 * squares + 0.1 * gradient**2
        yield -RATE * gradient / np.sqrt(squares + 1e-7)


def adam(gradients: np.ndarray) -> Any:
    """With Optax's and PyTorch's epsilon; Keras's is 1e-7."""
    mean, squares = np.zeros(5), np.zeros(5)
    for count, gradient in enumerate(gradients, 1):
        mean = 0.9 * mean + 0.1 * gradient
        squares = 0.999 * squares + 0.001 * gradient**2
        yield -RATE * (mean / (1 - 0.9**count)) / (np.sqrt(squares / (1 - 0.999**count)) + 1e-8)


def settings(optimizer: str, **more: Any) -> TrainingConfig:
    return TrainingConfig(
        learning_rate=RATE,
        optimizer=optimizer,
        **{"schedule": "constant", "warmup_steps": 0, "clip_norm": 0, **more},
    )


def weights_after(config: TrainingConfig, start: np.ndarray) -> list[np.ndarray]:
    """The weights after each of `GRADIENTS`."""
    optimizer = make_optimizer(config, len(GRADIENTS), 1)
    params = jnp.asarray(start)
    state, found = optimizer.init(params), []
    for gradient in GRADIENTS:
        updates, state = optimizer.update(jnp.asarray(gradient), state, params)
        params = optax.apply_updates(params, updates)
        found.append(np.asarray(params))
    return found


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("reference", [adadelta, rmsprop, adam])
def test_optimizers_against_numpy(reference: Any) -> None:
    start = np.linspace(-1, 1, 5)
    expected = start + np.cumsum(list(reference(GRADIENTS)), axis=0)
    found = weights_after(settings(reference.__name__), start)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize("optimizer", ["adadelta", "rmsprop"])
def test_optimizers_against_keras(optimizer: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import keras
    start = np.linspace(-1, 1, 5).astype(np.float32)
    theirs = {"adadelta": keras.optimizers.Adadelta, "rmsprop": keras.optimizers.RMSprop}
    variable, keras_optimizer = keras.Variable(start), theirs[optimizer](RATE)
    for ours, gradient in zip(weights_after(settings(optimizer), start), GRADIENTS):
        keras_optimizer.apply([jnp.asarray(gradient, jnp.float32)], [variable])
        np.testing.assert_allclose(ours, np.asarray(variable.value), rtol=2e-5)


@pytest.mark.usefixtures("float64")
def test_adamw_decays_weights_apart_from_the_averages() -> None:
    start = np.linspace(-1, 1, 5)
    params, expected = start, []
    for change in adam(GRADIENTS):
        params = params + change - RATE * 0.3 * params
        expected.append(params)
    found = weights_after(settings("adamw", weight_decay=0.3), start)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "adadelta", "rmsprop"])
def test_updates_are_in_proportion_to_the_learning_rate(optimizer: str) -> None:
    """So that scaling an update is scaling the learning rate of its step."""
    start = np.linspace(-1, 1, 5).astype(np.float32)
    made = [
        make_optimizer(settings(optimizer, **more), 40, 10)
        for more in ({}, {"schedule": "step", "decay_epochs": 0.3, "decay_rate": 0.25})
    ]
    states = [one.init(jnp.asarray(start)) for one in made]
    for step, gradient in enumerate(GRADIENTS):
        updates = []
        for number, one in enumerate(made):
            # The same weights for both, since AdamW decays them.
            update, states[number] = one.update(
                jnp.asarray(gradient, jnp.float32), states[number], jnp.asarray(start)
            )
            updates.append(np.asarray(update))
        np.testing.assert_allclose(updates[1], updates[0] * 0.25 ** (step // 3), rtol=1e-5)


def test_gradients_are_clipped_by_their_norm_together() -> None:
    """A gradient of norm 5 counts as one of norm 1 in the averages that later updates stand on."""
    large = {"a": jnp.asarray([3.0, 0.0]), "b": jnp.asarray([4.0])}
    small = jax.tree.map(lambda leaf: leaf / 5, large)

    def second_update(first: Any, clip_norm: float) -> float:
        optimizer = make_optimizer(settings("adam", clip_norm=clip_norm), 2, 1)
        state = optimizer.init(small)
        _, state = optimizer.update(first, state, small)
        updates, _ = optimizer.update(small, state, small)
        return float(updates["a"][0])

    expected = second_update(small, 0)
    assert second_update(large, 1) == pytest.approx(expected, rel=1e-5)
    assert second_update(small, 2) == pytest.approx(expected, rel=1e-5)
    assert second_update(large, 0) != pytest.approx(expected, rel=1e-2)
