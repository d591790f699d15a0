"""The data of a run: windows of each split, cut from files, arrays or generated clips."""

import dataclasses
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar

from jaxconvlstm.config.data import DataConfig, SourceOptions
from jaxconvlstm.config.options import flag
from jaxconvlstm.data import download
from jaxconvlstm.data.frames_dataset import FramesDataset
from jaxconvlstm.data.sources.base import Frames, Region, Window
from jaxconvlstm.data.synthetic.generated import GeneratedDataset
from jaxconvlstm.data.synthetic.moving_lines import MovingLinesDataset
from jaxconvlstm.data.synthetic.moving_mnist import MovingMNISTDataset
from jaxconvlstm.data.synthetic.moving_squares import MovingSquaresDataset
from jaxconvlstm.errors import ConfigError, DataError
from jaxconvlstm.scale import Values

# Settings that mean something for some kinds of data only. With another kind they are refused,
# rather than silently ignored.
REAL = ("folder", "array", "video")
_FILES = (*REAL, "moving-mnist")
_APPLIES_TO: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(
        "sequences stride size fit normalize transform unit on_bad_frame split_by split_file "
        "check_files cache allow_gaps labels".split(),
        REAL,
    ),
    **dict.fromkeys(("data", "threshold"), _FILES),
    "digits": ("moving-mnist",),
    "variable": ("array", "moving-mnist"),
    "axes": ("array",),
    **dict.fromkeys(("time_format", "nan"), ("folder", "array")),
}
_IDX_NAME = re.compile(r"idx3-ubyte(\.gz)?$")

S = TypeVar("S", bound=SourceOptions)


class Windows(Protocol):
    """The windows of one split. Reading is safe from several threads.

    Attributes:
      frame_shape: `(height, width, channels)` of whole frames.
      dense_targets: whether the targets are all frames after the first, which overlap the inputs.
    """

    frame_shape: tuple[int, int, int]
    dense_targets: bool

    def __len__(self) -> int:
        """Number of windows, in each epoch."""

    def read(self, epoch: int, index: int, region: Region | None = None) -> Window:
        """Inputs `[time, height, width, channels]`, and the targets to be predicted from them.

        Targets are frames `[steps, ...]`: those that follow the inputs or, with
        `dense_targets`, all after the first, `[time - 1 + steps, ...]`. Or the number of the
        window's class, int32 `[]`.

        Frames hold raw values in the files' dtype; of `region` alone, if given. `epoch` matters for
        generated clips only.

        Raises:
          DataError: a frame cannot be read.
        """

    def name(self, index: int) -> str:
        """Name of a window for captions and errors, e.g. "shot1 frames 20-31"."""


Dataset = FramesDataset | GeneratedDataset
"""Data divided into splits."""


def open_dataset(
    config: DataConfig,
    seed: int,
    *,
    data: Any = None,
    split: Mapping[str, Any] | None = None,
    values: Values | None = None,
    classes: Sequence[str] | None = None,
) -> Dataset:
    """The data that a configuration asks for.

    Args:
      config: kind and place of the data, and how windows are cut from them.
      seed: of generated clips.
      data: sequences in memory instead of files: see `array_frames.ArrayFrames`.
      split: the splits as a run recorded them (`FramesDataset.split_record`), instead of dividing
        anew.
      values: the scale to use, instead of one that follows from the configuration.
      classes: those that a model was trained to tell apart, instead of those found; empty for none.

    Raises:
      ConfigError: a setting that this kind of data cannot follow.
      DataError: the data are missing, damaged or unlike each other, or of other classes.
    """
    check_applies(config)
    dataset: Dataset
    # Data in memory are frames, whatever `dataset` says, which has a default.
    if data is not None or config.dataset in REAL:
        dataset = FramesDataset(config, open_frames(config, data), split, values, classes)
    elif config.dataset == "moving-mnist":
        dataset = MovingMNISTDataset(with_public_data(config), seed)
    elif config.dataset == "moving-lines":
        dataset = MovingLinesDataset(config, seed, tuple(classes or ()))
    else:
        dataset = MovingSquaresDataset(config, seed)
    if classes and not dataset.classes:
        raise DataError(
            f"{config.data or config.dataset}: the model names classes, and these data have none; "
            "--labels folders takes them from the names of folders"
        )
    return dataset


def with_public_data(config: S) -> S:
    """The same with the path of a file, fetched if need be, in place of the name of public data.

    Raises:
      ConfigError: they are another kind of data.
      DataError: they cannot be fetched.
    """
    if config.data is None or not download.is_name(config.data):
        return config
    kind = download.FILES[config.data].dataset
    if kind != config.dataset:
        raise ConfigError(
            f"--data {config.data}: these public data are read as --dataset {kind}, not as "
            f"{config.dataset}; without --dataset and --preset that is known"
        )
    return dataclasses.replace(config, data=download.resolve(config.data))


def guess_dataset(path: str) -> Literal["folder", "array", "video", "moving-mnist"]:
    """The kind of data that a path's name suggests, or what a folder holds.

    Path lists, pictures with pages, and folders that hold pictures are "folder"; folders without
    any are "array" or "video" where they hold such files. IDX files and public digits are
    "moving-mnist".
    """
    from jaxconvlstm.data.sources.arrays.array_files import is_array_file
    from jaxconvlstm.data.sources.images.image_file import EXTENSIONS as PICTURES
    from jaxconvlstm.data.sources.video.video_file import EXTENSIONS

    if download.is_name(path):
        return download.FILES[path].dataset
    # Before the ending is looked at: ".gz" says nothing.
    if _IDX_NAME.search(path.lower()):
        return "moving-mnist"
    if is_array_file(path):
        return "array"
    if not Path(path).is_dir():
        return "video" if _ending(path) in EXTENSIONS else "folder"
    held: set[Literal["array", "video"]] = set()
    for _, folders, files in os.walk(path):
        if any(_ending(name) in PICTURES for name in files):
            return "folder"
        if any(map(is_array_file, (*folders, *files))):
            held.add("array")
        if any(_ending(name) in EXTENSIONS for name in files):
            held.add("video")
        folders[:] = [name for name in folders if not is_array_file(name)]
    return held.pop() if len(held) == 1 else "folder"


def _ending(path: str) -> str:
    return Path(path.lower().removesuffix(".gz")).suffix.removeprefix(".")


def check_applies(config: DataConfig) -> None:
    """Raises `ConfigError` for a setting that would have no effect on this kind of data."""
    for field in dataclasses.fields(config):
        kinds = _APPLIES_TO.get(field.name, (config.dataset,))
        if config.dataset not in kinds and getattr(config, field.name) != field.default:
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


def open_frames(config: SourceOptions, data: Any = None) -> Frames:
    """The frames that a configuration names, or those of `data`."""
    if data is None and not config.data:
        wanted = {"folder": "DIR", "array": "FILE", "video": "FILE"}[config.dataset]
        raise DataError(f"--dataset {config.dataset} needs --data {wanted}")
    source: Any = with_public_data(config).data if data is None else data
    # Each kind needs libraries of its own, imported only where it is read.
    if config.dataset == "array" or data is not None:
        from jaxconvlstm.data.sources.arrays.array_frames import ArrayFrames

        return ArrayFrames(source, config)
    if config.dataset == "video":
        from jaxconvlstm.data.sources.video.video_frames import VideoFrames

        return VideoFrames(source, config)
    from jaxconvlstm.data.sources.images.folder import FolderFrames

    return FolderFrames(source, config)
