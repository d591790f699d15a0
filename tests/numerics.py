"""Random variables, gradients, streams and programs, shared by tests of layers and models."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import lax

Tree = Any


def normal(seed: int, *shape: int) -> jax.Array:
    """Standard normal values; float64 where that is enabled."""
    values = np.random.default_rng(seed).normal(size=shape)
    return jnp.asarray(values, jax.dtypes.canonicalize_dtype(np.float64))


def random_variables(
    module: nn.Module, *arguments: Any, scale: float = 0.3, method: str = "__call__"
) -> Tree:
    """Every weight and statistic random, so that no path is closed; variances are positive."""
    init = partial(module.init, method=method)
    shapes = jax.eval_shape(init, jax.random.key(0), *arguments)
    leaves, structure = jax.tree_util.tree_flatten_with_path(shapes)
    values = [scale * normal(seed, *leaf.shape) for seed, (_, leaf) in enumerate(leaves)]
    for index, (path, _) in enumerate(leaves):
        if path[-1].key == "var":
            values[index] = jnp.asarray(0.1 + np.abs(values[index]))
    return structure.unflatten(values)


def with_gradients(run: Callable[..., jax.Array]) -> Callable[..., Any]:
    """Jitted: `(weights, *arguments)` to the outputs of `run` and the gradients of their sum.

    The sum is weighted by `weights`, of the outputs' shape: with ones for one output and zeros for
    all others, its gradients tell what this output depends on, in the same compiled program.
    """

    def weighted(arguments: Any, weights: jax.Array) -> tuple[jax.Array, jax.Array]:
        outputs = run(*arguments)
        return jnp.sum(weights * outputs), outputs

    @jax.jit
    def outputs_and_gradients(weights: jax.Array, *arguments: Any) -> Any:
        gradients, outputs = jax.grad(weighted, has_aux=True)(arguments, weights)
        return outputs, gradients

    return outputs_and_gradients


def cosines(*shape: int) -> np.ndarray:
    """Weights for `with_gradients` that differ from output to output."""
    return np.cos(np.arange(np.prod(shape))).reshape(shape)


def assert_trees_close(actual: Tree, expected: Tree, tolerance: float) -> None:
    """Within `tolerance`, relative, and relative to the largest value of each array or 1."""

    def close(a: Any, b: Any) -> None:
        largest = max(1.0, float(np.abs(b).max()))
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance * largest)

    jax.tree.map(close, actual, expected)


def stream(model: nn.Module, variables: Tree, frames: jax.Array, given: jax.Array) -> jax.Array:
    """Reads `frames` `[batch, time, ...]` one by one with `step`: all predictions `[batch, time]`.

    Where `given` `[batch, time]` is 0, it reads its own last prediction instead.
    """

    def read(state: Any, now: Any) -> Any:
        (carry, predicted), (frame, there) = state, now
        frame = jnp.where(there[:, None, None, None] > 0, frame, predicted)
        carry, predicted = model.apply(variables, carry, frame, method="step")
        return (carry, predicted), predicted

    carry = model.apply(variables, frames[:, 0].shape, method="initialize_carry")
    time_first = frames.swapaxes(0, 1), given.swapaxes(0, 1)
    _, predictions = lax.scan(read, (carry, jnp.zeros_like(frames[:, 0])), time_first)
    return predictions.swapaxes(0, 1)


def program(function: Callable[..., Any], *arguments: Any, platform: str = "cpu") -> str:
    """The StableHLO that `function` is lowered to; equal texts are equal programs."""
    traced = jax.jit(lambda *given: function(*given)).trace(*arguments)
    return traced.lower(lowering_platforms=(platform,)).as_text()


def convolutions(text: str) -> list[str]:
    """The lines of a lowered program that are convolutions."""
    return [line for line in text.splitlines() if "stablehlo.convolution" in line]
