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
from jaxconvlstm.data.sources.base import SplitName, Window
from jaxconvlstm.data.synthetic.digits import read_digits
from jaxconvlstm.data.synthetic.generated import Clip, Counts, GeneratedDataset
from jaxconvlstm.data.windows import SPLIT_NAMES, allot
from jaxconvlstm.errors import DataError

FRAME_SIZE = 64
STEP = 0.1
"""Way of a digit in a frame, as a fraction of the room that it has: 3.6 pixels for one of 28x28."""

COUNTS: Counts = {"train": 10_000, "val": 100, "test": 200}
"""Clips of each split, unless a limit is given: of training, new ones in each epoch, as many as in
the common protocol."""

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
    # All random numbers come before the first frame, so that a longer clip starts alike.
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
        path.append(int(room * position))  # Rounded down, as in the common generator.
    return path


class MovingMNISTDataset(GeneratedDataset):
    """Clips of digits from a file; see `GeneratedDataset`.

    No digit is in two splits: they are shuffled by the run's seed and divided by `config.split`.

    Attributes:
      pictures: uint8 `[pictures, height, width]`, the digits of each split.
    """

    def __init__(self, config: DataConfig, seed: int):
        """Reads the digits.

        Raises:
          ConfigError: a setting that these clips cannot follow.
          DataError: no file, a file that holds no digits, or too few of them.
        """
        content = f"{config.digits} digits on "
        super().__init__(config, seed, "moving digits", FRAME_SIZE, np.uint8, COUNTS, content)
        if not config.data:
            raise DataError(
                "--dataset moving-mnist needs --data FILE, of digits (IDX or .npy), or --data "
                "mnist, which is fetched from the internet"
            )
        pictures, notes = read_digits(Path(config.data), config.variable)
        if max(pictures.shape[1:]) >= FRAME_SIZE:
            raise DataError(
                "{}: digits of {}x{}, which cannot move in {}x{}".format(
                    config.data, *pictures.shape[1:], FRAME_SIZE, FRAME_SIZE
                )
            )
        self.pictures = self._divide(pictures)
        each = ", ".join(f"{name} {len(own)}" for name, own in self.pictures.items())
        divided = f"{len(pictures)} digits, none in two splits: {each}"
        self.notes = [*notes, divided, *self.notes]
        self._prepare = Preparation(config)

    def draw(self, clip: Clip, generator: np.random.Generator, frames: int) -> Window:
        """See `GeneratedDataset.draw`: nothing tells the frames given from those to predict."""
        pictures = self.pictures[clip.split]
        drawn = self._prepare(moving_digits(generator, pictures, self.config.digits, frames))
        return drawn, drawn

    def _divide(self, pictures: np.ndarray) -> dict[SplitName, np.ndarray]:
        """The digits of each split, at least as many as a clip shows."""
        config = self.config
        fractions = {name: getattr(config.split, name) for name in SPLIT_NAMES}
        fractions = {name: fraction for name, fraction in fractions.items() if fraction}
        if len(pictures) < config.digits * len(fractions):
            raise DataError(
                f"{config.data}: {len(pictures)} digits, too few for {config.digits} in a clip of "
                f"{' and '.join(fractions)}, which share none"
            )
        sizes = allot(len(pictures), fractions, config.digits)
        generator = np.random.default_rng([self.seed, DIGITS_STREAM])
        shuffled, divided, start = pictures[generator.permutation(len(pictures))], {}, 0
        for name, size in sizes.items():
            divided[name] = shuffled[start : start + size]
            start += size
        return divided
