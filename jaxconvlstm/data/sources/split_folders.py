"""Folders whose names say what their data are for: train, val, test."""

from collections import Counter
from collections.abc import Sequence

from jaxconvlstm.data.sources.base import SplitName

PART_NAMES: dict[str, SplitName] = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}
"""Names of folders, in lower case, and the parts that they mean."""


def parts_of_folders(
    folders: Sequence[tuple[str, ...]],
) -> tuple[list[SplitName] | None, list[str]]:
    """The part of each sequence, if the folders say it of all of them.

    Args:
      folders: for each sequence the names of those that it lies in, from the outermost in.

    Returns:
      The parts, or None unless there is training data and another part and nothing else; and notes.
    """
    parts = [PART_NAMES.get(names[0].lower()) if names else None for names in folders]
    known = [part for part in parts if part is not None]
    counts = Counter(known)
    if len(known) < len(parts) or not counts["train"] or len(counts) < 2:
        return None, []
    each = ", ".join(f"{name} {counts[name]}" for name in ("train", "val", "test"))
    return known, [f"parts as the folders' names say, in sequences: {each}"]
