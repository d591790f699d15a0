"""The training loop: take steps, report them, and stop where the run or this process ends."""

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxconvlstm.batch import Batch
from jaxconvlstm.config.training import TrainingConfig
from jaxconvlstm.errors import DataError, Interrupted, JaxConvLSTMError, NonFiniteError
from jaxconvlstm.memory import hand_back_freed_memory
from jaxconvlstm.runs.folder import RunFolder
from jaxconvlstm.task import Task
from jaxconvlstm.training.cost import compile_step
from jaxconvlstm.training.non_finite import advice, describe_non_finite
from jaxconvlstm.training.optimizer import make_schedule
from jaxconvlstm.training.progress import Meter, Progress
from jaxconvlstm.training.resume import SavedRun
from jaxconvlstm.training.signals import StopSignals
from jaxconvlstm.training.step import TrainState, TrainStep, step_key
from jaxconvlstm.training.validation import Validation


@dataclasses.dataclass(kw_only=True)
class Loop:
    """Takes the steps of a run until it is over, or until something stops this process early.

    It stops early at `--max-steps` or `--max-hours`, at a signal, at data that cannot be read, and
    at a step that is not finite. New steps are saved first, except in the last case.

    Attributes:
      state: the newest state; initially the one to resume from.
      position: index of the next batch since the start of the run.
      batches: endless training batches, from `position` on.
      train_step: see `step.make_train_step`; compiled here.
      task: defines the loss that `train_step` minimises.
      training: limits, and how often to log and save.
      steps_per_epoch: steps between two validations.
      frames_per_window: frames read for a window, inputs and targets.
      validation: at the end of each epoch; also stops, and lowers the learning rate.
      saved: checkpoints of the run.
      folder: where metrics are logged.
      stop: notes signals from the first step on.
      began: `time.monotonic()` at the start of the process, which `--max-hours` counts from.
      warn: maps the first batch's clips `[batch, time, height, width, channels]`, on the
        network's scale, to warnings about the settings of one line each.
    """

    state: TrainState
    position: int
    batches: Iterator[Batch]
    train_step: TrainStep
    task: Task
    training: TrainingConfig
    steps_per_epoch: int
    frames_per_window: int
    validation: Validation
    saved: SavedRun
    folder: RunFolder
    stop: StopSignals
    began: float
    warn: Callable[[np.ndarray], Sequence[str]]

    def __post_init__(self) -> None:
        self._step = self._begun_at = int(self.state.step)
        self._total_steps = self.training.epochs * self.steps_per_epoch
        self._schedule = make_schedule(self.training, self._total_steps, self.steps_per_epoch)
        self._compiled: TrainStep | None = None
        self._next: Batch | None = None
        self._read_error: DataError | None = None
        self._meter = Meter(self.training.batch_size * self.frames_per_window)
        self._progress = Progress(self._total_steps, self._step)

    def run(self) -> int:
        """Takes steps until the run is over or a limit is reached; returns the run's step count.

        Raises:
          Interrupted: a signal has arrived; everything is saved.
          DataError: a window cannot be read; the steps before it are saved.
          NonFiniteError: a step, or the validation loss, is not finite.
          Exception: whatever else goes wrong, such as a closed standard output; the steps before it
            are saved, if that is still possible.
        """
        with self._progress:
            try:
                while not self._ends():
                    self._take_step()
                return self._step
            except (Interrupted, DataError) as error:
                message = self._save_after(error)
                if message is None:
                    raise
                if isinstance(error, Interrupted):
                    raise Interrupted(message, error.exit_code - 128) from None
                raise type(error)(message) from error
            except JaxConvLSTMError:
                raise  # numbers that are not worth saving, or a place that cannot be saved to
            except Exception as error:
                with contextlib.suppress(Exception):
                    self._save_after(error)
                raise

    def _ends(self) -> bool:
        """Does what is due between two steps; True if the run, or this process, ends here."""
        self.stop.check()
        if self.validation.is_due(self._step):
            self._finish_epoch()
        if self.validation.is_over(self._step):
            return True
        if self._read_error is not None:
            raise self._read_error
        if limit := self._limit_reached():
            if self._step != self.saved.step:
                self._save(None)
            self._progress.say(
                f"stopping at step {self._step} of {self._total_steps}, as {limit} says; "
                "go on with --resume auto"
            )
            return True
        return False

    def _take_step(self) -> None:
        with self._meter.waiting():
            batch = self._next or jax.device_put(next(self.batches))
        if self._compiled is None:
            if self._step == 0:
                clips = np.asarray(self.task.values.scale(np.asarray(batch.inputs)))
                for warning in self.warn(clips):
                    self._progress.say(f"warning: {warning}")
            self._compiled = compile_step(self.train_step, self.state, batch, self._progress.say)
            self._meter.restart()
            self.stop.note()  # only now is there something to save
        self.state, metrics = self._compiled(self.state, batch)
        self._step += 1
        self.position += 1
        self._next = None
        try:
            if self._step < self._total_steps:
                # The call above returns before the device is done: meanwhile the next batch is
                # read and sent. Only then are the metrics waited for.
                with self._meter.waiting():
                    self._next = jax.device_put(next(self.batches))
        except DataError as error:
            # Raised later: an epoch that has just ended must be validated and saved first.
            self._read_error = error
        finally:
            self._report(self._finite(metrics, batch))
        every = self.training.checkpoint_every
        if every and self._step % every == 0 and self._step % self.steps_per_epoch:
            self._save(None)

    def _finish_epoch(self) -> None:
        """Validates, saves and draws sample pictures."""
        # Training, validation and pictures are programs of different sizes: memory freed by
        # one seldom fits the next, so the process would hold the sum.
        hand_back_freed_memory()
        loss = self.validation.run(
            self.state.evaluated, self._step, self._progress.say, self._describe_saved()
        )
        # Validation may have lowered the learning rate.
        self.state = self.state.replace(rate_scale=jnp.float32(self.validation.rate_scale))
        # Saved before drawing: if that fails, the resumed run must not validate this epoch again.
        self._save(loss)
        self.validation.draw_samples(self.state.evaluated, self._step)
        hand_back_freed_memory()
        self._meter.restart()

    def _limit_reached(self) -> str | None:
        """The flag that ends this process here, if one does."""
        steps, hours = self.training.max_steps, self.training.max_hours
        if steps is not None and self._step - self._begun_at >= steps:
            return f"--max-steps {steps}"
        if hours is not None and time.monotonic() - self.began >= hours * 3600:
            return f"--max-hours {hours:g}"
        return None

    def _finite(self, metrics: Any, batch: Batch) -> dict[str, Any]:
        """Waits for the metrics of the step just taken, and raises where they are not finite.

        Args:
          metrics: of that step, on the device.
          batch: of that step.
        """
        metrics = {name: value.item() for name, value in jax.device_get(metrics).items()}
        if metrics["finite"]:
            return metrics
        self._progress.say(
            f"step {self._step}: loss or gradient not finite; repeating it to find where that began"
        )
        # A step that is not finite leaves the variables as they were, so it can be taken again.
        before = self.state.step - 1
        key = step_key(self.state, before)
        try:
            where = describe_non_finite(self.task, self.state.variables, batch, before, key)
        except Exception as error:  # such as too little memory to run it layer by layer
            where = f"where that began could not be found ({type(error).__name__})"
        raise NonFiniteError(
            f"step {self._step}: loss {metrics['loss']:g}, "
            f"gradient norm {metrics['gradient_norm']:g}, "
            f"learning rate {self._learning_rate():g}; {where}; {self._describe_saved()}; "
            f"{advice(self.task, batch)}"
        )

    def _report(self, metrics: dict[str, Any]) -> None:
        """Shows the step just taken, and logs it if a log is due."""
        meter = self._meter
        meter.count()
        epoch = (self._step - 1) // self.steps_per_epoch + 1
        self._progress.update(
            self._step,
            f"epoch {epoch}/{self.training.epochs}, loss {metrics['loss']:.5f}, "
            f"{meter.frames_per_second:.0f} frames/s, {meter.wait_fraction:.1%} waiting for data",
        )
        if self._step % self.training.log_every == 0 or self._step % self.steps_per_epoch == 0:
            self.folder.log(
                {
                    "step": self._step,
                    "epoch": epoch,
                    "split": "train",
                    "loss": metrics["loss"],
                    "learning_rate": self._learning_rate(),
                    "gradient_norm": metrics["gradient_norm"],
                    "frames_per_second": round(meter.frames_per_second, 2),
                    "wait_share": round(meter.wait_fraction, 5),
                }
            )

    def _learning_rate(self) -> float:
        """The learning rate of the step just taken."""
        with jax.numpy_dtype_promotion("standard"):  # for Optax, as in the step
            return float(self._schedule(self._step - 1)) * self.validation.rate_scale

    def _describe_saved(self) -> str:
        saved = self.saved.step
        return "last good checkpoint: " + ("none" if saved is None else f"step {saved}")

    def _save(self, val_loss: float | None) -> None:
        self.folder.check_in_place()
        counters = {
            **self.validation.to_json(),
            "sampling_steps": getattr(self.task, "sampling_steps", None),
        }
        self.saved.save(self._step, self.state, self.position, counters, val_loss)

    def _save_after(self, error: BaseException) -> str | None:
        """Saves new steps; returns the message of `error` with their place, or None without any."""
        # If data fail before the first step of this process, there is nothing new to save.
        worth = isinstance(error, Interrupted) or self._step > self._begun_at
        if worth and self._step != self.saved.step:
            self._save(None)
        self.saved.checkpoints.wait()
        if self.saved.step is None:
            return None
        return (
            f"{error}; saved step {self.saved.step} of {self._total_steps} in "
            f"{self.folder.path}, go on with --resume auto"
        )
