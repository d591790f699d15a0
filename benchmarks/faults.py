"""Inject faults into training runs, and count the losses.

python benchmarks/faults.py --out FAULTS              # all experiments, about 25 minutes, two cores
python benchmarks/faults.py --out FAULTS --only kill --kills 10

Prints the counts that `docs/reliability.md` reports, and writes them to `faults.json`. The
experiment with a full disk mounts a small file system, which needs root or user namespaces.
"""

import argparse
import dataclasses
import json
import os
import platform
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxconvlstm.errors import CheckpointError
from jaxconvlstm.evaluation.load import load
from jaxconvlstm.runs.checkpoint import Checkpoints
from jaxconvlstm.runs.step_folders import step_folders

ROOT = Path(__file__).resolve().parent.parent
# Small steps, saved often. Every option is on whose state a resumed run has to restore.
FLAGS = (
    "--model stacked --features 3 --layers 2 --norm batch --patch-size 4 --output sigmoid "
    "--input-frames 3 --target-frames 2 --limit 8 --batch-size 2 --flip both "
    "--dropout 0.2 --recurrent-dropout 0.2 --ema 0.9 --loss bce --supervise all "
    "--sampling scheduled --schedule step --decay-epochs 3 --reduce-on-plateau 1 "
    "--sample-every 0 --log-every 1"
).split()
# Keys of `metrics.jsonl` that measure time, and so differ between two equal runs.
TIMES = ("frames_per_second", "wait_share", "sequences_per_second")


def main() -> None:
    """Run the chosen experiments, print their counts, and save them after each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--kills", type=int, default=100, help="number of kill -9")
    parser.add_argument("--epochs", type=int, default=10, help="epochs of a run that is killed")
    parser.add_argument("--fills", type=int, default=10, help="fill levels of the disk")
    parser.add_argument("--repeats", type=int, default=3, help="signals of each kind in a phase")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="*", choices=EXPERIMENTS, default=list(EXPERIMENTS))
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    results: dict[str, Any] = {
        "machine": f"{os.cpu_count()} cores, Python {platform.python_version()}, "
        f"JAX {jax.__version__}, {jax.devices()[0].device_kind}"
    }
    print(results["machine"], flush=True)
    for name in arguments.only:
        results[name] = EXPERIMENTS[name](arguments.out / name, arguments)
        print(json.dumps({name: results[name]}, indent=1), flush=True)
        (arguments.out / "faults.json").write_text(json.dumps(results, indent=1) + "\n")


def train(run: Path, *flags: object, resume: str = "auto") -> subprocess.Popen[str]:
    """Start `train.py` with `FLAGS` and `flags`, with its output in `RUN.log`."""
    flags = (*FLAGS, *flags, "--out", run, "--resume", resume)
    return _begin(run, ROOT / "train.py", *flags)


def start(program: str, run: Path) -> subprocess.Popen[str]:
    """Start Python code that takes the run folder, with its output in `RUN.log`."""
    return _begin(run, "-c", program, run)


def _begin(run: Path, *arguments: object) -> subprocess.Popen[str]:
    run.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-u", *map(str, arguments)]
    # A background job of a shell ignores SIGINT, and its children inherit that: reset it for them.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with log_of(run).open("w") as log:
            return subprocess.Popen(command, stdout=log, stderr=log, text=True, cwd=ROOT)
    finally:
        signal.signal(signal.SIGINT, before)


def log_of(run: Path) -> Path:
    """The log file of the last process in a run folder."""
    return run.with_name(run.name + ".log")


def wait_for(pattern: str, run: Path, process: subprocess.Popen[str], seconds: float = 120) -> bool:
    """Wait until the log matches `pattern`; False if the process ended before that.

    Raises:
      TimeoutError: neither happened in `seconds`; the process is killed.
    """
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if re.search(pattern, log_of(run).read_text()):
            return True
        if process.poll() is not None:
            return re.search(pattern, log_of(run).read_text()) is not None
        time.sleep(0.005)
    process.kill()
    process.wait()
    raise TimeoutError(f"{pattern!r} was not printed: {log_of(run).read_text()[-2000:]}")


def records(run: Path) -> list[dict[str, Any]]:
    """The records of `metrics.jsonl` without times and without a truncated line."""
    found = []
    path = run / "metrics.jsonl"
    for line in path.read_text().splitlines() if path.is_file() else []:
        try:
            record = json.loads(line)
        except ValueError:
            continue
        found.append({key: value for key, value in record.items() if key not in TIMES})
    return found


def newest(run: Path) -> dict[str, Any]:
    """All arrays of the newest checkpoint."""
    with Checkpoints(run / "checkpoints") as checkpoints:
        step = checkpoints.choose("last")
        return checkpoints._load(step, dict.fromkeys(("variables", "opt_state", "trained")))


def same(one: Any, other: Any) -> bool:
    """True if the leaves of two trees are equal bit for bit."""
    leaves = [jax.tree.leaves(tree) for tree in (one, other)]
    return len(leaves[0]) == len(leaves[1]) and all(
        np.asarray(a).tobytes() == np.asarray(b).tobytes() for a, b in zip(*leaves)
    )


def kill(out: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Kill runs at random times, resume each until it ends, and compare it with an undisturbed run.

    A fifth of the kills come during the start of a process, the others within two seconds of its
    first step. A run saves every 5 of its 60 steps an epoch, and at the end of each epoch.
    """
    rng = random.Random(arguments.seed)
    flags = ("--epochs", arguments.epochs, "--steps-per-epoch", 60, "--checkpoint-every", 5)
    shutil.rmtree(out, ignore_errors=True)
    reference = out / "reference"
    assert train(reference, *flags).wait() == 0, log_of(reference).read_text()
    expected = records(reference), newest(reference)
    counts = {"kills": 0, "runs ended": 0, "cannot resume": 0, "differ": 0, "most steps lost": 0}
    starting = saving = number = 0
    run = out / "run-0"
    while counts["kills"] < arguments.kills or run.exists():
        logged = max((record["step"] for record in records(run)), default=0)
        process = train(run, *flags)
        if run.exists() and logged:
            # Steps lost are those logged before the kill and not in the checkpoint resumed from.
            wait_for(r"going on from step|error:|finished already", run, process)
            gone_on = re.search(r"(?:going on from|finished already, at) step (\d+)", log_text(run))
            lost = logged - int(gone_on[1]) if gone_on else logged
            counts["most steps lost"] = max(counts["most steps lost"], lost)
        early = rng.random() < 0.2
        if counts["kills"] < arguments.kills:
            begun = True if early else wait_for(r"compiled in|error:", run, process)
            time.sleep(rng.uniform(0, 4) if early else rng.uniform(0, 2))
            if begun and process.poll() is None:
                process.send_signal(signal.SIGKILL)
                process.wait()
                counts["kills"] += 1
                starting += early
                saving += any(run.glob("checkpoints/*orbax-checkpoint-tmp*"))
                continue
        if process.wait() != 0:
            counts["cannot resume"] += 1
            print(log_text(run)[-2000:], flush=True)
        else:
            counts["runs ended"] += 1
            if records(run) != expected[0] or not same(newest(run), expected[1]):
                counts["differ"] += 1
        number += 1
        run = out / f"run-{number}"
    aside = len(list(out.glob("run-*/checkpoints/*.damaged")))
    return {
        **counts,
        "while starting": starting,
        "with a save under way": saving,
        "steps set aside": aside,
    }


def log_text(run: Path) -> str:
    """The output of the last process in a run folder."""
    return log_of(run).read_text()


def damage(out: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Damage each file of the newest checkpoint in each way, then load it and the one before it.

    Returns:
      "damages", their number; "silent", loads of the damaged step that raised no error; "lost",
      loads of the newest undamaged step that gave other weights than before; "files".
    """
    shutil.rmtree(out, ignore_errors=True)
    run = out / "run"
    assert train(run, "--epochs", 2, "--steps-per-epoch", 3).wait() == 0, log_text(run)
    before = load(run, "3").variables
    counts = dict.fromkeys(("damages", "silent", "lost"), 0)
    checkpoints = run / "checkpoints"
    spare = out / "spare"
    shutil.copytree(checkpoints, spare)
    for path in sorted(p for p in (spare / "6").rglob("*") if p.is_file() and p.stat().st_size):
        for change in DAMAGES.values():
            shutil.rmtree(checkpoints)
            shutil.copytree(spare, checkpoints)
            change(checkpoints / path.relative_to(spare))
            counts["damages"] += 1
            try:
                load(run, "6")
                counts["silent"] += 1
            except CheckpointError:
                pass
            counts["lost"] += not same(load(run, "last").variables, before)
    return {**counts, "files": counts["damages"] // len(DAMAGES)}


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


DAMAGES = {
    "flipped": _flip,
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:-1]),
    "zeroed": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "deleted": Path.unlink,
}


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
    "compiling": Phase(r"generated clips", 1.0, ("--layers", 6, "--features", 8)),
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


def disk(out: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Fill the disk during training, to levels from no free space to space for nearly one step.

    At each level, a run first saves two steps with enough space. Then the disk is filled, and the
    run continues until saving fails. At last the disk is freed, and the run continues once more.
    """
    counts = {"fill levels": 0, "exit code 6": 0, "steps lost": 0, "rest left": 0, "go on": 0}
    with small_disk(out, megabytes=24) as place:
        for level in range(arguments.fills):
            run = place / f"run-{level}"
            flags = ("--features", 48, "--epochs", 50, "--steps-per-epoch", 2)
            assert train(run, *flags, "--max-steps", 4).wait() == 0, log_text(run)
            before = load(run, "last").variables
            size = sum(p.stat().st_size for p in run.glob("checkpoints/4/**/*") if p.is_file())
            filler = place / "filler"
            free = int(size * level / arguments.fills)
            filler.write_bytes(bytes(shutil.disk_usage(place).free - free))
            code = train(run, *flags).wait()
            counts["fill levels"] += 1
            counts["exit code 6"] += code == 6 and "no space left" in log_text(run).lower()
            if code != 6:
                print(code, log_text(run)[-1500:], flush=True)
            with Checkpoints(run / "checkpoints") as checkpoints:
                whole = [step for step in checkpoints.steps() if not checkpoints.damage(step)]
            counts["steps lost"] += len({2, 4} - set(whole))
            counts["steps lost"] += not same(load(run, "4").variables, before)
            left = [p for p in step_folders(run / "checkpoints") if int(p.name) > 4]
            counts["rest left"] += len(left) + len(list(run.glob("checkpoints/*tmp*")))
            filler.unlink()
            counts["go on"] += train(run, *flags, "--max-steps", 1).wait() == 0
            shutil.rmtree(run)
    return counts


class small_disk:
    """Context manager that mounts a file system of some megabytes in memory."""

    def __init__(self, place: Path, megabytes: int):
        self.place, self.megabytes = place, megabytes

    def __enter__(self) -> Path:
        self.place.mkdir(parents=True, exist_ok=True)
        size = f"size={self.megabytes}m"
        subprocess.run(["mount", "-t", "tmpfs", "-o", size, "tmpfs", self.place], check=True)
        return self.place

    def __exit__(self, *exception: object) -> None:
        subprocess.run(["umount", "--lazy", self.place], check=True)


EXPERIMENTS = {"kill": kill, "damage": damage, "signals": signals, "disk": disk}

if __name__ == "__main__":
    main()
