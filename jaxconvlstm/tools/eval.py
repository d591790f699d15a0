"""Score a trained model on data it never saw, or predicts what comes next.

python eval.py RUN                                   # the test part of the run's own data
python eval.py RUN --data DIR                        # all of another folder
python eval.py RUN --data DIR --forecast 12 --out F  # the 12 frames after the last ones
"""

import dataclasses
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from jaxconvlstm.checks import check_positive
from jaxconvlstm.config.data import DataConfig
from jaxconvlstm.config.options import flag
from jaxconvlstm.config.run import Config
from jaxconvlstm.data.dataset import Dataset, for_other_data, guess_dataset, open_dataset
from jaxconvlstm.data.last_frames import LastFrames
from jaxconvlstm.errors import ConfigError
from jaxconvlstm.evaluation.compatibility import check_compatible, is_same_data, override_values
from jaxconvlstm.messages import say
from jaxconvlstm.runs.folder import read_config, read_split, write_json
from jaxconvlstm.tools import cli


@dataclasses.dataclass(frozen=True)
class Arguments:
    """What `eval.py` takes."""

    run: Annotated[Path, tyro.conf.Positional]
    """Run folder that train.py wrote."""
    data: DataConfig
    steps: int | None = None
    """Frames to predict; by default --eval-steps, or as many as in training."""
    every: bool = False
    """Also score what is predicted after each given frame, one step ahead."""
    forecast: int | None = None
    """Predict this many frames after the last ones of every sequence; needs no ground truth."""
    part: Literal["train", "val", "test", "all"] | None = None
    """Which part to score; by default test for the run's own data, all of any other."""
    which: str = "best"
    """Weights: best (lowest validation loss), last, or a step's number."""
    out: Path | None = None
    """Folder for scores and pictures; by default RUN/eval, or RUN/forecast."""
    batch_size: int | None = None
    """Windows per step; by default 8, or fewer where frames are large."""
    samples: int = 3
    """Windows to draw as strips and animations."""
    edited: bool = False
    """Go by config.json and split.json of the run although they were edited since training."""
    debug: bool = False
    """Show the traceback of an error."""


def parse(arguments: Sequence[str]) -> tuple[Arguments, DataConfig]:
    """The flags, with the run's own as defaults; and the run's own data configuration."""
    if {"-h", "--help"} & set(arguments):
        cli.parse(Arguments, ["--help"], Arguments(Path("RUN"), DataConfig()), __doc__ or "")
    if not arguments or arguments[0].startswith("-"):
        raise ConfigError("expected the run folder first: python eval.py RUN")
    run = Path(arguments[0])
    own = read_config(run).data
    default = dataclasses.replace(own, input_frames=own.eval_input_frames or own.input_frames)
    flags = cli.peek(arguments, "--data", "--dataset")
    dataset = flags["--dataset"] or (flags["--data"] and guess_dataset(flags["--data"]))
    if dataset not in (None, own.dataset):
        default = for_other_data(default, dataset)
    if flags["--data"] and not is_same_data(dataclasses.replace(own, data=flags["--data"]), own):
        # What chose some of the run's data says nothing about others.
        default = dataclasses.replace(default, sequences=None, split_file=None, limit=None)
    parsed = cli.parse(Arguments, arguments, Arguments(run, default), __doc__ or "")
    if (given := parsed.data.eval_input_frames) not in (None, own.eval_input_frames):
        data = dataclasses.replace(parsed.data, input_frames=given)
        parsed = dataclasses.replace(parsed, data=data)
    for name in ("steps", "forecast", "batch_size"):
        value = getattr(parsed, name)
        if value is not None:
            check_positive(flag(name), value)
    if parsed.samples < 0:
        raise ConfigError(f"--samples: expected 0 or more, got {parsed.samples}")
    if parsed.forecast is not None:
        for name in ("steps", "every", "part", "batch_size", "samples"):
            if getattr(parsed, name) != getattr(Arguments, name):
                raise ConfigError(f"--forecast: {flag(name)} is for scores only")
    return parsed, own


def main(arguments: Sequence[str]) -> None:
    """Parses, then scores or forecasts."""
    parsed, own = parse(arguments)
    from jaxconvlstm.device import describe_device, gpu_warning

    say(describe_device())
    if warning := gpu_warning():
        say(warning)
    if parsed.forecast is not None:
        forecast(parsed, own)
    else:
        score(parsed, own)


def load_run(parsed: Arguments) -> Any:
    """The run's model, if the files beside its checkpoint are what it was saved with."""
    from jaxconvlstm.evaluation.load import load
    from jaxconvlstm.runs.checkpoint import Checkpoints
    from jaxconvlstm.runs.edits import check_not_edited
    from jaxconvlstm.runs.folder import CHECKPOINTS_NAME

    model = load(parsed.run, parsed.which)
    if not parsed.edited:
        with Checkpoints(parsed.run / CHECKPOINTS_NAME) as checkpoints:
            # `load` has verified the step; of its files only `meta` is read once more.
            check_not_edited(parsed.run, model.step, checkpoints.load_meta(model.step))
    return model


def score(parsed: Arguments, own: DataConfig) -> None:
    """Scores a split: writes `metrics.json` and pictures, prints a table."""
    import jax

    from jaxconvlstm.device import describe_device, memory_advice
    from jaxconvlstm.evaluation.evaluate import Classes, Forecasts, evaluate, fitting_batch
    from jaxconvlstm.evaluation.report import ClassReport, FrameReport
    from jaxconvlstm.task import Forecasting, make_task

    model = load_run(parsed)
    config, data = model.config, parsed.data
    check_asked(parsed, own, config)
    changed = data.target_frames if data.target_frames != own.target_frames else None
    steps = parsed.steps or changed or data.eval_steps or data.target_frames
    # Of generated clips there is no end: the test part is as good as all.
    own_or_made = is_same_data(data, own) or data.dataset.startswith("moving-")
    part = parsed.part or ("test" if own_or_made else "all")
    dataset, values = open_data(parsed, own, model, part)
    for note in dataset.notes:
        say(note)
    if parsed.part is None and part == "all":
        say("scoring all of it; --part test leaves out what a model trained on it has seen")
    task = make_task(model.module, values, dataclasses.replace(config, data=data))
    sums: Classes | Forecasts = Classes(len(dataset.classes))
    if isinstance(task, Forecasting):
        task, sums = dataclasses.replace(task, dense_targets=parsed.every), Forecasts()
    windows = dataset.windows(part, data.input_frames, steps, dense_targets=parsed.every)
    out = output_folder(parsed, "eval")
    batch_size = parsed.batch_size or fitting_batch(8, data.tile or dataset.frame_shape)
    with memory_advice("try a smaller --batch-size, or --tile"):
        scored = evaluate(
            jax.jit(task.evaluate),
            model.variables,
            windows,
            sums,
            batch_size=batch_size,
            timeout=data.read_timeout,
        )
    scored.check_valid(f"the {part} part")
    known = {
        "loss": scored.loss,
        "loss_name": config.training.loss,
        "part": part,
        "input_frames": data.input_frames,
        "checkpoint_step": model.step,
        "value_range": values.describe(),
        "device": describe_device(),
    }
    say(
        f"{scored.count} windows of the {part} part, {data.input_frames} frames given, "
        f"weights of step {model.step}"
    )
    if isinstance(scored, Classes):
        report: ClassReport | FrameReport = ClassReport(model, values, windows, scored)
    else:
        first = 2 - data.input_frames if parsed.every else data.horizon
        known |= {"steps": steps, "horizon": first}
        shown = dataset.windows(part, data.input_frames, steps)
        report = FrameReport(model, values, shown, scored, data, steps, first)
    result = report.scores(batch_size)
    write_json(out / "metrics.json", {**result, **known})
    report.print(result)
    name_files([out / "metrics.json", *report.draw(result, parsed.samples, out)])


def check_asked(parsed: Arguments, own: DataConfig, config: Config) -> None:
    """Raises `ConfigError` for what would have no effect on this model's scores."""
    data = parsed.data
    for name in ("normalize", "transform"):
        if getattr(data, name) != getattr(own, name):
            raise ConfigError(f"{flag(name)}: the scale is the one that the model was trained with")
    if config.model.classifies and (parsed.steps or parsed.every):
        raise ConfigError("--steps and --every: the run's model names classes")
    if parsed.every and (not config.model.reads_predictions or data.horizon > 1):
        raise ConfigError("--every: needs a model that reads frames, and --horizon 1")


def open_data(parsed: Arguments, own: DataConfig, model: Any, part: str) -> tuple[Dataset, Any]:
    """The data to score, as the model reads them, and their scale."""
    data, is_own = parsed.data, is_same_data(parsed.data, own)
    if is_own:
        # What was held out is what the run held out, whatever is evaluated there.
        for name in ("split", "split_by", "split_file", "sequences", "frame_step", "horizon"):
            if getattr(data, name) != getattr(own, name) and part != "all":
                raise ConfigError(f"{flag(name)}: the run's own data are split as in training")
        data = dataclasses.replace(
            data, input_frames=own.input_frames, target_frames=own.target_frames
        )
    values = override_values(model.values, data, own)
    dataset = open_dataset(
        data,
        model.config.training.seed,
        split=read_split(parsed.run) if is_own else None,
        values=values,
        classes=getattr(model, "classes", None),
    )
    check_compatible(model, dataset.dtype, dataset.frame_shape, parsed.data, own)
    return dataset, values


def forecast(parsed: Arguments, own: DataConfig) -> None:
    """Writes the frames after the last ones of every sequence, as PNG and `.npy`."""
    import numpy as np

    from jaxconvlstm import plots
    from jaxconvlstm.evaluation.predictor import Predictor

    steps = parsed.forecast
    assert steps is not None
    predictor = load_run(parsed)
    if not isinstance(predictor, Predictor):
        raise ConfigError("--forecast: the run's model names classes; it predicts no frames")
    last = LastFrames(parsed.data, parsed.data.input_frames)
    for note in last.notes:
        say(note)
    check_compatible(predictor, last.dtype, last.frame_shape, parsed.data, own)
    values = override_values(predictor.values, parsed.data, own)
    values = dataclasses.replace(values, dtype=last.dtype.name)
    predictor = predictor.with_values(values)
    out = output_folder(parsed, "forecast")
    written: list[Path] = []
    folders: set[Path] = set()
    for number, (name, frames) in enumerate(last):
        future = predictor.predict(frames, steps, parsed.data.tile)
        folder = out if len(last) == 1 else out / safe_name(name)
        while folder in folders:  # another name may have become the same one, or this one
            folder = out / f"{folder.name}-{number}"
        folders.add(make_folder(folder))
        np.save(folder / "forecast.npy", future)
        given, shown = (values.to_unit(np.asarray(values.scale(part))) for part in (frames, future))
        # Bytes as they are; black and white, or other values, as a picture shows them.
        whole = future.dtype in (np.uint8, np.uint16) and parsed.data.threshold is None
        saved = future if whole else np.rint(shown.clip(0, 1) * 255).astype(np.uint8)
        digits = max(3, len(str(steps)))
        for index, picture in enumerate(saved, start=1):
            plots.save_frame(picture, folder / f"frame-{index:0{digits}}.png")
        plots.strip(given, shown, None, folder / "strip.png", title=f"{name}, forecast")
        plots.animation(given, shown, None, folder / "animation.gif")
        say(f"{name}: {steps} frames after the last of {len(frames)} given, in {folder}")
        written += [folder / "forecast.npy", folder / "strip.png", folder / "animation.gif"]
    name_files(written)


def output_folder(parsed: Arguments, name: str) -> Path:
    """Folder to write to: --out, or one in the run, or here if the run is read-only."""
    if parsed.out is not None:
        place = parsed.data.data
        if place is not None and parsed.out.resolve().is_relative_to(Path(place).resolve()):
            raise ConfigError(
                f"--out {parsed.out}: lies in --data, where its pictures would be read"
            )
        return make_folder(parsed.out)
    folder = parsed.run / name
    try:
        make_folder(folder)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError as error:
        beside = Path(f"{parsed.run.resolve().name}-{name}")
        say(f"{folder}: {error.strerror}; writing to {beside} instead, --out chooses")
        return make_folder(beside)


def make_folder(path: Path) -> Path:
    """Makes a folder that may be there already."""
    path.mkdir(parents=True, exist_ok=True)
    return path


def safe_name(name: str) -> str:
    """A sequence's name as the name of one folder."""
    return name.replace("/", "-").strip(".- ") or "sequence"


def name_files(paths: list[Path]) -> None:
    """Ends the run by saying what was written."""
    for path in paths:
        say(f"wrote {path}")
