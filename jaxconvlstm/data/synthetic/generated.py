"""Generated clips as a data set: each is a function of the run's seed, its split, epoch and number.

Nothing is stored, so a training epoch can have clips that no other epoch has, and a resumed run
gets the same ones again.
"""

import abc
from typing import Any, NamedTuple

import numpy as np

from jaxconvlstm.config.data import DataConfig
from jaxconvlstm.data.sources.base import Region, Window
from jaxconvlstm.data.windows import SPLIT_NAMES, AnySplit, SplitName, check_fraction, window_span
from jaxconvlstm.errors import ConfigError
from jaxconvlstm.scale import Values

Counts = dict[SplitName, int]
"""Number of clips of each split."""


def clip_generator(seed: int, split_number: int, epoch: int, index: int) -> np.random.Generator:
    """The random numbers of one clip: a function of these four numbers and nothing else."""
    return np.random.default_rng([seed, split_number, epoch, index])


class Clip(NamedTuple):
    """A clip, of which one window is made: the split that it belongs to, and its number there."""

    split: SplitName
    number: int

    def generator(self, seed: int, epoch: int) -> np.random.Generator:
        """Its random numbers: others in each epoch for training, always the same for the rest."""
        new = epoch if self.split == "train" else 0
        return clip_generator(seed, SPLIT_NAMES.index(self.split), new, self.number)

    def __str__(self) -> str:
        return f"{self.split} clip {self.number}"


class GeneratedDataset(abc.ABC):
    """Generated clips, a window each; see `FramesDataset`. A subclass says how one is drawn.

    Each split has random numbers of its own, so `config.split` only leaves out those with a
    fraction of 0; `config.limit` sets the number of clips of each.

    Attributes:
      config, seed: of the clips.
      longest: frames after which a clip ends; None where it goes on for ever.
    """

    classes: tuple[str, ...] = ()
    longest: int | None = None

    def __init__(
        self,
        config: DataConfig,
        seed: int,
        name: str,
        side: int,
        dtype: Any,
        counts: Counts,
        content: str = "",
    ):
        """Sets shape, scale and notes.

        Args:
          config, seed: of the clips.
          name: of this kind of data, for errors, e.g. "moving squares".
          side: height and width of the frames, which have one channel.
          dtype: of the frames before a threshold; [0, 1] for floats, else the whole range.
          counts: clips of each split, unless `config.limit` says another number.
          content: note on the frames, e.g. "2 digits on ".

        Raises:
          ConfigError: colour is asked for.
        """
        if config.channels == 3:
            raise ConfigError(f"--channels 3: {name} are grey")
        self.config, self.seed = config, seed
        self.frame_shape, self.dtype = (side, side, 1), np.dtype(dtype)
        value_range = config.value_range if config.threshold is None else (0.0, 1.0)
        self.values = Values.for_dtype(dtype, value_range, config.missing_value)
        self._counts = {
            split: (config.limit or count) if getattr(config.split, split) else 0
            for split, count in counts.items()
        }
        windows = ", ".join(f"{split} {count}" for split, count in self._counts.items())
        shape = f"{side}x{side}x1 {self.dtype}"
        self.notes = [f"generated clips of {content}{shape}; windows: {windows}"]

    @abc.abstractmethod
    def draw(self, clip: Clip, generator: np.random.Generator, frames: int) -> Window:
        """One clip from its first frame on.

        A longer clip from the same generator state must start with the same frames.

        Args:
          clip: which one, for what does not follow from random numbers.
          generator: its random numbers.
          frames: number of frames.

        Returns:
          The clip as it is given to a model, `[frames, height, width, 1]`, and as it is to be
          predicted: of the same shape, or the number of its class, int32 `[]`.
        """

    def windows(
        self,
        split: AnySplit,
        input_frames: int | None = None,
        target_frames: int | None = None,
        dense_targets: bool = False,
    ) -> "GeneratedWindows":
        """See `FramesDataset.windows`."""
        config = self.config
        inputs = input_frames or config.input_frames
        targets = target_frames or config.target_frames
        if self.classes:
            # The class is the target: there are no frames after those given.
            dense_targets = False
            span = window_span(inputs, 0, config.frame_step)
        else:
            span = window_span(inputs, targets, config.frame_step, config.horizon)
        if self.longest is not None and span > self.longest:
            step = f" at --frame-step {config.frame_step}" if config.frame_step > 1 else ""
            raise ConfigError(
                f"--input-frames {inputs}{step}: clips end after {self.longest} frames"
            )
        if split != "all":
            check_fraction(config.split, split)
        splits = SPLIT_NAMES if split == "all" else (split,)
        clips = [Clip(name, number) for name in splits for number in range(self._counts[name])]
        return GeneratedWindows(self, clips, inputs, span, dense_targets)

    def split_record(self) -> None:
        """There is nothing to record: the seed says it all."""
        return None


class GeneratedWindows:
    """A window of each clip, from its first frame on; see `dataset.Windows`."""

    def __init__(
        self,
        dataset: GeneratedDataset,
        clips: list[Clip],
        input_frames: int,
        span: int,
        dense_targets: bool,
    ):
        self.frame_shape, self.dense_targets = dataset.frame_shape, dense_targets
        self._dataset, self._clips, self._span = dataset, clips, span
        self._input_frames, self._step = input_frames, dataset.config.frame_step
        # Counted in frames of the window, of which those before the horizon are never targets.
        self._first_target = 1 if dense_targets else input_frames + dataset.config.horizon - 1

    def __len__(self) -> int:
        return len(self._clips)

    def read(self, epoch: int, index: int, region: Region | None = None) -> Window:
        """See `dataset.Windows.read`; each training epoch has clips of its own."""
        clip = self._clips[index]
        # Drawing is cheap: a region is cut from whole frames.
        generator = clip.generator(self._dataset.seed, epoch)
        inputs, targets = self._dataset.draw(clip, generator, self._span)
        # [span, height, width, 1] -> [frames of the window, rows, columns, 1]
        seen = (slice(None, None, self._step), *(region or ()))
        if targets.ndim:
            targets = targets[seen][self._first_target :]
        return inputs[seen][: self._input_frames], targets

    def name(self, index: int) -> str:
        """The split and number of the clip."""
        return str(self._clips[index])
