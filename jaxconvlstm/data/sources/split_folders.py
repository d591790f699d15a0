"""Folders that name the split of what they hold: train, val, test."""

from collections import Counter
from collections.abc import Sequence

from jaxconvlstm.data.sources.base import SplitName

SPLIT_FOLDERS: dict[str, SplitName] = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}
"""Names of folders, in lower case, and the splits that they mean."""


def splits_of_folders(
    folders: Sequence[tuple[str, ...]],
) -> tuple[list[SplitName] | None, list[str]]:
    """The split of each sequence, if the folders say it of all of them.

    Args:
      folders: for each sequence the names of those that it lies in, from the outermost in.

    Returns:
      The splits, or None unless there are training data, another split and nothing else; and
      notes.
    """
    splits = [SPLIT_FOLDERS.get(names[0].lower()) if names else None for names in folders]
    # All or none: a class called "test" among others must not become a split.
    known = [split for split in splits if split is not None]
    counts = Counter(known)
    if len(known) < len(splits) or not counts["train"] or len(counts) < 2:
        return None, []
    each = ", ".join(f"{name} {counts[name]}" for name in ("train", "val", "test"))
    return known, [f"splits as the folders' names say, in sequences: {each}"]
