"""Where a step of training went wrong: the layer and frame that were first not finite."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import Array

from jaxconvlstm.cell import ConvLSTMCell
from jaxconvlstm.data.batch import Batch
from jaxconvlstm.models.feedback import FeedbackModel
from jaxconvlstm.tasks import Task


def describe_non_finite(task: Task, variables: Any, batch: Batch, step: Array, key: Array) -> str:
    """Takes a step's loss and gradient once more, and says what was not finite first.

    Args:
      task, variables, batch: what the step was taken with.
      step: number of steps before it.
      key: PRNG key of the step, as `training.make_train_step` makes it.

    Returns:
      A phrase such as "first not finite: layer_1/cell/hidden at frame 3", or, where predictions
      are fed back, "first not finite: decoder at lead time 2".
    """
    for name, values in (("inputs", batch.inputs), ("targets", batch.targets)):
        if not _is_finite(task.values.scale(values)):
            return f"first not finite: the {name}, scaled"
    watch = _Watch()

    def watched(variables: Any) -> Array:
        with nn.intercept_methods(watch.intercept):
            return task.loss(variables, batch, step, key)[0]

    loss = jax.jit(watched)(variables)
    jax.effects_barrier()
    if watch.found:
        return f"first not finite: {watch.found}"
    if not _is_finite(loss):
        return "first not finite: the loss itself, of finite predictions"

    def loss_of(params: Any) -> Array:
        return task.loss({**variables, "params": params}, batch, step, key)[0]

    gradient = jax.jit(jax.grad(loss_of))(variables["params"])
    for path, leaf in jax.tree_util.tree_flatten_with_path(gradient)[0]:
        if not _is_finite(leaf):
            name = "/".join(str(getattr(key, "key", key)) for key in path)
            return f"first not finite: the gradient of {name}"
    return "loss and gradient are finite, the weights after the update are not"


class _Watch:
    """Looks at what each module returns, in the order it is computed, loops included.

    Attributes:
      found: what was not finite first, empty if all was.
    """

    def __init__(self) -> None:
        self.found = ""
        self._cell: tuple[str, ...] = ()
        self._frame = self._ahead = 0
        # Flax calls a method of a loop's module within another of the same name.
        self._entering = self._feeding_back = False

    def intercept(self, method: Any, arguments: Any, keywords: Any, context: Any) -> Any:
        """Adds two calls of the host to a module's method: before it, and with what it returns."""
        module, name, path = context.module, context.method_name, context.module.path
        if isinstance(module, FeedbackModel) and name == "step":
            jax.debug.callback(self._feed_back, ordered=True)
        if isinstance(module, ConvLSTMCell) and name == "update":
            jax.debug.callback(functools.partial(self._enter, path), ordered=True)
        outputs = method(*arguments, **keywords)
        leaves = [leaf for leaf in jax.tree.leaves(outputs) if isinstance(leaf, Array)]
        if leaves:
            finite = jnp.all(jnp.stack([_is_finite(leaf) for leaf in leaves]))
            jax.debug.callback(functools.partial(self._leave, path), finite, ordered=True)
        return outputs

    def _feed_back(self) -> None:
        self._ahead += not self._feeding_back
        self._feeding_back = True

    def _enter(self, path: tuple[str, ...]) -> None:
        if not self._entering:
            self._frame = self._frame + 1 if path == self._cell else 1
        self._cell, self._entering = path, True

    def _leave(self, path: tuple[str, ...], finite: Any) -> None:
        self._entering = self._feeding_back = False
        if finite or self.found:
            return
        self.found = "/".join(path) or "the prediction"
        if self._ahead:
            self.found += f" at lead time {self._ahead + 1}"
        elif self._cell and path[: len(self._cell)] == self._cell:
            self.found += f" at frame {self._frame}"


def _is_finite(values: Any) -> Array:
    return jnp.all(jnp.isfinite(values))
