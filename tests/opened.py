"""Data opened with a few options of `DataConfig`, the others as they are by default."""

from typing import Any

from jaxconvlstm.config.data import DataConfig
from jaxconvlstm.data.augment import Augmentation
from jaxconvlstm.data.sources.arrays.array_frames import ArrayFrames
from jaxconvlstm.data.sources.images.folder import FolderFrames
from jaxconvlstm.data.sources.video.video_frames import VideoFrames


def arrays(source: Any, **options: Any) -> ArrayFrames:
    return ArrayFrames(source, DataConfig(**options))


def images(source: Any, **options: Any) -> FolderFrames:
    return FolderFrames(source, DataConfig(**options))


def videos(source: Any, **options: Any) -> VideoFrames:
    return VideoFrames(source, DataConfig(**options))


def augmented_by(**options: Any) -> Augmentation:
    return Augmentation(DataConfig(**options))
