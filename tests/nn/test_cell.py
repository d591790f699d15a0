"""The cell computes the published equations, with the gates and the carry where it says."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
from flax import linen as nn
from jax.test_util import check_grads

from jaxconvlstm.errors import ConfigError
from jaxconvlstm.nn.cell import ConvLSTMCell

PEEPHOLES = [None, "channel", "spatial"]
GATES = "ifgo"
Tree = Any


def normal(seed: int, *shape: int, dtype: Any = np.float64) -> jax.Array:
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape).astype(dtype))


def random_like(tree: Tree, seed: int) -> Tree:
    """Every weight random, so that none can be ignored unnoticed (peepholes start at zero)."""
    generator = np.random.default_rng(seed)
    dtype = jax.dtypes.canonicalize_dtype(np.float64)
    return jax.tree.map(
        lambda leaf: jnp.asarray(0.5 * generator.normal(size=leaf.shape).astype(dtype)), tree
    )


def random_params(cell: ConvLSTMCell, frame: jax.Array, seed: int = 0) -> Tree:
    carry = cell.initialize_carry(jax.random.key(0), frame.shape)
    shapes = jax.eval_shape(cell.init, jax.random.key(0), carry, frame)
    return random_like(shapes["params"], seed)


def unroll(cell: ConvLSTMCell, params: Tree, frames: jax.Array) -> tuple[Any, jax.Array]:
    """A Python loop over time: the plainest way to run a cell."""
    carry = cell.initialize_carry(jax.random.key(0), frames[:, 0].shape)
    outputs = []
    for frame in frames.swapaxes(0, 1):
        carry, hidden = jax.jit(cell.apply)({"params": params}, carry, frame)
        outputs.append(hidden)
    return carry, jnp.stack(outputs, axis=1)


def loss_and_gradients(
    run: Callable[[Tree, jax.Array], jax.Array], params: Tree, frames: jax.Array
) -> Any:
    """A loss that depends on every output, and its gradients in the weights and the frames."""

    def loss(params: Tree, frames: jax.Array) -> jax.Array:
        outputs = run(params, frames)
        return jnp.sum(outputs * jnp.cos(jnp.arange(outputs.size)).reshape(outputs.shape))

    return jax.jit(jax.value_and_grad(loss, (0, 1)))(params, frames)


def assert_trees_close(actual: Tree, expected: Tree, tolerance: float) -> None:
    def close(a: Any, b: Any) -> None:
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)

    jax.tree.map(close, actual, expected)


@pytest.mark.parametrize("peephole", PEEPHOLES)
@pytest.mark.parametrize("kernel_size", [(3, 3), (2, 5)], ids=str)
def test_cell_is_the_numpy_loop(
    kernel_size: tuple[int, int], peephole: str | None, float64: None
) -> None:
    cell = ConvLSTMCell(4, kernel_size, peephole, dtype=jnp.float64, param_dtype=jnp.float64)
    frames = normal(1, 2, 4, 5, 6, 3)
    params = random_params(cell, frames[:, 0])
    carry, outputs = jax.jit(unroll, static_argnums=0)(cell, params, frames)
    expected_carry, expected = reference.conv_lstm(params, frames)
    assert_trees_close((carry, outputs), (expected_carry, expected), 1e-10)


@pytest.mark.parametrize(
    ("activation", "gate_activation", "numpy_activation", "numpy_gate_activation"),
    [
        (nn.leaky_relu, nn.sigmoid, lambda x: np.maximum(x, 0.01 * x), reference.sigmoid),
        ("relu", nn.sigmoid, lambda x: np.maximum(x, 0), reference.sigmoid),
        (jnp.tanh, nn.hard_sigmoid, np.tanh, lambda x: np.clip(x / 6 + 0.5, 0, 1)),
    ],
    ids=["function", "name", "hard_sigmoid"],
)
def test_activations_can_be_chosen(
    activation: Any,
    gate_activation: Any,
    numpy_activation: Any,
    numpy_gate_activation: Any,
    float64: None,
) -> None:
    cell = ConvLSTMCell(
        3,
        activation=activation,
        gate_activation=gate_activation,
        dtype=jnp.float64,
        param_dtype=jnp.float64,
    )
    frames = normal(1, 1, 3, 4, 4, 2)
    params = random_params(cell, frames[:, 0])
    _, outputs = jax.jit(unroll, static_argnums=0)(cell, params, frames)
    _, expected = reference.conv_lstm(
        params, frames, activation=numpy_activation, gate_activation=numpy_gate_activation
    )
    np.testing.assert_allclose(outputs, expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("peephole", PEEPHOLES)
def test_gradients_are_the_numerical_ones(peephole: str | None, float64: None) -> None:
    cell = ConvLSTMCell(2, (3, 2), peephole, dtype=jnp.float64, param_dtype=jnp.float64)
    frames = normal(0, 1, 2, 3, 3, 2)

    @jax.jit
    def outputs(params: Tree, frames: jax.Array) -> Any:
        return unroll(cell, params, frames)

    for seed in range(8):
        params = random_params(cell, frames[:, 0], seed)
        arguments = params, normal(seed, *frames.shape)
        # The default step of 1e-4 has a truncation error above the tolerance.
        check_grads(outputs, arguments, 1, ["rev"], atol=1e-6, rtol=1e-6, eps=1e-5)


def test_cell_is_flaxs_with_its_weights_reordered(foreign_code: None) -> None:
    ours = ConvLSTMCell(4, (3, 3))
    theirs = nn.ConvLSTMCell(4, (3, 3))
    frames = normal(1, 2, 3, 5, 6, 2, dtype=np.float32)
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

    actual = loss_and_gradients(lambda p, x: unroll(ours, p, x)[1], params, frames)
    assert_trees_close(actual, loss_and_gradients(run_theirs, params, frames), 1e-5)


def test_cell_is_kerass_with_its_weights_as_they_are(foreign_code: None) -> None:
    keras = pytest.importorskip("keras")
    if keras.backend.backend() != "jax":
        pytest.skip("keras is not on its JAX backend")
    cell = ConvLSTMCell(3, (3, 3))
    layer = keras.layers.ConvLSTM2D(
        3, 3, padding="same", return_sequences=True, recurrent_activation="sigmoid"
    )
    frames = normal(1, 2, 3, 5, 6, 2, dtype=np.float32)
    layer.build(frames.shape)
    params = random_params(cell, frames[:, 0])

    def run_theirs(params: Tree, frames: jax.Array) -> jax.Array:
        weights = [params["input"]["kernel"], params["hidden"]["kernel"], params["input"]["bias"]]
        rest = [variable.value for variable in layer.non_trainable_variables]
        return layer.stateless_call(weights, rest, frames)[0]

    actual = loss_and_gradients(lambda p, x: unroll(cell, p, x)[1], params, frames)
    assert_trees_close(actual, loss_and_gradients(run_theirs, params, frames), 1e-5)


@pytest.mark.parametrize(
    ("peephole", "weight_shape"), [(None, None), ("channel", (4,)), ("spatial", (5, 6, 4))]
)
def test_parameter_tree(peephole: str | None, weight_shape: tuple[int, ...] | None) -> None:
    cell = ConvLSTMCell(4, (3, 2), peephole)
    params = random_params(cell, jnp.zeros((2, 5, 6, 3)))
    expected: Tree = {
        "input": {"kernel": (3, 2, 3, 16), "bias": (16,)},
        "hidden": {"kernel": (3, 2, 4, 16)},
    }
    if peephole is not None:
        expected |= {f"peephole_{gate}": {"weight": weight_shape} for gate in "ifo"}
    assert jax.tree.map(jnp.shape, params) == expected


def test_without_bias_there_is_none() -> None:
    params = random_params(ConvLSTMCell(4, use_bias=False), jnp.zeros((2, 5, 6, 3)))
    assert set(params["input"]) == {"kernel"}


@pytest.mark.parametrize("peephole", [None, "channel"])
def test_a_cell_that_reads_nothing_is_one_whose_input_weighs_nothing(
    peephole: str | None, float64: None
) -> None:
    blind = ConvLSTMCell(
        3, (3, 2), peephole, reads_input=False, dtype=jnp.float64, param_dtype=jnp.float64
    )
    state = normal(0, 2, 4, 5, 3), normal(1, 2, 4, 5, 3)
    params = random_like(jax.eval_shape(blind.init, jax.random.key(0), state, None), 0)["params"]
    bias = params["hidden"]["bias"]
    seeing = params | {"input": {"kernel": np.zeros((3, 2, 1, 12)), "bias": bias}}
    expected, outputs = reference.conv_lstm(seeing, np.zeros((2, 1, 4, 5, 1)), state)
    actual = jax.jit(blind.apply)({"params": params}, state, None)
    assert_trees_close(actual, (expected, outputs[:, 0]), 1e-10)


def test_a_cell_that_reads_nothing_has_its_bias_with_the_hidden_state() -> None:
    cell = ConvLSTMCell(2, reads_input=False)
    carry = cell.initialize_carry(None, (1, 4, 4, 0))
    params = jax.jit(cell.init)(jax.random.key(0), carry, None)["params"]
    assert jax.tree.map(jnp.shape, params) == {"hidden": {"kernel": (3, 3, 2, 8), "bias": (8,)}}
    np.testing.assert_array_equal(params["hidden"]["bias"], [0, 0, 1, 1, 0, 0, 0, 0])


@pytest.mark.parametrize("reads_input", [True, False])
def test_an_input_too_few_or_too_many_is_refused(reads_input: bool) -> None:
    cell = ConvLSTMCell(2, reads_input=reads_input)
    carry = cell.initialize_carry(None, (1, 4, 4, 1))
    frame = None if reads_input else jnp.zeros((1, 4, 4, 1))
    with pytest.raises(ConfigError, match=f"inputs: expected .* reads_input is {reads_input}"):
        cell.init(jax.random.key(0), carry, frame)


@pytest.mark.parametrize("gate", GATES)
def test_a_bias_reaches_only_its_own_gate(gate: str) -> None:
    cell = ConvLSTMCell(2)
    frame = jnp.zeros((1, 3, 3, 1))
    params = jax.tree.map(jnp.zeros_like, random_params(cell, frame))
    position = 2 * GATES.index(gate)
    params["input"]["bias"] = params["input"]["bias"].at[position : position + 2].set(0.7)
    state = jnp.full((1, 3, 3, 2), 0.3)
    (c, h), _ = jax.jit(cell.apply)({"params": params}, (state, jnp.zeros_like(state)), frame)

    before = {name: 0.7 if name == gate else 0.0 for name in GATES}
    i, f, o = (reference.sigmoid(np.float64(before[name])) for name in "ifo")
    expected_c = f * 0.3 + i * np.tanh(before["g"])
    np.testing.assert_allclose(c, np.full(c.shape, expected_c), rtol=1e-5)
    np.testing.assert_allclose(h, np.full(h.shape, o * np.tanh(expected_c)), rtol=1e-5)


def test_the_carry_is_cell_state_then_hidden_state() -> None:
    cell = ConvLSTMCell(2)
    frame = normal(0, 1, 3, 3, 1, dtype=np.float32)
    params = random_params(cell, frame)
    params["input"]["bias"] = params["input"]["bias"].at[2:4].set(100.0)  # forgets nothing
    state = jnp.full((1, 3, 3, 2), 50.0)
    (c, h), outputs = jax.jit(cell.apply)({"params": params}, (state, jnp.zeros_like(state)), frame)
    assert jnp.abs(c - 50).max() < 2  # a cell state that is kept, and ...
    assert jnp.abs(h).max() <= 1  # ... a hidden state that a gate and tanh have bounded
    np.testing.assert_array_equal(h, outputs)


def test_the_forget_gate_starts_open() -> None:
    cell = ConvLSTMCell(3)
    frame = jnp.zeros((1, 4, 4, 2))
    carry = cell.initialize_carry(None, frame.shape)
    variables = jax.jit(cell.init)(jax.random.key(0), carry, frame)
    expected = [0] * 3 + [1] * 3 + [0] * 6
    np.testing.assert_array_equal(variables["params"]["input"]["bias"], expected)


def test_the_recurrent_kernel_starts_orthogonal() -> None:
    cell = ConvLSTMCell(3)
    frame = jnp.zeros((1, 4, 4, 2))
    carry = cell.initialize_carry(None, frame.shape)
    variables = jax.jit(cell.init)(jax.random.key(0), carry, frame)
    columns = np.asarray(variables["params"]["hidden"]["kernel"]).reshape((-1, 12))
    np.testing.assert_allclose(columns.T @ columns, np.eye(12), atol=1e-5)


def test_untrained_peepholes_change_nothing() -> None:
    frame = normal(0, 1, 4, 4, 2, dtype=np.float32)
    plain, peephole = ConvLSTMCell(3), ConvLSTMCell(3, peephole="spatial")
    carry = normal(1, 1, 4, 4, 3, dtype=np.float32), normal(2, 1, 4, 4, 3, dtype=np.float32)
    outputs, _ = jax.jit(plain.init_with_output)(jax.random.key(0), carry, frame)
    others, _ = jax.jit(peephole.init_with_output)(jax.random.key(0), carry, frame)
    assert_trees_close(others, outputs, 1e-6)


def test_channel_peepholes_take_another_frame_size() -> None:
    cell = ConvLSTMCell(3, peephole="channel")
    params = random_params(cell, jnp.zeros((1, 4, 4, 2)))
    wide = jnp.zeros((1, 4, 7, 2))
    carry = cell.initialize_carry(None, wide.shape)
    _, outputs = cell.apply({"params": params}, carry, wide)
    assert outputs.shape == (1, 4, 7, 3)


def test_spatial_peepholes_refuse_another_frame_size() -> None:
    cell = ConvLSTMCell(3, peephole="spatial")
    params = random_params(cell, jnp.zeros((1, 4, 4, 2)))
    wide = jnp.zeros((1, 4, 7, 2))
    carry = cell.initialize_carry(None, wide.shape)
    with pytest.raises(ConfigError, match=r"\(4, 4, 3\), got \(4, 7, 3\)"):
        cell.apply({"params": params}, carry, wide)


def test_an_unknown_peephole_is_refused_with_the_choices() -> None:
    cell = ConvLSTMCell(3, peephole="full")
    with pytest.raises(ConfigError, match="peephole: expected one of None, channel, spatial"):
        random_params(cell, jnp.zeros((1, 4, 4, 2)))


def test_an_unknown_activation_is_refused_with_the_choices() -> None:
    cell = ConvLSTMCell(3, activation="gelu")
    with pytest.raises(ConfigError, match="activation: expected one of tanh, relu, got 'gelu'"):
        random_params(cell, jnp.zeros((1, 4, 4, 2)))


def test_bfloat16_keeps_the_cell_state_in_float32() -> None:
    cell = ConvLSTMCell(3, peephole="channel", dtype=jnp.bfloat16)
    frame = normal(0, 1, 4, 4, 2, dtype=np.float32)
    params = random_params(cell, frame)
    carry = cell.initialize_carry(None, frame.shape)
    (c, h), outputs = jax.jit(cell.apply)({"params": params}, carry, frame)
    assert [c.dtype, h.dtype, outputs.dtype] == [jnp.float32, jnp.bfloat16, jnp.bfloat16]
    assert [part.dtype for part in carry] == [c.dtype, h.dtype]  # or a scan would refuse it
    _, expected = reference.conv_lstm(params, frame[:, None])
    np.testing.assert_allclose(outputs.astype(jnp.float32), expected[:, 0], atol=0.05)


def test_float64_reaches_the_cell_state_though_parameters_are_float32(float64: None) -> None:
    cell = ConvLSTMCell(3, dtype=jnp.float64)
    frame = jnp.zeros((1, 4, 4, 2), jnp.float64)
    carry = cell.initialize_carry(None, frame.shape)
    params = random_params(cell, frame)
    carry_after, _ = jax.jit(cell.apply)({"params": params}, carry, frame)
    assert [part.dtype for part in carry] == [jnp.float64, jnp.float64]
    assert [part.dtype for part in carry_after] == [jnp.float64, jnp.float64]
