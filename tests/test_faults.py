"""The short form of `benchmarks/faults.py`: a few of each of its faults, all of them real."""

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from injection import damage, kills, processes, races, saves, stop_signals
from scripts import ROOT

FEW = argparse.Namespace(kills=2, epochs=3, fills=2, seed=1, texts=1)
pytestmark = pytest.mark.slow


def test_killed_runs_go_on_to_the_same_end(tmp_path: Path) -> None:
    counts = kills.kill(tmp_path, FEW)
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
    tmp_path: Path, phase: str, kinds: list[signal.Signals]
) -> None:
    counts = stop_signals.signal_in(tmp_path, phase, 1, kinds)
    assert counts["right exit code"] == counts["go on"] == counts["signals"] == len(kinds)


def test_a_second_interrupt_waits_for_nothing(tmp_path: Path) -> None:
    phase = stop_signals.PHASES["saving"]
    process = processes.train(tmp_path / "run", "--epochs", 1000, *phase.flags)
    processes.wait_for(phase.pattern, tmp_path / "run", process)
    time.sleep(phase.delay)
    process.send_signal(signal.SIGINT)
    time.sleep(0.1)  # the first one saves 117 MB, and in the middle of that
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 130
    # Where the first one was quick enough, there was nothing left to interrupt.
    last = processes.log_text(tmp_path / "run").splitlines()[-1]
    assert last == "error: interrupted" or last.startswith("error: stopped by SIGINT; saved step")


def test_a_read_only_run_is_evaluated_and_not_trained(tmp_path: Path) -> None:
    run, shown = tmp_path / "run", tmp_path / "shown"
    assert processes.train(run, "--epochs", 1, "--steps-per-epoch", 2).wait() == 0
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


def test_full_disks_lose_nothing_that_was_saved(tmp_path: Path) -> None:
    skip_without_a_disk()
    counts = saves.disk(tmp_path / "disk", FEW)
    assert counts["exit code 6"] == counts["go on"] == counts["fill levels"] == 2
    assert counts["steps lost"] == counts["rest left"] == 0


def skip_without_a_disk() -> None:
    if shutil.which("mount") is None or os.geteuid() != 0:
        pytest.skip("a disk of its own takes the right to mount one")


@pytest.mark.parametrize("name", ["no inodes", "moved away", "file-size limit", "no descriptors"])
def test_failed_saves_end_the_run_and_lose_nothing(tmp_path: Path, name: str) -> None:
    skip_without_a_disk()
    counts = saves.fail(tmp_path, name, 1)
    assert counts["right exit code"] == counts["named"] == counts["go on"] == counts["runs"] == 1
    assert counts["nothing left"] == 0 and counts["most seconds"] < 10


def test_a_termination_ends_every_command_at_any_moment(tmp_path: Path) -> None:
    place = stop_signals.prepare_commands(tmp_path / "place")
    for name in ("train --data", "eval", "inspect"):
        counts = stop_signals.terminate_in(place, name, 2, random.Random(0))
        assert counts["signals"] == 2
        assert counts["wrong exit code"] == counts["traceback"] == 0, name
        assert counts["temporary files left"] == 0


def test_steps_in_the_place_of_others_are_not_believed(tmp_path: Path) -> None:
    counts = damage.identities(tmp_path, FEW)
    assert len(set(counts.values())) == 1


def test_damaged_json_is_said(tmp_path: Path) -> None:
    counts = damage.json_damage(tmp_path, FEW)
    assert counts["damages"] == len(damage.TEXT_DAMAGES)
    assert counts["exceptions"] == counts["too long"] == counts["control codes"] == 0


def test_a_run_is_read_while_it_is_written_and_written_by_one(tmp_path: Path) -> None:
    read = races.readers(tmp_path / "read", 2)
    assert read["loads failed"] == read["verifications failed"] == 0 < read["loads"]
    written = races.writers(tmp_path / "written", 2, seed=0)
    assert written["wrong exit code"] == written["differ"] == 0


def test_a_reader_of_the_output_that_goes_away_loses_nothing(tmp_path: Path) -> None:
    run = tmp_path / "run"
    command = [sys.executable, "-u", ROOT / "train.py", *processes.FLAGS, "--epochs", "1000"]
    process = subprocess.Popen(
        [*command, "--steps-per-epoch", "1000", "--out", run], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("step "):
            break
    process.stdout.close()
    assert process.wait(60) == 1
    assert [int(step.name) > 1 for step in run.glob("checkpoints/*")] == [True]
