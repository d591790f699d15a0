"""What is being read at this moment: so that a read that never ends is named, and not waited for.

Python can neither stop a thread nor end while one runs that is not a daemon; a dead network mount
holds one for ever.
"""

import threading
import time
from collections.abc import Callable
from typing import Any


class Reading:
    """What one thread reads, noted while it is in this context.

    Args:
      reader: whoever it reads for.
      name: what a window of this index is called.
    """

    def __init__(self, reader: object, name: Callable[[int], str]):
        self.reader, self.name = reader, name
        # The window, and the seconds that somebody has waited for it: a new list for each, as the
        # one who waits writes to it too.
        self.now: list[Any] = [None, 0.0]

    def start(self, index: int) -> None:
        """Notes that the next window is being read now."""
        self.now = [index, 0.0]

    def __enter__(self) -> "Reading":
        _readings[threading.get_ident()] = self
        return self

    def __exit__(self, *_: object) -> None:
        del _readings[threading.get_ident()]


_readings: dict[int, Reading] = {}


def count_wait(reader: object, seconds: float, limit: float) -> str | None:
    """Adds to what all windows of a reader were waited for; the name of one beyond the limit.

    Time is counted by whoever waits, not by the clock: a process that was stopped and goes on, or
    was busy with something else, must not blame what it reads.
    """
    for entry in list(_readings.values()):
        now = entry.now
        if entry.reader is reader and now[0] is not None:
            now[1] += seconds
            if now[1] >= limit:
                return entry.name(now[0])
    return None


def all_end_within(seconds: float) -> bool:
    """Waits for the reads in progress; whether all ended."""
    deadline = time.monotonic() + seconds
    while _readings and time.monotonic() < deadline:
        time.sleep(0.02)
    return not _readings
