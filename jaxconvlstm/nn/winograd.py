"""Stride-1 convolution as matrix products, and as few of them as can be: what `conv` does on a CPU.

A convolution of `K` taps along a row takes `K` multiplications a pixel. Toom and Cook's algorithm
cuts the row into tiles of `m` pixels, and takes `m + K - 1` for each tile: 8 in place of 20 for
`K = 5` and `m = 4`. With matrices `A`, `B` and `G` that follow from polynomials evaluated at
`m + K - 1` points, and `.` for the elementwise product,

    pixels = A^T [(G taps) . (B seen)]

where `seen` are the `m + K - 1` inputs that the tile's pixels depend on. Channel by channel, `A`,
`B` and `G` cost little. The products, summed over the channels and the rows of the kernel, are a
matrix product for each point, and these are what a processor does best.

Only rows are treated so. Along both axes there would be fewer products still, but four times as
much would have to be stored in between; along one, what is stored is less than twice the output,
and the rounding error one to three times that of a plain sum.

The gradients are the adjoints of the same three steps: they are as few products again.

Where there are few channels, or few pixels for a large kernel, there is one product instead, of all
that the kernel sees at each pixel.

References:
  Winograd 1980, "Arithmetic Complexity of Computations", chapter 5.
  Lavin & Gray 2016, "Fast Algorithms for Convolutional Neural Networks", section 4.
  Barabasz et al. 2020, "Error Analysis and Improving the Accuracy of Winograd Convolution for Deep
  Neural Networks", section 4: which points round least.

Layout: inputs are `[batch, height, width, channels]`, kernels `[height, width, in, out]`.
"""

from collections.abc import Callable, Sequence
from functools import cache, partial, wraps
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jaxconvlstm.nn.blocking import Pieces

Padding = tuple[tuple[int, int], tuple[int, int]]

# Where polynomials of so many coefficients are evaluated, beside infinity.
_POINTS: dict[int, tuple[float, ...]] = {
    3: (0, 1),
    4: (0, 1, -1),
    5: (0, 1, -1, 2),
    6: (0, 2 / 3, -2 / 3, 3 / 2, -3 / 2),
    7: (0, 1, -1, 2, -2, 1 / 2),
    8: (0, 1, -1, 2, -2, 1 / 2, -1 / 2),
}
_TILES = 2, 4
# Reading the kernel, to evaluate it, takes as long as a product with so many pixels.
_KERNEL_WORK = 64
# Up to so many channels on one side, a product of all that a kernel sees of them is cheaper than
# tiles, which would be thin products.
_FEW = 12


def _widened(function: Callable[..., Array]) -> Callable[..., Array]:
    """A function of two arrays, computed in float32 at least; its result is as wide as the first.

    What fewer products round, and long sums in bfloat16, would be lost.
    """

    @wraps(function)
    def wide(first: Array, second: Array, *rest: Any, **settings: Any) -> Array:
        dtype = jnp.promote_types(first.dtype, jnp.float32)
        result = function(first.astype(dtype), second.astype(dtype), *rest, **settings)
        return result.astype(first.dtype)

    return wide


@_widened
def convolve(inputs: Array, kernel: Array, padding: Padding) -> Array:
    """See `conv.convolve`; `[batch, height, width, channels]` only."""
    *size, channels, features = kernel.shape
    height, width = output_size(inputs.shape[1:3], size, padding)
    if features <= _FEW < channels:
        mirrored = mirrored_padding(size, padding)
        return inputs_gradient(inputs, turned(kernel), mirrored, (height, width))
    outputs = len(inputs), height, width
    tile = _tile(channels, size[1], outputs)
    if not tile:
        return _gather(inputs, kernel, padding)
    (top, _), across = padding
    pieces = Pieces.of(outputs, size[0])
    inputs = pieces.pad_inputs(inputs, top)
    points, _, _ = matrices(tile, size[1])
    taps = _evaluate(kernel, tile)

    def convolve_piece(piece: Array) -> Array:
        seen = _see(pieces.cut_inputs(inputs, piece), size, across, tile)
        products = jnp.einsum("pbhts,psf->pbhtf", seen, taps)
        pixels = jnp.stack(_mix(points.T, products), axis=3)
        return pixels.reshape((*pixels.shape[:2], -1, features))[:, :, :width]

    return pieces.map(convolve_piece)[: outputs[0], :height]


@_widened
def inputs_gradient(
    cotangent: Array, kernel: Array, padding: Padding, frame: Sequence[int]
) -> Array:
    """The gradient with respect to inputs of height and width `frame`, from that of the output."""
    *size, channels, features = kernel.shape
    if features <= _FEW < channels:
        return convolve(cotangent, turned(kernel), mirrored_padding(size, padding))
    tile = _tile(channels, size[1], cotangent.shape[:3])
    if not tile:
        return _scatter(cotangent, kernel, padding, frame)
    (top, _), across = padding
    batch = len(cotangent)
    pieces = Pieces.of(cotangent.shape[:3], size[0])
    cotangent = pieces.pad_outputs(cotangent)
    taps = _evaluate(kernel, tile)

    def add_piece(total: Array, piece: Array) -> Array:
        spread = _spread(pieces.cut_outputs(cotangent, piece), tile, size[1])
        seen = jnp.einsum("pbhtf,psf->pbhts", spread, taps)
        return pieces.add_inputs(total, piece, _see_adjoint(seen, size, across, tile, frame[1]))

    height = cotangent.shape[1] + pieces.halo
    total = jnp.zeros((len(cotangent), height, frame[1], channels), cotangent.dtype)
    return pieces.sum(add_piece, total)[:batch, top : top + frame[0]]


@_widened
def kernel_gradient(
    inputs: Array, cotangent: Array, size: Sequence[int], padding: Padding
) -> Array:
    """The gradient with respect to a kernel of height and width `size`."""
    channels, features = inputs.shape[-1], cotangent.shape[-1]
    if features <= _FEW < channels:
        return turned(kernel_gradient(cotangent, inputs, size, mirrored_padding(size, padding)))
    tile = _tile(channels, size[1], cotangent.shape[:3])
    if not tile:
        return _outer(inputs, cotangent, size, padding)
    (top, _), across = padding
    pieces = Pieces.of(cotangent.shape[:3], size[0])
    inputs, cotangent = pieces.pad_inputs(inputs, top), pieces.pad_outputs(cotangent)

    def add_piece(total: Array, piece: Array) -> Array:
        seen = _see(pieces.cut_inputs(inputs, piece), size, across, tile)
        spread = _spread(pieces.cut_outputs(cotangent, piece), tile, size[1])
        return total + jnp.einsum("pbhts,pbhtf->psf", seen, spread)

    total = jnp.zeros((tile + size[1] - 1, size[0] * channels, features), inputs.dtype)
    return _evaluate_adjoint(pieces.sum(add_piece, total), size, tile)


def output_size(frame: Sequence[int], size: Sequence[int], padding: Padding) -> tuple[int, int]:
    """Height and width of what a kernel of height and width `size` makes of a frame."""
    height, width = (f + sum(p) - s + 1 for f, s, p in zip(frame, size, padding))
    return height, width


def turned(kernel: Array) -> Array:
    """The kernel of the way back: turned by half a circle, with its channel axes swapped."""
    return kernel[::-1, ::-1].swapaxes(2, 3)


def mirrored_padding(size: Sequence[int], padding: Padding) -> Padding:
    """The padding of the way back: what the output's cotangent is padded by."""
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
    b[np.abs(b) < 1e-9] = 0
    # Powers of two, which round nothing, bring the rows of B to a length of about 1.
    scale = np.exp2(np.round(np.log2(np.linalg.norm(b, axis=1, keepdims=True))))
    return a, b / scale, g * scale


def _tile(channels: int, taps: int, outputs: Sequence[int]) -> int:
    """Pixels of a tile that take the least work; 0 where one product of all taps takes less.

    Args:
      channels: of the inputs.
      taps: width of the kernel.
      outputs: batch, height and width of the output.
    """
    if channels <= _FEW or taps == 1:
        return 0
    batch, height, width = outputs
    work = {0: taps * batch * height * width}
    for tile in _TILES:
        points = tile + taps - 1
        if points in _POINTS:
            work[tile] = points * (batch * height * -(-width // tile) + _KERNEL_WORK)
    return min(work, key=lambda tile: work[tile])


def _see(inputs: Array, size: Sequence[int], across: tuple[int, int], tile: int) -> Array:
    """`B seen` of each tile, for all rows of the kernel: `[points, batch, height, tiles, seen]`.

    Args:
      inputs: `[batch, height + kernel height - 1, width, channels]`.
      size: height and width of the kernel.
      across: zeros before and after each row.
      tile: pixels of a tile.
    """
    height, width = output_size(inputs.shape[1:3], size, ((0, 0), across))
    _, b, _ = matrices(tile, size[1])
    tiles = -(-width // tile)
    blocks = tiles + (len(b) - 1) // tile  # of as many pixels as a tile has, that a row is read in
    left = across[0]
    right = blocks * tile - left - inputs.shape[2]
    inputs = jnp.pad(inputs, ((0, 0), (0, 0), (left, max(right, 0)), (0, 0)))
    inputs = inputs[:, :, : blocks * tile]
    inputs = inputs.reshape((*inputs.shape[:2], blocks, tile, -1))
    pixels = [inputs[:, :, i // tile : i // tile + tiles, i % tile] for i in range(len(b))]
    # Without the barrier XLA takes the sums once for each row of the kernel, and keeps all of them.
    seen = lax.optimization_barrier(jnp.stack(_mix(b, pixels)))
    return jnp.concatenate([seen[:, :, row : row + height] for row in range(size[0])], axis=-1)


def _see_adjoint(
    seen: Array, size: Sequence[int], across: tuple[int, int], tile: int, width: int
) -> Array:
    """The adjoint of `_see`, for inputs of so many pixels a row."""
    _, b, _ = matrices(tile, size[1])
    rows = [
        jnp.pad(part, ((0, 0), (0, 0), (row, size[0] - 1 - row), (0, 0), (0, 0)))
        for row, part in enumerate(jnp.split(seen, size[0], axis=-1))
    ]
    pixels, more = _mix(b.T, sum(rows[1:], rows[0])), (len(b) - 1) // tile
    lanes = []
    for lane in range(tile):
        blocks = [
            jnp.pad(pixel, ((0, 0), (0, 0), (before, more - before), (0, 0)))
            for before, pixel in enumerate(pixels[lane::tile])
        ]
        lanes.append(sum(blocks[1:], blocks[0]))
    inputs = jnp.stack(lanes, axis=3)
    inputs = inputs.reshape((*inputs.shape[:2], -1, inputs.shape[-1]))
    left = across[0]
    missing = max(0, left + width - inputs.shape[2])
    inputs = jnp.pad(inputs, ((0, 0), (0, 0), (0, missing), (0, 0)))
    return inputs[:, :, left : left + width]


def _evaluate(kernel: Array, tile: int) -> Array:
    """`G taps`, for all rows of the kernel: `[points, rows * channels, features]`."""
    rows, taps, channels, features = kernel.shape
    _, _, g = matrices(tile, taps)
    points = jnp.stack(_mix(g, [kernel[:, tap] for tap in range(taps)]))
    return points.reshape((len(g), rows * channels, features))


def _evaluate_adjoint(points: Array, size: Sequence[int], tile: int) -> Array:
    """The adjoint of `_evaluate`."""
    _, _, g = matrices(tile, size[1])
    points = points.reshape((len(g), size[0], -1, points.shape[-1]))
    return jnp.stack(_mix(g.T, points), axis=1)


def _spread(cotangent: Array, tile: int, taps: int) -> Array:
    """`A` of each tile's pixels: `[points, batch, height, tiles, features]`."""
    batch, height, width, features = cotangent.shape
    pixels = jnp.pad(cotangent, ((0, 0), (0, 0), (0, -width % tile), (0, 0)))
    pixels = pixels.reshape((batch, height, -1, tile, features))
    points, _, _ = matrices(tile, taps)
    return jnp.stack(_mix(points, jnp.moveaxis(pixels, 3, 0)))


def _mix(matrix: np.ndarray, arrays: Sequence[Array] | Array) -> list[Array]:
    """The matrix times a column of arrays. A sum of few terms: faster than a product as thin."""
    sums = []
    for weights in matrix.tolist():
        terms = [array * weight for weight, array in zip(weights, arrays) if weight]
        sums.append(sum(terms[1:], terms[0]))
    return sums


def _gather(inputs: Array, kernel: Array, padding: Padding) -> Array:
    """The convolution as one product of all that a kernel sees."""
    seen = windows(inputs, kernel.shape[:2], padding)
    return seen @ kernel.reshape((-1, kernel.shape[-1]))


def _scatter(cotangent: Array, kernel: Array, padding: Padding, frame: Sequence[int]) -> Array:
    """The adjoint of `_gather`: gives inputs of height and width `frame`."""
    seen = cotangent @ kernel.reshape((-1, kernel.shape[-1])).T
    like = jax.ShapeDtypeStruct((len(cotangent), *frame, kernel.shape[2]), cotangent.dtype)
    look = partial(windows, size=kernel.shape[:2], padding=padding)
    (inputs,) = jax.linear_transpose(look, like)(seen)
    return inputs


def _outer(inputs: Array, cotangent: Array, size: Sequence[int], padding: Padding) -> Array:
    """The kernel's gradient in `_gather`."""
    seen = windows(inputs, size, padding)
    products = jnp.einsum("bhws,bhwf->sf", seen, cotangent)
    return products.reshape((*size, inputs.shape[-1], cotangent.shape[-1]))


def windows(inputs: Array, size: Sequence[int], padding: Padding) -> Array:
    """What a kernel sees at each pixel: `[batch, height, width, rows * columns * channels]`."""
    height, width = output_size(inputs.shape[1:3], size, padding)
    inputs = jnp.pad(inputs, ((0, 0), *padding, (0, 0)))
    shifted = [
        inputs[:, row : row + height, column : column + width]
        for row in range(size[0])
        for column in range(size[1])
    ]
    return jnp.concatenate(shifted, axis=-1)
