"""Augmentation of training windows: random crops, flips, quarter turns and reversal in time."""

import dataclasses
from typing import NamedTuple

import numpy as np

from jaxconvlstm.config.data import DataConfig
from jaxconvlstm.data.sources.base import Region, Window
from jaxconvlstm.errors import DataError

# The second number of each seed sequence, so that changes, orders and generated clips (which count
# splits from 0 there) never draw the same numbers.
CHANGE_STREAM = 101

CANDIDATES = 8
"""Places that a crop by signal is chosen from."""
FLOOR = 0.05
"""Weight of a place without any signal, as a fraction of the best candidate's signal."""
BACKGROUND_SAMPLES = 10_000
"""About so many pixels of a frame its background is estimated from."""
CROP_SAMPLES = 16
"""About so many rows, and columns, of a crop its signal is estimated from."""


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """Draws the random changes of training windows; each is the same in all frames of a window.

    A window's changes follow from `(seed, epoch, index)` alone, and switching one kind of change on
    does not alter the others. A crop by "signal" is drawn more often where the last input frame
    differs from its background; pixels of the `missing_value` are no signal.

    Attributes:
      options: the configuration, of which `crop`, `crop_by`, `flip`, `rotate` and `reverse` are
        followed.
    """

    options: DataConfig

    @property
    def changes(self) -> bool:
        """True if any change is asked for."""
        options = self.options
        asked = options.crop is not None or options.flip != "none"
        return asked or options.rotate or options.reverse

    @property
    def needs_frame(self) -> bool:
        """True if `draw` looks at the last input frame."""
        return self.options.crop is not None and self.options.crop_by == "signal"

    def check(self, frame_size: tuple[int, ...]) -> None:
        """Raises `DataError` if frames of this height and width are smaller than the crop."""
        crop, (height, width) = self.options.crop, frame_size[:2]
        if crop is not None and (crop[0] > height or crop[1] > width):
            raise DataError(
                f"--crop {crop[0]} {crop[1]} is larger than the frames, {height}x{width}"
            )

    def draw(
        self,
        seed: int,
        epoch: int,
        index: int,
        frame_size: tuple[int, ...],
        frame: np.ndarray | None = None,
    ) -> "Change":
        """The change of a window.

        Args:
          seed, epoch, index: of the window; the change follows from these three.
          frame_size: height and width of the frames.
          frame: the last input frame `[height, width, channels]`, if `needs_frame`.
        """
        generator = np.random.default_rng([seed, CHANGE_STREAM, epoch, index])
        # All are always drawn, so that switching one on does not change the others.
        upside_down, mirrored, turn, backwards, choice = generator.random(5)
        places = generator.random((CANDIDATES, 2))
        options, region = self.options, None
        if options.crop is not None:
            regions = [_place(place, frame_size, options.crop) for place in places]
            region = regions[0]
            if self.needs_frame:
                assert frame is not None
                region = _choose(regions, frame, options.missing_value, choice)
        height, width = options.crop or frame_size[:2]
        # A frame that is not square stays in its shape only if turned by 0 or 180 degrees.
        turns = int(4 * turn) if height == width else 2 * int(2 * turn)
        return Change(
            region,
            bool(upside_down < 0.5) and options.flip in ("vertical", "both"),
            bool(mirrored < 0.5) and options.flip in ("horizontal", "both"),
            turns if options.rotate else 0,
            bool(backwards < 0.5) and options.reverse,
        )


class Change(NamedTuple):
    """The changes of one window: `region` is cut when it is read, `apply` does the rest."""

    region: Region | None = None
    upside_down: bool = False
    mirrored: bool = False
    quarter_turns: int = 0
    backwards: bool = False

    def cut(self, clip: np.ndarray) -> np.ndarray:
        """The region of a clip `[time, height, width, channels]`; a class as it is."""
        if self.region is None or clip.ndim == 0:
            return clip
        return clip[:, self.region[0], self.region[1]]

    def apply(self, inputs: np.ndarray, targets: np.ndarray, dense_targets: bool = False) -> Window:
        """Mirrors, turns and reverses a window `[time, height, width, channels]` of the region.

        Args:
          inputs: of the window.
          targets: of the window: frames, or a class `[]`, which stays what it is.
          dense_targets: whether the targets are all frames after the first, which overlap the
            inputs.
        """
        if targets.ndim == 0:
            inputs = self._turn(inputs)
            return inputs[::-1] if self.backwards else inputs, targets
        inputs, targets = self._turn(inputs), self._turn(targets)
        if self.backwards:
            # Joined to one clip without repeating a frame, reversed, and divided as before.
            clip = np.concatenate([inputs[:1] if dense_targets else inputs, targets])[::-1]
            inputs, targets = clip[: len(inputs)], clip[1 if dense_targets else len(inputs) :]
        return inputs, targets

    def _turn(self, clip: np.ndarray) -> np.ndarray:
        # Views of [time, height, width, channels]; only stacking the batch copies.
        clip = clip[:, :: -1 if self.upside_down else 1, :: -1 if self.mirrored else 1]
        return np.rot90(clip, self.quarter_turns, axes=(1, 2)) if self.quarter_turns else clip


def _place(place: np.ndarray, frame_size: tuple[int, ...], crop: tuple[int, int]) -> Region:
    """The crop at two numbers in [0, 1): the fractions of the way down and to the right."""
    top, left = (
        int(fraction * (side - length + 1))
        for fraction, side, length in zip(place, frame_size[:2], crop, strict=True)
    )
    return slice(top, top + crop[0]), slice(left, left + crop[1])


def _choose(
    regions: list[Region], frame: np.ndarray, missing: float | None, choice: float
) -> Region:
    """One of the regions, the likelier the more signal it has; `choice` is in [0, 1)."""
    # Drawn in proportion to the signal, of candidates that were drawn uniformly.
    found = background(frame, missing)
    signals = np.array([signal(frame[region], found, missing) for region in regions])
    if not signals.max() > 0:
        return regions[0]
    weights = signals + FLOOR * signals.max()
    # Upper ends of the candidates' intervals in [0, 1); the last one's is 1.
    ends = np.cumsum(weights[:-1]) / weights.sum()
    return regions[int(np.searchsorted(ends, choice, "right"))]


def background(frame: np.ndarray, missing: float | None = None) -> np.ndarray:
    """Each channel's most common value, of integers, or median, of floats; 0 if none is valid.

    Args:
      frame: `[height, width, channels]`; a sample of its pixels is looked at.
      missing: value of pixels without data.
    """
    # The same step in rows and columns.
    step = max(1, round((frame.shape[0] * frame.shape[1] / BACKGROUND_SAMPLES) ** 0.5))
    pixels = frame[::step, ::step].reshape(-1, frame.shape[-1])
    found = np.zeros(frame.shape[-1])
    for channel, values in enumerate(pixels.T):
        values = values[_valid(values, missing)]
        # Floats may all differ, so that none is common.
        if len(values) and frame.dtype.kind == "f":
            found[channel] = np.median(values)
        elif len(values):
            unique, counts = np.unique(values, return_counts=True)
            found[channel] = unique[counts.argmax()]
    return found


def signal(crop: np.ndarray, background: np.ndarray, missing: float | None = None) -> float:
    """Mean absolute difference from the background; where there are no data, it is 0.

    Args:
      crop: `[height, width, channels]`; a sample of its pixels is looked at.
      background: of each channel.
      missing: value of pixels without data.
    """
    rows, columns = (max(1, side // CROP_SAMPLES) for side in crop.shape[:2])
    crop = crop[::rows, ::columns]
    known = np.where(_valid(crop, missing), crop, background)
    return float(np.abs(known - background).mean())


def _valid(values: np.ndarray, missing: float | None) -> np.ndarray:
    valid = np.isfinite(values)
    return valid if missing is None else valid & (values != missing)
