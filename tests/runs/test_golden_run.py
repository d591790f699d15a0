"""Runs that earlier releases have saved, one for each format: they load, predict and go on.

`golden/format-N.zip` holds a run folder, stopped within its second epoch by the release that
introduced format N, and `prediction.npy`: every eighth pixel of what it then predicted.
"""

import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import jaxconvlstm as jcl
from jaxconvlstm.config.run import FORMAT_VERSION, Config
from jaxconvlstm.runs import manifest
from jaxconvlstm.runs.folder import read_config

GOLDEN = Path(__file__).resolve().parents[1] / "golden"


@pytest.fixture(params=sorted(GOLDEN.glob("*.zip")), ids=lambda path: path.stem)
def run(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """The folder of a golden run, somewhere else than where it was trained."""
    with zipfile.ZipFile(request.param) as archive:
        archive.extractall(tmp_path / "run")
    return tmp_path / "run"


def test_every_format_of_a_release_has_a_golden_run() -> None:
    assert (GOLDEN / f"format-{FORMAT_VERSION}.zip").is_file()


def test_it_predicts_as_it_did(run: Path) -> None:
    model = jcl.load(run, "last")
    assert model.step == 3
    frames = np.random.default_rng(0).random((3, 40, 40, 1)).astype(np.float32)
    predicted = model.predict(frames, steps=2)[:, ::8, ::8]
    np.testing.assert_allclose(predicted, np.load(run / "prediction.npy"), atol=1e-5)


def test_it_goes_on_from_where_it_was_stopped(run: Path, capsys: pytest.CaptureFixture) -> None:
    result = jcl.fit(read_config(run), run, resume="must")
    assert result.step == 4 and result.best is not None
    assert "going on from step 3 of 4" in capsys.readouterr().out


def test_a_format_of_the_future_is_refused(run: Path) -> None:
    step = run / "checkpoints" / "3"
    config = json.loads((step / "meta" / "data.json").read_text())["config"]
    rewrite(step, lambda meta: meta.update(format_version=FORMAT_VERSION + 1))
    with pytest.raises(jcl.CheckpointError, match=f"format version {FORMAT_VERSION + 1}"):
        jcl.load(run, "last")
    with pytest.raises(jcl.ConfigError, match=f"format version {FORMAT_VERSION + 1}"):
        Config.from_json({**config, "format_version": FORMAT_VERSION + 1}, "file")


@pytest.mark.parametrize(
    "change",
    [
        {"features": [10**9]},
        {"features": [10**6], "kernel_size": [10**5]},
        {"layers": 10**9},
        {"model": "os.system"},
    ],
    ids=str,
)
def test_absurd_networks_are_refused_without_being_made(run: Path, change: dict) -> None:
    def change_it(meta: dict) -> None:
        meta["config"]["model"].update(change)

    rewrite(run / "checkpoints" / "3", change_it)
    with pytest.raises(jcl.CheckpointError) as caught:
        jcl.load(run, "last")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "change",
    [
        {"frame_shape": [60_000, 60_000, 1]},
        {"frame_shape": [0, 0, 1]},
        {"frame_shape": ["a", 1, 1]},
        {"channels": float("inf")},
        {"channels": 7},
        {"values": [1]},
        {"classes": 3},
        {"config": None},
    ],
    ids=str,
)
def test_absurd_metadata_are_refused_in_one_line(run: Path, change: dict) -> None:
    rewrite(run / "checkpoints" / "3", lambda meta: meta.update(change))
    with pytest.raises(jcl.CheckpointError) as caught:
        jcl.load(run, "last")
    assert "\n" not in str(caught.value)


def rewrite(step: Path, change: Callable[[dict], None]) -> None:
    """Changes the metadata of a step, with a manifest that vouches for them."""
    path = step / "meta" / "data.json"
    meta = json.loads(path.read_text())
    change(meta)
    path.write_text(json.dumps(meta))
    about = manifest.read(step)
    (step / manifest.NAME).unlink()
    del about["files"]
    manifest.write(step, about)
