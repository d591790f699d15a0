"""Scheduled and reverse scheduled sampling: curves, masks, and how they end."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxconvlstm.errors import ConfigError
from jaxconvlstm.models.scheduled_sampling import (
    CURVES,
    forecast_probability,
    input_probability,
    teacher_mask,
    truth_probability,
)

STEPS = 200


def curve_of(name: str, steps: int = STEPS, until: int | None = None) -> list[float]:
    probability = jax.jit(lambda step: truth_probability(name, step, steps))
    return [float(probability(jnp.int32(step))) for step in range((until or steps) + 1)]


def test_linear() -> None:
    expected = [1 - step / STEPS for step in range(STEPS + 1)]
    np.testing.assert_allclose(curve_of("linear"), expected, atol=1e-6)


def test_exponential() -> None:
    k = 0.01 ** (1 / STEPS)
    found = curve_of("exponential")
    np.testing.assert_allclose(found[:-1], [k**step for step in range(STEPS)], rtol=1e-5)
    assert found[-2] == pytest.approx(0.01, rel=0.05) and found[-1] == 0


def test_inverse_sigmoid() -> None:
    """Bengio et al. 2015: k / (k + exp(i / k)), with the steps i measured so that it ends."""
    k, pace = 99, 2 * math.log(99) / STEPS
    expected = [k / (k + math.exp(pace * step)) for step in range(STEPS)]
    found = curve_of("inverse-sigmoid")
    np.testing.assert_allclose(found[:-1], expected, rtol=1e-4)
    assert found[0] == pytest.approx(0.99) and found[STEPS // 2] == pytest.approx(0.5)


@pytest.mark.parametrize("curve", CURVES)
@pytest.mark.parametrize("steps", [1, 2, 41, 61, STEPS])
def test_curves_fall_from_nearly_1_to_exactly_0(curve: str, steps: int) -> None:
    """At 41 and 61 dividing in XLA is inexact."""
    found = curve_of(curve, steps, steps + 3)
    assert 0.98 < found[0] <= 1 and found[steps:] == [0, 0, 0, 0]
    assert all(a >= b for a, b in itertools.pairwise(found))
    assert all(0 < p <= 1 for p in found[:steps])


@pytest.mark.parametrize("curve", CURVES)
def test_long_after_the_end_it_is_still_0(curve: str) -> None:
    assert truth_probability(curve, jnp.int32(2**31 - 1), 3) == 0


def test_reverse_probabilities_are_the_published_ones() -> None:
    """`reserve_schedule_sampling_exp` of PredRNN-v2 with its settings for Moving MNIST."""
    first, last, alpha = 25_000, 50_000, 2_500
    given = jax.jit(lambda step: input_probability(step, last))
    predicted = jax.jit(lambda step: forecast_probability(step, last))
    for step in (0, 10_000, 24_999, 25_000, 25_001, 27_500, 40_000, 49_999, 50_000, 80_000):
        if step < first:
            inputs, forecast = 0.5, 0.5
        elif step < last:
            inputs = 1 - 0.5 * math.exp(-(step - first) / alpha)
            forecast = 0.5 - 0.5 / (last - first) * (step - first)
        else:
            inputs, forecast = 1.0, 0.0
        assert float(given(jnp.int32(step))) == pytest.approx(inputs, abs=1e-6)
        assert float(predicted(jnp.int32(step))) == pytest.approx(forecast, abs=1e-6)


def mask(mode: str, step: int, *, batch: int = 3, key: int = 0, steps: int = STEPS) -> np.ndarray:
    """Of 4 input and 6 target frames, drawn as a compiled training step draws it."""
    draw = jax.jit(lambda key, step: teacher_mask(mode, "linear", key, step, steps, batch, 4, 6))
    return np.asarray(draw(jax.random.key(key), jnp.int32(step)))


@pytest.mark.parametrize("mode, columns", [("teacher", 6), ("scheduled", 6), ("reverse", 9)])
def test_shapes(mode: str, columns: int) -> None:
    found = mask(mode, 10)
    assert found.shape == (3, columns) and found.dtype == bool


@pytest.mark.parametrize("step", [0, STEPS, 10 * STEPS])
def test_the_teacher_is_always_read(step: int) -> None:
    assert mask("teacher", step).all()


def test_scheduled_sampling_begins_with_the_truth_and_ends_without() -> None:
    assert mask("scheduled", 0, batch=100).all()
    assert not mask("scheduled", STEPS, batch=100).any()
    assert not mask("scheduled", 5 * STEPS, batch=100).any()


def test_reverse_sampling_ends_as_a_forecast_runs() -> None:
    for step in (STEPS, 5 * STEPS):
        found = mask("reverse", step, batch=100)
        assert found[:, :4].all() and not found[:, 4:].any()


@pytest.mark.parametrize("step", [50, 100, 150])
def test_scheduled_shares_are_the_curve_s(step: int) -> None:
    """Of 600 draws; within four standard deviations, for each column alike."""
    found = mask("scheduled", step, batch=600)
    expected = 1 - step / STEPS
    margin = 4 * math.sqrt(expected * (1 - expected) / 600)
    assert np.abs(found.mean(axis=0) - expected).max() < margin


@pytest.mark.parametrize("step", [0, 105, 150])
def test_reverse_shares_are_those_of_their_phases(step: int) -> None:
    found = mask("reverse", step, batch=2000).mean(axis=0)
    inputs, forecast = input_probability(step, STEPS), forecast_probability(step, STEPS)
    np.testing.assert_allclose(found[:4], float(inputs), atol=4 * 0.5 / math.sqrt(2000))
    np.testing.assert_allclose(found[4:], float(forecast), atol=4 * 0.5 / math.sqrt(2000))


@pytest.mark.parametrize("mode", ["scheduled", "reverse"])
def test_windows_and_steps_are_drawn_apart_and_by_the_key_alone(mode: str) -> None:
    first = mask(mode, 100, batch=40)
    np.testing.assert_array_equal(first, mask(mode, 100, batch=40))
    assert (first != mask(mode, 100, batch=40, key=1)).any()
    assert len(np.unique(first, axis=0)) > 5 and len(np.unique(first, axis=1).T) > 1


def test_unknown_names_are_refused() -> None:
    with pytest.raises(ConfigError, match="sampling_curve: expected one of linear"):
        truth_probability("cubic", 0, 10)
    with pytest.raises(ConfigError, match="sampling: expected one of teacher"):
        teacher_mask("free", "linear", jax.random.key(0), 0, 10, 1, 2, 2)
