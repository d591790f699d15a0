"""The ConvLSTM layer: the cell unrolled over time, with less stored for its gradient."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array, Float

from jaxconvlstm.checks import check_positive, check_rank, per_layer
from jaxconvlstm.errors import ConfigError
from jaxconvlstm.nn import variants
from jaxconvlstm.nn.cell import Carry, ConvLSTMCell, Terms
from jaxconvlstm.nn.gpu_loops import scan_in_a_wavefront, scan_with_late_kernels

PIXELS_IN_LOOP = 256
"""Smallest number of pixels in a step, over the batch, for the input convolution to be in the loop.
With fewer, reading the kernels takes longer than computing."""
CHANNELS_IN_LOOP = 16
"""Smallest number of channels for the same; see `variants.Variant.inputs`."""


class LoopCell(ConvLSTMCell):
    """The cell inside a loop over time: the same equations, with less stored for the gradient.

    Reverse mode keeps what a step computes until the loop is run backwards. Two things shorten
    that list, which for long clips is nearly all of the memory that training takes:

    - Rematerialise all but the gate pre-activations: 4 values a feature are stored instead of 13.
      They are what the convolutions give; everything else is elementwise and cheap to repeat.
    - Loop from halfway through a step to halfway through the next, with
      `(c, output-gate pre-activation)` as the carry. A loop over `(c, h)` stores `h` twice, as the
      carry and as an output; here it is recomputed from a carry that has to be stored anyway.
    """

    @nn.nowrap
    def step(self, carry: Carry, terms: Terms) -> tuple[Carry, Array]:
        """See `ConvLSTMCell.step`."""
        return _store_pre_activations(super().step)(carry, terms)

    def step_from_halfway(
        self,
        halfway: Carry,
        start: Array,
        first: Array,
        inputs: Float[Array, "batch height width channels"] | None,
        hidden_mask: Array | None = None,
        projected: bool = False,
    ) -> tuple[Carry, Float[Array, "batch height width features"]]:
        """Take `(c, output-gate pre-activation)` at t to the same at t + 1.

        Args:
          halfway: `(c, o)` at t, each `[batch, height, width, features]`.
          start: `h` before the first step, likewise.
          first: bool scalar, true at the first step, before which there is no `o` to read.
          Others: see `ConvLSTMCell.__call__`.

        Returns:
          `(c, o)` at t + 1, and `h` at t.
        """
        terms = self.terms(halfway[0], inputs, hidden_mask, projected)
        return self.halfway_step(halfway, start, first, terms)

    @nn.nowrap
    def halfway_step(
        self, halfway: Carry, start: Array, first: Array, terms: Terms
    ) -> tuple[Carry, Array]:
        """Compute what `step_from_halfway` returns from the arrays of the step's equations."""

        def step(halfway: Carry, start: Array, first: Array, terms: Terms) -> tuple[Carry, Array]:
            c, o = halfway
            h = jnp.where(first, start, self.hidden_state(c, o))
            return self.cell_state((c, h), terms), h

        return _store_pre_activations(step)(halfway, start, first, terms)

    def project(
        self, inputs: Float[Array, "*leading height width channels"]
    ) -> Float[Array, "*leading height width gates"]:
        """Compute `W_x * x + b`; it needs no state, so all time steps can be done at once."""
        self.check_inputs(inputs)
        return self.input(inputs)

    @nn.nowrap
    def split_gates(self, gates: Array) -> Sequence[Array]:
        """Split `[..., 4 * features]` into i, f, g and o, named as what is to be stored."""
        # o is named by itself: halfway through a step it is part of the carry, which is stored
        # already, so that nothing else asks for it and only i, f and g are stored here.
        parts = jnp.split(gates, [3 * self.features], axis=-1)
        ifg, o = (checkpoint_name(part, _PRE_ACTIVATIONS) for part in parts)
        return *jnp.split(ifg, 3, axis=-1), o


_PRE_ACTIVATIONS = "gate pre-activations"


def _store_pre_activations(function: Callable[..., Any]) -> Callable[..., Any]:
    """Rematerialise all but the gate pre-activations in the backward pass."""
    return jax.checkpoint(
        function,
        policy=jax.checkpoint_policies.save_only_these_names(_PRE_ACTIVATIONS),
        # Inside a loop nothing can be merged with the forward pass, which is another loop; the
        # barriers that would forbid it only keep XLA from fusing.
        prevent_cse=False,
    )


_OF_THE_CELL = "features kernel_size peephole activation gate_activation forget_bias".split()
_OF_THE_CELL += "use_bias reads_input dtype param_dtype".split()
"""What a layer hands on to its cell."""


class ConvLSTM(nn.Module):
    """ConvLSTM layer (Shi et al. 2015, section 3.1): the cell unrolled over time with `nn.scan`.

    `step` takes one frame, for forecasts that feed on themselves and for streams; it uses the same
    parameters, which lie under `cell`. A layer that reads no input is run by `unroll`.

    The input convolution of small maps is done for all time steps at once, before the loop. With
    larger maps a step is work enough, and the input convolution is done in the loop together with
    that of the hidden state, so that its result need not be stored for all time steps.

    Dropout is Gal & Ghahramani's (2016, "A Theoretically Grounded Application of Dropout in
    Recurrent Neural Networks", section 4), as in Keras: each call draws one mask for the inputs and
    one for the hidden states, of a frame's shape, and keeps them over all its time steps; values
    kept are divided by the fraction that is kept. All gates share a mask, while Keras's ConvLSTM2D
    draws one for each, which would split the convolution in four.

    `step` draws its masks anew in each call, except inside an `nn.scan` with
    `split_rngs={"dropout": False}`, where all iterations have the same. So a model that reads the
    frames given with one call and feeds back in such a loop keeps one mask for all frames given,
    and another one for all frames fed back.

    Attributes:
      dropout: fraction of the inputs that is dropped in training, from 0 to below 1.
      recurrent_dropout: fraction of the hidden state that is dropped in training on its way into
        the hidden convolution, from 0 to below 1; the state itself is kept.
      remat: recompute each step in the backward pass instead of storing its gates: less memory,
        about a third more time.
      Others: see `ConvLSTMCell`.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> layer = ConvLSTM(features=64, kernel_size=(3, 3))
      >>> clip = jnp.zeros((2, 5, 16, 16, 1))
      >>> outputs, variables = layer.init_with_output(jax.random.key(0), clip)
      >>> outputs.shape
      (2, 5, 16, 16, 64)
    """

    features: int
    kernel_size: Sequence[int] = (3, 3)
    peephole: str | None = None
    activation: str | Callable[[Array], Array] = "tanh"
    gate_activation: Callable[[Array], Array] = jax.nn.sigmoid
    forget_bias: float = 1.0
    use_bias: bool = True
    dropout: float = 0.0
    recurrent_dropout: float = 0.0
    reads_input: bool = True
    remat: bool = False
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32

    def setup(self) -> None:
        for name in ("dropout", "recurrent_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigError(
                    f"{name}: expected a share from 0 to below 1, got {getattr(self, name)}"
                )
        self.cell = LoopCell(**{name: getattr(self, name) for name in _OF_THE_CELL}, name="cell")

    def __call__(
        self,
        inputs: Float[Array, "batch time height width channels"],
        carry: Carry | None = None,
        *,
        return_carry: bool = False,
        train: bool = False,
    ) -> Any:
        """Run the cell over all frames.

        Args:
          inputs: `[batch, time, height, width, channels]`.
          carry: initial `(c, h)`, each `[batch, height, width, features]`; zeros by default.
          return_carry: also return the last `(c, h)`: `(carry, outputs)`.
          train: apply dropout, which takes the PRNG "dropout".

        Returns:
          All hidden states `[batch, time, height, width, features]`, in `dtype`.
        """
        check_rank("inputs", inputs, 5, "batch, time, height, width, channels")
        frames = jnp.moveaxis(inputs, 1, 0)  # time first, for the scan
        if carry is None:
            carry = self.initialize_carry(frames.shape[1:])
        frames = self.drop(frames, train)
        projected = _stands_before_the_loop(frames)
        if projected:
            frames = self.cell.project(frames)
        carry, outputs = self._scan(carry, frames, len(frames), train, projected)
        return (carry, outputs) if return_carry else outputs

    def unroll(
        self, carry: Carry, steps: int, train: bool = False
    ) -> tuple[Carry, Float[Array, "batch steps height width features"]]:
        """Take `steps` time steps from `carry` on, of a layer that reads no input.

        Args:
          carry: `(c, h)`, each `[batch, height, width, features]`.
          steps: number of time steps, above 0.
          train: see `__call__`.

        Returns:
          The last `(c, h)` and all hidden states `[batch, steps, height, width, features]`.
        """
        check_positive("steps", steps)
        return self._scan(carry, None, steps, train)

    def step(
        self,
        carry: Carry,
        frame: Float[Array, "batch height width channels"] | None,
        train: bool = False,
    ) -> tuple[Carry, Float[Array, "batch height width features"]]:
        """Take one time step: `(carry, frame)` to `(new carry, hidden state)`.

        Args:
          carry: `(c, h)`, each `[batch, height, width, features]`.
          frame: `[batch, height, width, channels]`; None for a layer that reads no input.
          train: see `__call__`.

        Returns:
          The new `(c, h)`, and `h`.
        """
        # Before the cell does: the mask already takes its shape from the carry.
        self.cell.check_carry(carry, None if frame is None else frame.shape)
        seen = None if frame is None else self.drop(frame, train)
        return self.cell(carry, seen, self.hidden_mask(carry, train))

    def initialize_carry(self, frame_shape: Sequence[int]) -> Carry:
        """Make the zero state `(c, h)` for frames of shape `[batch, height, width, channels]`."""
        return self.cell.initialize_carry(None, frame_shape)

    def _scan(
        self, carry: Carry, frames: Array | None, length: int, train: bool, projected: bool = False
    ) -> tuple[Carry, Array]:
        self.cell.check_carry(carry, None if frames is None else frames.shape[1:])
        hidden_mask = self.hidden_mask(carry, train)
        c, start = carry
        variant = variants.chosen
        if not self.is_initializing():
            if variant.late_kernels:
                steps = self.cell, carry, frames, length, hidden_mask
                return scan_with_late_kernels(*steps, self.remat)
            if variant.whole_steps:
                return self._scan_whole_steps(carry, frames, length, hidden_mask, projected)

        def body(
            cell: LoopCell, halfway: Carry, xs: tuple[Array | None, Array]
        ) -> tuple[Carry, Array]:
            frame, first = xs
            return cell.step_from_halfway(halfway, start, first, frame, hidden_mask, projected)

        # There is no o before the first step; zeros stand in, and `first` keeps them unread.
        (c, o), hidden = self._loop(body, length)(
            self.cell, (c, jnp.zeros_like(start)), (frames, jnp.arange(length) == 0)
        )
        # Step t gives h at t, so that the first is the one given and the last is still to come.
        last = self.cell.hidden_state(c, o)
        outputs = jnp.concatenate(
            [hidden[1:], last[None]]
        )  # [time, batch, height, width, features]
        return (c, last), jnp.moveaxis(outputs, 0, 1)

    def _scan_whole_steps(
        self,
        carry: Carry,
        frames: Array | None,
        length: int,
        hidden_mask: Array | None,
        projected: bool,
    ) -> tuple[Carry, Array]:
        """See `variants.Variant.whole_steps`."""

        def body(cell: LoopCell, carry: Carry, frame: Array | None) -> tuple[Carry, Array]:
            return cell(carry, frame, hidden_mask, projected)

        carry, outputs = self._loop(body, length)(self.cell, carry, frames)
        return carry, jnp.moveaxis(outputs, 0, 1)

    @nn.nowrap
    def _loop(self, body: Callable[..., Any], length: int) -> Callable[..., Any]:
        """Lift `body(cell, carry, xs)` to a loop over `length` time steps, which shares weights."""
        return nn.scan(
            # With remat not even the pre-activations are stored, and convolutions are done twice.
            nn.remat(body, prevent_cse=False) if self.remat else body,
            variable_broadcast="params",
            split_rngs={"params": False},
            length=length,
            unroll=min(variants.chosen.unroll, length),
            # Flax traces the body once more, which only new parameters need.
            check_constancy_invariants=self.is_initializing(),
        )

    def drop(self, frames: Array, train: bool) -> Array:
        """Drop the same values of `[..., batch, height, width, channels]` at all times."""
        mask = self.input_mask(frames, train)
        return frames if mask is None else frames * jnp.expand_dims(mask, range(frames.ndim - 4))

    def input_mask(self, frames: Array, train: bool) -> Array | None:
        """Draw what `drop` multiplies by, `[batch, height, width, channels]`; None for nothing."""
        return self._mask(self.dropout, frames.shape[-4:], frames.dtype, train)

    def hidden_mask(self, carry: Carry, train: bool) -> Array | None:
        """Draw what `h` is multiplied by on its way into its convolution; None for nothing."""
        return self._mask(self.recurrent_dropout, carry[1].shape, carry[1].dtype, train)

    def _mask(self, rate: float, shape: Sequence[int], dtype: Any, train: bool) -> Array | None:
        if rate == 0 or not train:
            return None
        kept = jax.random.bernoulli(self.make_rng("dropout"), 1 - rate, shape)
        # Scaled, so that the expected value stays.
        return jnp.where(kept, 1 / (1 - rate), 0).astype(dtype)


def _stands_before_the_loop(frames: Array) -> bool:
    """Whether the input convolution of `[time, batch, height, width, channels]` does."""
    inputs = "before" if variants.chosen.late_kernels else variants.chosen.inputs
    few = math.prod(frames.shape[1:-1]) < PIXELS_IN_LOOP  # pixels of one step
    return {
        "by size": few,
        "before": True,
        "inside": False,
        "channels": few or frames.shape[-1] < CHANNELS_IN_LOOP,
    }[inputs]


def run_layers(
    layers: Sequence[ConvLSTM],
    inputs: Float[Array, "batch time height width channels"],
    train: bool = False,
) -> tuple[list[Carry], Float[Array, "batch time height width features"]]:
    """Run layers that read each other's outputs; returns all last carries, and the last outputs."""
    if variants.chosen.wavefront and len(layers) > 1 and not layers[0].is_initializing():
        return scan_in_a_wavefront(layers, inputs, train)
    hidden, carries = inputs, []
    for layer in layers:
        last, hidden = layer(hidden, return_carry=True, train=train)
        carries.append(last)
    return carries, hidden


def recurrent_layers(
    model: Any, name: str = "layer", without_input: int | None = None
) -> list[ConvLSTM]:
    """Make the ConvLSTM layers of a model, `name_0`, `name_1` and so on; called in its `setup`.

    Args:
      model: has `features`, one number per layer, `kernel_size`, one for all or one per layer, and
        `peephole`, `activation`, `dropout`, `recurrent_dropout`, `remat` and `dtype` for all.
      name: what the layers' names begin with.
      without_input: index of the layer that reads no input, if one does not.
    """
    kernel_size = per_layer("kernel_size", model.kernel_size, len(model.features))
    shared = "peephole activation dropout recurrent_dropout remat dtype".split()
    settings = {field: getattr(model, field) for field in shared}
    return [
        ConvLSTM(
            features,
            (size, size),
            reads_input=index != without_input,
            name=f"{name}_{index}",
            **settings,
        )
        for index, (features, size) in enumerate(zip(model.features, kernel_size))
    ]
