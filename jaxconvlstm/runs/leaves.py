"""Shapes and dtypes of a checkpoint's arrays, compared before any array is read.

A file that says of itself that it holds an array of a terabyte would have it allocated.
"""

import os
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

Leaf = list[Any]
"""Shape and dtype of an array, as JSON has them: `[[3, 3, 8, 16], "float32"]`."""


def leaves(tree: Any) -> dict[str, Leaf]:
    """Path of every array to its shape and dtype; alike for arrays and for Orbax's metadata."""
    found = {}
    for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
        if hasattr(leaf, "shape"):
            # Orbax turns named tuples into mappings or lists; only the names of the steps count.
            keys = [str(getattr(k, "key", getattr(k, "name", getattr(k, "idx", k)))) for k in path]
            found["/".join(keys)] = [list(leaf.shape), np.dtype(leaf.dtype).name]
    return found


def differences(saved: Mapping[str, Mapping[str, Leaf]], expected: Mapping[str, Any]) -> list[str]:
    """Every leaf that is not what is expected: path, shape saved, shape expected.

    Args:
      saved: the `leaves` of each item of a checkpoint.
      expected: a tree of arrays or `jax.ShapeDtypeStruct` for each item wanted.
    """
    problems = []
    for item, tree in expected.items():
        if item not in saved:
            problems.append(f"{item}: not in the checkpoint")
            continue
        there, wanted = saved[item], leaves(tree)
        problems += [
            f"{item}/{path}: saved {_show(there.get(path))}, expected {_show(wanted.get(path))}"
            for path in sorted(there.keys() | wanted.keys())
            if there.get(path) != wanted.get(path)
        ]
    return problems


def memory_problem(expected: Any) -> str | None:
    """A phrase where a tree of arrays takes more memory than this machine has, else None."""
    size = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(expected))
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if size <= memory:
        return None
    return f"would need {size / 1e9:.1f} GB of memory, this machine has {memory / 1e9:.1f}"


def larger_in_chunks(array: Any) -> bool:
    """Whether an array's chunks, by Orbax's metadata, are larger than itself."""
    storage = getattr(array, "storage_metadata", None)
    chunks = (storage and storage.chunk_shape) or array.shape
    return any(chunk > max(side, 1) for chunk, side in zip(chunks, array.shape, strict=True))


def _show(leaf: Leaf | None) -> str:
    return "nothing" if leaf is None else f"{leaf[1]}{leaf[0]}"
