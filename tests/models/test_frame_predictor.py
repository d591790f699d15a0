"""What is special about the frame predictor, and about feeding back in any model."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numerics import normal, random_variables

from jaxconvlstm import FramePredictor, StackedConvLSTM
from jaxconvlstm.errors import ConfigError

INPUTS = jnp.zeros((2, 3, 8, 8, 1))


def small(**options: Any) -> FramePredictor:
    return FramePredictor(**(dict(channels=1, features=(3,)) | options))


@pytest.mark.parametrize("kind", [FramePredictor, StackedConvLSTM])
def test_an_untrained_change_is_persistence(kind: Any) -> None:
    model = kind(channels=1, features=(3, 2), output="change")
    inputs = normal(0, 2, 3, 5, 6, 1)
    predict = jax.jit(partial(model.init_with_output, steps=3))
    predictions, _ = predict(jax.random.key(0), inputs)
    np.testing.assert_array_equal(predictions, np.repeat(inputs[:, -1:], 3, axis=1))


def test_frames_fed_back_have_one_dropout_mask_for_all_of_them() -> None:
    """Of the frames given there is another one. Without a memory, only the masks could differ."""
    model = small(dropout=0.5, recurrent_dropout=0.5)
    frames = jnp.broadcast_to(normal(0, 2, 1, 4, 4, 1), (2, 6, 4, 4, 1))
    variables = random_variables(model, frames)
    cell = variables["params"]["layer_0"]["cell"]
    cell["hidden"]["kernel"] *= 0
    cell["input"]["bias"] = jnp.asarray([0.0] * 3 + [-1e4] * 3 + [0.0] * 6)  # forgets everything
    train = partial(model.apply, steps=5, train=True, rngs={"dropout": jax.random.key(0)})
    predicted = np.asarray(jax.jit(train)(variables, frames[:, :1], teacher=frames[:, 1:]))
    np.testing.assert_allclose(
        predicted[:, 1:], np.broadcast_to(predicted[:, 1:2], (2, 4, 4, 4, 1)), atol=1e-6
    )
    assert np.abs(predicted[:, 0] - predicted[:, 1]).max() > 1e-3


def test_a_shifted_clip_has_a_shifted_forecast() -> None:
    # By whole cells of the feature map, and away from borders, which the prediction can see.
    model, clip = small(downsample=2), np.asarray(normal(0, 1, 2, 40, 40, 1))
    variables = random_variables(model, clip)
    predict = jax.jit(model.apply)
    for shift in ((2, 0), (0, -4), (-2, 2)):
        forecast = np.roll(predict(variables, clip), shift, (2, 3))
        of_shifted = np.asarray(predict(variables, np.roll(clip, shift, (2, 3))))
        inside = (slice(None), slice(None), slice(14, -14), slice(14, -14))
        assert np.ptp(forecast[inside]) > 0.1
        np.testing.assert_allclose(of_shifted[inside], forecast[inside], rtol=1e-5, atol=1e-5)


def test_one_trace_serves_all_clips_of_a_shape() -> None:
    traces = []

    @partial(jax.jit, static_argnums=0)
    def forecast(model: FramePredictor, variables: Any, inputs: jax.Array) -> jax.Array:
        traces.append(model)
        return model.apply(variables, inputs, 2)

    variables = random_variables(small(), INPUTS)
    for seed in range(3):
        forecast.trace(small(), variables, normal(seed, *INPUTS.shape))  # equal models are one
    assert len(traces) == 1


def test_memory_of_a_forecast_does_not_grow_with_its_hidden_states() -> None:
    inputs = jnp.zeros((1, 2, 16, 16, 1))
    variables = random_variables(small(), inputs)

    def temporary_bytes(steps: int) -> int:
        forecast = jax.jit(partial(small().apply, steps=steps))
        return forecast.lower(variables, inputs).compile().memory_analysis().temp_size_in_bytes

    frame_bytes = 16 * 16 * 4
    # The scan stacks the frames, and one more copy puts batch before time.
    assert temporary_bytes(34) - temporary_bytes(2) <= 2 * 32 * frame_bytes


def test_one_kernel_size_serves_every_layer() -> None:
    model = small(features=(3, 2, 4), kernel_size=(5,))
    params = jax.eval_shape(model.init, jax.random.key(0), INPUTS)["params"]
    assert set(params) == {"encoder", "decoder", "layer_0", "layer_1", "layer_2"}
    assert params["layer_2"]["cell"]["hidden"]["kernel"].shape == (5, 5, 4, 16)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(steps=2, teacher=INPUTS), "teacher: expected a frame for each step"),
        (dict(steps=3, teacher=INPUTS[0]), "teacher: expected 5 axes"),
        (dict(steps=3, teacher_mask=jnp.ones((2, 3), bool)), "teacher_mask: expected a teacher"),
        (
            dict(steps=3, teacher=INPUTS, teacher_mask=jnp.ones((2, 4), bool)),
            r"teacher_mask: expected the shape of teacher\[:2\], \(2, 3\), got \(2, 4\)",
        ),
    ],
    ids=lambda value: None if isinstance(value, dict) else value[:24],
)
def test_a_teacher_that_does_not_fit_is_refused_in_one_line(
    arguments: dict[str, Any], message: str, as_user: None
) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        jax.eval_shape(partial(small().init, inputs=INPUTS, **arguments), jax.random.key(0))
    assert "\n" not in str(caught.value)
