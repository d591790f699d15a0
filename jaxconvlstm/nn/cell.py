"""The ConvLSTM cell: one time step of the recurrence.

References:
  Shi et al. 2015, "Convolutional LSTM Network: A Machine Learning Approach for Precipitation
  Nowcasting", equation 3 (peepholes are its W_ci, W_cf and W_co terms).
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array, Float

from jaxconvlstm.checks import check_choice
from jaxconvlstm.errors import ConfigError
from jaxconvlstm.nn.conv import Conv, Initializer, convolve, per_channel, same_padding

Carry = tuple[Array, Array]
Activation = Callable[[Array], Array]
PEEPHOLES = (None, "channel", "spatial")
ACTIVATIONS: dict[str, Callable[[Array], Array]] = {"tanh": jnp.tanh, "relu": jax.nn.relu}


class Peephole(nn.Module):
    """The weight of one gate's elementwise look at the cell state.

    It is `[features]` for "channel" and `[height, width, features]` for "spatial", which is the
    published form and fixes the frame size.
    """

    kind: str
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, shape: Sequence[int]) -> Array:
        """For cell states of shape `[batch, height, width, features]`; broadcasts to that."""
        shape = tuple(shape[-1:] if self.kind == "channel" else shape[-3:])
        if self.has_variable("params", "weight"):
            known: tuple[int, ...] = self.get_variable("params", "weight").shape
            if known != shape:
                raise ConfigError(
                    f"{self.name}: spatial peepholes were made for maps of {known}, got {shape}"
                )
        weight = self.param("weight", nn.initializers.zeros_init(), shape, self.param_dtype)
        return jnp.expand_dims(weight, range(4 - weight.ndim))


class ConvLSTMCell(nn.RNNCellBase):
    """Convolutional LSTM cell.

    With `*` for convolution and `.` for the elementwise product:

        i  = gate(W_xi * x + W_hi * h + b_i [+ w_ci . c])
        f  = gate(W_xf * x + W_hf * h + b_f [+ w_cf . c])
        g  = activation(W_xg * x + W_hg * h + b_g)
        c' = f . c + i . g
        o  = gate(W_xo * x + W_ho * h + b_o [+ w_co . c'])
        h' = o . activation(c')

    The carry is `(c, h)`. The gates lie in the order i, f, g, o along the last axis of the
    kernels and of the bias. The parameter tree is the same however the cell is unrolled:

        input/kernel   [kernel height, kernel width, channels, 4 * features]
        input/bias     [4 * features]
        hidden/kernel  [kernel height, kernel width, features, 4 * features]
        peephole_i/weight, peephole_f/weight, peephole_o/weight, if asked for

    A cell that reads no input, as a forecaster's lowest one, has no `W_x`; its bias lies in
    `hidden/bias`, since there is no `input`.

    The cell state `c` adds up over many steps, so it is kept in `param_dtype` (float32) where
    `dtype` is narrower; where `dtype` is wider, in `dtype`.

    Attributes:
      features: number of hidden features.
      kernel_size: height and width of both convolutions; SAME padding.
      peephole: None, "channel" (one weight per feature, any frame size) or "spatial" (one per
        pixel and feature; fixes the frame size).
      activation: squashes the candidate and the output: "tanh", "relu" or a function.
      gate_activation: squashes the gates (sigmoid).
      forget_bias: initial value of the forget gate's bias (Jozefowicz et al. 2015).
      reads_input: whether there is an input at all.
      dtype: dtype of the convolutions and of `h`.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> cell = ConvLSTMCell(features=8)
      >>> frame = jnp.zeros((2, 16, 16, 3))
      >>> carry = cell.initialize_carry(jax.random.key(0), frame.shape)
      >>> variables = cell.init(jax.random.key(1), carry, frame)
      >>> (c, h), outputs = cell.apply(variables, carry, frame)
      >>> outputs.shape
      (2, 16, 16, 8)
    """

    features: int
    kernel_size: Sequence[int] = (3, 3)
    peephole: str | None = None
    activation: str | Callable[[Array], Array] = "tanh"
    gate_activation: Callable[[Array], Array] = jax.nn.sigmoid
    forget_bias: float = 1.0
    use_bias: bool = True
    reads_input: bool = True
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32
    kernel_init: Initializer = nn.initializers.glorot_uniform()
    recurrent_kernel_init: Initializer = nn.initializers.orthogonal()

    def setup(self) -> None:
        check_choice("peephole", self.peephole, PEEPHOLES)
        if isinstance(self.activation, str):
            check_choice("activation", self.activation, tuple(ACTIVATIONS))
        shared = dict(
            features=4 * self.features,
            kernel_size=tuple(self.kernel_size),
            dtype=self.dtype,
            param_dtype=self.param_dtype,
        )
        if self.reads_input:
            self.input = Conv(
                **shared,
                name="input",
                use_bias=self.use_bias,
                kernel_init=self.kernel_init,
                bias_init=self._bias_init,
            )
        self.hidden = Conv(
            **shared,
            name="hidden",
            use_bias=self.use_bias and not self.reads_input,
            kernel_init=self.recurrent_kernel_init,
            bias_init=self._bias_init,
        )
        if self.peephole is not None:
            self.peephole_i = Peephole(self.peephole, self.param_dtype, name="peephole_i")
            self.peephole_f = Peephole(self.peephole, self.param_dtype, name="peephole_f")
            self.peephole_o = Peephole(self.peephole, self.param_dtype, name="peephole_o")

    def _bias_init(self, key: Array, shape: Sequence[int], dtype: Any) -> Array:
        del key
        forget = slice(self.features, 2 * self.features)
        return jnp.zeros(shape, dtype).at[forget].set(self.forget_bias)

    def project(
        self, inputs: Float[Array, "*leading height width channels"]
    ) -> Float[Array, "*leading height width gates"]:
        """The inputs' share of the gates; it needs no state, so many time steps can go at once."""
        self._check_whether_read(inputs)
        return self.input(inputs)

    def __call__(
        self,
        carry: Carry,
        inputs: Float[Array, "batch height width channels"] | None,
        hidden_mask: Array | None = None,
        projected: bool = False,
    ) -> tuple[Carry, Float[Array, "batch height width features"]]:
        """One step: `(carry, frame)` to `(new carry, hidden state)`.

        Args:
          carry: `(c, h)`.
          inputs: the frame, or what `project` made of it; None for a cell that reads no input.
          hidden_mask: `[batch, height, width, features]`, what `h` is multiplied by on its way
            into its convolution, for dropout.
          projected: whether `inputs` are what `project` gives.
        """
        return self._kept(_step)(carry, *self._operands(carry[0], inputs, hidden_mask, projected))

    def turn(
        self,
        halfway: Carry,
        start: Array,
        first: Array,
        inputs: Float[Array, "batch height width channels"] | None,
        hidden_mask: Array | None = None,
        projected: bool = False,
    ) -> tuple[Carry, Float[Array, "batch height width features"]]:
        """From halfway through a step to halfway through the next.

        A loop of these keeps less for its gradient than one of whole steps, where the hidden state
        is kept twice: as what the next step reads, and as an output. Here it follows from what is
        kept.

        Args:
          halfway: `(c, o)`, the new cell state and the output gate before it is squashed.
          start: the hidden state before the first step.
          first: whether this is the first step; `o` is not read then.
          Others: see `__call__`.

        Returns:
          `(c, o)` halfway through the next step, and the hidden state that this one ends with.
        """
        operands = self._operands(halfway[0], inputs, hidden_mask, projected)
        return self._kept(_turn)(halfway, start, first, *operands)

    def emit(self, c: Array, o: Array) -> Array:
        """The hidden state, of the cell state and the output gate before it is squashed."""
        return _emit(self._activate, self.gate_activation, c, o)

    def _kept(self, function: Callable[..., Any]) -> Callable[..., Any]:
        # What a step computes is computed once more in its backward pass, but for what takes long:
        # so 4 numbers a feature are kept, and not 13.
        return jax.checkpoint(
            partial(function, self._activate, self.gate_activation),
            policy=jax.checkpoint_policies.save_only_these_names("gates"),
            prevent_cse=False,
        )

    def _operands(
        self, c: Array, inputs: Array | None, hidden_mask: Array | None, projected: bool
    ) -> tuple[Any, ...]:
        """What `_advance` takes beside the carry."""
        self._check_whether_read(inputs)
        hidden_kernel, bias = self.hidden.weights(self.features)
        seen = None
        if inputs is not None and not projected:
            input_kernel, bias = self.input.weights(inputs.shape[-1])
            seen = inputs.astype(self.dtype), input_kernel
        peepholes = None
        if self.peephole is not None:
            modules = self.peephole_i, self.peephole_f, self.peephole_o
            peepholes = [peephole(c.shape) for peephole in modules]
        shares = inputs if projected else None
        return seen, shares, hidden_kernel, hidden_mask, bias, peepholes

    def initialize_carry(self, key: Array | None, input_shape: Sequence[int]) -> Carry:
        """Zero state `(c, h)` for inputs of shape `[batch, height, width, channels]`."""
        del key
        shape = (*input_shape[:-1], self.features)
        state_dtype = jnp.promote_types(self.param_dtype, self.dtype)
        return jnp.zeros(shape, state_dtype), jnp.zeros(shape, self.dtype)

    def _check_whether_read(self, inputs: Array | None) -> None:
        if self.reads_input != (inputs is not None):
            expected = "an array" if self.reads_input else "none"
            got = "none" if inputs is None else "one"
            raise ConfigError(
                f"inputs: expected {expected}, since reads_input is {self.reads_input}; got {got}"
            )

    def _activate(self, values: Array) -> Array:
        if isinstance(self.activation, str):
            return ACTIVATIONS[self.activation](values)
        return self.activation(values)

    @property
    def num_feature_axes(self) -> int:
        """Axes of one frame: height, width, channels."""
        return 3


def _step(
    activate: Activation, squash: Activation, carry: Carry, *operands: Any
) -> tuple[Carry, Array]:
    """The equations of `ConvLSTMCell`, of arrays alone."""
    c, o = _advance(activate, squash, carry, *operands)
    h = _emit(activate, squash, c, o)
    return (c, h), h


def _turn(
    activate: Activation,
    squash: Activation,
    halfway: Carry,
    start: Array,
    first: Array,
    *operands: Any,
) -> tuple[Carry, Array]:
    c, o = halfway
    h = jnp.where(first, start, _emit(activate, squash, c, o))
    return _advance(activate, squash, (c, h), *operands), h


def _advance(
    activate: Activation,
    squash: Activation,
    carry: Carry,
    seen: tuple[Array, Array] | None,
    shares: Array | None,
    hidden_kernel: Array,
    hidden_mask: Array | None,
    bias: Array | None,
    peepholes: list[Array] | None,
) -> Carry:
    """The new cell state, and the output gate before it is squashed.

    `seen` is a frame and its kernel, `shares` what the one makes of the other; one of them at most.
    """
    c, h = carry
    hidden = (h if hidden_mask is None else h * hidden_mask), hidden_kernel
    gates = _convolutions(hidden) if seen is None else _convolutions(seen, hidden)
    if shares is not None:
        gates += shares
    if bias is not None:
        gates += per_channel(bias, gates)
    # Apart, as a loop of `_turn` has no use for the last one.
    parts = jnp.split(gates, [3 * c.shape[-1]], axis=-1)
    others, o = (checkpoint_name(part, "gates") for part in parts)
    i, f, g = jnp.split(others, 3, axis=-1)
    if peepholes is not None:
        i += (peepholes[0] * c).astype(i.dtype)
        f += (peepholes[1] * c).astype(f.dtype)
    c = squash(f) * c + squash(i) * activate(g)
    if peepholes is not None:
        o += (peepholes[2] * c).astype(o.dtype)
    return c, o.astype(h.dtype)


def _emit(activate: Activation, squash: Activation, c: Array, o: Array) -> Array:
    """The hidden state."""
    return (squash(o) * activate(c)).astype(o.dtype)


_ALIGNED = 8
"""What the number of channels is divisible by where a GPU's tensor cores take them as they are."""


def _convolutions(*operands: tuple[Array, Array]) -> Array:
    """The sum of some convolutions: one of all arrays side by side, where that is no slower."""
    if all(array.shape[-1] % _ALIGNED == 0 for array, _ in operands):
        arrays, kernels = zip(*operands)
        operands = ((jnp.concatenate(arrays, axis=-1), jnp.concatenate(kernels, axis=2)),)
    results = [
        convolve(array, kernel, same_padding(kernel.shape[:2])) for array, kernel in operands
    ]
    return sum(results[1:], results[0])
