"""Predicting from a checkpoint: any number of future frames, for research code and the scripts."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from jaxconvlstm.checks import check_count
from jaxconvlstm.errors import ConfigError
from jaxconvlstm.evaluation.trained_model import TrainedModel
from jaxconvlstm.models.tiled import predict_tiled


@dataclasses.dataclass(eq=False, repr=False)
class Predictor(TrainedModel):
    """A trained model that predicts frames: raw values in and out.

    Its attributes are those of `TrainedModel`: `module`, `variables`, `config`, `values`,
    `channels`, `step` and `frame_size`.

    Example:
      `future = jcl.load("RUN").predict(frames, steps=12)`
    """

    def __post_init__(self) -> None:
        module = self.module

        def predict(variables: Any, inputs: Any, steps: int, tile: tuple[int, int] | None) -> Any:
            def whole(frames: Any) -> Any:
                return module.apply(variables, frames, steps=steps)

            return predict_tiled(whole, inputs, tile) if tile else whole(inputs)

        self._predict = jax.jit(predict, static_argnames=("steps", "tile"))
        self._observe = jax.jit(lambda v, frames: module.apply(v, frames, method="observe"))
        self._advance = jax.jit(lambda v, *state: module.apply(v, *state, method="step"))

    def predict(
        self, frames: Any, steps: int = 1, tile: tuple[int, int] | None = None
    ) -> np.ndarray:
        """Predicts the `steps` frames that follow `frames`.

        Args:
          frames: `[time, height, width, channels]` or `[batch, time, height, width, channels]`,
            in the data's raw values; any number of frames, any height and width.
          steps: number of frames to predict, at least 1.
          tile: height and width of overlapping tiles to predict in, for frames that need more
            memory than there is as a whole.

        Returns:
          `[steps, height, width, channels]` or `[batch, steps, ...]` in the dtype of `frames`:
          integers are rounded and clipped to their range, floats are neither.

        Raises:
          ConfigError: no whole number of steps; another number of axes or channels, another size
            where the model takes but one, an integer dtype that the model was not trained on, or
            NaN that it was not trained to leave out.
        """
        check_count("steps", steps)
        if tile is not None:
            if not isinstance(tile, (tuple, list)) or len(tile) != 2:
                raise ConfigError(f"tile: expected (height, width), got {tile!r}")
            for side in tile:
                check_count("tile", side)
            tile = int(tile[0]), int(tile[1])
        inputs, dtype, batched = self._scale(frames)
        predicted = self.values.inverse(self.predict_scaled(inputs, steps, tile), dtype)
        return predicted if batched else predicted[0]

    def predict_scaled(
        self, inputs: Any, steps: int, tile: tuple[int, int] | None = None
    ) -> np.ndarray:
        """`predict` on the network's own scale: `[batch, time, ...]` to `[batch, steps, ...]`."""
        return np.asarray(self._predict(self.variables, inputs, steps=steps, tile=tile))

    def stream(self, frames: Any) -> Iterator[np.ndarray]:
        """Predicts like `predict`, one frame at a time and without end; memory does not grow.

        Args:
          frames: as for `predict`.

        Yields:
          `[height, width, channels]` or `[batch, height, width, channels]`.
        """
        inputs, dtype, batched = self._scale(frames)
        # The second item of a state is the next frame, on the network's scale: see
        # `AutoregressiveModel.observe`.
        state = self._observe(self.variables, inputs)
        while True:
            predicted = self.values.inverse(np.asarray(state[1]), dtype)
            yield predicted if batched else predicted[0]
            state = self._advance(self.variables, *state)
