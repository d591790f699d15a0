"""The Keras classifier of clips: a convolution of every frame and an LSTM over the frames."""

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from jaxconvlstm.checks import check_clips
from jaxconvlstm.nn.conv_lstm import ConvLSTM
from jaxconvlstm.nn.dtypes import widest


class CNNLSTMClassifier(nn.Module):
    """CNN-LSTM: a small convolution of every frame, an LSTM over the frames, and a linear layer.

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
        """Compute the logit of every class.

        Args:
          inputs: `[batch, time, height, width, channels]`, scaled to [0, 1].
          train: changes nothing here.

        Returns:
          `[batch, classes]`, float32, or the dtype of the inputs where that is wider.
        """
        del train
        check_clips(inputs)
        dtype = widest(inputs.dtype, jnp.float32)
        glorot = nn.initializers.glorot_uniform()
        frames = inputs.reshape((-1, *inputs.shape[2:]))  # [batch * time, ...]
        maps = nn.relu(
            nn.Conv(
                self.filters,
                (2, 2),
                padding="VALID",
                kernel_init=glorot,
                dtype=dtype,
                name="conv",
            )(frames)
        )
        maps = nn.max_pool(maps, (2, 2), (2, 2))
        # Maps of one pixel, on which a ConvLSTM with a 1x1 kernel is an LSTM.
        vectors = maps.reshape((*inputs.shape[:2], 1, 1, -1))
        hidden = ConvLSTM(self.units, (1, 1), dtype=dtype, name="lstm")(vectors)
        return nn.Dense(self.classes, kernel_init=glorot, dtype=dtype, name="head")(
            hidden[:, -1, 0, 0]
        )
