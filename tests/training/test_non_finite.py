"""Where a step was first not finite: found in the order in which the network computes."""

import functools
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxconvlstm import models
from jaxconvlstm.batch import Batch
from jaxconvlstm.config.data import DataConfig
from jaxconvlstm.config.model import ModelConfig
from jaxconvlstm.config.run import Config
from jaxconvlstm.config.training import TrainingConfig
from jaxconvlstm.scale import Values
from jaxconvlstm.task import make_task
from jaxconvlstm.training.non_finite import advice, describe_non_finite

# With kernels of one pixel few operations are compiled, one by one, as the step is taken again.
SMALL: Any = {"features": (3,), "layers": 2, "kernel_size": (1,)}
MODELS = {
    "frame-predictor": ModelConfig(**SMALL),
    "remat": ModelConfig(**SMALL, remat=True),
    "stacked": ModelConfig("stacked", (3,), layers=2, norm="batch", activation="relu"),
    "encoder-forecaster": ModelConfig("encoder-forecaster", **SMALL),
}


@functools.cache
def task_and_variables(name: str) -> tuple[Any, Any]:
    config = Config(
        DataConfig(input_frames=3, target_frames=3), MODELS[name], TrainingConfig(epochs=1)
    )
    module = models.build(config.model, 1)
    task = make_task(module, Values(0.0, 1.0, "float32"), config, 10)
    return task, jax.jit(module.init)(jax.random.key(0), jnp.zeros((2, 3, 8, 8, 1)))


def task_of(name: str) -> tuple[Any, Any, Batch]:
    """A task, variables, and a batch; the last two are the caller's own."""
    task, variables = task_and_variables(name)
    rng = np.random.default_rng(0)
    batch = Batch(
        rng.random((2, 3, 8, 8, 1)).astype(np.float32),
        rng.random((2, 3, 8, 8, 1)).astype(np.float32),
        np.ones((2, 1, 1, 1, 1), np.float32),
    )
    return task, jax.tree.map(lambda leaf: leaf, variables), batch


def describe(task: Any, variables: Any, batch: Batch) -> str:
    return describe_non_finite(
        task, variables, jax.device_put(batch), jnp.int32(0), jax.random.key(1)
    )


def poisoned(variables: Any, path: str, value: float = np.nan) -> Any:
    """The variables, with one number of the leaf at `path` replaced."""

    def change(keys: Any, leaf: Any) -> Any:
        name = "/".join(str(key.key) for key in keys)
        return leaf.at[(0,) * leaf.ndim].set(value) if name == f"params/{path}" else leaf

    changed = jax.tree_util.tree_map_with_path(change, variables)
    assert not jax.tree.all(jax.tree.map(lambda a, b: bool(jnp.all(a == b)), changed, variables))
    return changed


slow = functools.partial(pytest.param, marks=pytest.mark.slow)


@pytest.mark.parametrize(
    "model, path, expected",
    [
        ("frame-predictor", "encoder/stage_0/kernel", "encoder/stage_0"),
        ("frame-predictor", "layer_1/cell/hidden/kernel", "layer_1/cell at frame 1"),
        ("remat", "layer_1/cell/hidden/kernel", "layer_1/cell at frame 1"),
        ("frame-predictor", "decoder/head/bias", "decoder/head"),
        slow("stacked", "layer_0/cell/input/bias", "layer_0/cell/input"),
        slow("stacked", "norm_0/scale", "norm_0"),
        slow("encoder-forecaster", "head/kernel", "head"),
    ],
)
def test_the_first_module_is_named(model: str, path: str, expected: str) -> None:
    task, variables, batch = task_of(model)
    assert describe(task, poisoned(variables, path), batch) == f"first not finite: {expected}"


@pytest.mark.slow
def test_frames_before_the_first_that_is_not_finite_are_counted() -> None:
    task, variables, batch = task_of("stacked")
    batch.inputs[:] = 1e5  # with ReLU, so large are the states, which the second frame multiplies
    kernel = variables["params"]["layer_0"]["cell"]["hidden"]["kernel"]
    variables["params"]["layer_0"]["cell"]["hidden"]["kernel"] = kernel * 1e36
    assert describe(task, variables, batch) == "first not finite: layer_0/cell at frame 2"


@pytest.mark.parametrize("model", ["frame-predictor", "remat", slow("stacked")])
def test_what_overflows_while_feeding_back_has_a_lead_time(model: str) -> None:
    task, variables, batch = task_of(model)
    # What is predicted is huge, and what it is multiplied by, too: beyond float32.
    stacked = model == "stacked"
    variables = poisoned(variables, "head/kernel" if stacked else "decoder/head/bias", 1e20)
    first = "layer_0/cell/input/kernel" if stacked else "encoder/stage_0/kernel"
    variables = poisoned(variables, first, 1e25)
    found = describe(task, variables, batch)
    assert re.search(r"first not finite: \S+ at lead time 2$", found), found


def test_bad_frames_are_found_before_the_network() -> None:
    task, variables, batch = task_of("stacked")
    batch.inputs[1, 2, 3, 4] = np.nan
    assert describe(task, variables, batch) == "first not finite: the inputs, scaled"


def test_a_gradient_that_overflows_is_named_by_its_weights() -> None:
    task, variables, batch = task_of("frame-predictor")
    # The square of the error still fits into float32, its derivative times the kernel does not.
    variables = jax.tree.map(jnp.zeros_like, variables)
    variables = poisoned(variables, "decoder/head/kernel", 3e38)
    batch.targets[:] = 1e12
    assert describe(task, variables, batch).startswith("first not finite: the gradient of ")


def test_advice_is_about_what_is_at_fault() -> None:
    task, _, batch = task_of("frame-predictor")
    assert "--learning-rate" in advice(task, batch)
    far = batch._replace(inputs=batch.inputs * np.float32(1e30))
    assert "times the value range; set --value-range" in advice(task, far)


def test_a_finite_step_is_reported_as_finite() -> None:
    found = describe(*task_of("frame-predictor"))
    assert found == "loss and gradient are finite, the weights after the update are not"
