"""Saves that fail: full disks and other limits."""

import argparse
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from injection.processes import FLAGS, ROOT, begin, log_of, log_text, same, train, wait_for
from jaxconvlstm.evaluation.load import load
from jaxconvlstm.runs.checkpoint import Checkpoints
from jaxconvlstm.runs.step_folders import step_folders


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

    def __init__(self, place: Path, megabytes: int, files: int = 0):
        self.place, self.megabytes, self.files = place, megabytes, files

    def __enter__(self) -> Path:
        self.place.mkdir(parents=True, exist_ok=True)
        size = f"size={self.megabytes}m,nr_inodes={self.files}"
        subprocess.run(["mount", "-t", "tmpfs", "-o", size, "tmpfs", self.place], check=True)
        return self.place

    def __exit__(self, *exception: object) -> None:
        subprocess.run(["umount", "--lazy", self.place], check=True)


def _use_up_files(place: Path, process: Any) -> None:
    try:
        for number in range(10**6):
            (place / "filler" / str(number)).touch()
    except OSError:
        pass


def _fill(place: Path, process: Any) -> None:
    try:
        with (place / "filler" / "0").open("wb", buffering=0) as file:
            while file.write(bytes(4096)) == 4096:
                pass
    except OSError:
        pass


def _move_away(place: Path, process: Any) -> None:
    (place / "run").rename(place / "away")


def _limit(kind: str, value: int, user: Sequence[str] = ()) -> Callable[[Path, Any], None]:
    def limit(place: Path, process: Any) -> None:
        # By another process: a user's own processes are the only ones that a container may limit.
        command = [*user, "prlimit", "--pid", str(process.pid), f"--{kind}={value}:{value}"]
        subprocess.run(command, check=True)

    return limit


# Who may still read and write what root can.
_AS_NOBODY = ("setpriv", "--reuid", "65534", "--inh-caps", "+dac_override")
_AS_NOBODY += ("--ambient-caps", "+dac_override")
# Each failure, what the error has to name, and the exit codes that it may have.
FAILURES: dict[str, tuple[Callable[[Path, Any], None], str, tuple[int, ...]]] = {
    "no space": (_fill, "no space left", (6,)),
    "no inodes": (_use_up_files, "inodes", (6,)),
    # What is under way fails by itself, or the next save sees it.
    "moved away": (_move_away, "was moved|No such file or directory", (4, 6)),
    "file-size limit": (_limit("fsize", 1000), "File too large", (6,)),
    "no descriptors": (_limit("nofile", 3), "file descriptors", (6,)),
    "no threads": (_limit("nproc", 1, _AS_NOBODY), "threads", (6,)),
}


def failed_saves(out: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Take away what saving needs while a run trains; then give it back, and let the run go on."""
    return {name: fail(out / name.replace(" ", "-"), name, arguments.saves) for name in FAILURES}


def fail(out: Path, name: str, times: int) -> dict[str, Any]:
    """Let the saves of runs fail in one way.

    Returns:
      Counts of runs, of those with the right exit code, of those with one line that names what was
      scarce, of those without a whole step, and of those that went on; and the most seconds from
      the failure to the end.
    """
    provoke, named, expected = FAILURES[name]
    counts = dict.fromkeys(("runs", "right exit code", "named", "nothing left", "go on"), 0)
    most = 0.0
    flags = ("--epochs", 10_000, "--steps-per-epoch", 10)
    for number in range(times):
        log = out / "command"  # not on the disk that fails
        with small_disk(out / "disk", megabytes=24, files=2000) as place:
            (place / "filler").mkdir()
            run = place / "run"
            # The number of threads is that of a user, and root's has no limit.
            prefix = _AS_NOBODY if name == "no threads" else ()
            command = (ROOT / "train.py", *FLAGS, *flags, "--out", run, "--resume", "auto")
            process = begin(log_of(log), *command, prefix=prefix)
            wait_for(r"epoch 3/", log, process)  # the first save is whole
            time.sleep(0.3 * number)
            provoke(place, process)
            began = time.monotonic()
            code = process.wait(120)
            most = max(most, time.monotonic() - began)
            errors = [line for line in log_text(log).splitlines() if line.startswith("error: ")]
            right = len(errors) == 1 and re.search(named, errors[0], re.IGNORECASE) is not None
            counts["runs"] += 1
            counts["right exit code"] += code in expected
            counts["named"] += right
            if code not in expected or not right:
                print(name, code, log_text(log)[-1500:], flush=True)
            if (place / "away").exists():
                shutil.rmtree(run, ignore_errors=True)  # of a save that was under way
                (place / "away").rename(run)
            with Checkpoints(run / "checkpoints") as checkpoints:
                whole = [step for step in checkpoints.steps() if not checkpoints.damage(step)]
            counts["nothing left"] += not whole
            shutil.rmtree(place / "filler")
            process = begin(log_of(log), *command, "--max-steps", 1, prefix=prefix)
            counts["go on"] += process.wait() == 0 and "going on from step" in log_text(log)
    return {**counts, "most seconds": round(most, 2)}
