"""The stacked network is the published one, but for a last convolution that sees no future."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
from programs import convolutions

from jaxconvlstm.errors import ConfigError
from jaxconvlstm.models.stacked import CausalConv, StackedConvLSTM

Tree = Any
VARIANTS = [
    dict(output="change"),
    dict(norm="batch", patch_size=2, kernel_size=(2, 3), activation="relu"),
    dict(output="filter", reach=1, patch_size=2),
]


def normal(seed: int, *shape: int) -> jax.Array:
    values = np.random.default_rng(seed).normal(size=shape)
    return jnp.asarray(values, jax.dtypes.canonicalize_dtype(np.float64))


def small(**options: Any) -> StackedConvLSTM:
    return StackedConvLSTM(**(dict(channels=1, features=(3, 2)) | options))


def random_variables(model: Any, inputs: jax.Array) -> Tree:
    """Every weight and statistic random, so that no path through the model is closed."""
    shapes = jax.eval_shape(model.init, jax.random.key(0), inputs)
    leaves, structure = jax.tree.flatten(shapes)
    variables = structure.unflatten(
        [0.3 * normal(seed, *leaf.shape) for seed, leaf in enumerate(leaves)]
    )
    for statistics in variables.get("batch_stats", {}).values():
        statistics["var"] = 0.1 + jnp.abs(statistics["var"])
    return variables


def predict(model: StackedConvLSTM, variables: Tree, *arguments: Any, **options: Any) -> jax.Array:
    """Jitted: one compilation for the model instead of one for each of its operations."""
    fixed = {name: options.pop(name) for name in ("steps", "dense_targets") if name in options}
    return jax.jit(partial(model.apply, **fixed))(variables, *arguments, **options)


def dependence(function: Any, clip: jax.Array) -> np.ndarray:
    """Whether each predicted frame depends on each frame of `clip`: bool `[frames, time]`."""
    slopes = jax.jit(jax.jacrev(lambda x: function(x).sum((0, 2, 3, 4))))(clip)
    return np.asarray(jnp.abs(slopes).max((1, 3, 4, 5)) > 0)


@pytest.mark.parametrize("variant", VARIANTS, ids=["change", "batch", "filter"])
def test_reading_all_frames_at_once_is_reading_them_one_by_one(variant: dict[str, Any]) -> None:
    with jax.enable_x64(True):
        model = small(dtype=jnp.float64, **variant)
        inputs = normal(0, 2, 3, 5, 4, 1)
        variables = random_variables(model, inputs)

        def step_by_step(variables: Tree, inputs: jax.Array) -> jax.Array:
            carry = model.apply(variables, inputs[:, 0].shape, method="initialize_carry")
            predictions: list[jax.Array] = []
            for time in range(5):
                frame = inputs[:, time] if time < 3 else predictions[-1]
                carry, prediction = model.apply(variables, carry, frame, method="step")
                predictions.append(prediction)
            return jnp.stack(predictions, axis=1)

        def results(run: Any) -> Any:
            def loss(params: Tree, inputs: jax.Array) -> Any:
                predictions = run(variables | {"params": params}, inputs)
                weights = jnp.cos(jnp.arange(predictions.size)).reshape(predictions.shape)
                return jnp.mean(predictions * weights), predictions

            gradient = jax.value_and_grad(loss, (0, 1), has_aux=True)
            return jax.jit(gradient)(variables["params"], inputs)

        actual = results(lambda v, x: model.apply(v, x, 3, dense_targets=True))
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-10),
            actual,
            results(step_by_step),
        )


@pytest.mark.parametrize("frames", [1, 2, 4])
def test_the_last_convolution_is_causal_in_time_and_same_in_space(
    frames: int, float64: None
) -> None:
    conv = CausalConv(2, dtype=jnp.float64)
    maps = normal(0, 2, frames, 4, 5, 3)
    variables = random_variables(conv, maps)
    kernel, bias = (np.asarray(variables["params"][name]) for name in ("kernel", "bias"))
    assert kernel.shape == (3, 3, 3, 3, 2)
    padded = np.pad(np.asarray(maps), ((0, 0), (2, 0), (0, 0), (0, 0), (0, 0)))
    expected = [
        sum(reference.convolve(padded[:, time + tap], kernel[tap]) for tap in range(3)) + bias
        for time in range(frames)
    ]
    np.testing.assert_allclose(
        jax.jit(conv.apply)(variables, maps)[1], np.stack(expected, axis=1), rtol=0, atol=1e-12
    )


def test_network_is_kerass_with_its_weights_as_they_are(foreign_code: None) -> None:
    keras = pytest.importorskip("keras")
    if keras.backend.backend() != "jax":
        pytest.skip("keras is not on its JAX backend")
    layers = keras.layers
    inputs = normal(0, 2, 4, 5, 6, 1)
    theirs = keras.Sequential(
        [
            layers.Input(inputs.shape[1:]),
            layers.ConvLSTM2D(3, 3, padding="same", activation="relu", return_sequences=True),
            layers.BatchNormalization(),
            layers.ConvLSTM2D(2, 2, padding="same", activation="relu", return_sequences=True),
            layers.BatchNormalization(),
            layers.ZeroPadding3D(((2, 0), (1, 1), (1, 1))),  # what makes the last one causal
            layers.Conv3D(1, 3, activation="sigmoid"),
        ]
    )
    ours = small(kernel_size=(3, 2), activation="relu", norm="batch")
    variables = random_variables(ours, inputs)
    params, statistics = variables["params"], variables["batch_stats"]
    for index, (recurrent, norm) in enumerate([theirs.layers[:2], theirs.layers[2:4]]):
        cell, scale = params[f"layer_{index}"]["cell"], params[f"norm_{index}"]
        recurrent.set_weights(
            [cell["input"]["kernel"], cell["hidden"]["kernel"], cell["input"]["bias"]]
        )
        moments = statistics[f"norm_{index}"]
        norm.set_weights([scale["scale"], scale["bias"], moments["mean"], moments["var"]])
    theirs.layers[-1].set_weights([params["head"]["kernel"], params["head"]["bias"]])
    actual = predict(ours, variables, inputs, dense_targets=True)
    assert jnp.ptp(actual) > 0.1
    np.testing.assert_allclose(actual, theirs(inputs, training=False), rtol=1e-5, atol=1e-5)


def test_no_prediction_depends_on_a_later_frame() -> None:
    model = small(norm="batch", kernel_size=(2,))
    clip = normal(0, 1, 4, 4, 4, 1)
    variables = random_variables(model, clip)
    depends = dependence(lambda x: model.apply(variables, x, 2, dense_targets=True), clip)
    np.testing.assert_array_equal(depends, np.tril(np.ones((5, 4), bool)))


def test_with_every_the_last_is_what_is_predicted_without() -> None:
    model = small(norm="batch")
    inputs = normal(0, 2, 4, 5, 6, 1)
    variables = random_variables(model, inputs)
    every = predict(model, variables, inputs, steps=3, dense_targets=True)
    assert every.shape == (2, 4 - 1 + 3, 5, 6, 1)
    expected = predict(model, variables, inputs, steps=3)
    np.testing.assert_allclose(every[:, 3:], expected, rtol=1e-5, atol=1e-6)


def test_reading_is_being_taught() -> None:
    model = small(norm="batch")
    clip = normal(0, 2, 6, 5, 6, 1)
    variables = random_variables(model, clip)
    taught = predict(model, variables, clip[:, :1], steps=5, teacher=clip[:, 1:])
    read = predict(model, variables, clip[:, :3], steps=3, teacher=clip[:, 3:], dense_targets=True)
    np.testing.assert_allclose(taught, read, rtol=1e-5, atol=1e-6)


def test_training_normalises_by_the_batch_and_gathers_its_statistics() -> None:
    model = small(features=(3,), norm="batch")
    inputs = normal(0, 2, 4, 5, 6, 1)
    variables = random_variables(model, inputs)
    _, updated = jax.jit(partial(model.apply, train=True, mutable=["batch_stats"]))(
        variables, inputs
    )
    _, hidden = reference.conv_lstm(variables["params"]["layer_0"]["cell"], inputs)
    before, after = variables["batch_stats"]["norm_0"], updated["batch_stats"]["norm_0"]
    axes = (0, 1, 2, 3)  # all frames alike
    for name, of_batch in ("mean", hidden.mean(axes)), ("var", hidden.var(axes)):
        expected = 0.9 * before[name] + 0.1 * of_batch.astype(np.float32)
        np.testing.assert_allclose(after[name], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("remat", [False, True])
def test_frames_fed_back_are_normalised_with_what_was_gathered(remat: bool) -> None:
    model = small(features=(3,), norm="batch", remat=remat)
    inputs = normal(0, 2, 2, 4, 4, 1)
    variables = random_variables(model, inputs)
    in_training = dict(train=True, mutable=["batch_stats"])
    predictions, updated = jax.jit(partial(model.apply, steps=3, **in_training))(variables, inputs)

    observe = jax.jit(partial(model.apply, method="observe", **in_training))
    state, statistics = observe(variables, inputs)
    expected = [state[1]]
    step = jax.jit(partial(model.apply, method="step"))
    for _ in range(2):
        state = step(variables | statistics, *state)
        expected.append(state[1])
    np.testing.assert_allclose(predictions, jnp.stack(expected, axis=1), rtol=1e-4, atol=1e-5)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), updated, statistics
    )


def test_predicting_leaves_the_statistics_alone() -> None:
    model = small(norm="batch")
    inputs = normal(0, 2, 2, 4, 4, 1)
    variables = random_variables(model, inputs)
    frozen = predict(model, variables, inputs, steps=3)
    run = jax.jit(partial(model.apply, steps=3, mutable=["batch_stats"]))
    predictions, updated = run(variables, inputs)
    np.testing.assert_allclose(predictions, frozen, rtol=1e-6)
    jax.tree.map(np.testing.assert_array_equal, updated["batch_stats"], variables["batch_stats"])


def test_remat_changes_no_gradient_in_training() -> None:
    inputs = normal(0, 2, 2, 4, 4, 1)
    options: Any = dict(features=(2,), norm="batch", dropout=0.2, recurrent_dropout=0.2)
    variables = random_variables(small(**options), inputs)

    def gradient(model: StackedConvLSTM) -> Any:
        def loss(params: Tree) -> Any:
            predictions, updated = model.apply(
                variables | {"params": params},
                inputs,
                3,
                train=True,
                mutable=["batch_stats"],
                rngs={"dropout": jax.random.key(1)},
            )
            return jnp.mean(jnp.square(predictions)), updated

        return jax.jit(jax.grad(loss, has_aux=True))(variables["params"])

    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5),
        gradient(small(remat=True, **options)),
        gradient(small(**options)),
    )


def test_dropout_is_in_training_alone() -> None:
    inputs = normal(0, 2, 2, 4, 4, 1)
    variables = random_variables(small(), inputs)
    expected = predict(small(), variables, inputs, steps=2)
    for rate in dict(dropout=0.4), dict(recurrent_dropout=0.4):
        model = small(**rate)
        np.testing.assert_array_equal(predict(model, variables, inputs, steps=2), expected)
        train = jax.jit(partial(model.apply, steps=2, train=True))
        dropped = train(variables, inputs, rngs={"dropout": jax.random.key(0)})
        assert jnp.abs(dropped - expected).max((0, 2, 3, 4)).min() > 1e-4  # at each step
        state = jax.jit(partial(model.apply, method="observe"))(variables, inputs)
        step = partial(model.apply, variables, *state, method="step")
        _, dropped = step(train=True, rngs={"dropout": jax.random.key(0)})
        assert jnp.abs(dropped - step()[1]).max() > 1e-4


@pytest.mark.parametrize("patch_size", [2, 3])
def test_padding_is_the_edge_and_is_cropped_exactly(patch_size: int) -> None:
    model = small(patch_size=patch_size, output="change")
    inputs = normal(0, 2, 3, 7, 5, 1)
    below, right = -7 % patch_size, -5 % patch_size
    widths = ((0, 0), (0, 0), (0, below), (0, right), (0, 0))
    padded = jnp.asarray(np.pad(np.asarray(inputs), widths, mode="edge"))
    variables = random_variables(model, inputs)
    expected = predict(model, variables, padded)[:, :, :7, :5]
    np.testing.assert_allclose(predict(model, variables, inputs), expected, rtol=1e-6, atol=1e-6)


def test_an_untrained_change_is_persistence() -> None:
    model = small(output="change", patch_size=2)
    inputs = normal(0, 2, 3, 4, 6, 1)
    predictions, _ = jax.jit(partial(model.init_with_output, steps=3))(jax.random.key(0), inputs)
    np.testing.assert_array_equal(predictions, np.repeat(inputs[:, -1:], 3, axis=1))


def test_sigmoid_stays_between_0_and_1_where_the_frame_does_not() -> None:
    inputs = 5 * normal(0, 2, 3, 5, 6, 1)
    variables = random_variables(small(), inputs)
    variables["params"]["head"] = jax.tree.map(lambda w: 100 * w, variables["params"]["head"])
    squashed = predict(small(), variables, inputs, steps=3)
    assert bool(((squashed > 0) & (squashed < 1)).all())
    assert jnp.abs(predict(small(output="frame"), variables, inputs, steps=3)).max() > 10


def test_what_a_filter_copies_stays_as_it_is_however_often_it_is_fed_back() -> None:
    model = small(output="filter", reach=2, patch_size=2, channels=3)
    inputs = jnp.asarray(np.random.default_rng(0).random((2, 3, 8, 10, 3)), jnp.float32)
    variables = jax.tree.map(jnp.zeros_like, random_variables(model, inputs))
    # Of 5 x 5 positions the one below and two to the right, with all of the weight.
    variables["params"]["head"]["bias"] = 100.0 * jax.nn.one_hot(5 * 3 + 4, 26 + 12)
    predictions = predict(model, variables, inputs, steps=3)
    below = np.pad(np.asarray(inputs[:, -1]), ((0, 0), (0, 3), (0, 6), (0, 0)), mode="edge")
    for step in (1, 2, 3):
        expected = below[:, step:, 2 * step :][:, :8, :10]
        np.testing.assert_allclose(predictions[:, step - 1], expected, atol=1e-6)


def test_an_untrained_filter_gives_half_of_the_weight_to_the_pixel_itself() -> None:
    model = small(output="filter", reach=1)
    frame = jnp.zeros((1, 1, 5, 6, 1)).at[0, 0, 2, 2].set(1.0)
    predicted, _ = model.init_with_output(jax.random.key(0), frame)
    # 9 of 18 parts for the middle, one for each of the 8 around it, one for what is drawn: 1/2.
    expected = np.full((5, 6), 0.5 / 18)
    expected[1:4, 1:4] += 1 / 18
    expected[2, 2] += 8 / 18
    np.testing.assert_allclose(predicted[0, 0, :, :, 0], expected, atol=1e-6)


def test_a_filter_stays_between_0_and_1_with_the_frames() -> None:
    model = small(output="filter", reach=2)
    inputs = jnp.asarray(np.random.default_rng(0).integers(0, 2, (2, 3, 5, 6, 1)), jnp.float32)
    predictions = predict(model, random_variables(model, inputs), inputs, steps=4)
    assert float(predictions.min()) >= 0 and float(predictions.max()) <= 1 + 1e-6


def test_one_variable_tree_for_any_number_of_steps() -> None:
    inputs = jnp.zeros((1, 2, 5, 6, 1))
    trees = [
        jax.eval_shape(
            partial(small(norm="batch", remat=remat).init, steps=steps), jax.random.key(0), inputs
        )
        for steps in (1, 4)
        for remat in (False, True)
    ]
    assert all(tree == trees[0] for tree in trees)
    norms = {"norm_0", "norm_1"}
    assert set(trees[0]["params"]) == {"layer_0", "layer_1", "head"} | norms
    assert set(trees[0]["batch_stats"]) == norms


def test_peepholes_are_in_every_layer() -> None:
    model = small(peephole="channel")
    params = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 2, 4, 4, 1)))["params"]
    gates = {f"peephole_{gate}" for gate in "ifo"}
    assert all(gates < set(params[f"layer_{index}"]["cell"]) for index in range(2))


def test_the_published_network_has_its_number_of_weights() -> None:
    model = StackedConvLSTM(channels=1, norm="batch")
    params = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 1, 40, 40, 1)))["params"]
    first, other = 9 * (1 + 40) * 160 + 160, 9 * (40 + 40) * 160 + 160
    expected = first + 3 * other + 4 * 2 * 40 + 27 * 40 + 1
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == expected


def test_bfloat16_forecasts_float32_pictures_near_the_float32_ones() -> None:
    inputs = normal(0, 2, 3, 5, 6, 1)
    half = small(dtype=jnp.bfloat16, norm="batch")
    variables = random_variables(half, inputs)
    predictions = predict(half, variables, inputs, steps=3, dense_targets=True)
    assert predictions.dtype == jnp.float32
    expected = predict(small(norm="batch"), variables, inputs, steps=3, dense_targets=True)
    np.testing.assert_allclose(predictions, expected, atol=0.05)


def test_a_cpu_gets_products_in_place_of_convolutions() -> None:
    model = small(norm="batch", patch_size=2)
    inputs = jnp.zeros((2, 3, 8, 8, 1))
    variables = random_variables(model, inputs)

    def loss(params: Tree) -> jax.Array:
        predictions, _ = model.apply(
            variables | {"params": params}, inputs, 4, train=True, mutable=["batch_stats"]
        )
        return predictions.sum()

    found = convolutions(jax.grad(loss), variables["params"])
    assert found == []


INPUTS = jnp.zeros((2, 3, 8, 8, 1))


@pytest.mark.parametrize(
    ("options", "inputs", "message"),
    [
        (dict(output="motion"), INPUTS, "output: expected one of sigmoid, frame, change"),
        (
            dict(norm="layer"),
            INPUTS,
            "norm: expected one of none, batch, batch-between, got 'layer'",
        ),
        (dict(patch_size=0), INPUTS, "patch_size: expected a value above 0, got 0"),
        (dict(kernel_size=(3, 3, 3)), INPUTS, r"expected 1 or 2 values .*, got 3"),
        ({}, INPUTS[0], r"expected 5 axes .*, got shape \(3, 8, 8, 1\)"),
        ({}, INPUTS[:, :0], "number of frames: expected a value above 0"),
        (dict(channels=3), INPUTS, r"made for 3 channel\(s\), got 1"),
    ],
    ids=lambda value: value[:24] if isinstance(value, str) else None,
)
def test_what_cannot_work_is_refused_in_one_line(
    options: dict[str, Any], inputs: jax.Array, message: str, as_user: None
) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        jax.eval_shape(small(**options).init, jax.random.key(0), inputs)
    assert "\n" not in str(caught.value)
