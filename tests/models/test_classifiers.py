"""The classifiers tell one class from many frames, and the small one is Keras's."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import reference
from numerics import (
    Tree,
    assert_trees_close,
    cosines,
    normal,
    random_variables,
    with_gradients,
)

from jaxconvlstm import CNNLSTMClassifier, ConvLSTMClassifier


def small(**options: Any) -> ConvLSTMClassifier:
    return ConvLSTMClassifier(**(dict(classes=4, features=(3,), downsample=2) | options))


@pytest.fixture
def keras_model(foreign_code: None) -> Any:
    """What the network was published as, for 6 frames of 9x7; without its softmax."""
    keras = pytest.importorskip("keras")
    if keras.backend.backend() != "jax":
        pytest.skip("keras is not on its JAX backend")
    layers = keras.layers
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [
            layers.Input((6, 9, 7, 1)),
            layers.TimeDistributed(layers.Conv2D(2, (2, 2), activation="relu")),
            layers.TimeDistributed(layers.MaxPooling2D((2, 2))),
            layers.TimeDistributed(layers.Flatten()),
            layers.LSTM(50),
            layers.Dense(4),
        ]
    )


def test_cnn_lstm_is_kerass_with_its_weights_as_they_are(keras_model: Any) -> None:
    model = CNNLSTMClassifier(classes=4)
    inputs = normal(0, 3, 6, 9, 7, 1)
    variables = random_variables(model, inputs, scale=0.5)

    def run_keras(variables: Tree, inputs: jax.Array) -> jax.Array:
        params = variables["params"]
        cell = params["lstm"]["cell"]
        kernels = cell["input"]["kernel"][0, 0], cell["hidden"]["kernel"][0, 0]
        weights = [
            *(params["conv"][name] for name in ("kernel", "bias")),
            *(*kernels, cell["input"]["bias"]),
            *(params["head"][name] for name in ("kernel", "bias")),
        ]
        rest = [variable.value for variable in keras_model.non_trainable_variables]
        return keras_model.stateless_call(weights, rest, inputs)[0]

    actual, expected = (
        with_gradients(run)(cosines(3, 4), variables, inputs) for run in (model.apply, run_keras)
    )
    assert_trees_close(actual, expected, 1e-5)


def test_cnn_lstm_starts_as_kerass(keras_model: Any) -> None:
    model = CNNLSTMClassifier(classes=4)
    params = jax.jit(model.init)(jax.random.key(0), jnp.zeros((1, 6, 9, 7, 1)))["params"]
    cell = params["lstm"]["cell"]
    theirs = [np.asarray(variable.value) for variable in keras_model.trainable_variables]
    np.testing.assert_array_equal(cell["input"]["bias"], theirs[4])
    # Kernels are drawn: from the same distribution if their largest and typical values agree.
    drawn = cell["input"]["kernel"], cell["hidden"]["kernel"], params["head"]["kernel"]
    for ours, their in zip(drawn, (theirs[2], theirs[3], theirs[5])):
        assert ours.size == their.size >= 200
        np.testing.assert_allclose(jnp.abs(ours).max(), np.abs(their).max(), rtol=0.2)
        np.testing.assert_allclose(jnp.std(ours), np.std(their), rtol=0.1)
    glorot = np.sqrt(6 / (2 * 2 * 1 + 2 * 2 * 2))  # of as few values, only the bound can be known
    assert 0 < jnp.abs(params["conv"]["kernel"]).max() <= glorot


def test_conv_lstm_classifier_is_its_numpy_loop(float64: None) -> None:
    model = small(features=(3, 2), peephole="channel", dtype=jnp.float64)
    inputs = normal(0, 2, 3, 6, 8, 1)
    variables = random_variables(model, inputs, scale=0.5)
    params = jax.tree.map(np.asarray, variables["params"])
    stage, clips = params["encoder"]["stage_0"], np.asarray(inputs)
    frames = [reference.convolve_strided(clips[:, t], stage["kernel"], 2) for t in range(3)]
    maps = np.stack(frames, axis=1) + stage["bias"]
    maps = np.where(maps > 0, maps, 0.2 * maps)
    for index in range(2):
        (_, state), maps = reference.conv_lstm(params[f"layer_{index}"]["cell"], maps)
    pooled = np.concatenate([state.mean((1, 2)), state.max((1, 2))], axis=-1)
    expected = pooled @ params["head"]["kernel"] + params["head"]["bias"]
    actual = jax.jit(model.apply)(variables, inputs)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-10)


def test_one_kernel_size_serves_every_layer() -> None:
    model = small(features=(3, 2), kernel_size=(5,))
    params = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((2, 3, 8, 8, 1)))["params"]
    for index in range(2):
        assert params[f"layer_{index}"]["cell"]["hidden"]["kernel"].shape[:2] == (5, 5)


def growing_lines(seed: int, clips: int, side: int) -> tuple[jax.Array, jax.Array]:
    """Straight lines that grow a pixel a frame, and which of four directions in."""
    generator = np.random.default_rng(seed)
    classes = generator.integers(0, 4, clips)
    places = generator.integers(0, side, clips)
    frames = np.zeros((clips, side, side, side, 1), np.float32)
    for clip, place, direction in zip(frames, places, classes):
        for time in range(side):
            clip[time:, place, time] = 1  # left to right
        clip[:] = np.rot90(clip, direction, axes=(1, 2))
    return jnp.asarray(frames), jnp.asarray(classes)


@pytest.mark.slow
def test_it_learns_where_a_line_grows_to(foreign_code: None) -> None:
    model = small(features=(8,), downsample=2)
    frames, classes = growing_lines(0, 64, 8)
    optimizer = optax.adam(1e-2)

    def loss(variables: Tree, frames: jax.Array, classes: jax.Array) -> jax.Array:
        logits = model.apply(variables, frames, True)
        return optax.softmax_cross_entropy_with_integer_labels(logits, classes).mean()

    @jax.jit
    def learn_and_guess(unseen: jax.Array) -> jax.Array:
        def update(carry: Tree, _: None) -> tuple[Tree, None]:
            variables, state = carry
            gradients = jax.grad(loss)(variables, frames, classes)
            updates, state = optimizer.update(gradients, state)
            return (optax.apply_updates(variables, updates), state), None

        variables = model.init(jax.random.key(0), frames)
        state = variables, optimizer.init(variables)
        (variables, _), _ = jax.lax.scan(update, state, length=120)
        return model.apply(variables, unseen).argmax(-1)

    unseen, truth = growing_lines(1, 64, 8)
    assert (learn_and_guess(unseen) == truth).mean() >= 0.95  # by chance 0.25
