"""Motion between two frames by block matching, and warping a frame along it; no parameters.

Radar extrapolation and video coding have long searched for the place that each part of a picture
came from; a network learns that only slowly from few clips.

References:
  Woo & Wong 2017, "Operational Application of Optical Flow Techniques to Radar-Based Rainfall
  Nowcasting" (ROVER): extrapolation along a flow.
  Kendall et al. 2017, "End-to-End Learning of Geometry and Context for Deep Stereo Regression",
  section 3.4: the soft minimum over a volume of matching costs.
  De Brabandere et al. 2016, "Dynamic Filter Networks", section 3.2: a filter for each place.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxconvlstm.nn.winograd import im2col

# Frames are matched at half resolution, and costs summed over blocks of 8 x 8 pixels and their
# neighbours: 24 x 24 pixels, enough to hold an edge or a texture nearly everywhere.
_HALF = 2
_BLOCK = 4
# Squared difference, in units of the data's range, at which a displacement is 1/e as likely as
# the best one. What matches equally well in all directions (a blank sky) so averages to rest.
_TEMPERATURE = 1e-4
# Preference for rest, per squared pixel.
_REST = 1e-6


def match(
    previous: Float[Array, "batch height width channels"],
    current: Float[Array, "batch height width channels"],
    reach: int,
) -> Float[Array, "batch height width 2"]:
    """Estimate where each pixel came from: the displacement `(down, right)` to the frame before.

    For every block the squared difference to the previous frame is taken at all displacements up
    to `reach` pixels, two pixels apart; the result is the mean of the displacements, weighted by
    a softmax over the negative differences, and interpolated between blocks.

    Args:
      previous, current: consecutive frames `[batch, height, width, channels]`, in [0, 1].
      reach: largest displacement looked for, in pixels; an odd one is rounded down.

    Returns:
      `[batch, height, width, 2]` in pixels: `current(x)` looks like `previous(x + flow(x))`. No
      gradient passes through it.
    """
    batch, height, width, _ = current.shape
    cell = _HALF * _BLOCK  # side of a block in pixels of the frame
    below, right = -height % cell, -width % cell
    padding = ((0, 0), (0, below), (0, right), (0, 0))
    # A constant to the gradient: motion is measured, not learnt.
    before, now = (
        _mean_pool(jnp.pad(jax.lax.stop_gradient(frame), padding, mode="edge"), _HALF)
        for frame in (previous, current)
    )
    steps = reach // _HALF
    around = ((0, 0), (steps, steps), (steps, steps), (0, 0))
    costs = matching_costs(jnp.pad(before, around, mode="edge"), now, _BLOCK)
    # One axis for all displacements, which the soft minimum is over.
    costs = _mean_neighbours(costs.reshape((*costs.shape[:3], -1)))
    offsets = jnp.arange(2 * steps + 1)
    grid = jnp.stack(jnp.meshgrid(offsets, offsets, indexing="ij"), axis=-1).reshape((-1, 2))
    pixels = _HALF * (grid - steps).astype(costs.dtype)
    costs += jnp.expand_dims(_REST * jnp.sum(pixels**2, axis=-1), (0, 1, 2))
    # The soft minimum of Kendall et al. 2017: finer than the steps of the search.
    flow = jax.nn.softmax(-costs / _TEMPERATURE, axis=-1) @ pixels  # [b, h / 8, w / 8, 2]
    full = (batch, height + below, width + right, 2)
    return jax.image.resize(flow, full, "bilinear")[:, :height, :width]


def matching_costs(
    before: Float[Array, "batch rows columns channels"],
    now: Float[Array, "batch height width channels"],
    block: int,
    ignore_brightness: bool = False,
) -> Float[Array, "batch down across offsets_down offsets_right"]:
    """Compare each block of a frame with all places around it in the frame before.

    Args:
      before: the frame before, and what lies around it: larger than `now` by an even number of
        rows and of columns, `2 * reach` each. NaN, outside of the picture for instance, matches
        nothing.
      now: a frame whose height and width `block` divides.
      block: side of a block in pixels.
      ignore_brightness: leave a difference that is the same all over the block, in each channel,
        out of account.

    Returns:
      `[batch, height / block, width / block, 2 * reach + 1, 2 * reach + 1]`: the squared
      difference, or with `ignore_brightness` its variance, as a mean over the block's pixels and
      channels. The last two axes are displacements down and right, with rest in the middle.
    """
    rows, columns = now.shape[1:3]
    down, right = (before.shape[axis] - now.shape[axis] + 1 for axis in (1, 2))

    def squared(difference: Array) -> Array:
        if ignore_brightness:
            # Subtracted before squaring: a variance as the mean of squares less the square of the
            # mean would drown in rounding wherever the brightness changes most.
            blocks = difference.reshape(_blocks_of(difference.shape, block))
            blocks -= jnp.mean(blocks, axis=(2, 4), keepdims=True)
            difference = blocks.reshape(difference.shape)
        return jnp.mean(difference**2, axis=-1, keepdims=True)

    def costs_of_row(y: Array) -> Array:
        """Costs of displacements by `y` rows, `[batch, height / block, width / block, right]`."""
        band = jax.lax.dynamic_slice_in_dim(before, y, rows, axis=1)
        differences = (band[:, :, x : x + columns] - now for x in range(right))
        squares = [squared(difference) for difference in differences]
        return _mean_pool(jnp.concatenate(squares, axis=-1), block)

    # A loop over rows keeps the program small; a GPU or CPU is busy enough with each.
    return jnp.moveaxis(jax.lax.map(costs_of_row, jnp.arange(down)), 0, -2)


def warp(
    frame: Float[Array, "batch height width channels"], flow: Float[Array, "batch height width 2"]
) -> Float[Array, "batch height width channels"]:
    """Warp a frame along a flow: the result at `x` is the frame at `x + flow(x)`.

    Args:
      frame: `[batch, height, width, channels]`, on any scale.
      flow: displacements `(down, right)` in pixels, `[batch, height, width, 2]`.

    Returns:
      The frame's shape and dtype: interpolated bilinearly; outside the frame its edge goes on.
    """
    batch, height, width, channels = frame.shape
    grid = jnp.stack(jnp.meshgrid(jnp.arange(height), jnp.arange(width), indexing="ij"), axis=-1)
    limits = jnp.asarray([height - 1, width - 1], flow.dtype)
    place = jnp.clip(grid[None].astype(flow.dtype) + flow, 0, limits[None, None, None])
    corner = jnp.floor(place)
    weight = (place - corner).astype(frame.dtype)  # of the next row and column
    top, left = jnp.moveaxis(corner.astype(jnp.int32), -1, 0)
    # At the last row and column the neighbour has weight 0, but its index must exist.
    bottom, right = jnp.minimum(top + 1, height - 1), jnp.minimum(left + 1, width - 1)
    down, across = weight[..., :1], weight[..., 1:]
    pixels = frame.reshape((batch, height * width, channels))

    def at(row: Array, column: Array) -> Array:
        index = (row * width + column).reshape((batch, height * width, 1))
        return jnp.take_along_axis(pixels, index, axis=1).reshape(frame.shape)

    upper = at(top, left) * (1 - across) + at(top, right) * across
    lower = at(bottom, left) * (1 - across) + at(bottom, right) * across
    return upper * (1 - down) + lower * down


def filter_locally(
    frames: Float[Array, "*leading height width channels"],
    filters: Float[Array, "*leading rows columns positions"],
) -> Float[Array, "*leading height width channels"]:
    """Filter each block of a picture by weights of its own (dynamic filters).

    A filter that is 1 at one position moves the picture by as much; others blur or fade it.

    Args:
      frames: outside of them their edge goes on.
      filters: weights of the `side * side` positions around a pixel, row by row, `side` odd; one
        filter for each block of `height / rows` by `width / columns` pixels.

    Returns:
      `result(y, x) = sum over (i, j) of filters(i, j) * frames(y + i - side//2, x + j - side//2)`,
      in the shape of `frames`.
    """
    *leading, height, width, channels = frames.shape
    rows, columns, positions = filters.shape[-3:]
    side = round(positions**0.5)
    half = side // 2
    # Channels join the batch, since all of them share a filter: [batch * channels, h, w, 1].
    planes = jnp.moveaxis(frames, -1, -3).reshape((-1, height, width, 1))
    planes = jnp.pad(planes, ((0, 0), (half, half), (half, half), (0, 0)), mode="edge")
    around = im2col(planes, (side, side), ((0, 0), (0, 0)))
    blocks = (channels, rows, height // rows, columns, width // columns, positions)
    around = around.reshape((*leading, *blocks))
    # Filters get axes of length 1 for the channels and for the pixels of a block.
    weighted = around * filters[..., None, :, None, :, None, :]
    sums = jnp.sum(weighted, axis=-1).reshape((*leading, channels, height, width))
    return jnp.moveaxis(sums, -3, -1)


def _blocks_of(shape: Sequence[int], block: int) -> tuple[int, ...]:
    """`[batch, height, width, c]` to `[batch, height / block, block, width / block, block, c]`."""
    batch, height, width, channels = shape
    return batch, height // block, block, width // block, block, channels


def _mean_pool(frames: Array, block: int) -> Array:
    """Means of `block` x `block` pixels: `[b, h, w, c]` to `[b, h / block, w / block, c]`."""
    return jnp.mean(frames.reshape(_blocks_of(frames.shape, block)), axis=(2, 4))


def _mean_neighbours(maps: Array) -> Array:
    """Mean of each block's costs and its eight neighbours'; the edge goes on."""
    height, width = maps.shape[1:3]
    padded = jnp.pad(maps, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="edge")
    rows = padded[:, :height] + padded[:, 1 : height + 1] + padded[:, 2:]
    return (rows[:, :, :width] + rows[:, :, 1 : width + 1] + rows[:, :, 2:]) / 9
