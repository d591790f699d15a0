"""The two scripts as a user runs them: in a process of their own, on real files."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from programs import ROOT, TINY, make_clips, run

import jaxconvlstm as jcl


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A run on a folder of grey pictures whose sides the strides do not divide, and that folder."""
    base = tmp_path_factory.mktemp("trained")
    data = make_clips(base / "clips")
    out = base / "run"
    result = run("train.py", "--dataset", "folder", "--data", data, "--out", out, *TINY)
    assert "parameters" in result.stdout and "peak memory" in result.stdout
    assert "device: cpu" in result.stdout
    return out, data


def lines(run_folder: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (run_folder / "metrics.jsonl").read_text().splitlines()]


def test_a_run_folder_holds_what_is_promised(trained: tuple[Path, Path]) -> None:
    out, _ = trained
    config = json.loads((out / "config.json").read_text())
    assert config["data"]["dataset"] == "folder"
    records = lines(out)
    assert [r["step"] for r in records if r["split"] == "train"] == [1, 2, 3, 4, 5, 6]
    assert [r["epoch"] for r in records if r["split"] == "val"] == [1, 2]
    assert all({"step", "epoch", "split", "loss"} <= r.keys() for r in records)
    assert sorted(p.name for p in (out / "samples").glob("*.png"))
    assert list((out / "tensorboard").glob("events*"))
    assert (out / "checkpoints" / "6").is_dir()


def test_evaluation_writes_scores_and_pictures(trained: tuple[Path, Path], tmp_path: Path) -> None:
    out, _ = trained
    result = run("eval.py", out, "--out", tmp_path / "scores", "--steps", 4)
    scores = json.loads((tmp_path / "scores" / "metrics.json").read_text())
    for who in ("model", "persistence"):
        assert set(scores[who]) >= {"mse", "mae", "psnr", "ssim", "openstl_mse", "openstl_ssim"}
        assert all(len(values) == 4 for values in scores["per_lead"][who].values())
    assert scores["count"] > 0 and scores["frames_per_second"] > 0
    assert set(scores["definitions"]) == set(scores["model"])
    assert list((tmp_path / "scores").glob("*.png")) and list((tmp_path / "scores").glob("*.gif"))
    assert "persistence" in result.stdout


def test_persistence_scores_are_those_of_the_last_frame(
    trained: tuple[Path, Path], tmp_path: Path
) -> None:
    """Two columns of 14 differ once the bar has moved, by 200 of 255."""
    out, _ = trained
    run("eval.py", out, "--out", tmp_path)
    scores = json.loads((tmp_path / "metrics.json").read_text())
    expected = 2 / 14 * (200 / 255) ** 2
    np.testing.assert_allclose(scores["per_lead"]["persistence"]["mse"], expected, rtol=1e-5)


def test_forecast_writes_the_future_of_every_sequence(
    trained: tuple[Path, Path], tmp_path: Path
) -> None:
    out, data = trained
    run("eval.py", out, "--data", data, "--forecast", 5, "--out", tmp_path)
    frames = np.stack(
        [np.asarray(Image.open(data / "clip1" / f"frame{i}.png")) for i in (21, 22, 23)]
    )
    expected = jcl.load(out).predict(frames[..., None], steps=5)
    saved = np.load(tmp_path / "clip1" / "forecast.npy")
    np.testing.assert_array_equal(saved, expected)
    assert saved.shape == (5, 18, 14, 1) and saved.dtype == np.uint8
    pictures = sorted((tmp_path / "clip1").glob("frame-*.png"))
    assert len(pictures) == 5
    np.testing.assert_array_equal(np.asarray(Image.open(pictures[2])), saved[2, ..., 0])


@pytest.mark.slow
def test_colour_pictures_work_too(tmp_path: Path) -> None:
    data = make_clips(tmp_path / "clips", sequences=1, frames=20, mode="RGB")
    flags = ["--epochs", "1", "--output", "change", "--loss", "mae", "--optimizer", "adamw"]
    run("train.py", "--dataset", "folder", "--data", data, "--out", tmp_path / "run", *TINY, *flags)
    future = jcl.load(tmp_path / "run").predict(np.zeros((2, 30, 22, 3), np.uint8), steps=2)
    assert future.shape == (2, 30, 22, 3) and future.dtype == np.uint8


@pytest.mark.slow
def test_one_frame_out_still_predicts_many(tmp_path: Path) -> None:
    data = make_clips(tmp_path / "clips", frames=30)
    flags = ["--dataset", "folder", "--data", data, *TINY, "--target-frames", "1", "--loss", "bce"]
    run("train.py", *flags, "--output", "sigmoid", "--out", tmp_path / "run")
    run("eval.py", tmp_path / "run", "--part", "all", "--steps", 6)
    scores = json.loads((tmp_path / "run" / "eval" / "metrics.json").read_text())
    assert len(scores["per_lead"]["model"]["mse"]) == 6


def test_the_train_step_is_compiled_once(tmp_path: Path) -> None:
    data = make_clips(tmp_path / "clips")
    program = """
import collections, logging, sys
sys.path.insert(0, sys.argv.pop(1))
import jax
jax.config.update("jax_log_compiles", True)
compiled = collections.Counter()
class Count(logging.Handler):
    def emit(self, record):
        _, finished, name = record.getMessage().partition("Finished XLA compilation of jit(")
        if finished:
            compiled[name.split(")")[0]] += 1
logging.getLogger("jax").addHandler(Count())
logging.getLogger("jax").propagate = False
from jaxconvlstm.tools import train
train.main(sys.argv[1:])
print("compiled", compiled["train_step"], compiled["evaluate"])
"""
    flags = ["--dataset", "folder", "--data", data, "--out", tmp_path / "run", *TINY]
    result = subprocess.run(
        [sys.executable, "-c", program, str(ROOT), *map(str, flags)],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.returncode == 0, result.stderr
    assert "compiled 1 1" in result.stdout


@pytest.mark.parametrize(
    "number, code",
    [(signal.SIGTERM, 143), pytest.param(signal.SIGINT, 130, marks=pytest.mark.slow)],
)
def test_a_stopped_run_goes_on_to_the_same_weights(tmp_path: Path, number: int, code: int) -> None:
    data = make_clips(tmp_path / "clips", frames=30)
    flags = ["--dataset", "folder", "--data", data, *TINY, "--flip", "both", "--crop", 12, 12]
    flags += ["--epochs", 3, "--steps-per-epoch", 40]
    run("train.py", *flags, "--out", tmp_path / "whole")

    command = [sys.executable, str(ROOT / "train.py"), *map(str, flags)]
    process = subprocess.Popen(
        [*command, "--out", str(tmp_path / "parts")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    metrics = tmp_path / "parts" / "metrics.jsonl"
    deadline = time.monotonic() + 200
    while not metrics.is_file() or len(metrics.read_text().splitlines()) < 47:  # within epoch 2
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(number)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == code, errors
    assert "saved step" in errors and len(errors.strip().splitlines()) == 1

    run("train.py", *flags, "--out", tmp_path / "parts", "--resume", "must")
    whole, parts = jcl.load(tmp_path / "whole", "last"), jcl.load(tmp_path / "parts", "last")
    import jax

    assert whole.step == parts.step == 120
    for one, other in zip(
        jax.tree.leaves(whole.variables), jax.tree.leaves(parts.variables), strict=True
    ):
        np.testing.assert_array_equal(one, other)
    keep = ("step", "epoch", "split", "loss")
    first, second = (
        [{k: r[k] for k in keep} for r in lines(tmp_path / n)] for n in ("whole", "parts")
    )
    assert first == second
    again = run("train.py", *flags, "--out", tmp_path / "parts", "--resume", "auto")
    assert "finished already" in again.stdout


@pytest.mark.slow
def test_the_same_command_goes_on_with_every_flag_it_started_with(tmp_path: Path) -> None:
    data = make_clips(tmp_path / "clips")
    flags = ["--dataset", "folder", "--data", data, "--out", tmp_path / "run", *TINY]
    flags += ["--reverse", "--remat", "--size", 16, 16, "--value-range", 0, 200, "--resume", "auto"]
    run("train.py", *flags)
    assert "finished already" in run("train.py", *flags).stdout


@pytest.mark.slow
def test_a_finished_run_can_be_given_more_epochs(tmp_path: Path) -> None:
    data = make_clips(tmp_path / "clips")
    flags = ["--dataset", "folder", "--data", data, "--out", tmp_path / "run", *TINY]
    run("train.py", *flags)
    run("train.py", *flags, "--epochs", 3, "--resume", "auto")
    assert max(r["step"] for r in lines(tmp_path / "run")) == 9


class TestBadInput:
    """One clear line, the right exit code, nothing lost."""

    def test_unknown_flag(self) -> None:
        assert "--epochs" in run("train.py", "--epoch", 3, code=2).stderr

    def test_wrong_value(self) -> None:
        assert "--epochs" in run("train.py", "--epochs", "many", code=2).stderr

    def test_folder_needs_data(self) -> None:
        assert "--data" in run("train.py", "--dataset", "folder", code=3).stderr

    def test_missing_folder(self, tmp_path: Path) -> None:
        result = run(
            "train.py",
            "--dataset",
            "folder",
            "--data",
            tmp_path / "no",
            "--out",
            tmp_path / "r",
            code=3,
        )
        assert str(tmp_path / "no") in result.stderr
        assert not (tmp_path / "r").exists()

    def test_too_short(self, tmp_path: Path) -> None:
        data = make_clips(tmp_path / "clips", frames=4)
        result = run(
            "train.py",
            "--dataset",
            "folder",
            "--data",
            data,
            *TINY,
            "--out",
            tmp_path / "r",
            code=3,
        )
        assert "5" in result.stderr and "4" in result.stderr

    def test_truncated_picture(self, tmp_path: Path) -> None:
        data = make_clips(tmp_path / "clips")
        victim = data / "clip1" / "frame7.png"
        victim.write_bytes(victim.read_bytes()[:40])
        result = run(
            "train.py",
            "--dataset",
            "folder",
            "--data",
            data,
            *TINY,
            "--out",
            tmp_path / "r",
            code=3,
        )
        assert "frame7.png" in result.stderr

    def test_mixed_sizes(self, tmp_path: Path) -> None:
        data = make_clips(tmp_path / "clips")
        Image.new("L", (9, 9)).save(data / "clip1" / "frame7.png")
        flags = ["--dataset", "folder", "--data", data, *TINY, "--out", tmp_path / "r"]
        assert "--size" in run("train.py", *flags, code=3).stderr
        run("train.py", *flags, "--size", 16, 16)

    def test_batch_larger_than_the_data(self, tmp_path: Path) -> None:
        data = make_clips(tmp_path / "clips")
        flags = ["--dataset", "folder", "--data", data, *TINY, "--batch-size", 5000]
        assert "5000" in run("train.py", *flags, "--out", tmp_path / "r", code=3).stderr
        assert not (tmp_path / "r" / "config.json").exists()

    def test_a_run_is_never_overwritten(self, trained: tuple[Path, Path]) -> None:
        out, data = trained
        before = sorted(p for p in out.rglob("*"))
        result = run("train.py", "--dataset", "folder", "--data", data, "--out", out, *TINY, code=2)
        assert "--resume" in result.stderr
        assert sorted(p for p in out.rglob("*")) == before

    def test_resume_refuses_other_settings(self, trained: tuple[Path, Path]) -> None:
        out, _ = trained
        result = run("train.py", "--out", out, "--resume", "auto", "--features", 8, code=2)
        assert "--features" in result.stderr

    def test_evaluation_never_moves_the_split(
        self, trained: tuple[Path, Path], tmp_path: Path
    ) -> None:
        """Longer inputs are cut from the part that was held out, or refused; never from others."""
        out, _ = trained
        run("eval.py", out, "--input-frames", 20, "--out", tmp_path, code=3)
        for change in (["--split", "train=0.1", "test=0.9"], ["--frame-step", 2]):
            assert "split" in run("eval.py", out, *change, "--out", tmp_path, code=2).stderr

    def test_output_among_the_pictures(self, tmp_path: Path) -> None:
        data = make_clips(tmp_path / "clips")
        flags = ["--dataset", "folder", "--data", data, *TINY, "--out", data / "run"]
        assert "--out" in run("train.py", *flags, code=2).stderr

    def test_nothing_to_resume(self, tmp_path: Path) -> None:
        run("train.py", "--out", tmp_path / "none", "--resume", "must", code=4)
        assert not (tmp_path / "none").exists()

    def test_a_folder_in_use(self, tmp_path: Path) -> None:
        flags = ["--out", tmp_path / "run", *TINY, "--steps-per-epoch", 2000]
        first = subprocess.Popen(
            [sys.executable, str(ROOT / "train.py"), *map(str, flags)], stdout=subprocess.DEVNULL
        )
        try:
            deadline = time.monotonic() + 100
            while not (tmp_path / "run" / "metrics.jsonl").is_file():
                assert first.poll() is None and time.monotonic() < deadline
                time.sleep(0.05)
            for resume in ([], ["--resume", "auto"]):
                assert str(first.pid) in run("train.py", *flags, *resume, code=4).stderr
            assert first.poll() is None
        finally:
            first.kill()
            first.wait()

    def test_missing_and_foreign_runs(self, tmp_path: Path) -> None:
        run("eval.py", tmp_path / "none", code=4)
        (tmp_path / "notes.txt").write_text("not a run")
        run("eval.py", tmp_path, code=4)

    def test_wrong_channels_at_evaluation(self, trained: tuple[Path, Path], tmp_path: Path) -> None:
        out, _ = trained
        data = make_clips(tmp_path / "clips", mode="RGB")
        result = run("eval.py", out, "--data", data, code=3)
        assert "trained on 1 channel, got 3" in result.stderr

    def test_non_finite_loss(self, tmp_path: Path) -> None:
        data = make_clips(tmp_path / "clips")
        flags = ["--data", data, "--out", tmp_path / "run", *TINY, "--output", "change"]
        result = run("train.py", *flags, "--learning-rate", "1e30", "--warmup-steps", 0, code=5)
        assert "learning rate" in result.stderr and "step" in result.stderr
