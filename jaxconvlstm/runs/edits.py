"""What has changed in a run's `config.json` and `split.json` since a checkpoint was saved.

A checkpoint holds a copy of the configuration, and the digest of the split. The files beside it are
for people to read; one that was edited would have a model scored on what it was trained on.
"""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxconvlstm.config.options import flag
from jaxconvlstm.config.run import Config
from jaxconvlstm.errors import CheckpointError
from jaxconvlstm.runs.folder import CONFIG_NAME, SPLIT_NAME, read_config, read_split

# Settings that a resumed run may change; any other would make it another run.
MAY_CHANGE_ON_RESUME = frozenset(
    {
        *("epochs", "log_every", "sample_every", "checkpoint_every", "threads"),
        *("early_stopping", "reduce_on_plateau"),
        *("learning_rate", "weight_decay", "clip_norm"),
        *("cache", "read_timeout", "check_files", "eval_input_frames", "eval_steps"),
    }
)
# Limits of one call, which each call sets anew.
OF_A_CALL = ("max_steps", "max_hours")


def split_digest(record: Mapping[str, Any] | None) -> str | None:
    """What recognises a split, as `split.json` records it; None where there is none."""
    if record is None:
        return None
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()


def changed_settings(before: Config, now: Config) -> dict[str, tuple[Any, Any]]:
    """The settings that differ, but limits of a call, by name: `(before, now)`."""
    changed = {}
    for section in dataclasses.fields(Config):
        old, new = (getattr(config, section.name) for config in (before, now))
        for field in dataclasses.fields(old):
            pair = getattr(old, field.name), getattr(new, field.name, None)
            if field.name not in OF_A_CALL and pair[0] != pair[1]:
                changed[field.name] = pair
    return changed


def check_not_edited(run: Path, step: int, meta: Mapping[str, Any]) -> None:
    """Compares the files of a run folder with what a checkpoint was saved with.

    Args:
      run: the run folder.
      step: of the checkpoint.
      meta: its item of that name.

    Raises:
      CheckpointError: they differ in more than a resumed run may change.
    """
    changed = changed_settings(Config.from_json(meta["config"], "configuration"), read_config(run))
    edits = [
        f"{CONFIG_NAME} has {flag(name)} {now}, was {before}"
        for name, (before, now) in changed.items()
        if name not in MAY_CHANGE_ON_RESUME
    ]
    expected = meta.get("split_digest")  # older releases saved none
    if expected is not None and split_digest(read_split(run)) != expected:
        edits.append(f"{SPLIT_NAME} divides the data otherwise")
    if edits:
        raise CheckpointError(
            f"{run}: edited since step {step} was saved: {'; '.join(edits)}; --edited goes by the "
            "files as they are"
        )
