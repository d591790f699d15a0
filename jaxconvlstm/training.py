"""One step of training and of evaluation, as pure functions of their arguments."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from flax import struct
from jaxtyping import Array

from jaxconvlstm.config import TrainingConfig
from jaxconvlstm.data.batch import Batch
from jaxconvlstm.data.values import Values
from jaxconvlstm.losses import batch_loss
from jaxconvlstm.metrics import frame_scores
from jaxconvlstm.tiles import predict_tiled


class TrainState(struct.PyTreeNode):
    """Everything that a step of training changes.

    Attributes:
      step: number of steps taken, int32 scalar.
      variables: the module's variables (`params`, and batch statistics where a model has them).
      opt_state: the optimizer's state.
      key: raw data of the PRNG key that steps fold their number into, uint32.
    """

    step: Array
    variables: Any
    opt_state: Any
    key: Array


def make_schedule(config: TrainingConfig, total_steps: int) -> optax.Schedule:
    """Learning rate by step: a linear warm-up, then constant or a cosine down to a hundredth."""
    peak = config.learning_rate
    warmup = min(config.warmup_steps, max(total_steps - 1, 0))
    if config.schedule == "cosine":
        after = optax.cosine_decay_schedule(peak, max(total_steps - warmup, 1), alpha=0.01)
    else:
        after = optax.constant_schedule(peak)
    if warmup == 0:
        return after
    # The first step already moves: a rate of exactly zero would waste it.
    rise = optax.linear_schedule(peak / (warmup + 1), peak, warmup)
    return optax.join_schedules([rise, after], [warmup])


def make_optimizer(config: TrainingConfig, total_steps: int) -> optax.GradientTransformation:
    """Gradient clipping by global norm, then Adam or AdamW."""
    schedule = make_schedule(config, total_steps)
    if config.optimizer == "adamw":
        optimizer = optax.adamw(schedule, weight_decay=config.weight_decay)
    else:
        optimizer = optax.adam(schedule)
    if config.clip_norm == 0:
        return optimizer
    return optax.chain(optax.clip_by_global_norm(config.clip_norm), optimizer)


def init_state(
    module: nn.Module,
    optimizer: optax.GradientTransformation,
    frame_shape: tuple[int, int, int],
    seed: int,
) -> TrainState:
    """Fresh weights for frames `(height, width, channels)`; the same for the same seed."""
    init_key, key = jax.random.split(jax.random.key(seed))
    frames = jnp.zeros((1, 1, *frame_shape), jnp.float32)
    variables = jax.jit(module.init)(init_key, frames)
    opt_state = jax.jit(optimizer.init)(variables["params"])
    return TrainState(jnp.int32(0), variables, opt_state, jax.random.key_data(key))


def scale_batch(batch: Batch, values: Values) -> tuple[Any, Any, Any]:
    """Inputs, targets and weight on the network's scale; runs on the device.

    Returns:
      inputs `[batch, time, height, width, channels]` and targets `[batch, steps, ...]`, float32,
      and a weight that broadcasts to the targets, 0 where they are missing.
    """
    weight = batch.weight
    if values.missing is not None or values.nan:
        weight = weight * values.valid(batch.targets)
    return values.scale(batch.inputs), values.scale(batch.targets), weight


def make_train_step(
    module: nn.Module,
    optimizer: optax.GradientTransformation,
    values: Values,
    config: TrainingConfig,
    horizon: int = 1,
) -> Callable[[TrainState, Batch], tuple[TrainState, dict[str, Array]]]:
    """`train_step(state, batch) -> (state, metrics)`: forward, loss, backward, update.

    The targets begin `horizon` frames after the last input.

    The model never sees the targets: it predicts freely, feeding its own output back. A step
    whose loss, gradient or new weights are not finite leaves variables and optimizer as they
    were, and says so in `metrics["finite"]`.
    """

    def train_step(state: TrainState, batch: Batch) -> tuple[TrainState, dict[str, Array]]:
        inputs, targets, weight = scale_batch(batch, values)

        def loss_of(params: Any) -> Array:
            variables = {**state.variables, "params": params}
            steps = horizon - 1 + targets.shape[1]
            predictions: Any = module.apply(variables, inputs, steps=steps, train=True)
            predictions = predictions[:, horizon - 1 :]
            return batch_loss(config.loss, predictions, targets, weight)

        loss, gradient = jax.value_and_grad(loss_of)(state.variables["params"])
        norm = optax.tree.norm(gradient)
        params = state.variables["params"]
        updates, opt_state = optimizer.update(gradient, state.opt_state, params)
        updated = optax.apply_updates(params, updates)
        finite = jnp.isfinite(loss) & jnp.isfinite(norm) & jnp.isfinite(optax.tree.norm(updated))
        variables = {**state.variables, "params": updated}
        variables, opt_state = jax.tree.map(
            lambda new, old: jnp.where(finite, new, old),
            (variables, opt_state),
            (state.variables, state.opt_state),
        )
        state = state.replace(step=state.step + 1, variables=variables, opt_state=opt_state)
        return state, {"loss": loss, "gradient_norm": norm, "finite": finite}

    return train_step


def make_eval_step(
    module: nn.Module,
    values: Values,
    loss: str,
    steps: int,
    horizon: int = 1,
    tile: tuple[int, int] | None = None,
) -> Callable[[Any, Batch], dict[str, Any]]:
    """`eval_step(variables, batch)`: predictions and their scores, with persistence's beside them.

    Args:
      module: the model.
      values: scale of the batch's values.
      loss: a key of `losses.LOSSES`.
      steps: frames to score.
      horizon: the first of them, counted from the last input.
      tile: height and width of overlapping tiles to predict in; None predicts whole frames.

    Returns:
      A function whose result holds `predictions` `[batch, steps, height, width, channels]` on the
      network's scale, `loss` and `persistence_loss` (float32 scalars over the batch's valid
      pixels), `weight` (their count), and `model` and `persistence`, each what `frame_scores`
      gives, on the scale where [0, 1] is the value range.
    """

    def eval_step(variables: Any, batch: Batch) -> dict[str, Any]:
        inputs, targets, weight = scale_batch(batch, values)

        def predict(frames: Array) -> Any:
            return module.apply(variables, frames, steps=horizon - 1 + steps)

        predictions: Any = predict_tiled(predict, inputs, tile) if tile else predict(inputs)
        predictions = predictions[:, horizon - 1 :]
        last = inputs[:, -1]
        if values.missing is not None or values.nan:
            last = last_valid(inputs, values.valid(batch.inputs))
        persistence = jnp.broadcast_to(last[:, None], targets.shape)
        weight = jnp.broadcast_to(weight, targets.shape)
        shown, truth, repeated = map(values.display, (predictions, targets, persistence))
        return {
            "predictions": predictions,
            "loss": batch_loss(loss, predictions, targets, weight),
            "persistence_loss": batch_loss(loss, persistence, targets, weight),
            "weight": jnp.sum(weight),
            "model": frame_scores(shown, truth, weight),
            "persistence": frame_scores(repeated, truth, weight),
        }

    return eval_step


def last_valid(inputs: Array, valid: Array) -> Array:
    """Each pixel's last value that is not missing: what persistence repeats.

    Args:
      inputs: `[batch, time, height, width, channels]`.
      valid: likewise, 0 where a value is missing.

    Returns:
      `[batch, height, width, channels]`; a pixel that was never there keeps the last input's.
    """
    last = inputs[:, 0]
    for time in range(1, inputs.shape[1]):
        last = jnp.where(valid[:, time] > 0, inputs[:, time], last)
    return jnp.where(jnp.max(valid, axis=1) > 0, last, inputs[:, -1])
