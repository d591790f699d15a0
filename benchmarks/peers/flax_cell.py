"""The networks with Flax's own ConvLSTM cell and loops."""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from flax import linen as nn

from jaxconvlstm.nn.conv import depth_to_space, space_to_depth
from peers import WORKS, Peer, ours

MODES = ("default",)


def _layer(features: int, size: int, name: str, dtype: Any) -> nn.RNN:
    cell = nn.ConvLSTMCell(features, (size, size), dtype=dtype)
    return nn.RNN(cell, return_carry=True, name=name)


class KerasExample(nn.Module):
    """The network of the keras.io example with its own head, which reads the next frame too."""

    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, inputs: Any, steps: int = 1, train: bool = False, dense_targets: bool = False
    ) -> Any:
        """`[batch, time, height, width, 1]` to the same."""
        del steps, dense_targets
        hidden = inputs.astype(self.dtype)
        for index, size in enumerate((5, 3, 1)):
            _, hidden = _layer(64, size, f"layer_{index}", self.dtype)(hidden)
            if index < 2:
                norm = nn.BatchNorm(use_running_average=not train, epsilon=1e-3, dtype=self.dtype)
                hidden = norm(hidden)
        logits = nn.Conv(1, (3, 3, 3), dtype=self.dtype, name="head")(hidden)
        return nn.sigmoid(logits.astype(jnp.float32))


class OpenSTL(nn.Module):
    """OpenSTL's ConvLSTM-S: one loop over time, which runs all layers at each time step."""

    features: Sequence[int] = (128, 128, 128, 128)
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self,
        inputs: Any,
        steps: int = 1,
        teacher: Any = None,
        teacher_mask: Any = None,
        train: bool = False,
        dense_targets: bool = False,
    ) -> Any:
        """Predict the frames after the last one given, or after each frame with `dense_targets`.

        Args:
          inputs: `[batch, time, height, width, 1]`.
          steps: number of frames to predict.
          teacher: the true frames `[batch, steps, height, width, 1]`, or None.
          teacher_mask: bool `[batch, steps]`, where the true frame is fed back; by default nowhere.
          train: has no effect.
          dense_targets: also return the predictions after the earlier frames given.

        Returns:
          `[batch, steps, ...]` or, with `dense_targets`, `[batch, time - 1 + steps, ...]`.
        """
        del train
        batch, given = inputs.shape[:2]
        maps = space_to_depth(inputs, 4)  # [batch, time, height / 4, width / 4, 16]
        mask = jnp.ones((batch, given), bool)
        ahead = jnp.zeros((batch, steps - 1, *maps.shape[2:]))
        if teacher is not None:
            ahead = space_to_depth(teacher[:, : steps - 1], 4)
        truth = jnp.concatenate([maps, ahead], axis=1)
        unseen = jnp.zeros((batch, steps - 1), bool)
        seen = unseen if teacher_mask is None else teacher_mask[:, 1:]
        # [batch, time - 1 + steps, 1, 1, 1]: true where the loop reads the true frame.
        mask = jnp.concatenate([mask, seen], axis=1)[..., None, None, None]
        cells = [
            nn.ConvLSTMCell(
                features, (5, 5), use_bias=False, dtype=self.dtype, name=f"cell_{index}"
            )
            for index, features in enumerate(self.features)
        ]
        head = nn.Conv(16, (1, 1), use_bias=False, dtype=self.dtype, name="head")

        def step(model: nn.Module, carry: Any, frames: Any) -> Any:
            del model
            states, last = carry
            hidden = jnp.where(frames[1], frames[0], last).astype(self.dtype)
            after = []
            for cell, state in zip(cells, states):
                state, hidden = cell(state, hidden)
                after.append(state)
            last = head(hidden).astype(jnp.float32)
            return (after, last), last

        shape = maps.shape[:1] + maps.shape[2:]
        zeros = jnp.zeros((*shape[:3], self.features[0]), self.dtype)
        states = [(zeros, zeros) for _ in cells]
        scan = nn.scan(
            step, variable_broadcast="params", split_rngs={"params": False}, in_axes=1, out_axes=1
        )
        _, outputs = scan(self, (states, jnp.zeros(shape)), (truth, mask))
        return depth_to_space(outputs if dense_targets else outputs[:, given - 1 :], 4)


class Seq2One(nn.Module):
    """Encoder, two ConvLSTM layers, decoder, with the same skip connections as ours."""

    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, inputs: Any, steps: int = 1, train: bool = False) -> Any:
        """`[batch, time, height, width, 3]` to the frame that follows."""
        del steps, train
        batch, time = inputs.shape[:2]
        maps = [inputs.reshape((-1, *inputs.shape[2:])).astype(self.dtype)]
        for features in (16, 32, 64):
            conv = nn.Conv(features, (4, 4), (2, 2), dtype=self.dtype)
            maps.append(nn.leaky_relu(conv(maps[-1]), 0.2))
        hidden = maps[-1].reshape((batch, time, *maps[-1].shape[1:]))
        for index in range(2):
            _, hidden = _layer(64, 3, f"layer_{index}", self.dtype)(hidden)
        decoded = hidden[:, -1]
        for features, skip in zip((64, 32, 16), maps[-2::-1]):
            up = nn.ConvTranspose(features, (4, 4), (2, 2), dtype=self.dtype)
            skip = skip.reshape((batch, time, *skip.shape[1:]))[:, -1]
            decoded = jnp.concatenate([nn.leaky_relu(up(decoded), 0.2), skip], axis=-1)
        change = nn.Conv(3, (3, 3), dtype=self.dtype)(decoded)
        return (inputs[:, -1] + change)[:, None]


NETWORKS = {"keras-example": KerasExample, "openstl": OpenSTL, "seq2one": Seq2One}


def build(work: str, mode: str, batch: int, dtype: str, forecast: bool) -> Peer:
    """See `peers`."""
    del mode
    module = NETWORKS[work](dtype=jnp.dtype(dtype))
    return ours.build_with(module, WORKS[work], batch, forecast)
