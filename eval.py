"""Scores a trained model on data it never saw, or predicts what comes next.

python eval.py RUN                                   # the test part of the run's own data
python eval.py RUN --data DIR                        # all of another folder
python eval.py RUN --data DIR --forecast 12 --out F  # the 12 frames after the last ones
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from jaxconvlstm import cli
from jaxconvlstm.checks import check_positive
from jaxconvlstm.config import DataConfig, flag
from jaxconvlstm.data.datasets import LastFrames, for_other_data, guess_dataset, open_dataset
from jaxconvlstm.errors import ConfigError, DataError
from jaxconvlstm.run_folder import read_config, read_split, write_json


@dataclasses.dataclass(frozen=True)
class Arguments:
    """What `eval.py` takes."""

    run: Annotated[Path, tyro.conf.Positional]
    """Run folder that train.py wrote."""
    data: DataConfig
    steps: int | None = None
    """Frames to predict; by default as many as in training."""
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
    default = own
    flags = cli.peek(arguments, "--data", "--dataset")
    dataset = flags["--dataset"] or (flags["--data"] and guess_dataset(flags["--data"]))
    if dataset not in (None, own.dataset):
        default = for_other_data(own, dataset)
    if flags["--data"] and not is_same_data(dataclasses.replace(own, data=flags["--data"]), own):
        # What chose some of the run's data says nothing about others.
        default = dataclasses.replace(default, sequences=None, split_file=None, limit=None)
    parsed = cli.parse(Arguments, arguments, Arguments(run, default), __doc__ or "")
    for name in ("steps", "forecast", "batch_size"):
        value = getattr(parsed, name)
        if value is not None:
            check_positive(flag(name), value)
    if parsed.samples < 0:
        raise ConfigError(f"--samples: expected 0 or more, got {parsed.samples}")
    if parsed.forecast is not None:
        for name in ("steps", "part", "batch_size", "samples"):
            if getattr(parsed, name) != getattr(Arguments, name):
                raise ConfigError(f"--forecast: {flag(name)} is for scores only")
    return parsed, own


def main(arguments: Sequence[str]) -> None:
    """Parses, then scores or forecasts."""
    parsed, own = parse(arguments)
    from jaxconvlstm.device import describe_device, gpu_warning

    print(describe_device(), flush=True)
    if warning := gpu_warning():
        print(warning, flush=True)
    if parsed.forecast is not None:
        forecast(parsed, own)
    else:
        score(parsed, own)


def score(parsed: Arguments, own: DataConfig) -> None:
    """Writes `metrics.json`, a table, curves, strips and animations."""
    import jax

    from jaxconvlstm import reporting
    from jaxconvlstm.device import describe_device
    from jaxconvlstm.evaluation import evaluate, fitting_batch
    from jaxconvlstm.rollout import load
    from jaxconvlstm.training import make_eval_step

    predictor = load(parsed.run, parsed.which)
    data, steps = parsed.data, parsed.steps or parsed.data.target_frames
    is_own = is_same_data(data, own)
    part = parsed.part or ("test" if is_own else "all")
    if is_own:
        # What was held out is what the run held out, whatever is evaluated there.
        for name in ("split", "split_by", "split_file", "sequences", "frame_step", "horizon"):
            if getattr(data, name) != getattr(own, name) and part != "all":
                raise ConfigError(f"{flag(name)}: the run's own data are split as in training")
        data = dataclasses.replace(
            data, input_frames=own.input_frames, target_frames=own.target_frames
        )
    values = values_for(predictor, parsed.data, own)
    dataset = open_dataset(
        data,
        predictor.config.training.seed,
        split=read_split(parsed.run) if is_own else None,
        values=values,
    )
    check_frames(predictor, dataset.dtype, dataset.frame_shape[-1], parsed.data, own)
    for note in dataset.notes:
        print(note)
    if parsed.part is None and part == "all":
        print("scoring all of it; --part test leaves out what a model trained on it has seen")
    windows = dataset.windows(part, parsed.data.input_frames, steps)
    batch_size = parsed.batch_size or fitting_batch(8, data.tile or dataset.frame_shape)
    loss = predictor.config.training.loss
    eval_step = jax.jit(
        make_eval_step(predictor.module, values, loss, steps, data.horizon, data.tile)
    )
    evaluation = evaluate(
        eval_step,
        predictor.variables,
        windows,
        batch_size=batch_size,
        timeout=data.read_timeout,
    )
    evaluation.check_valid(f"the {part} part")
    result = reporting.scores(evaluation)

    def predict(inputs: Any) -> Any:
        skipped = data.horizon - 1
        return predictor.predict_scaled(inputs, skipped + steps, data.tile)[:, skipped:]

    speed = reporting.frames_per_second(predict, values, windows, batch_size)
    out = make_folder(parsed.out or parsed.run / "eval")
    write_json(
        out / "metrics.json",
        {
            **result,
            "frames_per_second": speed,
            "part": part,
            "input_frames": parsed.data.input_frames,
            "steps": steps,
            "horizon": data.horizon,
            "checkpoint_step": predictor.step,
            "value_range": values.describe(),
            "device": describe_device(),
        },
    )
    print(
        f"{evaluation.count} windows of the {part} part, {parsed.data.input_frames} frames given, "
        f"weights of step {predictor.step}, {speed:.0f} frames/s"
    )
    reporting.print_table(result, data.horizon)
    if line := reporting.describe_error(result, values):
        print(line)
    written = [out / "metrics.json"]
    written += reporting.draw(predict, values, windows, parsed.samples, out)
    name_files([*written, *reporting.draw_curves(result, out / "curves.png")])


def forecast(parsed: Arguments, own: DataConfig) -> None:
    """Writes the frames after the last ones of every sequence, as PNG and `.npy`."""
    import numpy as np

    from jaxconvlstm import pictures
    from jaxconvlstm.rollout import Predictor, load

    steps = parsed.forecast
    assert steps is not None
    predictor = load(parsed.run, parsed.which)
    last = LastFrames(parsed.data, parsed.data.input_frames)
    for note in last.notes:
        print(note)
    check_frames(predictor, last.dtype, last.channels, parsed.data, own)
    values = dataclasses.replace(values_for(predictor, parsed.data, own), dtype=last.dtype.name)
    predictor = Predictor(
        predictor.module, predictor.variables, predictor.config, values, predictor.channels
    )
    out = make_folder(parsed.out or parsed.run / "forecast")
    written: list[Path] = []
    folders: set[Path] = set()
    for number, (name, frames) in enumerate(last):
        future = predictor.predict(frames, steps, parsed.data.tile)
        folder = out if len(last) == 1 else out / safe_name(name)
        if folder in folders:
            folder = out / f"{safe_name(name)}-{number}"
        folders.add(make_folder(folder))
        np.save(folder / "forecast.npy", future)
        given, shown = (values.display(np.asarray(values.scale(part))) for part in (frames, future))
        whole = future.dtype in (np.uint8, np.uint16)
        saved = future if whole else np.rint(shown.clip(0, 1) * 255).astype(np.uint8)
        digits = max(3, len(str(steps)))
        for index, picture in enumerate(saved, start=1):
            pictures.save_frame(picture, folder / f"frame-{index:0{digits}}.png")
        pictures.strip(given, shown, None, folder / "strip.png", title=f"{name}, forecast")
        pictures.animation(given, shown, None, folder / "animation.gif")
        print(f"{name}: {steps} frames after the last of {len(frames)} given, in {folder}")
        written += [folder / "forecast.npy", folder / "strip.png", folder / "animation.gif"]
    name_files(written)


def is_same_data(data: DataConfig, own: DataConfig) -> bool:
    """Whether these are the data that the model was trained on."""
    places = {
        None if config.data is None else Path(config.data).resolve() for config in (data, own)
    }
    return data.dataset == own.dataset and len(places) == 1 and data.variable == own.variable


def values_for(predictor: Any, data: DataConfig, own: DataConfig) -> Any:
    """The scale that the model was trained with, but for what the flags change."""
    values = predictor.values
    if data.value_range is not None and data.value_range != own.value_range:
        low, high = data.value_range
        values = dataclasses.replace(values, low=low, high=high)
    return dataclasses.replace(
        values,
        missing=data.missing_value,
        nan=values.nan or data.nan == "mask",
        unit=data.unit or values.unit,
    )


def check_frames(
    predictor: Any, dtype: Any, channels: int, data: DataConfig, own: DataConfig
) -> None:
    """Raises `DataError` unless the data are of the kind that the model was trained on."""
    from jaxconvlstm.rollout import plural

    place, trained = data.data or data.dataset, predictor.values
    if channels != predictor.channels:
        wanted = plural(predictor.channels, "channel")
        hint = f"; --channels {predictor.channels} reads them so" if channels in (1, 3) else ""
        raise DataError(f"{place}: trained on {wanted}, got {channels}{hint}")
    if dtype.name != trained.dtype and data.value_range in (None, own.value_range):
        raise DataError(
            f"{place}: trained on {trained.dtype} from {trained.low:g} to {trained.high:g}, "
            f"got {dtype.name}; --value-range LO HI says what becomes 0 and 1"
        )


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
        print(f"wrote {path}")


if __name__ == "__main__":
    cli.run(main)
