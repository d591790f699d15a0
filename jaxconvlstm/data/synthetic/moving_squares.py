"""Clips of moving squares: noisy, and clean one frame later.

The generated data of the classic Keras ConvLSTM example: a few squares move linearly over a canvas
of 80x80 pixels, of which the middle 40x40 are seen, and a model has to say where they will be and
to leave out the noise.
"""

import numpy as np

from jaxconvlstm.config.data import DataConfig
from jaxconvlstm.data.sources.base import Region
from jaxconvlstm.data.synthetic.generated import Clip, clip_counts, describe_counts, list_clips
from jaxconvlstm.data.windows import AnySplit, window_span
from jaxconvlstm.errors import ConfigError
from jaxconvlstm.scale import Values

CANVAS_SIZE = 80
FRAME_SIZE = 40
FEWEST_SQUARES, MOST_SQUARES = 3, 7
HALF_WIDTHS = (2, 3)
NOISE = 0.1
"""Added to or taken from a square and one pixel around it, in every second frame on average."""

TRAIN_WINDOWS = 800
"""New clips in each training epoch, unless a limit is given."""
VAL_WINDOWS = 100
TEST_WINDOWS = 200

# The part of the canvas that is seen, in which all squares start.
FIRST_PIXEL = (CANVAS_SIZE - FRAME_SIZE) // 2
PIXELS = np.arange(FIRST_PIXEL, FIRST_PIXEL + FRAME_SIZE)


def moving_squares(generator: np.random.Generator, frames: int) -> tuple[np.ndarray, np.ndarray]:
    """One clip, twice.

    The pair of the classic example is `noisy[:-1]`, `clean[1:]`. A longer clip from the same
    generator state starts with the same frames.

    Args:
      generator: from `generated.clip_generator`.
      frames: number of frames.

    Returns:
      noisy, clean: float32 `[frames, 40, 40, 1]`. Squares add where they overlap and are clipped
      at 1; noise may take the black around a square down to -0.1 per square.
    """
    squares = int(generator.integers(FEWEST_SQUARES, MOST_SQUARES + 1))
    half_widths = generator.choice(HALF_WIDTHS, squares)
    # [axis, squares]
    starts = generator.integers(FIRST_PIXEL, FIRST_PIXEL + FRAME_SIZE, (2, squares))
    velocities = generator.integers(-1, 2, (2, squares))
    # One of four each time: nothing twice, darker, lighter. Frames first, so that a longer clip
    # does not change the frames before.
    noise = np.array([0, 0, -NOISE, NOISE], np.float32)[generator.integers(0, 4, (frames, squares))]

    # [axis, frames, squares]
    centres = starts[:, None] + velocities[:, None] * np.arange(frames)[:, None]
    rows, columns = _covered(centres, half_widths)
    noisy_rows, noisy_columns = _covered(centres, half_widths + 1)
    clean = np.einsum("tnh,tnw->thw", rows, columns)
    noisy = clean + np.einsum("tnh,tnw->thw", noise[..., None] * noisy_rows, noisy_columns)
    return np.minimum(noisy, 1)[..., None], np.minimum(clean, 1)[..., None]


def _covered(centres: np.ndarray, half_widths: np.ndarray) -> np.ndarray:
    """1 where a square lies over a pixel of an axis, else 0: float32 `[axis, frames, squares, 40]`.

    A square is 2 half-widths wide, from its centre minus one of them on.
    """
    distance = PIXELS - centres[..., None]
    half_widths = half_widths[:, None]
    covered: np.ndarray = (-half_widths <= distance) & (distance < half_widths)
    return covered.astype(np.float32)


class MovingSquaresDataset:
    """Generated clips of moving squares, a window each; see `datasets.Dataset`.

    Splits come from streams of random numbers of their own, so `config.split` only leaves out
    those with a share of 0; `config.limit` sets the number of clips of each.
    """

    def __init__(self, config: DataConfig, seed: int):
        if config.reverse:
            raise ConfigError("--reverse: the targets of moving squares have no noise, inputs have")
        if config.channels == 3:
            raise ConfigError("--channels 3: moving squares are grey")
        self._config = config
        self._seed = seed
        self.frame_shape, self.dtype = (FRAME_SIZE, FRAME_SIZE, 1), np.dtype(np.float32)
        self.classes: tuple[str, ...] = ()
        self.values = Values.for_dtype(np.float32, config.value_range, config.missing_value)
        self._counts = clip_counts(config, TRAIN_WINDOWS, VAL_WINDOWS, TEST_WINDOWS)
        counts = describe_counts(self._counts)
        self.notes = [f"generated clips of {FRAME_SIZE}x{FRAME_SIZE}x1 float32; windows: {counts}"]

    def windows(
        self,
        split: AnySplit,
        input_frames: int | None = None,
        target_frames: int | None = None,
        dense_targets: bool = False,
    ) -> "MovingSquaresWindows":
        """See `datasets.Dataset.windows`."""
        config = self._config
        return MovingSquaresWindows(
            self._seed,
            list_clips(config, self._counts, split),
            input_frames or config.input_frames,
            target_frames or config.target_frames,
            config.frame_step,
            config.horizon,
            dense_targets,
        )

    def split_record(self) -> None:
        """See `datasets.Dataset.split_record`: clips need no record."""


class MovingSquaresWindows:
    """A window of each clip; see `datasets.Windows`. Targets are free of noise."""

    def __init__(
        self,
        seed: int,
        clips: list[Clip],
        input_frames: int,
        target_frames: int,
        frame_step: int,
        horizon: int,
        dense_targets: bool,
    ):
        self.frame_shape, self.dense_targets = (FRAME_SIZE, FRAME_SIZE, 1), dense_targets
        self._seed = seed
        self._clips = clips
        self._input_frames = input_frames
        self._first_target = 1 if dense_targets else input_frames + horizon - 1
        self._frame_step = frame_step
        self._span = window_span(input_frames, target_frames, frame_step, horizon)

    def __len__(self) -> int:
        return len(self._clips)

    def read(
        self, epoch: int, index: int, region: Region | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """See `datasets.Windows.read`; each training epoch has clips of its own."""
        noisy, clean = moving_squares(self._clips[index].generator(self._seed, epoch), self._span)
        seen = (slice(None, None, self._frame_step), *(region or ()))
        return noisy[seen][: self._input_frames], clean[seen][self._first_target :]

    def name(self, index: int) -> str:
        """The split and number of the clip."""
        return str(self._clips[index])
