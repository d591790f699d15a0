"""What a traced function is lowered to."""

from collections.abc import Callable
from typing import Any

import jax


def convolutions(function: Callable[..., Any], *arguments: Any, platform: str = "cpu") -> list[str]:
    """The lines of StableHLO that are convolutions, once `function` is lowered for `platform`."""
    traced = jax.jit(function).trace(*arguments)
    text = traced.lower(lowering_platforms=(platform,)).as_text()
    return [line for line in text.splitlines() if "stablehlo.convolution" in line]
