"""The benchmarks of speed run, and say what they promise; how fast is not a test's business."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jaxconvlstm.nn.variants import VARIANTS

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"
pytestmark = pytest.mark.slow
TINY = {"BENCHMARKS_TINY": "1"}


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
    printed = run("step_time.py", *flags.split(), "--json", str(path), **TINY)
    (result,) = json.loads(path.read_text())
    peers: dict[str, Any] = result["peers"]
    assert set(peers) == {"ours", "flax"}
    assert all(peer["seconds"] > 0 and peer["turns"] == 1 for peer in peers.values())
    assert result["matrix_flops_per_second"] > 0
    assert "| flax |" in printed
    assert "keras-jax: left out (NotImplementedError" in printed


def test_forecasts_are_timed() -> None:
    assert "sequences/s" in run(
        *("rollout.py", "--work", "seq2one", "--batch-size", "1", "--rounds", "1"),
        *("--peers", "ours"),
        **TINY,
    )


@pytest.fixture
def bare(tmp_path: Path) -> dict[str, str]:
    """An environment in which only what a bare GPU machine has can be imported."""
    absent = ["tyro", "av", "grain", "matplotlib", "tensorboardX", "keras", "tensorflow"]
    place = tmp_path / "absent"
    place.mkdir()
    text = f"import sys\nsys.modules.update(dict.fromkeys({absent}))\n"
    (place / "sitecustomize.py").write_text(text)
    return {"PYTHONPATH": str(place)}


def test_a_gpus_questions_are_all_answered(tmp_path: Path, bare: dict[str, str]) -> None:
    run("gpu.py", "--out", str(tmp_path), "--minutes", "9", "--tiny", **bare)
    report = (tmp_path / "report.md").read_text()
    parts = dict(part.split("\n\n", 1) for part in report.removeprefix("## ").split("\n## "))
    parts = {title.rpartition(" (")[0]: text for title, text in parts.items()}
    assert "TFLOP/s" in parts["The machine"]
    assert "largest difference from a CPU" in parts["Agreement with a CPU"]
    everything = parts["Sequence to one, batch 8, bfloat16: all variants"]
    assert all(f"| {name} |" in everything for name in VARIANTS)
    assert "one step late" in parts["Cost of fetching the metrics"]
    races = [text for text in parts.values() if text.startswith("| implementation")]
    assert len(races) >= 5 and all("| default |" in text for text in races)
    for title, text in parts.items():
        # Without PyTorch its rows are left out; training whole runs needs more than there is.
        lines = [line for line in text.splitlines() if "torch" not in line]
        if title != "Checkpoints between CPU and GPU":
            assert not any("failed" in line or "left out" in line for line in lines), text
    results = json.loads((tmp_path / "results.json").read_text())
    for entries in (result["entries"] for result in results if "entries" in result):
        norms = [entry["gradient_norm"] for entry in entries.values() if "gradient_norm" in entry]
        assert np.ptp(norms or [0]) <= 0.02 * max(norms or [1])


def test_what_was_found_is_there_when_time_is_up(tmp_path: Path, bare: dict[str, str]) -> None:
    run("gpu.py", "--out", str(tmp_path), "--minutes", "0.05", "--tiny", **bare)
    report = (tmp_path / "report.md").read_text()
    assert "TFLOP/s" in report and "not asked: time was up" in report
