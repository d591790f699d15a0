"""The model predicts any number of frames from any frame size, and looks at nothing it must not."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from programs import convolutions

from jaxconvlstm.errors import ConfigError
from jaxconvlstm.models.frame_predictor import FramePredictor

Tree = Any


def normal(seed: int, *shape: int) -> jax.Array:
    values = np.random.default_rng(seed).normal(size=shape)
    return jnp.asarray(values, jax.dtypes.canonicalize_dtype(np.float64))


def small(**options: Any) -> FramePredictor:
    return FramePredictor(**(dict(channels=1, features=(3,)) | options))


def random_variables(model: FramePredictor, inputs: jax.Array) -> Tree:
    """Every weight random, so that no path through the model is closed."""
    shapes = jax.eval_shape(model.init, jax.random.key(0), inputs)
    leaves, structure = jax.tree.flatten(shapes)
    return structure.unflatten(
        [0.3 * normal(seed, *leaf.shape) for seed, leaf in enumerate(leaves)]
    )


def predict(model: FramePredictor, variables: Tree, *arguments: Any, **options: Any) -> jax.Array:
    """Jitted: one compilation for the model instead of one for each of its operations."""
    fixed = {name: options.pop(name) for name in ("steps", "dense_targets") if name in options}
    return jax.jit(partial(model.apply, **fixed))(variables, *arguments, **options)


def step_by_step(
    model: FramePredictor, variables: Tree, inputs: jax.Array, steps: int
) -> jax.Array:
    """What a stream does: every frame through `step`, then the predictions themselves."""
    frames = inputs.swapaxes(0, 1)
    carry = model.apply(variables, frames[0].shape, method="initialize_carry")
    prediction = frames[0]
    for frame in frames:
        carry, prediction = model.apply(variables, carry, frame, method="step")
    predictions = [prediction]
    for _ in range(steps - 1):
        carry, prediction = model.apply(variables, carry, prediction, method="step")
        predictions.append(prediction)
    return jnp.stack(predictions, axis=1)


@pytest.mark.parametrize("downsample", [1, 2, 4, 8])
@pytest.mark.parametrize("channels", [1, 2, 3])
@pytest.mark.parametrize("size", [(7, 9), (16, 8), (1, 5)], ids=str)
def test_predictions_have_the_frames_shape(
    size: tuple[int, int], channels: int, downsample: int
) -> None:
    model = small(channels=channels, downsample=downsample)
    inputs = jnp.zeros((2, 3, *size, channels))
    variables = jax.eval_shape(model.init, jax.random.key(0), inputs)
    for steps in 1, 4:
        shape = jax.eval_shape(partial(model.apply, steps=steps), variables, inputs)
        assert shape.shape == (2, steps, *size, channels)
        assert shape.dtype == jnp.float32


def test_asking_for_more_steps_changes_none_of_the_first() -> None:
    model = small()
    inputs = normal(0, 2, 3, 5, 6, 1)
    variables = random_variables(model, inputs)
    many = predict(model, variables, inputs, steps=5)
    for steps in 1, 3:
        few = predict(model, variables, inputs, steps=steps)
        np.testing.assert_allclose(few, many[:, :steps], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(jnp.float32, 1e-5), (jnp.float64, 1e-10)], ids=["f32", "f64"]
)
def test_reading_all_frames_at_once_is_reading_them_one_by_one(
    dtype: Any, tolerance: float
) -> None:
    with jax.enable_x64(dtype == jnp.float64):
        model = small(features=(3, 2), output="change", dtype=dtype)
        inputs = normal(0, 2, 2, 5, 6, 1)
        variables = random_variables(model, inputs)

        def results(run: Any) -> Any:
            def loss(variables: Tree) -> Any:
                predictions = run(variables)
                weights = jnp.cos(jnp.arange(predictions.size)).reshape(predictions.shape)
                return jnp.mean(predictions * weights), predictions

            return jax.jit(jax.value_and_grad(loss, has_aux=True))(variables)

        actual = results(lambda v: model.apply(v, inputs, 3))
        expected = results(lambda v: step_by_step(model, v, inputs, 3))

        def assert_close(a: jax.Array, b: jax.Array) -> None:
            assert a.dtype == dtype
            # Relative to the largest value: gradients of one tree differ by orders of magnitude.
            np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance * jnp.abs(b).max())

        jax.tree.map(assert_close, actual, expected)


def test_a_teacher_that_always_speaks_is_feeding_the_true_frames() -> None:
    model = small()
    clip = normal(0, 2, 6, 5, 6, 1)
    inputs, truth = clip[:, :2], clip[:, 2:]
    variables = random_variables(model, inputs)
    taught = predict(model, variables, inputs, steps=4, teacher=truth)
    expected = [
        predict(model, variables, clip[:, : 2 + step])[:, 0]  # one step after all true frames
        for step in range(4)
    ]
    np.testing.assert_allclose(taught, jnp.stack(expected, axis=1), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("output", ["change", "motion"])
def test_every_gives_what_is_predicted_after_each_frame(output: str) -> None:
    with jax.enable_x64(True):
        model = small(output=output, reach=1, dtype=jnp.float64)
        inputs = normal(0, 2, 2, 5, 6, 1)
        variables = random_variables(model, inputs)

        def results(run: Any) -> Any:
            def loss(variables: Tree) -> Any:
                predictions = run(variables)
                weights = jnp.cos(jnp.arange(predictions.size)).reshape(predictions.shape)
                return jnp.mean(predictions * weights), predictions

            return jax.jit(jax.value_and_grad(loss, has_aux=True))(variables)

        def by_prefix(variables: Tree) -> jax.Array:
            prefixes = [model.apply(variables, inputs[:, :time]) for time in (1, 2)]
            return jnp.concatenate(prefixes, axis=1)

        actual = results(lambda v: model.apply(v, inputs, dense_targets=True))
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-10),
            actual,
            results(by_prefix),
        )


def test_with_every_the_last_is_what_is_predicted_without() -> None:
    model = small()
    inputs = normal(0, 2, 3, 5, 6, 1)
    variables = random_variables(model, inputs)
    every = predict(model, variables, inputs, steps=3, dense_targets=True)
    assert every.shape == (2, 3 - 1 + 3, 5, 6, 1)
    expected = predict(model, variables, inputs, steps=3)
    np.testing.assert_allclose(every[:, 2:], expected, rtol=1e-5, atol=1e-6)


def test_reading_is_being_taught() -> None:
    model = small(output="change")
    clip = normal(0, 2, 6, 5, 6, 1)
    variables = random_variables(model, clip)
    taught = predict(model, variables, clip[:, :1], steps=5, teacher=clip[:, 1:])
    read = predict(model, variables, clip[:, :3], steps=3, teacher=clip[:, 3:], dense_targets=True)
    np.testing.assert_allclose(taught, read, rtol=1e-5, atol=1e-6)


def test_a_teacher_that_never_speaks_is_free_running() -> None:
    model = small()
    inputs, truth = normal(0, 2, 2, 5, 6, 1), normal(1, 2, 4, 5, 6, 1)
    variables = random_variables(model, inputs)
    silent = jnp.zeros((2, 4), bool)
    taught = predict(model, variables, inputs, steps=4, teacher=truth, teacher_mask=silent)
    free = predict(model, variables, inputs, steps=4)
    np.testing.assert_allclose(taught, free, rtol=1e-5, atol=1e-6)


def test_the_teacher_mask_is_per_example() -> None:
    model = small()
    inputs, truth = normal(0, 2, 2, 5, 6, 1), normal(1, 2, 3, 5, 6, 1)
    variables = random_variables(model, inputs)
    mask = jnp.array([[True] * 3, [False] * 3])
    mixed = predict(model, variables, inputs, steps=3, teacher=truth, teacher_mask=mask)
    taught = predict(model, variables, inputs, steps=3, teacher=truth)
    free = predict(model, variables, inputs, steps=3)
    np.testing.assert_allclose(mixed[0], taught[0], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(mixed[1], free[1], rtol=1e-5, atol=1e-6)


def dependence(function: Any, clip: jax.Array) -> np.ndarray:
    """Whether each predicted frame depends on each frame of `clip`: bool `[steps, time]`."""
    slopes = jax.jit(jax.jacrev(lambda x: function(x).sum((0, 2, 3, 4))))(clip)
    return np.asarray(jnp.abs(slopes).max((1, 3, 4, 5)) > 0)


def test_a_prediction_depends_on_no_teacher_frame_of_its_own_time_or_later() -> None:
    model = small(features=(3, 2))
    inputs, truth = normal(0, 1, 2, 4, 4, 1), normal(1, 1, 3, 4, 4, 1)
    variables = random_variables(model, inputs)
    depends = dependence(lambda t: model.apply(variables, inputs, 3, teacher=t), truth)
    np.testing.assert_array_equal(depends, np.tril(np.ones((3, 3), bool), -1))


def test_a_free_prediction_depends_on_every_input() -> None:
    model = small(features=(3, 2))
    inputs = normal(0, 1, 3, 4, 4, 1)
    variables = random_variables(model, inputs)
    assert dependence(lambda x: model.apply(variables, x, 3), inputs).all()


def test_what_was_observed_depends_on_no_later_frame() -> None:
    model = small()
    clip = normal(0, 1, 3, 4, 4, 1)
    variables = random_variables(model, clip)

    def after_each_frame(clip: jax.Array) -> jax.Array:
        read = [model.apply(variables, clip[:, :time], method="observe")[1] for time in (1, 2, 3)]
        return jnp.stack(read, axis=1)

    depends = dependence(after_each_frame, clip)
    np.testing.assert_array_equal(depends, np.tril(np.ones((3, 3), bool)))


def test_with_every_no_prediction_depends_on_a_later_frame() -> None:
    model = small(features=(3, 2), output="change")
    clip = normal(0, 1, 3, 4, 4, 1)
    variables = random_variables(model, clip)
    depends = dependence(lambda x: model.apply(variables, x, 2, dense_targets=True), clip)
    np.testing.assert_array_equal(depends, np.tril(np.ones((4, 3), bool)))


@pytest.mark.parametrize("name", ["dropout", "recurrent_dropout"])
def test_dropout_is_drawn_anew_for_each_key_in_training_alone(name: str) -> None:
    inputs = normal(0, 2, 3, 4, 4, 1)
    plain, dropping = small(), small(**{name: 0.3})
    variables = random_variables(plain, inputs)
    expected = predict(plain, variables, inputs, steps=2)
    np.testing.assert_array_equal(predict(dropping, variables, inputs, steps=2), expected)
    train = jax.jit(partial(dropping.apply, steps=2, train=True))
    first, again, other = (
        train(variables, inputs, rngs={"dropout": jax.random.key(seed)}) for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    for different in expected, other:
        assert jnp.abs(first - different).max((0, 2, 3, 4)).min() > 1e-4  # at each step
    state = jax.jit(partial(dropping.apply, method="observe"))(variables, inputs)
    step = partial(dropping.apply, variables, *state, method="step")
    dropped = step(train=True, rngs={"dropout": jax.random.key(1)})
    assert jnp.abs(dropped[1] - step()[1]).max() > 1e-4


def test_without_dropout_training_takes_no_prng_and_changes_nothing() -> None:
    inputs = normal(0, 2, 3, 4, 4, 1)
    variables = random_variables(small(), inputs)
    trained = jax.jit(partial(small().apply, steps=2, train=True))(variables, inputs)
    np.testing.assert_array_equal(trained, predict(small(), variables, inputs, steps=2))


def test_the_activation_reaches_every_cell() -> None:
    inputs = normal(0, 2, 3, 4, 4, 1)
    variables = random_variables(small(features=(3, 2)), inputs)
    named, given, other = (
        predict(small(features=(3, 2), activation=activation), variables, inputs)
        for activation in ("relu", jax.nn.relu, "tanh")
    )
    np.testing.assert_array_equal(named, given)
    assert jnp.abs(named - other).max() > 1e-3


@pytest.mark.parametrize("downsample", [2, 4])
def test_padding_is_the_edge_and_is_cropped_exactly(downsample: int) -> None:
    model = small(downsample=downsample, output="change")
    inputs = normal(0, 2, 3, 7, 5, 1)
    below, right = -7 % downsample, -5 % downsample
    widths = ((0, 0), (0, 0), (0, below), (0, right), (0, 0))
    padded = jnp.asarray(np.pad(np.asarray(inputs), widths, mode="edge"))
    variables = random_variables(model, inputs)
    expected = predict(model, variables, padded)[:, :, :7, :5]
    np.testing.assert_allclose(predict(model, variables, inputs), expected, rtol=1e-6, atol=1e-6)


def test_change_without_a_change_is_persistence() -> None:
    model = small(output="change")
    inputs = normal(0, 2, 3, 5, 6, 1)
    variables = random_variables(model, inputs)
    head = variables["params"]["decoder"]["head"]
    variables["params"]["decoder"]["head"] = jax.tree.map(jnp.zeros_like, head)
    predictions = predict(model, variables, inputs, steps=3)
    np.testing.assert_array_equal(predictions, np.repeat(inputs[:, -1:], 3, axis=1))


def test_sigmoid_stays_between_0_and_1() -> None:
    model = small(output="sigmoid")
    inputs = normal(0, 2, 3, 5, 6, 1)
    predictions = predict(model, random_variables(model, inputs), inputs, steps=3)
    assert bool(((predictions > 0) & (predictions < 1)).all())


def test_one_parameter_tree_for_any_number_of_steps_and_remat() -> None:
    inputs = jnp.zeros((1, 2, 5, 6, 1))
    trees = [
        jax.eval_shape(partial(small(remat=remat).init, steps=steps), jax.random.key(0), inputs)
        for steps in (1, 5)
        for remat in (False, True)
    ]
    assert all(tree == trees[0] for tree in trees)
    assert set(trees[0]["params"]) == {"encoder", "layer_0", "decoder"}


def test_remat_changes_no_prediction() -> None:
    inputs = normal(0, 2, 3, 5, 6, 1)
    variables = random_variables(small(), inputs)
    plain = predict(small(), variables, inputs, steps=3)
    remat = predict(small(remat=True), variables, inputs, steps=3)
    np.testing.assert_allclose(remat, plain, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(("down", "right"), [(2, 0), (0, -4), (-2, 2)])
def test_a_shifted_clip_has_a_shifted_forecast(down: int, right: int) -> None:
    # By whole cells of the feature map, and away from borders, which the prediction can see.
    model = small(downsample=2)
    clip = normal(0, 1, 2, 40, 40, 1)
    variables = random_variables(model, clip)
    shift = partial(jnp.roll, shift=(down, right), axis=(2, 3))
    forecast = shift(predict(model, variables, clip))
    of_shifted = predict(model, variables, shift(clip))
    inside = (slice(None), slice(None), slice(14, -14), slice(14, -14))
    assert jnp.ptp(forecast[inside]) > 0.1
    np.testing.assert_allclose(of_shifted[inside], forecast[inside], rtol=1e-5, atol=1e-5)


def test_one_compilation_serves_all_clips_of_a_shape() -> None:
    traces = []

    @partial(jax.jit, static_argnums=0)
    def forecast(model: FramePredictor, variables: Tree, inputs: jax.Array) -> jax.Array:
        traces.append(model)
        return model.apply(variables, inputs, 2)

    inputs = normal(0, 1, 2, 4, 4, 1)
    variables = random_variables(small(), inputs)
    for seed in range(3):
        forecast(small(), variables, normal(seed, 1, 2, 4, 4, 1))  # equal models count as one
    assert len(traces) == 1


def test_bfloat16_forecasts_float32_pictures_near_the_float32_ones() -> None:
    inputs = normal(0, 2, 3, 5, 6, 1)
    half = small(dtype=jnp.bfloat16, output="sigmoid")
    variables = random_variables(half, inputs)
    predictions = predict(half, variables, inputs, steps=3)
    assert predictions.dtype == jnp.float32
    expected = predict(small(output="sigmoid"), variables, inputs, steps=3)
    np.testing.assert_allclose(predictions, expected, atol=0.05)


def test_memory_of_a_forecast_does_not_grow_with_its_hidden_states() -> None:
    model = small()
    inputs = jnp.zeros((1, 2, 16, 16, 1))
    variables = random_variables(model, inputs)

    def temporary_bytes(steps: int) -> int:
        forecast = jax.jit(partial(model.apply, steps=steps))
        return forecast.lower(variables, inputs).compile().memory_analysis().temp_size_in_bytes

    frame_bytes = 16 * 16 * 4
    # The scan stacks the frames, and one more copy puts batch before time.
    assert temporary_bytes(34) - temporary_bytes(2) <= 2 * 32 * frame_bytes


def test_one_kernel_size_serves_every_layer() -> None:
    inputs = jnp.zeros((1, 2, 8, 8, 1))
    variables = random_variables(small(features=(3, 2, 4), kernel_size=(5,)), inputs)
    layers = {name for name in variables["params"] if name.startswith("layer")}
    assert layers == {"layer_0", "layer_1", "layer_2"}
    assert variables["params"]["layer_2"]["cell"]["hidden"]["kernel"].shape == (5, 5, 4, 16)


INPUTS = jnp.zeros((2, 3, 8, 8, 1))


@pytest.mark.parametrize(
    ("options", "arguments", "message"),
    [
        (dict(output="pixels"), {}, "output: expected one of frame, change, motion, sigmoid"),
        (dict(features=(3, 3, 3), kernel_size=(3, 5)), {}, r"expected 1 or 3 values .*, got 2"),
        (dict(downsample=3), {}, "downsample: expected a power of 2, got 3"),
        (dict(downsample=0), {}, "downsample: expected a power of 2, got 0"),
        ({}, dict(inputs=INPUTS[0]), r"expected 5 axes .*, got shape \(3, 8, 8, 1\)"),
        ({}, dict(inputs=INPUTS[:, :0]), "number of frames: expected a value above 0"),
        (dict(channels=3), {}, r"made for 3 channel\(s\), got 1"),
        ({}, dict(steps=0), "steps: expected a value above 0, got 0"),
        ({}, dict(steps=2, teacher=INPUTS), "teacher: expected a frame for each step"),
        ({}, dict(steps=3, teacher=INPUTS[0]), "teacher: expected 5 axes"),
        (
            {},
            dict(steps=3, teacher_mask=jnp.ones((2, 3), bool)),
            "teacher_mask: expected a teacher",
        ),
        (
            {},
            dict(steps=3, teacher=INPUTS, teacher_mask=jnp.ones((2, 4), bool)),
            r"teacher_mask: expected the shape of teacher\[:2\], \(2, 3\), got \(2, 4\)",
        ),
    ],
    ids=lambda value: None if isinstance(value, dict) else value[:24],
)
def test_what_cannot_work_is_refused_in_one_line(
    options: dict[str, Any], arguments: dict[str, Any], message: str, as_user: None
) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        jax.eval_shape(
            partial(small(**options).init, steps=arguments.pop("steps", 1)),
            jax.random.key(0),
            **(dict(inputs=INPUTS) | arguments),
        )
    assert "\n" not in str(caught.value)


def test_a_trained_model_says_what_it_was_trained_on() -> None:
    variables = random_variables(small(), INPUTS)
    with pytest.raises(ConfigError, match=r"made for 1 channel\(s\), got 3"):
        small().apply(variables, jnp.zeros((2, 3, 8, 8, 3)))


@pytest.mark.parametrize("dense_targets", [False, True])
def test_a_cpu_gets_products_in_place_of_convolutions(dense_targets: bool) -> None:
    # The encoder's and the decoder's stand inside the feedback loop too; see conv.py.
    model = small(features=(3, 2), downsample=4)
    variables = random_variables(model, INPUTS)
    found = convolutions(
        jax.grad(lambda v: model.apply(v, INPUTS, 4, dense_targets=dense_targets).sum()), variables
    )
    assert found == []
