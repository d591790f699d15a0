"""Tasks: forecasting frames, and classifying clips.

A task defines the loss of a batch and its scores, as pure functions. Training and evaluation are
the same for both.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array

from jaxconvlstm.batch import Batch
from jaxconvlstm.config.run import Config
from jaxconvlstm.config.training import TrainingConfig
from jaxconvlstm.metrics.class_scores import class_scores, cross_entropy
from jaxconvlstm.metrics.frame_scores import frame_scores
from jaxconvlstm.metrics.losses import batch_loss, masked_mean
from jaxconvlstm.metrics.persistence import last_valid
from jaxconvlstm.models.scheduled_sampling import teacher_mask
from jaxconvlstm.models.tiled import predict_tiled
from jaxconvlstm.scale import Values


@dataclasses.dataclass(frozen=True)
class Forecasting:
    """Predicts the frames that follow.

    Attributes:
      module: the model; see `models`.
      values: scale of the batch's values.
      training: its loss and its sampling settings matter here.
      dense_targets: whether all frames after the first are targets, not only those after the
        inputs.
      horizon: the first frame to score, counted from the last input.
      tile: height and width of overlapping tiles to evaluate in; None predicts whole frames.
      sampling_steps: steps after which no true frame is fed back any more.
    """

    module: nn.Module
    values: Values
    training: TrainingConfig
    dense_targets: bool = False
    horizon: int = 1
    tile: tuple[int, int] | None = None
    sampling_steps: int = 1

    def loss(self, variables: Any, batch: Batch, step: Array, key: Array) -> tuple[Array, Any]:
        """The loss of a batch in training.

        Args:
          variables: the module's variables.
          batch: windows in raw values.
          step: number of steps taken, int32 `[]`; scheduled sampling depends on it.
          key: PRNG key of this step, for dropout and sampling.

        Returns:
          The loss, float32 `[]`; and the collections that the forward pass has changed, such as
          batch statistics.
        """
        # [batch, time, height, width, channels]
        inputs, targets, weight = scale_batch(batch, self.values)
        dropout_key, sampling_key = jax.random.split(key)
        # Frames given, and target frames after the last of them.
        given, ahead = inputs.shape[1], targets.shape[1] - self._overlap(batch)
        settings: dict[str, Any] = {"steps": self.horizon - 1 + ahead}
        sampling, curve = self.training.sampling, self.training.sampling_curve
        if sampling != "free":
            mask = teacher_mask(
                sampling, curve, sampling_key, step, self.sampling_steps, len(inputs), given, ahead
            )
            settings |= {"teacher": targets[:, -ahead:], "teacher_mask": mask}
        if sampling == "reverse":
            # Reverse sampling chooses among the input frames, too: the model is given the first
            # alone, and all others are teacher frames.
            settings["teacher"] = jnp.concatenate([inputs[:, 1:], settings["teacher"]], axis=1)
            settings["steps"] = given - 1 + ahead
            inputs = inputs[:, :1]
        elif self.dense_targets:
            settings["dense_targets"] = True
        predictions, changed = self.module.apply(
            variables,
            inputs,
            train=True,
            rngs={"dropout": dropout_key},
            mutable=[name for name in variables if name != "params"],
            **settings,
        )
        # Frames before the horizon are predicted, but have no target.
        predictions = predictions[:, -targets.shape[1] :]
        return batch_loss(self.training.loss, predictions, targets, weight), changed

    def evaluate(self, variables: Any, batch: Batch) -> dict[str, Any]:
        """Free-running predictions and their scores, with persistence's beside them.

        Returns:
          `predictions` `[batch, steps, height, width, channels]` on the network's scale; `loss`
          and `persistence_loss`, float32 scalars over the batch's valid pixels; `weight`, their
          count; and `model` and `persistence`, each what `frame_scores` gives, on the scale where
          [0, 1] is the value range.
        """
        inputs, targets, weight = scale_batch(batch, self.values)
        overlap = self._overlap(batch)
        steps = self.horizon - 1 + targets.shape[1] - overlap
        dense_targets: dict[str, Any] = {"dense_targets": True} if self.dense_targets else {}

        def predict(frames: Array) -> Any:
            return self.module.apply(variables, frames, steps=steps, **dense_targets)

        tile = self.tile
        predictions: Any = predict_tiled(predict, inputs, tile) if tile else predict(inputs)
        predictions = predictions[:, -targets.shape[1] :]
        last = inputs
        if self.values.missing is not None or self.values.nan:
            last = last_valid(inputs, self.values.valid(batch.inputs))
        repeated = jnp.repeat(last[:, -1:], targets.shape[1] - overlap, axis=1)
        # Of a target that is an input too, persistence is the input before it.
        persistence = jnp.concatenate([last[:, :overlap], repeated], axis=1)
        weight = jnp.broadcast_to(weight, targets.shape)
        predicted, truth, unmoved, seen = map(
            self.values.to_unit, (predictions, targets, persistence, inputs)
        )
        if self.values.missing is not None or self.values.nan:
            seen = jnp.where(self.values.valid(batch.inputs) > 0, seen, jnp.nan)
        # With dense targets only the first input is no target.
        seen = seen[:, : seen.shape[1] - overlap]
        name = self.training.loss
        return {
            "predictions": predictions,
            "loss": batch_loss(name, predictions, targets, weight),
            "persistence_loss": batch_loss(name, persistence, targets, weight),
            "weight": jnp.sum(weight),
            "model": frame_scores(predicted, truth, weight, seen),
            "persistence": frame_scores(unmoved, truth, weight, seen),
        }

    def _overlap(self, batch: Batch) -> int:
        """Number of targets that are inputs too."""
        return batch.inputs.shape[1] - 1 if self.dense_targets else 0


@dataclasses.dataclass(frozen=True)
class Classification:
    """Names the class of a clip; the loss is the cross-entropy.

    Attributes:
      module: a classifier; see `models`.
      values: scale of the batch's values.
    """

    module: nn.Module
    values: Values

    def loss(self, variables: Any, batch: Batch, step: Array, key: Array) -> tuple[Array, Any]:
        """See `Forecasting.loss`."""
        del step
        logits, changed = self.module.apply(
            variables,
            self.values.scale(batch.inputs),
            train=True,
            rngs={"dropout": key},
            mutable=[name for name in variables if name != "params"],
        )
        per_example = cross_entropy(logits, batch.targets, batch.weight)
        return masked_mean(per_example, batch.weight), changed

    def evaluate(self, variables: Any, batch: Batch) -> dict[str, Any]:
        """`predictions` `[batch, classes]`, probabilities; and what `class_scores` gives."""
        logits: Any = self.module.apply(variables, self.values.scale(batch.inputs))
        return {
            "predictions": jax.nn.softmax(logits),
            "scores": class_scores(logits, batch.targets, batch.weight),
        }


Task = Forecasting | Classification
"""A loss to minimise in training, and scores for evaluation, as `evaluate.Sums` adds them up."""


def make_task(
    module: nn.Module, values: Values, config: Config, total_steps: int | None = None
) -> Task:
    """Makes the task that a configuration describes.

    Args:
      module: the network.
      values: scale of the data.
      config: tells classification from forecasting, whose loss, horizon and tile it gives.
      total_steps: steps of the run; scheduled sampling lasts for half of them by default. Not
        needed for evaluation.
    """
    if config.model.classifies:
        return Classification(module, values)
    data, training = config.data, config.training
    return Forecasting(
        module,
        values,
        training,
        dense_targets=training.supervise == "all",
        horizon=data.horizon,
        tile=data.tile,
        sampling_steps=training.sampling_steps or max((total_steps or 1) // 2, 1),
    )


def scale_batch(batch: Batch, values: Values) -> tuple[Any, Any, Any]:
    """Brings a batch of frames to the network's scale; runs on the device.

    The loader ships integers, a quarter of the bytes of the float32 that they become here.

    Returns:
      Inputs `[batch, time, height, width, channels]` and targets `[batch, steps, ...]`, float32,
      and a weight that broadcasts to the targets, 0 where they are missing.
    """
    weight = batch.weight
    if values.missing is not None or values.nan:
        weight = weight * values.valid(batch.targets)
    return values.scale(batch.inputs), values.scale(batch.targets), weight
