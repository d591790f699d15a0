"""The scripts run in this process, or in one of their own where that matters; tiny runs."""

import contextlib
import fcntl
import io
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jaxconvlstm import __main__ as tools
from jaxconvlstm.tools import cli, eval, train

ROOT = Path(__file__).resolve().parents[1]
MAINS = {"train.py": train.main, "eval.py": eval.main, "-m jaxconvlstm": tools.dispatch}
# The compiled step does not depend on the number of epochs: a run that goes on compiles nothing.
TINY = (
    "--epochs 2 --steps-per-epoch 3 --batch-size 2 --features 4 --layers 1 --downsample 2 "
    "--input-frames 3 --target-frames 2 --log-every 1 --sample-every 0 "
    "--schedule constant --warmup-steps 0"
).split()


def run(script: str, *arguments: object, code: int = 0) -> subprocess.CompletedProcess[str]:
    """Run a script in this process; check its exit code, and that an error is one line."""
    output, errors = io.StringIO(), io.StringIO()
    before = sys.argv[0]
    try:
        with (
            contextlib.redirect_stdout(output),
            contextlib.redirect_stderr(errors),
            pytest.raises(SystemExit) as left,
        ):
            # Messages name the command that fits how the program was started.
            sys.argv[0] = script if script.endswith(".py") else "__main__.py"
            cli.run(MAINS[script], [str(argument) for argument in arguments])
    finally:
        sys.argv[0] = before
    return checked(
        subprocess.CompletedProcess(
            arguments, int(left.value.code or 0), output.getvalue(), errors.getvalue()
        ),
        code,
    )


def run_process(*arguments: object, code: int = 0) -> subprocess.CompletedProcess[str]:
    """Run `python ...` in a process of its own, and check it likewise."""
    result = subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
    )
    return checked(result, code)


def checked(
    result: subprocess.CompletedProcess[str], code: int
) -> subprocess.CompletedProcess[str]:
    """The result, of which the exit code and the form of an error are as they should be."""
    assert result.returncode == code, result.stdout + result.stderr
    assert "Traceback" not in result.stderr
    if code:
        assert len(result.stderr.strip().splitlines()) == 1, result.stderr
    return result


def make_clips(
    folder: Path,
    sequences: int = 3,
    frames: int = 24,
    size: tuple[int, int] = (18, 14),
    mode: str = "L",
) -> Path:
    """Folders of PNGs in which a bright bar moves one pixel a frame; names without zero padding."""
    for sequence in range(sequences):
        place = folder / f"clip{sequence}"
        place.mkdir(parents=True)
        for frame in range(frames):
            pixels = np.full(size, 20, np.uint8)
            pixels[:, (frame + 3 * sequence) % size[1]] = 220
            Image.fromarray(pixels).convert(mode).save(place / f"frame{frame}.png")
    return folder


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """A folder that `make` fills, once for all processes of a parallel session."""
    base = factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / name
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.with_suffix(".made").exists():
            make(folder)
            folder.with_suffix(".made").touch()
    return folder
