"""Encoder and decoder around recurrent layers, and the borders of the pictures they work on."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array

from jaxconvlstm.errors import ConfigError
from jaxconvlstm.nn.conv import Conv, ConvTranspose, Initializer
from jaxconvlstm.nn.dtypes import promoting, widest


def stage_widths(features: int, downsample: int) -> list[int]:
    """Number of channels of each encoder stage: doubling up to `features`, and at least 8.

    Args:
      features: features of the layer that follows.
      downsample: factor between the picture and the smallest map, a power of 2.

    Returns:
      One number per stage, that of the largest map first; none for a factor of 1.

    Raises:
      ConfigError: `downsample` is no power of 2.
    """
    if downsample < 1 or downsample & (downsample - 1):
        raise ConfigError(f"downsample: expected a power of 2, got {downsample}")
    stages = downsample.bit_length() - 1
    return [max(8, features >> (stages - 1 - stage)) for stage in range(stages)]


class Encoder(nn.Module):
    """Strided convolutions that halve the picture until the feature map is small enough.

    Attributes:
      features: output channels of each 4x4 stride-2 stage with a leaky ReLU of slope 0.2; none
        leaves the frame as it is.
      dtype: dtype of the computation and of the maps.
    """

    features: Sequence[int]
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, frames: Array) -> tuple[Array, ...]:
        """Compute the maps of every stage, the frames themselves first and the smallest last.

        Args:
          frames: `[..., height, width, channels]`; sides divisible by `2 ** len(features)`.

        Returns:
          `len(features) + 1` maps; that of stage k is
          `[..., height / 2**(k + 1), width / 2**(k + 1), features[k]]`.
        """
        maps = [frames.astype(self.dtype)]
        for stage, features in enumerate(self.features):
            # 4x4, not 3x3: with stride 2 an even kernel weighs all pixels alike.
            conv = Conv(features, (4, 4), stride=2, dtype=self.dtype, name=f"stage_{stage}")
            maps.append(nn.leaky_relu(conv(maps[-1]), 0.2))
        return tuple(maps)


class Decoder(nn.Module):
    """Transposed convolutions back to the picture, with the encoder's maps as skip connections.

    Attributes:
      features: output channels of each doubling stage, smallest map first.
      channels: channels of the picture.
      head_init: initializer of the last convolution's kernel.
      dtype: dtype of the computation.
    """

    features: Sequence[int]
    channels: int
    head_init: Initializer = nn.initializers.lecun_normal()
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, state: Array, skips: Sequence[Array]) -> Array:
        """Decode a state and the encoder's maps to a picture.

        Args:
          state: the recurrent layers' output on the smallest map, `[..., h, w, features]`.
          skips: the encoder's maps, the frame first.

        Returns:
          `[..., height, width, channels]`, float32, or `dtype` where that is wider: a picture has
          more levels than bfloat16.
        """
        hidden = state.astype(self.dtype)
        for stage, features in enumerate(self.features):
            upsample = ConvTranspose(features, dtype=self.dtype, name=f"stage_{stage}")
            hidden = nn.leaky_relu(upsample(hidden), 0.2)
            # The smallest map, skips[-1], has been through the recurrent layers; stage 0 makes
            # maps of the size of the one before it.
            hidden = jnp.concatenate([hidden, skips[-2 - stage].astype(self.dtype)], axis=-1)
        head = Conv(
            self.channels, (3, 3), kernel_init=self.head_init, dtype=self.dtype, name="head"
        )
        return head(hidden).astype(widest(self.dtype, jnp.float32))


class BatchNorm(nn.BatchNorm):
    """Flax's, also under strict dtype promotion: its statistics are float32 whatever `dtype`."""

    __call__ = promoting(nn.BatchNorm.__call__)


_LARGEST_LOGIT = 15.0


def limited_sigmoid(logits: Array) -> Array:
    """Sigmoid of logits clipped to +-15: strictly inside (0, 1), and never without gradient.

    Args:
      logits: any shape, floats.

    Returns:
      The same shape and dtype, in about [3e-7, 1 - 3e-7] for float32.
    """
    # Further out a float32 sigmoid is flat, and a pixel that is wrong there would stay so. The
    # clipping is hidden from differentiation, so that its gradient of 0 does not do the same.
    limited = jnp.clip(logits, -_LARGEST_LOGIT, _LARGEST_LOGIT)
    return jax.nn.sigmoid(logits + jax.lax.stop_gradient(limited - logits))


def pad_to_multiple(frames: Array, multiple: int) -> Array:
    """Repeat the lower and the right edge until `multiple` divides height and width.

    Args:
      frames: `[..., height, width, channels]`.
      multiple: number of pixels, at least 1.

    Returns:
      `[..., height + below, width + right, channels]`, the same dtype.
    """
    height, width = frames.shape[-3:-1]
    # Zeros would look like an object along the border.
    below, right = -height % multiple, -width % multiple
    leading = [(0, 0)] * (frames.ndim - 3)
    return jnp.pad(frames, [*leading, (0, below), (0, right), (0, 0)], mode="edge")
