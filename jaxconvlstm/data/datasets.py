"""A run's data: windows of each split, whatever they are cut from."""

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np

from jaxconvlstm.config import DataConfig, flag
from jaxconvlstm.data.frames import Frames, Region
from jaxconvlstm.data.frames_dataset import FramesDataset
from jaxconvlstm.data.moving_squares import MovingSquaresDataset
from jaxconvlstm.data.prepare import Preparation
from jaxconvlstm.data.values import Values
from jaxconvlstm.data.windows import SplitName, window_span
from jaxconvlstm.errors import ConfigError, DataError

# Settings that mean something for some kinds of data only.
_REAL = ("folder", "array", "video")
_APPLIES_TO: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(
        "data sequences stride size fit threshold normalize transform unit on_bad_frame split_by "
        "split_file check_files cache".split(),
        _REAL,
    ),
    **dict.fromkeys(("variable", "axes"), ("array",)),
    "allow_gaps": _REAL,
    **dict.fromkeys(("time_format", "nan"), ("folder", "array")),
}


class Windows(Protocol):
    """The windows of one split. Reading is safe from several threads.

    Attributes:
      frame_shape: `(height, width, channels)` of whole frames.
    """

    frame_shape: tuple[int, int, int]

    def __len__(self) -> int:
        """Number of windows, in each epoch."""

    def read(
        self, epoch: int, index: int, region: Region | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Inputs `[time, height, width, channels]` and targets `[steps, ...]` that follow them.

        Both have the files' own dtype and values; of `region` alone, if given. `epoch` matters for
        generated films only.
        """

    def name(self, index: int) -> str:
        """What a caption says, e.g. "shot1 frames 20-31"."""


class Dataset(Protocol):
    """Data divided into splits.

    Attributes:
      values: the scale between the data's own values and the network's.
      frame_shape: `(height, width, channels)`.
      dtype: of the frames.
      notes: one line each: what was left out or converted, with counts, and a summary.
    """

    values: Values
    frame_shape: tuple[int, int, int]
    dtype: np.dtype[Any]
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

    def split_record(self) -> dict[str, Any] | None:
        """Which frames belong to which part, for the run folder; None for generated films."""


def open_dataset(
    config: DataConfig,
    seed: int,
    *,
    data: Any = None,
    split: Mapping[str, Any] | None = None,
    values: Values | None = None,
) -> Dataset:
    """The data that a configuration asks for.

    Args:
      config: kind and place of the data, and how windows are cut from them.
      seed: of generated films.
      data: sequences in memory instead of files: see `array_frames.ArrayFrames`.
      split: the parts as a run recorded them (`Dataset.split_record`), instead of dividing anew.
      values: the scale to use, instead of one that follows from the configuration.

    Raises:
      ConfigError: a setting that this kind of data cannot follow.
      DataError: the data are missing, damaged or unlike each other.
    """
    check_applies(config)
    if config.dataset == "moving-squares" and data is None:
        return MovingSquaresDataset(config, seed)
    return FramesDataset(config, open_frames(config, data), split, values)


def guess_dataset(path: str) -> Literal["folder", "array", "video"]:
    """The kind of data that a path's name suggests, where no --dataset says it.

    Folders, path lists and pictures with pages are "folder": one of videos or arrays only is too,
    and is told so when it is opened.
    """
    from jaxconvlstm.data.arrays.array_files import is_array_file
    from jaxconvlstm.data.video.video_file import EXTENSIONS

    if is_array_file(path):
        return "array"
    is_video = Path(path).suffix.lower().removeprefix(".") in EXTENSIONS
    return "video" if is_video and not Path(path).is_dir() else "folder"


def check_applies(config: DataConfig) -> None:
    """Raises `ConfigError` for a setting that would have no effect on this kind of data."""
    for field in dataclasses.fields(config):
        kinds = _APPLIES_TO.get(field.name)
        if kinds and config.dataset not in kinds:
            value = getattr(config, field.name)
            if value != field.default:
                hint = ""
                if field.name == "data":
                    hint = "; they are generated: for data of your own add --dataset folder"
                raise ConfigError(
                    f"{flag(field.name)}: has no effect on --dataset {config.dataset}{hint}"
                )


def for_other_data(config: DataConfig, dataset: str) -> DataConfig:
    """The configuration for another kind of data; what does not apply there is left out."""
    reset: dict[str, Any] = {
        field.name: field.default
        for field in dataclasses.fields(config)
        if field.name in _APPLIES_TO and dataset not in _APPLIES_TO[field.name]
    }
    return dataclasses.replace(config, **{**reset, "dataset": dataset})


def open_frames(config: DataConfig, data: Any = None) -> Frames:
    """The frames that a configuration names, or those of `data`."""
    if data is None and not config.data:
        wanted = {"folder": "DIR", "array": "FILE", "video": "FILE"}[config.dataset]
        raise DataError(f"--dataset {config.dataset} needs --data {wanted}")
    source: Any = config.data if data is None else data
    preparation = Preparation(
        config.channels, config.size, config.fit, config.threshold, config.missing_value
    )
    common: dict[str, Any] = {
        "sequences": config.sequences,
        "check_files": config.check_files,
        "on_bad_frame": config.on_bad_frame,
        "cache_gib": config.cache,
        "allow_gaps": config.allow_gaps,
    }
    if config.dataset == "array" or data is not None:
        from jaxconvlstm.data.arrays.array_frames import ArrayFrames

        return ArrayFrames(
            source,
            preparation,
            axes=config.axes,
            variable=config.variable,
            nan=config.nan,
            time_format=config.time_format,
            **common,
        )
    if config.dataset == "video":
        from jaxconvlstm.data.video.video_frames import VideoFrames

        return VideoFrames(source, preparation, **common)
    from jaxconvlstm.data.pictures.folder import FolderFrames

    return FolderFrames(
        source,
        preparation,
        nan=config.nan,
        time_format=config.time_format,
        **common,
    )


class LastFrames:
    """The last frames of every sequence: what a forecast starts from.

    Iterating reads them: `(name, frames [count, height, width, channels])` of each sequence that
    ends with them without a gap.

    Attributes:
      dtype, channels: of the frames.
      notes: one line each, among them how many sequences do not.
    """

    def __init__(self, config: DataConfig, count: int):
        """Opens the data.

        Args:
          config: names the data, and how they are read; `limit` is the most sequences.
          count: number of frames, `config.frame_step` apart.

        Raises:
          ConfigError: a setting that this kind of data cannot follow.
          DataError: no sequence is long enough, or a frame cannot be read.
        """
        check_applies(config)
        # Only what is used gets decoded, unless asked otherwise.
        check = config.check_files or "none"
        self._frames = frames = open_frames(dataclasses.replace(config, check_files=check))
        self._step = config.frame_step
        self._span = window_span(count, 0, self._step)
        self.dtype, self.channels = frames.dtype, frames.frame_shape[-1]
        ends = [s for s in frames.stretches() if s.stop == frames.lengths[s.sequence]]
        found = [s for s in ends if s.stop - s.start >= self._span]
        if not found:
            longest = max((s.stop - s.start for s in ends), default=0)
            raise DataError(
                f"{config.data}: the longest sequence ends with {longest} frames in a row; a "
                f"forecast from {count} input frames needs {self._span}"
            )
        self.notes = list(frames.notes)
        if short := len(frames.lengths) - len(found):
            self.notes.append(
                f"sequences left out, without {self._span} frames in a row at their end: {short}"
            )
        self._ends = found[: config.limit]

    def __len__(self) -> int:
        return len(self._ends)

    def __iter__(self) -> Iterator[tuple[str, np.ndarray]]:
        for sequence, _, stop in self._ends:
            numbers = range(stop - self._span, stop, self._step)
            yield self._frames.names[sequence], self._frames.read(sequence, numbers)
