"""What every model holds, written once; see `contract` for the models and their programs."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from contract import CASES, GIVEN, QUICK, STEPS, Programs
from numerics import Tree, assert_trees_close, convolutions, cosines, with_gradients

import jaxconvlstm as jcl
from jaxconvlstm.errors import ConfigError


@pytest.fixture(scope="module", autouse=True)
def double_precision() -> Iterator[None]:
    with jax.enable_x64(True):
        yield


@pytest.fixture(scope="module")
def programs(request: pytest.FixtureRequest) -> Programs:
    return Programs(CASES[request.param])


def models(condition: Any) -> Any:
    """Runs a test for the programs of each model that fulfils a condition."""
    names = [name for name, case in CASES.items() if condition(case)]
    quick = [name for name in names if name in QUICK] or names  # a test of a slow model's own
    chosen = [pytest.param(n, marks=() if n in quick else pytest.mark.slow) for n in names]
    return pytest.mark.parametrize("programs", chosen, indirect=True)


autoregressive = models(lambda case: case.autoregressive)
forecaster = models(lambda case: case.forecasts and not case.autoregressive)
each_class = models(lambda case: case.whole)
droppable = models(lambda case: case.whole and case.takes("dropout"))


MASKS = {
    "free": [[1, 0, 0], [0, 0, 0]],  # the first column has no effect
    "taught": [[1, 1, 1], [1, 1, 1]],
    "mixed": [[1, 0, 1], [0, 1, 0]],
}


def teach(programs: Programs, mask: str, weights: Any = None) -> Any:
    """Predictions and gradients in params, inputs and teacher, by `__call__`."""
    case = programs.case
    if weights is None:
        weights = cosines(2, GIVEN - 1 + STEPS, *case.frame)
    given = jnp.asarray(MASKS[mask], float)
    clip = case.clip(GIVEN + STEPS)
    outputs, gradients = programs.teaches(
        weights, programs.variables["params"], clip[:, :GIVEN], clip[:, GIVEN:], given
    )
    return outputs, gradients[:3]


@pytest.mark.parametrize("mask", MASKS)
@autoregressive
def test_reading_at_once_equals_reading_frame_by_frame_with_gradients(
    programs: Programs, mask: str
) -> None:
    """Outputs and gradients of `__call__` with `dense_targets`, whatever the teacher shows."""
    outputs, (params, inputs, teacher) = teach(programs, mask)
    frames = programs.case.clip(GIVEN + STEPS)[:, :-1]
    given = np.concatenate([np.ones((2, GIVEN)), np.array(MASKS[mask], float)[:, 1:]], axis=1)
    streamed: Any = programs.variables["params"], frames, jnp.asarray(given)
    for leaf in jax.tree.leaves((outputs, params, inputs, teacher)):
        assert np.isfinite(leaf).all()
    if programs.case.large:
        np.testing.assert_allclose(outputs, programs.streams(*streamed), rtol=1e-9, atol=1e-10)
        return
    expected, (params_, frames_, _) = programs.streams(cosines(*outputs.shape), *streamed)
    np.testing.assert_allclose(outputs, expected, rtol=1e-9, atol=1e-10)
    assert outputs.dtype == jnp.float64
    assert_trees_close(params, params_, 1e-9)
    seen = np.concatenate([inputs, teacher], axis=1)
    assert_trees_close(seen[:, :-1], frames_, 1e-9)
    np.testing.assert_array_equal(seen[:, -1], 0)  # the last teacher frame is never read


@autoregressive
def test_no_prediction_depends_on_a_later_frame(programs: Programs) -> None:
    """By gradients: output j depends on the frames up to j, on the given ones alone if free."""
    case = programs.case
    outputs, frames = GIVEN - 1 + STEPS, GIVEN + STEPS
    for mask, seen in (("taught", frames), ("free", GIVEN)):
        depends = np.zeros((outputs, frames), bool)
        for output in range(outputs):
            weights = np.zeros((2, outputs, *case.frame))
            weights[:, output] = 1
            _, (_, *slopes) = teach(programs, mask, weights)
            depends[output] = np.abs(np.concatenate(slopes, axis=1)).max((0, 2, 3, 4)) > 0
        expected = np.tril(np.ones((outputs, frames), bool)) & (np.arange(frames) < seen)
        np.testing.assert_array_equal(depends, expected, err_msg=mask)


@autoregressive
def test_changing_a_later_frame_changes_no_earlier_prediction(programs: Programs) -> None:
    """Also where no gradient passes, as in matching."""
    case = programs.case
    clip, params = case.clip(GIVEN + STEPS), programs.variables["params"]
    weights, taught = cosines(2, GIVEN - 1 + STEPS, *case.frame), jnp.ones((2, STEPS))
    for changed in (1, GIVEN):
        first, second = (
            programs.teaches(weights, params, frames[:, :GIVEN], frames[:, GIVEN:], taught)[0]
            for frames in (clip, clip.at[:, changed:].set(1 - clip[:, changed:]))
        )
        np.testing.assert_array_equal(first[:, :changed], second[:, :changed])
        assert (np.abs(first - second).max((0, 2, 3, 4))[changed:] > 1e-6).all()


@autoregressive
def test_dense_targets_end_with_the_free_running_prediction(programs: Programs) -> None:
    """For any number of steps, and with a teacher that never speaks."""
    dense, _ = teach(programs, "free")
    predicted = programs.predicts(programs.variables["params"], programs.case.clip())
    np.testing.assert_allclose(predicted["many"], dense[:, GIVEN - 1 :], rtol=1e-9, atol=1e-10)
    np.testing.assert_allclose(predicted["one"], dense[:, GIVEN - 1 : GIVEN], rtol=1e-9)


@models(lambda case: not case.autoregressive)
def test_every_weight_and_frame_has_a_finite_gradient(programs: Programs) -> None:
    case, params = programs.case, programs.variables["params"]
    shape = (2, STEPS, *case.frame) if case.forecasts else (2, 4)
    _, (params_, inputs) = programs.runs(cosines(*shape), params, abs(case.clip()))
    for leaf in jax.tree.leaves(params_):
        assert np.isfinite(leaf).all() and np.abs(leaf).max() > 0
    assert np.isfinite(inputs).all() and (np.abs(inputs).max((0, 2, 3, 4)) > 0).all()


@forecaster
def test_all_steps_at_once_equal_one_step_after_the_other_with_gradients(
    programs: Programs,
) -> None:
    """`step` reads nothing of its frame."""
    case, params = programs.case, programs.variables["params"]

    def step_by_step(params: Tree, inputs: jax.Array) -> jax.Array:
        carry, first = programs.apply(params, inputs, method="observe")
        nothing = jnp.full_like(first, jnp.nan)

        def go_on(carry: Any, _: None) -> Any:
            return programs.apply(params, carry, nothing, method="step")

        _, rest = jax.lax.scan(go_on, carry, length=STEPS - 1)
        return jnp.concatenate([first[:, None], rest.swapaxes(0, 1)], axis=1)

    actual = programs.predicts(params, case.clip())
    if case.kind is jcl.EncoderForecaster:
        weights = cosines(2, STEPS, *case.frame)
        stepped = with_gradients(step_by_step)(weights, params, case.clip())
        assert_trees_close(programs.runs(weights, params, case.clip()), stepped, 1e-9)
        expected = stepped[0]
    else:
        expected = jax.jit(step_by_step)(params, case.clip())
    np.testing.assert_allclose(actual["many"], expected, rtol=1e-9)
    np.testing.assert_allclose(actual["one"], expected[:, :1], rtol=1e-9)


@models(lambda case: case.pads_to > 1)
def test_frames_are_padded_with_their_edge_and_predictions_cropped(programs: Programs) -> None:
    predicted = programs.predicts(programs.variables["params"], programs.case.clip())
    np.testing.assert_allclose(predicted["padded"], predicted["one"], rtol=1e-9, atol=1e-12)


@models(lambda case: case.forecasts)
def test_predicting_leaves_the_statistics_of_the_batches_alone(programs: Programs) -> None:
    predicted = programs.predicts(programs.variables["params"], programs.case.clip())
    jax.tree.map(np.testing.assert_array_equal, predicted["statistics"], programs.statistics)


@models(lambda case: case.options.get("output", "sigmoid") == "sigmoid" and case.forecasts)
def test_sigmoid_stays_between_0_and_1_where_the_weights_are_huge(programs: Programs) -> None:
    params = jax.tree.map(lambda weight: 100 * weight, programs.variables["params"])
    predicted = np.asarray(programs.predicts(params, 5 * programs.case.clip())["many"])
    assert ((predicted > 0) & (predicted < 1)).all()
    assert predicted.min() < 1e-6 and predicted.max() > 1 - 1e-6


@models(lambda case: case.options.get("output") == "filter")
def test_a_filter_stays_between_0_and_1_with_the_frames(programs: Programs) -> None:
    frames = jnp.round(jax.nn.sigmoid(programs.case.clip()))
    predicted = np.asarray(programs.predicts(programs.variables["params"], frames)["many"])
    assert predicted.min() >= 0 and predicted.max() <= 1 + 1e-12


@droppable
def test_dropout_of_inputs_and_of_states_follows_the_key_at_each_step_of_training(
    programs: Programs,
) -> None:
    """From a state without any, `step` drops too."""
    case = programs.case
    steps_too = case.forecasts and not case.large
    rates: list[dict[str, Any]] = [dict(dropout=0.3), dict(recurrent_dropout=0.3)]

    @jax.jit
    def train(params: Tree, inputs: jax.Array, key: jax.Array) -> tuple[list[jax.Array], ...]:
        options: dict[str, Any] = dict(train=True, mutable=["batch_stats"], rngs={"dropout": key})
        outputs = [
            programs.apply(params, inputs, *programs.steps, model=case.model(**rate), **options)[0]
            for rate in ([*rates, {}] if programs.statistics else rates)
        ]
        if not steps_too:
            return outputs, []
        state = programs.apply(params, inputs, method="observe")
        options["method"] = "step"
        steps = [
            programs.apply(params, *state, model=case.model(**rate), **options) for rate in rates
        ]
        return outputs, [frame for (_, frame), _ in steps]

    given = programs.variables["params"], case.clip()
    (first, steps), (again, _), (other, _) = (
        train(*given, jax.random.key(seed)) for seed in (0, 0, 1)
    )
    predicted = programs.predicts(*given)["many"]
    plain = first[2] if programs.statistics else predicted
    for drops in range(len(rates)):
        np.testing.assert_array_equal(first[drops], again[drops])
        for different in plain, other[drops]:
            differences = np.abs(first[drops] - different)
            assert np.min(differences.max((0, 2, 3, 4) if case.forecasts else (0, 1))) > 1e-5
    for frame in steps:
        assert np.abs(frame - predicted[:, 1]).max() > 1e-5


@models(lambda case: case.whole and case.takes("remat") and case.kind is not jcl.StackedConvLSTM)
def test_remat_changes_no_prediction(programs: Programs) -> None:
    """Of the stacked one also no gradient, by a test of its own."""
    case, given = programs.case, (programs.variables["params"], programs.case.clip())

    @jax.jit
    def run(params: Tree, inputs: jax.Array) -> jax.Array:
        return programs.apply(params, inputs, *programs.steps, model=case.model(remat=True))

    assert "policy=None" in str(run.trace(*given).jaxpr)  # the cell's own checkpoint has one
    np.testing.assert_allclose(run(*given), programs.predicts(*given)["many"], rtol=1e-9)


@droppable
def test_there_is_dropout_only_in_training_and_only_then_a_prng(programs: Programs) -> None:
    """Programs are compared, not numbers: prediction is the same with and without."""
    case = programs.case
    assert programs.lowered(case.model(dropout=0.3, recurrent_dropout=0.3)) == programs.text
    if not programs.statistics:
        assert programs.lowered(case.model(), train=True) == programs.text


@models(lambda case: case.kind is not jcl.CNNLSTMClassifier)  # whose one stands outside any loop
def test_a_cpu_gets_matrix_products_in_place_of_convolutions(programs: Programs) -> None:
    """Some 40 times slower otherwise: the form of the program is tested, not its time."""
    case, params, clip = programs.case, programs.variables["params"], programs.case.clip(6)
    if case.autoregressive:
        weights, taught = cosines(2, GIVEN - 1 + STEPS, *case.frame), jnp.ones((2, STEPS))
        made = programs.teaches.lower(weights, params, clip[:, :GIVEN], clip[:, GIVEN:], taught)
    else:
        shape = (2, STEPS, *case.frame) if case.forecasts else (2, 4)
        made = programs.runs.lower(cosines(*shape), params, clip[:, :GIVEN])
    assert "stablehlo.dot_general" in made.as_text()
    assert convolutions(made.as_text()) == []


@models(lambda case: case.whole and case.takes("dtype"))
def test_bfloat16_gives_float32_near_those_of_float64(programs: Programs) -> None:
    case, clip = programs.case, programs.case.clip()
    narrow = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), (programs.variables, clip))
    half = case.model(dtype=jnp.bfloat16)
    outputs = jax.jit(lambda variables, inputs: half.apply(variables, inputs, *programs.steps))(
        *narrow
    )
    assert outputs.dtype == jnp.float32
    predicted = programs.predicts(programs.variables["params"], clip)
    tolerance = 0.1 if case.large else 0.05
    np.testing.assert_allclose(outputs, predicted["many"], atol=tolerance)


@each_class
def test_outputs_have_the_frames_shape_and_are_float32(programs: Programs) -> None:
    case = programs.case
    sizes = [(7, 9), (16, 8), (1, 5)] if case.pads_to > 1 else [case.frame[:2]]
    for index, size in enumerate(sizes):
        options: dict[str, Any] = dict(dtype=jnp.float32) if case.takes("dtype") else {}
        frame = *size, case.frame[2]
        if case.takes("channels") and case.pads_to > 1:
            frame = *size, options.setdefault("channels", index + 1)
        if case.takes("downsample"):
            options["downsample"] = (1, 4, 8)[index]
        steps = 1 + 3 * (index % 2)
        run = partial(
            case.model(**options).init_with_output,
            **({"steps": steps} if case.forecasts else {}),
        )
        with jax.enable_x64(False):
            inputs = jax.ShapeDtypeStruct((2, GIVEN, *frame), jnp.float32)
            found, _ = jax.eval_shape(run, jax.random.key(0), inputs)
        assert found.shape == ((2, steps, *frame) if case.forecasts else (2, 4))
        assert found.dtype == jnp.float32


@each_class
def test_there_is_one_variable_tree_however_the_model_is_run(programs: Programs) -> None:
    case = programs.case
    expected = jax.tree.map(jnp.shape, programs.variables)
    for time, steps, remat in ((1, 1, False), (2, 4, True)):
        model = case.model(**({"remat": remat} if case.takes("remat") else {}))
        init = partial(model.init, **({"steps": steps} if case.forecasts else {}))
        inputs = jax.ShapeDtypeStruct((1, time, *case.frame), jnp.float64)
        found = jax.eval_shape(init, jax.random.key(0), inputs)
        assert jax.tree.map(lambda leaf: leaf.shape, found) == expected


@models(lambda case: case.whole and case.takes("peephole"))
def test_channel_peepholes_take_another_frame_size_and_spatial_ones_refuse_it(
    programs: Programs,
) -> None:
    small, large = (jnp.zeros((1, 2, *size, 1)) for size in ((8, 8), (8, 16)))
    for peephole in ("channel", "spatial"):
        model = programs.case.model(peephole=peephole)
        variables = jax.eval_shape(model.init, jax.random.key(0), small)
        cells = [stack["cell"] for stack in variables["params"].values() if "cell" in stack]
        assert len(cells) >= 2
        assert all({f"peephole_{gate}" for gate in "ifo"} < set(cell) for cell in cells)
        if peephole == "channel":
            jax.eval_shape(model.apply, variables, large)
        else:
            with pytest.raises(ConfigError, match="spatial peepholes were made for maps of"):
                jax.eval_shape(model.apply, variables, large)


@models(lambda case: case.whole and case.takes("activation"))
def test_the_activation_reaches_every_cell(programs: Programs) -> None:
    assert "stablehlo.tanh" not in programs.lowered(programs.case.model(activation="relu"))
    if programs.case.options.get("activation") != "relu":
        assert "stablehlo.tanh" in programs.text


@each_class
def test_inputs_that_do_not_fit_are_refused_in_one_line(programs: Programs, as_user: None) -> None:
    case, clip = programs.case, jnp.zeros((2, GIVEN, *programs.case.frame))
    shape = ", ".join(map(str, (GIVEN, *case.frame)))
    refused: list[Any] = [
        (clip[0], {}, {}, rf"inputs: expected 5 axes .*, got shape \({shape}\)"),
        (clip[:, :0], {}, {}, "number of frames: expected a value above 0"),
    ]
    if case.takes("channels"):
        made, got = case.options["channels"], case.frame[2] + 1
        wrong = jnp.zeros((2, GIVEN, *case.frame[:2], got))
        refused.append((wrong, {}, {}, rf"made for {made} channel\(s\), got {got}"))
    if case.takes("kernel_size"):
        message = r"kernel_size: expected 1 or 2 values .*, got 3"
        refused.append((clip, dict(kernel_size=(3, 5, 3)), {}, message))
        too_few = dict(features=(3, 2, 2), kernel_size=(3, 5))
        refused.append((clip, too_few, {}, r"kernel_size: expected 1 or 3 values .*, got 2"))
    if case.takes("downsample"):
        for factor in (0, 3):
            message = f"downsample: expected a power of 2, got {factor}"
            refused.append((clip, dict(downsample=factor), {}, message))
    if case.takes("patch_size"):
        message = "patch_size: expected a value above 0, got 0"
        refused.append((clip, dict(patch_size=0), {}, message))
    if case.takes("output"):
        refused.append((clip, dict(output="none"), {}, "output: expected one of .*, got 'none'"))
    if case.forecasts:
        refused.append((clip, {}, dict(steps=0), "steps: expected a value above 0, got 0"))
    for inputs, options, arguments, message in refused:
        with pytest.raises(ConfigError, match=message) as caught:
            jax.eval_shape(
                partial(case.model(**options).init, **arguments), jax.random.key(0), inputs
            )
        assert "\n" not in str(caught.value)


@models(lambda case: case.whole and case.takes("channels"))
def test_variables_of_other_channels_are_refused(programs: Programs) -> None:
    case = programs.case
    wrong = jnp.zeros((2, GIVEN, *case.frame[:2], case.frame[2] + 1))
    with pytest.raises(ConfigError, match=r"made for . channel\(s\), got"):
        jax.eval_shape(case.model().apply, programs.variables, wrong)
