"""Moving MNIST: clips of handwritten digits that drift over a black picture and bounce off its
edges.

The data of Srivastava et al. (2015), "Unsupervised Learning of Video Representations using LSTMs",
section 4.1, with the motion of the generator that is in common use (OpenSTL, Tan et al. 2023).
"""

import math
from pathlib import Path

import numpy as np

from jaxconvlstm.config.data import DataConfig
from jaxconvlstm.data.preprocess import Preparation
from jaxconvlstm.data.sources.base import Region, SplitName
from jaxconvlstm.data.synthetic.digits import read_digits
from jaxconvlstm.data.synthetic.generated import Clip, clip_counts, describe_counts, list_clips
from jaxconvlstm.data.windows import SPLIT_NAMES, AnySplit, allot, window_span
from jaxconvlstm.errors import ConfigError, DataError
from jaxconvlstm.scale import Values

FRAME_SIZE = 64
STEP = 0.1
"""Way of a digit in a frame, as a share of the room that it has: 3.6 pixels for one of 28x28."""

TRAIN_WINDOWS = 10_000
"""New clips in each training epoch, as in the common protocol, unless a limit is given."""
VAL_WINDOWS = 100
TEST_WINDOWS = 200

# The second number of the seed sequence that divides the digits; see augment.CHANGE_STREAM.
DIGITS_STREAM = 102


def moving_digits(
    generator: np.random.Generator, pictures: np.ndarray, digits: int, frames: int
) -> np.ndarray:
    """One clip. Each digit starts anywhere, moves in any direction, and passes the others by.

    A longer clip from the same generator state starts with the same frames.

    Args:
      generator: from `generated.clip_generator`.
      pictures: uint8 `[pictures, height, width]`, to draw digits from; one may be drawn twice.
      digits: number of digits.
      frames: number of frames.

    Returns:
      uint8 `[frames, 64, 64, 1]`: the brighter value, where digits overlap.
    """
    height, width = pictures.shape[1:]
    chosen = generator.integers(0, len(pictures), digits)
    # Plain numbers: arrays of two would take longer.
    starts = generator.random((digits, 2)).tolist()
    angles = (2 * math.pi * generator.random(digits)).tolist()
    clip = np.zeros((frames, FRAME_SIZE, FRAME_SIZE), np.uint8)
    for picture, (y, x), angle in zip(pictures[chosen], starts, angles):
        tops = _path(y, STEP * math.sin(angle), FRAME_SIZE - height, frames)
        lefts = _path(x, STEP * math.cos(angle), FRAME_SIZE - width, frames)
        for frame, top, left in zip(clip, tops, lefts):
            place = frame[top : top + height, left : left + width]
            np.maximum(place, picture, out=place)
    return clip[..., None]


def _path(position: float, velocity: float, room: int, frames: int) -> list[int]:
    """Whole pixels along an axis, of a point that moves in [0, 1] and turns back at the ends."""
    path = []
    for _ in range(frames):
        position += velocity
        if not 0 < position < 1:
            position, velocity = min(max(position, 0.0), 1.0), -velocity
        path.append(int(room * position))
    return path


class MovingMNISTDataset:
    """Generated clips of digits from a file, a window each; see `datasets.Dataset`.

    No digit is in two parts: they are shuffled by the run's seed and divided by `config.split`.
    `config.limit` sets the number of clips of each part.
    """

    def __init__(self, config: DataConfig, seed: int):
        """Reads the digits.

        Raises:
          ConfigError: a setting that these clips cannot follow.
          DataError: no file, a file that holds no digits, or too few of them.
        """
        if config.channels == 3:
            raise ConfigError("--channels 3: moving digits are grey")
        if not config.data:
            raise DataError(
                "--dataset moving-mnist needs --data FILE, of digits (IDX or .npy), or --data "
                "mnist, which is fetched from the internet"
            )
        self._config, self._seed = config, seed
        self.frame_shape, self.dtype = (FRAME_SIZE, FRAME_SIZE, 1), np.dtype(np.uint8)
        self.classes: tuple[str, ...] = ()
        value_range = config.value_range if config.threshold is None else (0.0, 1.0)
        self.values = Values.for_dtype(np.uint8, value_range, config.missing_value)
        pictures, self.notes = read_digits(Path(config.data), config.variable)
        if max(pictures.shape[1:]) >= FRAME_SIZE:
            raise DataError(
                "{}: digits of {}x{}, which cannot move in {}x{}".format(
                    config.data, *pictures.shape[1:], FRAME_SIZE, FRAME_SIZE
                )
            )
        self.pictures = self._divide(pictures)
        self._counts = clip_counts(config, TRAIN_WINDOWS, VAL_WINDOWS, TEST_WINDOWS)
        each = ", ".join(f"{name} {len(part)}" for name, part in self.pictures.items())
        self.notes += [
            f"{len(pictures)} digits, none in two parts: {each}",
            f"generated clips of {config.digits} digits on {FRAME_SIZE}x{FRAME_SIZE}x1 uint8; "
            f"windows: {describe_counts(self._counts)}",
        ]

    def windows(
        self,
        split: AnySplit,
        input_frames: int | None = None,
        target_frames: int | None = None,
        dense_targets: bool = False,
    ) -> "MovingMNISTWindows":
        """See `datasets.Dataset.windows`."""
        inputs = input_frames or self._config.input_frames
        targets = target_frames or self._config.target_frames
        clips = list_clips(self._config, self._counts, split)
        return MovingMNISTWindows(
            self._config, self._seed, clips, self.pictures, inputs, targets, dense_targets
        )

    def split_record(self) -> None:
        """See `datasets.Dataset.split_record`: the seed says which digits are where."""

    def _divide(self, pictures: np.ndarray) -> dict[SplitName, np.ndarray]:
        """The digits of each part, at least as many as a clip shows."""
        config = self._config
        shares = {name: getattr(config.split, name) for name in SPLIT_NAMES}
        shares = {name: share for name, share in shares.items() if share}
        if len(pictures) < config.digits * len(shares):
            raise DataError(
                f"{config.data}: {len(pictures)} digits, too few for {config.digits} in a clip of "
                f"{' and '.join(shares)}, which share none"
            )
        sizes = allot(len(pictures), shares, config.digits)
        generator = np.random.default_rng([self._seed, DIGITS_STREAM])
        shuffled, parts, start = pictures[generator.permutation(len(pictures))], {}, 0
        for name, size in sizes.items():
            parts[name] = shuffled[start : start + size]
            start += size
        return parts


class MovingMNISTWindows:
    """A window of each clip; see `datasets.Windows`."""

    def __init__(
        self,
        config: DataConfig,
        seed: int,
        clips: list[Clip],
        pictures: dict[SplitName, np.ndarray],
        input_frames: int,
        target_frames: int,
        dense_targets: bool,
    ):
        self.frame_shape, self.dense_targets = (FRAME_SIZE, FRAME_SIZE, 1), dense_targets
        self._seed, self._clips, self._pictures = seed, clips, pictures
        self._digits, self._frame_step = config.digits, config.frame_step
        self._preparation = Preparation(threshold=config.threshold)
        self._input_frames = input_frames
        self._first_target = 1 if dense_targets else input_frames + config.horizon - 1
        self._span = window_span(input_frames, target_frames, config.frame_step, config.horizon)

    def __len__(self) -> int:
        return len(self._clips)

    def read(
        self, epoch: int, index: int, region: Region | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """See `datasets.Windows.read`; each training epoch has clips of its own."""
        clip = self._clips[index]
        pictures, generator = self._pictures[clip.part], clip.generator(self._seed, epoch)
        frames = moving_digits(generator, pictures, self._digits, self._span)
        frames = self._preparation(frames[:: self._frame_step][(slice(None), *(region or ()))])
        return frames[: self._input_frames], frames[self._first_target :]

    def name(self, index: int) -> str:
        """The split and number of the clip."""
        return str(self._clips[index])
