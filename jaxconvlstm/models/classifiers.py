"""Classifiers of clips: many frames to one class."""

from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from jaxconvlstm.checks import check_positive, check_rank
from jaxconvlstm.nn.conv_lstm import ConvLSTM, recurrent_layers
from jaxconvlstm.nn.encoder_decoder import Encoder, pad_to_multiple, stage_widths


class CNNLSTMClassifier(nn.Module):
    """A small convolution of every frame, an LSTM over the frames, and a linear layer.

        frame -> convolution 2x2, ReLU -> max pooling 2x2 -> flatten -> LSTM -> linear

    Keras's `TimeDistributed(Conv2D)`, `MaxPooling2D`, `Flatten`, `LSTM` and `Dense`, with its
    initial weights; the softmax is the loss's. A ConvLSTM with a 1x1 kernel on a 1x1 map is the
    LSTM. The flattening fixes the frame size.

    Attributes:
      classes: number of classes.
      filters: output channels of the convolution.
      units: units of the LSTM.
    """

    classes: int
    filters: int = 2
    units: int = 50

    @nn.compact
    def __call__(
        self, inputs: Float[Array, "batch time height width channels"], train: bool = False
    ) -> Float[Array, "batch classes"]:
        """The logit of every class.

        Args:
          inputs: `[batch, time, height, width, channels]`, scaled to [0, 1].
          train: changes nothing here.
        """
        del train
        _check_clips(inputs)
        glorot = nn.initializers.glorot_uniform()
        frames = inputs.reshape((-1, *inputs.shape[2:]))
        maps = nn.relu(
            nn.Conv(self.filters, (2, 2), padding="VALID", kernel_init=glorot, name="conv")(frames)
        )
        maps = nn.max_pool(maps, (2, 2), (2, 2))
        vectors = maps.reshape((*inputs.shape[:2], 1, 1, -1))
        hidden = ConvLSTM(self.units, (1, 1), name="lstm")(vectors)
        return nn.Dense(self.classes, kernel_init=glorot, name="head")(hidden[:, -1, 0, 0])


class ConvLSTMClassifier(nn.Module):
    """ConvLSTM layers on the feature map of every frame, and a linear layer on the last state.

        frame -> strided convolutions -> ConvLSTM layers -> mean and maximum -> linear

    The last layer's state after the last frame is reduced to its mean and its maximum over the
    map, so that any number of frames of any size can be classified.

    Attributes:
      classes: number of classes.
      features: hidden features of each ConvLSTM layer.
      kernel_size: kernel of each ConvLSTM layer, one number for all of them or one per layer.
      downsample: factor between the picture and the feature map, a power of 2. Frames whose sides
        it does not divide are padded with their edge.
      peephole, activation, dropout, recurrent_dropout, remat, dtype: see `ConvLSTM`.
    """

    classes: int
    features: Sequence[int] = (16,)
    kernel_size: Sequence[int] = (3,)
    downsample: int = 4
    peephole: str | None = None
    activation: str | Callable[[Array], Array] = "tanh"
    dropout: float = 0.0
    recurrent_dropout: float = 0.0
    remat: bool = False
    dtype: Any = jnp.float32

    def setup(self) -> None:
        widths = stage_widths(self.features[0], self.downsample)
        self.encoder = Encoder(widths, dtype=self.dtype, name="encoder")
        self.layers = recurrent_layers(self)
        self.head = nn.Dense(self.classes, name="head")

    def __call__(
        self, inputs: Float[Array, "batch time height width channels"], train: bool = False
    ) -> Float[Array, "batch classes"]:
        """The logit of every class.

        Args:
          inputs: `[batch, time, height, width, channels]`, scaled to [0, 1].
          train: whether to drop; that takes the PRNG "dropout".
        """
        _check_clips(inputs)
        hidden = self.encoder(pad_to_multiple(inputs, self.downsample))[-1]
        for layer in self.layers:
            hidden = layer(hidden, train=train)
        state = hidden[:, -1].astype(jnp.promote_types(self.dtype, jnp.float32))
        return self.head(jnp.concatenate([state.mean((1, 2)), state.max((1, 2))], axis=-1))


def _check_clips(inputs: Array) -> None:
    check_rank("inputs", inputs, 5, "batch, time, height, width, channels")
    check_positive("inputs: number of frames", inputs.shape[1])
