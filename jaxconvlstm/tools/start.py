"""How a command begins and ends: signals from the first line on, and no waiting for threads.

Nothing heavy is imported here, so that little can happen before signals are handled.
"""

import contextlib
import importlib
import logging
import os
import resource
import signal
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable
from types import FrameType
from typing import NoReturn

from jaxconvlstm.errors import describe_os_error, scarce_resource
from jaxconvlstm.training.signals import signals_to_stop

LEAST_MEMORY = 1_500_000_000
"""Bytes of address space with which a small network still trains."""
_ending = threading.Lock()
SECONDS_TO_END = 5.0
"""How long a command that has succeeded waits for what libraries do at exit."""


def command(module: str, function: str = "main") -> NoReturn:
    """Run the command of a module of this package, such as "tools.train", and end the process."""

    def run() -> None:
        from jaxconvlstm.tools import cli

        main = getattr(importlib.import_module(f"jaxconvlstm.{module}"), function)
        cli.run(main)

    process(run)


def process(run: Callable[[], object]) -> NoReturn:
    """Run a command and end the process with its exit code, within seconds.

    Outside of training nothing has to be saved, so that a signal ends the process on the spot. An
    exception could be met by any library on its way; training puts handlers of its own.
    """
    _prepare_streams()
    if "--debug" not in sys.argv:
        # What fails is raised and said in one line. What else goes wrong with it, in the threads
        # of a library and where it clears up, is not.
        threading.excepthook = lambda _: None
        sys.unraisablehook = lambda _: None
        warnings.filterwarnings("ignore", "coroutine .* was never awaited")
        logging.getLogger("asyncio").setLevel(logging.CRITICAL + 1)
    for number in signals_to_stop():
        signal.signal(number, _end_at_once)
    _watch_signals()
    _check_memory()
    code = 0
    try:
        run()
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else int(bool(stop.code))
    except BaseException as error:
        code = 6
        if scarce := scarce_resource(error):
            _write_error(f"not enough {scarce} to start ({type(error).__name__}: {error})")
        elif isinstance(error, OSError):
            _write_error(describe_os_error(error))
        else:
            code = 1
            traceback.print_exc()
    end(code)


def end(code: int) -> NoReturn:
    """End the process, whatever threads libraries have left."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except (OSError, ValueError) as error:
        code = code or 6
        if isinstance(error, OSError) and not isinstance(error, BrokenPipeError):
            _write_error(describe_os_error(error))
    with contextlib.suppress(OSError, ValueError, AttributeError):
        sys.stderr.flush()
    if code == 0:
        # What libraries do at exit, such as writing what they hold, is done if it takes no longer.
        patience = threading.Timer(SECONDS_TO_END, os._exit, [0])
        patience.daemon = True
        with contextlib.suppress(RuntimeError):  # no thread can be started
            patience.start()
            # Its reader may have gone, or its disk be full: what could be said of that was said.
            with contextlib.suppress(OSError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            sys.exit(0)
    os._exit(code)


def _check_memory() -> None:
    """End the process where XLA's C++ would abort, for want of address space, without a message."""
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit != resource.RLIM_INFINITY and limit < LEAST_MEMORY:
        _write_error(
            f"not enough memory to start: the process may use {limit / 1e6:.0f} MB (ulimit -v), "
            f"and needs {LEAST_MEMORY / 1e6:.0f}"
        )
        os._exit(6)


def _watch_signals() -> None:
    """End the process on a signal even while the main thread is in C code, such as a compilation.

    Handlers run between two instructions of Python, and a compilation takes a minute. A handler
    that training has put, to save first, is left to that; a second SIGINT is not.
    """
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)

    def watch() -> None:
        interrupts = 0
        while True:
            number = os.read(reading, 1)[0]
            interrupts += number == signal.SIGINT
            time.sleep(0.05)  # for the main thread, which can write out what it has printed
            if signal.getsignal(number) is _end_at_once or interrupts > 1:
                _say_and_exit(number)

    with contextlib.suppress(RuntimeError):  # no thread can be started
        threading.Thread(target=watch, daemon=True).start()


def _end_at_once(number: int, frame: FrameType | None) -> None:
    del frame
    # What was printed may stand in a buffer that this very moment is being written to.
    with contextlib.suppress(Exception):
        sys.stdout.flush()
    _say_and_exit(number)


def _say_and_exit(number: int) -> None:
    if _ending.acquire(blocking=False):  # not twice, by two threads or a second signal
        words: dict[int, str] = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}
        _write_error(words.get(number) or f"stopped by {signal.Signals(number).name}")
        os._exit(128 + number)


def _write_error(text: str) -> None:
    # Not by `print`, which this may have interrupted.
    with contextlib.suppress(OSError):
        os.write(2, f"error: {' '.join(text.split())}\n".encode(errors="backslashreplace"))


def _prepare_streams() -> None:
    """Make all three standard streams take any text, and be there."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            # Closed: the next file that is opened would be written to by whoever prints.
            os.open(os.devnull, os.O_RDWR)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            stream = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115, PTH123
            setattr(sys, name, stream)
        # Names of files need not be text in the terminal's encoding, or in any.
        stream.reconfigure(errors="backslashreplace")
