"""Single frames as PNG files, pixel for pixel and without any label."""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from jaxconvlstm.checks import check_rank
from jaxconvlstm.errors import ConfigError
from jaxconvlstm.plots.drawing import check_floats, save_png, to_bytes

LAYOUT = "height, width, channels"


def decoded_and_raw(prediction: Any, target: Any, stem: str | Path) -> tuple[Path, Path]:
    """Write a predicted frame and its truth as two PNGs.

    Args:
      prediction: `[height, width, channels]`, float, [0, 1]; values beyond are clipped, and NaN
        is drawn as 0.
      target: likewise.
      stem: the files are `STEM-decoded.png` (the prediction) and `STEM-raw.png` (the truth).

    Returns:
      Both files.

    Raises:
      ConfigError: another shape, or integers.
    """
    paths = Path(f"{stem}-decoded.png"), Path(f"{stem}-raw.png")
    for name, frame, path in zip(("prediction", "target"), (prediction, target), paths):
        frame = np.asarray(frame)
        check_rank(name, frame, 3, LAYOUT)
        check_floats(name, frame)
        save_frame(to_bytes(frame.astype(np.float32)), path)
    return paths


def save_frame(frame: np.ndarray, path: str | Path) -> None:
    """Write one frame as a PNG that holds exactly its values.

    Pillow writes 8 bits in 1 or 3 channels, or 16 bits in 1: of a frame with any other number of
    channels the first is written.

    Args:
      frame: `[height, width, channels]`, uint8 or uint16, of either byte order.
      path: the file; its folder is made.

    Raises:
      ConfigError: any other dtype; floats have to be scaled to uint8 first.
    """
    frame = np.asarray(frame)
    check_rank("frame", frame, 3, LAYOUT)
    name = frame.dtype.newbyteorder("=").name
    if name not in ("uint8", "uint16"):
        raise ConfigError(f"frame: expected uint8 or uint16, got {frame.dtype}")
    if frame.size == 0:
        raise ConfigError(f"frame: expected pixels to write, got shape {frame.shape}")
    pixels = frame.astype(name)
    in_colour = frame.shape[-1] == 3 and name == "uint8"
    save_png(Image.fromarray(pixels if in_colour else pixels[..., 0]), path)
