"""Gaps between frames, by the numbers of files of one frame each or by a time coordinate."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from jaxconvlstm.data.sources.arrays.array_series import Series
from jaxconvlstm.data.sources.arrays.stored_array import unreadable
from jaxconvlstm.data.sources.images.listing import PictureSequence
from jaxconvlstm.data.sources.images.numbering import (
    AFTER_GAPS,
    GAPS_ALLOWED,
    gaps_in,
    number_frames,
)
from jaxconvlstm.errors import ConfigError

FINENESS = 1000
"""Steps between times that are no integers are told apart to the median one divided by this."""


def find_gaps(
    series: Sequence[Series], time_format: str | None, allow_gaps: bool
) -> tuple[dict[int, list[int]], list[str]]:
    """The gaps of each sequence, and notes.

    Args:
      series: all of them. Those of one file a frame are put in order of time, if a format is given.
      time_format: how the names of such files tell the time; see `numbering.find_gaps`.
      allow_gaps: count the gaps only.

    Raises:
      ConfigError: a time format without any such files, or one that cannot be read.
      DataError: a name that is not of the format, or a coordinate that cannot be read.
    """
    of_files = [index for index, each in enumerate(series) if each.files]
    if time_format is not None and not of_files:
        raise ConfigError("--time-format: has no effect, as no frames are files of their own")
    after = GAPS_ALLOWED if allow_gaps else AFTER_GAPS
    numbering = number_frames(
        [PictureSequence(series[i].name, Path(), series[i].files) for i in of_files],
        time_format,
        after,
    )
    for index, sequence in zip(of_files, numbering.sequences):
        _reorder(series[index], sequence.files)
    found = {of_files[index]: positions for index, positions in numbering.gaps.items()}
    timed, notes = _gaps_in_times(series, after)
    found |= timed
    gaps: dict[int, list[int]] = {}
    number = 0
    for index, each in enumerate(series):
        for _ in range(each.first, each.stop):
            if index in found and not allow_gaps:
                gaps[number] = found[index]
            number += 1
    return gaps, numbering.notes + notes


def _reorder(series: Series, files: Sequence[str]) -> None:
    """Puts a series' frames in the order of these files."""
    if list(files) == list(series.files):
        return
    places = {name: place for place, name in enumerate(series.files)}
    order = [places[name] for name in files]
    series.sources = [series.sources[place] for place in order]
    series.bad = {new: series.bad[old] for new, old in enumerate(order) if old in series.bad}
    series.files = list(files)


def _gaps_in_times(series: Sequence[Series], after: str) -> tuple[dict[int, list[int]], list[str]]:
    found: dict[int, list[int]] = {}
    missing, disordered, example = 0, [], ""
    for index, each in enumerate(series):
        whole = each.whole
        if whole is None or whole.stored.coordinate is None or each.length < 2:
            continue
        axis = whole.layout.axes.index("T")
        try:
            times = whole.stored.coordinate(axis)
        except Exception as error:
            raise unreadable(whole.stored.name, error) from error
        if times is None or len(times) != each.length:
            continue
        steps = _as_integers(times)
        if steps is None:
            disordered.append(whole.stored.name)
            continue
        gaps = gaps_in(steps, "time")
        if len(gaps.positions):
            found[index] = gaps.positions.tolist()
            missing += gaps.missing
            example = example or f"frame {found[index][0]} of {whole.stored.name}"
    notes = []
    if found:
        count = sum(map(len, found.values()))
        notes.append(
            f"gaps in the time coordinate: {count} ({missing} frames missing), e.g. before "
            f"{example}; {after}"
        )
    if disordered:
        notes.append(
            "time coordinates that do not rise, so that they say nothing about gaps: "
            f"{len(disordered)}, e.g. {disordered[0]}"
        )
    return found, notes


def _as_integers(times: np.ndarray) -> np.ndarray | None:
    """Rising times as integers that are as far apart; None if they do not rise."""
    if times.dtype.kind != "f":
        rising = bool((times[1:] > times[:-1]).all())
        return (times - times[0]).astype(np.int64) if rising else None
    times = times.astype(np.float64)
    steps = np.diff(times)
    if not (np.isfinite(times).all() and (steps > 0).all()):
        return None
    return np.rint((times - times[0]) / np.median(steps) * FINENESS).astype(np.int64)
