"""Train a ConvLSTM that predicts pictures from pictures.

python train.py                             # generated moving squares
python train.py --data DIR --out RUN        # your own pictures, arrays or videos
python train.py --data DIR --out RUN --resume auto
"""

import dataclasses
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from jaxconvlstm.config.data import DataConfig
from jaxconvlstm.config.model import ModelConfig
from jaxconvlstm.config.options import flag
from jaxconvlstm.config.presets import PRESETS, describe, preset
from jaxconvlstm.config.run import Config
from jaxconvlstm.config.training import TrainingConfig
from jaxconvlstm.data.dataset import for_other_data, guess_dataset
from jaxconvlstm.errors import ConfigError
from jaxconvlstm.json_files import read_object
from jaxconvlstm.messages import say
from jaxconvlstm.tools import cli

if TYPE_CHECKING:
    ModelFlags = Any
else:
    ModelFlags = cli.model_flags()

Flags = dict[str, str | None]


class Sections(NamedTuple):
    """A configuration on its way: its sections need not go together yet."""

    data: DataConfig
    model: ModelConfig
    training: TrainingConfig


@dataclasses.dataclass(frozen=True)
class Arguments:
    """The flags of `train.py`: the configuration, and where and how to run it."""

    data: DataConfig
    model: ModelFlags
    training: TrainingConfig
    out: Path | None = None
    """Run folder; by default a fresh runs/NAME-TIME."""
    resume: Literal["auto", "must"] | None = None
    """auto: start, or go on where the run in --out stopped. must: only go on."""
    edited: bool = False
    """With --resume: go by config.json and split.json of the run although they were edited."""
    preset: str | None = None
    """Defaults by name, as listed above. By default as --dataset and --data say; for data of your
    own that is folder."""
    config: Path | None = None
    """JSON file with defaults: any flags of this list, with underscores for dashes."""
    debug: bool = False
    """Show the traceback of an error."""


def parse(arguments: Sequence[str]) -> Arguments:
    """Reads the flags, over the defaults that some of them choose."""
    names = "--preset --config --dataset --data --labels --model --out --resume --init-from"
    default, name = _defaults(cli.peek(arguments, *names.split()))
    listed = "\n".join(f"  {name}: {describe(name)}" for name in PRESETS)
    description = f"{__doc__}\nPresets:\n\n{listed}\n"
    data, model, training = default
    flags = Arguments(data, cli.to_flags(model), training, preset=name)
    return cli.parse(Arguments, arguments, flags, description)


def _defaults(flags: Flags) -> tuple[Sections, str | None]:
    """The run to resume, or else the preset and the configuration file over it.

    Returns:
      The configuration, and the name of the preset if one was taken.
    """
    from jaxconvlstm.runs.folder import holds_run, read_config

    if flags["--config"]:
        flags = _with_file(flags, Path(flags["--config"]))
    out = Path(flags["--out"] or ".")
    resumes = flags["--resume"] and flags["--out"] and holds_run(out)
    if resumes and not (flags["--config"] or flags["--preset"]):
        config = read_config(out)
        training = dataclasses.replace(config.training, max_steps=None, max_hours=None)
        return Sections(config.data, config.model, training), None
    name = flags["--preset"] or _preset_for(flags)
    chosen = preset(name)
    data, model, training = _data_for(chosen.data, flags), chosen.model, chosen.training
    if flags["--init-from"]:
        # The network is the one that the weights are of.
        model = read_config(Path(flags["--init-from"])).model
        if flags["--preset"] and model.model != chosen.model.model:
            raise ConfigError(
                f"--init-from {flags['--init-from']}: its weights are those of --model "
                f"{model.model}, the network of --preset {name} is {chosen.model.model}"
            )
    if flags["--model"]:
        model = model.of_kind(flags["--model"])
        training = _training_for(model, training)
    default = Sections(data, model, training)
    if flags["--config"]:
        config = Config.load(Path(flags["--config"]), default)
        default = Sections(config.data, config.model, config.training)
    return default, name


def _with_file(flags: Flags, path: Path) -> Flags:
    """The flags that choose the preset and the network may stand in the file instead."""
    given = read_object(path)
    for section in ("data", "model"):
        given |= given[section] if isinstance(given.get(section), dict) else {}
    chosen = {
        flag(name): given[name]
        for name in ("dataset", "data", "labels", "model")
        if isinstance(given.get(name), str)
    }
    return {**flags, **{name: value for name, value in chosen.items() if flags[name] is None}}


def _training_for(model: ModelConfig, training: TrainingConfig) -> TrainingConfig:
    """The loss that a network's task has, and no feeding back where it has none."""
    if not model.reads_predictions:
        training = dataclasses.replace(
            training, supervise="targets", sampling="free", sampling_steps=None
        )
    if model.classifies != (training.loss == "cross-entropy"):
        loss = "cross-entropy" if model.classifies else TrainingConfig.loss
        training = dataclasses.replace(training, loss=loss)
    return training


def _preset_for(flags: Flags) -> str:
    """Generated clips have presets of their own; every kind of real data has one in common."""
    dataset, data = flags["--dataset"], flags["--data"]
    if flags["--labels"] == "folders":
        return "folder-classes"
    if dataset is None and data is not None:
        dataset = guess_dataset(data)
    return {
        None: "moving-squares",
        "moving-squares": "moving-squares",
        "moving-mnist": "moving-mnist",
        "moving-lines": "moving-lines-convlstm",
    }.get(dataset, "folder")


def _data_for(data: DataConfig, flags: Flags) -> DataConfig:
    """The preset's data, of the kind that the flags name."""
    dataset = flags["--dataset"]
    if dataset is None and flags["--data"] and data.dataset in ("folder", "array", "video"):
        dataset = guess_dataset(flags["--data"])
    return data if dataset in (None, data.dataset) else for_other_data(data, dataset)


def main(arguments: Sequence[str]) -> None:
    """Trains, and names what was made."""
    parsed = parse(arguments)
    # Settings that cannot work together fail here.
    config = Config(parsed.data, cli.to_model(parsed.model), parsed.training)

    # Imported late, so that --help and a mistyped flag answer sooner.
    from jaxconvlstm.device import describe_device, gpu_warning
    from jaxconvlstm.runs.folder import default_folder
    from jaxconvlstm.training.trainer import fit

    say(describe_device())
    if parsed.preset is not None:
        say(f"preset: {parsed.preset}, with what flags change")
    if warning := gpu_warning():
        say(warning)
    out = parsed.out or default_folder(config.data.dataset)
    result = fit(config, out, parsed.resume, edited=parsed.edited)

    if result.best is not None:
        say(f"best validation loss {result.best[0]:.5f} at step {result.best[1]}")
    for picture in result.pictures:
        say(f"picture: {picture}")
    say(f"run folder: {result.folder}")
    folder = shlex.quote(str(result.folder))
    if not result.finished:
        say(cli.as_started(f"to go on: python train.py --out {folder} --resume auto"))
    say(cli.as_started(f"next: python eval.py {folder}"))
