"""The classifiers tell one class from many frames, and the small one is Keras's."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import reference
from flax import linen as nn
from programs import convolutions

from jaxconvlstm.errors import ConfigError
from jaxconvlstm.models.cnn_lstm import CNNLSTMClassifier
from jaxconvlstm.models.convlstm_classifier import ConvLSTMClassifier

Tree = Any
CLIPS = jnp.zeros((2, 3, 8, 8, 1))


def normal(seed: int, *shape: int) -> jax.Array:
    values = np.random.default_rng(seed).normal(size=shape)
    return jnp.asarray(values, jax.dtypes.canonicalize_dtype(np.float64))


def small(**options: Any) -> ConvLSTMClassifier:
    return ConvLSTMClassifier(**(dict(classes=4, features=(3,), downsample=2) | options))


def random_variables(model: nn.Module, inputs: jax.Array) -> Tree:
    """Every weight random, so that no path through the model is closed."""
    shapes = jax.eval_shape(model.init, jax.random.key(0), inputs)
    leaves, structure = jax.tree.flatten(shapes)
    return structure.unflatten(
        [0.5 * normal(seed, *leaf.shape) for seed, leaf in enumerate(leaves)]
    )


def loss_and_gradients(run: Any, *arguments: Any) -> Any:
    """A loss that depends on every logit, and its gradients in the weights and the clips."""

    def loss(*arguments: Any) -> Any:
        logits = run(*arguments)
        return jnp.sum(logits * jnp.cos(jnp.arange(logits.size)).reshape(logits.shape)), logits

    return jax.jit(jax.value_and_grad(loss, (0, 1), has_aux=True))(*arguments)


def assert_trees_close(actual: Tree, expected: Tree, tolerance: float) -> None:
    close = partial(np.testing.assert_allclose, rtol=tolerance, atol=tolerance)
    jax.tree.map(close, actual, expected)


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
    variables = random_variables(model, inputs)

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

    actual = loss_and_gradients(model.apply, variables, inputs)
    assert_trees_close(actual, loss_and_gradients(run_keras, variables, inputs), 1e-5)


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


@pytest.mark.parametrize("downsample", [1, 2])
def test_conv_lstm_classifier_is_its_numpy_loop(downsample: int, float64: None) -> None:
    model = small(features=(3, 2), downsample=downsample, peephole="channel", dtype=jnp.float64)
    inputs = normal(0, 2, 3, 6, 8, 1)
    variables = random_variables(model, inputs)
    params = jax.tree.map(np.asarray, variables["params"])
    maps = np.asarray(inputs)
    if downsample == 2:
        stage = params["encoder"]["stage_0"]
        frames = [reference.convolve_strided(maps[:, t], stage["kernel"], 2) for t in range(3)]
        maps = np.stack(frames, axis=1) + stage["bias"]
        maps = np.where(maps > 0, maps, 0.2 * maps)
    for index in range(2):
        (_, state), maps = reference.conv_lstm(params[f"layer_{index}"]["cell"], maps)
    pooled = np.concatenate([state.mean((1, 2)), state.max((1, 2))], axis=-1)
    expected = pooled @ params["head"]["kernel"] + params["head"]["bias"]
    actual = jax.jit(model.apply)(variables, inputs)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("size", [(7, 9), (16, 8), (1, 5)], ids=str)
@pytest.mark.parametrize("downsample", [1, 4])
def test_clips_of_any_size_have_a_logit_for_each_class(
    size: tuple[int, int], downsample: int
) -> None:
    model = small(classes=5, downsample=downsample, peephole="channel")
    variables = jax.eval_shape(model.init, jax.random.key(0), CLIPS)
    for time in 1, 4:
        logits = jax.eval_shape(model.apply, variables, jnp.zeros((2, time, *size, 1)))
        assert (logits.shape, logits.dtype) == ((2, 5), jnp.float32)


def test_padding_is_the_edge() -> None:
    model = small(downsample=4)
    inputs = normal(0, 2, 3, 7, 5, 1)
    widths = ((0, 0), (0, 0), (0, 1), (0, 3), (0, 0))
    padded = jnp.asarray(np.pad(np.asarray(inputs), widths, mode="edge"))
    variables = random_variables(model, inputs)
    run = jax.jit(model.apply)
    np.testing.assert_allclose(run(variables, inputs), run(variables, padded), rtol=1e-5)


@pytest.mark.parametrize("model", [CNNLSTMClassifier(classes=4), small()], ids=["cnn", "convlstm"])
def test_the_logits_depend_on_every_frame(model: nn.Module) -> None:
    inputs = jnp.abs(normal(0, 1, 4, 8, 8, 1))
    variables = random_variables(model, inputs)
    slopes = jax.jit(jax.grad(lambda x: model.apply(variables, x).sum()))(inputs)
    assert bool((jnp.abs(slopes).max((0, 2, 3, 4)) > 0).all())


@pytest.mark.parametrize("rates", [dict(dropout=0.5), dict(recurrent_dropout=0.5)], ids=str)
def test_dropout_acts_in_training_alone(rates: dict[str, float]) -> None:
    model = small(**rates)
    inputs = normal(0, 2, 3, 4, 4, 1)
    variables = random_variables(model, inputs)
    train = jax.jit(lambda key: model.apply(variables, inputs, True, rngs={"dropout": key}))
    first, again, other = (train(jax.random.key(seed)) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert jnp.abs(first - other).max() > 1e-3
    plain = jax.jit(partial(small().apply, train=True))(variables, inputs)
    np.testing.assert_array_equal(jax.jit(model.apply)(variables, inputs), plain)


def test_the_layers_options_are_passed_on() -> None:
    inputs = normal(0, 2, 3, 4, 4, 1)
    variables = random_variables(small(), inputs)
    plain = jax.jit(small().apply)(variables, inputs)
    relu = jax.jit(small(activation="relu").apply)(variables, inputs)
    assert jnp.abs(relu - plain).max() > 1e-3
    remat = jax.jit(small(remat=True).apply)(variables, inputs)
    np.testing.assert_allclose(remat, plain, rtol=1e-6, atol=1e-6)
    half = jax.jit(small(dtype=jnp.bfloat16).apply)(variables, inputs)
    assert half.dtype == jnp.float32
    np.testing.assert_allclose(half, plain, atol=0.05)
    five = random_variables(small(kernel_size=(5,)), inputs)
    assert five["params"]["layer_0"]["cell"]["input"]["kernel"].shape[:2] == (5, 5)


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


def test_it_learns_where_a_line_grows_to() -> None:
    model = small(features=(8,), downsample=2)
    frames, classes = growing_lines(0, 64, 8)
    optimizer = optax.adam(1e-2)

    def loss(variables: Tree, frames: jax.Array, classes: jax.Array) -> jax.Array:
        logits = model.apply(variables, frames, True)
        return optax.softmax_cross_entropy_with_integer_labels(logits, classes).mean()

    @jax.jit
    def train(variables: Tree) -> Tree:
        def update(carry: Tree, _: None) -> tuple[Tree, None]:
            variables, state = carry
            gradients = jax.grad(loss)(variables, frames, classes)
            updates, state = optimizer.update(gradients, state)
            return (optax.apply_updates(variables, updates), state), None

        return jax.lax.scan(update, (variables, optimizer.init(variables)), length=120)[0][0]

    variables = train(jax.jit(model.init)(jax.random.key(0), frames))
    unseen, truth = growing_lines(1, 64, 8)
    guesses = jax.jit(model.apply)(variables, unseen).argmax(-1)
    assert (guesses == truth).mean() >= 0.95  # by chance 0.25


def test_a_cpu_gets_products_in_place_of_convolutions() -> None:
    model = small()
    variables = random_variables(model, CLIPS)
    found = convolutions(jax.grad(lambda v: model.apply(v, CLIPS).sum()), variables)
    assert found == []


@pytest.mark.parametrize(
    ("model", "inputs", "message"),
    [
        (small(downsample=3), CLIPS, "downsample: expected a power of 2, got 3"),
        (small(kernel_size=(3, 5)), CLIPS, r"kernel_size: expected 1 or 1 values .*, got 2"),
        (small(), CLIPS[0], r"inputs: expected 5 axes .*, got shape \(3, 8, 8, 1\)"),
        (small(), CLIPS[:, :0], "number of frames: expected a value above 0"),
        (CNNLSTMClassifier(4), CLIPS[0], r"inputs: expected 5 axes .*, got shape \(3, 8, 8, 1\)"),
        (CNNLSTMClassifier(4), CLIPS[:, :0], "number of frames: expected a value above 0"),
    ],
    ids=lambda value: value[:24] if isinstance(value, str) else "",
)
def test_what_cannot_work_is_refused_in_one_line(
    model: nn.Module, inputs: jax.Array, message: str, as_user: None
) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        model.init(jax.random.key(0), inputs)
    assert "\n" not in str(caught.value)
