"""Classifying clips with a checkpoint, for research code and the scripts."""

from typing import Any, NamedTuple

import jax
import numpy as np
from flax import linen as nn

from jaxconvlstm.config.run import Config
from jaxconvlstm.evaluation.predictor import check_frames
from jaxconvlstm.scale import Values


class Prediction(NamedTuple):
    """What a classifier says of a clip, or of several.

    Attributes:
      name: the most probable class; of several clips a list of them.
      probabilities: float32 `[classes]` or `[batch, classes]`, in the order of
        `Classifier.classes`; they add up to 1.
    """

    name: Any
    probabilities: np.ndarray


class Classifier:
    """A trained classifier with its value scale: frames in the data's raw values in, classes out.

    Attributes:
      module: the Flax module.
      variables: its variables, `{"params": ...}`.
      config: the run's configuration.
      values: the scale between the data's raw values and the network's.
      channels: channels of the pictures.
      classes: names of the classes.
      step: the training step of the weights.
      frame_size: height and width of the only frames that it takes; None for any.
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
        self.module = module
        self.variables = variables
        self.config = config
        self.values = values
        self.channels = channels
        self.classes = classes
        self.step = step
        self.frame_size = frame_size

        def apply(variables: Any, inputs: Any) -> Any:
            logits: Any = module.apply(variables, inputs)
            return jax.nn.softmax(logits)

        self._apply = jax.jit(apply)

    def predict(self, frames: Any) -> Prediction:
        """The class of a clip.

        Args:
          frames: `[time, height, width, channels]` or `[batch, time, height, width, channels]`,
            in the data's raw values.

        Raises:
          ConfigError: another number of axes or channels, an integer dtype that the model was not
            trained on, or NaN that it was not trained to leave out.

        Example:
          `name, probabilities = jcl.load("RUN").predict(frames)`
        """
        frames, batched = check_frames(self, frames)
        probabilities = self.probabilities(self.values.scale(frames))
        names = [self.classes[index] for index in probabilities.argmax(axis=-1)]
        return (
            Prediction(names, probabilities) if batched else Prediction(names[0], probabilities[0])
        )

    def probabilities(self, inputs: Any) -> np.ndarray:
        """Frames on the network's scale, `[batch, time, ...]`, to `[batch, classes]`."""
        return np.asarray(self._apply(self.variables, inputs))
