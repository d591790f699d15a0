"""A few of many, evenly over all."""

import numpy as np


def spread(count: int, most: int) -> np.ndarray:
    """All of `count` indices, or `most` of them: the first, the last and equal gaps between."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(np.int64))
