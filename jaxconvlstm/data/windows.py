"""Positions of windows in sequences, and disjoint splits, from lengths and indices alone."""

import bisect
import itertools
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np

from jaxconvlstm.config.data import Split
from jaxconvlstm.data.sources.base import Segment, SplitName
from jaxconvlstm.errors import DataError
from jaxconvlstm.spread import spread

AnySplit = SplitName | Literal["all"]
Splits = dict[SplitName, list[Segment]]
"""The segments of each split."""
SPLIT_NAMES: tuple[SplitName, ...] = ("train", "val", "test")
SEQUENCES_TO_HOLD_OUT = 10
"""With this many sequences, `by="auto"` holds out whole ones."""


def window_span(
    input_frames: int, target_frames: int, frame_step: int = 1, horizon: int = 1
) -> int:
    """Frames that a window spans, skipped ones included; `horizon`: steps to the first target."""
    return (input_frames + horizon - 1 + target_frames - 1) * frame_step + 1


class WindowPositions:
    """The positions `(sequence, first frame)` of all windows in some segments, in order.

    Args:
      segments: where windows may lie; one that is shorter than `span` holds none.
      span: frames from a window's first to its last; see `window_span`.
      stride: frames between the starts of two windows.
      limit: maximum number of windows, spread evenly over all.
    """

    def __init__(
        self, segments: Sequence[Segment], span: int, stride: int = 1, limit: int | None = None
    ):
        self._segments = segments
        self._stride = stride
        counts = [max(0, (s.stop - s.start - span) // stride + 1) for s in segments]
        # The index of each segment's first window, then the total.
        self._firsts = [0, *itertools.accumulate(counts)]
        # Positions are worked out when asked for: there may be millions of windows.
        total = self._firsts[-1]
        self._chosen: Sequence[int] | np.ndarray = range(total)
        if limit is not None and limit < total:
            self._chosen = spread(total, limit)

    def __len__(self) -> int:
        return len(self._chosen)

    def __getitem__(self, index: int) -> tuple[int, int]:
        window = int(self._chosen[index])
        # A segment without windows has the next one's first index; bisect_right picks the last.
        which = bisect.bisect_right(self._firsts, window) - 1
        sequence, start, _ = self._segments[which]
        return sequence, start + (window - self._firsts[which]) * self._stride


def split_segments(
    segments: Sequence[Segment],
    span: int,
    split: Split,
    by: Literal["auto", "sequence", "time"] = "auto",
    groups: Sequence[int] | None = None,
) -> Splits:
    """Divides sequences among training, validation and test so that no frame is in two of them.

    Every split with a fraction above 0 gets room for at least one window. A segment too short for a
    window is in none.

    Args:
      segments: the runs of frames that windows may be cut from, in order.
      span: frames that a window takes; see `window_span`.
      split: the fractions. The rest, where they add up to less than 1, is unused.
      by: "sequence" gives whole sequences to a split: the first ones to training, the last ones to
        test. "time" cuts each sequence into training, validation and test, in this order. "auto"
        holds out sequences if there are at least `SEQUENCES_TO_HOLD_OUT`, or if some share frames.
      groups: the group of each sequence, None if no frame is shared or repeated. A group stays
        whole, and so do its sequences.

    Returns:
      The segments of each split, none for a fraction of 0.

    Raises:
      DataError: a split with a fraction above 0 cannot get a window.
    """
    fractions = {name: getattr(split, name) for name in SPLIT_NAMES if getattr(split, name) > 0}
    pieces: dict[int, list[Segment]] = {}
    for segment in segments:
        if _frames([segment]) >= span:
            pieces.setdefault(segment.sequence, []).append(segment)
    share_frames = groups is not None
    if by == "time" and share_frames:
        raise DataError(
            "--split-by time: some sequences share frames, or repeat them; "
            "--split-by sequence keeps those together"
        )
    if by == "auto":
        many = len(pieces) >= SEQUENCES_TO_HOLD_OUT or share_frames
        by = "sequence" if many else "time"
    if by == "sequence":
        splits = _by_sequence(pieces, fractions, groups)
    else:
        splits = _by_time(pieces, span, fractions)
    if empty := [name for name in fractions if not splits[name]]:
        enough = (
            f"{len(fractions)} sequences of {span} frames "
            + ("with none in common " if share_frames else "")
            + "would do"
            if by == "sequence"
            else f"a sequence of {len(fractions) * span} frames would do"
        )
        raise DataError(
            f"{_frames(segments)} frames leave no window for {' and '.join(empty)} that "
            f"shares no frame with another split: a window takes {span} frames in a row "
            "(--input-frames + --target-frames, at --frame-step and --horizon); "
            f"{enough}, or shorter windows, or --split without {empty[-1]}"
        )
    return splits


def check_fraction(split: Split, name: SplitName) -> None:
    """Raises `DataError` if a split has a fraction of 0 of the data."""
    if getattr(split, name) == 0:
        raise DataError(f"--split {name}=0: the {name} split has no windows")


def allot(total: int, fractions: Mapping[SplitName, float], least: int) -> dict[SplitName, int]:
    """Divides `total` frames or sequences by fractions, each split getting at least `least`.

    The sizes add up to `total` if the fractions add up to 1, and never to more; `total` must hold
    `least` for each.
    """
    sizes = {name: max(round(total * fraction), least) for name, fraction in fractions.items()}
    # Rounding must not leave any unused if the fractions add up to 1.
    if sizes and sum(fractions.values()) > 1 - 1e-9:
        first = next(iter(sizes))  # training, if it has a fraction
        sizes[first] = max(total - sum(sizes.values()) + sizes[first], least)
    excess = sum(sizes.values()) - total
    for name in SPLIT_NAMES:  # Training shrinks first, then validation.
        if name in sizes and excess > 0:
            given = min(excess, sizes[name] - least)
            sizes[name] -= given
            excess -= given
    return sizes


def _by_sequence(
    pieces: dict[int, list[Segment]],
    fractions: dict[SplitName, float],
    groups: Sequence[int] | None,
) -> Splits:
    """Gives whole sequences, each with room for a window, to the splits; groups stay together."""
    splits: Splits = {name: [] for name in SPLIT_NAMES}
    units: dict[int, list[Segment]] = {}
    for sequence, segments in pieces.items():
        units.setdefault(groups[sequence] if groups else sequence, []).extend(segments)
    whole = list(units.values())
    if len(whole) < len(fractions):
        # Too few: the other splits stay empty, which the caller reports.
        splits[next(iter(fractions))] = [segment for segments in whole for segment in segments]
        return splits
    sizes = allot(len(whole), fractions, 1)
    test = len(whole) - sizes.get("test", 0)
    bounds = {"train": (0, sizes.get("train", 0)), "val": (test - sizes.get("val", 0), test)}
    bounds["test"] = (test, len(whole))
    for name in sizes:
        start, stop = bounds[name]
        splits[name] = [segment for segments in whole[start:stop] for segment in segments]
    return splits


def _by_time(
    pieces: dict[int, list[Segment]], span: int, fractions: dict[SplitName, float]
) -> Splits:
    """Cuts each sequence into training, validation and test, each with room for a window."""
    splits: Splits = {name: [] for name in SPLIT_NAMES}
    training_only = []
    for sequence, segments in pieces.items():
        # A sequence too short for all splits serves training and test, or only training.
        served = dict(fractions)
        divided = _divide(segments, span, served)
        for name in ("val", "test"):
            if name in served and len(served) > 1 and not all(divided.values()):
                fraction = served.pop(name)
                served[next(iter(served))] += fraction
                divided = _divide(segments, span, served)
        if list(served) == ["train"]:
            training_only.append(sequence)
        for name, found in divided.items():
            splits[name] += found
    tested = {segment.sequence for segment in splits["test"]}
    # No sequence has room for all splits: one of several in test serves validation.
    if "val" in fractions and not splits["val"] and len(tested) > 1:
        moved = [s for s in splits["test"] if s.sequence == min(tested)]
        splits["val"] = moved
        splits["test"] = [s for s in splits["test"] if s.sequence != min(tested)]
    for name in ("test", "val"):
        left = {segment.sequence for segment in splits["train"]}
        if name in fractions and not splits[name] and training_only and len(left) > 1:
            # Still empty: a sequence that served only training serves it as a whole.
            given = training_only.pop()
            splits["train"] = [s for s in splits["train"] if s.sequence != given]
            splits[name] = pieces[given]
    return splits


def _divide(segments: list[Segment], span: int, fractions: dict[SplitName, float]) -> Splits:
    """Divides one sequence: its start to training, then validation, its end to test.

    Each piece has room for a window, or is empty if the sequence has none.
    """
    splits: Splits = {}
    # Sizes for a sequence that is too short assume that it just fits; some pieces come out empty.
    least = span * len(fractions)
    sizes = allot(max(_frames(segments), least), fractions, span)
    for name in ("test", "val"):
        if name in fractions:
            segments, splits[name] = _take_end(segments, sizes[name], span)
    if "train" not in fractions:
        return splits
    # If the fractions add up to 1, training takes all that is left.
    frames = sizes["train"] if sum(fractions.values()) < 1 - 1e-9 else _frames(segments)
    _, taken = _take_end(_backwards(segments), frames, span)
    splits["train"] = _backwards(taken)
    return splits


def _take_end(
    segments: list[Segment], frames: int, span: int
) -> tuple[list[Segment], list[Segment]]:
    """Cuts off at most the last `frames` frames, but at least `span`; returns the rest and those.

    Segments shorter than `span` are left out of both.
    """
    rest = [s for s in segments if s.stop - s.start >= span]
    taken: list[Segment] = []
    while rest and (not taken or frames >= span):
        last = rest.pop()
        cut = max(last.start, last.stop - max(frames, span))
        taken.insert(0, Segment(last.sequence, cut, last.stop))
        frames -= last.stop - cut
        if cut - last.start >= span:
            rest.append(Segment(last.sequence, last.start, cut))
    return rest, taken


def _backwards(segments: list[Segment]) -> list[Segment]:
    """Mirrored in time: indices negated."""
    return [Segment(s.sequence, -s.stop, -s.start) for s in reversed(segments)]


def _frames(segments: Sequence[Segment]) -> int:
    """Number of frames in some segments."""
    return sum(segment.stop - segment.start for segment in segments)
