"""Derivatives of a layer of any order: in a loop, rematerialised and mapped, on both branches."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads
from numerics import normal, random_variables
from test_conv_lstm import LIBRARY

from jaxconvlstm import ConvLSTM, ConvLSTMCell
from jaxconvlstm.errors import ConfigError
from jaxconvlstm.nn import winograd
from jaxconvlstm.nn.convolution import convolve, same_padding


@pytest.mark.parametrize("branch", ["products", pytest.param("library", marks=pytest.mark.slow)])
def test_second_derivatives_in_a_rematerialised_and_mapped_loop(
    branch: str, monkeypatch: pytest.MonkeyPatch, float64: None
) -> None:
    if branch == "library":
        for name in LIBRARY:
            monkeypatch.setattr(winograd, name, LIBRARY[name])
    layer = ConvLSTM(2, (3, 2), peephole="channel", remat=True, dtype=jnp.float64)
    clips = normal(0, 2, 1, 2, 3, 4, 2)
    variables = random_variables(layer, clips[0])

    def run(variables: Any, clips: Any, layer: ConvLSTM = layer) -> jax.Array:
        return jnp.sum(jax.vmap(layer.apply, (None, 0))(variables, clips) ** 2)

    check_grads(
        jax.jit(run), (variables, clips), order=2, modes=["fwd", "rev"], atol=1e-6, rtol=1e-6
    )

    def product(variables: Any, clips: Any, layer: ConvLSTM) -> Any:
        slope = jax.grad(partial(run, layer=layer))
        return jax.jit(partial(jax.jvp, lambda v: slope(v, clips)))((variables,), (variables,))[1]

    exact = product(variables, clips, layer)
    narrow = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), (variables, clips))
    rounded = product(*narrow, layer.clone(dtype=jnp.float32))
    for a, b in zip(jax.tree.leaves(rounded), jax.tree.leaves(exact)):
        np.testing.assert_allclose(a, b, atol=1e-4 * np.abs(b).max())


@pytest.mark.parametrize("axes", [(0, None), (None, 0), (0, 0), (1, 2)], ids=str)
def test_mapped_over_inputs_and_kernels_with_gradients(axes: Any, float64: None) -> None:
    inputs, kernels = normal(0, 2, 2, 4, 3, 2), normal(1, 2, 3, 2, 2, 3)
    kernels = jnp.moveaxis(kernels, 0, axes[1]) if axes[1] else kernels
    arguments = [a if axis is not None else a[0] for a, axis in zip((inputs, kernels), axes)]

    def run(ways: Any) -> Any:
        def cube(inputs: jax.Array, kernel: jax.Array) -> jax.Array:
            return jnp.sum(convolve(inputs, kernel, same_padding((3, 2))) ** 3)

        return ways(jax.grad(cube, (0, 1)))

    mapped = run(lambda slope: jax.vmap(slope, axes)(*arguments))
    for index in range(2):
        one = [a if axis is None else jnp.take(a, index, axis) for a, axis in zip(arguments, axes)]
        for found, expected in zip(mapped, run(lambda slope, one=one: slope(*one))):
            np.testing.assert_allclose(found[index], expected, rtol=1e-9, atol=1e-9)


def test_a_carry_or_kernel_that_does_not_fit_is_refused_in_one_line(as_user: None) -> None:
    cell, layer = ConvLSTMCell(3), ConvLSTM(3)
    frame, state = jnp.zeros((2, 4, 5, 1)), jnp.zeros((2, 4, 5, 3))
    variables = cell.init(jax.random.key(0), (state, state), frame)
    nested = {"params": {"cell": variables["params"]}}
    for carry in (
        (state[0], state[0]),
        (state, state[..., :2]),
        (state[:1], state[:1]),
        (state.astype(jnp.float16), state),
        (state.astype(int), state),
        state,
        (state,),
        (1.0, 2.0),
    ):
        for run in (
            lambda carry=carry: cell.apply(variables, carry, frame),
            lambda carry=carry: layer.apply(nested, frame[:, None], carry),
            lambda carry=carry: layer.apply(nested, carry, frame, method="step"),
        ):
            with pytest.raises(ConfigError, match=r"^carry: expected .*\(c, h\)") as caught:
                run()
            assert "\n" not in str(caught.value)
    for size in ((3,), (3, 3, 3)):
        with pytest.raises(ConfigError, match="kernel_size: expected"):
            ConvLSTMCell(3, size).init(jax.random.key(0), (state, state), frame)
    for kernel in (jnp.zeros((3, 3, 1)), jnp.zeros((3, 3, 2, 3)), jnp.zeros((3, 3, 1, 3), int)):
        with pytest.raises(ConfigError, match="kernel: expected"):
            convolve(frame, kernel, same_padding((3, 3)))
