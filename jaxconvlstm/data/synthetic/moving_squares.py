"""Clips of moving squares: noisy, and clean one frame later.

The generated data of the classic Keras ConvLSTM example: a few squares move linearly over a canvas
of 80x80 pixels, of which the middle 40x40 are seen, and a model has to say where they will be and
to leave out the noise.
"""

import numpy as np

from jaxconvlstm.config.data import DataConfig
from jaxconvlstm.data.sources.base import Window
from jaxconvlstm.data.synthetic.generated import Clip, Counts, GeneratedDataset
from jaxconvlstm.errors import ConfigError

CANVAS_SIZE = 80
FRAME_SIZE = 40
FEWEST_SQUARES, MOST_SQUARES = 3, 7
HALF_WIDTHS = (2, 3)
NOISE = 0.1
"""Added to or taken from a square and one pixel around it, in every second frame on average."""

COUNTS: Counts = {"train": 800, "val": 100, "test": 200}
"""Clips of each split, those of training new in each epoch, unless a limit is given."""

# The part of the canvas that is seen, in which all squares start.
FIRST_PIXEL = (CANVAS_SIZE - FRAME_SIZE) // 2
PIXELS = np.arange(FIRST_PIXEL, FIRST_PIXEL + FRAME_SIZE)


def moving_squares(generator: np.random.Generator, frames: int) -> Window:
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


class MovingSquaresDataset(GeneratedDataset):
    """Clips of moving squares; see `GeneratedDataset`. Targets are free of noise."""

    def __init__(self, config: DataConfig, seed: int):
        """Checks the settings.

        Raises:
          ConfigError: a setting that these clips cannot follow.
        """
        if config.reverse:
            raise ConfigError("--reverse: the targets of moving squares have no noise, inputs have")
        super().__init__(config, seed, "moving squares", FRAME_SIZE, np.float32, COUNTS)

    def draw(self, clip: Clip, generator: np.random.Generator, frames: int) -> Window:
        """See `GeneratedDataset.draw`: noisy and clean."""
        return moving_squares(generator, frames)
