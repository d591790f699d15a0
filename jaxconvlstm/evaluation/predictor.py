"""Predicting from a checkpoint: any number of future frames, for research code and the scripts."""

from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from flax import linen as nn

from jaxconvlstm.checks import check_positive
from jaxconvlstm.config.run import Config
from jaxconvlstm.errors import ConfigError
from jaxconvlstm.models.tiled import predict_tiled
from jaxconvlstm.scale import Values


class Predictor:
    """A trained model with its value scale: frames in the data's raw values in and out.

    Attributes:
      module: the Flax module.
      variables: its variables, `{"params": ...}`.
      config: the run's configuration.
      values: the scale between the data's raw values and the network's.
      channels: channels of the pictures.
      step: the training step of the weights.
      frame_size: height and width of the only frames that it takes; None for any.
    """

    def __init__(
        self,
        module: nn.Module,
        variables: Any,
        config: Config,
        values: Values,
        channels: int,
        step: int = 0,
        frame_size: tuple[int, int] | None = None,
    ):
        self.module = module
        self.variables = variables
        self.config = config
        self.values = values
        self.channels = channels
        self.step = step
        self.frame_size = frame_size
        self._apply = jax.jit(self._predict, static_argnames=("steps", "tile"))
        self._observe = jax.jit(lambda v, frames: module.apply(v, frames, method="observe"))
        self._advance = jax.jit(lambda v, *state: module.apply(v, *state, method="step"))

    def predict(
        self, frames: Any, steps: int = 1, tile: tuple[int, int] | None = None
    ) -> np.ndarray:
        """The `steps` frames that follow `frames`.

        Args:
          frames: `[time, height, width, channels]` or `[batch, time, height, width, channels]`,
            in the data's raw values; any number of frames, any height and width.
          steps: number of frames to predict, at least 1.
          tile: height and width of overlapping tiles to predict in, for frames that need more
            memory than there is as a whole.

        Returns:
          `[steps, height, width, channels]` or `[batch, steps, ...]` in the dtype of `frames`:
          integers are rounded and clipped to their range, floats are neither.

        Raises:
          ConfigError: another number of axes or channels, an integer dtype that the model was not
            trained on, or NaN that it was not trained to leave out.
        """
        check_positive("steps", steps)
        frames, batched = check_frames(self, frames)
        scaled = self.predict_scaled(self.values.scale(frames), steps, tile)
        predicted = self.values.inverse(scaled, frames.dtype)
        return predicted if batched else predicted[0]

    def predict_scaled(
        self, inputs: Any, steps: int, tile: tuple[int, int] | None = None
    ) -> np.ndarray:
        """`predict` on the network's own scale: `[batch, time, ...]` to `[batch, steps, ...]`."""
        return np.asarray(self._apply(self.variables, inputs, steps=steps, tile=tile))

    def _predict(
        self, variables: Any, inputs: Any, steps: int, tile: tuple[int, int] | None
    ) -> Any:
        def predict(frames: Any) -> Any:
            return self.module.apply(variables, frames, steps=steps)

        return predict_tiled(predict, inputs, tile) if tile else predict(inputs)

    def stream(self, frames: Any) -> Iterator[np.ndarray]:
        """Like `predict`, one frame at a time and without end; memory does not grow.

        Args:
          frames: as for `predict`.

        Yields:
          `[height, width, channels]` or `[batch, height, width, channels]`.
        """
        frames, batched = check_frames(self, frames)
        state = self._observe(self.variables, self.values.scale(frames))
        while True:
            predicted = self.values.inverse(np.asarray(state[1]), frames.dtype)
            yield predicted if batched else predicted[0]
            state = self._advance(self.variables, *state)


def check_frames(model: Any, frames: Any) -> tuple[np.ndarray, bool]:
    """The frames with a batch axis, and whether they had one.

    Args:
      model: a `Predictor` or `Classifier`.
      frames: `[time, height, width, channels]` or `[batch, time, height, width, channels]`.

    Raises:
      ConfigError: another number of axes or channels, another size where the model takes but one,
        an integer dtype that it was not trained on, or NaN that it was not trained to leave out.
    """
    channels, values = model.channels, model.values
    frames = np.asarray(frames)
    if frames.ndim not in (4, 5):
        raise ConfigError(
            "frames: expected [time, height, width, channels] or "
            f"[batch, time, height, width, channels], got shape {frames.shape}"
        )
    if 0 in frames.shape:
        raise ConfigError(f"frames: expected at least one frame, got shape {frames.shape}")
    if frames.shape[-1] != channels:
        raise ConfigError(
            f"frames: trained on {plural(channels, 'channel')}, got {frames.shape[-1]}"
        )
    if model.frame_size not in (None, frames.shape[-3:-1]):
        height, width = model.frame_size
        raise ConfigError(
            f"frames: the network is made for {height}x{width}, got "
            f"{frames.shape[-3]}x{frames.shape[-2]}; --size {height} {width} resizes"
        )
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
    threshold = model.config.data.threshold
    if threshold is not None and (frames.min() < 0 or frames.max() > 1):
        raise ConfigError(
            f"frames: trained on 0 and 1 (--threshold {threshold:g}), got {frames.min():g} to "
            f"{frames.max():g}; give (frames >= {threshold:g}).astype(frames.dtype)"
        )
    return (frames if frames.ndim == 5 else frames[None]), frames.ndim == 5


def plural(count: int, noun: str) -> str:
    """`1, "channel"` to `"1 channel"`, `3, "channel"` to `"3 channels"`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
