"""Clips that are generated: each a function of the run's seed, its part, epoch and number."""

from typing import NamedTuple

import numpy as np

from jaxconvlstm.config.data import DataConfig
from jaxconvlstm.data.windows import SPLIT_NAMES, AnySplit, SplitName, check_share

Counts = dict[SplitName, int]


def clip_generator(seed: int, split_number: int, epoch: int, index: int) -> np.random.Generator:
    """The random numbers of one clip: a function of these four numbers and nothing else."""
    return np.random.default_rng([seed, split_number, epoch, index])


class Clip(NamedTuple):
    """A clip, of which a window is made: the part that it belongs to, and its number there."""

    part: SplitName
    number: int

    def generator(self, seed: int, epoch: int) -> np.random.Generator:
        """Its random numbers: others in each epoch for training, always the same for the rest."""
        new = epoch if self.part == "train" else 0
        return clip_generator(seed, SPLIT_NAMES.index(self.part), new, self.number)

    def __str__(self) -> str:
        return f"{self.part} clip {self.number}"


def clip_counts(config: DataConfig, train: int, val: int, test: int) -> Counts:
    """Clips of each part: those numbers unless `config.limit` says another; 0 without a share."""
    usual = dict(zip(SPLIT_NAMES, (train, val, test), strict=True))
    return {
        name: (config.limit or count) if getattr(config.split, name) else 0
        for name, count in usual.items()
    }


def list_clips(config: DataConfig, counts: Counts, split: AnySplit) -> list[Clip]:
    """The clips of a split, or of all.

    Raises:
      DataError: the split has no share.
    """
    if split != "all":
        check_share(config.split, split)
    parts = SPLIT_NAMES if split == "all" else (split,)
    return [Clip(name, number) for name in parts for number in range(counts[name])]


def describe_counts(counts: Counts) -> str:
    """E.g. "train 800, val 100, test 200"."""
    return ", ".join(f"{name} {count}" for name, count in counts.items())
