"""Survey of data: values, changes between frames, and errors of repeating the last frame."""

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np

from jaxconvlstm.data.dataset import Windows
from jaxconvlstm.data.sources.base import Frames, Segment
from jaxconvlstm.metrics.persistence import last_valid
from jaxconvlstm.scale import Values
from jaxconvlstm.spread import spread

MOST_FRAMES = 200
MOST_WINDOWS = 100
# Frames and windows are also limited by their size, so that large ones take a minute at most.
MOST_VALUES = 300_000_000
LEAST_FRAMES = 16
LEAST_WINDOWS = 4


@dataclasses.dataclass
class Survey:
    """Statistics of some frames, spread evenly over all.

    Attributes:
      frames: number of frames looked at.
      values: number of their values, of which `valid` are not missing.
      lowest, highest: the two smallest, and the two largest, valid values that differ, the extreme
        one first; fewer if there are no two.
      total: sum of the valid values.
      outside: number of valid values outside the value range.
      constant: number of frames of several pixels that hold a single value.
      pairs: number of pairs of consecutive frames, of which `equal` hold the same values.
      change: sum over the pairs of the mean absolute change, in fractions of the value range.
      liveliest: sequence and frame after which most changes, None without a pair.
      still_low, still_high: number of a frame's values that are the extreme one in all frames.
    """

    frames: int = 0
    values: int = 0
    valid: int = 0
    lowest: tuple[float, ...] = ()
    highest: tuple[float, ...] = ()
    total: float = 0.0
    outside: int = 0
    constant: int = 0
    pairs: int = 0
    equal: int = 0
    change: float = 0.0
    liveliest: tuple[int, int] | None = None
    still_low: int = 0
    still_high: int = 0

    @property
    def low(self) -> float:
        """Smallest valid value."""
        return self.lowest[0] if self.lowest else float("nan")

    @property
    def high(self) -> float:
        """Largest valid value."""
        return self.highest[0] if self.highest else float("nan")

    @property
    def mean(self) -> float:
        """Mean of the valid values."""
        return self.total / self.valid if self.valid else float("nan")

    @property
    def mean_change(self) -> float:
        """Mean absolute change between consecutive frames, in fractions of the value range."""
        return self.change / self.pairs if self.pairs else float("nan")


def survey_frames(frames: Frames, values: Values) -> Survey:
    """Survey up to `MOST_FRAMES` frames: all, or pairs of consecutive ones.

    Args:
      frames: read one at a time.
      values: their scale; what is missing counts in no statistic.

    Raises:
      DataError: a frame that cannot be read.
    """
    survey = Survey()
    most_change = -1.0
    first: np.ndarray | None = None
    same = np.ones(frames.frame_shape, bool)  # [H, W, C]: as in the first frame, in all so far
    size = int(np.prod(frames.frame_shape))
    for segment in _segments_to_read(frames.segments(), size):
        previous = None
        for number in range(segment.start, segment.stop):
            pixels = frames.read(segment.sequence, [number])[0]
            valid = values.valid(pixels) > 0
            _add_frame(survey, pixels, valid, values)
            if first is None:
                first = pixels
                same &= valid
            same &= pixels == first
            if previous is not None:
                # The mean absolute change of values that are valid in both frames.
                change, both = 0.0, previous[1] & valid
                if both.any():
                    changes = np.abs(values.fraction(pixels) - values.fraction(previous[0]))
                    change = float(changes.mean(dtype=np.float64, where=both))
                survey.pairs += 1
                # NaN equals NaN here; integers have none to look for.
                has_nan = pixels.dtype.kind == "f"
                survey.equal += np.array_equal(previous[0], pixels, equal_nan=has_nan)
                survey.change += change
                if change > most_change:
                    most_change, survey.liveliest = change, (segment.sequence, number - 1)
            previous = pixels, valid
    if first is not None:
        survey.still_low = int((same & (first == survey.low)).sum())
        survey.still_high = int((same & (first == survey.high)).sum())
    return survey


def _segments_to_read(segments: Sequence[Segment], size: int) -> Iterator[Segment]:
    """All segments, if they are short; else pairs of frames, evenly over all."""
    total = sum(s.stop - s.start for s in segments)
    most = min(MOST_FRAMES, max(LEAST_FRAMES, MOST_VALUES // size))
    if total <= most:
        yield from segments
        return
    chosen = spread(total, most // 2)
    before = 0  # frames of earlier segments
    for sequence, start, stop in segments:
        length = stop - start
        # The indices that fall into this segment, counted from its start.
        for place in chosen[(chosen >= before) & (chosen < before + length)] - before:
            first = start + max(0, min(int(place), length - 2))
            yield Segment(sequence, first, min(first + 2, stop))
        before += length


def _add_frame(survey: Survey, pixels: np.ndarray, valid: np.ndarray, values: Values) -> None:
    survey.frames += 1
    survey.values += pixels.size
    there = pixels if valid.all() else pixels[valid]
    if there.size == 0:
        return
    low, high = there.min(), there.max()
    survey.valid += there.size
    survey.total += float(there.sum(dtype=np.float64))
    survey.constant += bool(low == high and pixels[..., 0].size > 1)
    # The two extreme values of everything so far are among those of each frame.
    ends = {*survey.lowest, *survey.highest, float(low), float(high)}
    if low < high:
        ends |= {float(there.min(where=there > low, initial=high))}
        ends |= {float(there.max(where=there < high, initial=low))}
    ordered = sorted(ends)
    survey.lowest, survey.highest = tuple(ordered[:2]), tuple(ordered[:-3:-1])
    if low < values.low or high > values.high:
        survey.outside += int(((there < values.low) | (there > values.high)).sum())


def persistence_errors(windows: Windows, values: Values) -> tuple[list[float], list[float], int]:
    """Score the repeated last frame, as `eval.py` does.

    Args:
      windows: of which up to `MOST_WINDOWS` are read, spread evenly.
      values: their scale.

    Returns:
      Mean squared and mean absolute error for each target frame, of its valid values, in fractions
      of the value range (NaN where no window has a valid value); and the number of windows.
    """
    errors = []
    size = int(np.prod(windows.frame_shape))
    steps = len(windows.read(0, 0)[1])
    most = min(MOST_WINDOWS, max(LEAST_WINDOWS, MOST_VALUES // (size * steps)))
    chosen = spread(len(windows), most)
    for index in chosen:
        inputs, targets = windows.read(0, int(index))
        valid = values.valid(inputs)
        if valid[-1].all():
            inputs, valid = inputs[-1:], valid[-1:]  # nothing to look for in earlier frames
        last = values.to_unit(last_valid(values.scale(inputs), valid)[-1])
        rows = []
        for target in targets:
            valid = values.valid(target) > 0
            if not valid.any():
                rows.append((np.nan, np.nan))
                continue
            error = values.to_unit(values.scale(target)) - last
            squared = (error**2).mean(dtype=np.float64, where=valid)
            rows.append((squared, np.abs(error).mean(dtype=np.float64, where=valid)))
        errors.append(rows)
    table = np.array(errors)  # [windows, steps, 2]
    # A mean over the windows where the frame has valid values: nanmean would warn without any.
    count = np.isfinite(table).sum(axis=0)
    means = np.where(count > 0, np.nansum(table, axis=0) / np.maximum(count, 1), np.nan)
    return means[:, 0].tolist(), means[:, 1].tolist(), len(chosen)
