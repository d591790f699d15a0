"""Wider dtypes where they are meant, also under JAX's strict dtype promotion, which allows none."""

from collections.abc import Callable
from functools import reduce, wraps
from typing import Any

import jax
import jax.numpy as jnp


def promoting(function: Callable[..., Any]) -> Callable[..., Any]:
    """Lets wider dtypes take over where they are meant to, also under strict dtype promotion."""

    @wraps(function)
    def run(*arguments: Any, **settings: Any) -> Any:
        with jax.numpy_dtype_promotion("standard"):
            return function(*arguments, **settings)

    return run


@promoting
def widest(*dtypes: Any) -> Any:
    """The dtype that holds floats of all these; an integer among them changes nothing."""
    return reduce(jnp.promote_types, dtypes)
