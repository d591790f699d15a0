"""The benchmarks of speed run, and say what they promise; how fast is not a test's business."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"
pytestmark = pytest.mark.slow


def run(script: str, *flags: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, str(BENCHMARKS / script), *flags],
        capture_output=True,
        text=True,
        env=os.environ | environment,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_steps_are_timed_and_peers_that_cannot_are_named(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    flags = "--work seq2one --batch-size 1 --rounds 1 --peers ours flax keras-jax"
    # Not optimised, as in other tests, one step of Flax's would take twenty seconds.
    printed = run("step_time.py", *flags.split(), "--json", str(path), XLA_FLAGS="")
    (result,) = json.loads(path.read_text())
    peers: dict[str, Any] = result["peers"]
    assert set(peers) == {"ours", "flax"}
    assert all(peer["seconds"] > 0 and peer["turns"] == 1 for peer in peers.values())
    assert result["matrix_flops_per_second"] > 0
    assert "| flax |" in printed
    assert "keras-jax: left out (NotImplementedError" in printed


def test_forecasts_are_timed() -> None:
    assert "sequences/s" in run(
        "rollout.py", "--work", "seq2one", "--batch-size", "1", "--rounds", "1", "--peers", "ours"
    )


def test_questions_are_answered_until_time_is_up(tmp_path: Path) -> None:
    run("gpu.py", "--out", str(tmp_path), "--minutes", "0.4")
    report = (tmp_path / "report.md").read_text()
    assert "largest difference of a GPU from a CPU" in report
    assert "not asked: time was up" in report
