"""Whether a configuration goes on with the run that a folder holds."""

import dataclasses
import os
from pathlib import Path

from jaxconvlstm.config.options import flag
from jaxconvlstm.config.run import Config
from jaxconvlstm.data.download import NAMES
from jaxconvlstm.errors import ConfigError

# What a resumed run may change; anything else would make it another run.
MAY_CHANGE_ON_RESUME = frozenset(
    {
        *("epochs", "log_every", "sample_every", "checkpoint_every", "threads"),
        "early_stopping",
        *("cache", "read_timeout", "check_files", "eval_input_frames", "eval_steps"),
    }
)
# What is said anew in each call.
OF_A_CALL = ("max_steps", "max_hours")
_PATHS = {"data": ("data", "split_file"), "training": ("init_from",)}


def with_absolute_paths(config: Config) -> Config:
    """So that the run can be resumed and evaluated from any working directory."""
    for section, names in _PATHS.items():
        settings = getattr(config, section)
        paths = {
            name: os.path.abspath(path)  # noqa: PTH100, as resolving would follow links
            for name in names
            if (path := getattr(settings, name)) is not None
            and (path not in NAMES or Path(path).exists())
        }
        config = dataclasses.replace(config, **{section: dataclasses.replace(settings, **paths)})
    return config


def check_same_run(saved: Config, config: Config, out: Path) -> None:
    """Raises `ConfigError` naming every setting that a resumed run must not change."""
    changed = []
    for section in dataclasses.fields(Config):
        before, now = getattr(saved, section.name), getattr(config, section.name)
        for field in dataclasses.fields(before):
            old, new = getattr(before, field.name), getattr(now, field.name)
            if field.name in OF_A_CALL:
                continue
            if old != new and field.name in MAY_CHANGE_ON_RESUME:
                print(f"going on with {flag(field.name)} {new}, was {old}", flush=True)
            elif old != new:
                changed.append(f"{flag(field.name)} was {old}, now {new}")
    if changed:
        raise ConfigError(f"{out}: cannot go on with other settings: " + "; ".join(changed))
