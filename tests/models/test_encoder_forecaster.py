"""The encoding-forecasting models are the published network, and their forecast reads no frame."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
from programs import convolutions

from jaxconvlstm.errors import ConfigError
from jaxconvlstm.models.encoder_forecaster import EncoderForecaster
from jaxconvlstm.models.forecaster import Forecaster
from jaxconvlstm.models.pyramid_forecaster import PyramidForecaster

Tree = Any
KINDS = [EncoderForecaster, PyramidForecaster]


def normal(seed: int, *shape: int) -> jax.Array:
    values = np.random.default_rng(seed).normal(size=shape)
    return jnp.asarray(values, jax.dtypes.canonicalize_dtype(np.float64))


def small(kind: type[Forecaster], **options: Any) -> Forecaster:
    settings: dict[str, Any] = dict(channels=1, features=(3, 2), kernel_size=(3,))
    if kind is EncoderForecaster:
        settings["patch_size"] = 2
    return kind(**(settings | options))


def random_variables(model: Forecaster, inputs: jax.Array) -> Tree:
    """Every weight random, so that no path through the model is closed."""
    shapes = jax.eval_shape(model.init, jax.random.key(0), inputs)
    leaves, structure = jax.tree.flatten(shapes)
    return structure.unflatten(
        [0.3 * normal(seed, *leaf.shape) for seed, leaf in enumerate(leaves)]
    )


def predict(model: Forecaster, variables: Tree, inputs: jax.Array, **options: Any) -> jax.Array:
    """Jitted: one compilation for the model instead of one for each of its operations."""
    return jax.jit(partial(model.apply, **options))(variables, inputs)


def parameters(model: Forecaster, inputs: jax.Array) -> int:
    shapes = jax.eval_shape(model.init, jax.random.key(0), inputs)
    return sum(leaf.size for leaf in jax.tree.leaves(shapes))


def leaky_relu(x: np.ndarray) -> np.ndarray:
    return np.where(x > 0, x, 0.2 * x)


def unroll(
    params: Mapping[str, Any], carry: reference.Carry, steps: int
) -> tuple[reference.Carry, np.ndarray]:
    """A layer without input is one whose input is zero; its bias lies beside the hidden kernel."""
    batch, height, width, features = carry[0].shape
    params = dict(params["cell"])
    bias = params["hidden"]["bias"]
    params["input"] = {"kernel": np.zeros((1, 1, 1, 4 * features)), "bias": bias}
    return reference.conv_lstm(params, np.zeros((batch, steps, height, width, 1)), carry)


def each_frame(function: Callable[[np.ndarray], np.ndarray], clips: np.ndarray) -> np.ndarray:
    return np.stack([function(clips[:, time]) for time in range(clips.shape[1])], axis=1)


def numpy_encoder_forecaster(params: Tree, inputs: np.ndarray, steps: int) -> np.ndarray:
    """Two layers on patches of 2x2."""
    batch, _, height, width, _ = inputs.shape
    patches = np.concatenate(
        [inputs[:, :, row::2, column::2] for row in (0, 1) for column in (0, 1)], axis=-1
    )
    low_state, hidden = reference.conv_lstm(params["encoder_0"]["cell"], patches)
    high_state, _ = reference.conv_lstm(params["encoder_1"]["cell"], hidden)
    _, low = unroll(params["forecaster_0"], low_state, steps)
    _, high = reference.conv_lstm(params["forecaster_1"]["cell"], low, high_state)
    kernel = params["head"]["kernel"][0, 0]
    pixels = np.concatenate([low, high], axis=-1) @ kernel + params["head"]["bias"]
    frames = np.zeros((batch, steps, height, width, 1))
    for index in range(4):
        frames[:, :, index // 2 :: 2, index % 2 :: 2, 0] = pixels[..., index]
    return frames


def numpy_pyramid_forecaster(params: Tree, inputs: np.ndarray, steps: int) -> np.ndarray:
    """Two levels."""

    def convolve(name: str, frames: np.ndarray) -> np.ndarray:
        kernel, bias = params[name]["kernel"], params[name]["bias"]
        kinds: dict[str, Any] = {
            "halve_0": partial(reference.convolve_strided, stride=2),
            "double_0": partial(reference.convolve_transposed, stride=2),
        }
        function = kinds.get(name, reference.convolve)
        return each_frame(lambda frame: function(frame, kernel) + bias, frames)

    maps = leaky_relu(convolve("stem", inputs))
    low_state, maps = reference.conv_lstm(params["encoder_0"]["cell"], maps)
    maps = leaky_relu(convolve("halve_0", maps))
    high_state, _ = reference.conv_lstm(params["encoder_1"]["cell"], maps)
    _, maps = unroll(params["forecaster_1"], high_state, steps)
    maps = leaky_relu(convolve("double_0", maps))
    _, maps = reference.conv_lstm(params["forecaster_0"]["cell"], maps, low_state)
    return convolve("head", leaky_relu(convolve("narrow", maps)))


@pytest.mark.parametrize(
    ("kind", "in_numpy"),
    [
        (EncoderForecaster, numpy_encoder_forecaster),
        (PyramidForecaster, numpy_pyramid_forecaster),
    ],
)
@pytest.mark.parametrize(("peephole", "output"), [("channel", "frame"), ("spatial", "sigmoid")])
def test_the_model_is_its_numpy_loop(
    peephole: str, output: str, kind: type[Forecaster], in_numpy: Any, float64: None
) -> None:
    model = small(kind, peephole=peephole, output=output, dtype=jnp.float64)
    inputs = normal(0, 2, 3, 6, 8, 1)
    variables = random_variables(model, inputs)
    expected = in_numpy(jax.tree.map(np.asarray, variables["params"]), np.asarray(inputs), 4)
    if output == "sigmoid":
        expected = reference.sigmoid(expected)
    actual = predict(model, variables, inputs, steps=4)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize(
    ("features", "published"),
    [((256,), 13_524_496), ((128, 128), 10_042_896), ((128, 64, 64), 7_585_296)],
    ids=str,
)
def test_the_parameters_are_as_many_as_published(features: tuple[int, ...], published: int) -> None:
    """Shi et al. 2015, table 1: Moving MNIST in patches of 4x4, 5x5 kernels."""
    inputs = jnp.zeros((1, 10, 64, 64, 1))
    assert parameters(EncoderForecaster(1, features), inputs) == published


def test_the_maps_of_the_pyramid_are_those_of_its_levels() -> None:
    model = PyramidForecaster(1)
    inputs = jnp.zeros((2, 3, 32, 32, 1))

    def states(inputs: jax.Array) -> Any:
        variables = model.init(jax.random.key(0), inputs)
        return model.apply(variables, inputs, method="observe")[0]

    expected = [(2, 32, 32, 64), (2, 16, 16, 96), (2, 8, 8, 96)]
    assert [state[0].shape for state in jax.eval_shape(states, inputs)] == expected


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [(7, 9), (16, 8), (1, 5)], ids=str)
def test_predictions_have_the_frames_shape(
    size: tuple[int, int], channels: int, kind: type[Forecaster]
) -> None:
    model = small(kind, channels=channels)
    inputs = jnp.zeros((2, 3, *size, channels))
    variables = jax.eval_shape(model.init, jax.random.key(0), inputs)
    for steps in 1, 4:
        shape = jax.eval_shape(partial(model.apply, steps=steps), variables, inputs)
        assert shape.shape == (2, steps, *size, channels)
        assert shape.dtype == jnp.float32


@pytest.mark.parametrize("kind", KINDS)
def test_asking_for_more_steps_changes_none_of_the_first(kind: type[Forecaster]) -> None:
    model = small(kind)
    inputs = normal(0, 2, 3, 5, 6, 1)
    variables = random_variables(model, inputs)
    many = predict(model, variables, inputs, steps=5)
    few = predict(model, variables, inputs, steps=3)
    np.testing.assert_allclose(few, many[:, :3], rtol=1e-5, atol=1e-6)


def step_by_step(model: Forecaster, variables: Tree, inputs: jax.Array) -> jax.Array:
    carry, first = model.apply(variables, inputs, method="observe")
    _, second = model.apply(variables, carry, first, method="step")
    return jnp.stack([first, second], axis=1)


@pytest.mark.parametrize("kind", KINDS)
def test_all_steps_at_once_are_one_step_after_the_other(kind: type[Forecaster]) -> None:
    model = small(kind, peephole="channel")
    inputs = normal(0, 2, 2, 5, 6, 1)
    variables = random_variables(model, inputs)
    expected = jax.jit(step_by_step, static_argnums=0)(model, variables, inputs)
    actual = predict(model, variables, inputs, steps=2)
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-6)


def test_all_steps_at_once_have_the_gradients_of_one_after_the_other(float64: None) -> None:
    model = small(EncoderForecaster, peephole="channel", dtype=jnp.float64)
    inputs = normal(0, 2, 2, 4, 4, 1)
    variables = random_variables(model, inputs)

    def gradients(run: Any) -> Any:
        def loss(variables: Tree) -> jax.Array:
            frames = run(variables)
            return jnp.mean(frames * jnp.cos(jnp.arange(frames.size)).reshape(frames.shape))

        return jax.jit(jax.grad(loss))(variables)

    actual = gradients(lambda v: model.apply(v, inputs, 2))
    assert all(jnp.abs(gradient).max() > 0 for gradient in jax.tree.leaves(actual))
    close = partial(np.testing.assert_allclose, rtol=1e-10, atol=1e-12)
    jax.tree.map(close, actual, gradients(lambda v: step_by_step(model, v, inputs)))


@pytest.mark.parametrize("kind", KINDS)
def test_a_step_reads_nothing_of_its_frame(kind: type[Forecaster]) -> None:
    model = small(kind)
    inputs = normal(0, 1, 2, 5, 6, 1)
    variables = random_variables(model, inputs)
    carry, frame = jax.jit(partial(model.apply, method="observe"))(variables, inputs)
    step = jax.jit(partial(model.apply, method="step"))
    _, after = step(variables, carry, frame)
    _, after_nothing = step(variables, carry, jnp.full_like(frame, jnp.nan))
    np.testing.assert_array_equal(after_nothing, after)


@pytest.mark.parametrize("kind", KINDS)
def test_one_parameter_tree_for_any_number_of_frames_and_remat(kind: type[Forecaster]) -> None:
    trees = [
        jax.eval_shape(
            partial(small(kind, remat=remat).init, steps=steps),
            jax.random.key(0),
            jnp.zeros((1, time, 6, 6, 1)),
        )
        for steps, time in [(1, 4), (5, 2)]
        for remat in (False, True)
    ]
    assert all(tree == trees[0] for tree in trees)


@pytest.mark.parametrize("kind", KINDS)
def test_padding_is_the_edge_and_is_cropped_exactly(kind: type[Forecaster]) -> None:
    model = small(kind)
    inputs = normal(0, 2, 3, 7, 5, 1)
    widths = ((0, 0), (0, 0), (0, 1), (0, 1), (0, 0))
    padded = jnp.asarray(np.pad(np.asarray(inputs), widths, mode="edge"))
    variables = random_variables(model, inputs)
    expected = predict(model, variables, padded, steps=2)[:, :, :7, :5]
    actual = predict(model, variables, inputs, steps=2)
    np.testing.assert_allclose(actual, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_channel_peepholes_take_another_frame_size(kind: type[Forecaster]) -> None:
    model = small(kind, peephole="channel")
    variables = random_variables(model, jnp.zeros((1, 2, 4, 4, 1)))
    assert predict(model, variables, jnp.zeros((1, 2, 8, 6, 1))).shape == (1, 1, 8, 6, 1)


@pytest.mark.parametrize("kind", KINDS)
def test_spatial_peepholes_refuse_another_frame_size(kind: type[Forecaster]) -> None:
    model = small(kind, peephole="spatial")
    variables = random_variables(model, jnp.zeros((1, 2, 4, 4, 1)))
    with pytest.raises(ConfigError, match="spatial peepholes were made for maps of"):
        predict(model, variables, jnp.zeros((1, 2, 8, 6, 1)))


@pytest.mark.parametrize("kind", KINDS)
def test_bfloat16_forecasts_float32_pictures_near_the_float32_ones(kind: type[Forecaster]) -> None:
    inputs = normal(0, 2, 3, 5, 6, 1)
    half = small(kind, dtype=jnp.bfloat16, output="sigmoid")
    variables = random_variables(half, inputs)
    predictions = predict(half, variables, inputs, steps=3)
    assert predictions.dtype == jnp.float32
    expected = predict(small(kind, output="sigmoid"), variables, inputs, steps=3)
    np.testing.assert_allclose(predictions, expected, atol=0.05)


@pytest.mark.parametrize(
    ("kind", "rates"),
    [
        (EncoderForecaster, dict(dropout=0.5)),
        (PyramidForecaster, dict(recurrent_dropout=0.5)),
    ],
)
def test_dropout_acts_in_training_alone(kind: type[Forecaster], rates: dict[str, float]) -> None:
    model = small(kind, **rates)
    inputs = normal(0, 2, 3, 4, 4, 1)
    variables = random_variables(model, inputs)
    train = jax.jit(lambda seed: model.apply(variables, inputs, train=True, rngs={"dropout": seed}))
    first, again, other = (train(jax.random.key(seed)) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert jnp.abs(first - other).max() > 1e-3
    # Without dropout, training needs no random numbers, and changes nothing.
    plain = predict(small(kind), variables, inputs, train=True)
    np.testing.assert_allclose(predict(model, variables, inputs), plain, rtol=1e-6)


def test_relu_and_remat_are_passed_on() -> None:
    model = partial(small, EncoderForecaster)
    inputs = normal(0, 2, 2, 4, 4, 1)
    variables = random_variables(model(), inputs)
    relu = predict(model(activation="relu"), variables, inputs, steps=2)
    assert jnp.abs(relu - predict(model(), variables, inputs, steps=2)).max() > 1e-3
    remat = predict(model(activation="relu", remat=True), variables, inputs, steps=2)
    np.testing.assert_allclose(remat, relu, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_a_cpu_gets_products_in_place_of_convolutions(kind: type[Forecaster]) -> None:
    model = small(kind)
    inputs = jnp.zeros((2, 3, 8, 8, 1))
    variables = random_variables(model, inputs)
    found = convolutions(jax.grad(lambda v: model.apply(v, inputs, 4).sum()), variables)
    assert found == []


INPUTS = jnp.zeros((2, 3, 8, 8, 1))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("options", "arguments", "message"),
    [
        (dict(output="change"), {}, "output: expected one of frame, sigmoid, got 'change'"),
        (dict(kernel_size=(3, 5, 3)), {}, r"kernel_size: expected 1 or 2 values .*, got 3"),
        (dict(channels=3), {}, r"made for 3 channel\(s\), got 1"),
        ({}, dict(inputs=INPUTS[0]), r"expected 5 axes .*, got shape \(3, 8, 8, 1\)"),
        ({}, dict(inputs=INPUTS[:, :0]), "number of frames: expected a value above 0"),
        ({}, dict(steps=0), "steps: expected a value above 0, got 0"),
        ({}, dict(teacher=INPUTS[:, :1]), "teacher: the forecaster reads no frames"),
        ({}, dict(teacher_mask=jnp.ones((2, 1), bool)), "the forecaster reads no frames"),
        ({}, dict(dense_targets=True), "dense_targets: the forecaster reads no frames"),
    ],
    ids=lambda value: None if isinstance(value, dict) else value[:24],
)
def test_what_cannot_work_is_refused_in_one_line(
    options: dict[str, Any],
    arguments: dict[str, Any],
    message: str,
    kind: type[Forecaster],
    as_user: None,
) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        small(kind, **options).init(jax.random.key(0), **(dict(inputs=INPUTS) | arguments))
    assert "\n" not in str(caught.value)


def test_a_patch_of_no_pixels_is_refused() -> None:
    with pytest.raises(ConfigError, match="patch_size: expected a value above 0, got 0"):
        small(EncoderForecaster, patch_size=0).init(jax.random.key(0), INPUTS)
