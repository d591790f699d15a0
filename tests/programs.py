"""What a traced function is lowered to: for tests about the program rather than its result."""

import re
from collections.abc import Callable
from typing import Any

import jax


def convolutions(function: Callable[..., Any], *arguments: Any, platform: str = "cpu") -> list[str]:
    """The lines of StableHLO that are convolutions, once `function` is lowered for `platform`."""
    traced = jax.jit(function).trace(*arguments)
    text = traced.lower(lowering_platforms=(platform,)).as_text()
    return [line for line in text.splitlines() if "stablehlo.convolution" in line]


def is_plain(convolution: str) -> bool:
    """Whether a convolution is a forward one: batch is batch, nothing strided, dilated or grouped.

    Those are the ones that XLA's CPU backend has a fast path for inside a loop; see conv.py.
    """
    forward = "dim_numbers = [b, 0, 1, f]x[0, 1, i, o]->[b, 0, 1, f]" in convolution
    factors = re.findall(r"(?:stride|lhs_dilate|rhs_dilate) = \[([^\]]*)\]", convolution)
    groups = re.findall(r"group_count = (\d+)", convolution)
    reversed_window = re.search(r"reverse = \[[^\]]*true", convolution)
    return (
        forward
        and all(factor.strip() == "1" for window in factors for factor in window.split(","))
        and all(count == "1" for count in groups)
        and not reversed_window
    )
