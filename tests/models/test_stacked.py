"""The stacked network is the published one, but for a last convolution that sees no future."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
from numerics import Tree, assert_trees_close, normal, random_variables

from jaxconvlstm import StackedConvLSTM
from jaxconvlstm.errors import ConfigError
from jaxconvlstm.models.stacked import CausalConv


def small(**options: Any) -> StackedConvLSTM:
    return StackedConvLSTM(**(dict(channels=1, features=(3, 2)) | options))


def test_the_last_convolution_is_causal_in_time_and_same_in_space(float64: None) -> None:
    conv, clip = CausalConv(2, dtype=jnp.float64), normal(0, 2, 4, 4, 5, 3)
    variables = random_variables(conv, clip)
    kernel, bias = (np.asarray(variables["params"][name]) for name in ("kernel", "bias"))
    assert kernel.shape == (3, 3, 3, 3, 2)
    padded = np.pad(np.asarray(clip), ((0, 0), (2, 0), (0, 0), (0, 0), (0, 0)))
    expected = [
        sum(reference.convolve(padded[:, time + tap], kernel[tap]) for tap in range(3)) + bias
        for time in range(4)
    ]
    lengths = (1, 2, 4)
    run = jax.jit(lambda v, x: [conv.apply(v, x[:, :length])[1] for length in lengths])
    for length, outputs in zip(lengths, run(variables, clip)):
        np.testing.assert_allclose(outputs, np.stack(expected[:length], axis=1), rtol=0, atol=1e-12)


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
    weights, moments = [], []
    for index in range(2):
        cell, scale = params[f"layer_{index}"]["cell"], params[f"norm_{index}"]
        weights += [cell["input"]["kernel"], cell["hidden"]["kernel"], cell["input"]["bias"]]
        weights += [scale["scale"], scale["bias"]]
        moments += [statistics[f"norm_{index}"][name] for name in ("mean", "var")]
    weights += [params["head"]["kernel"], params["head"]["bias"]]
    moving = iter(moments)
    rest = [
        next(moving) if "moving" in variable.path else variable.value
        for variable in theirs.non_trainable_variables
    ]
    expected = jax.jit(lambda x: theirs.stateless_call(weights, rest, x, training=False)[0])(inputs)
    actual = jax.jit(partial(ours.apply, dense_targets=True))(variables, inputs)
    assert np.ptp(actual) > 0.1
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-5)


def test_frames_given_make_the_statistics_that_normalise_those_fed_back() -> None:
    model, inputs = small(features=(3,), norm="batch"), normal(0, 2, 3, 4, 4, 1)
    variables = random_variables(model, inputs)
    in_training: dict[str, Any] = dict(train=True, mutable=["batch_stats"])

    @jax.jit
    def run(variables: Tree, inputs: jax.Array) -> Any:
        predicted, updated = model.apply(variables, inputs, steps=3, **in_training)
        state, statistics = model.apply(variables, inputs, method="observe", **in_training)
        expected = [state[1]]
        for _ in range(2):
            state = model.apply(variables | statistics, *state, method="step")
            expected.append(state[1])
        return (predicted, updated), (jnp.stack(expected, axis=1), statistics)

    actual, expected = run(variables, inputs)
    assert_trees_close(actual, expected, 1e-4)
    _, hidden = reference.conv_lstm(variables["params"]["layer_0"]["cell"], inputs)
    before, after = (statistics["batch_stats"]["norm_0"] for statistics in (variables, actual[1]))
    axes = (0, 1, 2, 3)  # all frames alike
    for name, of_batch in ("mean", hidden.mean(axes)), ("var", hidden.var(axes)):
        expected = 0.9 * np.asarray(before[name]) + 0.1 * of_batch
        np.testing.assert_allclose(after[name], expected, rtol=1e-5, atol=1e-6)


def test_remat_changes_no_gradient_in_training(float64: None) -> None:
    inputs = normal(0, 2, 2, 4, 4, 1)
    options: Any = dict(features=(2,), norm="batch", dtype=jnp.float64)
    options |= dict(dropout=0.2, recurrent_dropout=0.2)
    variables = random_variables(small(**options), inputs)

    @jax.jit
    def gradients(params: Tree) -> Any:
        def loss(params: Tree, remat: bool) -> Any:
            predictions, updated = small(remat=remat, **options).apply(
                variables | {"params": params},
                inputs,
                3,
                train=True,
                mutable=["batch_stats"],
                rngs={"dropout": jax.random.key(1)},
            )
            return jnp.mean(jnp.square(predictions)), updated

        return [jax.grad(loss, has_aux=True)(params, remat) for remat in (True, False)]

    actual, expected = gradients(variables["params"])
    assert_trees_close(actual, expected, 1e-9)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(actual))


def test_what_a_filter_copies_stays_as_it_is_however_often_it_is_fed_back() -> None:
    model = small(output="filter", reach=2, patch_size=2, channels=3)
    inputs = np.random.default_rng(0).random((2, 3, 8, 10, 3)).astype(np.float32)
    variables = jax.tree.map(jnp.zeros_like, random_variables(model, inputs))
    # Of 5 x 5 positions the one below and two to the right, with all of the weight.
    variables["params"]["head"]["bias"] = 100.0 * jax.nn.one_hot(5 * 3 + 4, 26 + 12)
    predictions = jax.jit(partial(model.apply, steps=3))(variables, inputs)
    below = np.pad(inputs[:, -1], ((0, 0), (0, 3), (0, 6), (0, 0)), mode="edge")
    for step in (1, 2, 3):
        expected = below[:, step:, 2 * step :][:, :8, :10]
        np.testing.assert_allclose(predictions[:, step - 1], expected, atol=1e-6)


def test_an_untrained_filter_gives_half_of_the_weight_to_the_pixel_itself() -> None:
    model = small(output="filter", reach=1)
    frame = np.zeros((1, 1, 5, 6, 1), np.float32)
    frame[0, 0, 2, 2] = 1
    predicted, _ = jax.jit(model.init_with_output)(jax.random.key(0), frame)
    # 9 of 18 parts for the middle, one for each of the 8 around it, one for what is drawn: 1/2.
    expected = np.full((5, 6), 0.5 / 18)
    expected[1:4, 1:4] += 1 / 18
    expected[2, 2] += 8 / 18
    np.testing.assert_allclose(predicted[0, 0, :, :, 0], expected, atol=1e-6)


def test_parameters_are_those_of_layers_norms_and_head() -> None:
    """As many as the published network has; with "batch-between" the last layer has no norm."""

    def tree(**options: Any) -> Tree:
        inputs = jnp.zeros((1, 1, 40, 40, 1))
        return jax.eval_shape(
            StackedConvLSTM(channels=1, **options).init, jax.random.key(0), inputs
        )

    params = tree(norm="batch")["params"]
    first, other = 9 * (1 + 40) * 160 + 160, 9 * (40 + 40) * 160 + 160
    expected = first + 3 * other + 4 * 2 * 40 + 27 * 40 + 1
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == expected
    layers, norms = ({f"{name}_{index}" for index in range(4)} for name in ("layer", "norm"))
    assert set(params) == layers | norms | {"head"}
    assert set(tree(norm="batch")["batch_stats"]) == norms
    assert set(tree(norm="batch-between")["batch_stats"]) == norms - {"norm_3"}
    assert set(tree()) == {"params"}


def test_settings_that_are_not_its_own_are_refused(as_user: None) -> None:
    for options, message in (
        (dict(output="motion"), "output: expected one of sigmoid, frame, change"),
        (dict(norm="layer"), "norm: expected one of none, batch, batch-between, got 'layer'"),
    ):
        with pytest.raises(ConfigError, match=message):
            small(**options).init(jax.random.key(0), jnp.zeros((2, 3, 8, 8, 1)))
