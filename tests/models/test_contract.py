"""What every model holds, written once; each model's few programs serve many assertions.

In double precision, with frames of odd sizes. A model that is new needs one line in `CASES`.
"""

import dataclasses
from collections.abc import Iterator
from functools import cached_property, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numerics import (
    Tree,
    assert_trees_close,
    convolutions,
    cosines,
    normal,
    program,
    random_variables,
    stream,
    with_gradients,
)

import jaxconvlstm as jcl
from jaxconvlstm.errors import ConfigError

GIVEN, STEPS = 3, 3  # frames read, and frames predicted after them
NARROW: dict[str, Any] = dict(
    channels=3, encoder_features=(2, 2, 3, 3, 4, 4, 5), decoder_features=(4, 4, 3, 3, 2, 2)
)


@dataclasses.dataclass(frozen=True)
class Case:
    """A model with settings under which all its paths are used."""

    kind: Any
    options: dict[str, Any]
    frame: tuple[int, int, int] = (5, 6, 1)
    pads_to: int = 1
    whole: bool = True
    """Whether it stands for its class in what depends on the class and not on the options."""

    def model(self, **options: Any) -> Any:
        return self.kind(**({"dtype": jnp.float64} | self.options | options))

    def takes(self, name: str) -> bool:
        return name in self.kind.__dataclass_fields__

    def variables(self, scale: float = 0.3) -> Tree:
        # Those of float32 frames are the same: names and shapes do not depend on the dtype.
        return random_variables(self.model(), jnp.zeros((1, 2, *self.frame)), scale=scale)

    def clip(self, time: int = GIVEN) -> jax.Array:
        return normal(0, 2, GIVEN + STEPS, *self.frame)[:, :time]

    @property
    def autoregressive(self) -> bool:
        return hasattr(self.kind, "initialize_carry")

    @property
    def forecasts(self) -> bool:
        return hasattr(self.kind, "step")


SETTINGS: dict[str, Any] = dict(channels=1, features=(3, 2), kernel_size=(3,))
CASES = {
    "frame-predictor": Case(
        jcl.FramePredictor, SETTINGS | dict(output="sigmoid", kernel_size=(3, 2)), pads_to=2
    ),
    "motion": Case(
        jcl.FramePredictor,
        dict(channels=1, features=(3,), downsample=4, output="motion", reach=2, peephole="channel"),
        pads_to=4,
        whole=False,
    ),
    "stacked": Case(
        jcl.StackedConvLSTM,
        SETTINGS | dict(kernel_size=(2, 3), activation="relu", norm="batch", patch_size=2),
        pads_to=2,
    ),
    "filter": Case(
        jcl.StackedConvLSTM,
        SETTINGS | dict(output="filter", reach=1, patch_size=2, norm="batch-between"),
        pads_to=2,
        whole=False,
    ),
    "seq2one-lstm": Case(jcl.Seq2OneLSTM, NARROW, (128, 128, 3)),
    "encoder-forecaster": Case(
        jcl.EncoderForecaster,
        SETTINGS | dict(output="sigmoid", patch_size=2, peephole="channel"),
        pads_to=2,
    ),
    "pyramid-forecaster": Case(jcl.PyramidForecaster, SETTINGS | dict(output="sigmoid"), pads_to=2),
    "convlstm-classifier": Case(
        jcl.ConvLSTMClassifier, dict(classes=4, features=(3, 2), downsample=4), pads_to=4
    ),
    "cnn-lstm": Case(jcl.CNNLSTMClassifier, dict(classes=4)),
}


class Programs:
    """The compiled programs of a model, each made when it is first asked for."""

    def __init__(self, case: Case) -> None:
        self.case = case
        self.variables = case.variables()
        self.statistics = {k: v for k, v in self.variables.items() if k != "params"}

    def apply(self, params: Tree, *arguments: Any, model: Any = None, **options: Any) -> Any:
        model = model or self.case.model()
        return model.apply({"params": params} | self.statistics, *arguments, **options)

    @cached_property
    def teaches(self) -> Any:
        """Of params, inputs, teacher and mask: `[batch, GIVEN - 1 + STEPS]`, with gradients."""
        return with_gradients(
            lambda params, inputs, teacher, mask: self.apply(
                params,
                inputs,
                STEPS,
                teacher=teacher,
                teacher_mask=mask > 0,
                dense_targets=True,
            )
        )

    @cached_property
    def streams(self) -> Any:
        """Of params, frames and where they are given: frame by frame, with gradients."""
        model = self.case.model()
        return with_gradients(
            lambda params, *arguments: stream(
                model, {"params": params} | self.statistics, *arguments
            )
        )

    @cached_property
    def runs(self) -> Any:
        """Of params and inputs: what a forecaster or a classifier gives, with gradients."""
        steps = (STEPS,) if self.case.forecasts else ()
        return with_gradients(lambda params, inputs: self.apply(params, inputs, *steps))

    @cached_property
    def predicts(self) -> Any:
        """Of params and inputs: as users call it, forward only, and on frames padded by hand."""
        case = self.case
        height, width, _ = case.frame
        below, right = -height % case.pads_to, -width % case.pads_to
        widths = ((0, 0), (0, 0), (0, below), (0, right), (0, 0))

        def run(params: Tree, inputs: jax.Array) -> dict[str, Any]:
            padded = self.apply(params, jnp.pad(inputs, widths, mode="edge"))
            if not case.forecasts:
                return {"one": self.apply(params, inputs), "padded": padded}
            many, updated = self.apply(params, inputs, STEPS, mutable=["batch_stats"])
            return {
                "one": self.apply(params, inputs),
                "many": many,
                "padded": padded[:, :, :height, :width],
                "statistics": updated,
            }

        return jax.jit(run)

    @cached_property
    def trains(self) -> Any:
        """Of params, inputs and a key: gradients, outputs, statistics; with and without remat."""

        def run(params: Tree, inputs: jax.Array, key: jax.Array) -> Any:
            rates: dict[str, Any] = dict(dropout=0.3, recurrent_dropout=0.3)
            remats = (False, True) if self.case.takes("remat") else (False,)
            steps = (STEPS,) if self.case.forecasts else ()

            def loss(params: Tree, remat: dict[str, Any]) -> Any:
                outputs, updated = self.apply(
                    params,
                    inputs,
                    *steps,
                    model=self.case.model(**rates, **remat),
                    train=True,
                    rngs={"dropout": key},
                    mutable=["batch_stats"],
                )
                return jnp.mean(jnp.square(outputs)), (outputs, updated)

            gradient = jax.grad(loss, has_aux=True)
            return [gradient(params, {"remat": True} if remat else {}) for remat in remats]

        return jax.jit(run)


@pytest.fixture(scope="module", autouse=True)
def double_precision() -> Iterator[None]:
    with jax.enable_x64(True):
        yield


def parameters(*names: str) -> list[Any]:
    return [pytest.param(name, marks=pytest.mark.xdist_group(name)) for name in names]


@pytest.fixture(scope="module")
def programs(request: pytest.FixtureRequest) -> Programs:
    return Programs(CASES[request.param])


def models(condition: Any) -> Any:
    """Runs a test for the programs of each model that fulfils a condition."""
    names = [name for name, case in CASES.items() if condition(case)]
    return pytest.mark.parametrize("programs", parameters(*names), indirect=True)


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
    expected, (params_, frames_, _) = programs.streams(
        cosines(*outputs.shape), programs.variables["params"], frames, jnp.asarray(given)
    )
    assert outputs.dtype == jnp.float64
    np.testing.assert_allclose(outputs, expected, rtol=1e-9, atol=1e-10)
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

    weights = cosines(2, STEPS, *case.frame)
    actual, expected = (
        run(weights, params, case.clip()) for run in (programs.runs, with_gradients(step_by_step))
    )
    assert_trees_close(actual, expected, 1e-9)
    predicted = programs.predicts(params, case.clip())
    np.testing.assert_allclose(predicted["many"], expected[0], rtol=1e-9)
    np.testing.assert_allclose(predicted["one"], expected[0][:, :1], rtol=1e-9)


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


@droppable
def test_dropout_follows_the_key_and_remat_changes_nothing_in_training(
    programs: Programs,
) -> None:
    """Outputs, gradients and statistics of training."""
    given = programs.variables["params"], programs.case.clip(2)
    first, again, other = (programs.trains(*given, jax.random.key(seed)) for seed in (0, 0, 1))
    jax.tree.map(np.testing.assert_array_equal, first, again)
    (gradients, (outputs, updated)), *remat = first
    assert np.abs(outputs - other[0][1][0]).max() > 1e-3
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradients))
    for old, new in zip(*map(jax.tree.leaves, (programs.statistics, updated))):
        assert np.abs(old - new).max() > 1e-3
    for result in remat:
        assert_trees_close(result, (gradients, (outputs, updated)), 1e-9)


@droppable
def test_dropout_of_inputs_and_of_states_act_at_each_step_of_training(programs: Programs) -> None:
    case, steps = programs.case, (2,) if programs.case.forecasts else ()

    @jax.jit
    def train(params: Tree, inputs: jax.Array) -> list[jax.Array]:
        rates: list[dict[str, Any]] = [{}, dict(dropout=0.3), dict(recurrent_dropout=0.3)]
        return [
            programs.apply(
                params,
                inputs,
                *steps,
                model=case.model(**rate),
                train=True,
                rngs={"dropout": jax.random.key(0)} if rate else {},
                mutable=["batch_stats"],
            )[0]
            for rate in rates
        ]

    plain, *dropped = train(programs.variables["params"], case.clip(2))
    for outputs in dropped:
        differences = np.abs(outputs - plain)
        axes = (0, 2, 3, 4) if case.forecasts else (0, 1)
        assert np.min(differences.max(axes)) > 1e-5


@droppable
def test_there_is_dropout_only_in_training_and_only_then_a_prng(programs: Programs) -> None:
    """Programs are compared, not numbers: prediction is the same with and without."""
    case, params, inputs = programs.case, programs.variables["params"], programs.case.clip(2)
    steps = (2,) if case.forecasts else ()

    def lowered(model: Any, **options: Any) -> str:
        return program(
            lambda p, x: programs.apply(p, x, *steps, model=model, **options), params, inputs
        )

    plain = lowered(case.model())
    assert lowered(case.model(dropout=0.3, recurrent_dropout=0.3)) == plain
    if not programs.statistics:
        assert lowered(case.model(), train=True) == plain


@models(lambda case: case.kind is not jcl.CNNLSTMClassifier)  # whose one stands outside any loop
def test_a_cpu_gets_matrix_products_in_place_of_convolutions(programs: Programs) -> None:
    """Some 40 times slower otherwise: the form of the program is tested, not its time."""
    case, params = programs.case, programs.variables["params"]
    steps = (2,) if case.forecasts else ()

    def loss(params: Tree, inputs: jax.Array) -> jax.Array:
        return jnp.sum(
            programs.apply(params, inputs, *steps, train=True, mutable=["batch_stats"])[0]
        )

    assert convolutions(program(jax.grad(loss), params, case.clip())) == []


@models(lambda case: case.whole and case.takes("dtype"))
def test_bfloat16_gives_float32_near_those_of_float64(programs: Programs) -> None:
    case, clip = programs.case, programs.case.clip()
    narrow = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), (programs.variables, clip))
    steps = (STEPS,) if case.forecasts else ()
    half = case.model(dtype=jnp.bfloat16)
    outputs = jax.jit(lambda variables, inputs: half.apply(variables, inputs, *steps))(*narrow)
    assert outputs.dtype == jnp.float32
    predicted = programs.predicts(programs.variables["params"], clip)
    np.testing.assert_allclose(
        outputs,
        predicted["many" if case.forecasts else "one"],
        atol=0.1 if case.frame[0] == 128 else 0.05,
    )


def shape_of(model: Any, inputs: Any, variables: Tree = None, **options: Any) -> Any:
    if variables is None:
        variables = jax.eval_shape(model.init, jax.random.key(0), inputs)
    return jax.eval_shape(partial(model.apply, **options), variables, inputs)


SIZES = [(7, 9), (16, 8), (1, 5)]


@each_class
def test_outputs_have_the_frames_shape_and_are_float32(programs: Programs) -> None:
    case = programs.case
    with jax.enable_x64(False):
        for index, size in enumerate(SIZES if case.pads_to > 1 else [case.frame[:2]]):
            options: dict[str, Any] = dict(dtype=jnp.float32) if case.takes("dtype") else {}
            frame = (*size, case.frame[2])
            if case.takes("channels") and case.pads_to > 1:
                frame = *size, options.setdefault("channels", index + 1)
            if case.takes("downsample"):
                options["downsample"] = (1, 2, 8)[index]
            model = case.kind(**(case.options | options))
            inputs = jax.ShapeDtypeStruct((2, GIVEN, *frame), jnp.float32)
            if not case.forecasts:
                expected: list[Any] = [({}, (2, 4))]
            else:
                expected = [(dict(steps=steps), (2, steps, *frame)) for steps in (1, 4)]
            for arguments, shape in expected:
                found = shape_of(model, inputs, **arguments)
                assert (found.shape, found.dtype) == (shape, jnp.float32)


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
            shape_of(model, large, variables)
        else:
            with pytest.raises(ConfigError, match="spatial peepholes were made for maps of"):
                shape_of(model, large, variables)


@models(lambda case: case.whole and case.takes("activation"))
def test_the_activation_reaches_every_cell_by_name_or_as_a_function(programs: Programs) -> None:
    case, params, inputs = programs.case, programs.variables["params"], programs.case.clip(2)
    named, given, other = (
        program(lambda p, x, m=model: programs.apply(p, x, model=m), params, inputs)
        for model in (case.model(activation=a) for a in ("relu", jax.nn.relu, "tanh"))
    )
    assert named == given
    assert "stablehlo.tanh" in other and "stablehlo.tanh" not in named


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
        shape_of(case.model(), wrong, programs.variables)
