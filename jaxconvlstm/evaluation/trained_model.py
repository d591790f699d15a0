"""A trained model with the scale of its data: what `Predictor` and `Classifier` have in common."""

import copy
import dataclasses
from typing import Any, Self

import numpy as np
from flax import linen as nn

from jaxconvlstm.checks import plural
from jaxconvlstm.config.run import Config
from jaxconvlstm.errors import ConfigError
from jaxconvlstm.scale import Values


@dataclasses.dataclass(eq=False, repr=False)
class TrainedModel:
    """A trained model, which takes frames in the data's raw values; `load` makes one from a run.

    Each subclass makes its jitted functions once: later calls of the same shapes compile nothing.

    Attributes:
      module: the Flax module.
      variables: its variables, `{"params": ...}`.
      config: the run's configuration.
      values: the scale between the data's raw values and the network's.
      channels: channels of the frames.
      step: the training step of the weights.
      frame_size: height and width of the only frames that it takes; None for any.
    """

    module: nn.Module
    variables: Any
    config: Config
    values: Values
    channels: int
    step: int = 0
    frame_size: tuple[int, int] | None = None

    def with_values(self, values: Values) -> Self:
        """The same model for data of another scale, with the same compiled functions.

        Args:
          values: the scale of the data that it will be given, e.g. of another dtype.
        """
        # The compiled functions take and return the network's scale, which stays the same.
        other = copy.copy(self)
        other.values = values
        return other

    def _scale(self, frames: Any) -> tuple[np.ndarray, np.dtype[Any], bool]:
        """Checks frames, and brings them to the network's scale.

        Args:
          frames: `[time, height, width, channels]` or `[batch, time, height, width, channels]`,
            in the data's raw values.

        Returns:
          Float32 `[batch, time, height, width, channels]` on the network's scale; the dtype of
          `frames`; and whether they had a batch axis.

        Raises:
          ConfigError: another number of axes or channels, another size where the model takes but
            one, an integer dtype that it was not trained on, or NaN that it was not trained to
            leave out.
        """
        frames = self._unmasked(frames)
        self._check(frames)
        batched = frames.ndim == 5
        with np.errstate(over="ignore", invalid="ignore"):
            scaled = self.values.scale(frames if batched else frames[None])
        if not np.isfinite(scaled).all():
            raise ConfigError("frames: values that are too large for float32")
        return scaled, frames.dtype, batched

    def _unmasked(self, frames: Any) -> np.ndarray:
        """Frames as an array; masked values are missing ones, if the model knows such."""
        if not np.ma.is_masked(frames):
            return np.asarray(frames)
        if self.values.missing is not None:
            return np.ma.filled(frames, self.values.missing)
        if self.values.nan and frames.dtype.kind == "f":
            return np.ma.filled(frames, np.nan)
        raise ConfigError(
            "frames: some are masked; a model trained with --missing-value or --nan mask takes them"
        )

    def _check(self, frames: np.ndarray) -> None:
        values = self.values
        if frames.ndim not in (4, 5):
            raise ConfigError(
                "frames: expected [time, height, width, channels] or "
                f"[batch, time, height, width, channels], got shape {frames.shape}"
            )
        if 0 in frames.shape:
            raise ConfigError(f"frames: expected at least one frame, got shape {frames.shape}")
        if frames.shape[-1] != self.channels:
            raise ConfigError(
                f"frames: trained on {plural(self.channels, 'channel')}, got {frames.shape[-1]}"
            )
        if self.frame_size is not None and self.frame_size != frames.shape[-3:-1]:
            height, width = self.frame_size
            raise ConfigError(
                f"frames: the network is made for {height}x{width}, got "
                f"{frames.shape[-3]}x{frames.shape[-2]}; --size {height} {width} resizes"
            )
        # Integers of another dtype have another range: 255 is white in uint8, and dark in uint16.
        # Floats are taken to be in the data's own unit.
        if frames.dtype.kind != "f" and frames.dtype.name != values.dtype:
            raise ConfigError(
                f"frames: trained on {values.dtype}, got {frames.dtype}; convert them, or "
                f"give floats from {values.low:g} to {values.high:g}"
            )
        if frames.dtype.kind == "f" and not values.nan and not np.isfinite(frames).all():
            where = np.argwhere(~np.isfinite(frames))[0].tolist()
            raise ConfigError(
                f"frames: NaN or infinity at {where}; a model trained with --nan mask takes them"
            )
        threshold = self.config.data.threshold
        if threshold is not None and (frames.min() < 0 or frames.max() > 1):
            raise ConfigError(
                f"frames: trained on 0 and 1 (--threshold {threshold:g}), got {frames.min():g} to "
                f"{frames.max():g}; give (frames >= {threshold:g}).astype(frames.dtype)"
            )
