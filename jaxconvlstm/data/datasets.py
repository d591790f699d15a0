"""A run's data: windows of each split, whatever they are cut from."""

import contextlib
from functools import cached_property
from typing import Literal, Protocol

import numpy as np

from jaxconvlstm.config import DataConfig
from jaxconvlstm.data.folder import FolderFrames
from jaxconvlstm.data.moving_squares import MovingSquaresDataset
from jaxconvlstm.data.values import Values
from jaxconvlstm.data.windows import (
    PartName,
    SplitName,
    Stretch,
    WindowPositions,
    check_share,
    split_stretches,
    window_span,
)
from jaxconvlstm.errors import DataError

FREE_RUNNING_STEPS = 5
"""Steps that each part has room for at least, where the sequences allow it."""


class Windows(Protocol):
    """The windows of one split. Reading is safe from several threads."""

    def __len__(self) -> int:
        """Number of windows, in each epoch."""

    def read(self, epoch: int, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Inputs `[time, height, width, channels]` and targets `[steps, ...]` that follow them.

        Both have the files' own dtype and values. `epoch` matters for generated films only.
        """

    def name(self, index: int) -> str:
        """What a caption says, e.g. "shot1 frames 20-31"."""


class Dataset(Protocol):
    """Data divided into splits.

    Attributes:
      values: the scale between the data's own values and the network's.
      frame_shape: `(height, width, channels)`.
      notes: one line each: what was left out or converted, with counts, and a summary.
    """

    values: Values
    frame_shape: tuple[int, int, int]
    notes: list[str]

    def windows(
        self,
        split: SplitName,
        input_frames: int | None = None,
        target_frames: int | None = None,
    ) -> Windows:
        """The windows of a split, or of all the data.

        Args:
          split: "train", "val" or "test", divided as for the configured lengths; or "all".
          input_frames, target_frames: other lengths than the configured ones.

        Raises:
          DataError: the split has no share, or not a single window.
        """


def open_dataset(config: DataConfig, seed: int) -> Dataset:
    """The data that a configuration asks for.

    Args:
      config: kind and place of the data, and how windows are cut from them.
      seed: of generated films.

    Raises:
      ConfigError: a setting that this kind of data cannot follow.
      DataError: the data are missing, damaged or unlike each other.
    """
    if config.dataset == "folder":
        return FolderDataset(config)
    return MovingSquaresDataset(config, seed)


def last_frames(config: DataConfig, count: int) -> tuple[Values, list[tuple[str, np.ndarray]]]:
    """The last frames of every sequence of a folder: what a forecast starts from.

    Args:
      config: names the folder, and how its pictures are read.
      count: number of frames, `config.frame_step` apart.

    Returns:
      The scale of the values, and the name and frames `[count, height, width, channels]` of each
      sequence that is long enough.

    Raises:
      DataError: no sequence is long enough, or a picture cannot be read.
    """
    # Only what is used gets decoded, unless asked otherwise.
    frames = _open_folder(config, config.check_files or "none")
    span = window_span(count, 0, config.frame_step)
    found = [
        (sequence.name, frames.read_many(index, range(length - span, length, config.frame_step)))
        for index, (sequence, length) in enumerate(
            zip(frames.sequences, frames.lengths, strict=True)
        )
        if length >= span
    ]
    if not found:
        raise DataError(
            f"{config.data}: the longest sequence has {max(frames.lengths)} frames; a forecast "
            f"from {count} input frames needs {span}"
        )
    return _folder_values(config, frames), found


class FolderDataset:
    """Windows of the pictures in a folder; see `Dataset`."""

    def __init__(self, config: DataConfig):
        self._config = config
        self._frames = _open_folder(config, config.check_files)
        self.frame_shape = self._frames.frame_shape
        self.values = _folder_values(config, self._frames)
        self.notes = [*self._frames.notes, *self._summary()]

    def windows(
        self,
        split: SplitName,
        input_frames: int | None = None,
        target_frames: int | None = None,
    ) -> "FolderWindows":
        """See `Dataset.windows`."""
        config = self._config
        inputs, targets = input_frames or config.input_frames, target_frames or config.target_frames
        span = window_span(inputs, targets, config.frame_step)
        if split == "all":
            stretches = [Stretch(i, 0, length) for i, length in enumerate(self._frames.lengths)]
        else:
            check_share(config.split, split)
            stretches = self._splits[split]
        positions = WindowPositions(stretches, span, config.stride, config.limit)
        if not positions:
            longest = max(stretch.stop - stretch.start for stretch in stretches)
            where = "sequence" if split == "all" else f"stretch of frames for {split}"
            raise DataError(_too_short(config, where, longest, inputs, targets))
        return FolderWindows(self._frames, positions, inputs, targets, config.frame_step)

    @cached_property
    def _splits(self) -> dict[PartName, list[Stretch]]:
        """Always for the configured lengths, so that no split moves when others are evaluated."""
        config = self._config
        lengths = self._frames.lengths
        if max(lengths) < self._span:
            sizes = (config.input_frames, config.target_frames)
            raise DataError(_too_short(config, "sequence", max(lengths), *sizes))
        # A model is evaluated on its own feedback further than it was trained for: where no
        # sequence is lost by it, each part gets room for a few steps.
        steps = max(config.target_frames, FREE_RUNNING_STEPS)
        roomy = window_span(config.input_frames, steps, config.frame_step)
        if all(length >= roomy for length in lengths if length >= self._span):
            with contextlib.suppress(DataError):
                return split_stretches(lengths, roomy, config.split, config.split_by)
        try:
            return split_stretches(lengths, self._span, config.split, config.split_by)
        except DataError as error:
            raise DataError(f"{config.data}: {error}") from None

    @property
    def _span(self) -> int:
        config = self._config
        return window_span(config.input_frames, config.target_frames, config.frame_step)

    def _summary(self) -> list[str]:
        lengths = self._frames.lengths
        notes = []
        if short := sum(length < self._span for length in lengths):
            notes.append(
                f"sequences left out, shorter than a window of {self._span} frames: {short}"
            )
        shape = "x".join(map(str, self.frame_shape))
        sequences = "1 sequence" if len(lengths) == 1 else f"{len(lengths)} sequences"
        summary = f"{sequences}, {sum(lengths)} frames of {shape} {self.values.dtype}"
        try:
            counts = [
                f"{name} {len(self.windows(name))}" for name, part in self._splits.items() if part
            ]
        except DataError:
            # A folder that is only evaluated need not be large enough to be divided; who asks
            # for a split is told.
            return [*notes, summary]
        return [*notes, f"{summary}; windows: {', '.join(counts)}"]


class FolderWindows:
    """Windows cut from sequences of pictures; see `Windows`."""

    def __init__(
        self,
        frames: FolderFrames,
        positions: WindowPositions,
        input_frames: int,
        target_frames: int,
        frame_step: int,
    ):
        self._frames = frames
        self._positions = positions
        self._input_frames = input_frames
        self._window = range(0, (input_frames + target_frames) * frame_step, frame_step)

    def __len__(self) -> int:
        return len(self._positions)

    def read(self, epoch: int, index: int) -> tuple[np.ndarray, np.ndarray]:
        """See `Windows.read`; the same in every epoch."""
        sequence, start = self._positions[index]
        window = self._frames.read_many(sequence, [start + offset for offset in self._window])
        return window[: self._input_frames], window[self._input_frames :]

    def name(self, index: int) -> str:
        """The sequence and the window's first and last frame in it, counted from 0."""
        sequence, start = self._positions[index]
        name = self._frames.sequences[sequence].name
        return f"{name} frames {start}-{start + self._window[-1]}"


def _open_folder(
    config: DataConfig, check_files: Literal["all", "headers", "none"] | None
) -> FolderFrames:
    if not config.data:
        raise DataError("--dataset folder needs --data DIR")
    return FolderFrames(
        config.data,
        channels=config.channels,
        size=config.size,
        missing=config.missing_value,
        check_files=check_files,
    )


def _folder_values(config: DataConfig, frames: FolderFrames) -> Values:
    return Values.for_dtype(frames.dtype, config.value_range, config.missing_value)


def _too_short(
    config: DataConfig, where: str, longest: int, input_frames: int, target_frames: int
) -> str:
    span = window_span(input_frames, target_frames, config.frame_step)
    step = f" at --frame-step {config.frame_step}" if config.frame_step > 1 else ""
    return (
        f"{config.data}: the longest {where} has {longest} frames; {input_frames} input and "
        f"{target_frames} target frames{step} need {span}"
    )
