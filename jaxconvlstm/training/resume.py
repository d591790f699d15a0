"""What a checkpoint of a run holds, and how a run goes on from one: its own, or another run's.

A run that was stopped and resumed is the same, to the last bit, as one that was not: a checkpoint
holds all that the next step depends on.
"""

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxconvlstm.config.options import flag
from jaxconvlstm.config.run import FORMAT_VERSION, Config
from jaxconvlstm.data.download import is_name
from jaxconvlstm.errors import CheckpointError, ConfigError
from jaxconvlstm.messages import say
from jaxconvlstm.runs.checkpoint import Checkpoints
from jaxconvlstm.runs.edits import MAY_CHANGE_ON_RESUME, changed_settings
from jaxconvlstm.runs.folder import CHECKPOINTS_NAME
from jaxconvlstm.training.step import TrainState, begin


def with_absolute_paths(config: Config) -> Config:
    """The configuration with absolute paths, which hold from any working directory."""

    def absolute(path: str | None) -> str | None:
        # Not resolved, which would follow links. The name of public data is no path.
        return path if path is None or is_name(path) else os.path.abspath(path)  # noqa: PTH100

    data, training = config.data, config.training
    data = dataclasses.replace(data, data=absolute(data.data), split_file=absolute(data.split_file))
    training = dataclasses.replace(training, init_from=absolute(training.init_from))
    return dataclasses.replace(config, data=data, training=training)


def check_same_run(saved: Config, config: Config, out: Path) -> None:
    """Raises `ConfigError` naming every setting that a resumed run must not change."""
    changed = changed_settings(saved, config)
    refused = [
        f"{flag(name)} was {before}, now {now}"
        for name, (before, now) in changed.items()
        # Without clipping the optimizer has another state.
        if name not in MAY_CHANGE_ON_RESUME or (name == "clip_norm" and 0 in (before, now))
    ]
    if refused:
        raise ConfigError(
            f"{out}: cannot go on with other settings: {'; '.join(refused)}; --init-from {out} "
            "starts a new run from its weights"
        )
    for name, (before, now) in changed.items():
        say(f"going on with {flag(name)} {now}, was {before}")


@dataclasses.dataclass
class SavedRun:
    """The checkpoints of a run under way: saves its state, and restores the newest.

    Attributes:
      checkpoints: where they are kept.
      folder: the run folder, for messages.
      about: what stays the same all along: the rest of `meta`. It rebuilds the model (`config`,
        `values`, `channels`, `classes`, `frame_shape`) and recognises the data
        (`data_fingerprint`).
      windows: number of training windows.
      step: the step that was saved or restored last; None before.
    """

    checkpoints: Checkpoints
    folder: Path
    about: Mapping[str, Any]
    windows: int
    step: int | None = None

    def save(
        self,
        step: int,
        state: TrainState,
        position: int,
        counters: Mapping[str, Any],
        val_loss: float | None,
    ) -> None:
        """Starts to save; see `Checkpoints.save`.

        Args:
          step: number of steps taken.
          state: the state after them.
          position: index of the next training batch.
          counters: what `restore` gives back beside these; JSON.
          val_loss: validation loss of these weights; None if it was not measured.
        """
        meta = {
            "format_version": FORMAT_VERSION,
            "step": step,
            "key": np.asarray(state.key).tolist(),
            **counters,
            **self.about,
        }
        items = {
            # What is loaded to predict: averaged weights, where there are any.
            "variables": state.evaluated,
            "opt_state": state.opt_state,
            "meta": meta,
            "data": {"next_index": position, "windows": self.windows},
        }
        if state.average is not None:
            items["trained"] = state.variables["params"]
        self.checkpoints.save(step, items, val_loss)
        self.step = step

    def restore(
        self, fresh: TrainState, data_in_memory: bool
    ) -> tuple[TrainState, int, dict[str, Any]]:
        """Restores the newest checkpoint.

        Args:
          fresh: the state that training would begin with: shapes to compare with, and types.
          data_in_memory: whether the data are Python objects, which may draw their values anew.

        Returns:
          The state, the index of the next training batch, and `meta` with the counters.

        Raises:
          CheckpointError: the data are others than when it was saved, or it does not fit the model.
        """
        step = self.checkpoints.choose("last")
        meta, data = self.checkpoints.load_meta(step), self.checkpoints.load_data(step)
        self._check_data(step, meta, data, data_in_memory)
        expected = {"variables": fresh.variables, "opt_state": fresh.opt_state}
        if fresh.average is not None:
            expected["trained"] = fresh.average
        items = jax.device_put(self.checkpoints.load(step, expected))
        variables, average = items["variables"], None
        if fresh.average is not None:
            # The reverse of `save`: training goes on with the weights that are not averaged.
            average = variables["params"]
            variables = {**variables, "params": items["trained"]}
        state = fresh.replace(
            step=jnp.int32(step),
            variables=variables,
            opt_state=items["opt_state"],
            key=jnp.asarray(meta["key"], fresh.key.dtype),
            rate_scale=jnp.float32(meta["plateau"]["scale"]),
            average=average,
        )
        self.step = step
        return state, data["next_index"], meta

    def _check_data(
        self, step: int, meta: Mapping[str, Any], data: Mapping[str, Any], in_memory: bool
    ) -> None:
        """Raises `CheckpointError` unless the training windows are those of the checkpoint."""
        changed = f"{self.folder}: the data have changed since step {step} was saved: "
        if data["windows"] != self.windows:
            counts = f"{data['windows']} training windows then, {self.windows} now"
            raise CheckpointError(changed + counts)
        if meta["data_fingerprint"] == self.about["data_fingerprint"]:
            return
        changed += "they hold other values"
        if not in_memory:
            raise CheckpointError(f"{changed}; --init-from starts a new run from its weights")
        say(f"warning: {changed}")


def begin_from(
    run: Path, fresh: TrainState, optimizer: optax.GradientTransformation, ema: float
) -> TrainState:
    """Begins with the best weights of another run, and an optimizer that has taken no step.

    Args:
      run: folder of the other run.
      fresh: the state that training would begin with otherwise; its PRNG key is kept.
      optimizer, ema: as for `step.init_state`.

    Raises:
      CheckpointError: there is no checkpoint, or its weights do not fit the model.
    """
    with Checkpoints(run / CHECKPOINTS_NAME) as checkpoints:
        step = checkpoints.choose("best")
        variables = checkpoints.load(step, {"variables": fresh.variables})["variables"]
    say(f"starting from the weights of {run}, step {step}")
    key = jax.random.wrap_key_data(fresh.key)
    return begin(jax.device_put(variables), optimizer, key, ema)
