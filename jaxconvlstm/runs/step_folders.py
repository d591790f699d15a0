"""The folders of a run's checkpoints: one a step, and what a kill or a full disk has left of them.

A step is saved under its number by Orbax, which gives it another name until all of its files are
there, and then gets a manifest. So one of these lies in the folder:

- `12` with a manifest: a finished step;
- `12` without one: being saved or removed, or left so by a kill;
- `12.replaced`: a finished step that is being saved once more, kept until its successor is whole;
- `12.damaged`: a step whose files are not what its manifest says, set aside;
- `*.orbax-checkpoint-tmp*`: what Orbax has begun to write.
"""

import shutil
from pathlib import Path

from jaxconvlstm.errors import CheckpointError
from jaxconvlstm.messages import warn
from jaxconvlstm.runs import manifest

_REPLACED = ".replaced"


def is_step(name: str) -> bool:
    """Whether a name is that of a step's folder: its number, in the one usual way to write it."""
    return name.isascii() and name.isdecimal() and name == str(int(name))


def step_folders(folder: Path) -> list[Path]:
    """The folders in `folder` that have a step's number, finished or not, ascending; no links."""
    found = (path for path in _folders(folder) if is_step(path.name))
    return sorted(found, key=lambda path: int(path.name))


def is_finished(step: Path) -> bool:
    """Whether a step has a manifest; without one it was never saved to the end."""
    return (step / manifest.NAME).is_file()


def finished_steps(folder: Path) -> dict[int, Path]:
    """The steps that were saved to the end, ascending, and where each of them lies."""
    found = {
        int(path.name.removesuffix(_REPLACED)): path
        for path in _replaced_folders(folder)
        if is_finished(path)
    }
    # A step whose successor is whole is that successor.
    found |= {int(path.name): path for path in step_folders(folder) if is_finished(path)}
    return dict(sorted(found.items()))


def replaced_name(step: Path) -> Path:
    """Where a step's folder is moved while the step is saved once more."""
    return step.with_name(f"{step.name}{_REPLACED}")


def remove_step(step: Path) -> None:
    """Removes a step; one that is removed half way counts as unfinished, not as damaged."""
    (step / manifest.NAME).unlink()  # first, as nothing else marks a step as finished
    shutil.rmtree(step, ignore_errors=True)


def remove_unfinished(folder: Path) -> None:
    """Frees the room that a save has taken which failed; the step it was to replace comes back."""
    _remove_temporary(folder)
    for path in step_folders(folder):
        if not is_finished(path):
            shutil.rmtree(path, ignore_errors=True)
    _bring_back_replaced(folder)


def put_in_order(folder: Path, run: manifest.Run) -> set[int]:
    """Removes steps that were never finished, sets damaged ones aside, and says so.

    Args:
      folder: the steps' folder.
      run: the run that they should be of.

    Returns:
      The steps that are whole; their files have been verified.

    Raises:
      CheckpointError: every step is damaged, or was saved before there were manifests. Nothing has
        been changed then.
    """
    _remove_temporary(folder)
    _bring_back_replaced(folder)
    finished = finished_steps(folder)
    looked_at = {step: manifest.damage(path, run) for step, path in finished.items()}
    damaged = {step: found for step, found in looked_at.items() if found}
    if damaged and len(damaged) == len(finished):
        listed = "; ".join(describe_damage(*item) for item in damaged.items())
        raise CheckpointError(f"{folder}: {listed}")
    places = step_folders(folder)
    unfinished = [path for path in places if not is_finished(path)]
    if len(unfinished) > 1 and len(unfinished) == len(places):
        # A kill leaves one that was being saved, and one or two that were being removed, beside
        # others that are finished. Where there is no finished one, these are whole, and older than
        # manifests.
        listed = ", ".join(path.name for path in unfinished)
        raise CheckpointError(
            f"{folder}: steps {listed} have no {manifest.NAME}; they were saved by an "
            "older release, which this one cannot go on from"
        )
    for path in unfinished:
        shutil.rmtree(path)
        warn(f"{path}: was never finished being saved or removed; removed")
    for step, problems in damaged.items():
        aside = folder / f"{step}.damaged"
        shutil.rmtree(aside, ignore_errors=True)
        (folder / str(step)).rename(aside)
        warn(f"{folder}: {describe_damage(step, problems)}; set aside as {aside.name}")
    return finished.keys() - damaged.keys()


def describe_damage(step: int, problems: list[str]) -> str:
    """One phrase for what `manifest.damage` found."""
    more = f" and {len(problems) - 1} more" if len(problems) > 1 else ""
    return f"step {step} is damaged ({problems[0]}{more})"


def _folders(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.is_dir() and not path.is_symlink()]


def _replaced_folders(folder: Path) -> list[Path]:
    return [
        path
        for path in _folders(folder)
        if path.name.endswith(_REPLACED) and is_step(path.name.removesuffix(_REPLACED))
    ]


def _remove_temporary(folder: Path) -> None:
    for path in folder.glob("*.orbax-checkpoint-tmp*"):
        shutil.rmtree(path, ignore_errors=True)


def _bring_back_replaced(folder: Path) -> None:
    """Undoes the replacing of a step by another save of it that did not come to its end."""
    for replaced in _replaced_folders(folder):
        place = folder / replaced.name.removesuffix(_REPLACED)
        if is_finished(place):
            shutil.rmtree(replaced, ignore_errors=True)
        else:
            shutil.rmtree(place, ignore_errors=True)
            replaced.rename(place)
