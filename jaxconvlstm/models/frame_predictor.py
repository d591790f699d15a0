"""The project's own architecture: encoder, ConvLSTM layers on the feature map, decoder."""

from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array

from jaxconvlstm.checks import check_channels, check_choice, check_clips, check_rank
from jaxconvlstm.models.autoregressive import AutoregressiveModel, State
from jaxconvlstm.nn.conv_lstm import recurrent_layers, run_layers
from jaxconvlstm.nn.dtypes import widest
from jaxconvlstm.nn.encoder_decoder import (
    Decoder,
    Encoder,
    limited_sigmoid,
    pad_to_multiple,
    stage_widths,
)
from jaxconvlstm.nn.motion import match, warp

OUTPUTS = ("frame", "change", "motion", "sigmoid")


class FramePredictor(AutoregressiveModel):
    """Frame predictor: ConvLSTM layers between an encoder and a decoder, fed back.

        frame -> strided convolutions -> ConvLSTM layers -> transposed convolutions -> next frame
                     |______________________________________________|  (skip connections)

    The frames given are read one after the other; what is predicted after the last of them is fed
    back as the next input, for as long as frames are asked for. The encoder of the given frames
    and the input convolution of every layer run on all time steps at once; only what depends on a
    prediction runs in a loop.

    Attributes:
      channels: channels of the pictures.
      features: hidden features of each ConvLSTM layer.
      kernel_size: kernel of each ConvLSTM layer, one number for all of them or one per layer; on
        the feature map, so a 3x3 kernel spans `3 * downsample` pixels.
      downsample: factor between the picture and the feature map, a power of 2. Frames whose sides
        it does not divide are padded with their edge, and the prediction is cropped.
      output: "frame" predicts the next frame itself; "change" the difference from the last one;
        "motion" the difference from the last one warped along its motion, which the encoder
        reads too (see `motion.match`); "sigmoid" squashes the prediction into (0, 1), as binary
        cross-entropy needs.
      reach: largest motion that "motion" looks for, in pixels a frame.
      activation: "tanh", "relu" or a function; see `ConvLSTMCell`.
      peephole, dropout, recurrent_dropout, remat, dtype: see `ConvLSTM`.
    """

    channels: int
    features: Sequence[int] = (32, 32)
    kernel_size: Sequence[int] = (3,)
    downsample: int = 2
    output: str = "frame"
    reach: int = 10
    peephole: str | None = None
    activation: str | Callable[[Array], Array] = "tanh"
    dropout: float = 0.0
    recurrent_dropout: float = 0.0
    remat: bool = False
    dtype: Any = jnp.float32

    def setup(self) -> None:
        check_choice("output", self.output, OUTPUTS)
        widths = stage_widths(self.features[0], self.downsample)
        self.encoder = Encoder(widths, dtype=self.dtype, name="encoder")
        self.layers = recurrent_layers(self)
        # The untrained network predicts a change of zero, which is persistence, or for "motion" the
        # extrapolation along the flow: training starts from there.
        zeros, random = nn.initializers.zeros_init(), nn.initializers.lecun_normal()
        self.decoder = Decoder(
            widths[::-1],
            self.channels,
            head_init=zeros if self.output in ("change", "motion") else random,
            dtype=self.dtype,
            name="decoder",
        )

    def observe(self, inputs: Array, train: bool = False, dense_targets: bool = False) -> State:
        """See `AutoregressiveModel.observe`."""
        check_clips(inputs, self.channels)
        # The frame before each; the first has none, and stands still.
        before = jnp.concatenate([inputs[:, :1], inputs[:, :-1]], axis=1)
        # Matching takes one batch axis: [batch * time, height, width, channels], and back.
        merged = (frames.reshape((-1, *frames.shape[2:])) for frames in (before, inputs))
        read, base = (
            frames.reshape((*inputs.shape[:2], *frames.shape[1:]))
            for frames in self._encoder_input(*merged)
        )
        maps = self.encoder(pad_to_multiple(read, self.downsample))
        carry: list[Any]
        carry, hidden = run_layers(self.layers, maps[-1], train)
        if self.output == "motion":
            # `step` needs the newest frame for the next flow, and to know that there is one.
            newest = inputs[:, -1].astype(widest(self.dtype, inputs.dtype, jnp.float32))
            carry.append((newest, jnp.ones((len(inputs), 1, 1, 1), bool)))
        # Decoding is half of the work: of the frames given only the last, if that will do.
        if dense_targets:
            return tuple(carry), self._decode(hidden, maps, base)
        skips = [stage[:, -1] for stage in maps]
        return tuple(carry), self._decode(hidden[:, -1], skips, base[:, -1])

    def step(self, carry: tuple[Any, ...], frame: Array, train: bool = False) -> State:
        """See `AutoregressiveModel.step`."""
        check_rank("frame", frame, 4, "batch, height, width, channels")
        check_channels("frame", frame, self.channels)
        after: list[Any] = []
        before = frame
        if self.output == "motion":
            last, there = carry[-1]
            # A stream's first frame stands still.
            before = jnp.where(there, last.astype(frame.dtype), frame)
        read, base = self._encoder_input(before, frame)
        maps = self.encoder(pad_to_multiple(read, self.downsample))
        hidden = maps[-1]
        for layer, state in zip(self.layers, carry):
            state, hidden = layer.step(state, hidden, train)
            after.append(state)
        if self.output == "motion":
            after.append((frame.astype(last.dtype), jnp.ones_like(there)))
        return tuple(after), self._decode(hidden, maps, base)

    def initialize_carry(self, frame_shape: Sequence[int]) -> tuple[Any, ...]:
        """Make the zero state for frames `[batch, height, width, channels]`, to start a stream."""
        batch, height, width, _ = frame_shape
        # Of the padded feature map; a state has as many channels as its layer, whatever it reads.
        shape = (batch, -(-height // self.downsample), -(-width // self.downsample), 0)
        carry: list[Any] = [layer.initialize_carry(shape) for layer in self.layers]
        if self.output == "motion":
            carry.append((jnp.zeros(tuple(frame_shape)), jnp.zeros((batch, 1, 1, 1), bool)))
        return tuple(carry)

    def _encoder_input(self, before: Array, frames: Array) -> tuple[Array, Array]:
        """Compute the encoder's input, and the base picture that a change is added to.

        Args:
          before: the frame before each of them, `[batch, height, width, channels]`.
          frames: `[batch, height, width, channels]`.
        """
        if self.output != "motion":
            return frames, frames
        # The frame as it would be if everything moved on as it did last: input and base at once.
        moved = warp(frames, match(before, frames, self.reach))
        return jnp.concatenate([frames, moved], axis=-1), moved

    def _decode(self, hidden: Array, skips: Sequence[Array], base: Array) -> Array:
        height, width = base.shape[-3:-1]  # without what was padded
        decoded = self.decoder(hidden, skips)[..., :height, :width, :]
        if self.output in ("change", "motion"):
            return base.astype(decoded.dtype) + decoded
        return limited_sigmoid(decoded) if self.output == "sigmoid" else decoded
