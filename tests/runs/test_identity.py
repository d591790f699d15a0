"""A step is believed only where it was saved; files beside the checkpoints only as they were."""

import json
import os
import re
import shutil
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
import pytest
from scripts import run

import jaxconvlstm as jcl
from jaxconvlstm.config.data import DataConfig
from jaxconvlstm.config.model import ModelConfig
from jaxconvlstm.config.run import Config
from jaxconvlstm.config.training import TrainingConfig
from jaxconvlstm.runs import manifest
from jaxconvlstm.runs.folder import RunFolder

CLIPS = np.random.default_rng(0).random((6, 8, 8, 8, 1), np.float32)


def config(**training: object) -> Config:
    settings: dict[str, object] = dict(
        epochs=2, steps_per_epoch=2, batch_size=2, sample_every=0, schedule="constant"
    )
    return Config(
        DataConfig(input_frames=2, target_frames=1),
        ModelConfig(features=(2,), layers=1),
        TrainingConfig(**settings | dict(warmup_steps=0) | training),  # type: ignore[arg-type]
    )


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs that differ in their seeds; both hold steps 2 and 4."""
    folder = tmp_path_factory.mktemp("runs")
    for seed in (0, 1):
        jcl.fit(config(seed=seed), folder / str(seed), data=CLIPS)
    return folder


@pytest.fixture
def copy(runs: Path, tmp_path: Path) -> Path:
    shutil.copytree(runs / "0", tmp_path / "copy")
    return tmp_path / "copy"


def swapped(steps: Path, other: Path) -> None:
    (steps / "2").rename(steps / "x")
    (steps / "4").rename(steps / "2")
    (steps / "x").rename(steps / "4")


def renamed(steps: Path, other: Path) -> None:
    (steps / "4").rename(steps / "9")


def copied(steps: Path, other: Path) -> None:
    shutil.copytree(steps / "2", steps / "9")


def of_another_run(steps: Path, other: Path) -> None:
    shutil.rmtree(steps / "4")
    shutil.copytree(other / "4", steps / "4")


def added_of_another_run(steps: Path, other: Path) -> None:
    shutil.rmtree(steps / "2")
    shutil.copytree(other / "2", steps / "2")


def all_of_another_run(steps: Path, other: Path) -> None:
    shutil.rmtree(steps)
    shutil.copytree(other, steps)


def linked(steps: Path, other: Path) -> None:
    (steps / "4" / "more").symlink_to(other)


# Each swap of identities, with the steps that may still be believed.
SWAPS: dict[Callable[[Path, Path], None], list[int]] = {
    swapped: [],
    renamed: [2],
    copied: [2, 4],
    of_another_run: [2],
    added_of_another_run: [4],
    all_of_another_run: [],
    linked: [2],
}


@pytest.mark.parametrize("swap", SWAPS, ids=lambda swap: swap.__name__)
def test_a_step_is_believed_only_where_it_was_saved(
    swap: Callable[[Path, Path], None], runs: Path, copy: Path, capsys: pytest.CaptureFixture
) -> None:
    swap(copy / "checkpoints", runs / "1" / "checkpoints")
    run("-m jaxconvlstm", "verify", copy, code=4)
    whole = SWAPS[swap]
    for step in {2, 4, 9} - set(whole):
        with pytest.raises(jcl.CheckpointError):
            jcl.load(copy, str(step))
    longer = config(epochs=3)
    if not whole:
        for load in (lambda: jcl.load(copy), lambda: jcl.fit(longer, copy, "must", CLIPS)):
            with pytest.raises(jcl.CheckpointError, match=r"saved as step|of another run"):
                load()
        return
    capsys.readouterr()
    assert jcl.load(copy, "last").step == max(whole)
    assert swap is added_of_another_run or "is damaged" in capsys.readouterr().err
    assert jcl.fit(longer, copy, "must", CLIPS).step == 6
    assert "set aside" in capsys.readouterr().err


def test_an_edited_configuration_is_refused_unless_asked_for(copy: Path) -> None:
    path = copy / "config.json"
    values = json.loads(path.read_text())
    values["data"]["flip"] = "both"
    path.write_text(json.dumps(values))
    changed = Config.load(path)
    with pytest.raises(jcl.CheckpointError, match=r"config\.json has --flip both, was none"):
        jcl.fit(changed, copy, "must", CLIPS)
    assert jcl.fit(changed, copy, "must", CLIPS, edited=True).step == 4
    for text in ("[" * 100_000, '{"training": 5}', '{"seed": 1e400}', "\xff"):
        path.write_text(text, encoding="latin-1")
        run("eval.py", copy, code=4)
        run("train.py", "--config", path, code=2)


def test_what_optimises_may_change_on_the_way(copy: Path, capsys: pytest.CaptureFixture) -> None:
    faster = config(epochs=3, learning_rate=0.1, weight_decay=0.1, optimizer="adamw")
    with pytest.raises(jcl.ConfigError, match=f"--optimizer was adam.*--init-from {copy}"):
        jcl.fit(faster, copy, "must", CLIPS)
    faster = config(epochs=3, learning_rate=0.1, clip_norm=2.0)
    assert jcl.fit(faster, copy, "must", CLIPS).step == 6
    printed = capsys.readouterr().out
    assert "going on with --learning-rate 0.1, was 0.002" in printed
    assert "going on with --clip-norm 2.0, was" in printed


def test_what_decides_is_read_under_the_lock(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process makes a run while this one waits for nothing yet."""
    out = tmp_path / "run"
    lock = RunFolder.__init__

    def late(self: RunFolder, path: Path, *, resume: str | None = None) -> None:
        shutil.copytree(runs / "0", out)
        lock(self, path, resume=resume)

    monkeypatch.setattr(RunFolder, "__init__", late)
    with pytest.raises(jcl.ConfigError, match="--seed was 0, now 5"):
        jcl.fit(config(seed=5), out, "auto", CLIPS)


def test_a_validation_that_was_not_saved_is_logged_once(
    copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = RunFolder(copy, resume="must")
    log = copy / "metrics.jsonl"
    before = log.read_text()
    folder.rewind_metrics(4, validated=False)
    assert log.read_text() == "".join(
        line + "\n"
        for line in before.splitlines()
        if not ('"val"' in line and json.loads(line)["step"] == 4)
    )
    folder.close()


@pytest.mark.parametrize("damage", [b"\xff\xfe\n", b"[1]\n", b'{"step": "x"}\n', b"[" * 10**5])
def test_lines_that_cannot_be_read_are_set_aside(
    copy: Path, damage: bytes, capsys: pytest.CaptureFixture
) -> None:
    log = copy / "metrics.jsonl"
    whole = log.read_bytes()
    log.write_bytes(damage.strip() + b"\n" + whole)
    with RunFolder(copy, resume="must") as folder:
        folder.rewind_metrics(4)
    assert log.read_bytes() == whole
    assert (copy / "metrics.jsonl.damaged").read_bytes() == damage.strip() + b"\n"
    assert "1 lines cannot be read" in capsys.readouterr().err


def test_nothing_outside_a_run_is_written(copy: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_text("mine")
    (copy / ".lock").unlink()
    (copy / ".lock").symlink_to(outside)
    error = run("train.py", "--out", copy, "--resume", "must", code=4).stderr
    assert ".lock: expected a plain file" in error
    (copy / ".lock").unlink()
    (copy / "metrics.jsonl").unlink()
    (copy / "metrics.jsonl").symlink_to(outside)
    assert jcl.fit(config(epochs=3), copy, "must", CLIPS).step == 6
    assert outside.read_text() == "mine"


def test_a_run_folder_that_is_moved_ends_the_run(copy: Path, tmp_path: Path) -> None:
    with RunFolder(copy, resume="must") as folder:
        folder.check_in_place()
        copy.rename(tmp_path / "away")
        with pytest.raises(jcl.CheckpointError, match="was moved"):
            folder.check_in_place()
        shutil.copytree(tmp_path / "away", copy)
        with pytest.raises(jcl.CheckpointError, match=r"moved, removed or replaced"):
            folder.log({"step": 5, "epoch": 2, "split": "train", "loss": 0.0})


def test_a_reader_waits_for_a_step_that_is_being_replaced(
    copy: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    manifest = copy / "checkpoints" / "4" / "manifest.json"
    kept = manifest.read_text()
    manifest.unlink()
    pauses: list[float] = []

    def written_meanwhile(seconds: float) -> None:
        pauses.append(seconds)
        manifest.write_text(kept)

    monkeypatch.setattr("time.sleep", written_meanwhile)
    with pytest.raises(jcl.CheckpointError):
        jcl.load(copy, "4")  # nobody is training in it
    assert not pauses
    with RunFolder(copy, resume="must"):
        assert jcl.load(copy, "4").step == 4
        manifest.unlink()
        assert "step 4: whole" in run("-m jaxconvlstm", "verify", copy).stdout
    assert len(pauses) == 2


def test_nothing_that_a_checkpoint_names_is_imported(
    copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Orbax writes names of classes; here they are those of a module that lies on the path."""
    step = copy / "checkpoints" / "4"
    (tmp_path / "planted.py").write_text("raise AssertionError('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    weights = jcl.load(copy).variables
    named = 0
    for path in [path for path in step.rglob("*") if path.is_file() and path.name[0] == "_"]:
        text = path.read_text()
        changed = re.sub(r'"(orbax\.[\w.]+|np\.ndarray)"', '"planted.Name"', text)
        named += changed != text
        path.write_text(changed)
    manifest.write(step, {k: v for k, v in manifest.read(step).items() if k != "files"})
    assert named >= 2
    try:
        loaded = jcl.load(copy, "4").variables
    except jcl.CheckpointError:
        pass  # what is named is unknown
    else:
        np.testing.assert_equal(jax.device_get(loaded), jax.device_get(weights))
    assert "planted" not in sys.modules


def test_a_step_may_be_removed_between_two_looks(
    copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = copy / "checkpoints" / "4"
    look = manifest.damage

    def removed_meanwhile(place: Path, run: manifest.Run | None = None) -> list[str]:
        found = look(place, run)
        if place == step:
            shutil.rmtree(step)
        return found

    monkeypatch.setattr(manifest, "damage", removed_meanwhile)
    assert "step 4: whole" in run("-m jaxconvlstm", "verify", copy).stdout


def test_what_a_killed_process_left_is_removed(copy: Path) -> None:
    host = "".join(c if c.isalnum() else "-" for c in socket.gethostname())
    dead, alive = (copy / f".strip.png.{host}.{number}.tmp" for number in (2**22 + 1, os.getpid()))
    for path in (dead, alive):
        path.touch()
    with RunFolder(copy, resume="must"):
        assert alive.exists() and not dead.exists()
