"""The project's own architecture: encoder, ConvLSTM layers on the feature map, decoder."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from jaxconvlstm.checks import (
    check_choice,
    check_positive,
    check_rank,
    check_same_shape,
    per_layer,
)
from jaxconvlstm.errors import ConfigError
from jaxconvlstm.layers import ConvLSTM, Decoder, Encoder
from jaxconvlstm.motion import match, warp

OUTPUTS = ("frame", "change", "motion", "sigmoid")
_LARGEST_LOGIT = 15.0


class FramePredictor(nn.Module):
    """Predicts any number of frames from any number of frames.

        frame -> strided convolutions -> ConvLSTM layers -> transposed convolutions -> next frame
                     |______________________________________________|  (skip connections)

    The frames given are read one after the other; what is predicted after the last of them is fed
    back as the next input, for as long as frames are asked for. The encoder of the given frames
    and the input convolution of every layer run on all time steps at once; only what depends on a
    prediction runs in a loop.

    Attributes:
      channels: channels of the pictures.
      features: hidden features of each ConvLSTM layer.
      kernel_size: kernel of each ConvLSTM layer, one number for all of them or one per layer; on
        the feature map, so a 3x3 kernel spans `3 * downsample` pixels.
      downsample: factor between the picture and the feature map, a power of 2. Frames whose sides
        it does not divide are padded with their edge, and the prediction is cropped.
      output: "frame" predicts the next frame itself; "change" the difference from the last one;
        "motion" the difference from the last one moved on along its motion, which the encoder
        sees too (see `motion.match`); "sigmoid" squashes the prediction into (0, 1), as binary
        cross-entropy needs.
      reach: largest motion that "motion" looks for, in pixels a frame.
      peephole, remat, dtype: see `ConvLSTM`.
    """

    channels: int
    features: Sequence[int] = (32, 32)
    kernel_size: Sequence[int] = (3,)
    downsample: int = 2
    output: str = "frame"
    reach: int = 10
    peephole: str | None = None
    remat: bool = False
    dtype: Any = jnp.float32

    def setup(self) -> None:
        check_choice("output", self.output, OUTPUTS)
        if self.downsample < 1 or self.downsample & (self.downsample - 1):
            raise ConfigError(f"downsample: expected a power of 2, got {self.downsample}")
        kernel_size = per_layer("kernel_size", self.kernel_size, len(self.features))
        stages = self.downsample.bit_length() - 1
        widths = [max(8, self.features[0] >> (stages - 1 - stage)) for stage in range(stages)]
        self.encoder = Encoder(widths, dtype=self.dtype, name="encoder")
        self.layers = [
            ConvLSTM(
                features,
                (size, size),
                peephole=self.peephole,
                remat=self.remat,
                dtype=self.dtype,
                name=f"layer_{index}",
            )
            for index, (features, size) in enumerate(zip(self.features, kernel_size))
        ]
        # A change of zero (persistence, or what moved moving on) is where to start from.
        zeros, random = nn.initializers.zeros_init(), nn.initializers.lecun_normal()
        self.decoder = Decoder(
            widths[::-1],
            self.channels,
            head_init=zeros if self.output in ("change", "motion") else random,
            dtype=self.dtype,
            name="decoder",
        )

    def __call__(
        self,
        inputs: Float[Array, "batch time height width channels"],
        steps: int = 1,
        teacher: Float[Array, "batch steps height width channels"] | None = None,
        teacher_mask: Array | None = None,
        train: bool = False,
    ) -> Float[Array, "batch steps height width channels"]:
        """Predicts the `steps` frames that follow `inputs`.

        Args:
          inputs: `[batch, time, height, width, channels]`, scaled to [0, 1].
          steps: number of frames to predict.
          teacher: the true frames, like the result; where `teacher_mask` is set, step k reads
            `teacher[:, k - 1]` instead of its own last prediction. Never needed to predict.
          teacher_mask: bool `[batch, steps]`, all true by default; column 0 has no effect, since
            step 0 reads the inputs alone.
          train: whether this is training; it changes nothing here.

        Returns:
          `[batch, steps, height, width, channels]`, float32 (or `dtype`, where that is wider), not
          clipped.

        Raises:
          ConfigError: if the arrays do not fit together or have other channels than the model.
        """
        del train
        check_positive("steps", steps)
        if teacher is not None:
            check_rank("teacher", teacher, 5, "batch, steps, height, width, channels")
            expected = (inputs.shape[0], steps, *inputs.shape[2:])
            if teacher.shape != expected:
                raise ConfigError(
                    f"teacher: expected the shape of the result, {expected}, got {teacher.shape}"
                )
        elif teacher_mask is not None:
            raise ConfigError("teacher_mask: expected a teacher to go with it, got none")
        carry, frame = self.observe(inputs)
        predictions = frame[:, None]
        if steps == 1:
            return predictions
        # Teacher frames for the steps after the first, time first for the scan.
        if teacher is None:
            truth, mask = jnp.zeros((steps - 1, 0)), jnp.zeros((steps - 1, 0), bool)
        else:
            if teacher_mask is None:
                teacher_mask = jnp.ones(teacher.shape[:2], bool)
            check_same_shape("teacher_mask", teacher_mask, "teacher[:2]", teacher[:, :, 0, 0, 0])
            truth = jnp.moveaxis(teacher[:, : steps - 1], 1, 0)
            mask = jnp.moveaxis(teacher_mask[:, 1:], 1, 0)[..., None, None, None]

        def feed_back(model: FramePredictor, state: Any, given: Any) -> Any:
            carry, frame = state
            true_frame, use_truth = given
            if teacher is not None:
                frame = jnp.where(use_truth, true_frame, frame)
            carry, frame = model.step(carry, frame)
            return (carry, frame), frame

        body = nn.remat(feed_back, prevent_cse=False) if self.remat else feed_back
        scan = nn.scan(body, variable_broadcast="params", split_rngs={"params": False})
        _, rest = scan(self, (carry, frame), (truth, mask))
        return jnp.concatenate([predictions, jnp.moveaxis(rest, 0, 1)], axis=1)

    def observe(self, inputs: Array) -> tuple[tuple[Any, ...], Array]:
        """Reads `[batch, time, height, width, channels]`: state after them and the next frame."""
        check_rank("inputs", inputs, 5, "batch, time, height, width, channels")
        check_positive("inputs: number of frames", inputs.shape[1])
        self._check_channels("inputs", inputs)
        before = jnp.concatenate([inputs[:, :1], inputs[:, :-1]], axis=1)
        merged = (frames.reshape((-1, *frames.shape[2:])) for frames in (before, inputs))
        seen, base = (
            frames.reshape((*inputs.shape[:2], *frames.shape[1:])) for frames in self._look(*merged)
        )
        maps = self.encoder(self._pad(seen))
        hidden, carry = maps[-1], []
        for layer in self.layers:
            last, hidden = layer(hidden, return_carry=True)
            carry.append(last)
        if self.output == "motion":
            carry.append((inputs[:, -1], jnp.ones((len(inputs), 1, 1, 1), bool)))
        skips = [stage[:, -1] for stage in maps]
        return tuple(carry), self._decode(hidden[:, -1], skips, base[:, -1])

    def step(self, carry: tuple[Any, ...], frame: Array) -> tuple[tuple[Any, ...], Array]:
        """Reads one more frame `[batch, height, width, channels]`: new state and the next frame."""
        check_rank("frame", frame, 4, "batch, height, width, channels")
        self._check_channels("frame", frame)
        after: list[Any] = []
        before = frame
        if self.output == "motion":
            before, there = carry[-1]
            before = jnp.where(there, before, frame)
        seen, base = self._look(before, frame)
        maps = self.encoder(self._pad(seen))
        hidden = maps[-1]
        for layer, state in zip(self.layers, carry):
            state, hidden = layer.step(state, hidden)
            after.append(state)
        if self.output == "motion":
            after.append((frame, jnp.ones_like(there)))
        return tuple(after), self._decode(hidden, maps, base)

    def initialize_carry(self, frame_shape: Sequence[int]) -> tuple[Any, ...]:
        """Zero state for frames `[batch, height, width, channels]`, to start a stream."""
        batch, height, width, _ = frame_shape
        shape = (batch, -(-height // self.downsample), -(-width // self.downsample), 0)
        carry: list[Any] = [layer.initialize_carry(shape) for layer in self.layers]
        if self.output == "motion":
            carry.append((jnp.zeros(tuple(frame_shape)), jnp.zeros((batch, 1, 1, 1), bool)))
        return tuple(carry)

    def _look(self, before: Array, frames: Array) -> tuple[Array, Array]:
        """What the encoder reads of `frames`, and the picture that a change is added to.

        Args:
          before: the frame before each of them, `[batch, height, width, channels]`.
          frames: `[batch, height, width, channels]`.
        """
        if self.output != "motion":
            return frames, frames
        moved = warp(frames, match(before, frames, self.reach))
        return jnp.concatenate([frames, moved], axis=-1), moved

    def _check_channels(self, name: str, frames: Array) -> None:
        if frames.shape[-1] != self.channels:
            raise ConfigError(
                f"{name}: the model was made for {self.channels} channel(s), got {frames.shape[-1]}"
            )

    def _pad(self, frames: Array) -> Array:
        height, width = frames.shape[-3:-1]
        below, right = -height % self.downsample, -width % self.downsample
        leading = [(0, 0)] * (frames.ndim - 3)
        return jnp.pad(frames, [*leading, (0, below), (0, right), (0, 0)], mode="edge")

    def _decode(self, hidden: Array, skips: Sequence[Array], base: Array) -> Array:
        height, width = base.shape[1:3]
        decoded = self.decoder(hidden, skips)[:, :height, :width]
        if self.output in ("change", "motion"):
            return base.astype(decoded.dtype) + decoded
        if self.output == "sigmoid":
            # Past this a float32 sigmoid is flat, and a pixel that is wrong there would stay so;
            # the gradient passes the limit as if it were not there.
            limited = jnp.clip(decoded, -_LARGEST_LOGIT, _LARGEST_LOGIT)
            return jax.nn.sigmoid(decoded + jax.lax.stop_gradient(limited - decoded))
        return decoded
