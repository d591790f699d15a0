"""Convolutions as layers: stride 1, strided and transposed.

Strided and transposed convolutions are the same stride-1 convolution after a space-to-depth or
before a depth-to-space, so that one pair of gradients serves all three; see `convolution`.

Layout: inputs are `[batch, height, width, channels]`, kernels `[height, width, in, out]`.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array

from jaxconvlstm.errors import ConfigError
from jaxconvlstm.nn import variants
from jaxconvlstm.nn.convolution import convolve, same_padding

Initializer = Callable[..., Any]


def space_to_depth(inputs: Array, block: int) -> Array:
    """Move `block` x `block` pixels into the channel axis.

    Args:
      inputs: `[..., height, width, channels]`; height and width divisible by `block`.
      block: side of the square of pixels.

    Returns:
      `[..., height / block, width / block, block * block * channels]`, row by row of the square.
    """
    *leading, height, width, channels = inputs.shape
    grid = inputs.reshape((*leading, height // block, block, width // block, block, channels))
    grid = jnp.moveaxis(grid, -4, -3)  # [..., h / block, w / block, block, block, c]
    return grid.reshape((*leading, height // block, width // block, block * block * channels))


def depth_to_space(inputs: Array, block: int) -> Array:
    """The inverse of `space_to_depth`."""
    *leading, height, width, channels = inputs.shape
    grid = inputs.reshape((*leading, height, width, block, block, channels // block**2))
    grid = jnp.moveaxis(grid, -3, -4)  # [..., h, block, w, block, c / block**2]
    return grid.reshape((*leading, height * block, width * block, channels // block**2))


def convolve_strided(inputs: Array, kernel: Array, stride: int) -> Array:
    """Convolve, and divide height and width by `stride`.

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
    # Row `stride * i + r - before` of the inputs is row r of block i once `before` rows of zeros
    # stand above, so that a stride-1 convolution over blocks, of `taps` blocks, is the strided one.
    after = size - stride - before
    widths = [(0, 0)] * (inputs.ndim - 3) + [(before, after), (before, after), (0, 0)]
    blocks = space_to_depth(jnp.pad(inputs, widths), stride)
    channels, features = kernel.shape[2:]
    # The kernel's pixels go into its channel axis in the order of `space_to_depth`.
    arranged = kernel.reshape((taps, stride, taps, stride, channels, features))
    arranged = arranged.transpose((0, 2, 1, 3, 4, 5))  # [taps, taps, stride, stride, in, out]
    arranged = arranged.reshape((taps, taps, stride * stride * channels, features))
    return convolve(blocks, arranged, ((0, 0), (0, 0)))


def convolve_transposed(inputs: Array, kernel: Array, stride: int, crop: bool = True) -> Array:
    """Convolve transposedly, and multiply height and width by `stride`.

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
    arranged = arranged[::-1, :, ::-1].transpose((0, 2, 4, 1, 3, 5))  # [t, t, in, s, s, out]
    arranged = arranged.reshape((taps, taps, channels, stride * stride * features))
    full = convolve(inputs, arranged, ((taps - 1, taps - 1), (taps - 1, taps - 1)))
    pixels = depth_to_space(full, stride)
    if not crop:
        return pixels
    height, width = inputs.shape[-3] * stride, inputs.shape[-2] * stride
    return pixels[..., before : before + height, before : before + width, :]


_TENSOR_CORE_CHANNELS = 8
"""The tensor cores of a GPU need no padding if the channel count is a multiple of this."""


def convolve_sum(*terms: tuple[Array, Array]) -> Array:
    """Sum the convolutions of `(array, kernel)` pairs."""
    joined = variants.chosen.joined
    fit = all(array.shape[-1] % _TENSOR_CORE_CHANNELS == 0 for array, _ in terms)
    if fit and joined != "never":
        # W_x * x + W_h * h is one convolution of [x, h] with [W_x, W_h]: one pass over the outputs
        # in place of two. With, say, 3 + 64 channels the sum is padded, and slower.
        arrays, kernels = zip(*terms)
        joined_apart = joined == "forwards" and len(terms) > 1
        return (_convolve_joined_forwards if joined_apart else _convolve_joined)(arrays, kernels)
    results = [_convolve(array, kernel) for array, kernel in terms]
    return sum(results[1:], results[0])


def _convolve(array: Array, kernel: Array) -> Array:
    return convolve(array, kernel, same_padding(kernel.shape[:2]))


def _convolve_joined(arrays: Sequence[Array], kernels: Sequence[Array]) -> Array:
    return _convolve(jnp.concatenate(arrays, axis=-1), jnp.concatenate(kernels, axis=2))


@jax.custom_jvp
def _convolve_joined_forwards(arrays: Sequence[Array], kernels: Sequence[Array]) -> Array:
    return _convolve_joined(arrays, kernels)


@partial(_convolve_joined_forwards.defjvp, symbolic_zeros=True)
def _convolve_apart(primals: Any, tangents: Any) -> tuple[Array, Array]:
    """Of a frame that is data the tangent is zero, and nothing is computed for it."""
    (arrays, kernels), (arrays_dot, kernels_dot) = primals, tangents
    zero = jax.custom_derivatives.SymbolicZero
    read = [pair for pair in zip(arrays_dot, kernels) if not isinstance(pair[0], zero)]
    learnt = [pair for pair in zip(arrays, kernels_dot) if not isinstance(pair[1], zero)]
    outputs = _convolve_joined(arrays, kernels)
    changes = [_convolve(*pair) for pair in read]
    changes += [_convolve_joined(*zip(*learnt))] if learnt else []
    return outputs, sum(changes[1:], changes[0]) if changes else jnp.zeros_like(outputs)


class Conv(nn.Module):
    """Convolution with optional bias: stride 1 with SAME padding, or strided.

    Attributes:
      features: number of output channels.
      kernel_size: height and width; with a stride, both the same multiple of it.
      stride: 1, or the factor by which height and width shrink.
      use_bias: add a bias per feature.
      dtype: dtype of the computation and of the result.
      param_dtype: dtype of the parameters: `kernel` `[height, width, channels, features]` and
        `bias` `[features]`.
      kernel_init, bias_init: initializers.
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
    def weights(self, channels: int) -> tuple[Array, Array | None]:
        """Kernel and bias in `dtype`, for inputs of so many channels; None without a bias."""
        if len(self.kernel_size) != 2:
            raise ConfigError(f"kernel_size: expected (height, width), got {self.kernel_size}")
        shape = (*self.kernel_size, channels, self.features)
        kernel = self.param("kernel", self.kernel_init, shape, self.param_dtype)
        if not self.use_bias:
            return kernel.astype(self.dtype), None
        bias = self.param("bias", self.bias_init, (self.features,), self.param_dtype)
        return kernel.astype(self.dtype), bias.astype(self.dtype)

    def __call__(self, inputs: Array) -> Array:
        """`[..., height, width, channels]` to `[..., height/stride, width/stride, features]`."""
        kernel, bias = self.weights(inputs.shape[-1])
        inputs = inputs.astype(self.dtype)
        if self.stride == 1:
            outputs = convolve(inputs, kernel, same_padding(self.kernel_size))
        else:
            outputs = convolve_strided(inputs, kernel, self.stride)
        return outputs if bias is None else outputs + per_channel(bias, outputs)


def bilinear_init(key: Array, shape: Sequence[int], dtype: Any = jnp.float32) -> Array:
    """Initialize a transposed kernel `[2s, 2s, in, out]`: bilinear upsampling, random channels."""
    size, _, channels, features = shape
    stride = size // 2
    # A tent along each axis, whose two halves add up to 1 where the taps of neighbours overlap.
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
      kernel_init: initializer of `kernel` `[size, size, channels, features]`.
      dtype, param_dtype: see `Conv`.
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
        return outputs + per_channel(bias.astype(self.dtype), outputs)


def per_channel(values: Array, outputs: Array) -> Array:
    """View `[channels]` with as many axes as `outputs`, so that no rank is promoted silently."""
    return jnp.expand_dims(values, range(outputs.ndim - 1))
