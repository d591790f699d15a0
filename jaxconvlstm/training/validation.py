"""Validation at the end of each epoch, and what follows from its loss."""

import dataclasses
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax

from jaxconvlstm.checks import plural
from jaxconvlstm.config.data import DataConfig
from jaxconvlstm.config.training import TrainingConfig
from jaxconvlstm.data.dataset import Dataset, Windows
from jaxconvlstm.data.windows import SplitName
from jaxconvlstm.device import memory_advice
from jaxconvlstm.errors import NonFiniteError
from jaxconvlstm.evaluation.evaluate import Sums, evaluate, fitting_batch, make_sums
from jaxconvlstm.runs.folder import RunFolder
from jaxconvlstm.task import Task
from jaxconvlstm.training.cost import LESS_MEMORY
from jaxconvlstm.training.early_stopping import Patience, Plateau
from jaxconvlstm.training.samples import Samples


@dataclasses.dataclass(kw_only=True)
class Validation:
    """Scores the held-out split, keeps the best loss, and ends training when it stays away.

    Where no split is held out, epochs are counted and sample pictures drawn all the same.

    Attributes:
      held_out: windows of the validation split; None where there is none.
      dataset: where sample pictures are taken from.
      task: how a batch is scored.
      data: size of tiles, and lengths of the samples.
      training: patience, and how often samples are drawn.
      steps_per_epoch: steps between two validations.
      folder: where scores are logged and pictures lie.
      check_stop: raises `Interrupted` once a signal has arrived.
      best: lowest validation loss and its step; None before the first.
      stopped_early: whether patience has ended the run.
      pictures: the sample pictures that this call drew last.
    """

    held_out: Windows | None
    dataset: Dataset
    task: Task
    data: DataConfig
    training: TrainingConfig
    steps_per_epoch: int
    folder: RunFolder
    check_stop: Callable[[], None]
    best: tuple[float, int] | None = None
    stopped_early: bool = False
    pictures: list[Path] = dataclasses.field(default_factory=list)

    def __post_init__(self) -> None:
        training, frame = self.training, self.data.tile or self.dataset.frame_shape
        self._batch_size = fitting_batch(training.batch_size, frame)
        self._eval_step = jax.jit(self.task.evaluate)
        split: SplitName = "train" if self.held_out is None else "val"
        # In validation's own shapes nothing has to be compiled for the samples.
        scoring = self.task, self._eval_step, self._batch_size
        self._samples = Samples(self.folder, self.dataset, self.data, split, *scoring)
        # Without the flags, more patience than there are epochs.
        endless = training.epochs + 1
        self._plateau = Plateau(
            training.reduce_on_plateau or endless, factor=training.plateau_factor
        )
        self._patience = Patience(training.early_stopping or endless)
        self._validated_epochs = 0

    @property
    def rate_scale(self) -> float:
        """The factor that plateaus have brought the learning rate to; 1 before the first."""
        return self._plateau.scale

    def is_due(self, step: int) -> bool:
        """Whether `step` ends an epoch that has not been validated yet."""
        epochs, rest = divmod(step, self.steps_per_epoch)
        return rest == 0 and epochs > self._validated_epochs

    def is_over(self, step: int) -> bool:
        """Whether no step follows `step`: it is the last one, or training was stopped early."""
        return step >= self.training.epochs * self.steps_per_epoch or self.stopped_early

    def run(
        self, variables: Any, step: int, say: Callable[[str], None], saved: str
    ) -> float | None:
        """Scores the weights, and follows up on their loss.

        Args:
          variables: weights after `step` steps, those that are evaluated.
          step: number of steps taken, which end an epoch.
          say: prints a line.
          saved: names the last good checkpoint, for the message of an error.

        Returns:
          The validation loss; None where no split is held out.

        Raises:
          NonFiniteError: the loss is not finite.
          DataError: a window cannot be read, or all pixels of all windows are missing.
        """
        epoch = step // self.steps_per_epoch
        loss = None
        if self.held_out is not None:
            scores = self._evaluate(self.held_out, variables)
            loss = scores.loss
            # Logged first: the line of a loss that is not finite says what the error is about.
            record = {"step": step, "epoch": epoch, "split": "val", "loss": loss}
            self.folder.log({**record, **scores.record()})
            if not math.isfinite(loss):
                raise NonFiniteError(f"validation loss {loss} at step {step}; {saved}")
            better = self.best is None or loss < self.best[0]
            if better:
                self.best = (loss, step)
            say(
                f"epoch {epoch}/{self.training.epochs}: validation loss {loss:.5f}, "
                f"{scores.describe()}" + (", best so far" if better else "")
            )
            self._follow_up(loss, epoch, say)
        self._validated_epochs = epoch
        return loss

    def _evaluate(self, held_out: Windows, variables: Any) -> Sums:
        with memory_advice(LESS_MEMORY):
            scores = evaluate(
                self._eval_step,
                variables,
                held_out,
                make_sums(len(self.dataset.classes)),
                batch_size=self._batch_size,
                threads=self.training.threads,
                timeout=self.data.read_timeout,
                check=self.check_stop,
            )
        scores.check_valid("the validation split")
        return scores

    def _follow_up(self, loss: float, epoch: int, say: Callable[[str], None]) -> None:
        """Lowers the learning rate, or ends training, after epochs without a better loss."""
        if self._plateau.update(loss):
            say(
                f"no better for {plural(self._plateau.patience, 'epoch')}: the learning rate is "
                f"now {self._plateau.scale:g} times the schedule's"
            )
        if self._patience.update(loss) and epoch < self.training.epochs:
            self.stopped_early = True
            say(f"no better for {plural(self._patience.patience, 'epoch')}: training ends early")

    def draw_samples(self, variables: Any, step: int) -> None:
        """Draws sample pictures, every so many epochs and at the end of training."""
        epoch, every = step // self.steps_per_epoch, self.training.sample_every
        if every and (epoch % every == 0 or self.is_over(step)):
            with memory_advice(LESS_MEMORY):
                self.pictures = self._samples.write(variables, step, epoch)

    def to_json(self) -> dict[str, Any]:
        """What has been counted so far, for a checkpoint."""
        return {
            "validated_epochs": self._validated_epochs,
            "best": None if self.best is None else {"loss": self.best[0], "step": self.best[1]},
            "plateau": self._plateau.to_json(),
            "patience": self._patience.to_json(),
            "stopped_early": self.stopped_early,
        }

    def restore(self, counted: Mapping[str, Any]) -> None:
        """Goes on counting from what `to_json` gave."""
        self._validated_epochs, best = counted["validated_epochs"], counted["best"]
        self.best = None if best is None else (best["loss"], best["step"])
        self._plateau = self._plateau.restored(counted["plateau"])
        self._patience = self._patience.restored(counted["patience"])
        # With more patience than before, a run that was stopped early goes on.
        self.stopped_early = counted["stopped_early"] and self._patience.over
