"""The batch: what the loader gives to training and evaluation."""

from typing import NamedTuple

import numpy as np


class Batch(NamedTuple):
    """Windows of video, and their targets: frames, or a class.

    Attributes:
      inputs: `[batch, time, height, width, channels]`, raw values in the files' dtype.
      targets: frames `[batch, steps, height, width, channels]`, likewise; in general not the
        inputs shifted (they may be cleaner, later or elsewhere). Or int32 `[batch]`, the number of
        each window's class.
      weight: float32, of the targets' rank and broadcastable to them: 0 where a value is missing
        and for rows that only pad the last batch, 1 elsewhere.
    """

    inputs: np.ndarray
    targets: np.ndarray
    weight: np.ndarray
