"""What the loader hands to training and evaluation."""

from typing import NamedTuple

import numpy as np


class Batch(NamedTuple):
    """Windows of video, and what should be predicted from them: frames, or a class.

    Attributes:
      inputs: `[batch, time, height, width, channels]`, the files' own dtype and values.
      targets: frames `[batch, steps, height, width, channels]`, likewise; not the inputs shifted,
        in general (they may be cleaner, later or elsewhere). Or int32 `[batch]`, the number of
        each window's class.
      weight: float32, of the targets' rank and broadcastable to them: 0 where a value is missing
        and for rows that only pad the last batch, 1 elsewhere.
    """

    inputs: np.ndarray
    targets: np.ndarray
    weight: np.ndarray
