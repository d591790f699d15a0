"""Convolutions with hand-written gradients, safe and fast inside a loop.

XLA's CPU backend has a fast path for a plain convolution, but not for the convolutions that
automatic differentiation makes of it when they stand inside a `while` loop, which is where a
recurrent network puts them: there they fall to a naive loop, some 40 times slower. So the
gradients are written down here as operations that stay fast everywhere:

- with respect to the input: a plain convolution with the kernel flipped in space and its channel
  axes swapped;
- with respect to the kernel: matrix products of shifted inputs with the output's cotangent.

Strided and transposed convolutions are the same stride-1 convolution after a space-to-depth or
before a depth-to-space, so that one pair of gradients serves all three.

Layout: inputs are `[batch, height, width, channels]`, kernels `[height, width, in, out]`.
Forward-mode differentiation (`jax.jvp`) is not supported; reverse mode is, to any order.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax
from jaxtyping import Array, Float

Padding = tuple[tuple[int, int], tuple[int, int]]
Initializer = Callable[..., Any]

_DIMENSIONS = ("NHWC", "HWIO", "NHWC")
# Below this many channels on one side, one product with all shifts of that side next to each other
# (im2col) is faster than one thin product per kernel position, each of which reads the other side.
_FEW_CHANNELS = 8


def same_padding(kernel_size: Sequence[int]) -> Padding:
    """Zero padding that keeps height and width; the extra row of an even kernel goes last."""
    height, width = kernel_size
    return ((height - 1) // 2, height // 2), ((width - 1) // 2, width // 2)


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def convolve(
    inputs: Float[Array, "*leading height width channels"],
    kernel: Float[Array, "kernel_height kernel_width channels features"],
    padding: Padding,
) -> Float[Array, "*leading out_height out_width features"]:
    """Stride-1 convolution (cross-correlation, as in every deep-learning library).

    Args:
      inputs: `[batch, height, width, channels]`, or with a time axis in front of it. All leading
        axes are convolved alike; the kernel's gradient is accumulated over the first of five
        axes, in pieces that stay in the processor's cache.
      kernel: `[kernel_height, kernel_width, channels, features]`, the inputs' dtype.
      padding: zeros `((top, bottom), (left, right))`, each less than the kernel's extent.

    Returns:
      `[..., height + top + bottom - kernel_height + 1, ..., features]`, the inputs' dtype.
    """
    merged = inputs.reshape((-1, *inputs.shape[-3:]))
    outputs = lax.conv_general_dilated(
        merged, kernel, (1, 1), padding, dimension_numbers=_DIMENSIONS
    )
    return outputs.reshape((*inputs.shape[:-3], *outputs.shape[-3:]))


def _convolve_forward(inputs: Array, kernel: Array, padding: Padding) -> tuple[Array, Any]:
    return convolve(inputs, kernel, padding), (inputs, kernel)


def _convolve_backward(padding: Padding, residuals: Any, cotangent: Array) -> tuple[Array, Array]:
    inputs, kernel = residuals
    size = kernel.shape[:2]
    flipped = kernel[::-1, ::-1].swapaxes(2, 3)
    inputs_cotangent = convolve(cotangent, flipped, _mirrored(size, padding))
    kernel_cotangent = lax.platform_dependent(
        inputs,
        cotangent,
        cpu=partial(_kernel_gradient_products, size=size, padding=padding),
        default=partial(_kernel_gradient_convolution, size=size, padding=padding),
    )
    return inputs_cotangent, kernel_cotangent.astype(kernel.dtype)


convolve.defvjp(_convolve_forward, _convolve_backward)


def _kernel_gradient_products(
    inputs: Array, cotangent: Array, *, size: tuple[int, int], padding: Padding
) -> Array:
    """The kernel's gradient as matrix products, one time step after the other."""
    if inputs.ndim <= 4:
        inputs, cotangent = (a.reshape((-1, *a.shape[-3:])) for a in (inputs, cotangent))
        return _kernel_gradient_piece(inputs, cotangent, size, padding).astype(inputs.dtype)
    inputs, cotangent = (a.reshape((-1, *a.shape[-4:])) for a in (inputs, cotangent))

    def add_piece(total: Array, piece: tuple[Array, Array]) -> tuple[Array, None]:
        return total + _kernel_gradient_piece(piece[0], piece[1], size, padding), None

    shape = (*size, inputs.shape[-1], cotangent.shape[-1])
    zeros = jnp.zeros(shape, _sum_dtype(inputs))
    return lax.scan(add_piece, zeros, (inputs, cotangent))[0].astype(inputs.dtype)


def _sum_dtype(array: Array) -> Any:
    """At least float32: a bfloat16 sum stops growing after 256 terms of equal size."""
    return jnp.promote_types(array.dtype, jnp.float32)


def _kernel_gradient_piece(
    inputs: Array, cotangent: Array, size: tuple[int, int], padding: Padding
) -> Array:
    contract = partial(
        lax.dot_general,
        dimension_numbers=(((0, 1, 2), (0, 1, 2)), ((), ())),
        preferred_element_type=_sum_dtype(inputs),
    )
    channels, features = inputs.shape[-1], cotangent.shape[-1]
    if features < _FEW_CHANNELS < channels:
        # Shifting the inputs one way is shifting the cotangent the other way.
        shifted = _shifts(cotangent, size, _mirrored(size, padding))[::-1]
        products = contract(inputs, jnp.concatenate(shifted, axis=-1))
        products = products.reshape((channels, *size, features))
        return jnp.moveaxis(products, 0, 2)
    shifted = _shifts(inputs, size, padding)
    if channels < _FEW_CHANNELS:
        products = contract(jnp.concatenate(shifted, axis=-1), cotangent)
    else:
        products = jnp.stack([contract(piece, cotangent) for piece in shifted])
    return products.reshape((*size, channels, features))


def _mirrored(size: Sequence[int], padding: Padding) -> Padding:
    """The padding of the way back: what the output's cotangent is padded by."""
    (top, bottom), (left, right) = padding
    down, across = size[0] - 1, size[1] - 1
    return (down - top, down - bottom), (across - left, across - right)


def _shifts(frames: Array, size: tuple[int, int], padding: Padding) -> list[Array]:
    """The padded frames as each position of a kernel sees them, row by row."""
    padded = jnp.pad(frames, ((0, 0), *padding, (0, 0)))
    height, width = padded.shape[1] - size[0] + 1, padded.shape[2] - size[1] + 1
    return [
        padded[:, row : row + height, column : column + width]
        for row in range(size[0])
        for column in range(size[1])
    ]


def _kernel_gradient_convolution(
    inputs: Array, cotangent: Array, *, size: tuple[int, int], padding: Padding
) -> Array:
    """The kernel's gradient as one convolution, which is what a GPU's library has kernels for."""
    merged = inputs.reshape((-1, *inputs.shape[-3:]))
    outputs = cotangent.reshape((-1, *cotangent.shape[-3:]))
    return lax.conv_general_dilated(
        merged, outputs, (1, 1), padding, dimension_numbers=("CHWN", "IHWO", "HWNC")
    )


def space_to_depth(inputs: Array, block: int) -> Array:
    """Moves `block` x `block` pixels into the channel axis.

    `[..., h, w, c]` to `[..., h/block, w/block, block*block*c]`; the inverse of `depth_to_space`.
    """
    *leading, height, width, channels = inputs.shape
    grid = inputs.reshape((*leading, height // block, block, width // block, block, channels))
    grid = jnp.moveaxis(grid, -4, -3)
    return grid.reshape((*leading, height // block, width // block, block * block * channels))


def depth_to_space(inputs: Array, block: int) -> Array:
    """The inverse of `space_to_depth`."""
    *leading, height, width, channels = inputs.shape
    grid = inputs.reshape((*leading, height, width, block, block, channels // block**2))
    grid = jnp.moveaxis(grid, -3, -4)
    return grid.reshape((*leading, height * block, width * block, channels // block**2))


def convolve_strided(inputs: Array, kernel: Array, stride: int) -> Array:
    """Convolution that divides height and width by `stride`.

    Args:
      inputs: `[..., height, width, channels]`; height and width divisible by `stride`.
      kernel: `[k, k, channels, features]` with `k` a multiple of `stride`; zero padding of
        `(k - stride) / 2` pixels (rounded down) on the top and left.

    Returns:
      `[..., height / stride, width / stride, features]`.
    """
    size = kernel.shape[0]
    taps = size // stride
    before = (size - stride) // 2
    # Aligned on the stride, the padding before the picture is whole blocks plus an offset.
    after = size - stride - before
    widths = [(0, 0)] * (inputs.ndim - 3) + [(before, after), (before, after), (0, 0)]
    blocks = space_to_depth(jnp.pad(inputs, widths), stride)
    channels, features = kernel.shape[2:]
    arranged = kernel.reshape((taps, stride, taps, stride, channels, features))
    arranged = arranged.transpose((0, 2, 1, 3, 4, 5))
    arranged = arranged.reshape((taps, taps, stride * stride * channels, features))
    return convolve(blocks, arranged, ((0, 0), (0, 0)))


def convolve_transposed(inputs: Array, kernel: Array, stride: int, crop: bool = True) -> Array:
    """Transposed convolution that multiplies height and width by `stride`.

    It is the adjoint of `convolve_strided` with the same kernel (channel axes swapped): a stride-1
    convolution to `stride**2` times the features, and a depth-to-space.

    Args:
      inputs: `[..., height, width, channels]`.
      kernel: `[k, k, channels, features]` with `k` a multiple of `stride`.
      crop: keep `stride` times the height and width; or else everything that the kernel reaches.

    Returns:
      `[..., height * stride, width * stride, features]`, or without the crop
      `[..., (height - 1) * stride + k, (width - 1) * stride + k, features]`.
    """
    size = kernel.shape[0]
    taps = size // stride
    before = (size - stride) // 2
    channels, features = kernel.shape[2:]
    # out[stride * i + p - before] += kernel[stride * t + p] * in[i - t]: a convolution over whole
    # blocks with the taps reversed, then the offset is cut away.
    arranged = kernel.reshape((taps, stride, taps, stride, channels, features))
    arranged = arranged[::-1, :, ::-1].transpose((0, 2, 4, 1, 3, 5))
    arranged = arranged.reshape((taps, taps, channels, stride * stride * features))
    full = convolve(inputs, arranged, ((taps - 1, taps - 1), (taps - 1, taps - 1)))
    pixels = depth_to_space(full, stride)
    if not crop:
        return pixels
    height, width = inputs.shape[-3] * stride, inputs.shape[-2] * stride
    return pixels[..., before : before + height, before : before + width, :]


class Conv(nn.Module):
    """Convolution with optional bias: stride 1 with SAME padding, or strided.

    Attributes:
      features: number of output channels.
      kernel_size: height and width; with a stride, both the same multiple of it.
      stride: 1, or the factor by which height and width shrink.
      use_bias: whether to add a bias per feature.
      dtype: dtype of the computation; parameters are `param_dtype`.
    """

    features: int
    kernel_size: Sequence[int] = (3, 3)
    stride: int = 1
    use_bias: bool = True
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32
    kernel_init: Initializer = nn.initializers.lecun_normal()
    bias_init: Initializer = nn.initializers.zeros_init()

    @nn.compact
    def __call__(self, inputs: Array) -> Array:
        """`[..., height, width, channels]` to `[..., height/stride, width/stride, features]`."""
        shape = (*self.kernel_size, inputs.shape[-1], self.features)
        kernel = self.param("kernel", self.kernel_init, shape, self.param_dtype)
        inputs, kernel = inputs.astype(self.dtype), kernel.astype(self.dtype)
        if self.stride == 1:
            outputs = convolve(inputs, kernel, same_padding(self.kernel_size))
        else:
            outputs = convolve_strided(inputs, kernel, self.stride)
        if self.use_bias:
            bias = self.param("bias", self.bias_init, (self.features,), self.param_dtype)
            outputs += _per_channel(bias.astype(self.dtype), outputs)
        return outputs


def bilinear_init(key: Array, shape: Sequence[int], dtype: Any = jnp.float32) -> Array:
    """A transposed kernel `[2s, 2s, in, out]`: bilinear upsampling times a random matrix."""
    size, _, channels, features = shape
    stride = size // 2
    ramp = (jnp.arange(stride, dtype=dtype) + 0.5) / stride
    profile = jnp.concatenate([ramp, ramp[::-1]])
    mixing = nn.initializers.lecun_normal()(key, (channels, features), dtype)
    bilinear = profile[:, None] * profile[None, :]
    return bilinear[:, :, None, None] * mixing[None, None]


class ConvTranspose(nn.Module):
    """Transposed convolution with bias; multiplies height and width by `stride`.

    By default the kernel is twice the stride wide, so that every output pixel has as many taps as
    its neighbour, and starts as bilinear interpolation with random channel mixing: the untrained
    layer turns a constant map into a constant picture, without a checkerboard (Odena et al. 2016,
    "Deconvolution and Checkerboard Artifacts"; Aitken et al. 2017, the initialisation).

    Attributes:
      features: number of output channels.
      stride: factor by which height and width grow.
      kernel_size: side of the kernel, a multiple of the stride; by default twice the stride.
      crop: keep `stride` times the height and width; see `convolve_transposed`.
    """

    features: int
    stride: int = 2
    kernel_size: int | None = None
    crop: bool = True
    kernel_init: Initializer = bilinear_init
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, inputs: Array) -> Array:
        """`[..., height, width, channels]` to `[..., height*stride, width*stride, features]`."""
        size = self.kernel_size or 2 * self.stride
        shape = (size, size, inputs.shape[-1], self.features)
        kernel = self.param("kernel", self.kernel_init, shape, self.param_dtype)
        bias = self.param("bias", nn.initializers.zeros_init(), (self.features,), self.param_dtype)
        outputs = convolve_transposed(
            inputs.astype(self.dtype), kernel.astype(self.dtype), self.stride, self.crop
        )
        return outputs + _per_channel(bias.astype(self.dtype), outputs)


def _per_channel(values: Array, outputs: Array) -> Array:
    """Views `[channels]` with as many axes as `outputs`, so that no rank is promoted silently."""
    return jnp.expand_dims(values, range(outputs.ndim - 1))
