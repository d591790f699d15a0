"""Cache blocking: a batch of maps is worked on block by block.

A block is some whole maps, or some rows of one map and the rows that a kernel reads above and
below them (the halo). Intermediate results of one block stay in a cache.
"""

import dataclasses
from collections.abc import Callable, Sequence

import jax.numpy as jnp
from jax import Array, lax

PIXELS = 4096
"""Largest number of pixels in a block. With more, a step of 32 features and more leaves the 32 MiB
of a usual last-level cache; with fewer, reading the kernel for each block takes longer than is
gained. On one core and on two, 1024 to 8192 pixels take the same time within 12 %. With many cores
a block still is work enough: of 64 features and 3x3, 1.2 billion operations, a quarter of a
millisecond of 64 cores, and 64 rows of the product for each of them."""


@dataclasses.dataclass(frozen=True)
class Blocks:
    """Blocks of a stride-1 convolution's output `[batch, height, width, features]`.

    The last block of an axis may reach past its end; arrays are padded with zeros for it.

    Attributes:
      images, rows: maps of the batch, and rows of each, in a block; several maps only if whole.
      image_blocks, row_blocks: number of blocks along the batch, and along a map's height.
      halo: rows that a block of the inputs has more than one of the outputs.
    """

    images: int
    rows: int
    image_blocks: int
    row_blocks: int
    halo: int

    @classmethod
    def of(cls, outputs: Sequence[int], kernel_height: int) -> "Blocks":
        """Divide an output of `[batch, height, width]`."""
        batch, height, width = outputs
        images, image_blocks = _evenly(batch, max(1, PIXELS // (height * width)))
        rows, row_blocks = _evenly(height, max(1, PIXELS // width))
        return cls(images, rows, image_blocks, row_blocks, kernel_height - 1)

    def pad(self, maps: Array, halo: int = 0, top: int = 0) -> Array:
        """Add `top` rows of zeros above, and below as many as the last block has or reads.

        Args:
          maps: outputs, or inputs, of which a block has a `halo` of more rows.
          halo: 0 of outputs, `self.halo` of inputs.
          top: rows above.
        """
        more = self.image_blocks * self.images - len(maps)
        below = self.row_blocks * self.rows + halo - top - maps.shape[1]
        return jnp.pad(maps, ((0, more), (top, below), (0, 0), (0, 0)))

    def slice(self, maps: Array, block: Array, halo: int = 0) -> Array:
        """Take `[images, rows + halo, width, channels]` of what `pad` gave."""
        shape = self.images, self.rows + halo, *maps.shape[2:]
        return lax.dynamic_slice(maps, self._corner(block), shape)

    def add_to_inputs(self, inputs: Array, block: Array, values: Array) -> Array:
        """Add `values` to the block: the adjoint of `slice` with the halo."""
        # Halos overlap, so that a block adds to what its neighbours have left in its rows.
        values = values + self.slice(inputs, block, self.halo)
        return lax.dynamic_update_slice(inputs, values, self._corner(block))

    def map(self, function: Callable[[Array], Array]) -> Array:
        """Join `function(block)`, `[images, rows, ...]`, of all blocks of the outputs.

        Returns:
          `[image_blocks * images, row_blocks * rows, ...]`.
        """
        results = lax.map(function, self._numbers())  # [blocks, images, rows, ...]
        # Several images share a block only where they are whole, so that merging the axes in this
        # order puts rows below rows.
        return results.reshape((self.image_blocks * self.images, -1, *results.shape[3:]))

    def sum(self, add: Callable[[Array, Array], Array], total: Array) -> Array:
        """Apply `total = add(total, block)` for each block."""
        total, _ = lax.scan(lambda sum, block: (add(sum, block), None), total, self._numbers())
        return total

    def _numbers(self) -> Array:
        return jnp.arange(self.image_blocks * self.row_blocks)

    def _corner(self, block: Array) -> tuple[Array, ...]:
        # Blocks are numbered down a map first.
        first = block // self.row_blocks * self.images, block % self.row_blocks * self.rows
        return *first, *(jnp.zeros_like(block),) * 2


def _evenly(count: int, most: int) -> tuple[int, int]:
    """Divide `count` into as few blocks as have `most` at most: size of a block, and how many."""
    # Of 17 maps with room for 16 a block, 9 and 8 waste one padded map; 16 and 1 waste fifteen.
    size = -(-count // -(-count // most))
    return size, -(-count // size)
