"""The two scripts on real files: what they write, how they stop and go on, what they refuse."""

import collections
import contextlib
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
import pytest
from PIL import Image
from scripts import ROOT, TINY, made_once, make_clips, run

import jaxconvlstm as jcl
from jaxconvlstm.runs.folder import RunFolder


class Trained(NamedTuple):
    """A run, the pictures it was trained on, and the scores of 4 predicted frames."""

    run: Path
    data: Path
    scores: Path


@contextlib.contextmanager
def counted_compilations() -> Iterator[collections.Counter[str]]:
    """How often each jitted function is compiled meanwhile, by its name."""
    counts: collections.Counter[str] = collections.Counter()

    class Count(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            _, finished, name = record.getMessage().partition("Finished XLA compilation of jit(")
            if finished:
                counts[name.split(")")[0]] += 1

    logger, handler = logging.getLogger("jax"), Count()
    logger.addHandler(handler)
    try:
        with jax.log_compiles():
            yield counts
    finally:
        logger.removeHandler(handler)


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A run on a folder of colour pictures whose sides the strides do not divide."""

    def make(folder: Path) -> None:
        data = make_clips(folder / "clips", mode="RGB")
        flags = ["--dataset", "folder", "--data", data, *TINY, "--output", "change"]
        with counted_compilations() as counts:
            result = run("train.py", *flags, "--sample-every", 1, "--out", folder / "run")
        (folder / "train.txt").write_text(result.stdout)
        (folder / "compiled.json").write_text(json.dumps(counts))
        result = run("eval.py", folder / "run", "--out", folder / "scores", "--steps", 4)
        (folder / "eval.txt").write_text(result.stdout)

    folder = made_once(tmp_path_factory, "trained", make)
    return Trained(folder / "run", folder / "clips", folder / "scores")


@pytest.fixture
def copy(trained: Trained, tmp_path: Path) -> Path:
    """The same run, to go on with."""
    shutil.copytree(trained.run, tmp_path / "copy")
    return tmp_path / "copy"


def lines(run_folder: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (run_folder / "metrics.jsonl").read_text().splitlines()]


def test_a_run_folder_holds_what_is_promised(trained: Trained) -> None:
    config = json.loads((trained.run / "config.json").read_text())
    assert config["data"]["dataset"] == "folder"
    records = lines(trained.run)
    assert [r["step"] for r in records if r["split"] == "train"] == [1, 2, 3, 4, 5, 6]
    assert [r["epoch"] for r in records if r["split"] == "val"] == [1, 2]
    assert all({"step", "epoch", "split", "loss"} <= r.keys() for r in records)
    assert sorted(p.name for p in (trained.run / "samples").glob("*.png"))
    assert list((trained.run / "tensorboard").glob("events*"))
    assert (trained.run / "checkpoints" / "6").is_dir()
    printed = (trained.run.parent / "train.txt").read_text()
    assert "parameters" in printed and "peak memory" in printed and "device: cpu" in printed


def test_the_train_step_is_compiled_once(trained: Trained) -> None:
    compiled = json.loads((trained.run.parent / "compiled.json").read_text())
    assert compiled["train_step"] == compiled["evaluate"] == 1


def test_evaluation_writes_scores_and_pictures(trained: Trained) -> None:
    scores = json.loads((trained.scores / "metrics.json").read_text())
    for who in ("model", "persistence"):
        assert set(scores[who]) >= {"mse", "mae", "psnr", "ssim", "openstl_mse", "openstl_ssim"}
        assert all(len(values) == 4 for values in scores["per_lead"][who].values())
    assert scores["count"] > 0 and scores["frames_per_second"] > 0
    assert set(scores["definitions"]) == set(scores["model"])
    assert list(trained.scores.glob("*.png")) and list(trained.scores.glob("*.gif"))
    assert "persistence" in (trained.run.parent / "eval.txt").read_text()


def test_the_test_split_is_the_one_that_the_run_has_recorded(copy: Path, tmp_path: Path) -> None:
    """Whatever the settings would make of the data now."""
    record = json.loads((copy / "split.json").read_text())
    record |= {"train": ["clip0", "clip1"], "val": [], "test": ["clip2"]}
    (copy / "split.json").write_text(json.dumps(record))
    flags = ["--out", tmp_path / "scores", "--samples", 0]
    for command in (["eval.py", copy], ["train.py", "--resume", "auto", "--out", copy]):
        assert "split.json divides the data otherwise" in run(*command, code=4).stderr
    printed = run("eval.py", copy, *flags, "--edited").stdout
    assert "20 windows of the test part" in printed
    assert json.loads((tmp_path / "scores" / "metrics.json").read_text())["count"] == 20


def test_persistence_scores_are_those_of_the_last_frame(trained: Trained) -> None:
    """Two columns of 14 differ once the bar has moved, by 200 of 255."""
    scores = json.loads((trained.scores / "metrics.json").read_text())
    expected = 2 / 14 * (200 / 255) ** 2
    np.testing.assert_allclose(scores["per_lead"]["persistence"]["mse"], expected, rtol=1e-5)


def test_forecast_writes_the_future_of_every_sequence(trained: Trained, tmp_path: Path) -> None:
    run("eval.py", trained.run, "--data", trained.data, "--forecast", 5, "--out", tmp_path)
    last = [trained.data / "clip1" / f"frame{i}.png" for i in (21, 22, 23)]
    frames = np.stack([np.asarray(Image.open(path)) for path in last])
    expected = jcl.load(trained.run).predict(frames, steps=5)
    for clip in ("clip0", "clip1", "clip2"):
        saved = np.load(tmp_path / clip / "forecast.npy")
        assert saved.shape == (5, 18, 14, 3) and saved.dtype == np.uint8
    saved = np.load(tmp_path / "clip1" / "forecast.npy")
    np.testing.assert_array_equal(saved, expected)
    pictures = sorted((tmp_path / "clip1").glob("frame-*.png"))
    assert len(pictures) == 5
    np.testing.assert_array_equal(np.asarray(Image.open(pictures[2])), saved[2])


@pytest.mark.slow
def test_one_frame_out_still_predicts_many(tmp_path: Path) -> None:
    data = make_clips(tmp_path / "clips", frames=30)
    flags = ["--dataset", "folder", "--data", data, *TINY, "--target-frames", "1", "--loss", "bce"]
    run("train.py", *flags, "--output", "sigmoid", "--out", tmp_path / "run")
    run("eval.py", tmp_path / "run", "--part", "all", "--steps", 6, "--samples", 0)
    scores = json.loads((tmp_path / "run" / "eval" / "metrics.json").read_text())
    assert len(scores["per_lead"]["model"]["mse"]) == 6


def test_a_stopped_run_goes_on_to_the_same_weights(tmp_path: Path) -> None:
    """By a signal within an epoch; with every kind of flag to remember."""
    data = make_clips(tmp_path / "clips", frames=30)
    flags = ["--dataset", "folder", "--data", data, *TINY, "--flip", "both", "--crop", 12, 12]
    flags += ["--reverse", "--remat", "--size", 16, 16, "--value-range", 0, 200]
    flags += ["--epochs", 2, "--steps-per-epoch", 20]
    run("train.py", *flags, "--out", tmp_path / "whole")

    parts, metrics = tmp_path / "parts", tmp_path / "parts" / "metrics.jsonl"
    command = [sys.executable, str(ROOT / "train.py"), *map(str, flags), "--out", str(parts)]
    process = subprocess.Popen(
        [*command, "--resume", "auto"], stdout=-1, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 200
    while not metrics.is_file() or len(metrics.read_text().splitlines()) < 8:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 143, errors
    assert "saved step" in errors and len(errors.strip().splitlines()) == 1

    run("train.py", *flags, "--out", parts, "--resume", "must")
    one, other = (jcl.load(tmp_path / name, "last") for name in ("whole", "parts"))
    assert one.step == other.step == 40
    jax.tree.map(np.testing.assert_array_equal, one.variables, other.variables)
    keep = ("step", "epoch", "split", "loss")
    first, second = (
        [{k: r[k] for k in keep} for r in lines(tmp_path / n)] for n in ("whole", "parts")
    )
    assert first == second


def test_a_finished_run_can_be_given_more_epochs(copy: Path) -> None:
    run("train.py", "--out", copy, "--epochs", 3, "--resume", "auto")
    assert max(r["step"] for r in lines(copy)) == 9


def test_a_loss_that_is_not_finite_ends_the_run_with_the_last_good_weights(
    trained: Trained, tmp_path: Path
) -> None:
    flags = ["--data", trained.data, "--init-from", trained.run, *TINY, "--checkpoint-every", 1]
    flags += ["--learning-rate", "1e15", "--out", tmp_path]
    error = run("train.py", *flags, code=5).stderr
    assert "step 2: loss" in error and "learning rate 1e+15" in error
    assert "first not finite: " in error and "last good checkpoint: step 1" in error
    model = jcl.load(tmp_path, "last")
    assert model.step == 1
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(model.variables))


class TestBadInput:
    """One clear line, the right exit code, nothing lost."""

    def test_unknown_flag(self) -> None:
        assert "--epochs" in run("train.py", "--epoch", 3, code=2).stderr

    def test_wrong_value(self) -> None:
        assert "--epochs" in run("train.py", "--epochs", "many", code=2).stderr

    def test_folder_needs_data(self) -> None:
        assert "--data" in run("train.py", "--dataset", "folder", code=3).stderr

    def test_missing_folder(self, tmp_path: Path) -> None:
        flags = ["--dataset", "folder", "--data", tmp_path / "no", "--out", tmp_path / "r"]
        assert str(tmp_path / "no") in run("train.py", *flags, code=3).stderr
        assert not (tmp_path / "r").exists()

    def test_too_short(self, tmp_path: Path) -> None:
        data = make_clips(tmp_path / "clips", frames=4)
        error = run("train.py", "--data", data, *TINY, "--out", tmp_path / "r", code=3).stderr
        assert "5" in error and "4" in error

    def test_truncated_picture(self, tmp_path: Path) -> None:
        data = make_clips(tmp_path / "clips")
        victim = data / "clip1" / "frame7.png"
        victim.write_bytes(victim.read_bytes()[:40])
        flags = ["--data", data, *TINY, "--out", tmp_path / "r"]
        assert "frame7.png" in run("train.py", *flags, code=3).stderr

    def test_mixed_sizes(self, tmp_path: Path) -> None:
        data = make_clips(tmp_path / "clips")
        Image.new("L", (9, 9)).save(data / "clip1" / "frame7.png")
        flags = ["--data", data, "--out", tmp_path / "r", *TINY, "--max-hours", 1e-9]
        assert "--size" in run("train.py", *flags, code=3).stderr
        assert "of 16x16x1" in run("train.py", *flags, "--size", 16, 16).stdout

    def test_batch_larger_than_the_data(self, trained: Trained, tmp_path: Path) -> None:
        flags = ["--data", trained.data, *TINY, "--batch-size", 5000, "--out", tmp_path / "r"]
        assert "5000" in run("train.py", *flags, code=3).stderr
        assert not (tmp_path / "r" / "config.json").exists()

    def test_a_run_is_never_overwritten(self, trained: Trained) -> None:
        before = sorted(trained.run.rglob("*"))
        flags = ["--data", trained.data, "--out", trained.run, *TINY]
        assert "--resume" in run("train.py", *flags, code=2).stderr
        assert sorted(trained.run.rglob("*")) == before

    def test_resume_refuses_other_settings(self, trained: Trained) -> None:
        flags = ["--out", trained.run, "--resume", "auto", "--features", 8]
        assert "--features" in run("train.py", *flags, code=2).stderr

    def test_evaluation_never_moves_the_split(self, trained: Trained, tmp_path: Path) -> None:
        """Longer inputs are cut from the part that was held out, or refused; never from others."""
        run("eval.py", trained.run, "--input-frames", 20, "--out", tmp_path, code=3)
        for change in (["--split", "train=0.1", "test=0.9"], ["--frame-step", 2]):
            error = run("eval.py", trained.run, *change, "--out", tmp_path, code=2).stderr
            assert "split" in error

    def test_output_among_the_pictures(self, trained: Trained) -> None:
        flags = ["--data", trained.data, *TINY, "--out", trained.data / "run"]
        assert "--out" in run("train.py", *flags, code=2).stderr

    def test_nothing_to_resume(self, tmp_path: Path) -> None:
        run("train.py", "--out", tmp_path / "none", "--resume", "must", code=4)
        assert not (tmp_path / "none").exists()

    def test_a_folder_in_use(self, copy: Path) -> None:
        with RunFolder(copy, resume="must"):
            for resume in ([], ["--resume", "auto"]):
                error = run("train.py", "--out", copy, *resume, code=4).stderr
                assert f"process {os.getpid()} on " in error

    def test_missing_and_foreign_runs(self, tmp_path: Path) -> None:
        run("eval.py", tmp_path / "none", code=4)
        (tmp_path / "notes.txt").write_text("not a run")
        run("eval.py", tmp_path, code=4)

    def test_wrong_channels_at_evaluation(self, trained: Trained, tmp_path: Path) -> None:
        data = make_clips(tmp_path / "clips", mode="L")
        error = run("eval.py", trained.run, "--data", data, code=3).stderr
        assert "trained on 3 channels, got 1" in error
