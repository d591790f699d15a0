"""ConvLSTM layers on whole frames, one upon the other, and a convolution over time."""

from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from jaxconvlstm.checks import check_channels, check_choice, check_clips, check_positive, check_rank
from jaxconvlstm.models.autoregressive import AutoregressiveModel, State
from jaxconvlstm.nn.cell import Carry
from jaxconvlstm.nn.conv import Initializer, depth_to_space, per_channel, space_to_depth
from jaxconvlstm.nn.conv_lstm import recurrent_layers
from jaxconvlstm.nn.convolution import convolve, same_padding
from jaxconvlstm.nn.dtypes import widest
from jaxconvlstm.nn.encoder_decoder import BatchNorm, limited_sigmoid, pad_to_multiple
from jaxconvlstm.nn.motion import filter_locally

OUTPUTS = ("sigmoid", "frame", "change", "filter")
NORMS = ("none", "batch", "batch-between")


class StackedConvLSTM(AutoregressiveModel):
    """ConvLSTM layers stacked on the frames themselves, fed back.

        frame -> ConvLSTM (-> batch norm) -> ... -> ConvLSTM (-> batch norm) -> 3x3x3 -> next frame

    The published networks of this form differ from it in one thing: their last convolution, over
    time, height and width, also reads the maps of the *next* frame, which in their training is the
    one to be predicted. Here it reads those of the last three frames, so that no prediction sees
    its own future. Those networks are:

    - the example of moving squares that came with Keras 2 (`examples/conv_lstm.py`): four layers
      of 40 features, 3x3, batch normalisation, sigmoid;
    - "Next-Frame Video Prediction with Convolutional LSTMs" (keras.io, A. Joshi, 2021), on Moving
      MNIST: three layers of 64 features, 5x5, 3x3 and 1x1, ReLU, batch normalisation after the
      first two, but not after the last;
    - variants of it with kernels of 1x1 and 2x2 and ReLU, which cannot follow motion: a kernel
      must reach as far as things move.

    Weights start as in Keras: Glorot for inputs and head, orthogonal for hidden states, forget
    bias 1. The gates are squashed by a sigmoid, as in Keras 3; before that it was a piecewise
    linear "hard" one, which weights of that time need.

    In training, batch normalisation takes its statistics over the batch and all frames given, as
    in Keras, so that each frame has a slight influence on those before it. Frames fed back are
    normalised with the statistics gathered so far, as all frames are after training: those of one
    frame, which blurs the further it is fed back, would spoil them.

    Attributes:
      channels: channels of the pictures.
      features: hidden features of each ConvLSTM layer.
      kernel_size: kernel of each ConvLSTM layer, one number for all of them or one per layer.
      activation: "tanh", "relu" or a function; see `ConvLSTMCell`.
      norm: "batch" puts batch normalisation after each layer, "batch-between" after each but the
        last.
      patch_size: side of the square of pixels that becomes one, with as many times the channels,
        before the first layer (Shi et al. 2015, section 4.1), and becomes pixels again after the
        last. Frames whose sides it does not divide are padded with their edge, and the prediction
        is cropped.
      output: "sigmoid" squashes the prediction into (0, 1), as binary cross-entropy needs; "frame"
        predicts the next frame itself; "change" the difference from the last one; "filter" makes
        each pixel a mean of those around it in the last frame and of a newly predicted value in
        (0, 1), with weights from a softmax that the pixels of a patch share: moving objects are
        copied, so that they stay sharp when they are fed back (De Brabandere et al. 2016, "Dynamic
        Filter Networks", section 3.2).
      reach: with "filter", how far away a pixel may be copied from, down and across, in pixels.
      peephole, dropout, recurrent_dropout, remat, dtype: see `ConvLSTM`.
    """

    channels: int
    features: Sequence[int] = (40, 40, 40, 40)
    kernel_size: Sequence[int] = (3,)
    activation: str | Callable[[Array], Array] = "tanh"
    norm: str = "none"
    patch_size: int = 1
    output: str = "sigmoid"
    reach: int = 10
    peephole: str | None = None
    dropout: float = 0.0
    recurrent_dropout: float = 0.0
    remat: bool = False
    dtype: Any = jnp.float32

    def setup(self) -> None:
        check_choice("output", self.output, OUTPUTS)
        check_choice("norm", self.norm, NORMS)
        check_positive("patch_size", self.patch_size)
        self.layers = recurrent_layers(self)
        norms = {"none": 0, "batch": len(self.features), "batch-between": len(self.features) - 1}
        self.norms = [
            # Keras's epsilon; its momentum, 0.99, lags behind short trainings
            BatchNorm(momentum=0.9, epsilon=1e-3, dtype=self.dtype, name=f"norm_{index}")
            for index in range(norms[self.norm])
        ]
        # The untrained network predicts a change of zero, or filters that are all alike: training
        # starts from persistence.
        zeros, random = nn.initializers.zeros_init(), nn.initializers.glorot_uniform()
        self.positions = (2 * self.reach + 1) ** 2 if self.output == "filter" else 0
        self.head = CausalConv(
            # With filters: a weight for each position, one for the new value, and that value.
            self.channels * self.patch_size**2 + (self.positions and self.positions + 1),
            kernel_init=zeros if self.output in ("change", "filter") else random,
            dtype=self.dtype,
            name="head",
        )

    def observe(self, inputs: Array, train: bool = False, dense_targets: bool = False) -> State:
        """See `AutoregressiveModel.observe`."""
        check_clips(inputs, self.channels)
        hidden, carry = self._patches(inputs), []
        for index, layer in enumerate(self.layers):
            last, hidden = layer(hidden, return_carry=True, train=train)
            carry.append(last)
            hidden = self._normalise(index, hidden, train)
        if not dense_targets:
            hidden, inputs = hidden[:, -3:], inputs[:, -1:]  # the last output reads no more
        terms, decoded = self.head(hidden)
        # The outputs before the last need frames that were left out; they are left out, too.
        frames = self._picture(decoded[:, -inputs.shape[1] :], inputs)
        return (*carry, terms), frames if dense_targets else frames[:, 0]

    def step(self, carry: tuple[Any, ...], frame: Array, train: bool = False) -> State:
        """See `AutoregressiveModel.step`."""
        check_rank("frame", frame, 4, "batch, height, width, channels")
        check_channels("frame", frame, self.channels)
        hidden, after = self._patches(frame), []
        for index, (layer, state) in enumerate(zip(self.layers, carry)):
            state, hidden = layer.step(state, hidden, train)
            after.append(state)
            # By the statistics gathered so far: those of one frame fed back would spoil them.
            hidden = self._normalise(index, hidden, train=False)
        terms, decoded = self.head.step(carry[-1], hidden)
        return (*after, terms), self._picture(decoded, frame)

    def initialize_carry(self, frame_shape: Sequence[int]) -> tuple[Any, ...]:
        """Make the zero state for frames `[batch, height, width, channels]`, to start a stream."""
        batch, height, width, _ = frame_shape
        shape = (batch, -(-height // self.patch_size), -(-width // self.patch_size), 0)
        states: list[Carry] = [layer.initialize_carry(shape) for layer in self.layers]
        return (*states, self.head.initialize_carry(shape))

    def _patches(self, frames: Array) -> Array:
        return space_to_depth(pad_to_multiple(frames, self.patch_size), self.patch_size)

    def _normalise(self, index: int, maps: Array, train: bool) -> Array:
        if index >= len(self.norms):
            return maps
        normalised: Array = self.norms[index](maps, use_running_average=not train)
        return normalised

    def _picture(self, decoded: Array, frames: Array) -> Array:
        height, width = frames.shape[-3:-1]
        if self.output == "filter":
            return self._filtered(decoded, frames)[..., :height, :width, :]
        decoded = depth_to_space(decoded, self.patch_size)[..., :height, :width, :]
        if self.output == "change":
            # In float32: a small change would be lost in bfloat16's 8 bits.
            return frames.astype(decoded.dtype) + decoded
        return limited_sigmoid(decoded) if self.output == "sigmoid" else decoded

    def _filtered(self, decoded: Array, frames: Array) -> Array:
        """Predict the next frames, padded to whole patches, by `output="filter"`."""
        logits, new = jnp.split(decoded, [self.positions + 1], axis=-1)
        # A bias of log(positions) gives the middle position as much weight as all others have, so
        # that the untrained network copies each pixel with half of the weight.
        middle = jnp.log(self.positions) * nn.one_hot(self.positions // 2, self.positions + 1)
        weights = nn.softmax(logits + per_channel(middle.astype(logits.dtype), logits))
        frames = pad_to_multiple(frames, self.patch_size).astype(decoded.dtype)
        copied = filter_locally(frames, weights[..., :-1])
        return copied + depth_to_space(weights[..., -1:] * limited_sigmoid(new), self.patch_size)


class CausalConv(nn.Module):
    """A 3x3x3 convolution over time, height and width that sees no later frame.

    With zeros before the first frame, `*` for 2-D convolution and SAME padding in space:

        outputs[t] = kernel[0] * maps[t - 2] + kernel[1] * maps[t - 1] + kernel[2] * maps[t] + bias

    The kernel is `[3, 3, 3, features, channels]`, as that of Keras's `Conv3D`. All of it is
    applied to each frame at once, in one 2-D convolution that gives the frame's terms in the
    output at its own time and at the next two. On a CPU this is many times faster than a 3-D
    convolution, or one of three frames side by side, as maps have more channels than a picture.

    The carry is the terms so far of the next two outputs, each `[batch, height, width, channels]`.

    Attributes:
      channels: number of output channels.
      kernel_init: initializer of the kernel; Glorot, as in Keras.
      dtype: dtype of the convolution; sums and results are float32, or wider.
    """

    channels: int
    kernel_init: Initializer = nn.initializers.glorot_uniform()
    dtype: Any = jnp.float32

    def __call__(
        self, maps: Float[Array, "batch time height width features"]
    ) -> tuple[Carry, Float[Array, "batch time height width channels"]]:
        """Compute `(carry after them, all outputs)`."""
        later, soon, now = self._terms(maps)
        # kernel[0] is for maps two frames old, so that what it gives is added two frames later.
        outputs = _delay(later, 2) + _delay(soon, 1) + now
        return (_delay(later, 1)[:, -1] + soon[:, -1], later[:, -1]), outputs

    def step(
        self, carry: Carry, maps: Float[Array, "batch height width features"]
    ) -> tuple[Carry, Float[Array, "batch height width channels"]]:
        """Take one frame: `(carry, maps)` to `(new carry, output)`."""
        later, soon, now = self._terms(maps)
        return (carry[1] + soon, later), carry[0] + now

    def initialize_carry(self, shape: Sequence[int]) -> Carry:
        """Make the zero state for maps `[batch, height, width, features]`."""
        zeros = jnp.zeros((*shape[:-1], self.channels), widest(self.dtype, jnp.float32))
        return zeros, zeros

    @nn.compact
    def _terms(self, maps: Array) -> list[Array]:
        """Compute each frame's terms in the output two frames later, in the next and in its own."""
        features = maps.shape[-1]
        kernel = self.param(
            "kernel", self.kernel_init, (3, 3, 3, features, self.channels), jnp.float32
        )
        bias = self.param("bias", nn.initializers.zeros_init(), (self.channels,), jnp.float32)
        # Time joins the features: one convolution with [3, 3, features, 3 * channels].
        flat = jnp.moveaxis(kernel, 0, 3).reshape((3, 3, features, 3 * self.channels))
        terms = convolve(
            maps.astype(self.dtype), flat.astype(self.dtype), same_padding(flat.shape[:2])
        )
        terms = terms.astype(widest(self.dtype, jnp.float32))
        later, soon, now = jnp.split(terms, 3, axis=-1)
        return [later, soon, now + per_channel(bias.astype(now.dtype), now)]


def _delay(frames: Array, by: int) -> Array:
    """Shift `[batch, time, ...]` to later times by so many frames, with zeros before them."""
    return jnp.pad(frames, ((0, 0), (by, 0), (0, 0), (0, 0), (0, 0)))[:, :-by]
