"""The configuration of a run as a whole, to and from JSON."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxconvlstm.config.data import DataConfig
from jaxconvlstm.config.model import FramePredictorConfig, ModelConfig
from jaxconvlstm.config.options import flag
from jaxconvlstm.config.training import TrainingConfig
from jaxconvlstm.errors import ConfigError
from jaxconvlstm.json_files import read_object

FORMAT_VERSION = 4


@dataclasses.dataclass(frozen=True)
class Config:
    """Everything that says how a run goes.

    Raises:
      ConfigError: the sections do not go together.
    """

    data: DataConfig = dataclasses.field(default_factory=DataConfig)
    model: ModelConfig = dataclasses.field(default_factory=FramePredictorConfig)
    training: TrainingConfig = dataclasses.field(default_factory=TrainingConfig)

    def __post_init__(self) -> None:
        kinds = {"data": DataConfig, "model": ModelConfig, "training": TrainingConfig}
        for name, kind in kinds.items():
            if not isinstance(getattr(self, name), kind):
                raise ConfigError(f"{name}: expected a {kind.__name__}")
        data, model, training = self.data, self.model, self.training
        if training.loss == "bce" and not model.predicts_unit_interval:
            raise ConfigError("--loss bce: needs predictions in (0, 1); add --output sigmoid")
        if model.predicts_unit_interval and data.normalize == "mean-std":
            raise ConfigError(
                "--normalize mean-std: leaves [0, 1], in which --output sigmoid and filter and "
                "--model seq2one-lstm predict"
            )
        if data.split.train == 0:
            raise ConfigError("--split train=0: nothing would be trained on")
        if data.split.val == 0:
            for name in ("early_stopping", "reduce_on_plateau"):
                if getattr(training, name) is not None:
                    raise ConfigError(f"{flag(name)}: looks at the validation loss; --split val=0")
        self._check_task()
        self._check_feedback()

    def _check_task(self) -> None:
        """Data, model and loss are all of classes, or all of frames."""
        data, model, loss = self.data, self.model, self.training.loss
        generated = data.dataset == "moving-lines"
        labelled = generated or data.labels != "none"
        if model.classifies and not labelled:
            raise ConfigError(
                f"--model {model.model}: names classes; --labels folders takes them from the "
                "names of folders"
            )
        if labelled and not model.classifies:
            name, remedy = (
                ("--dataset moving-lines", "--model convlstm-classifier")
                if generated
                else ("--labels", "--preset folder-classes")
            )
            raise ConfigError(
                f"{name}: these data have classes, and --model {model.model} predicts frames; "
                f"{remedy} names classes"
            )
        if model.classifies != (loss == "cross-entropy"):
            wanted = "cross-entropy" if model.classifies else "another: it is of classes"
            raise ConfigError(f"--loss {loss}: expected {wanted}")
        if model.classifies:
            for name in ("target_frames", "horizon", "eval_steps", "tile"):
                if getattr(data, name) != getattr(DataConfig, name):
                    raise ConfigError(f"{flag(name)}: no frames are predicted, but classes")

    def _check_feedback(self) -> None:
        """Feeding back and supervising every frame go with the model and the horizon."""
        sampling, supervises_all = self.training.sampling, self.training.supervise == "all"
        chosen = {f"--sampling {sampling}": sampling != "free", "--supervise all": supervises_all}
        for name in (name for name, is_chosen in chosen.items() if is_chosen):
            if not self.model.reads_predictions:
                raise ConfigError(
                    f"{name}: --model {self.model.model} reads none of its predictions"
                )
            if self.data.horizon > 1:
                raise ConfigError(f"{name}: the true frames before --horizon are not read")
        if self.data.reverse and supervises_all:
            raise ConfigError("--reverse: excludes --supervise all")
        if sampling in ("teacher", "scheduled") and self.data.target_frames == 1:
            raise ConfigError(f"--sampling {sampling}: of --target-frames 1 nothing is fed back")

    def to_json(self) -> dict[str, Any]:
        """As plain dictionaries and lists."""
        return {"format_version": FORMAT_VERSION, **dataclasses.asdict(self)}

    @classmethod
    def from_json(
        cls, values: Mapping[str, Any], source: str = "config", base: Any = None
    ) -> "Config":
        """From what `to_json` gives, or from a file with some of the flags in one flat object.

        Args:
          values: the settings.
          source: what an error names.
          base: where settings come from that are not given: anything with the three sections.

        Raises:
          ConfigError: a key that no flag has, a value of the wrong type, or another format.
        """
        flat = dict(values)
        version = flat.pop("format_version", FORMAT_VERSION)
        if version != FORMAT_VERSION:
            raise ConfigError(f"{source}: format version {version!r}, expected {FORMAT_VERSION}")
        base = base or cls()
        sections: dict[str, Any] = {}
        for section in ("data", "model", "training"):
            options = getattr(base, section)
            nested = flat.pop(section) if isinstance(flat.get(section), Mapping) else {}
            names = options.known_names()
            given = {**nested, **{name: flat.pop(name) for name in names & flat.keys()}}
            sections[section] = options.updated(given, source)
        if flat:
            raise ConfigError(f"{source}: unknown key {', '.join(sorted(flat))}")
        return cls(**sections)

    @classmethod
    def load(cls, path: Path, base: Any = None) -> "Config":
        """Reads a JSON file; see `from_json`."""
        return cls.from_json(read_object(path), str(path), base)
