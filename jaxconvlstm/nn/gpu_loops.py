"""Other ways to run the loop over time, for a GPU to choose among; see `variants`."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

from jaxconvlstm.nn import variants
from jaxconvlstm.nn.cell import Carry
from jaxconvlstm.nn.convolution import convolve, same_padding


def scan_with_late_kernels(
    cell: Any,
    carry: Carry,
    projections: Array | None,
    length: int,
    hidden_mask: Array | None,
    remat: bool,
) -> tuple[Carry, Array]:
    """Run a cell over time; its hidden kernel's gradient is one convolution after the loop.

    Args:
      cell: the bound `LoopCell`.
      carry: `(c, h)`, each `[batch, height, width, features]`.
      projections: `W_x * x + b`, `[time, batch, height, width, 4 * features]`; None for a cell
        that reads no input.
      length: number of time steps.
      hidden_mask: see `ConvLSTMCell.__call__`.
      remat: recompute each step in the backward pass.

    Returns:
      The last `(c, h)`, and all hidden states `[batch, time, height, width, features]`.
    """
    c, start = carry
    terms = cell.terms(c, None if projections is None else projections[0], hidden_mask, True)
    if projections is None:
        shape = (length, *start.shape[:-1], terms.W_h.shape[-1])
        projections = jnp.zeros(shape, start.dtype)

    def run(W_h: Array, projections: Array, rest: Any) -> tuple[Carry, Array]:
        """The loop: `(c, o)` after the last step, and `h` before each one."""
        c, start, terms = rest

        def body(halfway: Carry, x: tuple[Array, Array]) -> tuple[Carry, Array]:
            projection, first = x
            used = terms._replace(W_h=W_h, projection=projection)
            return cell.halfway_step(halfway, start, first, used)

        return lax.scan(
            jax.checkpoint(body, prevent_cse=False) if remat else body,
            (c, jnp.zeros_like(start)),
            (projections, jnp.arange(length) == 0),
            unroll=min(variants.chosen.unroll, length),
        )

    rest = c, start, terms._replace(W_h=None, projection=None)
    (c, o), hidden = _with_late_kernel(run, terms.W_h, projections, rest)
    last = cell.hidden_state(c, o)
    outputs = jnp.concatenate([hidden[1:], last[None]])
    return (c, last), jnp.moveaxis(outputs, 0, 1)


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _with_late_kernel(run: Any, W_h: Array, projections: Array, rest: Any) -> Any:
    return run(W_h, projections, rest)


@_with_late_kernel.defjvp
def _late(run: Any, primals: Any, tangents: Any) -> Any:
    """Add what a change of the kernel does to the projections, outside of the loop.

    A step is a function of `W_x * x + b + W_h * h`. To first order, changing `W_h` by `D` adds
    `D * h` to the first two, where `h` is known once the loop has run: for all steps in one
    convolution, whose transpose is the kernel's gradient in one convolution.
    """
    (W_h, projections, rest), (W_h_dot, projections_dot, rest_dot) = primals, tangents
    outputs, linear = jax.linearize(partial(run, W_h), projections, rest)
    _, hidden = outputs
    mask = rest[-1].hidden_mask
    read = hidden if mask is None else hidden * mask[None]  # the same at all times
    added = convolve(read, W_h_dot, same_padding(W_h.shape[:2]))
    return outputs, linear(projections_dot + added, rest_dot)


def scan_in_a_wavefront(
    layers: Sequence[Any], inputs: Array, train: bool
) -> tuple[list[Carry], Array]:
    """Run layers in one loop, each a step behind the one below; see `conv_lstm.run_layers`.

    In iteration k, layer l takes step k - l, from what the layer below gave in iteration k - 1.
    """
    time = inputs.shape[1]
    frames = layers[0].drop(jnp.moveaxis(inputs, 1, 0), train)  # [time, batch, ...]
    frames = layers[0].cell.project(frames)
    below: tuple[int, ...] = frames.shape[1:]
    carries, terms, masks = [], [], []
    for index, layer in enumerate(layers):
        c, h = layer.initialize_carry(below)
        example = jnp.zeros(below, h.dtype)
        # In the order of `ConvLSTM.__call__`, so that the masks are drawn alike.
        masks.append(layer.input_mask(example, train) if index else None)
        hidden_mask = layer.hidden_mask((c, h), train)
        terms.append(layer.cell.terms(c, example, hidden_mask, projected=index == 0))
        carries.append((c, h))
        below = h.shape

    def body(carries: list[Carry], x: tuple[Array, Array]) -> tuple[list[Carry], Array]:
        frame, iteration = x
        after = []
        for index, (layer, old) in enumerate(zip(layers, carries)):
            if index == 0:
                used = terms[0]._replace(projection=frame)
            else:
                read = carries[index - 1][1]
                used = terms[index]._replace(x=_masked(read, masks[index]).astype(layer.dtype))
            new, _ = layer.cell.step(old, used)
            works = (iteration >= index) & (iteration < index + time)
            after.append(jax.tree.map(partial(jnp.where, works), new, old))
        return after, after[-1][1]

    more = len(layers) - 1  # iterations at the end, without a frame for the lowest layer
    padded = jnp.pad(frames, [(0, more), *[(0, 0)] * (frames.ndim - 1)])
    remat = layers[0].remat
    carries, hidden = lax.scan(
        jax.checkpoint(body, prevent_cse=False) if remat else body,
        carries,
        (padded, jnp.arange(time + more)),
        unroll=min(variants.chosen.unroll, time + more),
    )
    return carries, jnp.moveaxis(hidden[more:], 0, 1)


def _masked(values: Array, mask: Array | None) -> Array:
    return values if mask is None else values * mask
