"""Damaged files of runs, and steps in a place that is not theirs."""

import argparse
import contextlib
import io
import os
import shutil
import signal
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

from injection.processes import CLIP_FLAGS, log_text, same, train, write_clips
from jaxconvlstm.errors import CheckpointError
from jaxconvlstm.evaluation.load import load
from jaxconvlstm.tools import cli, eval, verify
from jaxconvlstm.tools import train as training


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


def flip(path: Path) -> None:
    """Flip a bit in the middle of a file."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


DAMAGES = {
    "flipped": flip,
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:-1]),
    "zeroed": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "deleted": Path.unlink,
}


def _write(content: bytes) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        path.write_bytes(content)

    return write


def _in_its_place(make: Callable[[Path], object]) -> Callable[[Path], None]:
    def replace(path: Path) -> None:
        path.unlink()
        make(path)

    return replace


def _replace(old: bytes, new: bytes) -> Callable[[Path], None]:
    return lambda path: path.write_bytes(path.read_bytes().replace(old, new))


TEXT_DAMAGES: dict[str, Callable[[Path], object]] = {
    **DAMAGES,
    "empty": _write(b""),
    "halved": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "no UTF-8": lambda path: path.write_bytes(b"\xff\xfe" + path.read_bytes()),
    "nested": _write(b"[" * 100_000),
    "nested objects": _write(b'{"a":' * 100_000),
    "a list": _write(b"[]"),
    "null": _write(b"null"),
    "numbers for objects": _write(b'{"data": 5, "training": 5, "train": 5, "run": 5, "files": 5}'),
    "huge numbers": lambda path: path.write_bytes(
        b'{"step": 1e400, "train": 1e400, "run": 1e400, "training": {"seed": 1%s}}' % (b"0" * 20)
    ),
    "control codes": _write(b'{"\\u001b[2Jkey": "\\u001b]0;title"}'),
    "no numbers": _replace(b": 1", b": NaN"),
    "texts": _replace(b": 2", b': "two"'),
    "a pipe": _in_its_place(os.mkfifo),
    "an endless device": _in_its_place(lambda path: path.symlink_to("/dev/zero")),
    "a folder": _in_its_place(Path.mkdir),
    "a link to nothing": _in_its_place(lambda path: path.symlink_to("nothing")),
}
TEXTS = (
    "config.json",
    "split.json",
    "run.json",
    "metrics.jsonl",
    ".lock",
    "checkpoints/8/manifest.json",
    "checkpoints/8/meta/data.json",
)


SECONDS = 60  # compiling included


def json_damage(out: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Damage every text file of a run in every way, and call `train`, `eval` and `verify` on it.

    Returns:
      Counts of damages and of calls; of calls that raised an exception which is no message, took
      over `SECONDS`, or printed control codes; and of exit codes.
    """
    shutil.rmtree(out, ignore_errors=True)
    # The same program is compiled hundreds of times.
    jax.config.update("jax_compilation_cache_dir", str(out / "compiled"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    run, spare = out / "run", out / "spare"
    write_clips(out / "clips")
    flags = ["--data", str(out / "clips"), "--out", str(run), "--epochs", "2", *CLIP_FLAGS]
    code, printed = call(training.main, flags)
    assert code == 0, printed
    (run / ".lock").write_text("process 1234567 on another machine")  # as one that was killed
    shutil.copytree(run, spare)
    calls: dict[str, tuple[Callable[..., None], list[str]]] = {
        "verify": (verify.main, [str(run)]),
        "eval": (eval.main, [str(run), "--samples", "0"]),
        "train": (training.main, [*flags, "--resume", "auto"]),
    }
    counts: dict[str, Any] = dict.fromkeys(
        ("damages", "calls", "exceptions", "too long", "control codes"), 0
    )
    codes: dict[str, dict[int, int]] = {name: {} for name in calls}
    for text in TEXTS[: arguments.texts]:
        for name, change in TEXT_DAMAGES.items():
            counts["damages"] += 1
            for command, (main, flags) in calls.items():
                shutil.rmtree(run)
                shutil.copytree(spare, run)
                change(run / text)
                code, printed = call(main, flags)
                counts["calls"] += 1
                counts["exceptions"] += code == "exception"
                counts["too long"] += code == "late"
                counts["control codes"] += "\x1b" in printed
                codes[command][code] = codes[command].get(code, 0) + 1
                if isinstance(code, str) or "\x1b" in printed:
                    print(text, name, command, repr(printed[-1500:]), flush=True)
    return {**counts, "exit codes": codes}


class _Late(BaseException):
    """A command has taken `SECONDS`."""


def call(main: Callable[..., None], flags: list[str]) -> tuple[Any, str]:
    """Run a command in this process; its exit code, "exception" or "late", and what it printed."""
    printed = io.StringIO()

    def late(number: int, frame: object) -> None:
        raise _Late

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(SECONDS)
    try:
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            cli.run(main, flags)
    except SystemExit as stop:
        return int(stop.code or 0), printed.getvalue()
    except _Late:
        return "late", printed.getvalue() + traceback.format_exc()
    except BaseException:
        return "exception", printed.getvalue() + traceback.format_exc()
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def _swap(steps: Path, other: Path) -> None:
    (steps / "3").rename(steps / "x")
    (steps / "6").rename(steps / "3")
    (steps / "x").rename(steps / "6")


def _put(step: str, other_steps: Path, steps: Path) -> None:
    shutil.rmtree(steps / step)
    shutil.copytree(other_steps / step, steps / step)


def _put_all(steps: Path, other: Path) -> None:
    shutil.rmtree(steps)
    shutil.copytree(other, steps)


SWAPS: dict[str, tuple[Callable[[Path, Path], object], list[int]]] = {
    "two steps swapped": (_swap, []),
    "renamed": (lambda steps, other: (steps / "6").rename(steps / "9"), [3]),
    "copied": (lambda steps, other: shutil.copytree(steps / "3", steps / "9"), [3, 6]),
    "newest of another run": (lambda steps, other: _put("6", other, steps), [3]),
    "older of another run": (lambda steps, other: _put("3", other, steps), [6]),
    "all of another run": (_put_all, []),
    "a link in a step": (lambda steps, other: (steps / "6" / "more").symlink_to(other), [3]),
}
"""What is done to the steps 3 and 6 of a run, and the steps that may still be believed."""


def identities(out: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Put steps where they were not saved.

    Returns:
      Counts of swaps; of those that `verify` refuses, with exit code 4; and of those after which
      `load` takes the newest step that may be believed, and `train.py` goes on from there, or both
      end with 4 where there is none.
    """
    shutil.rmtree(out, ignore_errors=True)
    flags = ("--epochs", 2, "--steps-per-epoch", 3)
    for seed in (0, 1):
        run = out / f"run-{seed}"
        assert train(run, *flags, "--seed", seed).wait() == 0, log_text(run)
    counts = dict.fromkeys(("swaps", "refused by verify", "loaded as expected", "go on"), 0)
    for swap, whole in SWAPS.values():
        run = out / "run"
        shutil.copytree(out / "run-0", run)
        swap(run / "checkpoints", out / "run-1" / "checkpoints")
        counts["swaps"] += 1
        counts["refused by verify"] += call(verify.main, [str(run)])[0] == 4
        try:
            counts["loaded as expected"] += load(run, "last").step == max(whole, default=None)
        except CheckpointError:
            counts["loaded as expected"] += not whole
        code = train(run, *flags[2:], "--epochs", 3, resume="must").wait()
        started = "going on from step" in log_text(run)
        counts["go on"] += (code, started) == ((0, True) if whole else (4, False))
        shutil.rmtree(run)
    return counts
