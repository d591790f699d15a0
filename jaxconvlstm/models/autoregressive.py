"""Autoregressive forecasting: the base of models that feed each prediction back."""

from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from jaxconvlstm.checks import check_positive, check_rank, check_same_shape
from jaxconvlstm.errors import ConfigError
from jaxconvlstm.nn import variants
from jaxconvlstm.nn.dtypes import widest

State = tuple[tuple[Any, ...], Array]
"""What a model carries from frame to frame, and the frame that it predicts next."""


class AutoregressiveModel(nn.Module):
    """A model with `observe` and `step`, unrolled into the future by `__call__`.

    `observe` reads the frames given, all time steps at once where that is possible. What is
    predicted after the last of them is fed back through `step`, in a loop, for as long as frames
    are asked for.

    In training, statistics of batch normalisation are carried through the loop, so every step
    updates them. The dropout masks of the frames fed back are the same in every step.

    Attributes:
      remat: recompute each step of the loop in the backward pass; models that offer it declare it
        as a field.
    """

    remat = False  # no annotation: a field of the base class would come first in every model

    def __call__(
        self,
        inputs: Float[Array, "batch time height width channels"],
        steps: int = 1,
        teacher: Float[Array, "batch steps height width channels"] | None = None,
        teacher_mask: Array | None = None,
        train: bool = False,
        dense_targets: bool = False,
    ) -> Float[Array, "batch frames height width channels"]:
        """Predict the `steps` frames that follow `inputs`.

        Args:
          inputs: `[batch, time, height, width, channels]`, on the network's scale, usually [0, 1].
          steps: number of frames to predict.
          teacher: the true frames, `[batch, steps, height, width, channels]`; where
            `teacher_mask` is set, step k reads `teacher[:, k - 1]` instead of its own last
            prediction. Never needed to predict.
          teacher_mask: bool `[batch, steps]`, all true by default; column 0 has no effect, since
            step 0 reads the inputs alone.
          train: apply dropout (which takes the PRNG "dropout") and the batch's own statistics
            (which takes a mutable collection "batch_stats").
          dense_targets: also return what is predicted after each frame given.

        Returns:
          `[batch, steps, height, width, channels]`, not clipped; float32, or `dtype` or that of the
          inputs where it is wider. With `dense_targets`, `[batch, time - 1 + steps, ...]`: frame j
          is the prediction of the frame after input j.

        Raises:
          ConfigError: if the arrays do not fit together or have other channels than the model.
        """
        check_positive("steps", steps)
        if teacher is not None:
            check_rank("teacher", teacher, 5, "batch, steps, height, width, channels")
            expected = (inputs.shape[0], steps, *inputs.shape[2:])
            if teacher.shape != expected:
                raise ConfigError(
                    f"teacher: expected a frame for each step, {expected}, got {teacher.shape}"
                )
        elif teacher_mask is not None:
            raise ConfigError("teacher_mask: expected a teacher to go with it, got none")
        carry, observed = self.observe(inputs, train, dense_targets)
        dtype = widest(observed.dtype, inputs.dtype)
        observed = observed.astype(dtype)
        frame, predictions = (
            (observed[:, -1], observed) if dense_targets else (observed, observed[:, None])
        )
        if steps == 1:
            return predictions  # nothing is fed back, and a scan of length 0 would still be traced
        # Teacher frames for the steps after the first, time first for the scan.
        if teacher is None:
            # Arrays without elements, so that the loop takes the same arguments either way.
            truth, mask = jnp.zeros((steps - 1, 0)), jnp.zeros((steps - 1, 0), bool)
        else:
            if teacher_mask is None:
                teacher_mask = jnp.ones(teacher.shape[:2], bool)
            check_same_shape("teacher_mask", teacher_mask, "teacher[:2]", teacher[:, :, 0, 0, 0])
            # Step k reads frame k - 1: [steps - 1, batch, height, width, channels].
            truth = jnp.moveaxis(teacher[:, : steps - 1], 1, 0).astype(dtype)
            # [steps - 1, batch, 1, 1, 1], to choose whole frames
            mask = jnp.moveaxis(teacher_mask[:, 1:], 1, 0)[..., None, None, None]

        def feed_back(model: AutoregressiveModel, state: Any, given: Any) -> Any:
            carry, frame = state
            true_frame, use_truth = given
            if teacher is not None:
                frame = jnp.where(use_truth, true_frame, frame)
            carry, frame = model.step(carry, frame, train)
            frame = frame.astype(dtype)
            return (carry, frame), frame

        # Statistics change in training alone; a loop carries what changes. One dropout mask serves
        # all steps, as `ConvLSTM` has one for all frames given.
        body = nn.remat(feed_back, prevent_cse=False) if self.remat else feed_back
        scan = nn.scan(
            body,
            variable_broadcast="params" if train else ("params", "batch_stats"),
            variable_carry="batch_stats" if train else False,
            split_rngs={"params": False, "dropout": False},
            unroll=min(variants.chosen.unroll, steps - 1),
            check_constancy_invariants=self.is_initializing(),  # see `ConvLSTM`
        )
        _, rest = scan(self, (carry, frame), (truth, mask))
        return jnp.concatenate([predictions, jnp.moveaxis(rest, 0, 1)], axis=1)

    def observe(self, inputs: Array, train: bool = False, dense_targets: bool = False) -> State:
        """Read all frames given, and predict the next one.

        Args:
          inputs: `[batch, time, height, width, channels]`.
          train: see `__call__`.
          dense_targets: predict after each frame, not only after the last.

        Returns:
          The state after them, for `step`, and the next frame `[batch, height, width, channels]`;
          with `dense_targets`, `[batch, time, height, width, channels]`.
        """
        raise NotImplementedError

    def step(self, carry: tuple[Any, ...], frame: Array, train: bool = False) -> State:
        """Read one more frame `[batch, height, width, channels]`: new state and the next frame."""
        raise NotImplementedError
