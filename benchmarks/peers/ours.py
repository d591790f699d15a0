"""The networks of this package, with its own training step."""

import time
from collections.abc import Callable, Sequence
from typing import Any

import flax
import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

from jaxconvlstm import models
from jaxconvlstm.batch import Batch
from jaxconvlstm.config.training import TrainingConfig
from jaxconvlstm.models.autoregressive import AutoregressiveModel
from jaxconvlstm.nn import variants
from jaxconvlstm.nn.conv import Conv, depth_to_space, space_to_depth
from jaxconvlstm.nn.conv_lstm import recurrent_layers, run_layers
from jaxconvlstm.nn.convolution import convolution
from jaxconvlstm.scale import Values
from jaxconvlstm.task import Forecasting
from jaxconvlstm.training.cost import count_flops, peak_memory
from jaxconvlstm.training.step import init_state, make_train_step
from peers import WORKS, Peer, Work

MODES = (*variants.VARIANTS, "remat")


class OpenSTL(AutoregressiveModel):
    """OpenSTL's ConvLSTM-S: ConvLSTM layers on patches, and a 1x1 convolution to patches."""

    features: Sequence[int] = (128, 128, 128, 128)
    kernel_size: Sequence[int] = (5,)
    patch_size: int = 4
    peephole: str | None = None
    activation: str = "tanh"
    dropout: float = 0.0
    recurrent_dropout: float = 0.0
    remat: bool = False
    dtype: Any = jnp.float32

    def setup(self) -> None:
        self.layers = recurrent_layers(self)
        pixels = self.patch_size**2
        self.head = Conv(pixels, (1, 1), use_bias=False, dtype=self.dtype, name="head")

    def observe(self, inputs: Any, train: bool = False, dense_targets: bool = False) -> Any:
        """See `AutoregressiveModel.observe`."""
        carry, hidden = run_layers(self.layers, space_to_depth(inputs, self.patch_size), train)
        return tuple(carry), self._picture(hidden if dense_targets else hidden[:, -1])

    def step(self, carry: Any, frame: Any, train: bool = False) -> Any:
        """See `AutoregressiveModel.step`."""
        hidden, after = space_to_depth(frame, self.patch_size), []
        for layer, state in zip(self.layers, carry):
            state, hidden = layer.step(state, hidden, train)
            after.append(state)
        return tuple(after), self._picture(hidden)

    def _picture(self, hidden: Any) -> Any:
        return depth_to_space(self.head(hidden).astype(jnp.float32), self.patch_size)


def network(work: str, dtype: str = "float32", **settings: Any) -> nn.Module:
    """The network of a work."""
    settings["dtype"] = jnp.dtype(dtype)
    if work == "keras-example":
        return models.StackedConvLSTM(
            channels=1,
            features=(64, 64, 64),
            kernel_size=(5, 3, 1),
            activation="relu",
            norm="batch-between",
            output="sigmoid",
            **settings,
        )
    if work == "openstl":
        return OpenSTL(**settings)
    if work == "seq2one":
        return models.FramePredictor(
            channels=3, features=(64, 64), downsample=8, output="change", **settings
        )
    return models.Seq2OneLSTM(channels=3, **settings)


def task_of(work: Work, module: nn.Module) -> Forecasting:
    """The training task of a work: its loss, and the frames that are fed back."""
    settings = TrainingConfig(
        loss="bce" if work.name == "keras-example" else "mse",
        sampling="scheduled" if work.name == "openstl" else "free",
    )
    values = Values(0.0, 1.0, "float32")
    return Forecasting(
        module, values, settings, dense_targets=work.dense_targets, sampling_steps=10**9
    )


def clips(work: Work, batch: int) -> Batch:
    """Random clips in [0, 1], on the device, as the loader would give them."""
    shape = (batch, work.given + work.predicted, *work.frame)
    frames = jax.random.uniform(jax.random.key(0), shape)
    first = 1 if work.dense_targets else work.given
    return Batch(frames[:, : work.given], frames[:, first:], jnp.ones((batch, 1, 1, 1, 1)))


def build(work: str, mode: str, batch: int, dtype: str, forecast: bool) -> Peer:
    """Compile a training step or forecast; see `peers`.

    `mode` "remat" recomputes the gates in the backward pass; the others are those of `variants`.
    """
    module = network(work, dtype, **({"remat": True} if mode == "remat" else {}))
    with variants.using("default" if mode == "remat" else mode):
        return build_with(module, WORKS[work], batch, forecast)


def build_with(module: nn.Module, work: Work, batch: int, forecast: bool) -> Peer:
    """Compile a training step or forecast of any module that is called as the package's models."""
    began = time.perf_counter()
    traced, bind, parameters = trace(module, work, batch, forecast)
    compiled = traced.lower().compile()
    run = bind(compiled)
    facts = {
        "compile_seconds": round(time.perf_counter() - began, 2),
        "flops": count_flops(traced.jaxpr.jaxpr),
        "peak_memory": peak_memory(compiled),
        "versions": {"jax": jax.__version__, "flax": flax.__version__},
        "device": str(jax.devices()[0].device_kind),
    }
    return Peer(run, parameters, facts)


def trace(
    module: nn.Module, work: Work, batch: int, forecast: bool
) -> tuple[Any, Callable[[Any], Callable[[int], Any]], int]:
    """Trace a training step, or a forecast.

    Returns:
      What was traced; and a function from the compiled program to one that runs it a number of
      times, waits, and returns the last metrics, or the last prediction; the number of parameters.
    """
    task, data, optimizer = task_of(work, module), clips(work, batch), optax.adam(1e-3)
    state = init_state(module, optimizer, work.frame, seed=0)
    if forecast:

        def predict(variables: Any, inputs: jax.Array) -> jax.Array:
            return module.apply(variables, inputs, steps=work.predicted)  # type: ignore

        traced = jax.jit(predict).trace(state.variables, data.inputs)
    else:
        traced = jax.jit(make_train_step(task, optimizer), donate_argnums=0).trace(state, data)

    def bind(compiled: Any) -> Callable[[int], Any]:
        # Each program has a state of its own, which its steps consume.
        holder = [jax.tree.map(jnp.copy, state)]

        def run(count: int) -> Any:
            result = None
            for _ in range(count):
                if forecast:
                    result = compiled(state.variables, data.inputs)
                else:
                    holder[0], result = compiled(holder[0], data)
            return jax.block_until_ready(result)

        return run

    parameters = sum(leaf.size for leaf in jax.tree.leaves(state.variables["params"]))
    return traced, bind, parameters


def bytes_of(equation: Any) -> int | None:
    """What a convolution or a matrix product reads and writes at least; for `cost.count`."""
    if equation.primitive.name in ("dot_general", "conv_general_dilated", convolution.name):
        variables = (*equation.invars, *equation.outvars)
        return sum(v.aval.size * v.aval.dtype.itemsize for v in variables)
    return None


def matrix_product(dtype: str, size: int) -> Peer:
    """A product of two matrices `[size, size]`: the highest rate that the machine can reach."""
    matrix = jax.random.normal(jax.random.key(0), (size, size), jnp.dtype(dtype))
    product = jax.jit(jnp.matmul)
    jax.block_until_ready(product(matrix, matrix))

    def run(count: int) -> None:
        for _ in range(count):
            result = product(matrix, matrix)
        jax.block_until_ready(result)

    return Peer(run, 0, {"flops": 2 * size**3})
