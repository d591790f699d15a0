"""Layers: the cell unrolled over time, and the encoder and decoder around it."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from jaxconvlstm.cell import Carry, ConvLSTMCell
from jaxconvlstm.checks import check_rank
from jaxconvlstm.conv import Conv, ConvTranspose, Initializer


class ConvLSTM(nn.Module):
    """A ConvLSTM cell unrolled over time with `nn.scan`.

    The input convolution is taken out of the loop and done for all time steps at once. `step`
    takes one frame instead, for forecasts that feed on themselves and for streams; it uses the
    same parameters, which lie under `cell`.

    Attributes:
      remat: recompute each step in the backward pass instead of storing its gates: less memory,
        about a third more time.
      Others: see `ConvLSTMCell`.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> layer = ConvLSTM(features=64, kernel_size=(3, 3))
      >>> film = jnp.zeros((2, 5, 16, 16, 1))
      >>> outputs, variables = layer.init_with_output(jax.random.key(0), film)
      >>> outputs.shape
      (2, 5, 16, 16, 64)
    """

    features: int
    kernel_size: Sequence[int] = (3, 3)
    peephole: str | None = None
    activation: Callable[[Array], Array] = jnp.tanh
    gate_activation: Callable[[Array], Array] = jax.nn.sigmoid
    forget_bias: float = 1.0
    use_bias: bool = True
    remat: bool = False
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32

    def setup(self) -> None:
        self.cell = ConvLSTMCell(
            features=self.features,
            kernel_size=self.kernel_size,
            peephole=self.peephole,
            activation=self.activation,
            gate_activation=self.gate_activation,
            forget_bias=self.forget_bias,
            use_bias=self.use_bias,
            dtype=self.dtype,
            param_dtype=self.param_dtype,
            name="cell",
        )

    def __call__(
        self,
        inputs: Float[Array, "batch time height width channels"],
        carry: Carry | None = None,
        *,
        return_carry: bool = False,
    ) -> Any:
        """All hidden states `[batch, time, height, width, features]`.

        Args:
          inputs: `[batch, time, height, width, channels]`.
          carry: initial `(c, h)`, each `[batch, height, width, features]`; zeros by default.
          return_carry: also return the last `(c, h)`: `(carry, outputs)`.
        """
        check_rank("inputs", inputs, 5, "batch, time, height, width, channels")
        frames = jnp.moveaxis(inputs, 1, 0)  # time first, for the scan
        if carry is None:
            carry = self.initialize_carry(frames.shape[1:])

        def update(cell: ConvLSTMCell, carry: Carry, projected: Array) -> tuple[Carry, Array]:
            return cell.update(carry, projected)

        body = nn.remat(update, prevent_cse=False) if self.remat else update
        scan = nn.scan(body, variable_broadcast="params", split_rngs={"params": False})
        carry, outputs = scan(self.cell, carry, self.cell.project(frames))
        outputs = jnp.moveaxis(outputs, 0, 1)
        return (carry, outputs) if return_carry else outputs

    def step(
        self, carry: Carry, frame: Float[Array, "batch height width channels"]
    ) -> tuple[Carry, Float[Array, "batch height width features"]]:
        """One time step: `(carry, frame)` to `(new carry, hidden state)`."""
        return self.cell(carry, frame)

    def initialize_carry(self, frame_shape: Sequence[int]) -> Carry:
        """Zero state for frames of shape `[batch, height, width, channels]`."""
        return self.cell.initialize_carry(None, frame_shape)


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
