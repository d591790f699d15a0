"""One step of training, as a pure function of its arguments."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from flax import struct
from jaxtyping import Array

from jaxconvlstm.batch import Batch
from jaxconvlstm.task import Task


class TrainState(struct.PyTreeNode):
    """Everything that a step of training changes.

    Attributes:
      step: number of steps taken, int32 scalar.
      variables: the module's variables (`params`, and batch statistics where a model has them).
      opt_state: the optimizer's state.
      key: raw data of the PRNG key that steps fold their number into, uint32.
      rate_scale: what the learning rate is multiplied by, float32; lower after a plateau.
      average: moving average of `params`, or None where none is kept.
    """

    step: Array
    variables: Any
    opt_state: Any
    key: Array
    rate_scale: Array
    average: Any = None

    @property
    def evaluated(self) -> Any:
        """The variables to evaluate and to load: with the averaged weights, where there are any."""
        if self.average is None:
            return self.variables
        return {**self.variables, "params": self.average}


TrainStep = Callable[[TrainState, Batch], tuple[TrainState, dict[str, Array]]]
"""`train_step(state, batch) -> (state, metrics)`; see `make_train_step`."""


def init_state(
    module: nn.Module,
    optimizer: optax.GradientTransformation,
    frame_shape: tuple[int, int, int],
    seed: int,
    ema: float = 0.0,
) -> TrainState:
    """Makes the state before the first step, with fresh weights; the same for the same seed.

    Args:
      module: the network.
      optimizer: see `optimizer.make_optimizer`.
      frame_shape: `(height, width, channels)` of the frames that weights are made for.
      seed: any number from 0 on.
      ema: as for `make_train_step`.
    """
    init_key, key = jax.random.split(jax.random.key(seed))
    # One frame of one clip is enough: [batch, time, height, width, channels].
    frames = jnp.zeros((1, 1, *frame_shape), jnp.float32)
    variables = jax.jit(module.init)(init_key, frames)
    return begin(variables, optimizer, key, ema)


def begin(
    variables: Any, optimizer: optax.GradientTransformation, key: Array, ema: float = 0.0
) -> TrainState:
    """Makes the state before the first step from weights that are there already."""
    params = variables["params"]
    return TrainState(
        jnp.int32(0),
        variables,
        jax.jit(optimizer.init)(params),
        jax.random.key_data(key),
        jnp.float32(1),
        # A copy: the state is donated to each step, and no buffer can be donated twice.
        jax.tree.map(jnp.copy, params) if ema else None,
    )


def step_key(state: TrainState, step: Array) -> Array:
    """The PRNG key of the step that follows `step` others."""
    return jax.random.fold_in(jax.random.wrap_key_data(state.key), step)


def make_train_step(
    task: Task, optimizer: optax.GradientTransformation, ema: float = 0.0
) -> TrainStep:
    """Makes a step of training: forward pass, loss, gradient, update of the weights.

    A step whose loss, gradient or new weights are not finite leaves variables and optimizer as
    they were, and `metrics["finite"]` is false.

    Args:
      task: defines the loss.
      optimizer: see `optimizer.make_optimizer`.
      ema: decay of the moving average of the weights; 0 keeps none. The average of the first steps
        is of these alone: step t decays by at most `(1 + t) / (10 + t)`.

    Returns:
      `train_step(state, batch) -> (state, metrics)`, a pure function. `metrics` are scalars: `loss`
      and `gradient_norm` (before clipping), float32, and `finite`, bool.
    """

    def train_step(state: TrainState, batch: Batch) -> tuple[TrainState, dict[str, Array]]:
        key = step_key(state, state.step)

        def loss_of(params: Any) -> tuple[Array, Any]:
            return task.loss({**state.variables, "params": params}, batch, state.step, key)

        params = state.variables["params"]
        (loss, changed), gradient = jax.value_and_grad(loss_of, has_aux=True)(params)
        norm = optax.tree.norm(gradient)
        # Optax mixes dtypes (a float to the power of a count), which a caller may have forbidden.
        with jax.numpy_dtype_promotion("standard"):
            updates, opt_state = optimizer.update(gradient, state.opt_state, params)
        # After the optimizer: its moments do not depend on the learning rate.
        updates = jax.tree.map(lambda update: update * state.rate_scale, updates)
        params = optax.apply_updates(params, updates)
        variables = {**state.variables, **changed, "params": params}
        finite = jnp.isfinite(loss) & jnp.isfinite(norm) & jnp.isfinite(optax.tree.norm(variables))
        average = state.average
        if average is not None:
            # Without this bound, fresh weights would dominate the average for about 1 / (1 - ema)
            # steps.
            decay = jnp.minimum(ema, (1 + state.step) / (10 + state.step))
            average = optax.incremental_update(params, average, 1 - decay)
        new = state.replace(variables=variables, opt_state=opt_state, average=average)
        # Chosen on the device: the host need not wait for `finite` before the next step.
        state = jax.tree.map(lambda ours, old: jnp.where(finite, ours, old), new, state)
        state = state.replace(step=state.step + 1)
        return state, {"loss": loss, "gradient_norm": norm, "finite": finite}

    return train_step
