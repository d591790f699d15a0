"""The training loop: what `train.py` and a notebook both call."""

import dataclasses
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxconvlstm import models
from jaxconvlstm.batch import Batch
from jaxconvlstm.config.run import FORMAT_VERSION, Config
from jaxconvlstm.data.augment import Augmentation
from jaxconvlstm.data.dataset import Dataset, open_dataset
from jaxconvlstm.data.fingerprint import fingerprint
from jaxconvlstm.data.loader import TrainLoader
from jaxconvlstm.device import device_memory, memory_advice
from jaxconvlstm.errors import (
    CheckpointError,
    ConfigError,
    DataError,
    Interrupted,
    NonFiniteError,
)
from jaxconvlstm.evaluation.evaluate import Classes, Forecasts, Sums, evaluate, fitting_batch
from jaxconvlstm.evaluation.predictor import plural
from jaxconvlstm.memory import hand_back_freed_memory
from jaxconvlstm.runs.checkpoint import Checkpoints
from jaxconvlstm.runs.folder import CHECKPOINTS_NAME, RunFolder, holds_run, read_config, read_split
from jaxconvlstm.scale import Values
from jaxconvlstm.task import Forecasting, make_task
from jaxconvlstm.training.cost import count_flops, human, peak_memory
from jaxconvlstm.training.early_stopping import Patience, Plateau
from jaxconvlstm.training.non_finite import describe_non_finite
from jaxconvlstm.training.optimizer import make_optimizer, make_schedule
from jaxconvlstm.training.progress import Meter, Progress
from jaxconvlstm.training.resume import check_same_run, with_absolute_paths
from jaxconvlstm.training.samples import Samples
from jaxconvlstm.training.signals import StopSignals
from jaxconvlstm.training.step import TrainState, begin, init_state, make_train_step, step_key
from jaxconvlstm.training.warnings import warnings_for

_LESS_MEMORY = (
    "try a smaller --batch-size or --crop, fewer --input-frames, --remat, or --dtype bfloat16"
)


@dataclasses.dataclass(frozen=True)
class FitResult:
    """What a finished run left behind.

    Attributes:
      folder: the run folder.
      step: steps trained in all.
      finished: whether that is all of them; not where `max_steps` or `max_hours` ended the call.
      best: the lowest validation loss and its step; None without validation.
      pictures: the sample pictures written last by this call.
    """

    folder: Path
    step: int
    finished: bool
    best: tuple[float, int] | None
    pictures: list[Path]


def fit(config: Config, out: Path, resume: str | None = None, data: Any = None) -> FitResult:
    """Trains a model and leaves a run folder.

    Args:
      config: everything that says how the run goes.
      out: the run folder.
      resume: None starts a new run, "auto" starts or goes on, "must" only goes on. A run that is
        finished is left as it is.
      data: sequences in memory instead of the files of `config.data.data`: an array, or any object
        with `__len__` and `__getitem__` whose items are `[time, height, width]` or
        `[time, height, width, channels]`; see `data.arrays.array_frames`.

    Raises:
      ConfigError: a setting cannot work, or is not what the run to resume was started with.
      DataError, CheckpointError, NonFiniteError, ResourceError: see `jaxconvlstm.errors`.
      Interrupted: SIGINT or SIGTERM arrived; everything is saved.
    """
    began = time.monotonic()
    out = Path(out)
    if data is not None:
        in_memory = dataclasses.replace(config.data, dataset="array", data=None)
        config = dataclasses.replace(config, data=in_memory)
    config = with_absolute_paths(config)
    place = config.data.data
    if place is not None and out.resolve().is_relative_to(Path(place).resolve()):
        raise ConfigError(f"--out {out}: lies in --data, where its pictures would be read")
    started = holds_run(out)

    def open_data() -> Dataset:
        known: dict[str, Any] = {"split": read_split(out), **_measured(out)} if started else {}
        return open_dataset(config.data, config.training.seed, data=data, **known)

    if started and resume:
        check_same_run(read_config(out), config, out)
    if not started and resume != "must":
        # Before the folder is made: bad data must not leave a run behind. And before signals are
        # only noted: while data are opened, there is nothing to save yet.
        dataset = open_data()
    with RunFolder(out, resume=resume) as run:
        if started:
            dataset = open_data()
        with StopSignals() as stop:
            for note in dataset.notes:
                print(note, flush=True)
            training = _Training(config, run, dataset, stop, began)
            with Checkpoints(run.checkpoints, writable=True) as checkpoints:
                return training.run(checkpoints)


def _measured(out: Path) -> dict[str, Any]:
    """What a run found in its data, once and for all: their scale and classes."""
    with Checkpoints(out / CHECKPOINTS_NAME) as checkpoints:
        meta = checkpoints.load_meta(checkpoints.choose("last"))
    return {"values": Values.from_json(meta["values"]), "classes": tuple(meta["classes"])}


class _Training:
    """One run under way: what is done in a step, and after an epoch."""

    def __init__(
        self, config: Config, run: RunFolder, dataset: Dataset, stop: StopSignals, began: float
    ):
        self.config, self.settings = config, config.training
        self.folder, self.stop, self.dataset = run, stop, dataset
        self.began = began
        dense_targets = self.settings.supervise == "all"
        self.windows = dataset.windows("train", dense_targets=dense_targets)
        validates = config.data.split.val > 0
        self.held_out = dataset.windows("val", dense_targets=dense_targets) if validates else None
        height, width, self.channels = dataset.frame_shape
        # The size that weights are made for matters to spatial peepholes alone.
        self.frame_shape = (*(config.data.crop or (height, width)), self.channels)
        sizes = {config.data.crop or (height, width), config.data.tile or (height, width)}
        if config.model.fixes_frame_size and sizes != {(height, width)}:
            raise ConfigError(
                "--crop and --tile: the network is made for one frame size (--model "
                f"{config.model.model}, --peephole {getattr(config.model, 'peephole', 'none')})"
            )
        self.module = models.build(config.model, self.channels, len(dataset.classes))
        self.fingerprint = fingerprint(self.windows, config.data.read_timeout, stop.check)
        with self._open_loader(0) as loader:  # checks batch and crop before anything is compiled
            self.steps_per_epoch = self.settings.steps_per_epoch or loader.batches_per_epoch
        self.total_steps = self.settings.epochs * self.steps_per_epoch
        lengths = self.total_steps, self.steps_per_epoch
        self.schedule = make_schedule(self.settings, *lengths)
        self.optimizer = make_optimizer(self.settings, *lengths)
        self.task = make_task(self.module, dataset.values, config, self.total_steps)
        whole = config.data.tile or dataset.frame_shape
        self.eval_batch = fitting_batch(self.settings.batch_size, whole)
        self.eval_step = jax.jit(self.task.evaluate)
        self.samples = Samples(
            run,
            dataset,
            config.data,
            "val" if validates else "train",
            self.task,
            self.eval_step,
            self.eval_batch,
        )
        # Without the flag, more patience than there are epochs.
        endless = self.settings.epochs + 1
        self.plateau = Plateau(
            self.settings.reduce_on_plateau or endless, factor=self.settings.plateau_factor
        )
        self.patience = Patience(self.settings.early_stopping or endless)
        self.stopped_early = False
        self.validated_epochs = 0
        self.best: tuple[float, int] | None = None
        self.saved_step: int | None = None
        self.sample_pictures: list[Path] = []

    def _open_loader(self, start: int) -> TrainLoader:
        data = self.config.data
        return TrainLoader(
            self.windows,
            self.settings.batch_size,
            self.settings.seed,
            threads=self.settings.threads,
            augmentation=Augmentation(data),
            start=start,
            timeout=data.read_timeout,
            check=self.stop.check,
        )

    def run(self, checkpoints: Checkpoints) -> FitResult:
        """Trains until all epochs are done."""
        self.checkpoints = checkpoints
        settings = self.settings
        state = init_state(
            self.module, self.optimizer, self.frame_shape, settings.seed, settings.ema
        )
        position = 0
        if checkpoints.steps():
            state, position = self._restore(state)
        elif settings.init_from is not None:
            state = self._begin_from(Path(settings.init_from), state)
        step = int(state.step)
        done = step >= self.total_steps or self.stopped_early
        finished = done and not self._validation_due(step)
        if finished:
            reason = ", as the validation loss got no better" if self.stopped_early else ""
            print(f"{self.folder.path}: finished already, at step {step}{reason}")
        else:
            self.folder.write_config(self.config)
            self.folder.write_split(self.dataset.split_record())
            self.folder.rewind_metrics(step)
            self.folder.open_events(step)
            self.position = position
            with self._open_loader(position) as self.loader:
                step = self._train(state, step)
            self.sample_pictures += self.folder.draw_history()
        checkpoints.wait()
        finished = step >= self.total_steps or self.stopped_early
        return FitResult(self.folder.path, step, finished, self.best, self.sample_pictures)

    def _train(self, state: TrainState, step: int) -> int:
        """Takes steps until all are done, and returns how many that is."""
        train_step = batch = failure = None
        begun_at = step
        progress = Progress(self.total_steps, step)
        targets = 0 if self.dataset.classes else self.config.data.target_frames
        frames = self.config.data.input_frames + targets
        meter = Meter(self.settings.batch_size * frames)
        try:
            while True:
                self.stop.check()
                if self._validation_due(step):
                    state = self._finish_epoch(state, step, progress)
                    meter.restart()
                if step >= self.total_steps or self.stopped_early:
                    return step
                if failure is not None:
                    raise failure
                if limit := self._limit_reached(step - begun_at):
                    if step != self.saved_step:
                        self._save(state, step, None)
                    progress.say(
                        f"stopping at step {step} of {self.total_steps}, as {limit} says; "
                        "go on with --resume auto"
                    )
                    return step
                with meter.waiting():
                    batch = batch or self._next_batch()
                if train_step is None:
                    if step == 0:
                        self._warn(batch, progress)
                    train_step = self._compile(state, batch, progress)
                    meter.restart()
                state, metrics = train_step(state, batch)
                step += 1
                self.position += 1
                taken, batch = batch, None
                try:
                    if step < self.total_steps:
                        # Read and sent to the device while that computes.
                        with meter.waiting():
                            batch = self._next_batch()
                except DataError as error:
                    failure = error  # after what is due at the end of an epoch
                finally:
                    metrics = self._finite(step, metrics, state, taken, progress)
                    meter.count()
                    self._report(step, metrics, meter, progress)
                every = self.settings.checkpoint_every
                if every and step % every == 0 and step % self.steps_per_epoch:
                    self._save(state, step, None)
        except (Interrupted, DataError) as error:
            # A file that has gone must not take the work with it.
            if step != self.saved_step and (isinstance(error, Interrupted) or step > begun_at):
                self._save(state, step, None)
            self.checkpoints.wait()
            if self.saved_step is None:
                raise
            message = (
                f"{error}; saved step {self.saved_step} of {self.total_steps} in "
                f"{self.folder.path}, go on with --resume auto"
            )
            if isinstance(error, Interrupted):
                raise Interrupted(message, error.exit_code - 128) from None
            raise type(error)(message) from error
        finally:
            progress.close()

    def _finite(
        self, step: int, metrics: Any, state: TrainState, batch: Batch, progress: Progress
    ) -> dict[str, Any]:
        """Waits for a step's metrics; where they are not finite, finds out what was not first.

        Args:
          step: number of the step that was taken.
          metrics: its metrics, on the device.
          state: the state after it, whose variables are still those before it if it failed.
          batch: its batch.
          progress: where to say that this takes a while.
        """
        metrics = {name: value.item() for name, value in jax.device_get(metrics).items()}
        if metrics["finite"]:
            return metrics
        progress.say(f"step {step} is not finite; taking it again to see where that began")
        before = state.step - 1
        key = step_key(state, before)
        try:
            where = describe_non_finite(self.task, state.variables, batch, before, key)
        except Exception as error:  # such as too little memory for it
            where = f"where that began could not be found ({type(error).__name__})"
        raise NonFiniteError(
            f"step {step}: loss {metrics['loss']:g}, gradient norm {metrics['gradient_norm']:g}, "
            f"learning rate {self._learning_rate(step):g}; {where}; "
            f"{self._last_good_checkpoint()}; "
            "start anew with a lower --learning-rate or a smaller --clip-norm"
        )

    def _limit_reached(self, taken: int) -> str | None:
        """The flag that ends this call after so many steps, if one does."""
        steps, hours = self.settings.max_steps, self.settings.max_hours
        if steps is not None and taken >= steps:
            return f"--max-steps {steps}"
        if hours is not None and time.monotonic() - self.began >= hours * 3600:
            return f"--max-hours {hours:g}"
        return None

    def _next_batch(self) -> Batch:
        """The next batch, on the device."""
        batch: Batch = jax.device_put(next(self.loader))
        return batch

    def _compile(self, state: TrainState, batch: Batch, progress: Progress) -> Callable[..., Any]:
        """Compiles the step once, ahead of time, and says what it will cost."""
        step = make_train_step(self.task, self.optimizer, self.settings.ema)
        parameters = sum(leaf.size for leaf in jax.tree.leaves(state.variables["params"]))
        began = time.monotonic()
        with memory_advice(_LESS_MEMORY):
            traced = jax.jit(step, donate_argnums=0).trace(state, batch)
            compiled = traced.lower().compile()
        hand_back_freed_memory()
        flops, memory = count_flops(traced.jaxpr.jaxpr), peak_memory(compiled)
        progress.say(
            f"{parameters:,} parameters, {human(flops, 'FLOP')} a step, "
            + (f"peak memory of a step {human(memory, 'B')}, " if memory else "")
            + f"compiled in {time.monotonic() - began:.1f} s"
        )

        available = device_memory()
        if memory and available and memory > available:
            progress.say(f"warning: the device has {human(available, 'B')}; {_LESS_MEMORY}")

        def run_step(state: TrainState, batch: Batch) -> Any:
            with memory_advice(_LESS_MEMORY):
                return compiled(state, batch)

        return run_step

    def _report(self, step: int, metrics: dict[str, Any], meter: Meter, progress: Progress) -> None:
        epoch = (step - 1) // self.steps_per_epoch + 1
        progress.update(
            step,
            f"epoch {epoch}/{self.settings.epochs}, loss {metrics['loss']:.5f}, "
            f"{meter.frames_per_second:.0f} frames/s, {meter.wait_share:.1%} waiting for data",
        )
        if step % self.settings.log_every == 0 or step % self.steps_per_epoch == 0:
            self.folder.log(
                {
                    "step": step,
                    "epoch": epoch,
                    "split": "train",
                    "loss": metrics["loss"],
                    "learning_rate": self._learning_rate(step),
                    "gradient_norm": metrics["gradient_norm"],
                    "frames_per_second": round(meter.frames_per_second, 2),
                    "wait_share": round(meter.wait_share, 5),
                }
            )

    def _learning_rate(self, step: int) -> float:
        """The learning rate that this step was taken with."""
        return float(self.schedule(step - 1)) * self.plateau.scale

    def _last_good_checkpoint(self) -> str:
        good = "none" if self.saved_step is None else f"step {self.saved_step}"
        return f"last good checkpoint: {good}"

    def _validation_due(self, step: int) -> bool:
        epochs, rest = divmod(step, self.steps_per_epoch)
        return rest == 0 and epochs > self.validated_epochs

    def _finish_epoch(self, state: TrainState, step: int, progress: Progress) -> TrainState:
        """Validates, writes sample pictures, saves; a plateau lowers the learning rate."""
        epoch = step // self.steps_per_epoch
        loss = None
        hand_back_freed_memory()
        if self.held_out is not None:
            with memory_advice(_LESS_MEMORY):
                scores = evaluate(
                    self.eval_step,
                    state.evaluated,
                    self.held_out,
                    self._sums(),
                    batch_size=self.eval_batch,
                    threads=self.settings.threads,
                    timeout=self.config.data.read_timeout,
                    check=self.stop.check,
                )
            scores.check_valid("the validation part")
            loss = scores.loss
            record = {"step": step, "epoch": epoch, "split": "val", "loss": loss}
            self.folder.log({**record, **scores.record()})
            if not math.isfinite(loss):
                raise NonFiniteError(
                    f"validation loss {loss} at step {step}; {self._last_good_checkpoint()}"
                )
            better = self.best is None or loss < self.best[0]
            if better:
                self.best = (loss, step)
            progress.say(
                f"epoch {epoch}/{self.settings.epochs}: validation loss {loss:.5f}, "
                f"{scores.describe()}" + (", best so far" if better else "")
            )
            if self.plateau.update(loss):
                state = state.replace(rate_scale=jax.numpy.float32(self.plateau.scale))
                waited = plural(self.plateau.patience, "epoch")
                progress.say(
                    f"no better for {waited}: the learning rate is now {self.plateau.scale:g} "
                    "times the schedule's"
                )
            if self.patience.update(loss) and epoch < self.settings.epochs:
                self.stopped_early = True
                waited = plural(self.patience.patience, "epoch")
                progress.say(f"no better for {waited}: training ends early")
        # Before the pictures: what goes wrong there must not count this epoch twice.
        self.validated_epochs = epoch
        self._save(state, step, loss)
        every, last = self.settings.sample_every, step == self.total_steps or self.stopped_early
        if every and (epoch % every == 0 or last):
            with memory_advice(_LESS_MEMORY):
                self.sample_pictures = self.samples.write(state.evaluated, step, epoch)
        hand_back_freed_memory()
        return state

    def _sums(self) -> Sums:
        classes = len(self.dataset.classes)
        return Classes(classes) if classes else Forecasts()

    def _warn(self, batch: Batch, progress: Progress) -> None:
        """Says, before the first step, what these settings are known to end in."""
        clips = np.asarray(self.dataset.values.scale(np.asarray(batch.inputs)))
        for warning in warnings_for(self.config, clips):
            progress.say(f"warning: {warning}")

    def _begin_from(self, run: Path, state: TrainState) -> TrainState:
        """The weights of another run, with an optimizer that has taken no step."""
        with Checkpoints(run / CHECKPOINTS_NAME) as checkpoints:
            step = checkpoints.choose("best")
            variables = checkpoints.load(step, {"variables": state.variables})["variables"]
        print(f"starting from the weights of {run}, step {step}", flush=True)
        key = jax.random.wrap_key_data(state.key)
        return begin(jax.device_put(variables), self.optimizer, key, self.settings.ema)

    def _save(self, state: TrainState, step: int, val_loss: float | None) -> None:
        meta = {
            "format_version": FORMAT_VERSION,
            "step": step,
            "key": np.asarray(state.key).tolist(),
            "validated_epochs": self.validated_epochs,
            "best": None if self.best is None else {"loss": self.best[0], "step": self.best[1]},
            "plateau": self.plateau.to_json(),
            "patience": self.patience.to_json(),
            "stopped_early": self.stopped_early,
            "sampling_steps": getattr(self.task, "sampling_steps", None),
            "config": self.config.to_json(),
            "values": self.dataset.values.to_json(),
            "channels": self.channels,
            "classes": list(self.dataset.classes),
            "frame_shape": list(self.frame_shape),
            "data_fingerprint": self.fingerprint,
        }
        items = {
            "variables": state.evaluated,
            "opt_state": state.opt_state,
            "meta": meta,
            "data": {"next_index": self.position, "windows": len(self.windows)},
        }
        if state.average is not None:
            items["trained"] = state.variables["params"]
        self.checkpoints.save(step, items, val_loss)
        self.saved_step = step

    def _restore(self, state: TrainState) -> tuple[TrainState, int]:
        """The newest checkpoint's state and the loader's position."""
        step = self.checkpoints.choose("last")
        meta, data = self.checkpoints.load_meta(step), self.checkpoints.load_data(step)
        changed = f"{self.folder.path}: the data have changed since step {step} was saved: "
        if data["windows"] != len(self.windows):
            counts = f"{data['windows']} training windows then, {len(self.windows)} now"
            raise CheckpointError(changed + counts)
        if meta["data_fingerprint"] != self.fingerprint:
            changed += "they hold other values"
            if self.config.data.dataset != "array" or self.config.data.data is not None:
                raise CheckpointError(f"{changed}; --init-from starts a new run from its weights")
            # Objects in memory may draw theirs anew each time.
            print(f"warning: {changed}", flush=True)
        expected = {"variables": state.variables, "opt_state": state.opt_state}
        if state.average is not None:
            expected["trained"] = state.average
        items = jax.device_put(self.checkpoints.load(step, expected))
        self.validated_epochs = meta["validated_epochs"]
        self.best = None if meta["best"] is None else (meta["best"]["loss"], meta["best"]["step"])
        self.plateau = self.plateau.restored(meta["plateau"])
        self.patience = self.patience.restored(meta["patience"])
        # More patience than before may go on.
        self.stopped_early = meta["stopped_early"] and self.patience.over
        if isinstance(self.task, Forecasting):
            # More epochs must not bring back true frames that were gone already.
            self.task = dataclasses.replace(self.task, sampling_steps=meta["sampling_steps"])
        self.saved_step = step
        print(f"going on from step {step} of {self.total_steps} in {self.folder.path}", flush=True)
        variables, average = items["variables"], None
        if state.average is not None:
            average = variables["params"]
            variables = {**variables, "params": items["trained"]}
        state = state.replace(
            step=jax.numpy.int32(step),
            variables=variables,
            opt_state=items["opt_state"],
            key=jax.numpy.asarray(meta["key"], state.key.dtype),
            rate_scale=jax.numpy.float32(self.plateau.scale),
            average=average,
        )
        return state, data["next_index"]
