"""What a step will cost, before it runs: floating-point operations and memory."""

import math
from typing import Any


def count_flops(jaxpr: Any) -> int:
    """Floating-point operations of the convolutions and matrix products in a traced program.

    A multiply and an add are two operations; a loop's body counts once per iteration, which XLA's
    own `cost_analysis` does not do.

    Args:
      jaxpr: e.g. `jax.jit(function).trace(*arguments).jaxpr.jaxpr`.
    """
    total = 0
    for equation in jaxpr.eqns:
        name, parameters = equation.primitive.name, equation.params
        if name == "conv_general_dilated":
            kernel = equation.invars[1].aval.shape
            features = parameters["dimension_numbers"].rhs_spec[0]
            total += (
                2
                * math.prod(equation.outvars[0].aval.shape)
                * (math.prod(kernel) // kernel[features])
            )
        elif name == "dot_general":
            (contracted, _), _ = parameters["dimension_numbers"]
            left = equation.invars[0].aval.shape
            total += (
                2
                * math.prod(equation.outvars[0].aval.shape)
                * math.prod(left[axis] for axis in contracted)
            )
        elif name == "cond":
            # One branch runs: they differ in form (per platform), not in work.
            total += max(count_flops(branch.jaxpr) for branch in parameters["branches"])
        else:
            repeats = parameters.get("length", 1) if name == "scan" else 1
            total += repeats * sum(count_flops(inner) for inner in _inner_jaxprs(parameters))
    return total


def _inner_jaxprs(parameters: dict[str, Any]) -> list[Any]:
    inner = []
    for value in parameters.values():
        candidates = value if isinstance(value, (tuple, list)) else (value,)
        for candidate in candidates:
            candidate = getattr(candidate, "jaxpr", candidate)
            if hasattr(candidate, "eqns"):
                inner.append(candidate)
    return inner


def peak_memory(compiled: Any) -> int | None:
    """Bytes that a compiled function needs at most on its device, or None if XLA does not say."""
    analysis = compiled.memory_analysis()
    if analysis is None:
        return None
    return int(
        analysis.temp_size_in_bytes
        + analysis.argument_size_in_bytes
        + analysis.output_size_in_bytes
        - analysis.alias_size_in_bytes
    )


def human(amount: float, unit: str) -> str:
    """`12_345_678, "B"` to `"12.3 MB"`."""
    for prefix in ("", "k", "M", "G", "T"):
        if abs(amount) < 1000 or prefix == "T":
            break
        amount /= 1000
    return f"{amount:.3g} {prefix}{unit}"
