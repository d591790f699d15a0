"""The network's scale, measured on the training data where the configuration asks for it."""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from jaxconvlstm.config.data import DataConfig
from jaxconvlstm.data.prefetch import map_in_threads
from jaxconvlstm.data.sources.base import Frames, Segment
from jaxconvlstm.errors import ConfigError, DataError
from jaxconvlstm.scale import Values
from jaxconvlstm.spread import spread

MOST_FRAMES = 10_000
"""Frames that are measured at most, spread evenly over all."""
_AT_ONCE = 16
"""Frames that a thread reads and measures at a time."""


class Statistics(NamedTuple):
    """Statistics of the valid values of some frames, float64 `[channels]`.

    Attributes:
      low, high: smallest and largest raw value.
      mean, deviation: of the values on the scale that `measure` was given.
      frames: number of frames measured.
    """

    low: np.ndarray
    high: np.ndarray
    mean: np.ndarray
    deviation: np.ndarray
    frames: int


def scale_for(
    config: DataConfig, frames: Frames, training: list[Segment]
) -> tuple[Values, list[str]]:
    """The scale that a configuration asks for.

    Args:
      config: says which, see its `value_range`, `normalize`, `transform`, `missing_value`, `nan`.
      frames: the source.
      training: segments of the training split, to measure what has to be.

    Returns:
      The scale, and notes on what was measured.
    """
    notes = []
    chosen = config.value_range or frames.value_range
    if config.threshold is not None:
        if frames.nan_is_missing:
            raise ConfigError("--threshold: the file marks missing values, which would become 0")
        chosen = (0.0, 1.0)  # Frames hold nothing but 0 and 1 then.
    values = dataclasses.replace(
        Values.for_dtype(frames.dtype, chosen, config.missing_value),
        nan=config.nan == "mask" or frames.nan_is_missing,
        unit=config.unit or frames.unit,
    )
    # Pictures fill an unsigned type; nothing says so of floats and of larger or signed integers.
    known = chosen is not None or (frames.dtype.kind == "u" and frames.dtype.itemsize <= 2)
    if not known:
        found = measure(frames, training, values)
        low, high = float(found.low.min()), float(found.high.max())
        # Floats in [0, 1] are taken to be fractions already, even if they do not reach its ends.
        if not (frames.dtype.kind == "f" and low >= 0 and high <= 1):
            # A constant gets a range too, as it would be divided by.
            values = dataclasses.replace(values, low=low, high=high if high > low else low + 1)
            notes.append(
                f"value range: {values.describe()}, the smallest and largest of {found.frames} "
                "training frames (--value-range LO HI sets it)"
            )
    if config.transform == "log":
        values = dataclasses.replace(values, log=True)
        notes.append(f"values on a logarithmic scale above {values.low:g}")
    if config.normalize != "range":
        found = measure(frames, training, values)
        if config.normalize == "min-max":
            ends = (np.asarray(values.fraction(end)) for end in (found.low, found.high))
            mean, top = (end.astype(np.float64) for end in ends)
            std = top - mean
        else:
            mean, std = found.mean, found.deviation
        std = np.where(std > 0, std, 1)  # A constant channel stays 0.
        values = dataclasses.replace(values, mean=tuple(mean.tolist()), std=tuple(std.tolist()))
        notes.append(f"{config.normalize} of each channel from {found.frames} training frames")
    return values, notes


def measure(frames: Frames, segments: Sequence[Segment], values: Values) -> Statistics:
    """Measures the frames of some segments, at most `MOST_FRAMES` of them.

    Args:
      frames: the source.
      segments: of the training split alone.
      values: the scale, which says what values are missing.

    Raises:
      DataError: no valid value, or a frame that cannot be read.
    """
    channels = frames.frame_shape[-1]
    low, high = np.full(channels, np.inf), np.full(channels, -np.inf)
    sums = np.zeros((3, channels))
    jobs = list(_portions(segments))
    measurements = map_in_threads(
        lambda job: _measure_some(frames, values, *job),
        jobs,
        lambda job: f"{frames.names[job[0]]}, frame {frames.frame_name(job[0], job[1][0])}",
    )
    # Sums, so that no more than a few frames are in memory at a time.
    for lowest, highest, *added in measurements:
        low, high = np.minimum(low, lowest), np.maximum(high, highest)
        sums += added
    count, total, squares = sums
    if not count.all():
        raise DataError("the training frames hold no valid value in at least one channel")
    mean = total / count
    # Rounding may leave a constant a variance below 0.
    deviation = np.sqrt(np.maximum(squares / count - mean**2, 0))
    return Statistics(low, high, mean, deviation, sum(len(numbers) for _, numbers in jobs))


def _portions(segments: Sequence[Segment]) -> Iterator[tuple[int, list[int]]]:
    """The sequence and numbers of a few frames at a time, spread evenly over all segments."""
    total = sum(segment.stop - segment.start for segment in segments)
    chosen = spread(total, MOST_FRAMES)
    before = 0  # Frames in the segments before this one.
    for sequence, start, stop in segments:
        here = chosen[(chosen >= before) & (chosen < before + stop - start)] - before + start
        before += stop - start
        for first in range(0, len(here), _AT_ONCE):
            yield sequence, here[first : first + _AT_ONCE].tolist()


def _measure_some(
    frames: Frames, values: Values, sequence: int, numbers: list[int]
) -> tuple[np.ndarray, ...]:
    """Measures a few frames of a sequence.

    Returns:
      The smallest and largest valid raw value; the number of valid values, and the sums of them
      and of their squares on the scale of `values`. All are float64 `[channels]`.
    """
    pixels = frames.read(sequence, numbers)
    axes = (0, 1, 2)  # [time, height, width, channels] -> [channels]
    valid = values.valid(pixels) > 0
    scaled = np.where(valid, values.scale(pixels).astype(np.float64), 0)
    raw = pixels.astype(np.float64)
    return (
        np.where(valid, raw, np.inf).min(axes),
        np.where(valid, raw, -np.inf).max(axes),
        valid.sum(axes).astype(np.float64),
        scaled.sum(axes),
        (scaled**2).sum(axes),
    )
