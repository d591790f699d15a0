"""The convolution, fast on a CPU and a GPU, inside a loop and outside, with all its derivatives.

On a CPU, XLA has a fast path for a plain convolution, but not for the convolutions that automatic
differentiation makes of it when they stand inside a `while` loop, which is where a recurrent
network puts them: there they fall to a naive loop, 40 to 80 times slower. So on a CPU a convolution
and both its gradients are Winograd convolutions made of matrix products (see `winograd`). On a GPU,
whose library has a kernel for each of the three, they are XLA's convolutions. Forward and reverse
mode work to any order, inside loops, rematerialisation and `vmap`.

Layout: inputs are `[batch, height, width, channels]`, kernels `[height, width, in, out]`.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax import lax
from jax.core import ShapedArray
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir
from jaxtyping import Array, Float

from jaxconvlstm.errors import ConfigError
from jaxconvlstm.nn import winograd
from jaxconvlstm.nn.winograd import Padding, transpose_kernel, transpose_padding


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
