"""Trains a ConvLSTM that predicts pictures from pictures.

python train.py                             # generated moving squares
python train.py --data DIR --out RUN        # your own pictures, arrays or videos
python train.py --data DIR --out RUN --resume auto
"""

import dataclasses
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from jaxconvlstm.config.presets import PRESETS, describe, preset
from jaxconvlstm.config.run import (
    CLASSIFIERS,
    FORECASTERS,
    Config,
    DataConfig,
    ModelConfig,
    TrainingConfig,
    flag,
    read_settings,
)
from jaxconvlstm.data.dataset import for_other_data, guess_dataset
from jaxconvlstm.errors import ConfigError
from jaxconvlstm.tools import cli


@dataclasses.dataclass(frozen=True)
class Arguments:
    """What `train.py` takes beside the configuration."""

    data: DataConfig
    model: ModelConfig
    training: TrainingConfig
    out: Path | None = None
    """Run folder; by default a fresh runs/NAME-TIME."""
    resume: Literal["auto", "must"] | None = None
    """auto: start, or go on where the run in --out stopped. must: only go on."""
    preset: str | None = None
    """Defaults by name, as listed above. By default as --dataset and --data say; for data of your
    own that is folder."""
    config: Path | None = None
    """JSON file with defaults: any flags of this list, with underscores for dashes."""
    debug: bool = False
    """Show the traceback of an error."""

    @property
    def run(self) -> Config:
        """The configuration as a whole."""
        return Config(self.data, self.model, self.training)


def parse(arguments: Sequence[str]) -> Arguments:
    """Flags over the configuration file or the run to resume, over the preset."""
    names = "--preset --config --dataset --data --labels --model --out --resume --init-from"
    first = cli.peek(arguments, *names.split())
    from jaxconvlstm.runs.folder import holds_run, read_config

    if first["--config"]:
        # What chooses the preset and the network may stand in the file.
        given = read_settings(Path(first["--config"]))
        for section in ("data", "model"):
            given |= given[section] if isinstance(given.get(section), dict) else {}
        for name in ("dataset", "data", "labels", "model"):
            if first[flag(name)] is None and isinstance(given.get(name), str):
                first[flag(name)] = given[name]
    named = first["--config"] or first["--preset"]
    if first["--resume"] and first["--out"] and holds_run(Path(first["--out"])) and not named:
        config = read_config(Path(first["--out"]))
        training = dataclasses.replace(config.training, max_steps=None, max_hours=None)
        default = Arguments(config.data, config.model, training)
    else:
        name = first["--preset"] or _preset_for(first)
        config = preset(name)
        model = config.model
        if first["--init-from"]:
            # The network is the one that the weights are of.
            model = read_config(Path(first["--init-from"])).model
            if first["--preset"] and model.model != config.model.model:
                raise ConfigError(
                    f"--init-from {first['--init-from']}: its weights are those of --model "
                    f"{model.model}, the network of --preset {name} is {config.model.model}"
                )
        default = Arguments(_data_for(config.data, first), model, config.training, preset=name)
        if first["--model"]:
            default = _with_model(default, first["--model"])
        if first["--config"]:
            config = Config.load(Path(first["--config"]), default)
            default = Arguments(config.data, config.model, config.training, preset=name)
    listed = "\n".join(f"  {name}: {describe(name)}" for name in PRESETS)
    return cli.parse(Arguments, arguments, default, f"{__doc__}\nPresets:\n\n{listed}\n")


def _with_model(default: Arguments, model: str) -> Arguments:
    """Another network, with the loss that its task has and no feeding back where it has none."""
    training = default.training
    if model in (*CLASSIFIERS, *FORECASTERS):
        training = dataclasses.replace(
            training, supervise="targets", sampling="free", sampling_steps=None
        )
    if (model in CLASSIFIERS) != (training.loss == "cross-entropy"):
        loss = "cross-entropy" if model in CLASSIFIERS else TrainingConfig.loss
        training = dataclasses.replace(training, loss=loss)
    return dataclasses.replace(default, model=default.model.of_kind(model), training=training)


def _preset_for(flags: dict[str, str | None]) -> str:
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


def _data_for(data: DataConfig, flags: dict[str, str | None]) -> DataConfig:
    """The preset's data, of the kind that the flags name."""
    dataset = flags["--dataset"]
    if dataset is None and flags["--data"] and data.dataset in ("folder", "array", "video"):
        dataset = guess_dataset(flags["--data"])
    return data if dataset in (None, data.dataset) else for_other_data(data, dataset)


def main(arguments: Sequence[str]) -> None:
    """Parses, trains, and names what was made."""
    parsed = parse(arguments)
    config = parsed.run  # settings that cannot work together fail here

    # Imported late, so that --help and a mistyped flag answer sooner.
    from jaxconvlstm.device import describe_device, gpu_warning
    from jaxconvlstm.runs.folder import default_folder
    from jaxconvlstm.training.trainer import fit

    print(describe_device(), flush=True)
    if parsed.preset is not None:
        print(f"preset: {parsed.preset}, with what flags change", flush=True)
    if warning := gpu_warning():
        print(warning, flush=True)
    out = parsed.out or default_folder(config.data.dataset)
    result = fit(config, out, parsed.resume)

    if result.best is not None:
        print(f"best validation loss {result.best[0]:.5f} at step {result.best[1]}")
    for picture in result.pictures:
        print(f"picture: {picture}")
    print(f"run folder: {result.folder}")
    folder = shlex.quote(str(result.folder))
    if not result.finished:
        print(f"to go on: python train.py --out {folder} --resume auto")
    print(f"next: python eval.py {folder}")
