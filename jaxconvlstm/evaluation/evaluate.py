"""Scores of a model over a data set, exact over padded batches and missing pixels."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax

from jaxconvlstm.data.dataset import Windows
from jaxconvlstm.data.loader import evaluation_batches
from jaxconvlstm.data.prefetch import TIMEOUT
from jaxconvlstm.errors import DataError
from jaxconvlstm.metrics.class_scores import ClassSums
from jaxconvlstm.metrics.frame_scores import ScoreSums

MOST_PIXELS = 2**21
"""Most pixels of the frames of one time step that are predicted at once."""


def fitting_batch(most: int, frame_shape: tuple[int, ...]) -> int:
    """Chooses how many windows to evaluate at once: `most`, or fewer where frames are large.

    Args:
      most: windows that fit where frames are small.
      frame_shape: height and width first.
    """
    height, width = frame_shape[:2]
    return max(1, min(most, MOST_PIXELS // (height * width)))


@dataclasses.dataclass
class Forecasts:
    """Scores of the predicted frames of the windows seen so far, with those of persistence.

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
        """The same loss of the persistence forecast."""
        return self._persistence_loss / self._weight if self._weight else float("nan")

    def add(self, result: dict[str, Any], rows: int) -> None:
        """Adds a batch of `rows` windows, scored by `Forecasting.evaluate`."""
        # Batches have different numbers of valid pixels: a mean of their means would be biased.
        weight = float(result["weight"])
        self.count += rows
        self._weight += weight
        self._loss += float(result["loss"]) * weight
        self._persistence_loss += float(result["persistence_loss"]) * weight
        self.model.add(result["model"])
        self.persistence.add(result["persistence"])

    def check_valid(self, name: str) -> None:
        """Raises `DataError`, with the name of the windows, if there was nothing to score."""
        if not self._weight:
            raise DataError(f"{name}: every pixel is missing, so there is nothing to score")

    def record(self) -> dict[str, float]:
        """Scores for a line of metrics.jsonl, beside the loss."""
        return {"persistence_loss": self.persistence_loss, **self.model.means()}

    def describe(self) -> str:
        """The same as text, for a line of the terminal."""
        ssim = self.model.means().get("ssim")
        return f"persistence {self.persistence_loss:.5f}" + (f", SSIM {ssim:.3f}" if ssim else "")


class Classes:
    """Scores of classes, with those of always naming the most frequent one; see `Forecasts`.

    Attributes:
      sums: accuracy, cross-entropy, confusion.
    """

    def __init__(self, classes: int):
        """Starts with empty sums; `classes` is their number."""
        self.sums = ClassSums(classes)

    @property
    def count(self) -> int:
        """Number of windows."""
        return int(self.sums.confusion.sum())

    @property
    def loss(self) -> float:
        """The training loss over all windows; NaN if there was none."""
        return self.sums.means()["cross_entropy"]

    def add(self, result: dict[str, Any], rows: int) -> None:
        """Adds a batch, scored by `Classification.evaluate`."""
        del rows
        self.sums.add(result["scores"])

    def check_valid(self, name: str) -> None:
        """See `Forecasts.check_valid`."""
        if not self.count:
            raise DataError(f"{name}: no windows, so there is nothing to score")

    def record(self) -> dict[str, float]:
        """See `Forecasts.record`."""
        return {"accuracy": self.sums.means()["accuracy"]}

    def describe(self) -> str:
        """See `Forecasts.describe`."""
        return f"accuracy {self.sums.means()['accuracy']:.4f}"


Sums = Forecasts | Classes
"""Scores of the windows seen so far."""


def make_sums(classes: int) -> Sums:
    """Empty sums: of classes where there are any, of frames otherwise."""
    return Classes(classes) if classes else Forecasts()


def evaluate(
    eval_step: Callable[[Any, Any], dict[str, Any]],
    variables: Any,
    windows: Windows,
    sums: Sums,
    *,
    batch_size: int,
    threads: int = 2,
    timeout: float = TIMEOUT,
    check: Callable[[], None] | None = None,
) -> Sums:
    """Scores every window once.

    Args:
      eval_step: a compiled `evaluate` of a `Task`.
      variables: the model's variables.
      windows: the windows of one split.
      sums: their scores are added to it, and it is returned.
      batch_size: windows per batch; the last batch is padded and masked.
      threads: threads that read data.
      timeout: seconds after which reading a window is given up.
      check: called after every batch and while waiting for one; what it raises ends the evaluation.
    """
    for batch in evaluation_batches(
        windows, batch_size, threads=threads, timeout=timeout, check=check
    ):
        # Rows of weight 0 only fill the last batch. [batch, ...] to [batch, rest] to a number.
        rows = int((batch.weight.reshape(len(batch.weight), -1).max(axis=1) > 0).sum())
        result = eval_step(variables, batch)
        # Predictions stay on the device: scores are a few numbers, frames gigabytes.
        scores = {name: value for name, value in result.items() if name != "predictions"}
        sums.add(jax.device_get(scores), rows)
        if check is not None:
            check()  # the loader looks for signals only while it waits
    return sums
