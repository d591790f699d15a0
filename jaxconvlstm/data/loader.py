"""Batches of windows: shuffled without end for training, in order once for evaluation."""

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache

import numpy as np

from jaxconvlstm.batch import Batch
from jaxconvlstm.data.augment import Augmentation
from jaxconvlstm.data.dataset import Windows
from jaxconvlstm.data.prefetch import TIMEOUT, ReadAhead, Reading
from jaxconvlstm.data.sources.base import Window
from jaxconvlstm.errors import DataError

# The second number of each seed sequence; see augment.CHANGE_STREAM.
ORDER_STREAM = 100

Check = Callable[[], None]


class TrainLoader(ReadAhead[Batch]):
    """An iterator over batches of training windows that never ends.

    Every epoch has all windows in an order of its own, less those that do not fill a batch. Element
    `i` of epoch `e`, its augmentation included, follows from `(seed, e, i)` alone: not from the
    number of threads, nor from where the loader was started. Use it in a `with` statement, or close
    it.

    A window that cannot be read is a `DataError` that names it, or a `StuckReaderError` if reading
    it did not end in time; its thread may still be running.

    Attributes:
      batches_per_epoch: full batches in an epoch.
    """

    def __init__(
        self,
        windows: Windows,
        batch_size: int,
        seed: int,
        *,
        threads: int,
        augmentation: Augmentation | None = None,
        start: int = 0,
        timeout: float = TIMEOUT,
        check: Check | None = None,
    ):
        """Prepares reading; the first batch is read when it is asked for.

        Args:
          windows: what to read.
          batch_size: windows per batch.
          seed: any number from 0 on.
          threads: threads that read.
          augmentation: random changes of each window; none by default.
          start: index of the first batch.
          timeout: seconds to wait for one window.
          check: called several times a second while waiting for a batch; what it raises ends the
            wait.

        Raises:
          DataError: fewer windows than a batch takes, or frames smaller than the crop.
        """
        if len(windows) < batch_size:
            raise DataError(
                f"--batch-size {batch_size} is more than the {len(windows)} training windows"
            )
        self._windows = windows
        self._batch_size = batch_size
        self._seed = seed
        self._augmentation = None
        if augmentation is not None and augmentation.changes:
            augmentation.check(windows.frame_shape)
            self._augmentation = augmentation
        # The windows left over are others in each epoch: none is left out for good.
        self.batches_per_epoch = len(windows) // batch_size
        numbers = range(start, sys.maxsize)
        super().__init__(self._batch, numbers, threads=threads, timeout=timeout, check=check)

    def _batch(self, reader: ReadAhead[Batch], number: int) -> Batch:
        """The batch of this number, in a thread."""
        # Batches are numbered through all epochs, so a resumed run starts at any of them.
        epoch, batch = divmod(number, self.batches_per_epoch)
        first = batch * self._batch_size
        order = _order(self._seed, epoch, len(self._windows))
        chosen = order[first : first + self._batch_size].tolist()
        return stack(_read_all(reader, self._windows, epoch, chosen, self._element))

    def _element(self, epoch: int, index: int) -> Window:
        """A window, augmented. Of a crop whose place is known, nothing else is read."""
        windows, augmentation = self._windows, self._augmentation
        if augmentation is None:
            return windows.read(epoch, index, None)
        place = (self._seed, epoch, index, windows.frame_shape)
        if not augmentation.needs_frame:
            change = augmentation.draw(*place)
            inputs, targets = windows.read(epoch, index, change.region)
        else:
            # The place follows from the values of the last frame: all has to be read first.
            inputs, targets = windows.read(epoch, index, None)
            change = augmentation.draw(*place, frame=inputs[-1])
            inputs, targets = change.cut(inputs), change.cut(targets)
        return change.apply(inputs, targets, windows.dense_targets)


@lru_cache(maxsize=4)
def _order(seed: int, epoch: int, count: int) -> np.ndarray:
    """The order of `count` windows in an epoch; kept for its other batches."""
    return np.random.default_rng([seed, ORDER_STREAM, epoch]).permutation(count)


def evaluation_batches(
    windows: Windows,
    batch_size: int,
    *,
    threads: int,
    timeout: float = TIMEOUT,
    check: Check | None = None,
    chosen: Sequence[int] | None = None,
) -> Iterator[Batch]:
    """All windows once and in order.

    A last batch that is not full repeats its last row, with weight 0. No batch has more rows than
    there are windows.

    Args:
      windows: what to read.
      batch_size: windows per batch.
      threads: threads that read.
      timeout, check: as for `TrainLoader`.
      chosen: numbers of the windows to read instead of all.

    Raises:
      DataError, StuckReaderError: see `TrainLoader`.
    """
    indices = range(len(windows)) if chosen is None else chosen
    batch_size = min(batch_size, len(indices))
    if batch_size == 0:
        return

    def read(reader: ReadAhead[Batch], first: int) -> Batch:
        rows = _read_all(reader, windows, 0, indices[first : first + batch_size], windows.read)
        return stack(rows, batch_size)

    numbers = range(0, len(indices), batch_size)
    with ReadAhead(read, numbers, threads=threads, timeout=timeout, check=check) as batches:
        yield from batches


def _read_all(
    reader: ReadAhead[Batch],
    windows: Windows,
    epoch: int,
    indices: Iterable[int],
    read: Callable[[int, int], Window],
) -> list[Window]:
    """Reads windows, in a thread; whatever goes wrong names the one it is about, on one line."""
    rows: list[Window] = []
    with Reading(reader, windows.name) as reading:
        for index in indices:
            if reader.closed:
                raise DataError("the loader was closed")
            reading.start(index)
            try:
                rows.append(read(epoch, index))
            except MemoryError:  # Not the data's fault: the run ends with another exit code.
                raise
            except Exception as error:
                reason = " ".join(str(error).split()) or type(error).__name__
                raise DataError(f"{windows.name(index)}: {reason}") from error
    return rows


def stack(rows: list[Window], batch_size: int | None = None) -> Batch:
    """Rows to a batch; up to `batch_size`, the last row is repeated with weight 0."""
    # Every batch has one shape, as another one would be compiled anew.
    count = batch_size or len(rows)
    # Frames have an axis less than a batch of them; classes are `[batch]` in all.
    weight = np.ones((count, *(1 for _ in rows[0][1].shape)), np.float32)
    weight[len(rows) :] = 0
    rows = rows + rows[-1:] * (count - len(rows))
    inputs, targets = zip(*rows, strict=True)
    return Batch(_join(inputs), _join(targets), weight)


def _join(arrays: Sequence[np.ndarray]) -> np.ndarray:
    """As `np.stack`, in less time where the arrays are small."""
    joined = np.empty((len(arrays), *arrays[0].shape), arrays[0].dtype)
    for index, array in enumerate(arrays):
        if array.shape != arrays[0].shape:  # Else it would be broadcast.
            raise DataError(f"windows of shape {array.shape} and {arrays[0].shape} in one batch")
        joined[index] = array
    return joined
