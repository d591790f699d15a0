"""The cell computes the published equations, with the gates and the carry where it says."""

from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
from flax import linen as nn
from jax.test_util import check_grads
from numerics import (
    Tree,
    assert_trees_close,
    cosines,
    normal,
    random_variables,
    with_gradients,
)

from jaxconvlstm import ConvLSTMCell
from jaxconvlstm.errors import ConfigError

DOUBLE: dict[str, Any] = dict(dtype=jnp.float64, param_dtype=jnp.float64)
FRAMES = (2, 3, 4, 5, 3)  # batch, time, height, width, channels


def random_params(cell: ConvLSTMCell, frame: jax.Array, seed: int = 0) -> Tree:
    carry = cell.initialize_carry(None, frame.shape)
    params = random_variables(cell, carry, frame, scale=0.5)["params"]
    return jax.tree.map(lambda leaf: leaf + 0.1 * normal(seed, *leaf.shape), params)


def unroll(cell: Any, params: Tree, frames: jax.Array) -> tuple[Any, jax.Array]:
    """The plainest way to run a cell: one time step after the other."""
    carry = cell.initialize_carry(jax.random.key(0), frames[:, 0].shape)
    carry, outputs = jax.lax.scan(
        lambda carry, frame: cell.apply({"params": params}, carry, frame),
        carry,
        frames.swapaxes(0, 1),
    )
    return carry, outputs.swapaxes(0, 1)


def soft_sign(x: Any) -> Any:
    return x / (1 + abs(x))


SIGMOID = dict(activation=np.tanh, gate_activation=reference.sigmoid)
CELLS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "plain": (dict(kernel_size=(3, 3)), SIGMOID),
    "channel": (dict(kernel_size=(2, 5), peephole="channel"), SIGMOID),
    "spatial": (dict(kernel_size=(3, 2), peephole="spatial"), SIGMOID),
    # Of as many channels that frame and state are convolved as one array.
    "aligned": (dict(features=8, peephole="channel"), SIGMOID),
    "named": (
        dict(kernel_size=(2, 3), activation="relu", gate_activation=nn.hard_sigmoid),
        dict(
            activation=lambda x: np.maximum(x, 0),
            gate_activation=lambda x: np.clip(x / 6 + 0.5, 0, 1),
        ),
    ),
    "function": (dict(activation=soft_sign), SIGMOID | dict(activation=soft_sign)),
}


@cache
def unrolled(name: str) -> tuple[ConvLSTMCell, tuple[int, ...], Any]:
    """A cell, the shape of its frames, and how it is unrolled, jitted."""
    cell = ConvLSTMCell(**(dict(features=4) | CELLS[name][0] | DOUBLE))
    shape = (*FRAMES[:-1], 8) if name == "aligned" else FRAMES
    return cell, shape, jax.jit(lambda params, frames: unroll(cell, params, frames))


@pytest.mark.parametrize("name", CELLS)
def test_cell_is_the_numpy_loop(name: str, float64: None) -> None:
    cell, shape, run = unrolled(name)
    frames = normal(1, *shape)
    params = random_params(cell, frames[:, 0])
    carry, outputs = run(params, frames)
    expected_carry, expected = reference.conv_lstm(params, frames, **CELLS[name][1])
    assert_trees_close((carry, outputs), (expected_carry, expected), 1e-10)


@pytest.mark.parametrize("name", ["plain", "channel", "spatial", "aligned"])
def test_gradients_are_the_numerical_ones(name: str, float64: None) -> None:
    cell, shape, run = unrolled(name)
    for seed in range(4):
        frames = normal(seed, *shape)
        params = random_params(cell, frames[:, 0], seed)
        # The default step of 1e-4 has a truncation error above the tolerance.
        check_grads(run, (params, frames), 1, ["rev"], atol=1e-6, rtol=1e-6, eps=1e-5)


def assert_same_gradients(ours: Any, theirs: Any, params: Tree, frames: jax.Array) -> None:
    """Outputs, and gradients in weights and frames, in float32."""
    weights = cosines(*frames.shape[:-1], 4)
    actual, expected = (with_gradients(run)(weights, params, frames) for run in (ours, theirs))
    assert_trees_close(actual, expected, 1e-5)


def test_cell_is_flaxs_with_its_weights_reordered(foreign_code: None) -> None:
    ours, theirs = ConvLSTMCell(4, (3, 3)), nn.ConvLSTMCell(4, (3, 3))
    frames = normal(1, *FRAMES)
    params = random_params(ours, frames[:, 0])

    def reorder(weight: jax.Array) -> jax.Array:  # i, f, g, o to i, g, f, o
        i, f, g, o = jnp.split(weight, 4, axis=-1)
        return jnp.concatenate([i, g, f, o], axis=-1)

    def run_theirs(params: Tree, frames: jax.Array) -> jax.Array:
        # Flax adds 1 to the forget gate as it runs, ours holds it in the bias.
        bias = params["input"]["bias"].at[4:8].add(-1.0)
        copied = {
            "ih": {"kernel": reorder(params["input"]["kernel"]), "bias": reorder(bias)},
            "hh": {"kernel": reorder(params["hidden"]["kernel"]), "bias": jnp.zeros(16)},
        }
        return unroll(theirs, copied, frames)[1]

    assert_same_gradients(lambda p, x: unroll(ours, p, x)[1], run_theirs, params, frames)


def test_cell_is_kerass_with_its_weights_as_they_are(foreign_code: None) -> None:
    keras = pytest.importorskip("keras")
    if keras.backend.backend() != "jax":
        pytest.skip("keras is not on its JAX backend")
    cell = ConvLSTMCell(4, (3, 2))
    layer = keras.layers.ConvLSTM2D(
        4, (3, 2), padding="same", return_sequences=True, recurrent_activation="sigmoid"
    )
    frames = normal(1, *FRAMES)
    layer.build(frames.shape)
    params = random_params(cell, frames[:, 0])

    def run_theirs(params: Tree, frames: jax.Array) -> jax.Array:
        weights = [params["input"]["kernel"], params["hidden"]["kernel"], params["input"]["bias"]]
        rest = [variable.value for variable in layer.non_trainable_variables]
        return layer.stateless_call(weights, rest, frames)[0]

    assert_same_gradients(lambda p, x: unroll(cell, p, x)[1], run_theirs, params, frames)


@pytest.mark.parametrize(
    ("options", "peephole"),
    [({}, None), (dict(peephole="channel"), (4,)), (dict(peephole="spatial"), (5, 6, 4))],
)
def test_parameter_tree(options: dict[str, Any], peephole: tuple[int, ...] | None) -> None:
    frame = jnp.zeros((2, 5, 6, 3))
    params = random_params(ConvLSTMCell(4, (3, 2), **options), frame)
    expected: Tree = {
        "input": {"kernel": (3, 2, 3, 16), "bias": (16,)},
        "hidden": {"kernel": (3, 2, 4, 16)},
    }
    if peephole is not None:
        expected |= {f"peephole_{gate}": {"weight": peephole} for gate in "ifo"}
    assert jax.tree.map(jnp.shape, params) == expected
    without = random_params(ConvLSTMCell(4, use_bias=False, **options), frame)
    assert set(without["input"]) == {"kernel"}


def test_a_cell_that_reads_nothing_is_one_whose_input_weighs_nothing(float64: None) -> None:
    blind = ConvLSTMCell(3, (3, 2), "channel", reads_input=False, **DOUBLE)
    state = normal(0, 2, 4, 5, 3), normal(1, 2, 4, 5, 3)
    params = random_variables(blind, state, None, scale=0.5)["params"]
    bias = params["hidden"]["bias"]
    seeing = params | {"input": {"kernel": np.zeros((3, 2, 1, 12)), "bias": bias}}
    expected, outputs = reference.conv_lstm(seeing, np.zeros((2, 1, 4, 5, 1)), state)
    actual = jax.jit(blind.apply)({"params": params}, state, None)
    assert_trees_close(actual, (expected, outputs[:, 0]), 1e-10)


def test_initial_weights_forget_nothing_are_orthogonal_and_have_no_peepholes() -> None:
    def params(cell: ConvLSTMCell, frame: jax.Array | None) -> Tree:
        carry = cell.initialize_carry(None, (1, 4, 4, 2))
        return jax.jit(cell.init)(jax.random.key(0), carry, frame)["params"]

    drawn = params(ConvLSTMCell(3, peephole="spatial"), jnp.zeros((1, 4, 4, 2)))
    forget = [0] * 3 + [1] * 3 + [0] * 6
    np.testing.assert_array_equal(drawn["input"]["bias"], forget)
    columns = np.asarray(drawn["hidden"]["kernel"]).reshape((-1, 12))
    np.testing.assert_allclose(columns.T @ columns, np.eye(12), atol=1e-5)
    assert not any(np.any(drawn[f"peephole_{gate}"]["weight"]) for gate in "ifo")
    blind = params(ConvLSTMCell(3, reads_input=False), None)
    assert jax.tree.map(jnp.shape, blind) == {"hidden": {"kernel": (3, 3, 3, 12), "bias": (12,)}}
    np.testing.assert_array_equal(blind["hidden"]["bias"], forget)


def test_a_bias_reaches_only_its_own_gate_and_the_carry_is_cell_then_hidden_state() -> None:
    cell = ConvLSTMCell(2)
    frame = jnp.zeros((1, 3, 3, 1))
    zero = jax.tree.map(np.zeros_like, random_params(cell, frame))
    state = np.full((1, 3, 3, 2), 0.3, np.float32)
    step = jax.jit(cell.apply)
    for position, gate in enumerate("ifgo"):
        bias = np.zeros(8, np.float32)
        bias[2 * position : 2 * position + 2] = 0.7
        params = zero | {"input": zero["input"] | {"bias": bias}}
        (c, h), outputs = step({"params": params}, (state, 0 * state), frame)
        before = {name: 0.7 if name == gate else 0.0 for name in "ifgo"}
        i, f, o = (reference.sigmoid(np.float64(before[name])) for name in "ifo")
        expected_c = f * 0.3 + i * np.tanh(before["g"])
        np.testing.assert_allclose(c, np.full(c.shape, expected_c), rtol=1e-5)
        np.testing.assert_allclose(h, np.full(h.shape, o * np.tanh(expected_c)), rtol=1e-5)
        np.testing.assert_array_equal(h, outputs)


def test_peepholes_fit_the_frame_or_are_refused() -> None:
    small, wide = jnp.zeros((1, 4, 4, 2)), jnp.zeros((1, 4, 7, 2))

    def output_shape(cell: ConvLSTMCell) -> tuple[int, ...]:
        variables = {"params": random_params(cell, small)}
        carry = cell.initialize_carry(None, wide.shape)
        return jax.eval_shape(cell.apply, variables, carry, wide)[1].shape

    assert output_shape(ConvLSTMCell(3, peephole="channel")) == (1, 4, 7, 3)
    with pytest.raises(ConfigError, match=r"\(4, 4, 3\), got \(4, 7, 3\)"):
        output_shape(ConvLSTMCell(3, peephole="spatial"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(peephole="full"), "peephole: expected one of None, channel, spatial"),
        (dict(activation="gelu"), "activation: expected one of tanh, relu, got 'gelu'"),
        (dict(reads_input=False), "inputs: expected none, .* reads_input is False"),
    ],
)
def test_what_cannot_work_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        random_params(ConvLSTMCell(3, **options), jnp.zeros((1, 4, 4, 2)))


def test_a_missing_input_is_refused() -> None:
    cell = ConvLSTMCell(2)
    with pytest.raises(ConfigError, match=r"inputs: expected an array, .* reads_input is True"):
        cell.init(jax.random.key(0), cell.initialize_carry(None, (1, 4, 4, 1)), None)


def test_bfloat16_keeps_the_cell_state_in_float32() -> None:
    cell = ConvLSTMCell(3, peephole="channel", dtype=jnp.bfloat16)
    frame = normal(0, 1, 4, 4, 2)
    params = random_params(cell, frame)
    carry = cell.initialize_carry(None, frame.shape)
    (c, h), outputs = jax.jit(cell.apply)({"params": params}, carry, frame)
    assert [c.dtype, h.dtype, outputs.dtype] == [jnp.float32, jnp.bfloat16, jnp.bfloat16]
    assert [part.dtype for part in carry] == [c.dtype, h.dtype]  # or a scan would refuse it
    _, expected = reference.conv_lstm(params, frame[:, None])
    np.testing.assert_allclose(np.asarray(outputs, np.float32), expected[:, 0], atol=0.05)


def test_float64_reaches_the_cell_state_though_parameters_are_float32(float64: None) -> None:
    cell = ConvLSTMCell(3, dtype=jnp.float64)
    frame = jnp.zeros((1, 4, 4, 2), jnp.float64)
    carry = cell.initialize_carry(None, frame.shape)
    after, _ = jax.eval_shape(cell.apply, {"params": random_params(cell, frame)}, carry, frame)
    assert [part.dtype for part in (*carry, *after)] == [jnp.float64] * 4
