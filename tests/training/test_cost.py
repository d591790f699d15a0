"""The cost that is printed before training."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import pytest

from jaxconvlstm.nn.convolution import convolve, same_padding
from jaxconvlstm.training.cost import count_flops, human, peak_memory


def flops(function: Callable[..., Any], *arguments: Any) -> int:
    return count_flops(jax.jit(function).trace(*arguments).jaxpr.jaxpr)


def test_a_convolution_counts_its_multiplications_and_additions() -> None:
    inputs, kernel = jnp.zeros((2, 6, 7, 3)), jnp.zeros((3, 5, 3, 4))

    def apply(inputs: jax.Array, kernel: jax.Array) -> jax.Array:
        return convolve(inputs, kernel, same_padding((3, 5)))

    forward = 2 * (2 * 6 * 7 * 4) * (3 * 5 * 3)
    assert flops(apply, inputs, kernel) == forward
    gradient = jax.grad(lambda *a: jnp.sum(apply(*a)), argnums=(0, 1))
    assert flops(gradient, inputs, kernel) == 3 * forward


@pytest.mark.parametrize("length", [1, 10])
def test_a_loop_counts_every_iteration(length: int) -> None:
    matrix = jnp.eye(8)

    def powers(matrix: jax.Array) -> jax.Array:
        return jax.lax.scan(lambda a, _: (a @ matrix, None), matrix, None, length=length)[0]

    assert flops(powers, matrix) == length * 2 * 8**3


def test_peak_memory_covers_what_goes_in_and_out() -> None:
    compiled = jax.jit(lambda a: a + 1).lower(jnp.zeros(1000)).compile()
    assert peak_memory(compiled) >= 8000


@pytest.mark.parametrize(
    "amount, text", [(0, "0 B"), (999, "999 B"), (12_345_678, "12.3 MB"), (2e15, "2e+03 TB")]
)
def test_amounts_are_printed_with_units(amount: float, text: str) -> None:
    assert human(amount, "B") == text
