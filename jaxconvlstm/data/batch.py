"""What the loader hands to training and evaluation."""

from typing import NamedTuple

import numpy as np


class Batch(NamedTuple):
    """Windows of video, and what should be predicted from them.

    Attributes:
      inputs: `[batch, time, height, width, channels]`, the files' own dtype and values.
      targets: `[batch, steps, height, width, channels]`, likewise; not the inputs shifted, in
        general (they may be cleaner, later or elsewhere).
      weight: float32, broadcastable to `targets`: 0 where a value is missing and for rows that
        only pad the last batch, 1 elsewhere.
    """

    inputs: np.ndarray
    targets: np.ndarray
    weight: np.ndarray
