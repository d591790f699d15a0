"""Where windows lie in sequences, and splits that share no frame. Lengths and indices only."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np

from jaxconvlstm.config import Split
from jaxconvlstm.errors import DataError

PartName = Literal["train", "val", "test"]
SplitName = PartName | Literal["all"]
SPLIT_NAMES: tuple[PartName, ...] = ("train", "val", "test")
SEQUENCES_TO_HOLD_OUT = 10
"""From so many sequences on, "auto" holds out whole sequences."""


class Stretch(NamedTuple):
    """The frames `start` to `stop - 1` of a sequence."""

    sequence: int
    start: int
    stop: int


def window_span(input_frames: int, target_frames: int, frame_step: int = 1) -> int:
    """Number of frames from the first to the last of a window, those stepped over included."""
    return (input_frames + target_frames - 1) * frame_step + 1


class WindowPositions:
    """The positions `(sequence, first frame)` of all windows in some stretches, in order.

    Args:
      stretches: where windows may lie; one that is shorter than `span` holds none.
      span: frames from a window's first to its last; see `window_span`.
      stride: frames between the starts of two windows.
      limit: most windows; they are then spread evenly over all.
    """

    def __init__(
        self, stretches: Sequence[Stretch], span: int, stride: int = 1, limit: int | None = None
    ):
        self._stretches = stretches
        self._stride = stride
        counts = [max(0, (s.stop - s.start - span) // stride + 1) for s in stretches]
        self._ends = np.cumsum(counts, dtype=np.int64)
        self._firsts = self._ends - counts
        total = sum(counts)
        self._chosen: Sequence[int] | np.ndarray = range(total)
        if limit is not None and limit < total:
            self._chosen = np.linspace(0, total - 1, limit).round().astype(np.int64)

    def __len__(self) -> int:
        return len(self._chosen)

    def __getitem__(self, index: int) -> tuple[int, int]:
        window = int(self._chosen[index])
        which = int(np.searchsorted(self._ends, window, side="right"))
        stretch = self._stretches[which]
        offset = window - int(self._firsts[which])
        return stretch.sequence, stretch.start + offset * self._stride


def split_stretches(
    lengths: Sequence[int],
    span: int,
    split: Split,
    by: Literal["auto", "sequence", "time"] = "auto",
) -> dict[PartName, list[Stretch]]:
    """Divides sequences among training, validation and test so that no frame is in two of them.

    Every split with a share gets room for at least one window. A sequence too short for a window
    is in none.

    Args:
      lengths: frames of each sequence.
      span: frames that a window takes; see `window_span`.
      split: the shares. What they leave over, up to 1, is unused.
      by: "sequence" gives whole sequences to a split: the first ones to training, the last ones to
        test. "time" gives the first part of each to training and its last part to test. "auto"
        holds out sequences if there are at least `SEQUENCES_TO_HOLD_OUT`.

    Returns:
      The stretches of each split, none for a share of 0.

    Raises:
      DataError: a split with a share cannot get a window.
    """
    shares = {name: getattr(split, name) for name in SPLIT_NAMES if getattr(split, name) > 0}
    long_enough = [index for index, length in enumerate(lengths) if length >= span]
    if by == "auto":
        by = "sequence" if len(long_enough) >= SEQUENCES_TO_HOLD_OUT else "time"
    divide = _by_sequence if by == "sequence" else _by_time
    stretches = divide({index: lengths[index] for index in long_enough}, span, shares)
    if empty := [name for name in shares if not stretches[name]]:
        enough = (
            f"{len(shares)} sequences of {span} frames would do"
            if by == "sequence"
            else f"a sequence of {len(shares) * span} frames would do"
        )
        raise DataError(
            f"{sum(lengths)} frames leave no window for {' and '.join(empty)} that "
            f"shares no frame with another split: a window takes {span} frames in a row "
            "(--input-frames + --target-frames, at --frame-step); "
            f"{enough}, or shorter windows, or --split without {empty[-1]}"
        )
    return stretches


def check_share(split: Split, name: PartName) -> None:
    """Raises `DataError` if a split has no share of the data."""
    if getattr(split, name) == 0:
        raise DataError(f"--split {name}=0: the {name} part has no windows")


def _allot(total: int, shares: dict[PartName, float], least: int) -> dict[PartName, int]:
    """Shares of `total` frames or sequences, each at least `least`; `total` must hold these."""
    sizes = {name: max(round(total * share), least) for name, share in shares.items()}
    if sum(shares.values()) > 1 - 1e-9:
        sizes["train"] = max(total - sum(sizes.values()) + sizes["train"], least)
    excess = sum(sizes.values()) - total
    for name in SPLIT_NAMES:  # Training gives first, then validation.
        if name in sizes and excess > 0:
            given = min(excess, sizes[name] - least)
            sizes[name] -= given
            excess -= given
    return sizes


def _lay_out(total: int, sizes: dict[PartName, int]) -> dict[PartName, tuple[int, int]]:
    """Start and stop of each split in `range(total)`: training at its start, test at its end."""
    test = total - sizes.get("test", 0)
    bounds: dict[PartName, tuple[int, int]] = {
        "train": (0, sizes["train"]),
        "val": (test - sizes.get("val", 0), test),
        "test": (test, total),
    }
    return {name: bounds[name] for name in sizes}


def _by_sequence(
    lengths: dict[int, int], span: int, shares: dict[PartName, float]
) -> dict[PartName, list[Stretch]]:
    """Whole sequences, of which each holds a window; `lengths` by their index."""
    stretches: dict[PartName, list[Stretch]] = {name: [] for name in SPLIT_NAMES}
    whole = [Stretch(index, 0, length) for index, length in lengths.items()]
    if len(whole) < len(shares):
        stretches["train"] = whole
        return stretches
    for name, (start, stop) in _lay_out(len(whole), _allot(len(whole), shares, 1)).items():
        stretches[name] = whole[start:stop]
    return stretches


def _by_time(
    lengths: dict[int, int], span: int, shares: dict[PartName, float]
) -> dict[PartName, list[Stretch]]:
    """Parts of each sequence, of which each holds a window; `lengths` by their index."""
    stretches: dict[PartName, list[Stretch]] = {name: [] for name in SPLIT_NAMES}
    for index, length in lengths.items():
        # Too short for a window of every split, a sequence serves training and test, or only
        # training.
        served = dict(shares)
        for name in ("val", "test"):
            if name in served and length < len(served) * span:
                served["train"] += served.pop(name)
        for name, bounds in _lay_out(length, _allot(length, served, span)).items():
            stretches[name].append(Stretch(index, *bounds))
    if "val" in shares and not stretches["val"] and len(stretches["test"]) > 1:
        stretches["val"].append(stretches["test"].pop(0))
    for name in ("test", "val"):
        if name in shares and not stretches[name]:
            _give_whole(stretches, name, lengths)
    return stretches


def _give_whole(
    stretches: dict[PartName, list[Stretch]], name: PartName, lengths: dict[int, int]
) -> None:
    """Moves the last sequence that serves only training to a split that has none."""
    held_out = {s.sequence for other in ("val", "test") for s in stretches[other]}
    whole = [s for s in stretches["train"] if s.sequence not in held_out]
    if whole and len(stretches["train"]) > 1:
        stretches["train"].remove(whole[-1])
        stretches[name].append(Stretch(whole[-1].sequence, 0, lengths[whole[-1].sequence]))
