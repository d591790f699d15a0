"""Training a model: `fit(config, out)`, which `train.py` and a notebook both call."""

import dataclasses
import time
from functools import partial
from pathlib import Path
from typing import Any

from jaxconvlstm import models
from jaxconvlstm.config.run import Config
from jaxconvlstm.data.augment import Augmentation
from jaxconvlstm.data.dataset import Dataset, open_dataset
from jaxconvlstm.data.fingerprint import check_targets, fingerprint
from jaxconvlstm.data.loader import TrainLoader
from jaxconvlstm.errors import CheckpointError, ConfigError
from jaxconvlstm.messages import say
from jaxconvlstm.runs.checkpoint import Checkpoints
from jaxconvlstm.runs.edits import check_not_edited, split_digest
from jaxconvlstm.runs.folder import CHECKPOINTS_NAME, RunFolder, holds_run, read_config, read_split
from jaxconvlstm.scale import Values
from jaxconvlstm.task import Forecasting, make_task
from jaxconvlstm.training.loop import Loop
from jaxconvlstm.training.optimizer import make_optimizer
from jaxconvlstm.training.resume import SavedRun, begin_from, check_same_run, with_absolute_paths
from jaxconvlstm.training.signals import StopSignals
from jaxconvlstm.training.step import init_state, make_train_step
from jaxconvlstm.training.validation import Validation
from jaxconvlstm.training.warnings import warnings_for


@dataclasses.dataclass(frozen=True)
class FitResult:
    """Outcome of a call of `fit`.

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


def fit(
    config: Config,
    out: Path,
    resume: str | None = None,
    data: Any = None,
    edited: bool = False,
) -> FitResult:
    """Trains a model and leaves a run folder.

    Args:
      config: data, network and training; the whole description of the run.
      out: the run folder.
      resume: None starts a new run, "auto" starts or goes on, "must" only goes on. A run that is
        finished is left as it is.
      data: sequences in memory instead of the files of `config.data.data`: an array, or any object
        with `__len__` and `__getitem__` whose items are `[time, height, width]` or
        `[time, height, width, channels]`; see `data.sources.arrays.array_frames`.
      edited: go on by `config.json` and `split.json` although they are not what the newest
        checkpoint was saved with.

    Raises:
      ConfigError: a setting cannot work, or is not that of the run to resume.
      DataError, CheckpointError, NonFiniteError, ResourceError: see `jaxconvlstm.errors`.
      Interrupted: a signal asked to stop; everything is saved.
    """
    began = time.monotonic()
    out = Path(out)
    config = _with_places(config, out, in_memory=data is not None)
    dataset = None
    if not holds_run(out) and resume != "must":
        # Before the folder is made: data that cannot be used must not leave a run behind. And
        # before signals are only noted: there is nothing to save yet.
        dataset = open_dataset(config.data, config.training.seed, data=data)
    with RunFolder(out, resume=resume) as folder:
        # Only now does the folder stay as it is: until here another process may have had it.
        if holds_run(out):
            check_same_run(read_config(out), config, out)
            measured = _measured(out, edited)
            dataset = open_dataset(config.data, config.training.seed, data=data, **measured)
        elif dataset is None:
            raise CheckpointError(f"{out}: the run in it was removed meanwhile")
        with StopSignals() as stop:
            for note in dataset.notes:
                say(note)
            result = _train(config, dataset, folder, stop, began)
            stop.check()  # a signal that came after the last step was noted, too
            return result


def _train(
    config: Config, dataset: Dataset, folder: RunFolder, stop: StopSignals, began: float
) -> FitResult:
    """Makes the parts of a run, brings them to where it was, and takes its steps."""
    data, training = config.data, config.training
    dense_targets = training.supervise == "all"
    windows = dataset.windows("train", dense_targets=dense_targets)
    held_out = dataset.windows("val", dense_targets=dense_targets) if data.split.val > 0 else None
    frame_shape = _frame_shape(config, dataset)
    module = models.build(config.model, frame_shape[-1], len(dataset.classes))
    # Of a few windows, so that a resumed run notices other data in the place of its own.
    digest = fingerprint(windows, data.read_timeout, stop.check)
    open_loader = partial(
        TrainLoader,
        windows,
        training.batch_size,
        training.seed,
        threads=training.threads,
        augmentation=Augmentation(data),
        timeout=data.read_timeout,
        check=stop.check,
    )
    with open_loader() as loader:  # checks batch and crop before anything is compiled
        steps_per_epoch = training.steps_per_epoch or loader.batches_per_epoch
    total_steps = training.epochs * steps_per_epoch
    optimizer = make_optimizer(training, total_steps, steps_per_epoch)
    if not dataset.classes:
        check_targets(windows, dataset.values, data.read_timeout, stop.check)
    task = make_task(module, dataset.values, config, total_steps)
    validation = Validation(
        held_out=held_out,
        dataset=dataset,
        task=task,
        data=data,
        training=training,
        steps_per_epoch=steps_per_epoch,
        folder=folder,
        check_stop=stop.check,
    )
    frames_per_window = data.input_frames + (0 if dataset.classes else data.target_frames)
    about = {
        "config": config.to_json(),
        "values": dataset.values.to_json(),
        "channels": frame_shape[-1],
        "classes": list(dataset.classes),
        "frame_shape": list(frame_shape),
        "data_fingerprint": digest,
        "split_digest": split_digest(dataset.split_record()),
    }
    with Checkpoints(folder.checkpoints, writable=True) as checkpoints:
        saved = SavedRun(checkpoints, folder.path, about, len(windows))
        state = init_state(module, optimizer, frame_shape, training.seed, training.ema)
        position = 0
        if checkpoints.steps():
            in_memory = data.dataset == "array" and data.data is None
            state, position, counters = saved.restore(state, in_memory)
            validation.restore(counters)
            if isinstance(task, Forecasting):
                # More epochs must not bring back true frames that were gone already.
                task = dataclasses.replace(task, sampling_steps=counters["sampling_steps"])
            say(f"going on from step {saved.step} of {total_steps} in {folder.path}")
        elif training.init_from is not None:
            state = begin_from(Path(training.init_from), state, optimizer, training.ema)
        step = int(state.step)
        pictures: list[Path] = []
        if validation.is_over(step) and not validation.is_due(step):
            reason = ", as the validation loss got no better" if validation.stopped_early else ""
            say(f"{folder.path}: finished already, at step {step}{reason}")
        else:
            # Only now: a folder whose run cannot go on stays as it is.
            folder.write_config(config)
            folder.write_split(dataset.split_record())
            folder.rewind_metrics(step, validated=not validation.is_due(step))
            folder.open_events(step)
            with open_loader(start=position) as batches:
                step = Loop(
                    state=state,
                    position=position,
                    batches=batches,
                    train_step=make_train_step(task, optimizer, training.ema),
                    task=task,
                    training=training,
                    steps_per_epoch=steps_per_epoch,
                    frames_per_window=frames_per_window,
                    validation=validation,
                    saved=saved,
                    folder=folder,
                    stop=stop,
                    began=began,
                    warn=partial(warnings_for, config),
                ).run()
            pictures = validation.pictures + folder.draw_history()
        checkpoints.wait()  # the last save goes on in a thread
        folder.check_in_place()
        finished = validation.is_over(step)
        return FitResult(folder.path, step, finished, validation.best, pictures)


def _with_places(config: Config, out: Path, in_memory: bool) -> Config:
    """The configuration with absolute paths, none of which leads to what is written."""
    if in_memory:
        data = dataclasses.replace(config.data, dataset="array", data=None)
        config = dataclasses.replace(config, data=data)
    config = with_absolute_paths(config)
    place = config.data.data
    if place is not None and out.resolve().is_relative_to(Path(place).resolve()):
        raise ConfigError(f"--out {out}: lies in --data, where its pictures would be read")
    return config


def _measured(out: Path, edited: bool) -> dict[str, Any]:
    """What a run found in its data once and for all: their split, scale and classes."""
    split = read_split(out)
    with Checkpoints(out / CHECKPOINTS_NAME) as checkpoints:
        step = checkpoints.choose("last")
        meta = checkpoints.load_meta(step)
    if not edited:
        check_not_edited(out, step, meta)
    return {
        "split": split,
        "values": Values.from_json(meta["values"]),
        "classes": tuple(meta["classes"]),
    }


def _frame_shape(config: Config, dataset: Dataset) -> tuple[int, int, int]:
    """Height, width and channels of the frames that weights are made for.

    Raises:
      ConfigError: the network is made for one frame size, and would see several.
    """
    data = config.data
    height, width, channels = dataset.frame_shape
    # Convolutions fit frames of any size; spatial peepholes and dense layers have weights for one.
    trained, evaluated = data.crop or (height, width), data.tile or (height, width)
    if config.model.fixes_frame_size and {trained, evaluated} != {(height, width)}:
        raise ConfigError(
            "--crop and --tile: the network is made for one frame size (as of --model "
            f"{config.model.model}, or by --peephole spatial)"
        )
    return (*trained, channels)
