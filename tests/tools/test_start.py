"""How commands begin and end, whatever libraries do; each in a process of its own."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from scripts import ROOT, TINY

HEAD = "import sys, threading, time\nfrom jaxconvlstm.tools import start\n"


def program(text: str, **options: Any) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", HEAD + text],
        cwd=ROOT,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        **options,
    )


@pytest.mark.parametrize(
    "number, message",
    [
        (signal.SIGTERM, "terminated"),
        (signal.SIGINT, "interrupted"),
        (signal.SIGHUP, "stopped by SIGHUP"),
    ],
)
def test_no_handler_of_exceptions_keeps_a_signal(number: int, message: str) -> None:
    process = program("""
def run():
    print("running", flush=True)
    while True:
        try:
            time.sleep(0.01)
        except BaseException:
            pass
start.process(run)
""")
    assert process.stdout is not None and process.stdout.readline() == "running\n"
    process.send_signal(number)
    _, errors = process.communicate(timeout=10)
    assert (process.returncode, errors) == (128 + number, f"error: {message}\n")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_code_that_is_not_python_does_not_keep_a_signal(number: int) -> None:
    """As a compilation would, this takes minutes in the main thread and lets other threads run."""
    process = program("""
import hashlib
def run():
    print("running", flush=True)
    hashlib.pbkdf2_hmac("sha256", b"", b"", 2**31 - 1)
start.process(run)
""")
    assert process.stdout is not None and process.stdout.readline() == "running\n"
    process.send_signal(number)
    _, errors = process.communicate(timeout=10)
    assert process.returncode == 128 + number and errors.count("\n") == 1


def test_while_training_a_signal_is_noted_and_is_no_exception() -> None:
    process = program("""
from jaxconvlstm.tools import cli
from jaxconvlstm.training.signals import StopSignals
def run(arguments):
    with StopSignals() as stop:
        stop.note()
        print("running", flush=True)
        while True:
            try:
                time.sleep(0.01)
                stop.check()
            except Exception:
                pass
start.process(lambda: cli.run(run))
""")
    assert process.stdout is not None and process.stdout.readline() == "running\n"
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=10)
    assert (process.returncode, errors) == (143, "error: stopped by SIGTERM\n")


@pytest.mark.parametrize(
    "ending, code",
    [
        ("raise ResourceError('full')", 6),
        ('raise RuntimeError("can\'t start new thread")', 6),
        ("raise OSError(24, 'Too many open files')", 6),
        ("raise MemoryError", 6),
        ("pass", 0),
    ],
)
def test_nothing_is_waited_for_that_a_library_has_left(ending: str, code: int) -> None:
    process = program(f"""
from jaxconvlstm.errors import ResourceError
from jaxconvlstm.tools import cli
def run(arguments):
    print("to be seen")
    threading.Thread(target=time.sleep, args=(1000,)).start()
    {ending}
start.process(lambda: cli.run(run, []))
""")
    began = time.monotonic()
    printed, errors = process.communicate(timeout=20)
    assert process.returncode == code and time.monotonic() - began < 15
    assert printed == "to be seen\n" and errors.count("\n") == (code != 0)


def test_a_lack_of_file_descriptors_is_one_line(tmp_path: Path) -> None:
    command = ["train.py", "--out", tmp_path / "run", "--limit", "8", *TINY]
    process = subprocess.run(
        ["sh", "-c", f'ulimit -n 12 && exec "{sys.executable}" "$@"', "sh", *command],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert process.returncode == 6 and process.stderr.count("\n") == 1
    assert "file descriptors" in process.stderr


def test_streams_take_any_text_and_may_be_closed_or_full() -> None:
    text = "start.process(lambda: print('r\\xe9sum\\xe9 \\udcff', flush=True))"
    ascii_only = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    process = program(text, env=ascii_only)
    assert process.communicate(timeout=20) == ("r\\xe9sum\\xe9 \\udcff\n", "")
    closed = f'"{sys.executable}" -c "$0" >&-'
    done = subprocess.run(["sh", "-c", closed, HEAD + text], cwd=ROOT, capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")
    full = f'"{sys.executable}" -c "$0" > /dev/full'
    text = text.replace(", flush=True", "")
    done = subprocess.run(["sh", "-c", full, HEAD + text], cwd=ROOT, capture_output=True)
    assert done.returncode == 6
    assert done.stderr == b"error: standard output or a stream: No space left on device\n"


def test_a_device_that_jax_has_not_is_one_line() -> None:
    for platform in ("cuda", "nonsense"):
        process = program(
            "sys.argv = ['train.py']\nstart.command('tools.train')",
            env={**os.environ, "JAX_PLATFORMS": platform},
        )
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 2 and errors.count("\n") == 1
        assert f"JAX_PLATFORMS={platform}" in errors


def test_help_does_not_need_docstrings() -> None:
    text = f"{HEAD}\nsys.argv = ['train.py', '--help']\nstart.command('tools.train')"
    command = [sys.executable, "-OO", "-c", text]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and "--input-frames" in done.stdout


def test_a_lack_of_address_space_is_one_line() -> None:
    text = HEAD + "start.process(lambda: None)"
    limited = f'ulimit -v 1000000 && exec "{sys.executable}" -c "$0"'
    done = subprocess.run(["sh", "-c", limited, text], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 6
    assert done.stderr.startswith("error: not enough memory") and done.stderr.count("\n") == 1
