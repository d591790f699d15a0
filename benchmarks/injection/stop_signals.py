"""SIGTERM and SIGINT: in each phase of training, and at random in every command."""

import argparse
import dataclasses
import random
import shutil
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from injection.processes import (
    CLIP_FLAGS,
    FLAGS,
    ROOT,
    begin,
    log_of,
    log_text,
    start,
    train,
    wait_for,
    write_clips,
)

# A run whose first 100 reads of a sequence return at once, and all later ones after 20 seconds.
SLOW = """
import sys, time
import numpy as np
from jaxconvlstm import Config, DataConfig, ModelConfig, TrainingConfig, fit
from jaxconvlstm.tools import cli, start
class Slow:
    clips, reads = np.random.default_rng(0).random((20, 6, 16, 16), np.float32), 0
    def __len__(self):
        return len(self.clips)
    def __getitem__(self, index):
        Slow.reads += 1
        if Slow.reads > 100:
            print("a clip that takes long", flush=True)
            time.sleep(20)
        return self.clips[index]
config = Config(
    DataConfig(input_frames=3, target_frames=2, cache=0.0),
    ModelConfig(features=(4,), layers=1),
    TrainingConfig(epochs=1000, steps_per_epoch=500, batch_size=2, sample_every=0),
)
start.process(
    lambda: cli.run(lambda arguments: fit(config, sys.argv[1], "auto", data=Slow()))
)
"""


@dataclasses.dataclass(frozen=True)
class Phase:
    """The time at which a signal is sent, and the expected outcome.

    Attributes:
      pattern: regular expression of the output that the phase begins with.
      delay: seconds from that output to the signal.
      flags: flags of `train.py`.
      program: Python code to run in place of `train.py`, if any.
      saved: true if the run must leave a checkpoint, false if it must leave none.
    """

    pattern: str
    delay: float
    flags: tuple[object, ...] = ()
    program: str | None = None
    saved: bool = True


PHASES = {
    "importing": Phase(r"^", 0.3, saved=False),
    "compiling": Phase(r"generated clips", 1.0, ("--layers", 6, "--features", 8), saved=False),
    "stepping": Phase(r"step \d+/", 0.2, ("--features", 32)),
    "waiting": Phase("a clip that takes long", 0.5, program=SLOW),
    "evaluating": Phase("compiled in", 2.0, ("--steps-per-epoch", 1, "--limit", 400)),
    "saving": Phase(r"step \d+/", 0.3, ("--features", 256, "--checkpoint-every", 1)),
}


def signals(out: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Send SIGTERM and SIGINT in each phase of training; see `signal_in`."""
    shutil.rmtree(out, ignore_errors=True)
    return {name: signal_in(out / name, name, arguments.repeats) for name in PHASES}


def signal_in(
    out: Path,
    name: str,
    repeats: int,
    kinds: Sequence[signal.Signals] = (signal.SIGTERM, signal.SIGINT),
) -> dict[str, Any]:
    """Send `repeats` signals of each kind in one phase, each to a new run.

    Returns:
      Counts of signals, of right exit codes and of runs that continued afterwards (or left no
      checkpoint, where there was nothing to save), and the seconds from the signal to the end.
    """
    phase = PHASES[name]
    seconds, right, going_on = [], 0, 0
    cases = [(n, r) for n in kinds for r in range(repeats)]
    for number, repeat in cases:
        run = out / f"{number.name}-{repeat}"
        flags = ("--epochs", 1000, "--steps-per-epoch", 500, *phase.flags)
        process = start(phase.program, run) if phase.program else train(run, *flags)
        wait_for(phase.pattern, run, process)
        time.sleep(phase.delay)
        sent = time.monotonic()
        process.send_signal(number)
        code = process.wait(120)
        seconds.append(round(time.monotonic() - sent, 2))
        # An unhandled signal gives its negative number; a handled one, as in shells, 128 + number.
        right += code in (128 + number, -number)
        if not phase.saved:
            going_on += not list(run.glob("checkpoints/*"))
        elif phase.program:
            process = start(phase.program, run)
            going_on += wait_for("going on from step", run, process)
            process.kill()
            process.wait()
        else:
            process = train(run, *flags, "--max-steps", 1, resume="must")
            going_on += process.wait() == 0 and "going on from step" in log_text(run)
    return {
        "signals": len(cases),
        "right exit code": right,
        "go on": going_on,
        "median seconds": float(np.median(seconds)),
        "most seconds": max(seconds),
    }


COMMANDS: dict[str, tuple[object, ...]] = {
    "train": ("train.py", "--out", "new", "--epochs", 1, "--steps-per-epoch", 20, *FLAGS),
    "train --data": ("train.py", "--data", "clips", "--out", "new", "--epochs", 1, *CLIP_FLAGS),
    "train --resume": ("train.py", "--out", "old", "--resume", "must", "--epochs", 9, *FLAGS),
    "eval": ("eval.py", "run", "--out", "scores"),
    "eval --forecast": ("eval.py", "run", "--data", "clips", "--forecast", 3, "--out", "frames"),
    "inspect": ("-m", "jaxconvlstm", "inspect", "--data", "clips"),
    "pathlist": (
        "-m",
        "jaxconvlstm",
        "pathlist",
        "--data",
        "clips",
        "--out",
        "list.txt",
        "--overwrite",
    ),
    "verify": ("-m", "jaxconvlstm", "verify", "run"),
}
"""Each command of the program, run in a folder with `clips`, and with a finished run `run`."""


def terminate(out: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Send SIGTERM at random moments of every command; see `terminate_in`."""
    place = prepare_commands(out)
    rng = random.Random(arguments.seed)
    names = list(COMMANDS)
    times = -(-arguments.terminations // len(names))
    return {name: terminate_in(place, name, times, rng) for name in names}


def prepare_commands(out: Path) -> Path:
    """Make the folder that `COMMANDS` run in."""
    shutil.rmtree(out, ignore_errors=True)
    write_clips(out / "clips")
    run = ("--data", "clips", "--out", "run", "--epochs", 1, *CLIP_FLAGS)
    process = begin(log_of(out / "command"), ROOT / "train.py", *run, cwd=out)
    assert process.wait() == 0, log_text(out / "command")
    return out


def terminate_in(place: Path, name: str, times: int, rng: random.Random) -> dict[str, Any]:
    """Send SIGTERM to one command, at moments spread over the time that it takes.

    Returns:
      Counts of signals, of those that met Python before the first line of the program, of wrong
      exit codes, and of outputs with a traceback; the most seconds from a signal to the end; and
      the files with temporary names that are left once the command has run to its end again.
    """
    log = log_of(place / "command")

    def command() -> Any:
        shutil.rmtree(place / "new", ignore_errors=True)
        if name == "train --resume" and not (place / "old").exists():
            flags = ("--out", "old", "--epochs", 1, *FLAGS)
            assert begin(log, ROOT / "train.py", *flags, cwd=place).wait() == 0, log_text(
                place / "command"
            )
            shutil.copytree(place / "old", place / "kept")
        script, *flags = COMMANDS[name]
        script = ROOT / script if str(script).endswith(".py") else script
        return begin(log, script, *flags, cwd=place)

    def again() -> None:
        if (place / "kept").exists():
            shutil.rmtree(place / "old")
            shutil.copytree(place / "kept", place / "old")

    process = command()
    began = time.monotonic()
    assert process.wait() == 0, log_text(place / "command")
    length = time.monotonic() - began
    counts = dict.fromkeys(("signals", "before the first line", "wrong exit code", "traceback"), 0)
    most = 0.0
    while counts["signals"] < times:
        again()
        process = command()
        time.sleep(rng.uniform(0, length))
        if process.poll() is not None:
            continue  # it was quicker this time
        sent = time.monotonic()
        process.send_signal(signal.SIGTERM)
        code = process.wait(120)
        most = max(most, time.monotonic() - sent)
        counts["signals"] += 1
        counts["before the first line"] += code == -signal.SIGTERM
        printed = log_text(place / "command")
        wrong = code not in (128 + signal.SIGTERM, -signal.SIGTERM)
        torn = "Traceback" in printed
        counts["wrong exit code"] += wrong
        counts["traceback"] += torn
        if wrong or torn:
            print(name, code, printed[-1500:], flush=True)
    again()
    assert command().wait() == 0, log_text(place / "command")
    left = [path for path in place.rglob("*tmp*") if path.is_file()]
    found = {**counts, "most seconds": round(most, 2), "temporary files left": len(left)}
    print(name, found, flush=True)
    return found
