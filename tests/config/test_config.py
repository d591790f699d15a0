"""Configuration: JSON and back, and refusing what cannot work."""

import dataclasses
import json
import re
from pathlib import Path

import pytest

from jaxconvlstm.config.data import DataConfig, Split
from jaxconvlstm.config.model import MODELS, ModelConfig
from jaxconvlstm.config.presets import PRESETS, preset
from jaxconvlstm.config.run import Config
from jaxconvlstm.config.training import TrainingConfig
from jaxconvlstm.errors import ConfigError
from jaxconvlstm.tools import train

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_json_round_trip(name: str) -> None:
    config = preset(name)
    changed = {"crop": (8, 9), "split": Split(0.5, 0.2, 0.3), "value_range": (-1.0, 2.0)}
    config = dataclasses.replace(
        config, data=dataclasses.replace(config.data, **changed, threshold=None)
    )
    assert Config.from_json(json.loads(json.dumps(config.to_json()))) == config


def test_a_file_may_name_flags_flat(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text('{"epochs": 3, "features": [4, 5], "data": "clips"}')
    config = Config.load(path)
    assert config.training.epochs == 3
    assert config.model.features == (4, 5)
    assert config.data.data == "clips"


@pytest.mark.parametrize(
    "text, named",
    [
        ('{"epoch": 3}', "epoch"),
        ('{"data": {"inputs": 3}}', "inputs"),
        ('{"format_version": 99}', "99"),
        ('{"epochs": "many"}', "epochs"),
        ('{"epochs": 2.5}', "epochs"),
        ('{"loss": "hubris"}', "loss"),
        ('{"split": {"train": 0.5, "dev": 0.5}}', "dev"),
        ('{"learning_rate": 1' + "0" * 400 + "}", "learning-rate"),
        ('{"train": 5}', "train"),
        ('{"training": 5}', "training"),
        ('{"data": ' + 100 * "[" + 100 * "]" + "}", "nested"),
        ("[1]", "object"),
        ("{", "JSON"),
    ],
)
def test_a_bad_file_names_what_is_wrong(tmp_path: Path, text: str, named: str) -> None:
    path = tmp_path / "config.json"
    path.write_text(text)
    with pytest.raises(ConfigError, match=named):
        Config.load(path)


@pytest.mark.parametrize(
    "make",
    [
        lambda: DataConfig(input_frames=0),
        lambda: DataConfig(value_range=(1.0, 1.0)),
        lambda: DataConfig(value_range=(1000.0, 1000.0001)),
        lambda: DataConfig(value_range=(0.0, 1e39)),
        lambda: DataConfig(value_range=(0.0, 1e-40)),
        lambda: DataConfig(missing_value=10**400),
        lambda: TrainingConfig(seed=2**32),
        lambda: TrainingConfig(epochs=10**20),
        lambda: ModelConfig(features=(4, 5, 6), layers=2),
        lambda: ModelConfig(kernel_size=(0,)),
        lambda: TrainingConfig(learning_rate=float("nan")),
        lambda: TrainingConfig(clip_norm=-1),
        lambda: Config(training=TrainingConfig(loss="bce")),
        lambda: Split(0.9, 0.2, 0.2),
        lambda: Split.parse(["train=half"]),
        lambda: Split.parse(["dev=0.5"]),
        lambda: Config(data=DataConfig(split=Split.parse([]))),
    ],
)
def test_what_cannot_work_is_refused(make: object) -> None:
    with pytest.raises(ConfigError):
        make()  # type: ignore[operator]


def test_split_leaves_out_what_it_does_not_name() -> None:
    assert Split.parse(["train=0.8", "test=0.2"]) == Split(0.8, 0.0, 0.2)


def test_every_setting_is_used() -> None:
    """A flag that is parsed and never read is a promise broken."""
    sources = [*ROOT.glob("jaxconvlstm/**/*.py"), ROOT / "train.py", ROOT / "eval.py"]
    text = "\n".join(p.read_text() for p in sources if "config" not in p.parts)
    for section in (DataConfig, TrainingConfig):
        for field in dataclasses.fields(section):
            assert re.search(rf"\.{field.name}\b", text), field.name
    for kind in MODELS.values():
        for name in kind.names():
            assert re.search(rf"\b{name}: ", text), name


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"fit": "crop"}, "--fit crop: needs --size"),
        ({"crop_by": "signal"}, "--crop-by signal: needs --crop"),
        ({"threshold": 1.0, "missing_value": 3.0}, "--threshold: .* excludes --missing-value"),
        ({"threshold": 1.0, "nan": "mask"}, "--threshold: .* excludes --nan"),
        ({"threshold": float("nan")}, "--threshold: expected finite"),
        ({"sequences": (3, 3)}, "--sequences: expected 0 <= FIRST < STOP, got 3 3"),
        ({"reverse": True, "horizon": 2}, "--reverse: backwards"),
        ({"split_file": "f.json", "split_by": "time"}, "--split-by: --split-file says already"),
        ({"axes": "TT"}, "--axes TT: expected each letter once"),
        ({"axes": "NTC"}, "--axes NTC"),
        ({"cache": -1.0}, "--cache: expected 0 or more GiB"),
        ({"read_timeout": 0.0}, "--read-timeout"),
        ({"tile": (0, 4)}, "--tile"),
        ({"horizon": 0}, "--horizon"),
    ],
)
def test_data_settings_that_mean_nothing_are_refused(settings, message) -> None:
    with pytest.raises(ConfigError, match=message):
        DataConfig(**settings)


def test_a_sigmoid_cannot_predict_standardised_values() -> None:
    with pytest.raises(ConfigError, match="--normalize mean-std: leaves"):
        Config(DataConfig(normalize="mean-std"), ModelConfig(output="sigmoid"))


CLASSES = {"model": ModelConfig(model="cnn-lstm"), "data": DataConfig(dataset="moving-lines")}
TRAINING = TrainingConfig(loss="cross-entropy")


@pytest.mark.parametrize(
    "sections, message",
    [
        ({"model": CLASSES["model"], "training": TRAINING}, "--labels folders"),
        ({"data": CLASSES["data"]}, "these data have classes.*names classes"),
        (CLASSES, "--loss mse: expected cross-entropy"),
        ({"training": TRAINING}, "--loss cross-entropy"),
        (
            {
                "model": CLASSES["model"],
                "data": DataConfig(dataset="moving-lines", horizon=2),
                "training": TRAINING,
            },
            "--horizon: no frames",
        ),
        (
            {"training": TrainingConfig(sampling="scheduled"), "data": DataConfig(target_frames=1)},
            "nothing is fed back",
        ),
        (
            {"training": TrainingConfig(sampling="teacher"), "data": DataConfig(horizon=2)},
            "before --horizon",
        ),
        (
            {"training": TrainingConfig(supervise="all"), "data": DataConfig(horizon=2)},
            "--supervise all",
        ),
        (
            {"training": TrainingConfig(supervise="all"), "data": DataConfig(reverse=True)},
            "--reverse",
        ),
        (
            {
                "training": TrainingConfig(sampling="teacher"),
                "model": ModelConfig(model="encoder-forecaster"),
            },
            "reads none of its predictions",
        ),
        (
            {
                "training": TrainingConfig(early_stopping=3),
                "data": DataConfig(split=Split(0.8, 0.0, 0.2)),
            },
            "--early-stopping: looks at the validation loss",
        ),
    ],
)
def test_sections_that_do_not_go_together_are_refused(sections, message) -> None:
    with pytest.raises(ConfigError, match=message):
        Config(**sections)


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"norm": "batch"}, "--norm: has no effect on --model frame-predictor"),
        ({"model": "cnn-lstm", "features": (8,)}, "--features: has no effect"),
        ({"model": "stacked", "downsample": 4}, "--downsample: has no effect"),
        ({"model": "stacked", "output": "motion"}, "--output of --model stacked"),
        ({"model": "pyramid-forecaster", "layers": 2}, "--layers .* expected 3"),
        ({"dropout": 1.0}, "--dropout"),
    ],
)
def test_a_flag_without_effect_on_the_model_is_refused(settings, message) -> None:
    with pytest.raises(ConfigError, match=message):
        ModelConfig(**settings)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("name", sorted(PRESETS))
def test_any_preset_can_take_another_model(name: str, model: str) -> None:
    kept = preset(name).model.of_kind(model)
    assert kept.model == model and kept.of_kind(model) == kept


def test_another_model_keeps_no_feeding_back_that_it_cannot_have() -> None:
    fed = [name for name in PRESETS if preset(name).training.supervise == "all"]
    assert fed
    for name in fed:
        taken = train.parse(["--preset", name, "--model", "encoder-forecaster"])
        assert taken.training.supervise == "targets" and taken.training.sampling == "free"


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"sampling_steps": 5}, "--sampling-steps: needs"),
        ({"sampling_curve": "exponential"}, "--sampling-curve: needs"),
        ({"sampling_curve": "exponential", "sampling": "reverse"}, "--sampling-curve: needs"),
        ({"weight_decay": 0.5}, "--weight-decay: needs --optimizer adamw"),
        ({"plateau_factor": 0.5}, "--plateau-factor: needs --reduce-on-plateau"),
        ({"decay_rate": 0.5}, "--decay-rate: needs --schedule"),
        ({"schedule": "one-cycle", "warmup_steps": 3}, "--warmup-steps: needs another --schedule"),
        ({"schedule": "step", "decay_epochs": float("inf")}, "--decay-epochs: expected a number"),
        ({"reduce_on_plateau": 2, "plateau_factor": 1.0}, "--plateau-factor: expected less than 1"),
        ({"ema": 1.0}, "--ema"),
    ],
)
def test_training_settings_without_effect_are_refused(settings, message) -> None:
    with pytest.raises(ConfigError, match=message):
        TrainingConfig(**settings)
