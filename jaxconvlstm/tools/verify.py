"""Read every byte of a run's checkpoints and name the steps that are damaged.

python -m jaxconvlstm verify RUN
"""

import dataclasses
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import tyro

from jaxconvlstm.errors import CheckpointError, ConfigError
from jaxconvlstm.messages import say
from jaxconvlstm.runs import manifest
from jaxconvlstm.runs.checkpoint import METRIC
from jaxconvlstm.runs.folder import CHECKPOINTS_NAME, is_in_use
from jaxconvlstm.runs.step_folders import is_finished, step_folders
from jaxconvlstm.tools import cli


@dataclasses.dataclass(frozen=True)
class Arguments:
    """What `verify` takes."""

    run: Annotated[Path, tyro.conf.Positional] = Path()
    """Run folder that train.py wrote."""
    debug: bool = False
    """Show the traceback of an error."""


def main(arguments: Sequence[str]) -> None:
    """Prints a line for each step.

    Raises:
      CheckpointError: a step is damaged, or there is none.
    """
    if not arguments:
        raise ConfigError("expected the run folder: python -m jaxconvlstm verify RUN")
    run = cli.parse(Arguments, arguments, Arguments(), __doc__ or "").run
    folder = run / CHECKPOINTS_NAME
    if not folder.is_dir():
        raise CheckpointError(f"{run}: not a run folder (it holds no {CHECKPOINTS_NAME})")
    places = step_folders(folder)
    if not places:
        raise CheckpointError(f"{run}: holds no checkpoint")
    damaged, owner = 0, manifest.Run.read(run)
    for place in places:
        state, whole = describe(place, owner)
        if not whole and is_in_use(run):
            # Being saved or removed, most likely: both take less than this.
            time.sleep(1)
            if not is_finished(place):
                say(f"step {place.name}: is being saved or removed")
                continue
            state, whole = describe(place, owner)
        damaged += not whole
        say(f"step {place.name}: {state}")
    if damaged:
        raise CheckpointError(f"{run}: {damaged} of {len(places)} steps are damaged or unfinished")


def describe(place: Path, run: manifest.Run | None) -> tuple[str, bool]:
    """The state of a step of a run in words, and whether it can be loaded."""
    if not is_finished(place):
        return "was never finished being saved", False
    contents = manifest.read(place)  # first: a run may remove the step between two looks
    problems = manifest.damage(place, run)
    if problems or not contents:
        return "damaged: " + "; ".join(problems or [f"{manifest.NAME} cannot be read"]), False
    size = sum(file["bytes"] for file in contents["files"].values())
    loss = contents.get(METRIC)
    scored = "" if loss is None else f", validation loss {loss:.5f}"
    return f"whole, {len(contents['files'])} files, {size / 1e6:.1f} MB{scored}", True
