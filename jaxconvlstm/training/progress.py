"""Progress of long work: a live bar on a terminal, plain lines elsewhere."""

import contextlib
import sys
import time
from collections.abc import Iterator

from jaxconvlstm.messages import printable, say

_SECONDS_BETWEEN_LINES = 10.0


class Progress:
    """Shows how far a run is, what it does and how long it will take, while entered."""

    def __init__(self, total: int, start: int = 0):
        """Prepares the display.

        Args:
          total: steps of the run.
          start: steps that were taken before this process.
        """
        self._total = total
        # Time left is estimated from the steps after the first, which waits for compilation.
        self._first: tuple[int, float] | None = None
        self._last_line = time.monotonic()
        self._bar = None
        if sys.stdout.isatty():
            from rich.progress import BarColumn, TextColumn
            from rich.progress import Progress as RichProgress

            self._bar = RichProgress(
                TextColumn("step {task.completed}/{task.total}"),
                BarColumn(),
                TextColumn("{task.description}"),
            )
            self._task = self._bar.add_task("", total=total, completed=start)

    def update(self, step: int, text: str) -> None:
        """Shows that `step` is done; where there is no live bar, at most every ten seconds."""
        now = time.monotonic()
        if self._first is None:
            self._first = step, now
        done = step - self._first[0]
        if done:
            left = (now - self._first[1]) / done * (self._total - step)
            text = f"{text}, {clock(left)} left"
        if self._bar is not None:
            self._bar.update(self._task, completed=step, description=text)
        # In a log file a line for each step would bury everything else.
        elif now - self._last_line >= _SECONDS_BETWEEN_LINES:
            self._last_line = now
            say(f"step {step}/{self._total}: {text}")

    def say(self, text: str) -> None:
        """Prints a line that stays."""
        if self._bar is not None:
            # A bracket in a path is not Rich's markup.
            self._bar.console.print(printable(text), markup=False, highlight=False)
        else:
            say(text)

    def __enter__(self) -> "Progress":
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._bar is not None:
            self._bar.stop()


def clock(seconds: float) -> str:
    """Formats seconds: `3725.0` as `"1:02:05"`, `65.0` as `"1:05"`."""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"


class Meter:
    """Frames per second and the fraction of time spent waiting for data, since the last restart."""

    def __init__(self, frames_per_step: int):
        """Starts; `frames_per_step` are those read for a step, inputs and targets."""
        self._frames_per_step = frames_per_step
        self.restart()

    def restart(self) -> None:
        """Starts anew, after anything but training: compilation or validation."""
        self._began = time.perf_counter()
        self._waited = 0.0
        self._steps = 0

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """Marks time spent waiting for data."""
        began = time.perf_counter()
        yield
        self._waited += time.perf_counter() - began

    def count(self) -> None:
        """Counts one finished step."""
        self._steps += 1

    @property
    def frames_per_second(self) -> float:
        """Frames trained on per second."""
        return self._steps * self._frames_per_step / (time.perf_counter() - self._began)

    @property
    def wait_fraction(self) -> float:
        """Fraction of the time spent waiting for data, 0 to 1."""
        return self._waited / (time.perf_counter() - self._began)
