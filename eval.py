"""Scores a trained model on data it never saw, or predicts what comes next.

python eval.py RUN                                   # the test part of the run's own data
python eval.py RUN --data DIR                        # all of another folder
python eval.py RUN --data DIR --forecast 12 --out F  # the 12 frames after the last ones
"""

import dataclasses
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from jaxconvlstm import cli
from jaxconvlstm.checks import check_positive
from jaxconvlstm.config import DataConfig, flag
from jaxconvlstm.errors import ConfigError, DataError
from jaxconvlstm.run_folder import read_config, write_json


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
    batch_size: int = 8
    """Windows per step."""
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
    if flags["--data"] and not flags["--dataset"]:
        default = dataclasses.replace(own, dataset="folder")
    elif flags["--dataset"] not in (None, own.dataset) and not flags["--data"]:
        default = dataclasses.replace(own, data=None, size=None)
    parsed = cli.parse(Arguments, arguments, Arguments(run, default), __doc__ or "")
    for name in ("steps", "forecast", "batch_size"):
        value = getattr(parsed, name)
        if value is not None:
            check_positive(flag(name), value)
    if parsed.samples < 0:
        raise ConfigError(f"--samples: expected 0 or more, got {parsed.samples}")
    if parsed.forecast is not None and (parsed.steps is not None or parsed.part is not None):
        raise ConfigError(
            "--forecast: says how many frames to predict; --steps and --part are for scores"
        )
    return parsed, own


def main(arguments: Sequence[str]) -> None:
    """Parses, then scores or forecasts."""
    parsed, own = parse(arguments)
    from jaxconvlstm.device import describe_device, gpu_warning

    print(describe_device(), flush=True)
    if warning := gpu_warning():
        print(warning, flush=True)
    if parsed.forecast is not None:
        forecast(parsed)
    else:
        score(parsed, own)


def score(parsed: Arguments, own: DataConfig) -> None:
    """Writes `metrics.json`, a table, curves, strips and animations."""
    import jax

    from jaxconvlstm.data.datasets import open_dataset
    from jaxconvlstm.device import describe_device
    from jaxconvlstm.evaluation import evaluate
    from jaxconvlstm.metrics import DEFINITIONS
    from jaxconvlstm.rollout import load
    from jaxconvlstm.training import make_eval_step

    predictor = load(parsed.run, parsed.which)
    steps = parsed.steps or parsed.data.target_frames
    data = parsed.data
    is_own = is_same_data(data, own)
    part = parsed.part or ("test" if is_own else "all")
    if is_own:
        # What was held out is what the run held out, whatever is evaluated there.
        for name in ("split", "split_by", "frame_step"):
            if getattr(data, name) != getattr(own, name) and part != "all":
                raise ConfigError(f"{flag(name)}: the run's own data are split as in training")
        data = dataclasses.replace(
            data, input_frames=own.input_frames, target_frames=own.target_frames
        )
    dataset = open_dataset(data, predictor.config.training.seed)
    check_frames(predictor, dataset.values, dataset.frame_shape[-1], parsed.data)
    for note in dataset.notes:
        print(note)
    if parsed.part is None and part == "all":
        print("scoring all of it; --part test leaves out what a model trained on it has seen")
    windows = dataset.windows(part, parsed.data.input_frames, steps)
    eval_step = jax.jit(
        make_eval_step(predictor.module, dataset.values, predictor.config.training.loss, steps)
    )
    result = evaluate(eval_step, predictor.variables, windows, batch_size=parsed.batch_size)
    speed = frames_per_second(predictor, dataset, windows, steps, parsed.batch_size)
    out = make_folder(parsed.out or parsed.run / "eval")
    per_lead = {"model": result.model.per_lead(), "persistence": result.persistence.per_lead()}
    model, persistence = result.model.means(), result.persistence.means()
    write_json(
        out / "metrics.json",
        {
            "model": model,
            "persistence": persistence,
            "per_lead": per_lead,
            "count": result.count,
            "frames_per_second": speed,
            "definitions": {key: DEFINITIONS[key] for key in model},
            "part": part,
            "input_frames": parsed.data.input_frames,
            "steps": steps,
            "checkpoint_step": predictor.step,
            "device": describe_device(),
        },
    )
    print(
        f"{result.count} windows of the {part} part, {parsed.data.input_frames} frames given, "
        f"weights of step {predictor.step}, {speed:.0f} frames/s"
    )
    print_table(per_lead, model, persistence)
    written = [out / "metrics.json", *draw(parsed, predictor, dataset, windows, steps, out)]
    written += draw_curves(per_lead, out / "curves.png")
    name_files(written)


def forecast(parsed: Arguments) -> None:
    """Writes the frames after the last ones of every sequence, as PNG and `.npy`."""
    import numpy as np

    from jaxconvlstm import pictures
    from jaxconvlstm.data.datasets import last_frames
    from jaxconvlstm.rollout import Predictor, load

    steps = parsed.forecast
    assert steps is not None
    predictor = load(parsed.run, parsed.which)
    values, sequences = last_frames(parsed.data, parsed.data.input_frames)
    check_frames(predictor, values, sequences[0][1].shape[-1], parsed.data)
    predictor = Predictor(
        predictor.module, predictor.variables, predictor.config, values, predictor.channels
    )
    out = make_folder(parsed.out or parsed.run / "forecast")
    written: list[Path] = []
    for number, (name, frames) in enumerate(sequences):
        future = predictor.predict(frames, steps)
        folder = out if len(sequences) == 1 else out / safe_name(name)
        if folder in [path.parent for path in written]:
            folder = out / f"{safe_name(name)}-{number}"
        make_folder(folder)
        np.save(folder / "forecast.npy", future)
        scaled = np.asarray(values.scale(future))
        whole = future.dtype.kind in "ui"
        shown = future if whole else np.rint(scaled.clip(0, 1) * 255).astype(np.uint8)
        digits = max(3, len(str(steps)))
        for index, picture in enumerate(shown, start=1):
            pictures.save_frame(picture, folder / f"frame-{index:0{digits}}.png")
        given = np.asarray(values.scale(frames))
        pictures.strip(given, scaled, None, folder / "strip.png", title=f"{name}, forecast")
        pictures.animation(given, scaled, None, folder / "animation.gif")
        print(f"{name}: {steps} frames after the last of {len(frames)} given, in {folder}")
        written += [folder / "forecast.npy", folder / "strip.png", folder / "animation.gif"]
    name_files(written)


def is_same_data(data: DataConfig, own: DataConfig) -> bool:
    """Whether these are the data that the model was trained on."""
    places = {
        None if config.data is None else Path(config.data).resolve() for config in (data, own)
    }
    return data.dataset == own.dataset and len(places) == 1


def check_frames(predictor: Any, values: Any, channels: int, config: DataConfig) -> None:
    """Raises `DataError` unless the data are of the kind that the model was trained on."""
    from jaxconvlstm.rollout import plural

    place = config.data or config.dataset
    if channels != predictor.channels:
        wanted = plural(predictor.channels, "channel")
        raise DataError(
            f"{place}: trained on {wanted}, got {channels}; "
            f"--channels {predictor.channels} reads the pictures so"
        )
    trained = predictor.values
    if values.dtype != trained.dtype and config.value_range is None:
        raise DataError(
            f"{place}: trained on {trained.dtype} from {trained.low:g} to {trained.high:g}, "
            f"got {values.dtype}; --value-range LO HI says what becomes 0 and 1"
        )


def draw(
    parsed: Arguments, predictor: Any, dataset: Any, windows: Any, steps: int, out: Path
) -> list[Path]:
    """Strips and animations of a few windows, spread over the data."""
    from jaxconvlstm import pictures
    from jaxconvlstm.evaluation import spread

    written = []
    scale = dataset.values.scale
    for number, index in enumerate(spread(parsed.samples, len(windows))):
        inputs, targets = (scale(frames) for frames in windows.read(0, index))
        predicted = predictor.predict_scaled(inputs[None], steps)[0]
        title = windows.name(index)
        pictures.strip(inputs, predicted, targets, out / f"strip-{number}.png", title=title)
        pictures.animation(inputs, predicted, targets, out / f"animation-{number}.gif")
        written += [out / f"strip-{number}.png", out / f"animation-{number}.gif"]
    return written


def draw_curves(per_lead: dict[str, Any], path: Path) -> list[Path]:
    """Scores over lead time, where Matplotlib is installed."""
    from jaxconvlstm import pictures

    try:
        pictures.curves(per_lead, path)
    except ImportError as error:
        print(f"no curves: {error}")
        return []
    return [path]


def frames_per_second(
    predictor: Any, dataset: Any, windows: Any, steps: int, batch_size: int
) -> float:
    """Predicted frames per second of the model alone, compiled: the median of three batches."""
    rows = min(batch_size, len(windows))
    inputs = dataset.values.scale(windows.read(0, 0)[0])[None].repeat(rows, axis=0)
    predictor.predict_scaled(inputs, steps)
    seconds = []
    for _ in range(3):
        began = time.perf_counter()
        predictor.predict_scaled(inputs, steps)
        seconds.append(time.perf_counter() - began)
    return rows * steps / statistics.median(seconds)


def print_table(
    per_lead: dict[str, Any], model: dict[str, float], persistence: dict[str, float]
) -> None:
    """Scores by lead time, persistence's in brackets; the ratio of the errors last."""
    from jaxconvlstm.metrics import DEFINITIONS

    keys = [key for key in DEFINITIONS if key in model]
    print(
        "lead  " + "".join(f"{key.upper() + ' (persistence)':>22}" for key in keys) + "   MSE ratio"
    )
    rows: list[tuple[Any, dict[str, float], dict[str, float]]] = [
        (
            lead + 1,
            {key: per_lead["model"][key][lead] for key in keys},
            {key: per_lead["persistence"][key][lead] for key in keys},
        )
        for lead in range(len(per_lead["model"]["mse"]))
    ]
    for lead, ours, theirs in [*rows, ("mean", model, persistence)]:
        cells = "".join(f"{f'{ours[key]:.4g} ({theirs[key]:.4g})':>22}" for key in keys)
        ratio = ours["mse"] / theirs["mse"] if theirs["mse"] else float("nan")
        print(f"{lead:<6}{cells}{ratio:>12.3f}")


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
