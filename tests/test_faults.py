"""The short form of `benchmarks/faults.py`: real kills, signals and full disks, a few of each."""

import argparse
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parent.parent
SCRIPT = ROOT / "benchmarks" / "faults.py"
FEW = argparse.Namespace(kills=2, epochs=3, fills=2, repeats=1, seed=1)
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def faults() -> ModuleType:
    spec = importlib.util.spec_from_file_location("faults", SCRIPT)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_killed_runs_go_on_to_the_same_end(faults: ModuleType, tmp_path: Path) -> None:
    counts = faults.kill(tmp_path, FEW)
    assert counts["kills"] == 2 and counts["runs ended"] >= 1
    assert counts["cannot resume"] == counts["differ"] == 0


@pytest.mark.parametrize(
    "phase, kinds",
    [
        ("importing", [signal.SIGTERM, signal.SIGINT]),
        ("compiling", [signal.SIGINT]),
        ("evaluating", [signal.SIGTERM]),
        ("waiting", [signal.SIGINT]),
        ("saving", [signal.SIGTERM]),
    ],
)
def test_signals_end_every_phase_with_everything_saved(
    faults: ModuleType, tmp_path: Path, phase: str, kinds: list[signal.Signals]
) -> None:
    counts = faults.signal_in(tmp_path, phase, FEW.repeats, kinds)
    assert counts["right exit code"] == counts["go on"] == counts["signals"] == len(kinds)


def test_a_second_interrupt_waits_for_nothing(faults: ModuleType, tmp_path: Path) -> None:
    phase = faults.PHASES["saving"]
    process = faults.train(tmp_path / "run", "--epochs", 1000, *phase.flags)
    faults.wait_for(phase.pattern, tmp_path / "run", process)
    time.sleep(phase.delay)
    process.send_signal(signal.SIGINT)
    time.sleep(0.1)  # the first one saves 117 MB, and in the middle of that
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 130
    # Where the first one was quick enough, there was nothing left to interrupt.
    last = faults.log_text(tmp_path / "run").splitlines()[-1]
    assert last == "error: interrupted" or last.startswith("error: stopped by SIGINT; saved step")


def test_a_read_only_run_is_evaluated_and_not_trained(faults: ModuleType, tmp_path: Path) -> None:
    run, shown = tmp_path / "run", tmp_path / "shown"
    assert faults.train(run, "--epochs", 1, "--steps-per-epoch", 2).wait() == 0
    shown.mkdir()
    mount = [["mount", "--bind", run, shown], ["mount", "-o", "remount,ro,bind", shown]]
    if os.geteuid() != 0 or any(subprocess.run(command).returncode for command in mount):
        pytest.skip("a read-only folder takes the right to mount one")
    try:
        command = [sys.executable, ROOT / "eval.py", shown, "--samples", "1"]
        result = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
        assert result.returncode == 0, result.stderr
        assert "writing to shown-eval instead" in result.stdout
        assert (tmp_path / "shown-eval" / "metrics.json").is_file()
        command = [sys.executable, ROOT / "train.py", "--out", shown, "--resume", "auto"]
        result = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
        assert result.returncode == 6 and "Read-only file system" in result.stderr
        assert "compiled" not in result.stdout
    finally:
        subprocess.run(["umount", "--lazy", shown], check=True)


def test_full_disks_lose_nothing_that_was_saved(faults: ModuleType, tmp_path: Path) -> None:
    if shutil.which("mount") is None or os.geteuid() != 0:
        pytest.skip("a disk of its own takes the right to mount one")
    counts = faults.disk(tmp_path / "disk", FEW)
    assert counts["exit code 6"] == counts["go on"] == counts["fill levels"] == 2
    assert counts["steps lost"] == counts["rest left"] == 0
