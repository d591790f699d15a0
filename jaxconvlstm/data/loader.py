"""Batches of windows: shuffled without end for training, in order once for evaluation."""

import sys
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any, Literal

import grain
import numpy as np

from jaxconvlstm.data.batch import Batch
from jaxconvlstm.data.datasets import Windows
from jaxconvlstm.errors import DataError

BATCHES_AHEAD = 4
"""Batches that are read before they are asked for."""

# The second number of each seed sequence, so that orders, changes and generated films (which count
# splits from 0 there) never draw the same numbers.
ORDER_STREAM = 100
CHANGE_STREAM = 101

Flip = Literal["none", "horizontal", "vertical", "both"]


class TrainLoader:
    """An iterator over batches of training windows that never ends.

    Every epoch has all windows in an order of its own, less those that do not fill a batch. What
    the element `i` of epoch `e` is, its crop and its flip included, follows from
    `(seed, e, i)` alone: not from the number of threads, nor from where the loader was started.
    Use it in a `with` statement, or close it.

    Attributes:
      position: index of the next batch, to `start` from when a run is resumed.
      batches_per_epoch: full batches in an epoch.
    """

    def __init__(
        self,
        windows: Windows,
        batch_size: int,
        seed: int,
        *,
        threads: int,
        crop: tuple[int, int] | None = None,
        flip: Flip = "none",
        reverse: bool = False,
        start: int = 0,
    ):
        """Prepares reading; the first batch is read when it is asked for.

        Args:
          windows: what to read.
          batch_size: windows per batch.
          seed: any number from 0 on.
          threads: threads that read.
          crop: height and width of a random part of the frames, the same in all of a window.
          flip: mirror a window at random: left to right, upside down, or each of both.
          reverse: play a window backwards at random, the targets' end first.
          start: index of the first batch.

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
        self._crop = crop
        self._flip = flip
        self._reverse = reverse
        self.batches_per_epoch = len(windows) // batch_size
        self.position = start
        if crop is not None:
            self._check_crop(crop)
        self._batches = _read_ahead(self._read, range(start, sys.maxsize), threads)

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        batch: Batch = next(self._batches)
        self.position += 1
        return batch

    def __enter__(self) -> "TrainLoader":
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def close(self) -> None:
        """Stops the threads; twice is fine."""
        self._batches.close()

    def _check_crop(self, crop: tuple[int, int]) -> None:
        inputs, _ = _read_named(self._windows, 0, 0)
        height, width = inputs.shape[1:3]
        if crop[0] > height or crop[1] > width:
            raise DataError(
                f"--crop {crop[0]} {crop[1]} is larger than the frames, {height}x{width}"
            )

    def _read(self, number: int) -> Batch:
        """The batch of this number, in a thread."""
        epoch, batch = divmod(number, self.batches_per_epoch)
        first = batch * self._batch_size
        order = _order(self._seed, epoch, len(self._windows))
        chosen = order[first : first + self._batch_size]
        return stack([self._element(epoch, int(index)) for index in chosen])

    def _element(self, epoch: int, index: int) -> tuple[np.ndarray, np.ndarray]:
        """A window, cropped, flipped and reversed."""
        inputs, targets = _read_named(self._windows, epoch, index)
        generator = np.random.default_rng([self._seed, CHANGE_STREAM, epoch, index])
        change = _draw_change(generator, inputs.shape[1:3], self._crop, self._flip)
        inputs, targets = inputs[change], targets[change]
        if self._reverse and generator.integers(2):
            backwards = np.concatenate([inputs, targets])[::-1]
            inputs, targets = backwards[: len(inputs)], backwards[len(inputs) :]
        return inputs, targets


@lru_cache(maxsize=4)
def _order(seed: int, epoch: int, count: int) -> np.ndarray:
    """The order of `count` windows in an epoch; kept for its other batches."""
    return np.random.default_rng([seed, ORDER_STREAM, epoch]).permutation(count)


def evaluation_batches(windows: Windows, batch_size: int, *, threads: int) -> Iterator[Batch]:
    """All windows once and in order.

    A last batch that is not full repeats its last row, with weight 0. No batch has more rows than
    there are windows.

    Args:
      windows: what to read.
      batch_size: windows per batch.
      threads: threads that read.
    """
    batch_size = min(batch_size, len(windows))

    def read(first: int) -> Batch:
        stop = min(first + batch_size, len(windows))
        rows = [_read_named(windows, 0, index) for index in range(first, stop)]
        return stack(rows, batch_size)

    if batch_size == 0:
        return
    batches = _read_ahead(read, range(0, len(windows), batch_size), threads)
    try:
        yield from batches
    finally:
        batches.close()


def _read_ahead(read: Callable[[int], Batch], numbers: range, threads: int) -> Any:
    """Grain's iterator over `read(number)`: threads read ahead, the order is that of `numbers`."""
    batches = grain.MapDataset.range(numbers.start, numbers.stop, numbers.step).map(read)
    options = grain.ReadOptions(
        num_threads=threads, prefetch_buffer_size=max(BATCHES_AHEAD, threads)
    )
    return iter(batches.to_iter_dataset(options))


def _read_named(windows: Windows, epoch: int, index: int) -> tuple[np.ndarray, np.ndarray]:
    """Reads a window; whatever goes wrong names it, on one line."""
    try:
        return windows.read(epoch, index)
    except MemoryError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{windows.name(index)}: {reason}") from error


def _draw_change(
    generator: np.random.Generator,
    frame_size: tuple[int, ...],
    crop: tuple[int, int] | None,
    flip: Flip,
) -> tuple[slice, slice, slice]:
    """A random crop and flip as an index into `[time, height, width, ...]`."""
    axes = []
    for side, part, flips in zip(
        frame_size, crop or frame_size, (("vertical", "both"), ("horizontal", "both")), strict=True
    ):
        # Both are always drawn, so that switching one on does not change the other.
        first, mirrored = int(generator.integers(side - part + 1)), bool(generator.integers(2))
        axis = slice(first, first + part)
        if mirrored and flip in flips:
            axis = slice(first + part - 1, first - 1 if first else None, -1)
        axes.append(axis)
    return slice(None), axes[0], axes[1]


def stack(rows: list[tuple[np.ndarray, np.ndarray]], batch_size: int | None = None) -> Batch:
    """Rows to a batch; up to `batch_size`, the last row is repeated with weight 0."""
    padding = (batch_size or len(rows)) - len(rows)
    weight = np.repeat(np.array([1, 0], np.float32), [len(rows), padding]).reshape(-1, 1, 1, 1, 1)
    rows = rows + rows[-1:] * padding
    inputs, targets = zip(*rows, strict=True)
    return Batch(np.stack(inputs), np.stack(targets), weight)
