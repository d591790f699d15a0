"""The ConvLSTM cell: one time step of the recurrence.

References:
  Shi et al. 2015, "Convolutional LSTM Network: A Machine Learning Approach for Precipitation
  Nowcasting", equation 3 (peepholes are its W_ci, W_cf and W_co terms).
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from jaxconvlstm.checks import check_choice
from jaxconvlstm.errors import ConfigError
from jaxconvlstm.nn.conv import Conv, Initializer, convolve_sum, per_channel
from jaxconvlstm.nn.dtypes import promoting, widest

Carry = tuple[Array, Array]
PEEPHOLES = (None, "channel", "spatial")
ACTIVATIONS: dict[str, Callable[[Array], Array]] = {"tanh": jnp.tanh, "relu": jax.nn.relu}


class Peephole(nn.Module):
    """Peephole weight of one gate: W_ci, W_cf or W_co of Shi et al. 2015, equation 3.

    Attributes:
      kind: "channel" for a `weight` of `[features]`; "spatial" for one of
        `[height, width, features]`, which is the published form and fixes the frame size.
      param_dtype: dtype of the weight, which starts at zero.
    """

    kind: str
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, shape: Sequence[int]) -> Array:
        """Return the 4-axis weight for cell states of shape `[batch, height, width, features]`.

        Raises:
          ConfigError: a spatial weight was made for another height and width.
        """
        shape = tuple(shape[-1:] if self.kind == "channel" else shape[-3:])
        # Flax's own error would not say that spatial peepholes fix the frame size.
        if self.has_variable("params", "weight"):
            known: tuple[int, ...] = self.get_variable("params", "weight").shape
            if known != shape:
                raise ConfigError(
                    f"{self.name}: spatial peepholes were made for maps of {known}, got {shape}"
                )
        weight = self.param("weight", nn.initializers.zeros_init(), shape, self.param_dtype)
        return jnp.expand_dims(weight, range(4 - weight.ndim))  # avoids implicit rank promotion


class Terms(NamedTuple):
    """The arrays of one step's equations other than `c` and `h`; None if absent.

    Attributes:
      x: the frame, `[batch, height, width, channels]`.
      W_x: its kernel, `[kernel height, kernel width, channels, 4 * features]`.
      projection: `W_x * x + b`, in place of `x`, `W_x` and `b`:
        `[batch, height, width, 4 * features]`.
      W_h: kernel of `h`, `[kernel height, kernel width, features, 4 * features]`.
      hidden_mask: multiplies `h` before its convolution, `[batch, height, width, features]`.
      b: bias of all gates, `[4 * features]`.
      w_ci, w_cf, w_co: peepholes, each broadcastable to `c`.
    """

    x: Array | None
    W_x: Array | None
    projection: Array | None
    W_h: Array
    hidden_mask: Array | None
    b: Array | None
    w_ci: Array | None = None
    w_cf: Array | None = None
    w_co: Array | None = None


class ConvLSTMCell(nn.RNNCellBase):
    """Convolutional LSTM cell.

    With `*` for convolution and `.` for the elementwise product:

        i  = gate(W_xi * x + W_hi * h + b_i [+ w_ci . c])
        f  = gate(W_xf * x + W_hf * h + b_f [+ w_cf . c])
        g  = activation(W_xg * x + W_hg * h + b_g)
        c' = f . c + i . g
        o  = gate(W_xo * x + W_ho * h + b_o [+ w_co . c'])
        h' = o . activation(c')

    The carry is `(c, h)`. The order along the last axis of the kernels and of the bias
    is i, f, g, o. The parameter tree does not depend on how the cell is unrolled:

        input/kernel   [kernel height, kernel width, channels, 4 * features]
        input/bias     [4 * features]
        hidden/kernel  [kernel height, kernel width, features, 4 * features]
        peephole_i/weight, peephole_f/weight, peephole_o/weight, if asked for

    A cell that reads no input, such as a decoder's first layer, has no `W_x`; its bias lies in
    `hidden/bias`, since there is no `input`.

    The cell state `c` adds up over many steps, so it is kept in `param_dtype` (float32) where
    `dtype` is narrower; where `dtype` is wider, in `dtype`.

    Attributes:
      features: number of hidden features.
      kernel_size: height and width of both convolutions; SAME padding.
      peephole: None, "channel" (one weight per feature, any frame size) or "spatial" (one per
        pixel and feature; fixes the frame size).
      activation: of the candidate g and of c' in h': "tanh", "relu" or a function.
      gate_activation: of the gates i, f and o; the sigmoid in the publication.
      forget_bias: initial value of the forget gate's bias (Jozefowicz et al. 2015, "An Empirical
        Exploration of Recurrent Network Architectures").
      use_bias: whether to add a bias.
      reads_input: False for a cell without an input.
      dtype: dtype of the convolutions and of `h`.
      param_dtype: dtype of the parameters.
      kernel_init, recurrent_kernel_init: initializers of the kernels of `x` and of `h`; Glorot and
        orthogonal, as in Keras.

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
        # One convolution gives all four gates, side by side along its features.
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
            use_bias=self.use_bias and not self.reads_input,  # one bias each suffices
            kernel_init=self.recurrent_kernel_init,
            bias_init=self._bias_init,
        )
        if self.peephole is not None:
            self.peephole_i = Peephole(self.peephole, self.param_dtype, name="peephole_i")
            self.peephole_f = Peephole(self.peephole, self.param_dtype, name="peephole_f")
            self.peephole_o = Peephole(self.peephole, self.param_dtype, name="peephole_o")

    def _bias_init(self, key: Array, shape: Sequence[int], dtype: Any) -> Array:
        del key
        forget = slice(self.features, 2 * self.features)  # f is the second of i, f, g, o
        return jnp.zeros(shape, dtype).at[forget].set(self.forget_bias)

    def __call__(
        self,
        carry: Carry,
        inputs: Float[Array, "batch height width channels"] | None,
        hidden_mask: Array | None = None,
        projected: bool = False,
    ) -> tuple[Carry, Float[Array, "batch height width features"]]:
        """Take one step: `(carry, frame)` to `(new carry, hidden state)`.

        Args:
          carry: `(c, h)`, each `[batch, height, width, features]`.
          inputs: the frame `[batch, height, width, channels]`; None for a cell that reads no input.
          hidden_mask: `[batch, height, width, features]`, multiplies `h` on its way into its
            convolution; for dropout.
          projected: whether `inputs` is already `W_x * x + b`,
            `[batch, height, width, 4 * features]`.

        Raises:
          ConfigError: an input that the cell does not read, a missing one that it needs, or a carry
            of another shape or dtype than `initialize_carry` gives.
        """
        self.check_carry(carry, None if inputs is None else inputs.shape)
        return self.step(carry, self.terms(carry[0], inputs, hidden_mask, projected))

    # The equations: i, f, g and c' in `cell_state`, o and h' in `hidden_state`: apart, so that the
    # body of a scan may start with `hidden_state`. They touch arrays alone, no Flax variables, so
    # that any of JAX's transformations may be wrapped around them; `nowrap` keeps Flax from
    # tracking them.

    @nn.nowrap
    def step(self, carry: Carry, terms: Terms) -> tuple[Carry, Array]:
        """Compute `((c', h'), h')`."""
        c, o = self.cell_state(carry, terms)
        h = self.hidden_state(c, o)
        return (c, h), h

    @nn.nowrap
    @promoting
    def cell_state(self, carry: Carry, terms: Terms) -> Carry:
        """Compute `(c', o)` from `(c, h)`, where `o` is the output gate's pre-activation."""
        c, h = carry
        i, f, g, o = self.split_gates(self.pre_activations(h, terms))
        i = self.gate_activation(_add_peephole(i, terms.w_ci, c))
        f = self.gate_activation(_add_peephole(f, terms.w_cf, c))
        g = self._activate(g)
        c = f * c + i * g  # in c's dtype, which may be wider than the gates'
        o = _add_peephole(o, terms.w_co, c)  # unlike i and f, the output gate sees the new c
        return c, o.astype(h.dtype)

    @nn.nowrap
    @promoting
    def hidden_state(self, c: Array, o: Array) -> Array:
        """Compute `h'` from the new cell state and the output gate's pre-activation."""
        dtype = o.dtype
        o = self.gate_activation(o)
        h = o * self._activate(c)
        return h.astype(dtype)

    @nn.nowrap
    def pre_activations(self, h: Array, terms: Terms) -> Array:
        """Compute `W_x * x + W_h * h + b` for all gates: `[batch, height, width, 4 * features]`."""
        if terms.hidden_mask is not None:
            h = h * terms.hidden_mask  # masks the convolution, not the state that is carried on
        if terms.x is None or terms.W_x is None:
            gates = convolve_sum((h, terms.W_h))
        else:
            gates = convolve_sum((terms.x, terms.W_x), (h, terms.W_h))
        if terms.projection is not None:
            gates += terms.projection
        if terms.b is not None:
            gates += per_channel(terms.b, gates)
        return gates

    @nn.nowrap
    def split_gates(self, gates: Array) -> Sequence[Array]:
        """Split `[..., 4 * features]` into i, f, g and o."""
        return jnp.split(gates, 4, axis=-1)

    def terms(
        self,
        c: Array,
        inputs: Array | None,
        hidden_mask: Array | None = None,
        projected: bool = False,
    ) -> Terms:
        """Gather the arrays of a step's equations; `c` gives the shape of the peepholes."""
        self.check_inputs(inputs)
        W_h, b = self.hidden.weights(self.features)
        x = W_x = projection = None
        if projected:
            projection = inputs  # the bias is in it
        elif inputs is not None:
            W_x, b = self.input.weights(inputs.shape[-1])
            x = inputs.astype(self.dtype)
        peepholes = dict.fromkeys(("w_ci", "w_cf", "w_co"))
        if self.peephole is not None:
            modules = self.peephole_i, self.peephole_f, self.peephole_o
            peepholes = {name: module(c.shape) for name, module in zip(peepholes, modules)}
        return Terms(x, W_x, projection, W_h, hidden_mask, b, **peepholes)

    def initialize_carry(self, key: Array | None, input_shape: Sequence[int]) -> Carry:
        """Make the zero state `(c, h)` for inputs of shape `[batch, height, width, channels]`.

        Returns:
          `c` and `h`, each `[batch, height, width, features]`; `key` has no effect.
        """
        del key  # an argument of every `nn.RNNCellBase`
        shape = (*input_shape[:-1], self.features)
        c_dtype, h_dtype = self._carry_dtypes()
        return jnp.zeros(shape, c_dtype), jnp.zeros(shape, h_dtype)

    @nn.nowrap
    def _carry_dtypes(self) -> tuple[Any, Any]:
        return widest(self.param_dtype, self.dtype), self.dtype

    @nn.nowrap
    def check_carry(self, carry: Any, frame_shape: Sequence[int] | None) -> None:
        """Raise `ConfigError` unless a carry is one of frames `[batch, height, width, channels]`.

        Args:
          carry: `(c, h)`.
          frame_shape: of the frames; None where there are none, and the carry says how many.
        """
        try:
            got = [(tuple(state.shape), state.dtype) for state in carry]
            shape = (*(frame_shape or carry[0].shape)[:3], self.features)
        except (AttributeError, IndexError, TypeError):
            raise ConfigError("carry: expected a pair (c, h) of arrays") from None
        # As JAX makes them: without `jax_enable_x64`, float64 is float32.
        wanted = [(shape, jax.dtypes.canonicalize_dtype(dtype)) for dtype in self._carry_dtypes()]
        if len(shape) != 4 or got != wanted:
            layout = "[batch, height, width, features]"
            raise ConfigError(
                f"carry: expected (c, h) of {layout}, {_described(wanted)}; got {_described(got)}"
            )

    @nn.nowrap
    def check_inputs(self, inputs: Array | None) -> None:
        """Raise `ConfigError` unless an input is given exactly when the cell reads one."""
        if self.reads_input != (inputs is not None):
            expected = "an array" if self.reads_input else "none"
            got = "none" if inputs is None else "one"
            raise ConfigError(
                f"inputs: expected {expected}, since reads_input is {self.reads_input}; got {got}"
            )

    @nn.nowrap
    def _activate(self, values: Array) -> Array:
        if isinstance(self.activation, str):
            return ACTIVATIONS[self.activation](values)
        return self.activation(values)

    @property
    def num_feature_axes(self) -> int:
        """Axes of one frame: height, width, channels."""
        return 3


def _described(states: Sequence[tuple[tuple[int, ...], Any]]) -> str:
    return " and ".join(f"{dtype}{list(shape)}" for shape, dtype in states)


def _add_peephole(gate: Array, weight: Array | None, c: Array) -> Array:
    """Add `weight . c` to a gate, in the gate's dtype, where there is such a weight."""
    return gate if weight is None else gate + (weight * c).astype(gate.dtype)
