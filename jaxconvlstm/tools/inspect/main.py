"""Describe data and how they would be read, before anything is trained.

python -m jaxconvlstm inspect --data DIR

python -m jaxconvlstm inspect --data radar.nc --input-frames 4 --target-frames 12 --nan mask

It prints sizes, values, gaps, windows and what looks like a mistake, scores persistence (repeating
the last frame), and writes a contact sheet and an animation. It takes the data flags of train.py.
"""

import dataclasses
import re
import shlex
import statistics
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from jaxconvlstm.checks import plural
from jaxconvlstm.config.data import DataConfig
from jaxconvlstm.config.presets import preset
from jaxconvlstm.data.dataset import guess_dataset, open_dataset
from jaxconvlstm.data.frames_dataset import FramesDataset
from jaxconvlstm.data.sources.base import Frames
from jaxconvlstm.data.windows import SPLIT_NAMES
from jaxconvlstm.errors import ConfigError, DataError
from jaxconvlstm.messages import printable, say
from jaxconvlstm.scale import Values
from jaxconvlstm.tools import cli
from jaxconvlstm.tools.inspect.pictures import draw_pictures
from jaxconvlstm.tools.inspect.survey import Survey, persistence_errors, survey_frames
from jaxconvlstm.tools.inspect.warnings import find_warnings, percent, plain

NAMES_SHOWN = 5


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Flags of `inspect`."""

    data: DataConfig
    out: Path | None = None
    """Folder for the pictures; by default runs/inspect-NAME, beside the data if that is in them."""
    samples: int = 8
    """Rows of the contact sheet; 0 writes no pictures."""
    debug: bool = False
    """Show the traceback of an error."""


def parse(arguments: Sequence[str]) -> Arguments:
    """Parse the flags; the preset for real data gives the others."""
    default = preset("folder").data
    first = cli.peek(arguments, "--data", "--dataset")
    if first["--data"] and not first["--dataset"]:
        default = dataclasses.replace(default, dataset=guess_dataset(first["--data"]))
    parsed = cli.parse(Arguments, arguments, Arguments(default), __doc__ or "")
    if parsed.samples < 0:
        raise ConfigError(f"--samples: expected 0 or more, got {parsed.samples}")
    if parsed.data.dataset.startswith("moving-"):
        raise ConfigError(f"--dataset {parsed.data.dataset}: is generated, with nothing to inspect")
    if parsed.data.data is None:
        raise ConfigError(
            "expected --data, a folder or file: python -m jaxconvlstm inspect --data DIR"
        )
    return parsed


def main(arguments: Sequence[str]) -> None:
    """Print the report and write the pictures.

    Raises:
      ConfigError: a flag that cannot work.
      DataError: the data cannot be read, or are too short for training; the report is printed
        before as far as it goes.
    """
    parsed = parse(arguments)
    config = parsed.data
    assert config.data is not None
    out = output_folder(parsed.out, config.data) if parsed.samples else None
    dataset = open_dataset(config, seed=0)
    assert isinstance(dataset, FramesDataset)
    frames, values = dataset.frames, dataset.values
    print_source(config, frames)
    survey = survey_frames(frames, values)
    print_values(survey, values)
    # The last note is a summary of what is printed here at more length.
    for index, note in enumerate(dataset.notes[:-1]):
        row("" if index else "notes", note)
    fault = print_windows(dataset, config)
    if not dataset.classes:
        print_persistence(dataset, survey, config.horizon)
    warnings = find_warnings(survey, frames, values, config) or ["nothing looks wrong"]
    for index, warning in enumerate(warnings):
        row("" if index else "to check", warning)
    if out is not None:
        for path in draw_pictures(dataset, survey, config, parsed.samples, out):
            say(f"wrote {path}")
    # Last, so that the report and the pictures show why.
    if fault is not None:
        raise fault
    say(f"next: {next_command(arguments, config)}")


def output_folder(given: Path | None, data: str) -> Path:
    """The folder for pictures: never in the data, where they would be read as frames.

    Args:
      given: --out, if it was given.
      data: --data.

    Raises:
      ConfigError: the folder that was asked for lies in the data.
    """
    place = Path(data).resolve()
    if given is not None:
        if given.resolve().is_relative_to(place):
            raise ConfigError(f"--out {given}: lies in --data, where its pictures would be read")
        return given
    name = re.sub(r"[^\w.-]+", "-", printable(place.stem if place.is_file() else place.name))
    folder = Path("runs") / f"inspect-{name.strip('.-') or 'data'}"
    return place.parent / folder.name if folder.resolve().is_relative_to(place) else folder


def row(label: str, text: str) -> None:
    """Print one line of the report; its label is empty where the line above has the same."""
    say(f"{label:<12} {text}".rstrip())


def print_source(config: DataConfig, frames: Frames) -> None:
    """Print where frames come from, how many there are and of what kind."""
    row("source", f"{printable(config.data or '')} (--dataset {config.dataset})")
    for name, text in frames.details.items():
        row(name, text)
    lengths = list(frames.lengths)
    if len(lengths) > 1:
        middle = f"median {statistics.median(lengths):g}"
        found = f"{len(lengths)}: shortest {min(lengths)}, {middle}, longest {max(lengths)} frames"
    else:
        found = f"1, of {lengths[0]} frames"
    row("sequences", found)
    shown = [f"{frames.names[i]} ({lengths[i]})" for i in range(min(len(lengths), NAMES_SHOWN))]
    more = len(lengths) - len(shown)
    row("", ", ".join(shown) + (f" and {more} more" if more else ""))
    height, width, channels = frames.frame_shape
    kind = plural(channels, "channel")
    row("frames", f"{sum(lengths)} of {height}x{width} (height x width), {kind}, {frames.dtype}")
    if frames.splits is not None:
        given = (f"{name} {frames.splits.count(name)}" for name in SPLIT_NAMES)
        row("parts", f"sequences that the data themselves put in {', '.join(given)}")
    if frames.groups is not None and (count := len(set(frames.groups))) < len(lengths):
        row("groups", f"{count}, of sequences that share frames and stay in one part")
    found = "none"
    gaps = [(sequence, place) for sequence, places in frames.gaps.items() for place in places]
    if gaps:
        sequence, place = gaps[0]
        found = (
            f"{len(gaps)} in {len({s for s, _ in gaps})} of {len(lengths)} sequences, the first "
            f"in {frames.names[sequence]} before frame {place} "
            f"({frames.frame_name(sequence, place)})"
        )
    row("gaps", found)
    if bad := sum(map(len, frames.bad.values())):
        row("bad frames", f"{bad}, which no window touches")


def print_values(survey: Survey, values: Values) -> None:
    """Print the values found, and the range that becomes 0 to 1."""
    unit = f" {values.unit}" if values.unit else ""
    looked = f"{survey.frames} frames looked at"
    if survey.valid:
        ends = f"{plain(survey.low)} to {plain(survey.high)}{unit}"
        found = f"{ends}, mean {survey.mean:.4g} ({looked})"
    else:
        found = f"none that is not missing ({looked})"
    row("values", found)
    row("", f"missing: {percent(1 - survey.valid / max(survey.values, 1))} of the values")
    scale = "logarithmic, " if values.log else ""
    scale += "then shifted and spread by channel, " if values.mean else ""
    outside = percent(survey.outside / max(survey.valid, 1))
    row("value range", f"{values.describe()}, which become 0 and 1 ({scale}{outside} outside)")


def print_windows(dataset: FramesDataset, config: DataConfig) -> DataError | None:
    """Print the number of windows; return the error if there are none to train on."""
    kind = f"of {config.input_frames} input and {config.target_frames} target frames"
    try:
        count = len(dataset.windows("all"))
    except DataError as error:
        row("windows", f"none {kind}")
        return error
    row("windows", f"{count} {kind} in all data")
    try:
        given = {name: dataset.windows(name) for name in SPLIT_NAMES if dataset.splits[name]}
    except DataError as error:
        row("", "no division into training, validation and test")
        return error
    row("", "divided: " + ", ".join(f"{name} {len(part)}" for name, part in given.items()))
    return None


def print_persistence(dataset: FramesDataset, survey: Survey, horizon: int) -> None:
    """Print the errors that a model has to beat: those of repeating the last frame."""
    if survey.pairs:
        change = percent(survey.mean_change)
        row("motion", f"values change by {change} of their range from one frame to the next")
    try:
        windows = dataset.windows("all")
    except DataError:
        return
    mse, mae, count = persistence_errors(windows, dataset.values)
    looked = plural(count, "window")
    row("persistence", f"error of repeating the last frame, as eval.py scores it ({looked})")
    row("", f"{'lead':<7}{'MSE':>10}{'MAE':>10}")
    for lead, (squared, absolute) in enumerate(zip(mse, mae), start=horizon):
        row("", f"{f'+{lead}':<7}{squared:>10.4g}{absolute:>10.4g}")
    if len(mse) > 1 and np.isfinite([mse[0], mse[-1]]).all():
        if mse[-1] > 1.05 * mse[0]:
            row("", f"the MSE grows from {mse[0]:.2g} to {mse[-1]:.2g}")
        else:
            row("", f"the MSE does not grow: from {mse[0]:.2g} to {mse[-1]:.2g}")


def next_command(arguments: Sequence[str], config: DataConfig) -> str:
    """The command that trains on the same data: the flags given, without those of `inspect`."""
    own, kept, skip = ("--out", "--samples"), [], False
    for argument in arguments:
        if skip:
            skip = False
        elif argument in own:
            skip = True  # Its value is the next argument.
        elif argument != "--debug" and not argument.startswith(tuple(f"{name}=" for name in own)):
            kept.append(argument)
    if not any(argument.split("=")[0] == "--dataset" for argument in kept):
        kept = ["--dataset", config.dataset, *kept]
    return "python train.py " + shlex.join(kept)
