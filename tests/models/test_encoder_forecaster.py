"""The encoding-forecasting models are the published network, and their forecast reads no frame."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
from numerics import Tree, normal, random_variables

from jaxconvlstm import EncoderForecaster, PyramidForecaster
from jaxconvlstm.errors import ConfigError

CLIP = jnp.zeros((2, 3, 8, 8, 1))
SMALL: dict[str, Any] = dict(channels=1, features=(3, 2), kernel_size=(3,))


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
    ("model", "in_numpy"),
    [
        (
            EncoderForecaster(**SMALL, patch_size=2, peephole="spatial", dtype=jnp.float64),
            numpy_encoder_forecaster,
        ),
        (
            PyramidForecaster(**SMALL, peephole="channel", output="sigmoid", dtype=jnp.float64),
            lambda *given: reference.sigmoid(numpy_pyramid_forecaster(*given)),
        ),
    ],
    ids=["encoder", "pyramid"],
)
def test_the_model_is_its_numpy_loop(model: Any, in_numpy: Any, float64: None) -> None:
    inputs = normal(0, 2, 3, 6, 8, 1)
    variables = random_variables(model, inputs)
    expected = in_numpy(jax.tree.map(np.asarray, variables["params"]), np.asarray(inputs), 4)
    actual = jax.jit(partial(model.apply, steps=4))(variables, inputs)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize(
    ("features", "published"),
    [((256,), 13_524_496), ((128, 128), 10_042_896), ((128, 64, 64), 7_585_296)],
    ids=str,
)
def test_the_parameters_are_as_many_as_published(features: tuple[int, ...], published: int) -> None:
    """Shi et al. 2015, table 1: Moving MNIST in patches of 4x4, 5x5 kernels."""
    model = EncoderForecaster(1, features)
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 10, 64, 64, 1)))
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == published


def test_the_maps_of_the_pyramid_are_those_of_its_levels() -> None:
    observe = partial(PyramidForecaster(1).init_with_output, method="observe")
    (states, _), _ = jax.eval_shape(observe, jax.random.key(0), jnp.zeros((2, 3, 32, 32, 1)))
    expected = [(2, 32, 32, 64), (2, 16, 16, 96), (2, 8, 8, 96)]
    assert [state[0].shape for state in states] == expected


@pytest.mark.parametrize("kind", [EncoderForecaster, PyramidForecaster])
def test_what_would_be_read_after_the_inputs_is_refused_in_one_line(
    kind: Any, as_user: None
) -> None:
    for arguments, message in (
        (dict(teacher=CLIP[:, :1]), "teacher: the forecaster reads no frames"),
        (dict(teacher_mask=jnp.ones((2, 1), bool)), "the forecaster reads no frames"),
        (dict(dense_targets=True), "dense_targets: the forecaster reads no frames"),
    ):
        with pytest.raises(ConfigError, match=message) as caught:
            kind(**SMALL).init(jax.random.key(0), CLIP, **arguments)
        assert "\n" not in str(caught.value)
    with pytest.raises(ConfigError, match="output: expected one of frame, sigmoid, got 'change'"):
        kind(**SMALL, output="change").init(jax.random.key(0), CLIP)
