"""Finding the layer and frame where a step of training was first not finite."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import Array

from jaxconvlstm.batch import Batch
from jaxconvlstm.models.autoregressive import AutoregressiveModel
from jaxconvlstm.nn.cell import ConvLSTMCell
from jaxconvlstm.task import Task

FAR_OUTSIDE = 1000.0
"""Value ranges; further outside of it than so many, values are more likely at fault than steps."""


def describe_non_finite(task: Task, variables: Any, batch: Batch, step: Array, key: Array) -> str:
    """Computes a step's loss and gradient once more, and names what was not finite first.

    Args:
      task, variables, batch: those of the step.
      step: number of steps before it.
      key: PRNG key of the step; see `step.step_key`.

    Returns:
      A phrase such as "first not finite: layer_1/cell at frame 3", or, where predictions
      are fed back, "first not finite: decoder at lead time 2".
    """
    for name, values in (("inputs", batch.inputs), ("targets", batch.targets)):
        if not _is_finite(task.values.scale(values)):
            return f"first not finite: the {name}, scaled"
    watch = _Watch()
    # Without jit a scan is a loop in Python, and each module returns numbers, not tracers.
    with jax.disable_jit(), nn.intercept_methods(watch.intercept):
        loss = _without_remat(task).loss(variables, batch, step, key)[0]
    if watch.found:
        return f"first not finite: {watch.found}"
    if not _is_finite(loss):
        return "first not finite: the loss itself, of finite predictions"

    # A finite loss can have a gradient that is not: of a square root at zero, for instance.
    def loss_of(params: Any) -> Array:
        return task.loss({**variables, "params": params}, batch, step, key)[0]

    gradient = jax.jit(jax.grad(loss_of))(variables["params"])
    for path, leaf in jax.tree_util.tree_flatten_with_path(gradient)[0]:
        if not _is_finite(leaf):
            name = "/".join(str(getattr(key, "key", key)) for key in path)
            return f"first not finite: the gradient of {name}"
    return "loss and gradient are finite, the weights after the update are not"


def advice(task: Task, batch: Batch) -> str:
    """What to try after a step that was not finite: another value range, or smaller steps."""
    values = jnp.concatenate([jnp.ravel(task.values.fraction(batch.inputs)), jnp.zeros(1)])
    farthest = float(jnp.max(jnp.where(jnp.isnan(values), 0, jnp.abs(values))))
    if farthest > FAR_OUTSIDE:
        return f"values are up to {farthest:.3g} times the value range; set --value-range to theirs"
    return "start anew with a lower --learning-rate or a smaller --clip-norm"


class _Watch:
    """Checks the outputs of each module, in the order of computation, loops included.

    Attributes:
      found: name of the first that was not finite; empty while all are.
    """

    def __init__(self) -> None:
        self.found = ""
        self._cell: tuple[str, ...] = ()
        self._frame = self._ahead = 0
        # Flax calls a method of a scanned module within another of the same name; both arrive here,
        # and only the outer one counts.
        self._entering = self._feeding_back = False

    def intercept(self, method: Any, arguments: Any, keywords: Any, context: Any) -> Any:
        """Calls a module's method, and checks its outputs; see `flax.linen.intercept_methods`."""
        module, name, path = context.module, context.method_name, context.module.path
        arrays = _arrays((arguments, keywords))
        # A method without array arguments only hands out weights; and Flax traces a scan before it
        # runs it.
        if not arrays or any(isinstance(array, jax.core.Tracer) for array in arrays):
            return method(*arguments, **keywords)
        if isinstance(module, AutoregressiveModel) and name == "step":
            self._ahead += not self._feeding_back
            self._feeding_back = True
        if isinstance(module, ConvLSTMCell) and name in ("__call__", "step_from_halfway"):
            if not self._entering:
                self._frame = self._frame + 1 if path == self._cell else 1
            self._cell, self._entering = path, True
        outputs = method(*arguments, **keywords)
        self._entering = self._feeding_back = False
        if not self.found and not all(map(_is_finite, _arrays(outputs))):
            self.found = self._name(path)
        return outputs

    def _name(self, path: tuple[str, ...]) -> str:
        name = "/".join(path) or "the prediction"
        if self._ahead:
            return f"{name} at lead time {self._ahead + 1}"
        if self._cell and path[: len(self._cell)] == self._cell:
            return f"{name} at frame {self._frame}"
        return name


def _without_remat(task: Task) -> Task:
    """The task with a network without rematerialisation, under which values are still traced."""
    if not getattr(task.module, "remat", False):
        return task
    return dataclasses.replace(task, module=task.module.clone(remat=False))


def _arrays(tree: Any) -> list[Array]:
    return [leaf for leaf in jax.tree.leaves(tree) if isinstance(leaf, Array)]


def _is_finite(values: Any) -> Array:
    return jnp.all(jnp.isfinite(values))
