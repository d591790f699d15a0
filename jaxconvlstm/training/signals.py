"""Signals as a request to save and leave, noticed between two steps."""

import signal
import threading
from types import FrameType
from typing import Any

from jaxconvlstm.errors import Interrupted


def signals_to_stop() -> list[int]:
    """SIGINT, SIGTERM, SIGHUP (a closed terminal) and SIGXCPU (a batch queue's limit).

    The latter two are left alone where they are ignored, as under `nohup`.
    """
    may_be_ignored = (signal.SIGHUP, signal.SIGXCPU)
    heeded = [n for n in may_be_ignored if signal.getsignal(n) is not signal.SIG_IGN]
    return [signal.SIGINT, signal.SIGTERM, *heeded]


class StopSignals:
    """From `note` on until left notes `signals_to_stop`; `check` raises once one has arrived.

    Before `note` there is nothing to save, and a signal does what it does without this. So does a
    second SIGINT: it raises a `KeyboardInterrupt`, or in a command ends the process. Outside the
    main thread, where Python allows no handlers, nothing is noted.
    """

    def __init__(self) -> None:
        self._received: int | None = None
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> "StopSignals":
        return self

    def note(self) -> None:
        """From now on only note that a signal has arrived."""
        if self._previous:
            return
        if threading.current_thread() is threading.main_thread():
            for number in signals_to_stop():
                self._previous[number] = signal.signal(number, self._receive)

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        # Only noted: an exception raised from here could tear a file that is being written.
        if self._received is not None and number == signal.SIGINT:
            before = self._previous.get(number)
            if not callable(before):
                raise KeyboardInterrupt
            before(number, frame)
        self._received = number

    def check(self) -> None:
        """Raises `Interrupted` if a signal has arrived."""
        if self._received is not None:
            name = signal.Signals(self._received).name
            raise Interrupted(f"stopped by {name}", self._received)
