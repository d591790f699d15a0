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

from jaxconvlstm import cli
from jaxconvlstm.config import Config, DataConfig, ModelConfig, TrainingConfig
from jaxconvlstm.data.datasets import guess_dataset
from jaxconvlstm.presets import preset


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
    """Defaults by name: moving-squares, or folder, which is for all data of your own. By default
    as --dataset and --data say."""
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
    names = ("--preset", "--config", "--dataset", "--data", "--out", "--resume")
    first = cli.peek(arguments, *names)
    from jaxconvlstm.run_folder import holds_run, read_config

    named = first["--config"] or first["--preset"]
    if first["--resume"] and first["--out"] and holds_run(Path(first["--out"])) and not named:
        defaults = read_config(Path(first["--out"]))
    else:
        defaults = preset(first["--preset"] or _preset_for(first))
        if not first["--preset"] and first["--data"] and not first["--dataset"]:
            dataset = guess_dataset(first["--data"])
            defaults = dataclasses.replace(
                defaults, data=dataclasses.replace(defaults.data, dataset=dataset)
            )
        if first["--config"]:
            defaults = Config.load(Path(first["--config"]), defaults)
    default = Arguments(defaults.data, defaults.model, defaults.training)
    return cli.parse(Arguments, arguments, default, __doc__ or "")


def _preset_for(flags: dict[str, str | None]) -> str:
    """Generated films have a preset of their own; every kind of real data has one in common."""
    generated = flags["--dataset"] in (None, "moving-squares") and not flags["--data"]
    return "moving-squares" if generated else "folder"


def main(arguments: Sequence[str]) -> None:
    """Parses, trains, and names what was made."""
    parsed = parse(arguments)
    config = parsed.run  # settings that cannot work together fail here

    # Imported late, so that --help and a mistyped flag answer sooner.
    from jaxconvlstm.device import describe_device, gpu_warning
    from jaxconvlstm.run_folder import default_folder
    from jaxconvlstm.trainer import fit

    print(describe_device(), flush=True)
    if warning := gpu_warning():
        print(warning, flush=True)
    out = parsed.out or default_folder(config.data.dataset)
    result = fit(config, out, parsed.resume)

    if result.best is not None:
        print(f"best validation loss {result.best[0]:.5f} at step {result.best[1]}")
    for picture in result.pictures:
        print(f"picture: {picture}")
    print(f"run folder: {result.folder}")
    print(f"next: python eval.py {shlex.quote(str(result.folder))}")


if __name__ == "__main__":
    cli.run(main)
