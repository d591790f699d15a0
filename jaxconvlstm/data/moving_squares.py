"""Films of moving squares: noisy, and clean one frame later.

The generated data of the classic Keras ConvLSTM example: a few squares move linearly over a canvas
of 80x80 pixels, of which the middle 40x40 are seen, and a model has to say where they will be and
to leave out the noise.
"""

import numpy as np

from jaxconvlstm.config import DataConfig
from jaxconvlstm.data.frames import Region
from jaxconvlstm.data.values import Values
from jaxconvlstm.data.windows import SPLIT_NAMES, PartName, SplitName, check_share, window_span
from jaxconvlstm.errors import ConfigError

CANVAS_SIZE = 80
FRAME_SIZE = 40
FEWEST_SQUARES, MOST_SQUARES = 3, 7
HALF_WIDTHS = (2, 3)
NOISE = 0.1
"""Added to or taken from a square and one pixel around it, in every second frame on average."""

TRAIN_WINDOWS = 800
"""New films in each training epoch, unless a limit is given."""
VAL_WINDOWS = 100
TEST_WINDOWS = 200

# The part of the canvas that is seen, in which all squares start.
FIRST_PIXEL = (CANVAS_SIZE - FRAME_SIZE) // 2
PIXELS = np.arange(FIRST_PIXEL, FIRST_PIXEL + FRAME_SIZE)


def film_generator(seed: int, split_number: int, epoch: int, index: int) -> np.random.Generator:
    """The random numbers of one film: a function of these four numbers and nothing else."""
    return np.random.default_rng([seed, split_number, epoch, index])


def moving_squares(generator: np.random.Generator, frames: int) -> tuple[np.ndarray, np.ndarray]:
    """One film, twice.

    The pair of the classic example is `noisy[:-1]`, `clean[1:]`. A longer film from the same
    generator state starts with the same frames.

    Args:
      generator: from `film_generator`.
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
    # One of four each time: nothing twice, darker, lighter. Frames first, so that a longer film
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
    """Generated films of moving squares, a window each; see `datasets.Dataset`.

    Splits come from streams of random numbers of their own, so `config.split` only leaves out
    those with a share of 0; `config.limit` sets the number of films of each.
    """

    def __init__(self, config: DataConfig, seed: int):
        if config.reverse:
            raise ConfigError("--reverse: the targets of moving squares have no noise, inputs have")
        if config.channels == 3:
            raise ConfigError("--channels 3: moving squares are grey")
        self._config = config
        self._seed = seed
        self.frame_shape, self.dtype = (FRAME_SIZE, FRAME_SIZE, 1), np.dtype(np.float32)
        self.values = Values.for_dtype(np.float32, config.value_range, config.missing_value)
        sizes = (TRAIN_WINDOWS, VAL_WINDOWS, TEST_WINDOWS)
        self._sizes = {
            name: (config.limit or size) if getattr(config.split, name) else 0
            for name, size in zip(SPLIT_NAMES, sizes, strict=True)
        }
        counts = ", ".join(f"{name} {size}" for name, size in self._sizes.items())
        self.notes = [f"generated films of {FRAME_SIZE}x{FRAME_SIZE}x1 float32; windows: {counts}"]

    def windows(
        self,
        split: SplitName,
        input_frames: int | None = None,
        target_frames: int | None = None,
    ) -> "MovingSquaresWindows":
        """See `datasets.Dataset.windows`."""
        config = self._config
        if split != "all":
            check_share(config.split, split)
        splits = SPLIT_NAMES if split == "all" else (split,)
        return MovingSquaresWindows(
            self._seed,
            [(name, index) for name in splits for index in range(self._sizes[name])],
            input_frames or config.input_frames,
            target_frames or config.target_frames,
            config.frame_step,
            config.horizon,
        )

    def split_record(self) -> None:
        """See `datasets.Dataset.split_record`: films need no record."""


class MovingSquaresWindows:
    """A film for each `(split, index)`; see `datasets.Windows`. Targets are free of noise."""

    def __init__(
        self,
        seed: int,
        films: list[tuple[PartName, int]],
        input_frames: int,
        target_frames: int,
        frame_step: int,
        horizon: int = 1,
    ):
        self.frame_shape = (FRAME_SIZE, FRAME_SIZE, 1)
        self._seed = seed
        self._films = films
        self._input_frames = input_frames
        self._first_target = input_frames + horizon - 1
        self._frame_step = frame_step
        self._span = window_span(input_frames, target_frames, frame_step, horizon)

    def __len__(self) -> int:
        return len(self._films)

    def read(
        self, epoch: int, index: int, region: Region | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """See `datasets.Windows.read`; each training epoch has films of its own."""
        split, film = self._films[index]
        generator = film_generator(
            self._seed, SPLIT_NAMES.index(split), epoch if split == "train" else 0, film
        )
        noisy, clean = moving_squares(generator, self._span)
        seen = (slice(None, None, self._frame_step), *(region or ()))
        return noisy[seen][: self._input_frames], clean[seen][self._first_target :]

    def name(self, index: int) -> str:
        """The split and number of the film."""
        split, film = self._films[index]
        return f"{split} film {film}"
