"""Loading a run: architecture, weights and value scale, all from its checkpoint."""

import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from jaxconvlstm import models
from jaxconvlstm.config.data import LARGEST_FRAME
from jaxconvlstm.config.run import Config
from jaxconvlstm.errors import CheckpointError, ConfigError, ResourceError
from jaxconvlstm.evaluation.classifier import Classifier
from jaxconvlstm.evaluation.predictor import Predictor
from jaxconvlstm.runs.checkpoint import Checkpoints
from jaxconvlstm.runs.folder import CHECKPOINTS_NAME, is_in_use
from jaxconvlstm.scale import Values

PAUSES = (0.1, 0.5, 1.0, 2.0)
"""Seconds between tries to read a run that saves and removes steps."""


def load(run: str | Path, which: str = "best") -> Any:
    """Loads a run: architecture, weights and value scale, all from its checkpoint.

    Args:
      run: the run folder that `train.py` wrote.
      which: "best" (lowest validation loss), "last", or a step's number.

    Returns:
      A `Predictor`, or a `Classifier` where the run's model names classes.

    Raises:
      CheckpointError: there is no run, no such checkpoint, or it does not fit its own model.

    Example:
      `future = jcl.load("RUN").predict(frames, steps=12)`
    """
    folder = Path(run)
    if not folder.is_dir():
        raise CheckpointError(f"{folder}: no such run folder")
    if not (folder / CHECKPOINTS_NAME).is_dir():
        raise CheckpointError(f"{folder}: not a run folder (it holds no {CHECKPOINTS_NAME})")
    for pause in PAUSES:
        try:
            return _load(folder, which)
        except (CheckpointError, ResourceError):
            if not is_in_use(folder):
                raise
            # The process that trains in it has replaced or removed the step meanwhile.
            time.sleep(pause)
    return _load(folder, which)


def _load(folder: Path, which: str) -> Any:
    with Checkpoints(folder / CHECKPOINTS_NAME) as checkpoints:
        step = checkpoints.choose(which)
        meta = checkpoints.load_meta(step)
        # A checkpoint may come from anywhere, and its `meta` may hold anything.
        try:
            config = Config.from_json(meta["config"], "configuration")
            values, channels = Values.from_json(meta["values"]), int(meta["channels"])
            height, width, _ = map(int, meta["frame_shape"])
            classes = tuple(map(str, meta["classes"]))
            if not 0 < height * width <= LARGEST_FRAME:
                raise ConfigError(f"frames of {height}x{width}")
            module = models.build(config.model, channels, len(classes))
            # Shapes alone: no memory is taken before the checkpoint is known to fit them.
            frames = jax.ShapeDtypeStruct((1, 1, height, width, channels), jnp.float32)
            abstract = jax.eval_shape(module.init, jax.random.key(0), frames)
        except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
            raise CheckpointError(
                f"{folder}: step {step} is not of this package: {str(error).splitlines()[0]}"
            ) from error
        variables = checkpoints.load(step, {"variables": abstract})["variables"]
    size = (height, width) if config.model.fixes_frame_size else None
    parts = module, jax.device_put(variables), config, values, channels
    return Classifier(*parts, classes, step, size) if classes else Predictor(*parts, step, size)
