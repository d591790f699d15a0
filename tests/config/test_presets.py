"""Every preset, at a tiny size, through the two scripts and back into Python."""

import gzip
import json
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image
from scripts import made_once, run

import jaxconvlstm as jcl
from jaxconvlstm.config import presets
from jaxconvlstm.config.run import Config
from jaxconvlstm.errors import ConfigError
from jaxconvlstm.runs.folder import write_json
from jaxconvlstm.tools import train

CLASSES = [name for name in presets.PRESETS if presets.preset(name).model.classifies]
FRAMES = [name for name in presets.PRESETS if name not in CLASSES]
# The first preset of each network, but for one whose 37 million weights take long to load.
FIRST = {presets.preset(name).model.model: name for name in FRAMES[::-1]}
DRAWN = set(FIRST.values()) - {"seq2one-lstm"} | {"seq2one"}


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """What the presets need: digits, clips, and clips by class."""

    def make(base: Path) -> None:
        generator = np.random.default_rng(0)
        digits = generator.integers(0, 256, (40, 12, 12), np.uint8)
        header = np.array([2051, *digits.shape], ">u4").tobytes()
        base.mkdir()
        with gzip.open(base / "digits.gz", "wb") as file:
            file.write(header + digits.tobytes())
        for number in range(6):
            for folder in (base / "clips", base / "classes" / ("dark", "light")[number % 2]):
                place = folder / f"clip{number}"
                place.mkdir(parents=True)
                for frame in range(16):
                    pixels = generator.integers(0, 100, (20, 20, 3), np.uint8) + 150 * (number % 2)
                    Image.fromarray(np.uint8(pixels)).save(place / f"{frame}.png")

    base = made_once(tmp_path_factory, "presets", make)
    return {
        "moving-mnist": base / "digits.gz",
        "folder": base / "clips",
        "folder-classes": base / "classes",
    }


def flags_of(name: str, data: dict[str, Path]) -> list[object]:
    """The preset with the data it needs, a small network where it has a size, and one step."""
    config = presets.preset(name)
    flags: list[object] = ["--preset", name, "--limit", 3, "--epochs", 1, "--steps-per-epoch", 1]
    flags += ["--batch-size", 2]
    if "features" in config.model.names():
        flags += ["--features", 3, "--kernel-size", 1]
        flags += ["--layers", 1] if config.model.model != "pyramid-forecaster" else []
        flags += ["--size", 16, 16] if config.data.size else []
    if config.data.eval_input_frames is not None:
        flags += ["--eval-input-frames", 3, "--eval-steps", 3, "--input-frames", 5]
    place = data.get(name, data.get(config.data.dataset))
    return flags if place is None else [*flags, "--data", place]


@pytest.mark.slow
@pytest.mark.parametrize("name", FRAMES)
def test_a_preset_trains_evaluates_and_loads(
    name: str, data: dict[str, Path], tmp_path: Path
) -> None:
    config, out = presets.preset(name), tmp_path / "run"
    drawn = int(name in DRAWN)
    run("train.py", *flags_of(name, data), "--sample-every", drawn, "--out", out)
    if not drawn and config.data.eval_steps is None:
        return  # evaluated like the preset of the same network that is drawn
    run("eval.py", out, "--samples", drawn)
    scores = json.loads((out / "eval" / "metrics.json").read_text())
    assert scores["model"].keys() >= {"mse", "mae", "psnr", "ssim", "openstl_mse"}
    assert scores["count"] > 0 and np.isfinite(scores["loss"])
    steps = 3 if config.data.eval_steps else config.data.target_frames
    assert len(scores["per_lead"]["model"]["mse"]) == steps
    if drawn:
        assert list((out / "samples").glob("*.png"))
        for pattern in ("strip-0.png", "animation-0.gif", "grid.png", "steps/*.png", "curves.png"):
            assert list((out / "eval").glob(pattern)), pattern
        assert_loaded_as_saved(out)
    if name == "seq2one":
        assert list((out / "samples").glob("*-decoded.png"))


def assert_loaded_as_saved(folder: Path) -> None:
    """What is loaded predicts bit for bit what the checkpoint's weights do in the bare module."""
    model = jcl.load(folder, "last")
    size = model.config.data.size or (40, 40)
    clips = np.random.default_rng(0).random((1, 3, *size, model.channels), np.float32)
    again = jcl.load(folder, "last")
    scaled = model.values.scale(clips)
    expected = jax.jit(lambda v, x: model.module.apply(v, x, steps=2))(model.variables, scaled)
    np.testing.assert_array_equal(again.predict_scaled(scaled, 2), expected)


@pytest.mark.slow
@pytest.mark.parametrize("name", CLASSES)
def test_a_classifier_trains_evaluates_and_loads(
    name: str, data: dict[str, Path], tmp_path: Path
) -> None:
    run("train.py", *flags_of(name, data), "--out", tmp_path / "run")
    assert list((tmp_path / "run" / "samples").glob("*.png"))
    run("eval.py", tmp_path / "run")
    scores = json.loads((tmp_path / "run" / "eval" / "metrics.json").read_text())
    assert scores["model"].keys() == scores["persistence"].keys()
    assert np.sum(scores["confusion"]) == scores["count"]
    assert (tmp_path / "run" / "eval" / "confusion.png").is_file()
    model = jcl.load(tmp_path / "run")
    shape = (2, 16, 50, 50, model.channels)
    clips = np.random.default_rng(0).integers(0, 255, shape, np.uint8)
    found = model.predict(clips)
    assert set(found.name) <= set(model.classes) == set(scores["classes"])
    np.testing.assert_allclose(found.probabilities.sum(axis=-1), 1, atol=1e-5)
    alone = model.predict(clips[0])
    assert alone.name == found.name[0]


def test_every_preset_is_described_and_stands_in_the_readme() -> None:
    readme = (Path(__file__).resolve().parents[2] / "README.md").read_text()
    for name in presets.PRESETS:
        assert presets.describe(name).endswith(".")
        assert f"--preset {name} " in (presets.PRESETS[name].__doc__ or "")
        assert f"`{name}`" in readme


@pytest.mark.parametrize("name", list(presets.PRESETS))
def test_a_preset_is_its_own_configuration_file(name: str) -> None:
    config = presets.preset(name)
    assert Config.from_json(json.loads(json.dumps(config.to_json()))) == config


def test_weights_of_one_network_do_not_start_the_preset_of_another(tmp_path: Path) -> None:
    write_json(tmp_path / "config.json", presets.preset("moving-mnist").to_json())
    flags = ["--data", "digits.gz", "--init-from", str(tmp_path), "--preset"]
    assert train.parse([*flags, "moving-mnist"]).preset == "moving-mnist"
    with pytest.raises(ConfigError, match=r"of --model stacked, .* is encoder-forecaster"):
        train.parse([*flags, "encoder-forecaster"])
