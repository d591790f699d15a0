"""The models that the contract holds for, and the few compiled programs that its tests share.

In double precision, with frames of odd sizes. A new model needs a line in `CASES`, and then holds
what `models/test_contract.py` says.
"""

import dataclasses
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
from numerics import (
    Tree,
    normal,
    program,
    random_variables,
    stream,
    with_gradients,
)

import jaxconvlstm as jcl

GIVEN, STEPS = 3, 3  # frames read, and frames predicted after them
NARROW: dict[str, Any] = dict(
    channels=3, encoder_features=(2, 2, 3, 3, 4, 4, 5), decoder_features=(4, 4, 3, 3, 2, 2)
)


@dataclasses.dataclass(frozen=True)
class Case:
    """A model with settings under which all its paths are used.

    Attributes:
      kind, options: its class and settings.
      frame: height, width and channels of the frames.
      pads_to: what frames are padded to a multiple of, if that can be done by hand as well.
      scale: standard deviation of its weights.
      whole: whether it stands for its class, in what does not depend on the options.
    """

    kind: Any
    options: dict[str, Any]
    frame: tuple[int, int, int] = (5, 6, 1)
    pads_to: int = 1
    scale: float = 0.3
    whole: bool = True

    @property
    def large(self) -> bool:
        """Whether its gradients take so long to compile that there is one program of them."""
        return self.frame[0] > 100

    def model(self, **options: Any) -> Any:
        double = dict(dtype=jnp.float64) if self.takes("dtype") else {}
        return self.kind(**(double | self.options | options))

    def takes(self, name: str) -> bool:
        return name in self.kind.__dataclass_fields__

    def variables(self) -> Tree:
        return random_variables(self.model(), jnp.zeros((1, 2, *self.frame)), scale=self.scale)

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
    "seq2one-lstm": Case(jcl.Seq2OneLSTM, NARROW, (128, 128, 3), scale=0.4),
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
# One of each kind of loop. The others take long to compile, and are left to the slow tests.
QUICK = "frame-predictor", "stacked", "encoder-forecaster", "convlstm-classifier", "cnn-lstm"


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

        def run(params: Tree, *arguments: jax.Array) -> jax.Array:
            return stream(model, {"params": params} | self.statistics, *arguments)

        return jax.jit(run) if self.case.large else with_gradients(run)

    @cached_property
    def runs(self) -> Any:
        """Of params and inputs: what a forecaster or a classifier gives, with gradients."""
        return with_gradients(lambda params, inputs: self.apply(params, inputs, *self.steps))

    @cached_property
    def predicts(self) -> Any:
        """Of params and inputs: as users call it, forward only, and on frames padded by hand."""
        case = self.case
        height, width, _ = case.frame
        below, right = -height % case.pads_to, -width % case.pads_to
        widths = ((0, 0), (0, 0), (0, below), (0, right), (0, 0))

        def run(params: Tree, inputs: jax.Array) -> dict[str, Any]:
            padded = self.apply(params, jnp.pad(inputs, widths, mode="edge"))
            many, updated = self.apply(params, inputs, *self.steps, mutable=["batch_stats"])
            if not case.forecasts:
                return {"many": many, "one": many, "padded": padded}
            return {
                "many": many,
                "statistics": updated,
                "one": self.apply(params, inputs),
                "padded": padded[:, :, :height, :width],
            }

        return jax.jit(run)

    @cached_property
    def text(self) -> str:
        """The program of a prediction."""
        return self.lowered(self.case.model())

    def lowered(self, model: Any, **options: Any) -> str:
        """The program of a prediction or of a training by another model."""

        def run(params: Tree, inputs: jax.Array) -> jax.Array:
            return self.apply(params, inputs, *self.steps, model=model, **options)

        return program(run, self.variables["params"], self.case.clip())

    @property
    def steps(self) -> tuple[int, ...]:
        return (STEPS,) if self.case.forecasts else ()
