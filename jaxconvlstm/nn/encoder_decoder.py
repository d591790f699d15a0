"""Encoder and decoder around recurrent layers, and the borders of the pictures they work on."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array

from jaxconvlstm.errors import ConfigError
from jaxconvlstm.nn.conv import Conv, ConvTranspose, Initializer


def stage_widths(features: int, downsample: int) -> list[int]:
    """Channels of an encoder's stages, which double up to `features`, and are at least 8.

    Args:
      features: features of the layer that follows.
      downsample: factor between the picture and the smallest map, a power of 2.

    Raises:
      ConfigError: it is none.
    """
    if downsample < 1 or downsample & (downsample - 1):
        raise ConfigError(f"downsample: expected a power of 2, got {downsample}")
    stages = downsample.bit_length() - 1
    return [max(8, features >> (stages - 1 - stage)) for stage in range(stages)]


class Encoder(nn.Module):
    """Strided convolutions that halve the picture until the feature map is small enough.

    Attributes:
      features: output channels of each 4x4 stride-2 stage; none leaves the frame as it is.
    """

    features: Sequence[int]
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, frames: Array) -> tuple[Array, ...]:
        """The maps of every stage, the frames themselves first and the smallest last.

        Args:
          frames: `[..., height, width, channels]`; sides divisible by `2 ** len(features)`.
        """
        maps = [frames.astype(self.dtype)]
        for stage, features in enumerate(self.features):
            conv = Conv(features, (4, 4), stride=2, dtype=self.dtype, name=f"stage_{stage}")
            maps.append(nn.leaky_relu(conv(maps[-1]), 0.2))
        return tuple(maps)


class Decoder(nn.Module):
    """Transposed convolutions back to the picture, with the encoder's maps as skip connections.

    Attributes:
      features: output channels of each doubling stage, smallest map first.
      channels: channels of the picture.
      head_init: how the last convolution's kernel starts.
    """

    features: Sequence[int]
    channels: int
    head_init: Initializer = nn.initializers.lecun_normal()
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, state: Array, skips: Sequence[Array]) -> Array:
        """`[..., h, w, features]` and the encoder's maps to `[..., height, width, channels]`.

        Args:
          state: the recurrent layers' output on the smallest map.
          skips: the encoder's maps, the frame first.

        Returns:
          float32, or `dtype` where that is wider: a picture has more levels than bfloat16.
        """
        hidden = state.astype(self.dtype)
        for stage, features in enumerate(self.features):
            upsample = ConvTranspose(features, dtype=self.dtype, name=f"stage_{stage}")
            hidden = nn.leaky_relu(upsample(hidden), 0.2)
            hidden = jnp.concatenate([hidden, skips[-2 - stage].astype(self.dtype)], axis=-1)
        head = Conv(
            self.channels, (3, 3), kernel_init=self.head_init, dtype=self.dtype, name="head"
        )
        return head(hidden).astype(jnp.promote_types(self.dtype, jnp.float32))


_LARGEST_LOGIT = 15.0


def limited_sigmoid(logits: Array) -> Array:
    """The sigmoid of `logits` limited to +-15: strictly inside (0, 1), and never without gradient.

    Past the limit a float32 sigmoid is flat, and a pixel that is wrong there would stay so; the
    gradient passes the limit as if it were not there.
    """
    limited = jnp.clip(logits, -_LARGEST_LOGIT, _LARGEST_LOGIT)
    return jax.nn.sigmoid(logits + jax.lax.stop_gradient(limited - logits))


def pad_to_multiple(frames: Array, multiple: int) -> Array:
    """`[..., height, width, channels]` with sides that `multiple` divides, by repeating the edge.

    Rows are added below and columns on the right.
    """
    height, width = frames.shape[-3:-1]
    below, right = -height % multiple, -width % multiple
    leading = [(0, 0)] * (frames.ndim - 3)
    return jnp.pad(frames, [*leading, (0, below), (0, right), (0, 0)], mode="edge")
