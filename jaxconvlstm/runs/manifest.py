"""Manifests: the digest of every file of a checkpoint, so that damage is never loaded.

Orbax marks a step as complete, but does not notice a byte that has changed since: arrays are
restored with other values. So a complete step gets a manifest, the last file of it that is written
and the first that is read. A step without one was never finished.
"""

import dataclasses
import hashlib
import json
import os
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxconvlstm.atomic import replace_text, sync_folder
from jaxconvlstm.json_files import LARGEST, parse, read_plain_file

NAME = "manifest.json"
RUN_NAME = "run.json"
# Names of the other files that are parsed as a whole; the last three are Orbax's.
_READ_WHOLE = ("data.json", "metrics", "_METADATA", "_CHECKPOINT_METADATA")


@dataclasses.dataclass(frozen=True)
class Run:
    """Which run a step can be of.

    Attributes:
      id: what its manifests say; hexadecimal digits.
      older: steps of releases that wrote no `id`.
    """

    id: str
    older: tuple[int, ...] = ()

    @classmethod
    def read(cls, folder: Path) -> "Run | None":
        """The run in a folder; None where none is noted, or the note cannot be read."""
        try:
            values = parse(read_plain_file(folder / RUN_NAME))
            return cls(str(values["run"]), tuple(map(int, values["older"])))
        except (OSError, ValueError, LookupError, TypeError):
            return None

    @classmethod
    def of(cls, steps: Mapping[int, Path]) -> "Run":
        """The run of the newest of these steps, where none is noted; a new one for no steps."""
        names = {step: read(place).get("run") for step, place in steps.items()}
        known = [name for _, name in sorted(names.items()) if isinstance(name, str)]
        older = tuple(step for step, name in names.items() if name is None)
        return cls(known[-1] if known else uuid.uuid4().hex, older)

    def note(self, folder: Path) -> None:
        """Notes the run in its folder."""
        values = {"run": self.id, "older": list(self.older)}
        replace_text(folder / RUN_NAME, json.dumps(values) + "\n")

    def owns(self, step: int, name: Any) -> bool:
        """Whether a step is of this run, by what its manifest says."""
        return name == self.id if name is not None else step in self.older


def write(step: Path, about: dict[str, Any]) -> None:
    """Writes the manifest of a complete step: whole and durably, or not at all.

    Args:
      step: the step's folder.
      about: further contents of the manifest; JSON.

    Raises:
      OSError: there is no room, or the folder cannot be written to.
    """
    files = {
        name: {"bytes": (step / name).stat().st_size, "sha256": _digest(step / name)}
        for name in _names(step)
    }
    contents = {**about, "files": files}
    # With a digest of its own, a manifest that was damaged is told from files that were.
    text = json.dumps({"sha256": _digest_of(contents), "contents": contents}, indent=1)
    replace_text(step / NAME, text)
    sync_folder(step.parent)


def read(step: Path) -> dict[str, Any]:
    """Reads the contents: what `write` was given, and `files`; empty if damaged itself."""
    try:
        parsed = parse(read_plain_file(step / NAME))
        contents = parsed["contents"]
        whole = _digest_of(contents) == parsed["sha256"] and _is_well_formed(contents)
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return {}
    return contents if whole else {}


def damage(step: Path, run: Run | None = None) -> list[str]:
    """Compares the files of a finished step with its manifest, and the manifest with its place.

    Args:
      step: the step's folder.
      run: the run that it should be of; None where that is not known.

    Returns:
      A phrase for each problem; none if the step is whole.
    """
    contents = read(step)
    files = contents.get("files")
    if files is None:
        return [f"{NAME} is damaged"]
    # A folder's name is whoever's who renamed it last.
    if contents.get("step") != (number := int(step.name.partition(".")[0])):
        return [f"it was saved as step {contents.get('step')}"]
    if run is not None and not run.owns(number, contents.get("run")):
        return ["it is of another run"]
    found = [f"{name} is not one of its files" for name in _names(step) if name not in files]
    for name, expected in sorted(files.items()):
        path = step / name
        try:
            # No manifest leads out of its step: what it names must be a plain file below.
            if path.is_symlink() or not path.resolve().is_relative_to(step.resolve()):
                found.append(f"{name} lies elsewhere")
            elif path.exists() and not path.is_file():
                found.append(f"{name} is not a file")
            elif path.name in _READ_WHOLE and path.stat().st_size > LARGEST:
                found.append(f"{name} has {path.stat().st_size} bytes, of at most {LARGEST}")
            elif path.stat().st_size != expected["bytes"]:
                found.append(f"{name} has {path.stat().st_size} bytes of {expected['bytes']}")
            elif _digest(path) != expected["sha256"]:
                found.append(f"{name} has changed")
        except FileNotFoundError:
            found.append(f"{name} is missing")
        except OSError as error:
            found.append(f"{name} cannot be read: {error.strerror}")
    return found


def _is_well_formed(contents: Any) -> bool:
    """Whether everything that is looked up in a manifest has the type that `write` gives it."""
    files = contents["files"].items()
    return all(
        "\0" not in name and isinstance(file["bytes"], int) and isinstance(file["sha256"], str)
        for name, file in files
    ) and all(isinstance(leaves, dict) for leaves in contents.get("leaves", {}).values())


def _names(step: Path) -> list[str]:
    """All files of a step, as paths below it, without the manifest and its temporary file."""
    return sorted(
        str((Path(folder) / name).relative_to(step))
        for folder, folders, names in os.walk(step)
        # A link to a folder is not followed; it counts as a file that should not be there.
        for name in [*names, *(name for name in folders if (Path(folder) / name).is_symlink())]
        if not (folder == str(step) and NAME in name)
    )


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _digest_of(contents: Any) -> str:
    return hashlib.sha256(json.dumps(contents, sort_keys=True).encode()).hexdigest()
