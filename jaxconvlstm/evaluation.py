"""Scores of a model beside persistence's, exact over padded batches and missing pixels."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax

from jaxconvlstm.data.datasets import Windows
from jaxconvlstm.data.loader import evaluation_batches
from jaxconvlstm.data.read_ahead import TIMEOUT
from jaxconvlstm.errors import DataError
from jaxconvlstm.metrics import ScoreSums

MOST_PIXELS = 2**21
"""Pixels of all frames that are predicted at once."""


def fitting_batch(most: int, frame_shape: tuple[int, ...]) -> int:
    """Windows to evaluate at once: `most`, or fewer where whole frames are large."""
    height, width = frame_shape[:2]
    return max(1, min(most, MOST_PIXELS // (height * width)))


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
        """The training loss, averaged over valid pixels; NaN if there was none."""
        return self._loss / self._weight if self._weight else float("nan")

    @property
    def persistence_loss(self) -> float:
        """The same loss of persistence."""
        return self._persistence_loss / self._weight if self._weight else float("nan")

    def add(self, result: dict[str, Any], rows: int) -> None:
        """Adds a batch of `rows` windows, scored by `training.make_eval_step`."""
        weight = float(result["weight"])
        self.count += rows
        self._weight += weight
        self._loss += float(result["loss"]) * weight
        self._persistence_loss += float(result["persistence_loss"]) * weight
        self.model.add(result["model"])
        self.persistence.add(result["persistence"])

    def check_valid(self, what: str) -> None:
        """Raises `DataError` if there was nothing to score in `what`."""
        if not self._weight:
            raise DataError(f"{what}: every pixel is missing, so there is nothing to score")


def evaluate(
    eval_step: Callable[[Any, Any], dict[str, Any]],
    variables: Any,
    windows: Windows,
    *,
    batch_size: int,
    threads: int = 2,
    timeout: float = TIMEOUT,
    check: Callable[[], None] | None = None,
) -> Evaluation:
    """Scores every window once.

    Args:
      eval_step: a compiled `training.make_eval_step`.
      variables: the model's variables.
      windows: the windows of one split.
      batch_size: windows per batch; the last batch is padded and masked.
      threads: threads that read data.
      timeout: seconds after which a window that was not read is given up.
      check: called after every batch and while waiting for one; what it raises ends the evaluation.
    """
    evaluation = Evaluation()
    for batch in evaluation_batches(
        windows, batch_size, threads=threads, timeout=timeout, check=check
    ):
        rows = int((batch.weight.reshape(len(batch.weight), -1).max(axis=1) > 0).sum())
        result = eval_step(variables, batch)
        scores = {name: value for name, value in result.items() if name != "predictions"}
        evaluation.add(jax.device_get(scores), rows)
        if check is not None:
            check()
    return evaluation
