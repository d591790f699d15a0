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
from numerics import (
    Tree,
    assert_trees_close,
    convolutions,
    cosines,
    normal,
    program,
    random_variables,
    with_gradients,
)

from jaxconvlstm import ConvLSTM, ConvLSTMCell
from jaxconvlstm.errors import ConfigError
from jaxconvlstm.nn import conv_lstm, convolution, winograd

DOUBLE: dict[str, Any] = dict(dtype=jnp.float64, param_dtype=jnp.float64)
RATE = 0.25


def step_by_step(layer: ConvLSTM, variables: Tree, inputs: jax.Array) -> jax.Array:
    frames = inputs.swapaxes(0, 1)
    carry = layer.apply(variables, frames[0].shape, method="initialize_carry")
    outputs = []
    for frame in frames:
        carry, hidden = layer.apply(variables, carry, frame, method="step")
        outputs.append(hidden)
    return jnp.stack(outputs, axis=1)


def in_two_parts(layer: ConvLSTM, variables: Tree, inputs: jax.Array) -> jax.Array:
    carry, first = layer.apply(variables, inputs[:, :1], return_carry=True)
    carry, rest = layer.apply(variables, inputs[:, 1:], carry, return_carry=True)
    last = jnp.stack(carry, axis=1)
    return jnp.concatenate([first, rest[:, :-1], last[:, 1:] + 0 * last[:, :1]], axis=1)


def test_scan_loop_rnn_and_remat_agree_with_gradients_and_see_no_later_frame(
    float64: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    options: dict[str, Any] = dict(kernel_size=(3, 2), peephole="spatial", **DOUBLE)
    layer, inputs = ConvLSTM(3, **options), normal(0, 2, 3, 4, 5, 2)
    variables = random_variables(layer, inputs, scale=0.5)
    rnn = nn.RNN(ConvLSTMCell(3, **options))
    step = with_gradients(partial(step_by_step, layer))
    weights = cosines(2, 3, 4, 5, 3)
    expected = step(weights, variables, inputs)
    assert_trees_close(with_gradients(rnn.apply)(weights, variables, inputs), expected, 1e-10)
    for pixels_in_loop in (0, 1000):  # the inputs' convolution before the loop, or in it
        monkeypatch.setattr(conv_lstm, "PIXELS_IN_LOOP", pixels_in_loop)
        ways = [layer.apply, ConvLSTM(3, remat=True, **options).apply]
        if pixels_in_loop:
            ways.append(partial(in_two_parts, layer))
        for run in map(with_gradients, ways):
            assert_trees_close(run(weights, variables, inputs), expected, 1e-10)
        for time in range(3):
            weights_of = np.zeros_like(weights)
            weights_of[:, time] = 1
            _, (_, slopes) = run(weights_of, variables, inputs)
            depends = np.abs(slopes).max((0, 2, 3, 4)) > 0
            np.testing.assert_array_equal(depends, np.arange(3) <= time)


LIBRARY: dict[str, Callable[..., jax.Array]] = {
    "convolve": lambda x, w, padding: convolution._by_library(
        x, w, role="outputs", padding=padding, size=None
    ),
    "inputs_gradient": lambda y, w, padding, frame: convolution._by_library(
        y, w, role="inputs", padding=padding, size=frame
    ),
    "kernel_gradient": lambda x, y, size, padding: convolution._by_library(
        x, y, role="kernel", padding=padding, size=size
    ),
}


@pytest.mark.parametrize(
    ("dtype", "tolerance", "channels", "options"),
    [
        (np.float32, 1e-5, 8, dict(peephole="channel")),
        (np.float64, 1e-10, 8, dict(kernel_size=(5, 5), peephole="spatial", remat=True)),
        # Of 3 channels: a convolution for the frame and one for the state, not one for both.
        (np.float64, 1e-10, 3, dict(kernel_size=(2, 3), activation="relu", use_bias=False)),
        (
            np.float32,
            1e-5,
            8,
            dict(
                kernel_size=(1, 1),
                activation=nn.leaky_relu,
                gate_activation=nn.hard_sigmoid,
                dropout=0.25,
                recurrent_dropout=0.25,
            ),
        ),
    ],
    ids=["f32", "5x5", "3 channels", "dropout"],
)
def test_fewer_products_give_what_the_librarys_convolutions_give(
    dtype: Any,
    tolerance: float,
    channels: int,
    options: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with jax.enable_x64(dtype is np.float64):
        inputs = normal(0, 2, 3, 6, 8, channels)
        layer = ConvLSTM(16, dtype=dtype, param_dtype=dtype, **options)
        # About as large as weights begin, so that gates are not all open or shut.
        variables = random_variables(layer, inputs, scale=0.15)
        run = partial(layer.apply, train=True, rngs={"dropout": jax.random.key(7)})

        def results() -> Any:
            traced_anew = with_gradients(lambda *arguments: run(*arguments))
            given = cosines(2, 3, 6, 8, 16), variables, inputs
            found = convolutions(traced_anew.lower(*given).as_text())
            return len(found), jax.device_get(traced_anew(*given))

        monkeypatch.setattr(winograd, "_KERNEL_WORK", 0)
        monkeypatch.setattr(conv_lstm, "PIXELS_IN_LOOP", 0)
        none, actual = results()
        for name in LIBRARY:
            monkeypatch.setattr(winograd, name, LIBRARY[name])
        some, expected = results()
        assert none == 0 and some > 0
        for ours, theirs in zip(*map(jax.tree.leaves, (actual, expected))):
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerance * np.abs(theirs).max())


def test_one_parameter_tree_for_scan_rnn_and_remat() -> None:
    inputs = jnp.zeros((1, 2, 4, 4, 2))
    modules = [
        ConvLSTM(3, peephole="channel"),
        ConvLSTM(3, peephole="channel", remat=True),
        nn.RNN(ConvLSTMCell(3, peephole="channel")),
    ]
    trees = [jax.eval_shape(module.init, jax.random.key(0), inputs) for module in modules]
    assert trees[0] == trees[1] == trees[2]
    assert set(trees[0]["params"]) == {"cell"}


def test_layer_and_its_last_carry_stay_on_the_numpy_loop_over_many_steps(float64: None) -> None:
    layer = ConvLSTM(2, peephole="channel", **DOUBLE)
    inputs = normal(0, 1, 200, 3, 3, 1)
    variables = random_variables(layer, inputs, scale=0.5)
    carry, outputs = jax.jit(partial(layer.apply, return_carry=True))(variables, inputs)
    expected = reference.conv_lstm(variables["params"]["cell"], inputs)
    assert_trees_close((carry, outputs), expected, 1e-10)
    np.testing.assert_array_equal(carry[1], outputs[:, -1])


def test_extreme_inputs_make_no_nan() -> None:
    layer, shape = ConvLSTM(3, peephole="channel"), (1, 5, 4, 4, 2)
    variables = random_variables(layer, jnp.zeros(shape), scale=0.5)
    run = with_gradients(layer.apply)
    for value in (1e4, -1e4, 0.0):
        inputs = np.full(shape, value, np.float32)
        results = run(cosines(1, 5, 4, 4, 3), variables, inputs)
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(results)), value


def test_bfloat16_layer_runs_in_bfloat16_with_finite_float32_gradients() -> None:
    layer = ConvLSTM(3, peephole="channel", dtype=jnp.bfloat16)
    inputs = normal(0, 2, 3, 4, 4, 2)
    variables = random_variables(layer, inputs, scale=0.5)
    outputs, (gradients, _) = with_gradients(layer.apply)(
        cosines(2, 3, 4, 4, 3).astype(jnp.bfloat16), variables, inputs
    )
    assert outputs.dtype == jnp.bfloat16
    for leaf in jax.tree.leaves(gradients):
        assert leaf.dtype == jnp.float32 and np.isfinite(leaf).all()


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
    return convolutions(program(jax.grad(lambda v: module.apply(v, inputs).sum()), variables))


@pytest.mark.parametrize("remat", [False, True])
def test_a_cpu_gets_products_in_place_of_convolutions(remat: bool) -> None:
    # Some 40 times slower otherwise: the form of the program is tested, not its time.
    assert gradient_convolutions(ConvLSTM(3, remat=remat)) == []


def test_flaxs_own_cell_would_fail_that_test(foreign_code: None) -> None:
    # Proof that the test above can fail.
    assert gradient_convolutions(nn.RNN(nn.ConvLSTMCell(3, (3, 3))))


def test_unrolling_without_input_is_stepping_without_input_with_gradients(float64: None) -> None:
    layer = ConvLSTM(3, (3, 2), "channel", reads_input=False, **DOUBLE)
    state = normal(0, 2, 4, 5, 3), normal(1, 2, 4, 5, 3)
    variables = random_variables(layer, state, None, method="step", scale=0.5)

    def unrolled(layer: ConvLSTM, variables: Tree, state: Any) -> jax.Array:
        (c, h), outputs = layer.apply(variables, state, 3, method="unroll")
        return jnp.concatenate([outputs, jnp.stack([c, h], axis=1)], axis=1)

    def stepped(variables: Tree, state: Any) -> jax.Array:
        outputs = []
        for _ in range(3):
            state, hidden = layer.apply(variables, state, None, method="step")
            outputs.append(hidden)
        return jnp.stack([*outputs, *state], axis=1)

    weights = cosines(2, 5, 4, 5, 3)
    expected = with_gradients(stepped)(weights, variables, state)
    for remat in (False, True):
        run = partial(unrolled, layer.clone(remat=remat))
        assert_trees_close(with_gradients(run)(weights, variables, state), expected, 1e-10)


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


def test_inputs_steps_and_rates_that_do_not_fit_are_refused(as_user: None) -> None:
    clip, state = jnp.zeros((1, 2, 4, 4, 1)), (jnp.zeros((1, 4, 4, 2)),) * 2
    blind: dict[str, Any] = dict(reads_input=False)
    unroll: dict[str, Any] = dict(method="unroll")
    refused: list[tuple[dict[str, Any], tuple[Any, ...], dict[str, Any], str]] = [
        ({}, (clip[0],), {}, r"inputs: expected 5 axes .* got shape \(2, 4, 4, 1\)"),
        (blind, (clip,), {}, "inputs: expected none"),
        ({}, (state, 3), unroll, "inputs: expected an array"),
        (blind, (state, 0), unroll, "steps: expected a value above 0, got 0"),
    ]
    for name in "dropout", "recurrent_dropout":
        for rate in (-0.1, 1.0):
            message = f"^{name}: expected a .* from 0 to below 1, got"
            refused.append(({name: rate}, (clip,), {}, message))
    for options, arguments, how, message in refused:
        with pytest.raises(ConfigError, match=message):
            ConvLSTM(2, **options).init(jax.random.key(0), *arguments, **how)


def pixelwise(**options: Any) -> ConvLSTM:
    """A layer in which no pixel sees another, so that what is dropped shows where it is."""
    return ConvLSTM(1, (1, 1), **options)


def trained(layer: ConvLSTM, variables: Tree, *arguments: Any, **options: Any) -> Any:
    rngs = {"dropout": jax.random.key(7)}
    return jax.jit(partial(layer.apply, train=True, rngs=rngs, **options))(variables, *arguments)


def assert_same_mask_always(kept: np.ndarray) -> None:
    """`kept` is bool `[time, ...]`: the same at all times, and the fraction that it should be."""
    np.testing.assert_array_equal(kept, np.broadcast_to(kept[:1], kept.shape))
    deviation = (RATE * (1 - RATE) / kept[0].size) ** 0.5
    assert abs(kept[0].mean() - (1 - RATE)) < 4 * deviation


def test_dropped_inputs_are_zero_all_the_time_and_the_others_are_scaled() -> None:
    layer, inputs = pixelwise(dropout=RATE), np.ones((4, 3, 20, 20, 1), np.float32)
    variables = random_variables(layer, inputs, scale=0.5)
    outputs = np.asarray(trained(layer, variables, inputs))
    predict = jax.jit(layer.apply)
    without, scaled = (
        np.asarray(predict(variables, value * inputs)) for value in (0, 1 / (1 - RATE))
    )
    kept = np.isclose(outputs, scaled, atol=1e-6)
    np.testing.assert_allclose(outputs, np.where(kept, scaled, without), atol=1e-6)
    assert np.abs(scaled - without).min() > 1e-3  # or every pixel would count as kept
    assert_same_mask_always(kept.swapaxes(0, 1))


@pytest.mark.parametrize("remat", [False, True])
def test_dropped_hidden_states_are_zero_only_to_their_convolution(remat: bool) -> None:
    layer = pixelwise(recurrent_dropout=RATE, reads_input=False, remat=remat)
    shape = (4, 20, 20, 1)
    state = np.full(shape, 0.5, np.float32), np.full(shape, 0.8, np.float32)
    variables = random_variables(layer, state, None, method="step", scale=0.5)
    cell = ConvLSTMCell(1, (1, 1), reads_input=False)
    update = jax.jit(partial(cell.apply, {"params": variables["params"]["cell"]}))
    (_, last), outputs = jax.device_get(trained(layer, variables, state, steps=3, method="unroll"))

    kept, before = [], state
    for time in range(3):
        masks = (np.full(shape, m, np.float32) for m in (0, 1 / (1 - RATE)))
        after = jax.device_get([update(before, None, mask) for mask in masks])
        (without_c, without_h), (scaled_c, scaled_h) = (carry for carry, _ in after)
        assert np.abs(scaled_h - without_h).min() > 1e-4
        stays = np.isclose(outputs[:, time], scaled_h, atol=1e-6)
        before = np.where(stays, scaled_c, without_c), np.where(stays, scaled_h, without_h)
        np.testing.assert_allclose(outputs[:, time], before[1], atol=1e-5)
        kept.append(stays)
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
    outputs, _ = jax.jit(Loop().init_with_output)(rngs, (jnp.ones(shape),) * 2, jnp.ones(shape))
    np.testing.assert_array_equal(outputs, np.broadcast_to(outputs[:1], outputs.shape))
    assert len(np.unique(outputs)) == 4  # the frame or the hidden state dropped, both, or neither


def test_there_is_dropout_only_in_training_and_only_then_a_prng() -> None:
    """Programs are compared, not numbers."""
    inputs = normal(0, 2, 3, 4, 4, 2)
    plain, dropping = ConvLSTM(3), ConvLSTM(3, dropout=RATE, recurrent_dropout=RATE)
    variables = random_variables(plain, inputs)
    expected = program(plain.apply, variables, inputs)
    assert program(dropping.apply, variables, inputs) == expected
    assert program(partial(plain.apply, train=True), variables, inputs) == expected
    train = partial(dropping.apply, train=True, rngs={"dropout": jax.random.key(0)})
    assert program(train, variables, inputs) != expected
