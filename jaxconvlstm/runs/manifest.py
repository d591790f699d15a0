"""Manifests: the digest of every file of a checkpoint, so that damage is never loaded.

Orbax says when a step is complete, but not that a byte of it has changed since: arrays restore with
other values, and nothing tells. So a complete step gets a manifest, the last file of it that is
written and the first that is read. A step without one was never finished.
"""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from jaxconvlstm.atomic import replace_text, sync_folder

NAME = "manifest.json"
REPLACED = ".replaced"
"""Ends the name of a step's folder while the step is saved once more."""
LARGEST = 64 * 2**20
"""Bytes of the largest manifest that is read, and of the other files that are read as JSON."""
# Orbax's names for those.
_READ_WHOLE = ("data.json", "metrics", "_METADATA", "_CHECKPOINT_METADATA")


def write(step: Path, about: dict[str, Any]) -> None:
    """Writes the manifest of a complete step: whole and durably, or not at all.

    Args:
      step: the step's folder.
      about: what the manifest says beside the files; JSON.

    Raises:
      OSError: there is no room, or the folder cannot be written to.
    """
    files = {
        name: {"bytes": (step / name).stat().st_size, "sha256": _digest(step / name)}
        for name in _names(step)
    }
    contents = {**about, "files": files}
    text = json.dumps({"sha256": _digest_of(contents), "contents": contents}, indent=1)
    replace_text(step / NAME, text)
    sync_folder(step.parent)


def is_step(name: str) -> bool:
    """Whether this is how a step's folder is called: its number, written in the one usual way."""
    return name.isascii() and name.isdecimal() and name == str(int(name))


def step_folders(folder: Path) -> list[Path]:
    """What `folder` holds under a step's number, finished or not, ascending; no links."""
    found = (path for path in _folders(folder) if is_step(path.name))
    return sorted(found, key=lambda path: int(path.name))


def replaced_folders(folder: Path) -> list[Path]:
    """Steps that were moved aside because they are being saved once more."""
    return [
        path
        for path in _folders(folder)
        if path.name.endswith(REPLACED) and is_step(path.name.removesuffix(REPLACED))
    ]


def is_finished(step: Path) -> bool:
    """Whether a step has a manifest; without one it was never saved to the end."""
    return (step / NAME).is_file()


def finished_steps(folder: Path) -> dict[int, Path]:
    """The steps that were saved to the end, ascending, and where each of them lies."""
    found = {
        int(path.name.removesuffix(REPLACED)): path
        for path in replaced_folders(folder)
        if is_finished(path)
    }
    found |= {int(path.name): path for path in step_folders(folder) if is_finished(path)}
    return dict(sorted(found.items()))


def read(step: Path) -> dict[str, Any]:
    """What `write` was given and `files`; empty if the manifest itself is damaged."""
    try:
        with (step / NAME).open("rb") as file:
            parsed = json.loads(file.read(LARGEST + 1)[:LARGEST])
        contents = parsed["contents"]
        whole = _digest_of(contents) == parsed["sha256"] and _is_well_formed(contents)
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return {}
    return contents if whole else {}


def damage(step: Path) -> list[str]:
    """What is wrong with the files of a finished step, a phrase each; nothing if it is whole."""
    files = read(step).get("files")
    if files is None:
        return [f"{NAME} is damaged"]
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
    """Whether what is looked up in a manifest is of the kind that `write` makes."""
    files = contents["files"].items()
    return all(
        "\0" not in name and isinstance(file["bytes"], int) and isinstance(file["sha256"], str)
        for name, file in files
    ) and all(isinstance(leaves, dict) for leaves in contents.get("leaves", {}).values())


def _folders(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.is_dir() and not path.is_symlink()]


def _names(step: Path) -> list[str]:
    """All files of a step, as paths below it."""
    return sorted(
        str((Path(folder) / name).relative_to(step))
        for folder, _, names in os.walk(step)
        for name in names
        if not (folder == str(step) and NAME in name)
    )


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _digest_of(contents: Any) -> str:
    return hashlib.sha256(json.dumps(contents, sort_keys=True).encode()).hexdigest()
