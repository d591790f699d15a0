"""Runs that earlier releases have saved, one for each format: they load, predict and go on.

`golden/format-N.zip` holds a run folder, stopped within its second epoch by the release that
introduced format N, and `prediction.npy`: every eighth pixel of what it then predicted.
"""

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest

import jaxconvlstm as jcl
from jaxconvlstm import manifest
from jaxconvlstm.config import FORMAT_VERSION, Config
from jaxconvlstm.run_folder import read_config

GOLDEN = Path(__file__).parent / "golden"


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
    path = step / "meta" / "data.json"
    meta = json.loads(path.read_text())
    path.write_text(json.dumps({**meta, "format_version": FORMAT_VERSION + 1}))
    about = manifest.read(step)
    (step / manifest.NAME).unlink()
    del about["files"]
    manifest.write(step, about)
    with pytest.raises(jcl.CheckpointError, match=f"format version {FORMAT_VERSION + 1}"):
        jcl.load(run, "last")
    with pytest.raises(jcl.ConfigError, match=f"format version {FORMAT_VERSION + 1}"):
        Config.from_json({**meta["config"], "format_version": FORMAT_VERSION + 1}, "file")


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
    step = run / "checkpoints" / "3"
    path = step / "meta" / "data.json"
    meta = json.loads(path.read_text())
    meta["config"]["model"].update(change)
    path.write_text(json.dumps(meta))
    about = manifest.read(step)
    (step / manifest.NAME).unlink()
    del about["files"]
    manifest.write(step, about)
    with pytest.raises(jcl.CheckpointError) as caught:
        jcl.load(run, "last")
    assert "\n" not in str(caught.value)
