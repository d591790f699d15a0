"""Loading a run: architecture, weights and value scale, all from its checkpoint."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from jaxconvlstm import models, run_folder
from jaxconvlstm.checkpoint import Checkpoints
from jaxconvlstm.classifier import Classifier
from jaxconvlstm.config import Config
from jaxconvlstm.data.values import Values
from jaxconvlstm.errors import CheckpointError
from jaxconvlstm.rollout import Predictor


def load(run: str | Path, which: str = "best") -> Any:
    """Loads a run: architecture, weights and value scale, all from its checkpoint.

    Args:
      run: the run folder that `train.py` wrote.
      which: "best" (lowest validation loss), "last", or a step's number.

    Returns:
      A `rollout.Predictor`, or a `classifier.Classifier` where the run's model names classes.

    Raises:
      CheckpointError: there is no run, no such checkpoint, or it does not fit its own model.

    Example:
      `future = jcl.load("RUN").predict(frames, steps=12)`
    """
    folder = Path(run)
    if not folder.is_dir():
        raise CheckpointError(f"{folder}: no such run folder")
    if not (folder / run_folder.CHECKPOINTS_NAME).is_dir():
        raise CheckpointError(
            f"{folder}: not a run folder (it holds no {run_folder.CHECKPOINTS_NAME})"
        )
    with Checkpoints(folder / run_folder.CHECKPOINTS_NAME) as checkpoints:
        step = checkpoints.choose(which)
        meta = checkpoints.load_meta(step)
        try:
            config = Config.from_json(meta["config"], "configuration")
            values, channels = Values.from_json(meta["values"]), int(meta["channels"])
            shape, classes = (1, 1, *meta["frame_shape"]), tuple(meta["classes"])
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(
                f"{folder}: step {step} is not of this package: {error}"
            ) from error
        module = models.build(config.model, channels, len(classes))
        abstract = jax.eval_shape(module.init, jax.random.key(0), jnp.zeros(shape))
        variables = checkpoints.load(step, {"variables": abstract})["variables"]
    known = module, jax.device_put(variables), config, values, channels
    size = (shape[2], shape[3]) if config.fixes_frame_size else None
    if classes:
        return Classifier(*known, classes, step, size)
    return Predictor(*known, step, size)
