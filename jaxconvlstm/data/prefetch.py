"""Numbered items read ahead by threads and handed out in order; a read that never ends is named.

Python can neither stop a thread nor exit while one runs that is not a daemon, and a dead network
mount holds one for ever. So the threads are daemons, each notes what it reads (`Reading`), and the
one that waits gives up after a time limit and names it.
"""

import itertools
import os
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Generic, Self, TypeVar

from jaxconvlstm.errors import StuckReaderError

AHEAD = 4
"""Items that are read before they are asked for."""
TIMEOUT = 25.0
"""Seconds of waiting after which what has not been read counts as never to come."""
LOOK_EVERY = 0.2
"""Seconds between two looks at what is being read, while waiting."""
END_WITHIN = 1.0
"""Seconds that threads get to end what they are reading, when no more is wanted."""

T = TypeVar("T")
Item = TypeVar("Item")
# A queue of one element, put by the thread that read the item: the item, or the error instead.
Result = queue.SimpleQueue[tuple[T | None, BaseException | None]]


class Reading:
    """A context in which a thread notes what it is reading.

    Args:
      reader: the `ReadAhead` that it reads for.
      name: the name of the window of an index, for an error.
    """

    def __init__(self, reader: object, name: Callable[[int], str]):
        self.reader, self.name = reader, name
        # [window, seconds waited for it]. `start` makes a new list rather than changing this one,
        # so that a wait counted at the same moment goes to the window that it was spent on.
        self.now: list[Any] = [None, 0.0]

    def start(self, index: int) -> None:
        """Notes that the window of this index is being read from now on."""
        self.now = [index, 0.0]

    def __enter__(self) -> "Reading":
        _readings[threading.get_ident()] = self
        return self

    def __exit__(self, *_: object) -> None:
        del _readings[threading.get_ident()]


# By thread.
_readings: dict[int, Reading] = {}


def count_wait(reader: object, seconds: float, limit: float) -> str | None:
    """Adds to the time that all windows of a reader were waited for.

    Time is counted by whoever waits, not by the clock: a process that was stopped and goes on, or
    was busy with something else, must not blame what it reads.

    Returns:
      The name of a window that was waited for longer than `limit` seconds, or None.
    """
    for entry in list(_readings.values()):
        now = entry.now
        if entry.reader is reader and now[0] is not None:
            now[1] += seconds
            if now[1] >= limit:
                return entry.name(now[0])
    return None


class ReadAhead(Generic[T]):
    """An iterator over `read(self, number)` for all numbers, in order.

    An error of `read` is raised where its item would have come. The threads are daemons: neither
    `close` nor the end of the program waits for long for one that reads for ever.
    """

    def __init__(
        self,
        read: Callable[["ReadAhead[T]", int], T],
        numbers: range,
        *,
        threads: int,
        timeout: float,
        check: Callable[[], None] | None = None,
    ):
        """Prepares reading; it starts when the first item is asked for.

        Args:
          read: gets this reader and a number, in a thread. What it reads, it notes in a
            `Reading` of this reader, and it may stop once that is `closed`.
          numbers: what to read.
          threads: threads that read.
          timeout: seconds to wait for one window before it counts as never to come.
          check: called again and again while waiting; what it raises ends the wait.
        """
        self._read, self._numbers = read, iter(numbers)
        self._threads, self._timeout, self._check = threads, timeout, check
        self._orders: queue.SimpleQueue[tuple[int, Result[T]] | None] = queue.SimpleQueue()
        self._results: deque[Result[T]] = deque()
        self._running: list[threading.Thread] = []
        self.closed = False

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> T:
        if self.closed:
            raise StopIteration
        if not self._running:
            self._start()
        self._order(1)  # As many are always under way, however slowly they are taken.
        if not self._results:
            self.close()
            raise StopIteration
        item, error = self._wait(self._results.popleft())
        if error is not None:
            self.close()
            raise error
        return item  # type: ignore[return-value]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self, patience: float = END_WITHIN) -> None:
        """Stops the threads, and waits `patience` seconds at most until they end; twice is fine.

        A thread that outlives its reader closes the files that only it still holds, perhaps while
        the caller uses the same library, which need not be safe from two threads.
        """
        if self.closed:
            return
        self.closed = True
        for _ in self._running:
            self._orders.put(None)  # One for each thread, which ends at it.
        deadline = time.monotonic() + patience
        for thread in self._running:
            thread.join(max(0.0, deadline - time.monotonic()))

    def _start(self) -> None:
        self._order(max(AHEAD, self._threads))
        for _ in range(self._threads):
            # A daemon, so that one that reads for ever does not keep the program from ending.
            thread = threading.Thread(target=self._work, name="read-ahead", daemon=True)
            thread.start()
            self._running.append(thread)

    def _order(self, count: int) -> None:
        """Has so many more items read, if there are."""
        for number in itertools.islice(self._numbers, count):
            result: Result[T] = queue.SimpleQueue()
            self._results.append(result)
            self._orders.put((number, result))

    def _work(self) -> None:
        """Reads what is ordered, in a thread."""
        while (order := self._orders.get()) is not None:
            number, result = order
            if self.closed:
                continue  # On to the end, which `close` has ordered.
            try:
                result.put((self._read(self, number), None))
            except BaseException as error:  # Whatever it is: without a result the reader waits.
                result.put((None, error))

    def _wait(self, result: Result[T]) -> tuple[T | None, BaseException | None]:
        every = min(LOOK_EVERY, self._timeout)
        while True:
            try:
                return result.get(timeout=every)
            except queue.Empty:
                if self._check is not None:
                    self._check()
                if name := count_wait(self, every, self._timeout):
                    self.close(patience=0)  # The thread has had its time.
                    raise StuckReaderError(
                        f"{name}: not read after {self._timeout:g} seconds of waiting "
                        "(--read-timeout)"
                    ) from None


def map_in_threads(
    function: Callable[[Item], T],
    items: Sequence[Item],
    name: Callable[[Item], str],
    *,
    timeout: float = TIMEOUT,
) -> Iterator[T]:
    """`function` of each item, in order, worked out by a few threads that read ahead.

    Args:
      function: reads a file, say.
      items: what of.
      name: what an item is called, should it never end.
      timeout: seconds to wait for one item.

    Raises:
      StuckReaderError: one is not done in time; its thread may still be running.
    """

    def read(reader: ReadAhead[T], number: int) -> T:
        with Reading(reader, lambda index: name(items[index])) as reading:
            reading.start(number)
            return function(items[number])

    threads = min(8, os.cpu_count() or 1)
    with ReadAhead(read, range(len(items)), threads=threads, timeout=timeout) as results:
        yield from results
