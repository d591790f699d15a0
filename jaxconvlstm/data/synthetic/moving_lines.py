"""Clips of a line that grows from one edge of the picture to the opposite one; its direction is
the class.

The generated data of a well-known CNN-LSTM example of sequence classification (Brownlee, "Long
Short-Term Memory Networks With Python", chapter 8).
"""

import numpy as np

from jaxconvlstm.config.data import DataConfig
from jaxconvlstm.config.options import flag
from jaxconvlstm.data.labels import number_classes
from jaxconvlstm.data.sources.base import Window
from jaxconvlstm.data.synthetic.generated import Clip, Counts, GeneratedDataset
from jaxconvlstm.errors import ConfigError

FRAME_SIZE = 50
DIRECTIONS = ("left-to-right", "right-to-left", "top-to-bottom", "bottom-to-top")
INK = 255

COUNTS: Counts = {"train": 2000, "val": 200, "test": 400}
"""Clips of each split, those of training new in each epoch, unless a limit is given."""


def moving_line(generator: np.random.Generator, direction: int) -> np.ndarray:
    """One clip: the line is one pixel long in its first frame, and crosses the picture in its last.

    It starts anywhere on its edge, and with each pixel stays or moves one to either side, each
    with probability 1/3, as far as the picture goes.

    Args:
      generator: from `generated.clip_generator`.
      direction: index into `DIRECTIONS`.

    Returns:
      uint8 `[50, 50, 50, 1]`, time, height, width, channel; 0 and 255.
    """
    side = int(generator.integers(0, FRAME_SIZE))
    drawn = np.zeros((FRAME_SIZE, FRAME_SIZE), np.uint8)  # [across, along]
    drawn[side, 0] = INK
    # Always the whole line, whatever number of frames is used: the same seed, the same line.
    for along, turn in enumerate(generator.integers(-1, 2, FRAME_SIZE - 1).tolist(), start=1):
        side = min(max(side + turn, 0), FRAME_SIZE - 1)
        drawn[side, along] = INK
    # [time, across, along]: what is there by each frame.
    clip = drawn * np.tri(FRAME_SIZE, dtype=np.uint8)[:, None]
    name = DIRECTIONS[direction]
    # Every line is drawn from left to right, and then reversed or turned upright.
    if name in ("right-to-left", "bottom-to-top"):
        clip = clip[:, :, ::-1]
    if name in ("top-to-bottom", "bottom-to-top"):
        clip = clip.transpose(0, 2, 1)
    return clip[..., None]


class MovingLinesDataset(GeneratedDataset):
    """Clips of growing lines, whose class is to be told; see `GeneratedDataset`.

    The directions take turns, so each split has as many of one as of another (to within one);
    training shuffles them.
    """

    longest = FRAME_SIZE

    def __init__(self, config: DataConfig, seed: int, classes: tuple[str, ...] = ()):
        """Checks the settings.

        Args:
          config, seed: of the clips.
          classes: those that labels index into, if others than the directions in their own order.

        Raises:
          ConfigError: a setting that these clips cannot follow.
          DataError: a direction is none of the classes.
        """
        for name in ("flip", "rotate", "reverse"):
            if getattr(config, name) != getattr(DataConfig, name):
                raise ConfigError(f"{flag(name)}: changes the direction of a line, its class")
        if config.crop is not None:
            raise ConfigError("--crop: a part of a picture may hold nothing of the line")
        super().__init__(config, seed, "moving lines", FRAME_SIZE, np.uint8, COUNTS)
        self.classes, self._labels = number_classes(
            DIRECTIONS, classes or DIRECTIONS, "--dataset moving-lines:"
        )

    def draw(self, clip: Clip, generator: np.random.Generator, frames: int) -> Window:
        """See `GeneratedDataset.draw`: the whole clip, whose length is fixed, and its class."""
        direction = clip.number % len(DIRECTIONS)
        return moving_line(generator, direction), np.asarray(self._labels[direction])
