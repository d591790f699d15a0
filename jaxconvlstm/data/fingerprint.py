"""A digest of a few windows, by which a resumed run finds that its data have changed."""

import hashlib

import numpy as np

from jaxconvlstm.data.dataset import Windows
from jaxconvlstm.data.loader import Check, evaluation_batches
from jaxconvlstm.spread import spread

WINDOWS = 4


def fingerprint(windows: Windows, timeout: float, check: Check | None = None) -> str:
    """The SHA-256 digest of the number and shape of windows and the values of four, evenly spread.

    It is the same wherever the data lie, and for generated clips, whose digits may have been
    exchanged, as for files. A change within windows that are not looked at goes unnoticed.

    Args:
      windows: of the training split.
      timeout, check: as for `TrainLoader`.

    Raises:
      DataError, StuckReaderError: a window cannot be read.
    """
    digest = hashlib.sha256(f"{len(windows)} {windows.frame_shape}".encode())
    # Through a loader, whose time limit ends a read that would never end.
    chosen = spread(len(windows), WINDOWS).tolist()
    for batch in evaluation_batches(
        windows, 1, threads=1, timeout=timeout, check=check, chosen=chosen
    ):
        for array in (batch.inputs[0], batch.targets[0]):
            # The same bytes are other values in another dtype or shape.
            digest.update(f"{array.dtype} {array.shape}".encode())
            digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
