"""Clips of a line that grows from one edge of the picture to the opposite one; its direction is
the class.

The generated data of a well-known CNN-LSTM example of sequence classification (Brownlee, "Long
Short-Term Memory Networks With Python", chapter 8).
"""

import numpy as np

from jaxconvlstm.config.data import DataConfig
from jaxconvlstm.config.options import flag
from jaxconvlstm.data.labels import number_classes
from jaxconvlstm.data.sources.base import Region
from jaxconvlstm.data.synthetic.generated import Clip, clip_counts, describe_counts, list_clips
from jaxconvlstm.data.windows import AnySplit
from jaxconvlstm.errors import ConfigError
from jaxconvlstm.scale import Values

FRAME_SIZE = 50
DIRECTIONS = ("left-to-right", "right-to-left", "top-to-bottom", "bottom-to-top")
INK = 255

TRAIN_WINDOWS = 2000
"""New clips in each training epoch, unless a limit is given."""
VAL_WINDOWS = 200
TEST_WINDOWS = 400


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
    for along, turn in enumerate(generator.integers(-1, 2, FRAME_SIZE - 1).tolist(), start=1):
        side = min(max(side + turn, 0), FRAME_SIZE - 1)
        drawn[side, along] = INK
    # [time, across, along]: what is there by each frame.
    clip = drawn * np.tri(FRAME_SIZE, dtype=np.uint8)[:, None]
    name = DIRECTIONS[direction]
    if name in ("right-to-left", "bottom-to-top"):
        clip = clip[:, :, ::-1]
    if name in ("top-to-bottom", "bottom-to-top"):
        clip = clip.transpose(0, 2, 1)
    return clip[..., None]


class MovingLinesDataset:
    """Generated clips of growing lines, a window each; see `datasets.Dataset`.

    The directions take turns, so each part has as many of one as of another (to within one);
    training shuffles them. `config.limit` sets the number of clips of each part.
    """

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
        if config.channels == 3:
            raise ConfigError("--channels 3: moving lines are grey")
        self._config, self._seed = config, seed
        self.frame_shape, self.dtype = (FRAME_SIZE, FRAME_SIZE, 1), np.dtype(np.uint8)
        self.classes, self._labels = number_classes(
            DIRECTIONS, classes or DIRECTIONS, "--dataset moving-lines:"
        )
        self.values = Values.for_dtype(np.uint8, config.value_range, config.missing_value)
        self._counts = clip_counts(config, TRAIN_WINDOWS, VAL_WINDOWS, TEST_WINDOWS)
        counts = describe_counts(self._counts)
        self.notes = [f"generated clips of {FRAME_SIZE}x{FRAME_SIZE}x1 uint8; windows: {counts}"]

    def windows(
        self,
        split: AnySplit,
        input_frames: int | None = None,
        target_frames: int | None = None,
        dense_targets: bool = False,
    ) -> "MovingLinesWindows":
        """See `datasets.Dataset.windows`."""
        del target_frames, dense_targets
        config = self._config
        inputs = input_frames or config.input_frames
        if (inputs - 1) * config.frame_step >= FRAME_SIZE:
            step = f" at --frame-step {config.frame_step}" if config.frame_step > 1 else ""
            raise ConfigError(
                f"--input-frames {inputs}{step}: a line is there after {FRAME_SIZE} frames"
            )
        clips = list_clips(config, self._counts, split)
        return MovingLinesWindows(self._seed, clips, self._labels, inputs, config.frame_step)

    def split_record(self) -> None:
        """See `datasets.Dataset.split_record`: clips need no record."""


class MovingLinesWindows:
    """A window of each clip, from its first frame on, and its class; see `datasets.Windows`."""

    dense_targets = False

    def __init__(
        self, seed: int, clips: list[Clip], labels: np.ndarray, input_frames: int, frame_step: int
    ):
        self.frame_shape = (FRAME_SIZE, FRAME_SIZE, 1)
        self._seed, self._clips, self._labels = seed, clips, labels
        self._seen = slice(0, (input_frames - 1) * frame_step + 1, frame_step)

    def __len__(self) -> int:
        return len(self._clips)

    def read(
        self, epoch: int, index: int, region: Region | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """See `datasets.Windows.read`; each training epoch has clips of its own."""
        clip = self._clips[index]
        direction = clip.number % len(DIRECTIONS)
        frames = moving_line(clip.generator(self._seed, epoch), direction)
        return frames[(self._seen, *(region or ()))], np.asarray(self._labels[direction])

    def name(self, index: int) -> str:
        """The split and number of the clip."""
        return str(self._clips[index])
