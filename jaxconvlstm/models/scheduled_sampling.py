"""Scheduled sampling: true frames that a model reads in training in place of its own.

A model that is only trained on true frames never meets its own mistakes, which a forecast feeds
back. So true frames become rarer as training goes on, until none is left: from then on training
runs as a forecast does.

Everything here is a pure function of the step, which may be traced.

References:
  Bengio et al. 2015, "Scheduled Sampling for Sequence Prediction with Recurrent Neural Networks",
  section 2.4: the three curves.
  Wang et al. 2022, "PredRNN: A Recurrent Neural Network for Spatiotemporal Predictive Learning"
  (PredRNN-v2), section on reverse scheduled sampling, and the constants of its published code.
"""

import math

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array

from jaxconvlstm.checks import check_choice

CURVES = ("linear", "exponential", "inverse-sigmoid")
MODES = ("teacher", "scheduled", "reverse")
_LEFT = 0.01
"""Probability at which the exponential and the inverse sigmoid are cut off."""
_REVERSE_START = 0.5
"""Probability with which both phases of reverse scheduled sampling begin."""
_REVERSE_HOLD = 0.5
"""Fraction of the steps for which they stay there: 25,000 of 50,000 in the published code."""
_REVERSE_DECAY = 0.05
"""Fraction of the steps in which the inputs' distance from 1 then falls to 1/e: 2,500 of 50,000."""


def truth_probability(curve: str, step: ArrayLike, steps: int) -> Array:
    """Probability of reading a true frame, from about 1 at step 0 to 0 from `steps` on.

    With `t = step / steps`:

        linear            1 - t
        exponential       k^step, with k such that k^steps = 0.01
        inverse-sigmoid   k / (k + exp(2 log(k) t)), with k = 99: 0.99 at first, 0.01 at last

    Args:
      curve: one of `CURVES`.
      step: number of steps taken, an integer; may be traced.
      steps: number of steps after which it is 0, above 0.

    Returns:
      Float32 scalar in [0, 1] that never rises.

    Raises:
      ConfigError: there is no such curve.
    """
    check_choice("sampling_curve", curve, CURVES)
    time = jnp.asarray(step, jnp.float32) / steps
    if curve == "linear":
        probability = 1 - time
    elif curve == "exponential":
        probability = _LEFT**time
    else:
        # k / (k + k^(2 t)) by dividing by k: powers of k would overflow, the sigmoid does not.
        k = (1 - _LEFT) / _LEFT
        probability = jax.nn.sigmoid(math.log(k) * (1 - 2 * time))
    # Exactly 0 at last, where two of the curves would stop at 0.01.
    return jnp.where(jnp.asarray(step) < steps, probability, 0.0)


def input_probability(step: ArrayLike, steps: int) -> Array:
    """Reverse scheduled sampling: probability of a true frame among the input frames.

    1/2 until half of `steps`, then `1 - exp(-(step - steps / 2) / (steps / 20)) / 2`, and 1 from
    `steps` on. At first the model may not be shown the last frame, and so has to learn motion on a
    longer scale.

    Args:
      step, steps: see `truth_probability`.

    Returns:
      Float32 scalar in [1/2, 1] that never falls.
    """
    time = jnp.asarray(step, jnp.float32) / steps
    since = jnp.maximum(time - _REVERSE_HOLD, 0.0)
    probability = 1 - (1 - _REVERSE_START) * jnp.exp(-since / _REVERSE_DECAY)
    return jnp.where(jnp.asarray(step) < steps, probability, 1.0)


def forecast_probability(step: ArrayLike, steps: int) -> Array:
    """Reverse scheduled sampling: probability of a true frame among the predicted ones.

    1/2 until half of `steps`, then in a straight line to 0 at `steps`.

    Args:
      step, steps: see `truth_probability`.

    Returns:
      Float32 scalar in [0, 1/2] that never rises.
    """
    time = jnp.asarray(step, jnp.float32) / steps
    falling = jnp.minimum((1 - time) / (1 - _REVERSE_HOLD), 1.0)
    return jnp.where(jnp.asarray(step) < steps, _REVERSE_START * falling, 0.0)


def teacher_mask(
    mode: str,
    curve: str,
    key: Array,
    step: ArrayLike,
    steps: int,
    batch: int,
    input_frames: int,
    target_frames: int,
) -> Array:
    """Draw the `teacher_mask` of a training step: where the model reads a true frame.

    Column k says whether step k of the model reads `teacher[:, k - 1]` in place of its own last
    prediction; column 0 has no effect.

    Args:
      mode: "teacher", always; "scheduled", by `truth_probability`, each window and step drawn by
        itself; "reverse", by `input_probability` and `forecast_probability`, for a model that is
        given the first frame only and whose teacher is all frames after it.
      curve: of "scheduled"; see `truth_probability`.
      key: PRNG key of this step.
      step: number of steps taken, an integer; may be traced.
      steps: number of steps after which training runs as a forecast does, above 0: no predicted
        frame is replaced, and every input frame is read.
      batch, input_frames, target_frames: the sizes of a batch of windows.

    Returns:
      Bool `[batch, target_frames]`, or `[batch, input_frames - 1 + target_frames]` for "reverse".

    Raises:
      ConfigError: there is no such mode or curve.
    """
    check_choice("sampling", mode, MODES)
    if mode == "teacher":
        return jnp.ones((batch, target_frames), bool)
    if mode == "scheduled":
        probability = truth_probability(curve, step, steps)
        return jax.random.bernoulli(key, probability, (batch, target_frames))
    # The model is given the first frame alone, so that step k reads frame k: an input frame while
    # k < input_frames, a target after that.
    columns = jnp.arange(input_frames - 1 + target_frames)
    probabilities = jnp.where(
        columns < input_frames, input_probability(step, steps), forecast_probability(step, steps)
    )
    shape = (batch, len(columns))
    return jax.random.bernoulli(key, jnp.broadcast_to(probabilities[None], shape))
