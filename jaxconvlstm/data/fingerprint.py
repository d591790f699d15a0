"""A look at a few windows: what a run knows its data by, and whether they have any target."""

import hashlib

import numpy as np

from jaxconvlstm.data.dataset import Windows
from jaxconvlstm.data.loader import Check, evaluation_batches
from jaxconvlstm.errors import DataError
from jaxconvlstm.scale import Values
from jaxconvlstm.spread import spread

WINDOWS = 4
LOOKED_AT = 256


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


def check_targets(
    windows: Windows, values: Values, timeout: float, check: Check | None = None
) -> None:
    """Raises `DataError` where every target pixel of many windows, evenly spread, is missing.

    Such data would be trained on to the end, with a loss of zero.

    Args:
      windows: of the training split.
      values: says what is missing.
      timeout, check: as for `TrainLoader`.
    """
    if values.missing is None and not values.nan:
        return
    chosen = spread(len(windows), LOOKED_AT).tolist()
    for batch in evaluation_batches(
        windows, 1, threads=1, timeout=timeout, check=check, chosen=chosen
    ):
        if values.valid(batch.targets).any():
            return
    raise DataError(
        f"nothing to train on: every target pixel of {len(chosen)} windows is missing "
        "(--missing-value and --nan say what is)"
    )
