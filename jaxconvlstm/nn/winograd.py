"""Winograd convolution along rows (Toom-Cook transforms): what `conv` runs on a CPU.

A convolution of `K` taps along a row takes `K` multiplications a pixel. Toom and Cook's algorithm
cuts the row into tiles of `m` pixels, and takes `m + K - 1` for each tile: 8 in place of 20 for
`K = 5` and `m = 4`. With matrices `A`, `B` and `G` that follow from polynomials evaluated at
`m + K - 1` points, and `.` for the elementwise product,

    y = A^T [(G w) . (B x)]

where `w` are the taps, `x` the `m + K - 1` inputs that the tile's pixels `y` depend on. The three
transforms work channel by channel and cost little. The elementwise products, summed over the
channels and the rows of the kernel, are a matrix product for each point, and these are what a
processor does best.

Only rows are transformed. Transforming both axes would leave fewer multiplications still, but four
times as much would have to be stored in between; along one, what is stored is less than twice the
output, and the rounding error one to three times that of a plain sum.

The gradients are the adjoints of the same three steps, and take as few multiplications.

Where there are few channels, or few pixels for a large kernel, an im2col convolution is faster:
one matrix product of all that the kernel reads at each pixel.

References:
  Winograd 1980, "Arithmetic Complexity of Computations", chapter 5.
  Lavin & Gray 2016, "Fast Algorithms for Convolutional Neural Networks", section 4.
  Barabasz et al. 2020, "Error Analysis and Improving the Accuracy of Winograd Convolution for Deep
  Neural Networks", section 4: which points round least.

Layout: inputs are `[batch, height, width, channels]`, kernels `[height, width, in, out]`. In
einsums p is a point, b the batch, h rows, t tiles, s rows of the kernel times channels, f features.
"""

from collections.abc import Callable, Sequence
from functools import cache, partial, wraps
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jaxconvlstm.nn.blocking import Blocks
from jaxconvlstm.nn.dtypes import widest

Padding = tuple[tuple[int, int], tuple[int, int]]

# Evaluation points of polynomials of so many coefficients, beside infinity: small numbers and their
# reciprocals, in pairs of both signs, whose powers round least (Barabasz et al. 2020, section 4).
_POINTS: dict[int, tuple[float, ...]] = {
    3: (0, 1),
    4: (0, 1, -1),
    5: (0, 1, -1, 2),
    6: (0, 2 / 3, -2 / 3, 3 / 2, -3 / 2),
    7: (0, 1, -1, 2, -2, 1 / 2),
    8: (0, 1, -1, 2, -2, 1 / 2, -1 / 2),
}
_TILES = 2, 4
# Transforming the kernel takes as long as multiplying it with so many pixels.
_KERNEL_WORK = 64
# Up to so many channels on one side an im2col convolution is faster, as the tiles' matrix products
# would be too thin to fill a processor's vector units.
_FEW = 12


def _in_float32(function: Callable[..., Array]) -> Callable[..., Array]:
    """Compute a function of two arrays in float32 at least, and cast back to the first's dtype.

    Winograd transforms and long sums need float32: their rounding would use up bfloat16's 8 bits.
    """

    @wraps(function)
    def wide(first: Array, second: Array, *rest: Any, **settings: Any) -> Array:
        dtype = widest(first.dtype, jnp.float32)
        result = function(first.astype(dtype), second.astype(dtype), *rest, **settings)
        return result.astype(first.dtype)

    return wide


@_in_float32
def convolve(inputs: Array, kernel: Array, padding: Padding) -> Array:
    """See `conv.convolve`; `[batch, height, width, channels]` only."""
    *size, channels, features = kernel.shape
    height, width = output_size(inputs.shape[1:3], size, padding)
    if features <= _FEW < channels:
        # Thin on the output's side: the adjoint of a convolution that is thin on the input's.
        transposed = transpose_padding(size, padding)
        return inputs_gradient(inputs, transpose_kernel(kernel), transposed, (height, width))
    outputs = len(inputs), height, width
    tile = _tile(channels, size[1], outputs)
    if not tile:
        return _im2col_convolve(inputs, kernel, padding)
    (top, _), across = padding
    blocks = Blocks.of(outputs, size[0])
    inputs = blocks.pad(inputs, blocks.halo, top)
    a, _, _ = matrices(tile, size[1])
    taps = _transform_kernel(kernel, tile)

    def convolve_block(block: Array) -> Array:
        seen = _transform_inputs(blocks.slice(inputs, block, blocks.halo), size, across, tile)
        products = jnp.einsum("pbhts,psf->pbhtf", seen, taps)
        pixels = jnp.stack(_apply(a.T, products), axis=3)  # [b, h, t, tile, f]
        # The last tile may reach past the row's end.
        return pixels.reshape((*pixels.shape[:2], -1, features))[:, :, :width]

    return blocks.map(convolve_block)[: outputs[0], :height]


@_in_float32
def inputs_gradient(
    cotangent: Array, kernel: Array, padding: Padding, frame: Sequence[int]
) -> Array:
    """Compute the gradient in inputs of height and width `frame` from that in the output.

    Args:
      cotangent: `[batch, out_height, out_width, features]`.
      kernel, padding: see `conv.convolve`.
      frame: height and width of the inputs.

    Returns:
      `[batch, height, width, channels]`, the cotangent's dtype.
    """
    *size, channels, features = kernel.shape
    if features <= _FEW < channels:
        return convolve(cotangent, transpose_kernel(kernel), transpose_padding(size, padding))
    tile = _tile(channels, size[1], cotangent.shape[:3])
    if not tile:
        return _im2col_inputs_gradient(cotangent, kernel, padding, frame)
    (top, _), across = padding
    batch = len(cotangent)
    blocks = Blocks.of(cotangent.shape[:3], size[0])
    cotangent = blocks.pad(cotangent)
    taps = _transform_kernel(kernel, tile)

    def add_block(total: Array, block: Array) -> Array:
        pixels = _transform_cotangent(blocks.slice(cotangent, block), tile, size[1])
        seen = jnp.einsum("pbhtf,psf->pbhts", pixels, taps)
        gradient = _transform_inputs_adjoint(seen, size, across, tile, frame[1])
        return blocks.add_to_inputs(total, block, gradient)

    height = cotangent.shape[1] + blocks.halo
    total = jnp.zeros((len(cotangent), height, frame[1], channels), cotangent.dtype)
    return blocks.sum(add_block, total)[:batch, top : top + frame[0]]


@_in_float32
def kernel_gradient(
    inputs: Array, cotangent: Array, size: Sequence[int], padding: Padding
) -> Array:
    """Compute the gradient in a kernel of height and width `size`.

    Args:
      inputs: `[batch, height, width, channels]`.
      cotangent: of the output, `[batch, out_height, out_width, features]`.
      size: height and width of the kernel.
      padding: see `conv.convolve`.

    Returns:
      `[kernel height, kernel width, channels, features]`, the inputs' dtype.
    """
    channels, features = inputs.shape[-1], cotangent.shape[-1]
    if features <= _FEW < channels:
        transposed = transpose_padding(size, padding)
        return transpose_kernel(kernel_gradient(cotangent, inputs, size, transposed))
    tile = _tile(channels, size[1], cotangent.shape[:3])
    if not tile:
        return _im2col_kernel_gradient(inputs, cotangent, size, padding)
    (top, _), across = padding
    blocks = Blocks.of(cotangent.shape[:3], size[0])
    inputs, cotangent = blocks.pad(inputs, blocks.halo, top), blocks.pad(cotangent)

    def add_block(total: Array, block: Array) -> Array:
        seen = _transform_inputs(blocks.slice(inputs, block, blocks.halo), size, across, tile)
        pixels = _transform_cotangent(blocks.slice(cotangent, block), tile, size[1])
        return total + jnp.einsum("pbhts,pbhtf->psf", seen, pixels)

    # Summed up in the transformed domain, so that the adjoint of `G` is applied only once.
    total = jnp.zeros((tile + size[1] - 1, size[0] * channels, features), inputs.dtype)
    return _transform_kernel_adjoint(blocks.sum(add_block, total), size, tile)


def output_size(frame: Sequence[int], size: Sequence[int], padding: Padding) -> tuple[int, int]:
    """Height and width of the output for a frame and a kernel of height and width `size`."""
    height, width = (f + sum(p) - s + 1 for f, s, p in zip(frame, size, padding))
    return height, width


def transpose_kernel(kernel: Array) -> Array:
    """Kernel of the transposed convolution: rotated by 180 degrees, its channel axes swapped."""
    return kernel[::-1, ::-1].swapaxes(2, 3)


def transpose_padding(size: Sequence[int], padding: Padding) -> Padding:
    """Padding of the transposed convolution, which takes outputs back to inputs."""
    (top, bottom), (left, right) = padding
    down, across = size[0] - 1, size[1] - 1
    return (down - top, down - bottom), (across - left, across - right)


@cache
def matrices(tile: int, taps: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Toom and Cook's matrices, float64, for `n = tile + taps - 1` points.

    Args:
      tile: pixels of a tile.
      taps: width of the kernel.

    Returns:
      `A` `[n, tile]`, `B` `[n, n]` and `G` `[n, taps]`.
    """
    n = tile + taps - 1
    powers = np.vander(_POINTS[n], n, increasing=True)
    # At infinity a polynomial is its highest coefficient.
    a, g, square = (np.vstack([powers[:, :k], np.eye(k)[-1:]]) for k in (tile, taps, n))
    b = np.linalg.inv(square).T
    b[np.abs(b) < 1e-9] = 0  # exact zeros, which `_apply` leaves out
    # Powers of two, which round nothing, bring the rows of B to a length of about 1.
    scale = np.exp2(np.round(np.log2(np.linalg.norm(b, axis=1, keepdims=True))))
    return a, b / scale, g * scale


def _tile(channels: int, taps: int, outputs: Sequence[int]) -> int:
    """Choose the tile of least work; 0 where an im2col convolution takes less.

    Args:
      channels: of the inputs.
      taps: width of the kernel.
      outputs: batch, height and width of the output.
    """
    if channels <= _FEW or taps == 1:
        return 0
    batch, height, width = outputs
    # In multiplications for each row of the kernel, channel and feature.
    work = {0: taps * batch * height * width}
    for tile in _TILES:
        points = tile + taps - 1
        if points in _POINTS:
            work[tile] = points * (batch * height * -(-width // tile) + _KERNEL_WORK)
    return min(work, key=lambda tile: work[tile])


def _transform_inputs(
    inputs: Array, size: Sequence[int], across: tuple[int, int], tile: int
) -> Array:
    """Compute `B x` of each tile, for all rows of the kernel side by side.

    Args:
      inputs: `[batch, height + kernel height - 1, width, channels]`.
      size: height and width of the kernel.
      across: zeros before and after each row.
      tile: pixels of a tile.

    Returns:
      `[points, batch, height, tiles, kernel height * channels]`.
    """
    height, width = output_size(inputs.shape[1:3], size, ((0, 0), across))
    _, b, _ = matrices(tile, size[1])
    tiles = -(-width // tile)
    # A row is read in groups of as many pixels as a tile has. Pixel i of all tiles is then a plain
    # slice, where overlapping windows of n pixels would have to be gathered.
    groups = tiles + (len(b) - 1) // tile
    left = across[0]
    right = groups * tile - left - inputs.shape[2]
    inputs = jnp.pad(inputs, ((0, 0), (0, 0), (left, max(right, 0)), (0, 0)))
    inputs = inputs[:, :, : groups * tile]
    inputs = inputs.reshape((*inputs.shape[:2], groups, tile, -1))
    pixels = [inputs[:, :, i // tile : i // tile + tiles, i % tile] for i in range(len(b))]
    # Without the barrier XLA takes the sums once for each row of the kernel, and keeps all of them.
    seen = lax.optimization_barrier(jnp.stack(_apply(b, pixels)))
    return jnp.concatenate([seen[:, :, row : row + height] for row in range(size[0])], axis=-1)


def _transform_inputs_adjoint(
    seen: Array, size: Sequence[int], across: tuple[int, int], tile: int, width: int
) -> Array:
    """The adjoint of `_transform_inputs`, for inputs of so many pixels a row."""
    _, b, _ = matrices(tile, size[1])
    # Each line below undoes one of `_transform_inputs`, last one first: a slice becomes padding,
    # a concatenation a sum.
    rows = [
        jnp.pad(part, ((0, 0), (0, 0), (row, size[0] - 1 - row), (0, 0), (0, 0)))
        for row, part in enumerate(jnp.split(seen, size[0], axis=-1))
    ]
    pixels, more = _apply(b.T, sum(rows[1:], rows[0])), (len(b) - 1) // tile
    lanes = []  # the i-th pixels of all groups, for each i
    for lane in range(tile):
        groups = [
            jnp.pad(pixel, ((0, 0), (0, 0), (before, more - before), (0, 0)))
            for before, pixel in enumerate(pixels[lane::tile])
        ]
        lanes.append(sum(groups[1:], groups[0]))
    inputs = jnp.stack(lanes, axis=3)  # [batch, height, groups, tile, channels]
    inputs = inputs.reshape((*inputs.shape[:2], -1, inputs.shape[-1]))
    left = across[0]
    missing = max(0, left + width - inputs.shape[2])
    inputs = jnp.pad(inputs, ((0, 0), (0, 0), (0, missing), (0, 0)))
    return inputs[:, :, left : left + width]


def _transform_kernel(kernel: Array, tile: int) -> Array:
    """Compute `G w`, for all rows of the kernel: `[points, rows * channels, features]`."""
    rows, taps, channels, features = kernel.shape
    _, _, g = matrices(tile, taps)
    points = jnp.stack(_apply(g, [kernel[:, tap] for tap in range(taps)]))
    return points.reshape((len(g), rows * channels, features))


def _transform_kernel_adjoint(points: Array, size: Sequence[int], tile: int) -> Array:
    """The adjoint of `_transform_kernel`."""
    _, _, g = matrices(tile, size[1])
    points = points.reshape((len(g), size[0], -1, points.shape[-1]))
    return jnp.stack(_apply(g.T, points), axis=1)


def _transform_cotangent(cotangent: Array, tile: int, taps: int) -> Array:
    """Compute `A y` of each tile: `[points, batch, height, tiles, features]`."""
    batch, height, width, features = cotangent.shape
    pixels = jnp.pad(cotangent, ((0, 0), (0, 0), (0, -width % tile), (0, 0)))
    pixels = pixels.reshape((batch, height, -1, tile, features))
    a, _, _ = matrices(tile, taps)
    return jnp.stack(_apply(a, jnp.moveaxis(pixels, 3, 0)))


def _apply(matrix: np.ndarray, arrays: Sequence[Array] | Array) -> list[Array]:
    """Multiply a matrix by a column of arrays."""
    # As sums of few terms: a matrix product as thin as this would be slower, and could not skip
    # the zeros, a fifth to a half of the entries.
    sums = []
    for weights in matrix.tolist():
        terms = [array * weight for weight, array in zip(weights, arrays) if weight]
        sums.append(sum(terms[1:], terms[0]))
    return sums


def _im2col_convolve(inputs: Array, kernel: Array, padding: Padding) -> Array:
    """The convolution as one matrix product."""
    seen = im2col(inputs, kernel.shape[:2], padding)
    return seen @ kernel.reshape((-1, kernel.shape[-1]))


def _im2col_inputs_gradient(
    cotangent: Array, kernel: Array, padding: Padding, frame: Sequence[int]
) -> Array:
    """The adjoint of `_im2col_convolve` in inputs of height and width `frame`."""
    seen = cotangent @ kernel.reshape((-1, kernel.shape[-1])).T
    like = jax.ShapeDtypeStruct((len(cotangent), *frame, kernel.shape[2]), cotangent.dtype)
    look = partial(im2col, size=kernel.shape[:2], padding=padding)
    (inputs,) = jax.linear_transpose(look, like)(seen)
    return inputs


def _im2col_kernel_gradient(
    inputs: Array, cotangent: Array, size: Sequence[int], padding: Padding
) -> Array:
    """The gradient of `_im2col_convolve` in the kernel."""
    seen = im2col(inputs, size, padding)
    products = jnp.einsum("bhws,bhwf->sf", seen, cotangent)
    return products.reshape((*size, inputs.shape[-1], cotangent.shape[-1]))


def im2col(inputs: Array, size: Sequence[int], padding: Padding) -> Array:
    """Gather what a kernel of height and width `size` reads at each pixel.

    Args:
      inputs: `[batch, height, width, channels]`.
      size: height and width of the kernel.
      padding: zeros `((top, bottom), (left, right))`.

    Returns:
      `[batch, out_height, out_width, rows * columns * channels]`.
    """
    height, width = output_size(inputs.shape[1:3], size, padding)
    inputs = jnp.pad(inputs, ((0, 0), *padding, (0, 0)))
    # As shifted views, which XLA fuses; its own patch extraction is a convolution.
    shifted = [
        inputs[:, row : row + height, column : column + width]
        for row in range(size[0])
        for column in range(size[1])
    ]
    return jnp.concatenate(shifted, axis=-1)
