"""An LSTM over one vector a frame, between convolutions and transposed convolutions."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array

from jaxconvlstm.checks import check_channels, check_clips, check_rank
from jaxconvlstm.errors import ConfigError
from jaxconvlstm.models.autoregressive import AutoregressiveModel, State
from jaxconvlstm.nn.cell import Carry
from jaxconvlstm.nn.conv import Conv, ConvTranspose
from jaxconvlstm.nn.conv_lstm import ConvLSTM
from jaxconvlstm.nn.dtypes import widest
from jaxconvlstm.nn.encoder_decoder import BatchNorm, limited_sigmoid

SIDE = 128
"""Height and width of the frames: seven halvings bring them to one vector."""
_STRIDES = (1, 2, 1, 2, 1, 2, 2)


class Seq2OneLSTM(AutoregressiveModel):
    """LSTM over one vector per frame of 128x128 pixels.

        frame -> seven strided convolutions -> linear -> LSTM -> linear -> seven transposed ones

    The network of many sequence-to-one image LSTMs in PyTorch, weight by weight (37,059,187 with
    three channels, where PyTorch's LSTM has a second bias vector of 4,096). A ConvLSTM with a 1x1
    kernel on a 1x1 map is the LSTM. It was made to predict one frame; for more it is fed back.
    As a frame is reduced to one vector, `FramePredictor` predicts more sharply.

    Attributes:
      channels: channels of the pictures.
      encoder_features: output channels of each 4x4 stride-2 convolution; batch norm, leaky ReLU.
        The last are the LSTM's units too.
      decoder_features: output channels of each 4x4 transposed convolution but the last, whose are
        the picture's; batch norm, ReLU. Sides of the maps: 1, 4, 10, 13, 28, 31, 64, 128.
      dropout, recurrent_dropout, dtype: see `ConvLSTM`.
    """

    channels: int
    encoder_features: Sequence[int] = (32, 64, 128, 256, 512, 512, 1024)
    decoder_features: Sequence[int] = (512, 256, 128, 64, 32, 16)
    dropout: float = 0.0
    recurrent_dropout: float = 0.0
    dtype: Any = jnp.float32

    def setup(self) -> None:
        # As PyTorch's, whose momentum of 0.1 is the weight of the new value, not of the old.
        norm = partial(BatchNorm, momentum=0.9, epsilon=1e-5, dtype=self.dtype)
        units = self.encoder_features[-1]
        # Batch normalisation cancels the convolutions' biases; PyTorch's networks have them, too.
        self.down = [
            Conv(features, (4, 4), 2, dtype=self.dtype, name=f"down_{index}")
            for index, features in enumerate(self.encoder_features)
        ]
        self.down_norm = [norm(name=f"down_norm_{index}") for index in range(len(self.down))]
        self.encoded = nn.Dense(units, dtype=self.dtype, name="encoded")
        self.lstm = ConvLSTM(
            units,
            (1, 1),
            forget_bias=0.0,  # PyTorch's
            dropout=self.dropout,
            recurrent_dropout=self.recurrent_dropout,
            dtype=self.dtype,
            name="lstm",
        )
        self.decoded = nn.Dense(units, dtype=self.dtype, name="decoded")
        self.up = [
            ConvTranspose(
                features,
                stride,
                kernel_size=4,
                # PyTorch's padding of 0 keeps all that the kernel reaches, so that 1x1 becomes 4x4.
                crop=index == len(self.decoder_features),
                kernel_init=nn.initializers.he_normal(),
                dtype=self.dtype,
                name=f"up_{index}",
            )
            for index, (features, stride) in enumerate(
                zip((*self.decoder_features, self.channels), _STRIDES)
            )
        ]
        self.up_norm = [
            norm(name=f"up_norm_{index}") for index in range(len(self.decoder_features))
        ]

    def observe(self, inputs: Array, train: bool = False, dense_targets: bool = False) -> State:
        """See `AutoregressiveModel.observe`; frames of 128x128."""
        check_clips(inputs)
        batch, time = inputs.shape[:2]
        # One axis for batch and time: the deepest maps are too small to keep a processor busy.
        encoded = self._encode(inputs.reshape((-1, *inputs.shape[2:])), train)
        encoded = encoded.reshape((batch, time, *encoded.shape[1:]))
        carry, hidden = self.lstm(encoded, return_carry=True, train=train)
        if not dense_targets:
            return carry, self._decode(hidden[:, -1], train)
        frames = self._decode(hidden.reshape((-1, *hidden.shape[2:])), train)
        return carry, frames.reshape((batch, time, *frames.shape[1:]))

    def step(self, carry: Carry, frame: Array, train: bool = False) -> State:
        """See `AutoregressiveModel.step`."""
        check_rank("frame", frame, 4, "batch, height, width, channels")
        carry, hidden = self.lstm.step(carry, self._encode(frame, train), train)
        return carry, self._decode(hidden, train)

    def initialize_carry(self, frame_shape: Sequence[int]) -> Carry:
        """Make the zero state for frames `[batch, height, width, channels]`, to start a stream."""
        return self.lstm.initialize_carry((frame_shape[0], 1, 1, 0))

    def _encode(self, frames: Array, train: bool) -> Array:
        """`[batch, height, width, channels]` to `[batch, 1, 1, units]`."""
        check_channels("inputs", frames, self.channels)
        height, width = frames.shape[1:3]
        if (height, width) != (SIDE, SIDE):
            raise ConfigError(
                f"inputs: seq2one-lstm reads frames of {SIDE}x{SIDE} only, got {height}x{width}; "
                f"add --size {SIDE} {SIDE}"
            )
        hidden = frames
        for conv, norm in zip(self.down, self.down_norm):
            hidden = nn.leaky_relu(norm(conv(hidden), use_running_average=not train), 0.2)
        return self.encoded(hidden)

    def _decode(self, hidden: Array, train: bool) -> Array:
        """`[batch, 1, 1, units]` to `[batch, height, width, channels]`."""
        # [batch, 1, 1, units], which the transposed convolutions widen to 128x128
        hidden = nn.relu(self.decoded(hidden))
        for conv, norm in zip(self.up, self.up_norm):
            hidden = nn.relu(norm(conv(hidden), use_running_average=not train))
        logits = self.up[-1](hidden)
        return limited_sigmoid(logits.astype(widest(self.dtype, jnp.float32)))
