"""The short form of `benchmarks/faults.py`: real kills, signals and full disks, a few of each."""

import argparse
import importlib.util
import os
import shutil
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).resolve().parent.parent / "benchmarks" / "faults.py"
FEW = argparse.Namespace(kills=3, fills=2, repeats=1, seed=1)


@pytest.fixture(scope="module")
def faults() -> ModuleType:
    spec = importlib.util.spec_from_file_location("faults", SCRIPT)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_killed_runs_go_on_to_the_same_end(faults: ModuleType, tmp_path: Path) -> None:
    counts = faults.kill(tmp_path, FEW)
    assert counts["kills"] == 3 and counts["runs ended"] >= 1
    assert counts["cannot resume"] == counts["differ"] == 0


@pytest.mark.slow
@pytest.mark.parametrize("phase", ["importing", "compiling", "evaluating", "waiting", "saving"])
def test_signals_end_every_phase_with_everything_saved(
    faults: ModuleType, tmp_path: Path, phase: str
) -> None:
    counts = faults.signal_in(tmp_path, phase, FEW.repeats)
    assert counts["right exit code"] == counts["go on"] == counts["signals"] == 2


@pytest.mark.slow
def test_full_disks_lose_nothing_that_was_saved(faults: ModuleType, tmp_path: Path) -> None:
    if shutil.which("mount") is None or os.geteuid() != 0:
        pytest.skip("a disk of its own takes the right to mount one")
    counts = faults.disk(tmp_path / "disk", FEW)
    assert counts["exit code 6"] == counts["go on"] == counts["fill levels"] == 2
    assert counts["steps lost"] == counts["rest left"] == 0
