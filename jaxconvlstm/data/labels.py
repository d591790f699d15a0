"""Classes of sequences, by the folders that they lie in."""

from collections import Counter
from collections.abc import Sequence
from typing import Literal

import numpy as np

from jaxconvlstm.config.data import Split
from jaxconvlstm.data.sources.base import Frames, Segment
from jaxconvlstm.data.sources.split_folders import SPLIT_FOLDERS
from jaxconvlstm.data.windows import SPLIT_NAMES, Splits, split_segments
from jaxconvlstm.errors import DataError

CLASSES_SHOWN = 20


def class_names(frames: Frames, place: str) -> list[str]:
    """The class of each sequence: the outermost folder that it lies in, below train, val and test.

    Args:
      frames: the sequences.
      place: what an error names.

    Raises:
      DataError: a sequence lies in no folder.
    """
    if frames.folders is None:
        raise DataError(f"{place}: --labels folders: these sequences lie in no folders")
    outermost = {folders[0].lower() if folders else "" for folders in frames.folders}
    # Below train, val and test lie the classes: train/cats/clip1.
    depth = 1 if outermost <= SPLIT_FOLDERS.keys() else 0
    for name, folders in zip(frames.names, frames.folders):
        if len(folders) <= depth:
            where = f" below {folders[0]}" if depth else ""
            raise DataError(
                f"{place}: --labels folders: {name} lies in no folder{where} that names its class"
            )
    return [folders[depth] for folders in frames.folders]


def number_classes(
    names: Sequence[str], classes: Sequence[str], what: str
) -> tuple[tuple[str, ...], np.ndarray]:
    """The classes, and the number of each name's: int32, of the length of `names`.

    Args:
      names: of classes, in any order.
      classes: those that there are; of a model, those that it was trained to tell apart.
      what: a name is of, for errors.

    Raises:
      DataError: a name is none of them.
    """
    numbers = {name: number for number, name in enumerate(classes)}
    for name in names:
        if name not in numbers:
            known = ", ".join(classes[:CLASSES_SHOWN])
            raise DataError(f"{what} {name}: no class that the model knows; those are {known}")
    return tuple(classes), np.array([numbers[name] for name in names], np.int32)


def label_sequences(
    frames: Frames, known: Sequence[str] | None, place: str
) -> tuple[tuple[str, ...], np.ndarray, str]:
    """Classes, the number of each sequence's class (int32), and a note on how many each has.

    Args:
      frames: the sequences.
      known: the classes that a model was trained to tell apart; without, they are the names found,
        sorted.
      place: what an error names.

    Raises:
      DataError: a sequence without a class, with an unknown one, or all in one class.
    """
    names = class_names(frames, place)
    counts = Counter(names)
    if not known and len(counts) < 2:
        raise DataError(f"{place}: --labels folders: a single class, {names[0]}; expected two")
    classes, labels = number_classes(names, known or sorted(counts), f"{place}: folder")
    shown = ", ".join(f"{name} {counts[name]}" for name in classes[:CLASSES_SHOWN])
    more = len(classes) - CLASSES_SHOWN
    note = f"{len(classes)} classes, in sequences: {shown}" + (f", {more} more" if more > 0 else "")
    return classes, labels, note


def split_by_class(
    segments: Sequence[Segment],
    labels: np.ndarray,
    classes: Sequence[str],
    span: int,
    split: Split,
    by: Literal["auto", "sequence", "time"],
) -> Splits:
    """As `split_segments`, but of each class by itself, so that every split has some of it.

    "auto" holds out whole sequences of a class that has one for each split, and else divides each
    of its sequences in time. A class without any segment is in no split.

    Raises:
      DataError: a class has too few sequences, or too short ones.
    """
    wanted = sum(getattr(split, name) > 0 for name in SPLIT_NAMES)
    by_class: dict[int, list[Segment]] = {}
    for segment in segments:
        by_class.setdefault(int(labels[segment.sequence]), []).append(segment)
    splits: Splits = {name: [] for name in SPLIT_NAMES}
    for number, mine in by_class.items():
        way = by  # Of this class alone.
        if way == "auto":
            usable = {s.sequence for s in mine if s.stop - s.start >= span}
            way = "sequence" if len(usable) >= wanted else "time"
        try:
            divided = split_segments(mine, span, split, way)
        except DataError as error:
            raise DataError(f"class {classes[number]}: {error}") from None
        for name, found in divided.items():
            splits[name] += found
    # In the order of the data again, so that windows do not come class by class.
    return {name: sorted(found) for name, found in splits.items()}
