"""Convolutions with hand-written gradients, fast on a CPU and a GPU, inside a loop and outside.

On a CPU, XLA has a fast path for a plain convolution, but not for the convolutions that automatic
differentiation makes of it when they stand inside a `while` loop, which is where a recurrent
network puts them: there they fall to a naive loop, 40 to 80 times slower. So on a CPU a convolution
and both its gradients are Winograd convolutions made of matrix products (see `winograd`). On a GPU,
whose library has a kernel for each of the three, they are XLA's convolutions.

Strided and transposed convolutions are the same stride-1 convolution after a space-to-depth or
before a depth-to-space, so that one pair of gradients serves all three. Forward and reverse mode
work to any order, inside loops, rematerialisation and `vmap`.

Layout: inputs are `[batch, height, width, channels]`, kernels `[height, width, in, out]`.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial, wraps
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax
from jax.core import ShapedArray
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir
from jaxtyping import Array, Float

from jaxconvlstm.errors import ConfigError
from jaxconvlstm.nn import winograd
from jaxconvlstm.nn.winograd import Padding, transpose_kernel, transpose_padding

Initializer = Callable[..., Any]


def same_padding(kernel_size: Sequence[int]) -> Padding:
    """Zero padding that keeps height and width; the extra row of an even kernel goes last."""
    height, width = kernel_size
    return ((height - 1) // 2, height // 2), ((width - 1) // 2, width // 2)


def convolve(
    inputs: Float[Array, "*leading height width channels"],
    kernel: Float[Array, "kernel_height kernel_width channels features"],
    padding: Padding,
) -> Float[Array, "*leading out_height out_width features"]:
    """Convolve with stride 1 (cross-correlation, as in every deep-learning library).

    Args:
      inputs: `[..., height, width, channels]`; all leading axes are convolved alike.
      kernel: `[kernel_height, kernel_width, channels, features]`, the inputs' dtype.
      padding: zeros `((top, bottom), (left, right))`, each less than the kernel's extent.

    Returns:
      `[..., height + top + bottom - kernel_height + 1, ..., features]`, the inputs' dtype.

    Raises:
      ConfigError: the ranks, channels or dtypes do not fit together.
    """
    if inputs.ndim < 3 or kernel.ndim != 4 or inputs.shape[-1] != kernel.shape[2]:
        raise ConfigError(
            "kernel: expected [height, width, channels, features] for inputs of "
            f"{list(inputs.shape)}, got {list(kernel.shape)}"
        )
    if inputs.dtype != kernel.dtype:
        raise ConfigError(f"kernel: expected the inputs' {inputs.dtype}, got {kernel.dtype}")
    merged = inputs.reshape((-1, *inputs.shape[-3:]))  # all leading axes as one batch
    outputs = _bind("outputs", merged, kernel, padding)
    return outputs.reshape((*inputs.shape[:-3], *outputs.shape[-3:]))


# If `*` is convolution, `sum(outputs . (inputs * kernel))` is linear in each of three arrays. Its
# derivatives by one of them are a convolution and its two gradients, and the derivatives of those
# are the same three again. So they are one primitive, which gives any of the three from the other
# two: automatic differentiation of any order stays within it, and never makes the convolutions that
# are slow in a loop. The platform is chosen when the program is lowered, not when it is traced, so
# that one traced program serves both.
_Role = Literal["inputs", "kernel", "outputs"]
_OPERANDS: dict[_Role, tuple[_Role, _Role]] = {
    "outputs": ("inputs", "kernel"),
    "inputs": ("outputs", "kernel"),
    "kernel": ("inputs", "outputs"),
}
convolution = Primitive("convlstm_convolution")


def multiplications(equation: Any) -> int:
    """How many multiplications an equation of this primitive takes, as a plain convolution."""
    names = (*_OPERANDS[equation.params["role"]], equation.params["role"])
    shapes = {n: v.aval.shape for n, v in zip(names, (*equation.invars, *equation.outvars))}
    return math.prod(shapes["outputs"][:-1]) * math.prod(shapes["kernel"][-4:])


def _bind(role: _Role, first: Array, second: Array, padding: Padding, size: Any = None) -> Array:
    """Compute the array of one role from the other two, which are in the order of `_OPERANDS`.

    All arrays have four axes, and before them those that `vmap` has mapped.

    Args:
      role: what is computed: "outputs", or the gradient in "inputs" or "kernel".
      padding: see `convolve`.
      size: height and width of the result; the outputs' follow from the others.
    """
    outputs: Array = convolution.bind(first, second, role=role, padding=padding, size=size)
    return outputs


def _shape(first: Any, second: Any, *, role: _Role, padding: Padding, size: Any) -> ShapedArray:
    if role == "outputs":
        height, width = winograd.output_size(first.shape[-3:-1], second.shape[-4:-2], padding)
        shape = (*first.shape[:-3], height, width, second.shape[-1])
    elif role == "inputs":
        shape = (*first.shape[:-3], *size, second.shape[-2])
    else:
        shape = (*first.shape[:-4], *size, first.shape[-1], second.shape[-1])
    return ShapedArray(shape, first.dtype)


def _transpose(
    operand: int, cotangent: Array, *operands: Any, role: _Role, padding: Padding, size: Any
) -> Array:
    """The gradient in one operand, from the cotangent and the other operand."""
    names = _OPERANDS[role]
    wanted, other = names[operand], names[1 - operand]
    known = {role: cotangent, other: operands[1 - operand]}
    first, second = (known[name] for name in _OPERANDS[wanted])
    shape = operands[operand].aval.shape
    size = {"inputs": shape[-3:-1], "kernel": shape[-4:-2], "outputs": None}[wanted]
    return _bind(wanted, first, second, padding, size)


def _map(
    operands: Sequence[Array],
    axes: Sequence[int | None],
    *,
    role: _Role,
    padding: Padding,
    size: Any,
) -> tuple[Array, int]:
    """Map over an axis: it joins the batch if all share one kernel, or becomes a leading axis."""
    (length,) = {operand.shape[axis] for operand, axis in zip(operands, axes) if axis is not None}
    first, second = operands
    if role != "kernel" and axes[0] is not None and axes[1] is None:
        first = jnp.moveaxis(first, axes[0], -5)
        merged = first.reshape((*first.shape[:-5], -1, *first.shape[-3:]))
        result = _bind(role, merged, second, padding, size)
        shape = (*result.shape[:-4], length, -1, *result.shape[-3:])
        return result.reshape(shape), result.ndim - 4
    first, second = (
        jnp.broadcast_to(operand, (length, *operand.shape))
        if axis is None
        else jnp.moveaxis(operand, axis, 0)
        for operand, axis in zip(operands, axes)
    )
    return _bind(role, first, second, padding, size), 0


def _on_cpu(first: Array, second: Array, *, role: _Role, padding: Padding, size: Any) -> Array:
    if role == "outputs":
        return winograd.convolve(first, second, padding)
    if role == "inputs":
        return winograd.inputs_gradient(first, second, padding, size)
    return winograd.kernel_gradient(first, second, size, padding)


def _by_library(first: Array, second: Array, *, role: _Role, padding: Padding, size: Any) -> Array:
    layout = ("NHWC", "HWIO", "NHWC")
    if role == "inputs":
        padding = transpose_padding(second.shape[:2], padding)
        second = transpose_kernel(second)
    if role == "kernel":
        # The inputs slide over the cotangent, a kernel as large as the output; the batch is what
        # is summed over, so that it stands where channels usually do.
        layout = ("CHWN", "IHWO", "HWNC")
    return lax.conv_general_dilated(first, second, (1, 1), padding, dimension_numbers=layout)


def _mapped(compute: Callable[..., Array]) -> Callable[..., Array]:
    """Map a function of arrays of four axes over all leading axes."""

    def run(first: Array, second: Array, **settings: Any) -> Array:
        function = partial(compute, **settings)
        for _ in range(first.ndim - 4):
            function = jax.vmap(function)
        return function(first, second)

    return run


_compiled = jax.jit(convolution.bind, static_argnames=("role", "padding", "size"))


@convolution.def_impl
def _run(first: Array, second: Array, **settings: Any) -> Array:
    """Outside of any traced program; compiled also where `jax.disable_jit` is on."""
    with jax.disable_jit(False):
        outputs: Array = _compiled(first, second, **settings)
    return outputs


convolution.def_abstract_eval(_shape)
ad.defbilinear(convolution, partial(_transpose, 0), partial(_transpose, 1))
batching.primitive_batchers[convolution] = _map
for _platform, _compute in (("cpu", _on_cpu), (None, _by_library)):
    mlir.register_lowering(
        convolution, mlir.lower_fun(_mapped(_compute), multiple_results=False), platform=_platform
    )


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


def promoting(function: Callable[..., Any]) -> Callable[..., Any]:
    """Lets wider dtypes take over where they are meant to, also under strict dtype promotion."""

    @wraps(function)
    def run(*arguments: Any, **settings: Any) -> Any:
        with jax.numpy_dtype_promotion("standard"):
            return function(*arguments, **settings)

    return run


def per_channel(values: Array, outputs: Array) -> Array:
    """View `[channels]` with as many axes as `outputs`, so that no rank is promoted silently."""
    return jnp.expand_dims(values, range(outputs.ndim - 1))
