"""Encoding and forecasting (Shi et al. 2015): the base of models whose forecast reads no frame."""

from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from jaxconvlstm.checks import check_choice, check_clips, check_positive, check_rank
from jaxconvlstm.errors import ConfigError
from jaxconvlstm.nn.cell import Carry
from jaxconvlstm.nn.conv_lstm import ConvLSTM, recurrent_layers
from jaxconvlstm.nn.dtypes import widest
from jaxconvlstm.nn.encoder_decoder import limited_sigmoid

OUTPUTS = ("frame", "sigmoid")
States = tuple[Carry, ...]
Forecast = tuple[States, Array]
"""The states after some steps, and the frames of those steps."""


class Forecaster(nn.Module):
    """Two stacks of ConvLSTM layers: an encoder of the frames given, a forecaster of those to come.

    The forecaster's layers start from the states that the encoder's layers of the same level end
    with, and go on from there without any input: no frame is fed back, so there is no teacher
    forcing. The layers run one after the other, each over all time steps at once.

    Attributes:
      channels: channels of the pictures.
      features: hidden features of each level's ConvLSTM layer, in both stacks.
      kernel_size: kernel of each level, one number for all of them or one per level.
      output: "frame" predicts the frame itself; "sigmoid" squashes the prediction into (0, 1), as
        binary cross-entropy needs.
      peephole, activation, dropout, recurrent_dropout, remat, dtype: see `ConvLSTM`. Spatial
        peepholes fix the frame size.

    References:
      Shi et al. 2015, "Convolutional LSTM Network: A Machine Learning Approach for Precipitation
      Nowcasting", section 3.2 and figure 3.
    """

    channels: int
    features: Sequence[int]
    kernel_size: Sequence[int] = (5,)
    output: str = "frame"
    peephole: str | None = None
    activation: str | Callable[[Array], Array] = "tanh"
    dropout: float = 0.0
    recurrent_dropout: float = 0.0
    remat: bool = False
    dtype: Any = jnp.float32

    def __call__(
        self,
        inputs: Float[Array, "batch time height width channels"],
        steps: int = 1,
        teacher: Array | None = None,
        teacher_mask: Array | None = None,
        train: bool = False,
        dense_targets: bool = False,
    ) -> Float[Array, "batch steps height width channels"]:
        """Predict the `steps` frames that follow `inputs`.

        Args:
          inputs: `[batch, time, height, width, channels]`, on the network's scale, usually [0, 1].
          steps: number of frames to predict.
          teacher, teacher_mask: None; the forecaster reads no frames.
          train: apply dropout, which takes the PRNG "dropout".
          dense_targets: False; nothing is predicted before the last frame given is read.

        Returns:
          `[batch, steps, height, width, channels]`, not clipped; float32, or `dtype` or that of the
          inputs where it is wider.

        Raises:
          ConfigError: the inputs do not fit the model, or a teacher or `dense_targets` is given.
        """
        check_positive("steps", steps)
        if teacher is not None or teacher_mask is not None:
            raise ConfigError("teacher: the forecaster reads no frames, so none can be taught")
        # All steps in one call, layer by layer; `observe` and `step` take them one at a time.
        states = self._read(inputs, train, dense_targets)
        _, frames = self._predict(states, steps, inputs.shape[2:4], train)
        return frames.astype(widest(frames.dtype, inputs.dtype))

    def observe(self, inputs: Array, train: bool = False, dense_targets: bool = False) -> Forecast:
        """Read `[batch, time, height, width, channels]`, and predict the next frame.

        Returns:
          The forecaster's state after it, one `(c, h)` per level, which `step` goes on from; and
          the frame `[batch, height, width, channels]`.
        """
        states = self._read(inputs, train, dense_targets)
        states, frames = self._predict(states, 1, inputs.shape[2:4], train)
        return states, frames[:, 0]

    def step(self, carry: States, frame: Array, train: bool = False) -> Forecast:
        """Predict the next state and frame; of `frame`, only the height and width matter."""
        check_rank("frame", frame, 4, "batch, height, width, channels")
        # The interface of a model that is fed back, so that a stream can be forecast by either.
        carry, frames = self._predict(carry, 1, frame.shape[1:3], train)
        return carry, frames[:, 0]

    def _read(self, inputs: Array, train: bool, dense_targets: bool) -> States:
        if dense_targets:
            raise ConfigError(
                "dense_targets: the forecaster reads no frames; it predicts only after the last "
                "one given"
            )
        check_clips(inputs, self.channels)
        return self.encode(inputs, train)

    def _predict(self, states: States, steps: int, size: Sequence[int], train: bool) -> Forecast:
        states, frames = self.forecast(states, steps, train)
        frames = frames[:, :, : size[0], : size[1]]  # without what patches or levels padded
        # A picture has more levels than bfloat16.
        frames = frames.astype(widest(self.dtype, jnp.float32))
        return states, limited_sigmoid(frames) if self.output == "sigmoid" else frames

    def encode(self, inputs: Array, train: bool) -> States:
        """Encode `[batch, time, height, width, channels]`: the last `(c, h)` of each level."""
        raise NotImplementedError

    def forecast(self, states: States, steps: int, train: bool) -> Forecast:
        """Unroll the forecaster for `steps` steps.

        Returns:
          The states after them, and predictions `[batch, steps, height, width, channels]` of at
          least the inputs' height and width.
        """
        raise NotImplementedError

    def _stack(self, name: str, without_input: int | None = None) -> list[ConvLSTM]:
        """Make a ConvLSTM layer for each level; that of level `without_input` reads none."""
        check_choice("output", self.output, OUTPUTS)
        return recurrent_layers(self, name, without_input)
