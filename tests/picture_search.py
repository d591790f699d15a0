"""Clips to draw, and where their frames stand in what was drawn."""

from pathlib import Path

import numpy as np
from PIL import Image

Position = tuple[int, int]


def clip(frames: int, height: int, width: int, channels: int, seed: int = 0) -> np.ndarray:
    """Coarse random frames: no two alike, and none of a uniform colour."""
    shape = (frames, height, width, channels)
    return np.random.default_rng(seed).random(shape).astype(np.float32)


def pixels(path: Path) -> np.ndarray:
    """A picture as `[height, width, 3]` integers."""
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB")).astype(np.int16)


def pages(path: Path) -> list[np.ndarray]:
    """All frames of a GIF."""
    with Image.open(path) as picture:
        found = []
        for index in range(getattr(picture, "n_frames", 1)):
            picture.seek(index)
            found.append(np.asarray(picture.convert("RGB")).astype(np.int16))
        return found


def places(picture: np.ndarray, frame: np.ndarray, tolerance: int = 0) -> list[Position]:
    """(y, x) of every place where `frame`, enlarged by some whole factor, stands in `picture`."""
    rgb = np.rint(np.clip(frame, 0, 1) * 255).astype(np.int16)
    rgb = rgb if rgb.shape[-1] == 3 else rgb[..., :1].repeat(3, axis=-1)
    height, width = rgb.shape[:2]
    same = np.ones(picture.shape[:2], bool)
    for channel in range(3):
        same &= np.abs(picture[..., channel] - rgb[0, 0, channel]) <= tolerance
    # Upper left corners only: the frame's outline has another colour than its first pixel.
    inside = np.zeros_like(same)
    inside[1:, 1:] = same[1:, 1:] & ~same[:-1, 1:] & ~same[1:, :-1]
    starts = np.argwhere(inside)
    found = []
    for factor in range(1, 321):
        ends = starts + np.array([height, width]) * factor
        rest = starts[(ends <= picture.shape[:2]).all(axis=1)]
        # The corners of every enlarged pixel: as telling as all of it, and far fewer.
        for place in np.ndindex(height, width):
            for corner in (np.array(place) * factor, (np.array(place) + 1) * factor - 1):
                y, x = (rest + corner).T
                rest = rest[np.abs(picture[y, x] - rgb[place]).max(axis=-1) <= tolerance]
            if len(rest) == 0:
                break
        found += [(int(y), int(x)) for y, x in rest]
    return found


def rim_is_white(picture: np.ndarray, width: int = 6) -> bool:
    """Whether nothing touches the picture's edge, so that nothing is cut off there."""
    rim = (picture[:width], picture[-width:], picture[:, :width], picture[:, -width:])
    return all(bool((part == 255).all()) for part in rim)
