"""Warnings about data that look like a mistake, each with the flag that helps."""

from typing import Any

import numpy as np

from jaxconvlstm.config.data import DataConfig
from jaxconvlstm.data.sources.base import Frames
from jaxconvlstm.data.windows import window_span
from jaxconvlstm.scale import Values
from jaxconvlstm.tools.inspect.survey import Survey

LARGE_FRAME = 512 * 512
"""Pixels of a frame above which crops are recommended."""


def find_warnings(survey: Survey, frames: Frames, values: Values, config: DataConfig) -> list[str]:
    """One line for everything that looks like a mistake or a waste, with the flag that helps.

    Args:
      survey: of the frames.
      frames, values: the data and their scale.
      config: tells how windows are cut.
    """
    found = []
    if survey.valid == 0:
        return ["every pixel looked at is missing: --missing-value, or the data, are wrong"]
    if survey.constant:
        found.append(
            f"frames that hold a single value: {_of_total(survey.constant, survey.frames)}"
        )
    if survey.equal:
        found.append(
            f"frames that are the same as the one before: {_of_total(survey.equal, survey.pairs)}; "
            "--frame-step skips those that are repeated regularly"
        )
    # Less than a tenth of the range: 12 bits in 16, or values in another unit than expected.
    span = survey.high - survey.low
    if span < 0.1 * (values.high - values.low) and span > 0:
        low, high = _proposed_range(survey, frames.dtype)
        found.append(
            f"values from {plain(survey.low)} to {plain(survey.high)} use "
            f"{percent(span / (values.high - values.low))} of the range {values.describe()}: "
            f"--value-range {low:g} {high:g} would use all of it"
        )
    if survey.outside > 0.01 * survey.valid:
        found.append(
            f"values outside the range {values.describe()}: "
            f"{percent(survey.outside / survey.valid)}; --value-range LO HI sets another"
        )
    found += _missing_codes(survey, frames)
    span_of_window = window_span(
        config.input_frames, config.target_frames, config.frame_step, config.horizon
    )
    # A window lies between two gaps: the longest segment of a sequence counts, not its length.
    longest = {sequence: 0 for sequence in range(len(frames.lengths))}
    for sequence, start, stop in frames.segments():
        longest[sequence] = max(longest[sequence], stop - start)
    if short := sum(length < span_of_window for length in longest.values()):
        found.append(
            f"sequences without {span_of_window} frames in a row, too short for a window: "
            f"{short} of {len(longest)}; fewer --input-frames or --target-frames would use more"
        )
    height, width, _ = frames.frame_shape
    if height * width > LARGE_FRAME and config.size is None and config.crop is None:
        found.append(
            f"frames of {height}x{width} are large: --crop 256 256 trains on parts of them, "
            "--size H W makes them smaller"
        )
    return found


def _missing_codes(survey: Survey, frames: Frames) -> list[str]:
    """Values that may stand for "no data"."""
    size = int(np.prod(frames.frame_shape))
    found = []
    for ends, still in (
        (survey.lowest, survey.still_low),
        (survey.highest, survey.still_high),
    ):
        if len({*survey.lowest, *survey.highest}) < 3:
            continue  # A mask of two values has no code beside its scale.
        value, following = ends
        other = survey.high if value == survey.low else survey.low
        advice = f"if {value:g} means no data, add --missing-value {value:g}"
        # A gap beside the extreme value that is wider than twice all other values' range.
        if abs(following - value) > 2 * abs(other - following):
            found.append(
                f"values of {value:g} are far from all others, which are {plain(following)} to "
                f"{plain(other)}: {advice}"
            )
        # Not 0, the background of many data: a code at the lower end is negative.
        elif still >= 0.01 * size and survey.frames > 2 and (value == survey.high or value < 0):
            found.append(
                f"{percent(still / size)} of the pixels are {value:g} in every frame looked at: "
                + advice
            )
    return found


def _proposed_range(survey: Survey, dtype: np.dtype[Any]) -> tuple[float, float]:
    """The range of as many bits as whole numbers from about 0 on take; else the values found."""
    low, high = survey.low, survey.high
    if dtype.kind in "ui" and 0 <= low <= 0.1 * high:
        return 0.0, float(2 ** int(high).bit_length() - 1)
    return low, high


def percent(fraction: float) -> str:
    """E.g. "24 %", "0.3 %"; never 0 or 100 where it is not."""
    percent = 100 * fraction
    if 0 < percent < 0.01:
        return "less than 0.01 %"
    if 99.5 <= percent < 100:
        return "nearly 100 %"
    return f"{percent:.2g} %" if percent < 10 else f"{percent:.0f} %"


def plain(value: float) -> str:
    """Whole numbers in full, others to four digits."""
    return f"{value:.0f}" if value.is_integer() and abs(value) < 1e9 else f"{value:.4g}"


def _of_total(count: int, total: int) -> str:
    """E.g. "3 of 40 looked at (7.5 %)"."""
    return f"{count} of {total} looked at ({percent(count / total)})"
