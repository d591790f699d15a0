"""Classifying clips with a checkpoint, for research code and the scripts."""

from typing import Any, NamedTuple

import jax
import numpy as np
from flax import linen as nn

from jaxconvlstm.config.run import Config
from jaxconvlstm.evaluation.trained_model import TrainedModel
from jaxconvlstm.scale import Values


class Prediction(NamedTuple):
    """The class of a clip, or of each of several.

    Attributes:
      name: the most probable class; of several clips a list of them.
      probabilities: float32 `[classes]` or `[batch, classes]`, in the order of
        `Classifier.classes`; they add up to 1.
    """

    name: Any
    probabilities: np.ndarray


class Classifier(TrainedModel):
    """A trained model that names classes: frames in raw values in, classes out.

    Attributes:
      module, variables, config, values, channels, step, frame_size: see `TrainedModel`.
      classes: names of the classes.
    """

    def __init__(
        self,
        module: nn.Module,
        variables: Any,
        config: Config,
        values: Values,
        channels: int,
        classes: tuple[str, ...],
        step: int = 0,
        frame_size: tuple[int, int] | None = None,
    ):
        """Takes the parts; see the attributes."""
        super().__init__(module, variables, config, values, channels, step, frame_size)
        self.classes = classes

        def apply(variables: Any, inputs: Any) -> Any:
            logits: Any = module.apply(variables, inputs)
            return jax.nn.softmax(logits)

        self._apply = jax.jit(apply)

    def predict(self, frames: Any) -> Prediction:
        """Names the class of a clip, or of each of a batch.

        Args:
          frames: `[time, height, width, channels]` or `[batch, time, height, width, channels]`,
            in the data's raw values.

        Raises:
          ConfigError: as for `Predictor.predict`.

        Example:
          `name, probabilities = jcl.load("RUN").predict(frames)`
        """
        inputs, _, batched = self._scale(frames)
        probabilities = self.probabilities(inputs)
        names = [self.classes[index] for index in probabilities.argmax(axis=-1)]
        if batched:
            return Prediction(names, probabilities)
        return Prediction(names[0], probabilities[0])

    def probabilities(self, inputs: Any) -> np.ndarray:
        """Frames on the network's scale, `[batch, time, ...]`, to `[batch, classes]`."""
        return np.asarray(self._apply(self.variables, inputs))
