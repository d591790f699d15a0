"""A batch of maps worked on piece by piece, so that what is computed on the way stays in a cache.

A piece is some whole maps, or some rows of one, with the rows that a kernel sees above and below.
"""

import dataclasses
from collections.abc import Callable, Sequence

import jax.numpy as jnp
from jax import Array, lax

PIXELS = 4096
"""Of a piece, at most. With more, a step of 32 features and more leaves the 32 MiB of a usual
last-level cache; with fewer, reading the kernel for each piece takes longer than is gained."""


@dataclasses.dataclass(frozen=True)
class Pieces:
    """How a stride-1 convolution's output `[batch, height, width, features]` is cut.

    Attributes:
      images, rows: maps of the batch, and rows of each, in a piece; several maps only if whole.
      groups, blocks: pieces of the batch, and of a map.
      halo: rows that a piece of the inputs has more than one of the outputs.
    """

    images: int
    rows: int
    groups: int
    blocks: int
    halo: int

    @classmethod
    def of(cls, outputs: Sequence[int], kernel_height: int) -> "Pieces":
        """For an output of `[batch, height, width]`."""
        batch, height, width = outputs
        images, groups = _evenly(batch, max(1, PIXELS // (height * width)))
        rows, blocks = _evenly(height, max(1, PIXELS // width))
        return cls(images, rows, groups, blocks, kernel_height - 1)

    def pad_inputs(self, inputs: Array, top: int) -> Array:
        """The inputs with `top` rows of zeros above, and below as many as the last piece sees."""
        return self._pad(inputs, top, self.halo)

    def pad_outputs(self, outputs: Array) -> Array:
        """The outputs with as many rows of zeros below as the last piece has."""
        return self._pad(outputs, 0, 0)

    def cut_inputs(self, inputs: Array, piece: Array) -> Array:
        """`[images, rows + halo, width, channels]` of padded inputs."""
        shape = self.images, self.rows + self.halo, *inputs.shape[2:]
        return lax.dynamic_slice(inputs, self._corner(piece), shape)

    def cut_outputs(self, outputs: Array, piece: Array) -> Array:
        """`[images, rows, width, features]` of padded outputs."""
        shape = self.images, self.rows, *outputs.shape[2:]
        return lax.dynamic_slice(outputs, self._corner(piece), shape)

    def add_inputs(self, inputs: Array, piece: Array, values: Array) -> Array:
        """Adds `values` where `cut_inputs` has cut them: its adjoint."""
        values = values + self.cut_inputs(inputs, piece)
        return lax.dynamic_update_slice(inputs, values, self._corner(piece))

    def map(self, function: Callable[[Array], Array]) -> Array:
        """`[groups * images, blocks * rows, ...]`: what it makes of each piece of the outputs."""
        parts = lax.map(function, self._numbers())
        return parts.reshape((self.groups * self.images, -1, *parts.shape[3:]))

    def sum(self, add: Callable[[Array, Array], Array], total: Array) -> Array:
        """`total` after `add(total, piece)` for each piece."""
        total, _ = lax.scan(lambda sum, piece: (add(sum, piece), None), total, self._numbers())
        return total

    def _numbers(self) -> Array:
        return jnp.arange(self.groups * self.blocks)

    def _corner(self, piece: Array) -> tuple[Array, ...]:
        first = piece // self.blocks * self.images, piece % self.blocks * self.rows
        return *first, *(jnp.zeros_like(piece),) * 2

    def _pad(self, maps: Array, top: int, halo: int) -> Array:
        more = self.groups * self.images - len(maps)
        below = self.blocks * self.rows + halo - top - maps.shape[1]
        return jnp.pad(maps, ((0, more), (top, below), (0, 0), (0, 0)))


def _evenly(count: int, most: int) -> tuple[int, int]:
    """How many are in a part, of as few parts as have `most` at most, and how many parts."""
    size = -(-count // -(-count // most))
    return size, -(-count // size)
