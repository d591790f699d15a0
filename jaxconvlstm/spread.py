"""Evenly spaced indices."""

import numpy as np


def spread(count: int, most: int) -> np.ndarray:
    """Spread at most `most` indices evenly over `range(count)`, the first and the last included.

    Returns int64 `[min(count, most)]`, ascending: of 10 at most 4 are 0, 3, 6 and 9.
    """
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(np.int64))
