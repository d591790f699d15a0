"""The layer is its cell, however it is unrolled, and nothing else."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
from flax import linen as nn
from programs import convolutions

from jaxconvlstm.errors import ConfigError
from jaxconvlstm.nn import conv, conv_lstm, winograd
from jaxconvlstm.nn.cell import ConvLSTMCell
from jaxconvlstm.nn.conv_lstm import ConvLSTM
from jaxconvlstm.nn.encoder_decoder import limited_sigmoid, pad_to_multiple

DOUBLE: dict[str, Any] = dict(dtype=jnp.float64, param_dtype=jnp.float64)
Tree = Any


def normal(seed: int, *shape: int) -> jax.Array:
    values = np.random.default_rng(seed).normal(size=shape)
    return jnp.asarray(values, jax.dtypes.canonicalize_dtype(np.float64))


def random_variables(module: nn.Module, *arguments: Any, method: str = "__call__") -> Tree:
    """Every weight random: peepholes and biases, which start constant, too."""
    init = partial(module.init, method=method)
    shapes = jax.eval_shape(init, jax.random.key(0), *arguments)
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


@pytest.mark.parametrize("pixels_in_loop", [0, 1000])
@pytest.mark.parametrize("peephole", [None, "spatial"])
def test_scan_loop_rnn_and_remat_agree_with_gradients(
    peephole: str | None, pixels_in_loop: int, float64: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The inputs' convolution before the loop, or in it.
    monkeypatch.setattr(conv_lstm, "PIXELS_IN_LOOP", pixels_in_loop)
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


OPTIONS: list[dict[str, Any]] = [
    dict(),
    dict(channels=3),  # a convolution for the frame and one for the state, not one for both
    dict(kernel_size=(5, 5)),
    dict(kernel_size=(2, 3)),
    dict(kernel_size=(1, 1)),
    dict(peephole="channel"),
    dict(peephole="spatial"),
    dict(activation="relu"),
    dict(activation=nn.leaky_relu, gate_activation=nn.hard_sigmoid),
    dict(use_bias=False),
    dict(dropout=0.25, recurrent_dropout=0.25),
    dict(remat=True),
]


@pytest.mark.parametrize("options", OPTIONS, ids=",".join)
@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 1e-5), (np.float64, 1e-10)])
def test_fewer_products_give_what_the_librarys_convolutions_give(
    dtype: Any,
    tolerance: float,
    options: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with jax.enable_x64(dtype is np.float64):
        options = {"channels": 8, "dtype": dtype, "param_dtype": dtype, **options}
        inputs = normal(0, 2, 3, 6, 8, options.pop("channels"))
        layer = ConvLSTM(16, **options)
        # About as large as weights begin, so that gates are not all open or shut.
        variables = jax.tree.map(lambda leaf: 0.3 * leaf, random_variables(layer, inputs))
        rngs = {"dropout": jax.random.key(7)}

        def results() -> Any:
            run = partial(layer.apply, train=True, rngs=rngs)
            gradients = loss_and_gradients(run, variables, inputs)[1]
            return jax.device_get((jax.jit(run)(variables, inputs), gradients))

        monkeypatch.setattr(winograd, "_KERNEL_WORK", 0)
        monkeypatch.setattr(conv_lstm, "PIXELS_IN_LOOP", 0)
        actual = results()
        for name in "convolve", "inputs_gradient", "kernel_gradient":
            monkeypatch.setattr(winograd, name, LIBRARY[name])
        for ours, theirs in zip(jax.tree.leaves(actual), jax.tree.leaves(results())):
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerance * np.abs(theirs).max())


LIBRARY: dict[str, Callable[..., jax.Array]] = {
    "convolve": conv._library_convolve,
    "inputs_gradient": lambda y, w, padding, frame: conv._library_inputs_gradient(
        y, w, padding=padding
    ),
    "kernel_gradient": lambda x, y, size, padding: conv._library_kernel_gradient(
        x, y, padding=padding
    ),
}


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
def test_a_cpu_gets_products_in_place_of_convolutions(remat: bool) -> None:
    # Some 40 times slower otherwise: the form of the program is tested, not its time.
    assert gradient_convolutions(ConvLSTM(3, remat=remat)) == []


def test_flaxs_own_cell_would_fail_that_test(foreign_code: None) -> None:
    # Proof that the test above can fail.
    assert gradient_convolutions(nn.RNN(nn.ConvLSTMCell(3, (3, 3))))


@pytest.mark.parametrize("remat", [False, True])
def test_unrolling_without_input_is_stepping_without_input(remat: bool, float64: None) -> None:
    layer = ConvLSTM(3, (3, 2), "channel", reads_input=False, remat=remat, **DOUBLE)
    state = normal(0, 2, 4, 5, 3), normal(1, 2, 4, 5, 3)
    variables = random_variables(layer, state, None, method="step")

    def unrolled(variables: Tree, state: Any) -> jax.Array:
        (c, h), outputs = layer.apply(variables, state, 3, method="unroll")
        return jnp.concatenate([outputs, jnp.stack([c, h], axis=1)], axis=1)

    def stepped(variables: Tree, state: Any) -> jax.Array:
        outputs = []
        for _ in range(3):
            state, hidden = layer.apply(variables, state, None, method="step")
            outputs.append(hidden)
        return jnp.stack([*outputs, *state], axis=1)

    expected = loss_and_gradients(stepped, variables, state)
    assert_trees_close(loss_and_gradients(unrolled, variables, state), expected, 1e-10)


def test_a_layer_without_input_has_one_parameter_tree() -> None:
    layer = ConvLSTM(2, reads_input=False)
    state = (jnp.zeros((1, 4, 4, 2)),) * 2
    options = (
        dict(method="step", frame=None),
        dict(method="unroll", steps=1),
        dict(method="unroll", steps=3),
    )
    trees = [
        jax.eval_shape(partial(layer.init, **option), jax.random.key(0), state)
        for option in options
    ]
    assert trees[0] == trees[1] == trees[2]
    assert set(trees[0]["params"]["cell"]) == {"hidden"}


def test_input_is_refused_where_none_is_read_and_missed_where_one_is() -> None:
    state = (jnp.zeros((1, 4, 4, 2)),) * 2
    with pytest.raises(ConfigError, match="inputs: expected none"):
        ConvLSTM(2, reads_input=False).init(jax.random.key(0), jnp.zeros((1, 2, 4, 4, 1)))
    with pytest.raises(ConfigError, match="inputs: expected an array"):
        ConvLSTM(2).init(jax.random.key(0), state, 3, method="unroll")
    with pytest.raises(ConfigError, match="steps: expected a value above 0, got 0"):
        ConvLSTM(2, reads_input=False).init(jax.random.key(0), state, 0, method="unroll")


RATE = 0.25


def pixelwise(**options: Any) -> ConvLSTM:
    """A layer in which no pixel sees another, so that what is dropped shows where it is."""
    return ConvLSTM(1, (1, 1), **options)


def trained(layer: ConvLSTM, variables: Tree, *arguments: Any, **options: Any) -> Any:
    rngs = {"dropout": jax.random.key(7)}
    return jax.jit(partial(layer.apply, train=True, rngs=rngs, **options))(variables, *arguments)


def assert_same_mask_always(kept: np.ndarray) -> None:
    """`kept` is bool `[time, ...]`: the same at all times, and of the share that it should be."""
    np.testing.assert_array_equal(kept, np.broadcast_to(kept[:1], kept.shape))
    deviation = (RATE * (1 - RATE) / kept[0].size) ** 0.5
    assert abs(kept[0].mean() - (1 - RATE)) < 4 * deviation


def test_dropped_inputs_are_zero_all_the_time_and_the_others_are_scaled() -> None:
    layer = pixelwise(dropout=RATE)
    inputs = jnp.ones((4, 3, 20, 20, 1))
    variables = random_variables(layer, inputs)
    without, scaled = (
        np.asarray(layer.apply(variables, value * inputs)) for value in (0, 1 / (1 - RATE))
    )
    outputs = np.asarray(trained(layer, variables, inputs))
    kept = np.isclose(outputs, scaled, atol=1e-6)
    np.testing.assert_allclose(outputs, np.where(kept, scaled, without), atol=1e-6)
    assert np.abs(scaled - without).min() > 1e-3  # or every pixel would count as kept
    assert_same_mask_always(kept.swapaxes(0, 1))


@pytest.mark.parametrize("remat", [False, True])
def test_dropped_hidden_states_are_zero_only_to_their_convolution(remat: bool) -> None:
    layer = pixelwise(recurrent_dropout=RATE, reads_input=False, remat=remat)
    state = jnp.full((4, 20, 20, 1), 0.5), jnp.full((4, 20, 20, 1), 0.8)
    variables = random_variables(layer, state, None, method="step")
    cell = ConvLSTMCell(1, (1, 1), reads_input=False)
    update = partial(cell.apply, {"params": variables["params"]["cell"]})
    (_, last), outputs = trained(layer, variables, state, steps=3, method="unroll")

    kept, before = [], state
    for time in range(3):
        after = [update(before, None, jnp.full_like(state[1], m)) for m in (0, 1 / (1 - RATE))]
        (without_c, without_h), (scaled_c, scaled_h) = (carry for carry, _ in after)
        assert jnp.abs(scaled_h - without_h).min() > 1e-4
        stays = jnp.isclose(outputs[:, time], scaled_h, atol=1e-6)
        before = jnp.where(stays, scaled_c, without_c), jnp.where(stays, scaled_h, without_h)
        np.testing.assert_allclose(outputs[:, time], before[1], atol=1e-5)
        kept.append(np.asarray(stays))
    assert_same_mask_always(np.stack(kept))
    np.testing.assert_array_equal(last, outputs[:, -1])


def test_frames_fed_back_in_a_scan_have_one_mask() -> None:
    class Loop(nn.Module):
        def setup(self) -> None:
            self.layer = pixelwise(dropout=RATE, recurrent_dropout=RATE, name="layer")

        def __call__(self, state: Any, frame: jax.Array) -> jax.Array:
            def body(model: "Loop", state: Any, _: None) -> Any:
                return state, model.layer.step(state, frame, train=True)[1]

            rngs = {"params": False, "dropout": False}
            scan = nn.scan(body, variable_broadcast="params", split_rngs=rngs, length=3)
            outputs: jax.Array = scan(self, state, None)[1]
            return outputs

    shape = (2, 8, 8, 1)
    rngs = {"params": jax.random.key(0), "dropout": jax.random.key(1)}
    outputs, _ = Loop().init_with_output(rngs, (jnp.ones(shape),) * 2, jnp.ones(shape))
    np.testing.assert_array_equal(outputs, np.broadcast_to(outputs[:1], outputs.shape))
    assert len(np.unique(outputs)) == 4  # the frame or the hidden state dropped, both, or neither


def test_there_is_dropout_only_in_training_and_only_then_a_prng() -> None:
    inputs = normal(0, 2, 3, 4, 4, 2)
    plain, dropping = ConvLSTM(3), ConvLSTM(3, dropout=RATE, recurrent_dropout=RATE)
    variables = random_variables(plain, inputs)
    expected = plain.apply(variables, inputs)
    np.testing.assert_array_equal(dropping.apply(variables, inputs), expected)
    np.testing.assert_array_equal(plain.apply(variables, inputs, train=True), expected)
    for rate in dict(dropout=RATE), dict(recurrent_dropout=RATE):
        assert jnp.abs(trained(ConvLSTM(3, **rate), variables, inputs) - expected).max() > 0.01


@pytest.mark.parametrize("name", ["dropout", "recurrent_dropout"])
@pytest.mark.parametrize("rate", [-0.1, 1.0])
def test_a_rate_that_is_no_share_is_refused(name: str, rate: float) -> None:
    with pytest.raises(ConfigError, match=f"^{name}: expected a share from 0 to below 1, got"):
        ConvLSTM(3, **{name: rate}).init(jax.random.key(0), jnp.zeros((1, 2, 4, 4, 1)))


@pytest.mark.parametrize("multiple", [1, 3])
def test_sides_are_padded_with_the_edge_below_and_right(multiple: int) -> None:
    frames = normal(0, 2, 4, 5, 1)
    expected = np.pad(frames, ((0, 0), (0, -4 % multiple), (0, -5 % multiple), (0, 0)), mode="edge")
    np.testing.assert_array_equal(pad_to_multiple(frames, multiple), expected)


def test_limited_sigmoid_is_the_sigmoid_and_never_stops_learning() -> None:
    logits = jnp.array([-1e4, -20.0, -3.0, 0.0, 14.0, 20.0, 1e4])
    values, slopes = jax.vmap(jax.value_and_grad(limited_sigmoid))(logits)
    np.testing.assert_allclose(values, reference.sigmoid(np.clip(logits, -15, 15)), rtol=1e-4)
    assert bool(((values > 0) & (values < 1) & (slopes > 0)).all())
