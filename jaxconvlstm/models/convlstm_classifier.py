"""A classifier of clips with ConvLSTM layers: many frames to one class."""

from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from jaxconvlstm.checks import check_clips
from jaxconvlstm.nn.conv_lstm import recurrent_layers, run_layers
from jaxconvlstm.nn.dtypes import widest
from jaxconvlstm.nn.encoder_decoder import Encoder, pad_to_multiple, stage_widths


class ConvLSTMClassifier(nn.Module):
    """Classifier: ConvLSTM layers on every frame's feature map, a linear layer on the last state.

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
        self.head = nn.Dense(self.classes, dtype=widest(self.dtype, jnp.float32), name="head")

    def __call__(
        self, inputs: Float[Array, "batch time height width channels"], train: bool = False
    ) -> Float[Array, "batch classes"]:
        """Compute the logit of every class.

        Args:
          inputs: `[batch, time, height, width, channels]`, scaled to [0, 1].
          train: apply dropout, which takes the PRNG "dropout".

        Returns:
          `[batch, classes]`, float32, or `dtype` or that of the inputs where it is wider.
        """
        check_clips(inputs)
        maps = self.encoder(pad_to_multiple(inputs, self.downsample))[-1]
        _, hidden = run_layers(self.layers, maps, train)
        # The mean says how much of something there is, the maximum that it is there at all, however
        # small; neither depends on the size of the map.
        state = hidden[:, -1].astype(self.head.dtype)
        logits = self.head(jnp.concatenate([state.mean((1, 2)), state.max((1, 2))], axis=-1))
        return logits.astype(widest(logits.dtype, inputs.dtype))
