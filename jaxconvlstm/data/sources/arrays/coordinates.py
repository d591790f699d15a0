"""Variables that say where the frames of another one lie in time."""

import contextlib
from collections.abc import Callable, Sequence
from pathlib import PurePosixPath
from typing import Any

import numpy as np

Find = Callable[[str], Any]
"""Looks up a path in a file; None where it holds nothing there."""


def has_coordinate(find: Find, key: str, dimensions: Sequence[str]) -> bool:
    """True if any dimension has a coordinate; of its values nothing is read."""
    return any(_coordinate(find, key, name) is not None for name in dimensions)


def read_coordinate(find: Find, key: str, dimension: str) -> np.ndarray | None:
    """The numbers along a dimension, from the variable of its name; None where there are none.

    Args:
      find: see `Find`.
      key: path of the array whose dimension it is.
      dimension: its name.
    """
    variable = _coordinate(find, key, dimension)
    if variable is None:
        return None
    values: Any = variable[:]
    if np.ma.isMaskedArray(values):
        return np.ma.filled(values.astype(np.float64), np.nan)
    return np.asarray(values)


def _coordinate(find: Find, key: str, dimension: str) -> Any:
    """The variable, of one axis and of numbers: the nearest one, in the array's group or above."""
    group = PurePosixPath(key).parent
    for place in (group, *group.parents):
        # Other libraries fail in their own ways where a name stands for something else.
        with contextlib.suppress(Exception):
            found = find(str(place / dimension))
            if found is not None:
                return found if found.dtype.kind in "iuf" and len(found.shape) == 1 else None
    return None
