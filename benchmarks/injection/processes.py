"""Start commands of the program, read what they print, and compare what they leave."""

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from PIL import Image

from jaxconvlstm.runs.checkpoint import Checkpoints

ROOT = Path(__file__).resolve().parents[2]
# Small steps, saved often. Every option is on whose state a resumed run has to restore.
FLAGS = (
    "--model stacked --features 3 --layers 2 --norm batch --patch-size 4 --output sigmoid "
    "--input-frames 3 --target-frames 2 --limit 8 --batch-size 2 --flip both "
    "--dropout 0.2 --recurrent-dropout 0.2 --ema 0.9 --loss bce --supervise all "
    "--sampling scheduled --schedule step --decay-epochs 3 --reduce-on-plateau 1 "
    "--sample-every 0 --log-every 1"
).split()
# Likewise, of the pictures that `write_clips` writes.
CLIP_FLAGS = (
    "--input-frames 3 --target-frames 2 --batch-size 4 --features 3 --layers 1 --downsample 2 "
    "--steps-per-epoch 4 --log-every 1"
).split()
# Keys of `metrics.jsonl` that measure time, and so differ between two equal runs.
TIMES = ("frames_per_second", "wait_share", "sequences_per_second")


def train(run: Path, *flags: object, resume: str = "auto") -> subprocess.Popen[str]:
    """Start `train.py` with `FLAGS` and `flags`, with its output in `RUN.log`."""
    flags = (*FLAGS, *flags, "--out", run, "--resume", resume)
    return _begin(run, ROOT / "train.py", *flags)


def start(program: str, run: Path) -> subprocess.Popen[str]:
    """Start Python code that takes the run folder, with its output in `RUN.log`."""
    return _begin(run, "-c", program, run)


def begin(
    log: Path, *arguments: object, cwd: Path = ROOT, prefix: Sequence[str] = ()
) -> subprocess.Popen[str]:
    """Start `PREFIX python ARGUMENTS` in a folder, with its output in the file `log`."""
    command = [*prefix, sys.executable, "-u", *map(str, arguments)]
    # A background job of a shell ignores SIGINT, and its children inherit that: reset it for them.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with log.open("w") as stream:
            return subprocess.Popen(command, stdout=stream, stderr=stream, text=True, cwd=cwd)
    finally:
        signal.signal(signal.SIGINT, before)


def _begin(run: Path, *arguments: object) -> subprocess.Popen[str]:
    run.parent.mkdir(parents=True, exist_ok=True)
    return begin(log_of(run), *arguments)


def write_clips(folder: Path, clips: int = 6, frames: int = 12) -> None:
    """Write folders of grey pictures of 24x20 pixels in which a bright bar moves."""
    for clip in range(clips):
        place = folder / f"clip{clip}"
        place.mkdir(parents=True)
        for frame in range(frames):
            pixels = np.full((24, 20), 20, np.uint8)
            pixels[:, (frame + 3 * clip) % 20] = 220
            Image.fromarray(pixels).save(place / f"{frame:03d}.png")


def log_of(run: Path) -> Path:
    """The log file of the last process in a run folder."""
    return run.with_name(run.name + ".log")


def log_text(run: Path) -> str:
    """The output of the last process in a run folder."""
    return log_of(run).read_text(errors="replace")


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
