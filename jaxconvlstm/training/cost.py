"""Cost of a training step, before it runs: floating-point operations and memory."""

import math
import time
from collections.abc import Callable
from typing import Any

import jax

from jaxconvlstm.batch import Batch
from jaxconvlstm.device import device_memory, memory_advice
from jaxconvlstm.memory import hand_back_freed_memory
from jaxconvlstm.nn.convolution import convolution, multiplications
from jaxconvlstm.training.step import TrainState, TrainStep

LESS_MEMORY = (
    "try a smaller --batch-size or --crop, fewer --input-frames, --remat, or --dtype bfloat16"
)
"""What to try where the device has too little memory."""


def compile_step(
    train_step: TrainStep, state: TrainState, batch: Batch, say: Callable[[str], None]
) -> TrainStep:
    """Compiles a training step ahead of time, for one shape of batch, and says what it costs.

    Args:
      train_step: see `step.make_train_step`.
      state, batch: of the shapes that it will be called with. Its calls consume the state.
      say: prints a line.

    Raises:
      ResourceError: it needs more memory than the device has; its calls may raise it, too.
    """
    parameters = sum(leaf.size for leaf in jax.tree.leaves(state.variables["params"]))
    began = time.monotonic()
    with memory_advice(LESS_MEMORY):
        # The state is donated, so that old and new weights take the same memory.
        traced = jax.jit(train_step, donate_argnums=0).trace(state, batch)
        compiled = traced.lower().compile()
    hand_back_freed_memory()  # the compiler's
    flops, memory = count_flops(traced.jaxpr.jaxpr), peak_memory(compiled)
    say(
        f"{parameters:,} parameters, {human(flops, 'FLOP')} a step, "
        + (f"peak memory of a step {human(memory, 'B')}, " if memory else "")
        + f"compiled in {time.monotonic() - began:.1f} s"
    )
    available = device_memory()
    if memory and available and memory > available:
        say(f"warning: the device has {human(available, 'B')}; {LESS_MEMORY}")

    def step(state: TrainState, batch: Batch) -> Any:
        with memory_advice(LESS_MEMORY):
            return compiled(state, batch)

    return step


def count_flops(jaxpr: Any) -> int:
    """Counts floating-point operations of convolutions and matrix products in a traced program.

    A multiplication and an addition are two operations. A loop's body counts once per iteration;
    XLA's own `cost_analysis` counts it once in all.

    Args:
      jaxpr: e.g. `jax.jit(function).trace(*arguments).jaxpr.jaxpr`.
    """
    return count(jaxpr, _flops_of)


def count(jaxpr: Any, of_equation: Callable[[Any], int | None]) -> int:
    """Sum a number over all equations of a traced program; a loop's body as often as it runs.

    Args:
      jaxpr: see `count_flops`.
      of_equation: the number of one equation; None for one that counts by the programs within.
    """
    total = 0
    for equation in jaxpr.eqns:
        number = of_equation(equation)
        if number is not None:
            total += number
            continue
        # The programs within, e.g. a loop's body or a function that is called.
        leaves = jax.tree.leaves([*equation.params.values()])
        parts = [getattr(leaf, "jaxpr", leaf) for leaf in leaves]
        inner = [count(part, of_equation) for part in parts if hasattr(part, "eqns")]
        name = equation.primitive.name
        repeats = equation.params.get("length", 1) if name == "scan" else 1
        # Of a condition one branch runs: they differ in form (per platform), not in work.
        total += max(inner) if name == "cond" else repeats * sum(inner)
    return total


def _flops_of(equation: Any) -> int | None:
    """Of a convolution or a matrix product; None of any other equation."""
    if equation.primitive is convolution:
        return 2 * multiplications(equation)
    operands = [variable.aval.shape for variable in equation.invars]
    if equation.primitive.name == "conv_general_dilated":
        # Each output is a sum over the kernel's height, width and input features.
        features = equation.params["dimension_numbers"].rhs_spec[0]
        summed = math.prod(operands[1]) // operands[1][features]
    elif equation.primitive.name == "dot_general":
        (contracted, _), _ = equation.params["dimension_numbers"]
        summed = math.prod(operands[0][axis] for axis in contracted)
    else:
        return None
    return 2 * math.prod(equation.outvars[0].aval.shape) * summed


def peak_memory(compiled: Any) -> int | None:
    """Bytes that a compiled function needs at most on its device, or None if XLA does not say."""
    analysis = compiled.memory_analysis()
    if analysis is None:
        return None
    # What is donated is argument and output at once.
    return int(
        analysis.temp_size_in_bytes
        + analysis.argument_size_in_bytes
        + analysis.output_size_in_bytes
        - analysis.alias_size_in_bytes
    )


def human(amount: float, unit: str) -> str:
    """Formats an amount with its SI prefix: `12_345_678, "B"` as "12.3 MB"."""
    for prefix in ("", "k", "M", "G", "T"):
        if abs(amount) < 1000 or prefix == "T":
            break
        amount /= 1000
    return f"{amount:.3g} {prefix}{unit}"
