"""The sequence-to-one LSTM is the original network, map by map and weight by weight."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
from flax import linen as nn
from numerics import Tree, assert_trees_close, cosines, normal, random_variables, with_gradients

from jaxconvlstm import ConvLSTM, Seq2OneLSTM
from jaxconvlstm.errors import ConfigError

FRAME = (128, 128, 3)


def small(**options: Any) -> Seq2OneLSTM:
    """Of the frames' size, which is fixed, with few features."""
    narrow = dict(encoder_features=(2, 2, 3, 3, 4, 4, 5), decoder_features=(4, 4, 3, 3, 2, 2))
    return Seq2OneLSTM(**(dict(channels=3) | narrow | options))


def clips(seed: int, batch: int, time: int) -> jax.Array:
    values = np.random.default_rng(seed).uniform(size=(batch, time, *FRAME))
    return jnp.asarray(values, jax.dtypes.canonicalize_dtype(np.float64))


def size(tree: Tree) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def test_it_has_the_parameters_of_the_original() -> None:
    model = Seq2OneLSTM(channels=3)
    variables = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 2, *FRAME)))
    second_bias = 4 * 1024  # PyTorch's LSTM adds two vectors where one does
    assert size(variables["params"]) + second_bias == 37_059_187


def test_its_maps_are_those_of_the_original() -> None:
    model = Seq2OneLSTM(channels=3)

    run = partial(model.init_with_output, capture_intermediates=True)
    _, variables = jax.eval_shape(run, jax.random.key(0), jnp.zeros((2, 3, *FRAME)))
    maps = variables["intermediates"]

    def shape(name: str) -> tuple[int, ...]:
        return maps[name]["__call__"][0].shape

    down = [64, 32, 16, 8, 4, 2, 1], [32, 64, 128, 256, 512, 512, 1024]
    for index, (side, features) in enumerate(zip(*down, strict=True)):
        assert shape(f"down_{index}") == (2 * 3, side, side, features)
    assert shape("encoded") == (2 * 3, 1, 1, 1024)
    assert shape("decoded") == (2, 1, 1, 1024)
    up = [4, 10, 13, 28, 31, 64, 128], [512, 256, 128, 64, 32, 16, 3]
    for index, (side, features) in enumerate(zip(*up, strict=True)):
        assert shape(f"up_{index}") == (2, side, side, features)


def numpy_predict(variables: Tree, clips: np.ndarray) -> np.ndarray:
    """One frame from `[batch, time, 128, 128, 3]`, frame by frame."""
    params, statistics = variables["params"], variables["batch_stats"]

    def dense(name: str, vectors: np.ndarray) -> np.ndarray:
        return vectors @ params[name]["kernel"] + params[name]["bias"]

    def norm(name: str, maps: np.ndarray) -> np.ndarray:
        centred = maps - statistics[name]["mean"]
        scaled = centred / np.sqrt(statistics[name]["var"] + 1e-5)
        return scaled * params[name]["scale"] + params[name]["bias"]

    c = h = np.zeros((len(clips), 5))
    for time in range(clips.shape[1]):
        maps = clips[:, time]
        for index in range(7):
            layer = params[f"down_{index}"]
            maps = reference.convolve_strided(maps, layer["kernel"], 2) + layer["bias"]
            maps = norm(f"down_norm_{index}", maps)
            maps = np.where(maps > 0, maps, 0.2 * maps)
        cell = params["lstm"]["cell"]
        gates = dense("encoded", maps[:, 0, 0]) @ cell["input"]["kernel"][0, 0]
        gates = gates + h @ cell["hidden"]["kernel"][0, 0] + cell["input"]["bias"]
        i, f, g, o = np.split(gates, 4, axis=-1)
        c = reference.sigmoid(f) * c + reference.sigmoid(i) * np.tanh(g)
        h = reference.sigmoid(o) * np.tanh(c)
    maps = np.maximum(dense("decoded", h), 0)[:, None, None]
    for index, stride in enumerate((1, 2, 1, 2, 1, 2, 2)):
        layer = params[f"up_{index}"]
        side, features = maps.shape[1], layer["kernel"].shape[-1]
        full = np.zeros((len(maps), *[(side - 1) * stride + 4] * 2, features))
        for row in range(4):
            for column in range(4):
                rows = slice(row, row + side * stride, stride)
                columns = slice(column, column + side * stride, stride)
                full[:, rows, columns] += maps @ layer["kernel"][row, column]
        maps = full + layer["bias"]
        if index < 6:
            maps = np.maximum(norm(f"up_norm_{index}", maps), 0)
    # The last one has a padding of 1; the sigmoid's logits are limited.
    return reference.sigmoid(maps[:, 1:-1, 1:-1].clip(-15, 15))


def test_the_model_is_its_numpy_loop(float64: None) -> None:
    model = small(dtype=jnp.float64)
    inputs = clips(0, 2, 2)
    variables = random_variables(model, inputs, scale=0.5)
    expected = numpy_predict(jax.tree.map(np.asarray, variables), np.asarray(inputs))
    assert expected.shape == (2, *FRAME)
    assert np.ptp(expected) > 0.1
    actual = jax.jit(model.apply)(variables, inputs)[:, 0]
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-10)


def test_a_conv_lstm_on_one_pixel_is_flaxs_lstm(foreign_code: None) -> None:
    ours, theirs = ConvLSTM(4, (1, 1), forget_bias=0.0), nn.RNN(nn.OptimizedLSTMCell(4))
    vectors = normal(0, 2, 5, 3)
    variables = random_variables(ours, vectors[:, :, None, None], scale=0.5)

    def run_theirs(variables: Tree, vectors: jax.Array) -> jax.Array:
        cell = variables["params"]["cell"]
        split = partial(jnp.split, indices_or_sections=4, axis=-1)
        inputs, hidden, biases = (
            split(cell["input"]["kernel"][0, 0]),
            split(cell["hidden"]["kernel"][0, 0]),
            split(cell["input"]["bias"]),
        )
        params = {f"i{gate}": {"kernel": kernel} for gate, kernel in zip("ifgo", inputs)}
        params |= {
            f"h{gate}": {"kernel": kernel, "bias": bias}
            for gate, kernel, bias in zip("ifgo", hidden, biases)
        }
        return theirs.apply({"params": {"cell": params}}, vectors)

    def run_ours(variables: Tree, vectors: jax.Array) -> jax.Array:
        return ours.apply(variables, vectors[:, :, None, None])[:, :, 0, 0]

    actual, expected = (
        with_gradients(run)(cosines(2, 5, 4), variables, vectors) for run in (run_ours, run_theirs)
    )
    assert_trees_close(actual, expected, 1e-5)


def test_the_forget_gate_starts_as_pytorchs() -> None:
    model = small()
    frames = jnp.zeros((1, 1, *FRAME))
    lstm = jax.jit(lambda x: model.init(jax.random.key(0), x)["params"]["lstm"])(frames)
    assert not jnp.any(lstm["cell"]["input"]["bias"])


def test_training_normalises_with_the_batch_and_keeps_its_statistics() -> None:
    model = small()
    inputs = clips(0, 2, 2)
    variables = random_variables(model, inputs, scale=0.5)
    train = jax.jit(partial(model.apply, steps=2, train=True, mutable=["batch_stats"]))
    frames, after = train(variables, inputs)
    # The first convolution's statistics are known: of the frames given, then of the one fed back.
    layer = jax.tree.map(np.asarray, variables["params"]["down_0"])
    expected = variables["batch_stats"]["down_norm_0"]
    for read in inputs.reshape((-1, *FRAME)), frames[:, 0]:
        maps = reference.convolve_strided(np.asarray(read), layer["kernel"], 2) + layer["bias"]
        seen = {"mean": maps.mean((0, 1, 2)), "var": maps.var((0, 1, 2))}
        expected = {name: 0.9 * expected[name] + 0.1 * seen[name] for name in seen}
    norm = after["batch_stats"]["down_norm_0"]
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-4), norm, expected)


@pytest.mark.parametrize("shape", [(64, 128, 3), (128, 64, 3), (256, 256, 3)], ids=str)
def test_frames_of_another_size_are_refused(shape: tuple[int, ...], as_user: None) -> None:
    with pytest.raises(ConfigError, match=f"got {shape[0]}x{shape[1]}; add --size 128 128"):
        jax.eval_shape(small().init, jax.random.key(0), jnp.zeros((1, 2, *shape)))
