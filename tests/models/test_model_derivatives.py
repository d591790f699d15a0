"""Derivatives of every model, forwards and backwards, of first and second order; strict dtypes."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from contract import CASES, QUICK
from numerics import cosines, random_variables

WIDTH = 1e-6
"""Of the central differences: the square of it and its reciprocal times rounding are the errors."""


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=() if n == "cnn-lstm" else pytest.mark.slow) for n in CASES],
)
def test_every_derivative_is_that_of_central_differences(name: str, float64: None) -> None:
    """Along a line through weights and inputs: by jvp, by grad, and by each of the gradient."""
    case = CASES[name]
    model, variables, clip = case.model(), case.variables(), case.clip(2)
    statistics = {kind: values for kind, values in variables.items() if kind != "params"}
    by = random_variables(model, clip[:1], scale=0.1)["params"]
    # Motion is matched, not learnt: in other frames other blocks match, which no gradient knows.
    motion = case.options.get("output") == "motion"
    steps = (2 if name == "stacked" else 1,) if case.forecasts else ()

    def at(place: Any) -> jax.Array:
        params = jax.tree.map(lambda value, change: value + place * change, variables["params"], by)
        frames = clip if motion else clip + 0.1 * place * jnp.cos(clip)
        outputs = model.apply({"params": params} | statistics, frames, *steps)
        return jnp.sum(cosines(*outputs.shape) * outputs)

    @jax.jit
    def derivatives(place: Any) -> tuple[Any, ...]:
        """The value, the first derivative and the second; backwards and forwards."""
        slope = jax.grad(at)
        value, forwards = jax.jvp(at, (place,), (1.0,))
        backwards, curvature = jax.jvp(slope, (place,), (1.0,))
        return value, (backwards, forwards), (jax.grad(slope)(place), curvature)

    (above, slopes_above, _), (below, slopes_below, _) = derivatives(WIDTH), derivatives(-WIDTH)
    _, first, second = derivatives(0.0)
    np.testing.assert_allclose(first, [(above - below) / (2 * WIDTH)] * 2, rtol=1e-6)
    curvature = (slopes_above[0] - slopes_below[0]) / (2 * WIDTH)
    np.testing.assert_allclose(second, [curvature] * 2, rtol=1e-6)


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=() if n in QUICK else pytest.mark.slow) for n in CASES]
)
def test_a_float64_frame_gives_float64_under_strict_promotion(name: str, float64: None) -> None:
    """Whatever the model computes in; its shapes and dtypes alone are worked out."""
    case = CASES[name]
    steps = dict(steps=2) if case.forecasts else {}
    for dtype in (jnp.float32, jnp.float64) if case.takes("dtype") else (None,):
        model = case.model(**({"dtype": dtype} if dtype else {}))
        for frames in (jnp.float32, jnp.float64):
            clip = jax.ShapeDtypeStruct((1, 3, *case.frame), frames)
            with jax.numpy_dtype_promotion("strict"):
                outputs, _ = jax.eval_shape(
                    lambda inputs, model=model: model.init_with_output(
                        jax.random.key(0), inputs, **steps
                    ),
                    clip,
                )
            assert outputs.dtype == max(
                frames, dtype or frames, key=lambda kind: kind.dtype.itemsize
            )
