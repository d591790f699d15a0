"""An independent ConvLSTM in NumPy float64: explicit loops, nothing from jaxconvlstm or JAX.

Written from Shi et al. 2015, equation 3, so that an error in the package cannot hide here too.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

Carry = tuple[np.ndarray, np.ndarray]
Activation = Callable[[np.ndarray], np.ndarray]


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def convolve(inputs: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """SAME cross-correlation of `[b, h, w, c]` with `[kh, kw, c, f]`, position by position."""
    _, height, width, _ = inputs.shape
    rows, columns = kernel.shape[:2]
    before, after = ((rows - 1) // 2, (columns - 1) // 2), (rows // 2, columns // 2)
    padded = np.pad(inputs, ((0, 0), *zip(before, after, strict=True), (0, 0)))
    outputs = np.zeros((*inputs.shape[:-1], kernel.shape[-1]))
    for row in range(rows):
        for column in range(columns):
            window = padded[:, row : row + height, column : column + width]
            outputs += window @ kernel[row, column]
    return outputs


def convolve_strided(inputs: np.ndarray, kernel: np.ndarray, stride: int) -> np.ndarray:
    """`out[i] = sum over r of in[stride * i + r - before] kernel[r]`, in both directions."""
    batch, height, width, _ = inputs.shape
    size = kernel.shape[0]
    before = (size - stride) // 2
    after = size - stride - before
    padded = np.pad(inputs, ((0, 0), (before, after), (before, after), (0, 0)))
    outputs = np.zeros((batch, height // stride, width // stride, kernel.shape[-1]))
    for row in range(size):
        for column in range(size):
            window = padded[:, row : row + height : stride, column : column + width : stride]
            outputs += window @ kernel[row, column]
    return outputs


def convolve_transposed(inputs: np.ndarray, kernel: np.ndarray, stride: int) -> np.ndarray:
    """`out[stride * i + r - before] += in[i] kernel[r]`, in both directions."""
    batch, height, width, _ = inputs.shape
    size = kernel.shape[0]
    before = (size - stride) // 2
    tall, wide = height * stride, width * stride
    full = np.zeros((batch, tall + size - stride, wide + size - stride, kernel.shape[-1]))
    for row in range(size):
        for column in range(size):
            target = full[:, row : row + tall : stride, column : column + wide : stride]
            target += inputs @ kernel[row, column]
    return full[:, before : before + tall, before : before + wide]


def conv_lstm(
    params: Mapping[str, Any],
    inputs: Any,
    carry: Sequence[Any] | None = None,
    activation: Activation = np.tanh,
    gate_activation: Activation = sigmoid,
) -> tuple[Carry, np.ndarray]:
    """Runs a ConvLSTM over `[batch, time, height, width, channels]`.

    Args:
      params: `{"input": {"kernel", "bias"}, "hidden": {"kernel"}}`, the gates in the order
        i, f, g, o, and optionally `"peephole_i"`, `"peephole_f"`, `"peephole_o"`, each with a
        `"weight"` that broadcasts to the cell state.
      inputs: the frames.
      carry: `(c, h)`, zeros by default.

    Returns:
      The last `(c, h)`, and all `h`: `[batch, time, height, width, features]`.
    """
    frames = np.asarray(inputs, np.float64)
    kernel = np.asarray(params["input"]["kernel"], np.float64)
    recurrent = np.asarray(params["hidden"]["kernel"], np.float64)
    bias = np.asarray(params["input"]["bias"], np.float64)
    look = {
        gate: np.asarray(params.get(f"peephole_{gate}", {"weight": 0.0})["weight"], np.float64)
        for gate in "ifo"
    }
    features = recurrent.shape[2]
    zeros = np.zeros((frames.shape[0], *frames.shape[2:4], features))
    c, h = (zeros, zeros) if carry is None else [np.asarray(part, np.float64) for part in carry]
    outputs = []
    for time in range(frames.shape[1]):
        gates = convolve(frames[:, time], kernel) + convolve(h, recurrent) + bias
        before_i = gates[..., :features]
        before_f = gates[..., features : 2 * features]
        before_g = gates[..., 2 * features : 3 * features]
        before_o = gates[..., 3 * features :]
        i = gate_activation(before_i + look["i"] * c)
        f = gate_activation(before_f + look["f"] * c)
        c = f * c + i * activation(before_g)
        o = gate_activation(before_o + look["o"] * c)  # the output gate sees the new state
        h = o * activation(c)
        outputs.append(h)
    return (c, h), np.stack(outputs, axis=1)
