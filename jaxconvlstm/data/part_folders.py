"""Folders whose names say what their data are for: train, val, test."""

from collections import Counter
from collections.abc import Iterable

from jaxconvlstm.data.frames import PartName

PART_NAMES: dict[str, PartName] = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}
"""Names of folders, in lower case, and the parts that they mean."""


def parts_of_folders(folders: Iterable[str]) -> tuple[list[PartName] | None, list[str]]:
    """The part of each sequence, if the folders say it of all of them.

    Args:
      folders: for each sequence the name of the outermost folder that it lies in, "" for none.

    Returns:
      The parts, or None unless there is training data and another part and nothing else; and notes.
    """
    parts = [PART_NAMES.get(folder.lower()) for folder in folders]
    known = [part for part in parts if part is not None]
    counts = Counter(known)
    if len(known) < len(parts) or not counts["train"] or len(counts) < 2:
        return None, []
    each = ", ".join(f"{name} {counts[name]}" for name in ("train", "val", "test"))
    return known, [f"parts as the folders' names say, in sequences: {each}"]
