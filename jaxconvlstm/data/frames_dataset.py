"""Windows cut from the frames of a source, divided into splits."""

import contextlib
import dataclasses
import operator
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from jaxconvlstm.checks import plural
from jaxconvlstm.config.data import DataConfig, Split
from jaxconvlstm.config.options import flag
from jaxconvlstm.data import split_file
from jaxconvlstm.data.fit_scale import scale_for
from jaxconvlstm.data.labels import label_sequences, split_by_class
from jaxconvlstm.data.sources.base import Frames, Region, Segment, SplitName, Window
from jaxconvlstm.data.windows import (
    SPLIT_NAMES,
    AnySplit,
    Splits,
    WindowPositions,
    split_segments,
    window_span,
)
from jaxconvlstm.errors import ConfigError, DataError
from jaxconvlstm.scale import Values

FREE_RUNNING_STEPS = 5
"""Steps that each split has room for at least, where the sequences allow it."""


class FramesDataset:
    """Windows of the frames of a source, divided into splits.

    Attributes:
      values: the scale between the data's raw values and the network's.
      frame_shape: `(height, width, channels)`.
      dtype: of the frames.
      classes: names of the classes to be told apart; empty where frames are to be predicted.
      notes: one line each: what was left out or converted, with counts, and a summary.
      frames: the source.
      splits: the segments of each.
      labels: int32, the number of each sequence's class; None where frames are predicted.
    """

    def __init__(
        self,
        config: DataConfig,
        frames: Frames,
        split: Mapping[str, Any] | None = None,
        values: Values | None = None,
        classes: Sequence[str] | None = None,
    ):
        self._config = config
        self._recorded = split
        self._given_values, self._given_classes = values, classes
        self._place = config.data or "the data"
        self.frames = frames
        self.frame_shape, self.dtype = frames.frame_shape, frames.dtype
        notes = list(frames.notes)
        self._check_missing()
        self.classes: tuple[str, ...] = ()
        self.labels: np.ndarray | None = None
        if config.labels == "folders":
            self.classes, self.labels, note = label_sequences(frames, classes, self._place)
            notes.append(note)
        self._segments = frames.segments()
        # Last, as both need the splits: the scale is measured on training data alone.
        self.values, value_notes = self._scale()
        self.notes = [*notes, *value_notes, *self._summary()]

    def windows(
        self,
        split: AnySplit,
        input_frames: int | None = None,
        target_frames: int | None = None,
        dense_targets: bool = False,
    ) -> "FrameWindows":
        """The windows of a split, or of all the data.

        Args:
          split: "train", "val" or "test", divided as for the configured lengths; or "all".
          input_frames, target_frames: other lengths than the configured ones. Where there are
            classes, windows have no target frames.
          dense_targets: make targets of all frames after the first; no effect where there are
            classes.

        Raises:
          DataError: the split has a fraction of 0, or not a single window.
        """
        config = self._config
        inputs, targets = input_frames or config.input_frames, target_frames or config.target_frames
        # Not `self._span`: other lengths than the configured ones may be asked for.
        span = self._span_of(inputs, targets)
        segments = self._segments if split == "all" else self.splits[split]
        if not segments:
            raise DataError(f"{self._place}: the {split} split has no windows (--split {split}=0)")
        positions = WindowPositions(segments, span, config.stride, config.limit)
        if not positions:
            where = "segment of frames" if split == "all" else f"segment of frames for {split}"
            raise DataError(self._too_short(segments, where, inputs, targets))
        if self.labels is not None:
            return FrameWindows(self.frames, positions, config, inputs, 0, labels=self.labels)
        return FrameWindows(self.frames, positions, config, inputs, targets, dense_targets)

    def split_record(self) -> dict[str, Any]:
        """The frames of each split, for the run folder."""
        return split_file.to_json(self.splits, self.frames)

    @cached_property
    def splits(self) -> Splits:
        """Always for the configured lengths, so that no split moves when others are evaluated."""
        config = self._config
        # A run that goes on keeps its splits, even where today's code would divide otherwise.
        if self._recorded is not None:
            return split_file.from_json(self._recorded, self.frames, "split.json of the run")
        if config.split_file is not None:
            record = split_file.read(Path(config.split_file))
            splits = split_file.from_json(record, self.frames, config.split_file)
            self._check_classes(splits)
            return splits
        if max((s.stop - s.start for s in self._segments), default=0) < self._span:
            sizes = (config.input_frames, config.target_frames)
            raise DataError(self._too_short(self._segments, "segment of frames", *sizes))
        if self.frames.splits is not None and config.split_by == "auto":
            splits = self._splits_of_folders(self.frames.splits)
        else:
            splits = self._divide(self._segments, config.split)
        self._check_classes(splits)
        return splits

    def _check_missing(self) -> None:
        """Refuses a code for missing values that no value can have."""
        missing, dtype = self._config.missing_value, self.dtype
        if missing is not None and dtype.kind in "ui":
            limits = np.iinfo(dtype)
            if missing != int(missing) or not limits.min <= missing <= limits.max:
                raise ConfigError(f"--missing-value {missing:g}: no {dtype} value is that")

    def _splits_of_folders(self, given: Sequence[SplitName]) -> Splits:
        """As the folders say; a split that has a fraction, but no folder, is cut from training."""
        splits: Splits = {name: [] for name in SPLIT_NAMES}
        for segment in self._segments:
            splits[given[segment.sequence]].append(segment)
        there = [name for name in ("val", "test") if splits[name]]
        # What a folder holds need not be cut off, so its fraction goes to training.
        fractions = dataclasses.asdict(self._config.split)
        fractions["train"] += sum(fractions[name] for name in there)
        fractions.update(dict.fromkeys(there, 0.0))
        divided = self._divide(splits["train"], Split(**fractions))
        return {name: splits[name] if name in there else divided[name] for name in SPLIT_NAMES}

    def _check_classes(self, splits: Splits) -> None:
        """Refuses to train a model on classes of which it would see no example."""
        if self.labels is None or self._given_classes or not self._config.split.train:
            return
        seen = {int(self.labels[segment.sequence]) for segment in splits["train"]}
        for number, name in enumerate(self.classes):
            if number not in seen:
                raise DataError(f"{self._place}: class {name}: none of it is for training")

    def _divide(self, segments: list[Segment], split: Split) -> Splits:
        config, groups = self._config, self.frames.groups
        if self.labels is not None:
            by = config.split_by
            try:
                return split_by_class(segments, self.labels, self.classes, self._span, split, by)
            except DataError as error:
                raise DataError(f"{self._place}: {error}") from None
        # A model is evaluated on its own feedback further than it was trained for: where no
        # sequence is lost by it, each split gets room for a few steps.
        steps = max(config.target_frames, FREE_RUNNING_STEPS)
        roomy = window_span(config.input_frames, steps, config.frame_step, config.horizon)
        lengths = [segment.stop - segment.start for segment in segments]
        if all(length >= roomy for length in lengths if length >= self._span):
            with contextlib.suppress(DataError):  # Too few for that: the windows decide alone.
                return split_segments(segments, roomy, split, config.split_by, groups)
        try:
            return split_segments(segments, self._span, split, config.split_by, groups)
        except DataError as error:
            raise DataError(f"{self._place}: {error}") from None

    def _scale(self) -> tuple[Values, list[str]]:
        if self._given_values is not None:
            return self._given_values, []
        try:
            training = self.splits["train"] or self._segments
        except DataError:
            # Data that are only evaluated need not be large enough to be divided.
            training = self._segments
        return scale_for(self._config, self.frames, training)

    @property
    def _span(self) -> int:
        return self._span_of(self._config.input_frames, self._config.target_frames)

    def _span_of(self, input_frames: int, target_frames: int) -> int:
        """Frames that a window takes; one with a class has no targets."""
        if self.labels is not None:
            return window_span(input_frames, 0, self._config.frame_step)
        config = self._config
        return window_span(input_frames, target_frames, config.frame_step, config.horizon)

    def _summary(self) -> list[str]:
        lengths = self.frames.lengths
        notes = []
        if self._config.nan == "mask" and self.dtype.kind != "f":
            notes.append(f"--nan mask: {self.dtype} values are never NaN")
        if (tile := self._config.tile) and all(map(operator.ge, tile, self.frame_shape)):
            notes.append(f"--tile {tile[0]} {tile[1]}: frames are no larger, and evaluated whole")
        usable = {s.sequence for s in self._segments if s.stop - s.start >= self._span}
        if short := len(lengths) - len(usable):
            notes.append(
                f"sequences left out, without {self._span} frames in a row for a window: {short}"
            )
        # The windows that there would be without gaps and bad frames, to count those lost by them.
        whole = [Segment(index, 0, length) for index, length in enumerate(lengths)]
        possible, left = (
            len(WindowPositions(segments, self._span, self._config.stride))
            for segments in (whole, self._segments)
        )
        if possible > left:
            notes.append(
                "windows left out, across a gap or with a bad frame: "
                f"{possible - left} of {possible}"
            )
        shape, sequences = "x".join(map(str, self.frame_shape)), plural(len(lengths), "sequence")
        summary = f"{sequences}, {sum(lengths)} frames of {shape} {self.frames.dtype}"
        try:
            counts = [
                f"{name} {len(self.windows(name))}"
                for name, segments in self.splits.items()
                if segments
            ]
        except DataError:
            # A split without a window is an error only for those who ask for it.
            return [*notes, summary]
        return [*notes, f"{summary}; windows: {', '.join(counts)}"]

    def _too_short(
        self, segments: list[Segment], where: str, input_frames: int, target_frames: int
    ) -> str:
        config = self._config
        longest = max((s.stop - s.start for s in segments), default=0)
        more = "".join(
            f" at {flag(name)} {getattr(config, name)}"
            for name in ("frame_step", "horizon")
            if getattr(config, name) > 1
        )
        wanted = f"{input_frames} input "
        if self.labels is None:
            wanted += f"and {target_frames} target "
        return (
            f"{self._place}: the longest {where} has {longest} frames; {wanted}frames{more} need "
            f"{self._span_of(input_frames, target_frames)}"
        )


class FrameWindows:
    """Windows cut from sequences of frames; see `dataset.Windows`.

    Args:
      frames: the source.
      positions: of the windows' first frames.
      config: says how far the frames of a window are apart, and the targets from the inputs.
      input_frames, target_frames: lengths of the two.
      dense_targets: see `dataset.Windows`.
      labels: int32, the number of each sequence's class, to be predicted in place of frames.
    """

    def __init__(
        self,
        frames: Frames,
        positions: WindowPositions,
        config: DataConfig,
        input_frames: int,
        target_frames: int,
        dense_targets: bool = False,
        labels: np.ndarray | None = None,
    ):
        self.frame_shape, self.dense_targets = frames.frame_shape, dense_targets
        self._frames, self._positions, self._labels = frames, positions, labels
        self._input_frames = input_frames
        self._first_target = 1 if dense_targets else input_frames
        # Frames of a window, counted from its first; those before the horizon are not read.
        step, first = config.frame_step, input_frames + config.horizon - 1
        given = range(0, input_frames * step, step)
        wanted = range(first * step, (first + target_frames) * step, step)
        self._offsets: Sequence[int] = [*given, *wanted]
        # Where no frame is left out, a range: it is read as one slice of a file.
        if not wanted:
            self._offsets = given
        elif config.horizon == 1:
            self._offsets = range(0, wanted.stop, step)

    def __len__(self) -> int:
        return len(self._positions)

    def read(self, epoch: int, index: int, region: Region | None = None) -> Window:
        """See `dataset.Windows.read`; the same in every epoch."""
        sequence, start = self._positions[index]
        offsets = self._offsets
        if isinstance(offsets, range):
            numbers: Sequence[int] = range(start, start + offsets.stop, offsets.step)
        else:
            numbers = [start + offset for offset in offsets]
        window = self._frames.read(sequence, numbers, region)  # [time, height, width, channels]
        if self._labels is not None:
            return window, np.asarray(self._labels[sequence])
        return window[: self._input_frames], window[self._first_target :]

    def name(self, index: int) -> str:
        """The sequence and the window's first and last frame in it, counted from 0."""
        sequence, start = self._positions[index]
        return f"{self._frames.names[sequence]} frames {start}-{start + self._offsets[-1]}"
