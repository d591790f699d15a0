"""Scores of a model beside persistence's, exact over padded batches and missing pixels."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from jaxconvlstm.data.datasets import Windows
from jaxconvlstm.data.loader import evaluation_batches
from jaxconvlstm.metrics import ScoreSums


@dataclasses.dataclass
class Evaluation:
    """Sums over the windows seen so far.

    Attributes:
      count: number of windows.
      model, persistence: scores per lead time; persistence repeats the last frame given.
    """

    count: int = 0
    model: ScoreSums = dataclasses.field(default_factory=ScoreSums)
    persistence: ScoreSums = dataclasses.field(default_factory=ScoreSums)
    _loss: float = 0.0
    _persistence_loss: float = 0.0
    _weight: float = 0.0

    @property
    def loss(self) -> float:
        """The training loss, averaged over valid pixels."""
        return self._loss / max(self._weight, 1.0)

    @property
    def persistence_loss(self) -> float:
        """The same loss of persistence."""
        return self._persistence_loss / max(self._weight, 1.0)

    def add(self, result: dict[str, Any], rows: int) -> None:
        """Adds a batch of `rows` windows, scored by `training.make_eval_step`."""
        weight = float(result["weight"])
        self.count += rows
        self._weight += weight
        self._loss += float(result["loss"]) * weight
        self._persistence_loss += float(result["persistence_loss"]) * weight
        self.model.add(result["model"])
        self.persistence.add(result["persistence"])


def evaluate(
    eval_step: Callable[[Any, Any], dict[str, Any]],
    variables: Any,
    windows: Windows,
    *,
    batch_size: int,
    threads: int = 2,
    each_batch: Callable[[], None] = lambda: None,
) -> Evaluation:
    """Scores every window once.

    Args:
      eval_step: a compiled `training.make_eval_step`.
      variables: the model's variables.
      windows: the windows of one split.
      batch_size: windows per batch; the last batch is padded and masked.
      threads: threads that read data.
      each_batch: called after every batch.
    """
    evaluation = Evaluation()
    for batch in evaluation_batches(windows, batch_size, threads=threads):
        rows = int((batch.weight.reshape(len(batch.weight), -1).max(axis=1) > 0).sum())
        result = eval_step(variables, batch)
        scores = {name: value for name, value in result.items() if name != "predictions"}
        evaluation.add(jax.device_get(scores), rows)
        each_batch()
    return evaluation


def spread(count: int, total: int) -> list[int]:
    """`count` indices, or fewer, evenly spread over `total`."""
    count = min(count, total)
    return sorted({int(index) for index in np.linspace(0, total - 1, count).round()})
