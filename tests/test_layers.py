"""The layer is its cell, however it is unrolled, and nothing else."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
from flax import linen as nn
from programs import convolutions, is_plain

from jaxconvlstm.cell import ConvLSTMCell
from jaxconvlstm.errors import ConfigError
from jaxconvlstm.layers import ConvLSTM

DOUBLE: dict[str, Any] = dict(dtype=jnp.float64, param_dtype=jnp.float64)
Tree = Any


def normal(seed: int, *shape: int) -> jax.Array:
    values = np.random.default_rng(seed).normal(size=shape)
    return jnp.asarray(values, jax.dtypes.canonicalize_dtype(np.float64))


def random_variables(module: nn.Module, *arguments: Any) -> Tree:
    """Every weight random: peepholes and biases, which start constant, too."""
    shapes = jax.eval_shape(module.init, jax.random.key(0), *arguments)
    leaves, structure = jax.tree.flatten(shapes)
    return structure.unflatten(
        [0.5 * normal(seed, *leaf.shape) for seed, leaf in enumerate(leaves)]
    )


def loss_and_gradients(run: Callable[[Tree, jax.Array], jax.Array], *arguments: Any) -> Any:
    """A loss that depends on every output, and its gradients in the weights and the frames."""

    def loss(*arguments: Any) -> jax.Array:
        outputs = run(*arguments)
        return jnp.sum(outputs * jnp.cos(jnp.arange(outputs.size)).reshape(outputs.shape))

    return jax.jit(jax.value_and_grad(loss, (0, 1)))(*arguments)


def assert_trees_close(actual: Tree, expected: Tree, tolerance: float) -> None:
    def close(a: Any, b: Any) -> None:
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)

    jax.tree.map(close, actual, expected)


def step_by_step(layer: ConvLSTM, variables: Tree, inputs: jax.Array) -> jax.Array:
    frames = inputs.swapaxes(0, 1)
    carry = layer.apply(variables, frames[0].shape, method="initialize_carry")
    outputs = []
    for frame in frames:
        carry, hidden = layer.apply(variables, carry, frame, method="step")
        outputs.append(hidden)
    return jnp.stack(outputs, axis=1)


@pytest.mark.parametrize("peephole", [None, "spatial"])
def test_scan_loop_rnn_and_remat_agree_with_gradients(peephole: str | None, float64: None) -> None:
    layer = ConvLSTM(3, (3, 2), peephole, **DOUBLE)
    remat = ConvLSTM(3, (3, 2), peephole, remat=True, **DOUBLE)
    rnn = nn.RNN(ConvLSTMCell(3, (3, 2), peephole, **DOUBLE))
    inputs = normal(0, 2, 4, 4, 5, 2)
    variables = random_variables(layer, inputs)

    expected = loss_and_gradients(layer.apply, variables, inputs)
    by_step = loss_and_gradients(lambda v, x: step_by_step(layer, v, x), variables, inputs)
    assert_trees_close(by_step, expected, 1e-10)
    assert_trees_close(loss_and_gradients(rnn.apply, variables, inputs), expected, 1e-10)
    assert_trees_close(loss_and_gradients(remat.apply, variables, inputs), expected, 1e-10)


def test_one_parameter_tree_for_scan_rnn_and_remat() -> None:
    inputs = jnp.zeros((1, 2, 4, 4, 2))
    modules = [
        ConvLSTM(3, peephole="channel"),
        ConvLSTM(3, peephole="channel", remat=True),
        nn.RNN(ConvLSTMCell(3, peephole="channel")),
    ]
    trees = [
        jax.tree.map(jnp.shape, jax.eval_shape(module.init, jax.random.key(0), inputs))
        for module in modules
    ]
    assert trees[0] == trees[1] == trees[2]
    assert set(trees[0]["params"]) == {"cell"}


def test_layer_stays_on_the_numpy_loop_over_many_steps(float64: None) -> None:
    layer = ConvLSTM(2, peephole="channel", **DOUBLE)
    inputs = normal(0, 1, 200, 3, 3, 1)
    variables = random_variables(layer, inputs)
    outputs = jax.jit(layer.apply)(variables, inputs)
    _, expected = reference.conv_lstm(variables["params"]["cell"], inputs)
    np.testing.assert_allclose(outputs, expected, rtol=0, atol=1e-10)


def test_continuing_from_a_carry_is_one_long_run(float64: None) -> None:
    layer = ConvLSTM(3, **DOUBLE)
    inputs = normal(0, 2, 6, 4, 4, 2)
    variables = random_variables(layer, inputs)

    def in_two_parts(variables: Tree, inputs: jax.Array) -> jax.Array:
        carry, first = layer.apply(variables, inputs[:, :2], return_carry=True)
        return jnp.concatenate([first, layer.apply(variables, inputs[:, 2:], carry)], axis=1)

    actual = loss_and_gradients(in_two_parts, variables, inputs)
    assert_trees_close(actual, loss_and_gradients(layer.apply, variables, inputs), 1e-10)


def test_returned_carry_is_the_last_cell_and_hidden_state(float64: None) -> None:
    layer = ConvLSTM(3, **DOUBLE)
    inputs = normal(0, 2, 4, 4, 4, 2)
    variables = random_variables(layer, inputs)
    carry, outputs = layer.apply(variables, inputs, return_carry=True)
    expected_carry, _ = reference.conv_lstm(variables["params"]["cell"], inputs)
    assert_trees_close(carry, expected_carry, 1e-10)
    np.testing.assert_array_equal(carry[1], outputs[:, -1])


def test_no_output_depends_on_a_later_frame() -> None:
    layer = ConvLSTM(2)
    inputs = normal(0, 1, 4, 3, 3, 1)
    variables = random_variables(layer, inputs)
    totals = jax.jit(jax.jacrev(lambda x: layer.apply(variables, x).sum((0, 2, 3, 4))))(inputs)
    depends = jnp.abs(totals).max((1, 3, 4, 5)) > 0  # [output time, input time]
    np.testing.assert_array_equal(depends, np.tril(np.ones((4, 4), bool)))


def test_jit_changes_nothing() -> None:
    layer = ConvLSTM(3)
    inputs = normal(0, 2, 3, 4, 4, 2)
    variables = random_variables(layer, inputs)
    jitted = jax.jit(layer.apply)(variables, inputs)
    np.testing.assert_allclose(layer.apply(variables, inputs), jitted, atol=1e-6)


def test_input_without_time_axis_is_refused_with_its_shape(as_user: None) -> None:
    with pytest.raises(ConfigError, match=r"inputs: expected 5 axes .* got shape \(2, 8, 8, 1\)"):
        ConvLSTM(3).init(jax.random.key(0), jnp.zeros((2, 8, 8, 1)))


@pytest.mark.parametrize("value", [1e4, -1e4, 0.0])
def test_extreme_inputs_make_no_nan(value: float) -> None:
    layer = ConvLSTM(3, peephole="channel")
    inputs = jnp.full((1, 5, 4, 4, 2), value)
    variables = random_variables(layer, inputs)
    results = loss_and_gradients(layer.apply, variables, inputs)
    assert all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(results))


def test_bfloat16_layer_runs_and_trains_in_bfloat16() -> None:
    layer = ConvLSTM(3, peephole="channel", dtype=jnp.bfloat16)
    inputs = normal(0, 2, 3, 4, 4, 2)
    variables = random_variables(layer, inputs)
    outputs = jax.eval_shape(layer.apply, variables, inputs)
    assert outputs.dtype == jnp.bfloat16
    _, (gradients, _) = loss_and_gradients(layer.apply, variables, inputs)
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(gradients))
    assert all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(gradients))


def test_remat_takes_less_memory() -> None:
    inputs = jnp.zeros((1, 24, 16, 16, 1))

    def temporary_bytes(layer: ConvLSTM) -> int:
        variables = random_variables(layer, inputs)
        gradient = jax.jit(jax.grad(lambda v: layer.apply(v, inputs).sum()))
        memory = gradient.lower(variables).compile().memory_analysis()
        return memory.temp_size_in_bytes

    assert temporary_bytes(ConvLSTM(8, remat=True)) < 0.8 * temporary_bytes(ConvLSTM(8))


def gradient_convolutions(module: nn.Module) -> list[str]:
    inputs = jnp.zeros((2, 3, 6, 6, 2))
    variables = random_variables(module, inputs)
    return convolutions(jax.grad(lambda v: module.apply(v, inputs).sum()), variables)


@pytest.mark.parametrize("remat", [False, True])
def test_gradient_holds_only_convolutions_that_are_fast_in_a_loop(remat: bool) -> None:
    # Some 40 times slower otherwise, on CPU: the form of the program is tested, not its time.
    found = gradient_convolutions(ConvLSTM(3, remat=remat))
    assert found
    assert [line for line in found if not is_plain(line)] == []


def test_flaxs_own_cell_would_fail_that_test(foreign_code: None) -> None:
    # Proof that the test above can fail.
    assert not all(map(is_plain, gradient_convolutions(nn.RNN(nn.ConvLSTMCell(3, (3, 3))))))
