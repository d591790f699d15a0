"""The frames of each split as a JSON file: a run folder's split.json, or a user's --split-file."""

import bisect
import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxconvlstm.data.sources.base import Frames, Segment, SplitName
from jaxconvlstm.data.windows import SPLIT_NAMES, Splits
from jaxconvlstm.errors import DataError
from jaxconvlstm.json_files import read_object

FORMAT_VERSION = 1


def to_json(splits: Splits, frames: Frames) -> dict[str, Any]:
    """The record of a run folder: each split's segments, with the names of their outer frames."""
    return {
        "format_version": FORMAT_VERSION,
        **{
            name: [
                {
                    "sequence": frames.names[segment.sequence],
                    "start": segment.start,
                    "stop": segment.stop,
                    "first": frames.frame_name(segment.sequence, segment.start),
                    "last": frames.frame_name(segment.sequence, segment.stop - 1),
                }
                for segment in segments
            ]
            for name, segments in splits.items()
        },
    }


def read(path: Path) -> dict[str, Any]:
    """The JSON object in a file.

    Raises:
      DataError: it cannot be read, or is no object.
    """
    # Neither a missing file nor a pipe, which might never end.
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    return read_object(path, DataError)


def from_json(values: Mapping[str, Any], frames: Frames, source: str) -> Splits:
    """The splits of these frames that a file describes.

    Args:
      values: an object with the keys train, val and test, each a list. An item is a sequence's
        name, for all of it, or an object with `sequence` and maybe `start` and `stop` (the frames
        `start` to `stop - 1`), and `first` and `last` (names of the outer frames, to be checked).
      frames: what is divided.
      source: what an error names.

    Raises:
      DataError: a sequence or frame that is not there, another one in its place, or a frame in two
        splits.
    """
    index = {name: number for number, name in enumerate(frames.names)}
    usable: dict[int, list[Segment]] = {}
    for segment in frames.segments():
        usable.setdefault(segment.sequence, []).append(segment)
    if unknown := values.keys() - {*SPLIT_NAMES, "format_version"}:
        raise DataError(f"{source}: unknown key {', '.join(sorted(unknown))}")
    if values.get("format_version", FORMAT_VERSION) != FORMAT_VERSION:
        raise DataError(f"{source}: format version {values['format_version']!r} is not known")
    named: dict[int, list[tuple[Segment, SplitName]]] = {}
    for name in SPLIT_NAMES:
        for item in values.get(name, []):
            segment = _segment(item, index, frames, f"{source}: {name}")
            named.setdefault(segment.sequence, []).append((segment, name))
    splits: Splits = {name: [] for name in SPLIT_NAMES}
    for sequence, entries in named.items():
        entries.sort()
        for (before, split), (after, other) in itertools.pairwise(entries):
            if after.start < before.stop:
                where = f"both {split} and {other}" if split != other else f"{split} twice"
                raise DataError(f"{source}: {frames.names[sequence]}: frames in {where}")
        # Of what is named, only frames that can be used: neither bad, nor across a gap.
        runs = usable.get(sequence, [])
        starts = [run.start for run in runs]
        for segment, name in entries:
            # The run that holds the segment's start, or the one after it.
            first = max(bisect.bisect_right(starts, segment.start) - 1, 0)
            for run in itertools.islice(runs, first, None):
                if run.start >= segment.stop:
                    break
                start, stop = max(run.start, segment.start), min(run.stop, segment.stop)
                if start < stop:
                    splits[name].append(Segment(sequence, start, stop))
    for segments in splits.values():
        segments.sort()
    _check_groups(splits, frames, source)
    return splits


def _segment(item: Any, index: Mapping[str, int], frames: Frames, source: str) -> Segment:
    """The segment that one item of a split describes."""
    if isinstance(item, str):
        item = {"sequence": item}
    if not isinstance(item, dict) or item.keys() - {"sequence", "start", "stop", "first", "last"}:
        raise DataError(f"{source}: expected a sequence's name or an object, got {item!r}")
    name = item.get("sequence")
    if not isinstance(name, str) or name not in index:
        raise DataError(f"{source}: there is no sequence {name!r} in the data")
    length = frames.lengths[index[name]]
    start, stop = item.get("start", 0), item.get("stop", length)
    if not (isinstance(start, int) and isinstance(stop, int) and 0 <= start < stop):
        raise DataError(f"{source}: {name}: frames {start!r} to {stop!r} are no segment")
    if stop > length:
        raise DataError(f"{source}: {name}: had at least {stop} frames, now {length}")
    # A file that was added or removed moves all after it: numbers alone would not show it.
    for key, frame in (("first", start), ("last", stop - 1)):
        found = frames.frame_name(index[name], frame)
        if item.get(key, found) != found:
            raise DataError(
                f"{source}: {name}: frame {frame} was {item[key]}, now it is {found}: "
                "the data have changed"
            )
    return Segment(index[name], start, stop)


def _check_groups(splits: Splits, frames: Frames, source: str) -> None:
    """Sequences that share frames must not be in different splits."""
    if frames.groups is None:
        return
    where: dict[int, str] = {}
    for name, segments in splits.items():
        for segment in segments:
            group = frames.groups[segment.sequence]
            if where.setdefault(group, name) != name:
                raise DataError(
                    f"{source}: {frames.names[segment.sequence]}, in {name}, shares frames with "
                    f"one in {where[group]}"
                )
