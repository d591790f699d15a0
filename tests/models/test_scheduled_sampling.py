"""Scheduled and reverse scheduled sampling: curves, masks, and how they end."""

import math
from functools import cache
from typing import Any

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


def curve_of(name: str, steps: int = STEPS) -> np.ndarray:
    """Of each step up to some after the end, and of the last that there can be."""
    at = np.append(np.arange(steps + 4), 2**31 - 1).astype(np.int32)
    return np.asarray(jax.jit(jax.vmap(lambda step: truth_probability(name, step, steps)))(at))


@pytest.mark.parametrize(
    ("curve", "formula", "tolerance"),
    [
        ("linear", lambda step: 1 - step / STEPS, 1e-5),
        ("exponential", lambda step: 0.01 ** (step / STEPS), 1e-5),
        # Bengio et al. 2015: k / (k + exp(i / k)), with the steps i measured so that it ends.
        ("inverse-sigmoid", lambda step: 99 / (99 + np.exp(2 * np.log(99) * step / STEPS)), 1e-4),
    ],
)
def test_curves_follow_their_formulas(curve: str, formula: Any, tolerance: float) -> None:
    found = curve_of(curve)[:STEPS]
    np.testing.assert_allclose(found, formula(np.arange(STEPS)), rtol=tolerance)


def test_curves_have_known_values() -> None:
    exponential, sigmoid = curve_of("exponential"), curve_of("inverse-sigmoid")
    assert exponential[STEPS - 1] == pytest.approx(0.01, rel=0.05)
    assert sigmoid[0] == pytest.approx(0.99) and sigmoid[STEPS // 2] == pytest.approx(0.5)


@pytest.mark.parametrize("curve", CURVES)
def test_curves_fall_from_nearly_1_to_exactly_0(curve: str) -> None:
    """At 41 and 61 dividing in XLA is inexact."""
    for steps in (1, 2, 41, 61, STEPS):
        found = curve_of(curve, steps)
        assert 0.98 < found[0] <= 1 and not found[steps:].any()
        assert (np.diff(found) <= 0).all() and ((found[:steps] > 0) & (found[:steps] <= 1)).all()


def test_reverse_probabilities_are_the_published_ones() -> None:
    """`reserve_schedule_sampling_exp` of PredRNN-v2 with its settings for Moving MNIST."""
    first, last, alpha = 25_000, 50_000, 2_500
    steps = np.array(
        [0, 10_000, 24_999, 25_000, 25_001, 27_500, 40_000, 49_999, 50_000, 80_000], np.int32
    )
    both = jax.vmap(lambda step: (input_probability(step, last), forecast_probability(step, last)))
    for step, given, predicted in zip(steps.tolist(), *jax.jit(both)(steps)):
        if step < first:
            inputs, forecast = 0.5, 0.5
        elif step < last:
            inputs = 1 - 0.5 * math.exp(-(step - first) / alpha)
            forecast = 0.5 - 0.5 / (last - first) * (step - first)
        else:
            inputs, forecast = 1.0, 0.0
        assert float(given) == pytest.approx(inputs, abs=1e-6)
        assert float(predicted) == pytest.approx(forecast, abs=1e-6)


@cache
def draw(mode: str) -> Any:
    """2000 rows of 4 input and 6 target frames, drawn as a compiled training step draws them."""
    return jax.jit(lambda key, step: teacher_mask(mode, "linear", key, step, STEPS, 2000, 4, 6))


def mask(mode: str, step: int, key: int = 0) -> np.ndarray:
    return np.asarray(draw(mode)(jax.random.key(key), jnp.int32(step)))


@pytest.mark.parametrize("mode, columns", [("teacher", 6), ("scheduled", 6), ("reverse", 9)])
def test_there_is_a_bool_for_each_frame_that_may_be_read(mode: str, columns: int) -> None:
    found = mask(mode, 10)
    assert found.shape == (2000, columns) and found.dtype == bool


def test_each_mode_begins_and_ends_as_it_should() -> None:
    assert mask("scheduled", 0).all()
    for step in (0, STEPS, 10 * STEPS):
        assert mask("teacher", step).all()
    for step in (STEPS, 5 * STEPS):
        assert not mask("scheduled", step).any()
        reverse = mask("reverse", step)
        assert reverse[:, :4].all() and not reverse[:, 4:].any()


@pytest.mark.parametrize("step", [50, 100, 150])
def test_scheduled_fractions_are_the_curve_s(step: int) -> None:
    """Within four standard deviations, for each column alike."""
    expected = 1 - step / STEPS
    margin = 4 * math.sqrt(expected * (1 - expected) / 2000)
    assert np.abs(mask("scheduled", step).mean(axis=0) - expected).max() < margin


@pytest.mark.parametrize("step", [0, 105, 150])
def test_reverse_fractions_are_those_of_their_phases(step: int) -> None:
    found = mask("reverse", step).mean(axis=0)
    inputs, forecast = input_probability(step, STEPS), forecast_probability(step, STEPS)
    np.testing.assert_allclose(found[:4], float(inputs), atol=4 * 0.5 / math.sqrt(2000))
    np.testing.assert_allclose(found[4:], float(forecast), atol=4 * 0.5 / math.sqrt(2000))


@pytest.mark.parametrize("mode", ["scheduled", "reverse"])
def test_windows_and_steps_are_drawn_apart_and_by_the_key_alone(mode: str) -> None:
    first = mask(mode, 100)
    np.testing.assert_array_equal(first, mask(mode, 100))
    assert (first != mask(mode, 100, key=1)).any()
    assert len(np.unique(first[:40], axis=0)) > 5 and len(np.unique(first[:40], axis=1).T) > 1


def test_unknown_names_are_refused() -> None:
    with pytest.raises(ConfigError, match="sampling_curve: expected one of linear"):
        truth_probability("cubic", 0, 10)
    with pytest.raises(ConfigError, match="sampling: expected one of teacher"):
        teacher_mask("free", "linear", jax.random.key(0), 0, 10, 1, 2, 2)
