"""A search of all frames for bad ones, so that they are met before training and not in it."""

from collections.abc import Callable, Sequence
from typing import Any

from jaxconvlstm.data.prefetch import map_in_threads
from jaxconvlstm.data.sources.base import Segment
from jaxconvlstm.errors import DataError

BLOCK_TIMEOUT = 300.0
"""Seconds that are waited for a block: the first of a compressed file may have to load all."""


def search_frames(
    read: Callable[[int, Sequence[int]], Any],
    place: Callable[[int, Sequence[int]], str],
    lengths: Sequence[int],
    size: int,
    *,
    skip: bool,
) -> dict[int, dict[int, str]]:
    """Reads blocks of frames in several threads. A bad one among them is found by halving.

    Args:
      read: reads some frames of a sequence, or raises a DataError.
      place: names them, should reading never end.
      lengths: number of frames of each sequence.
      size: frames that are read at a time.
      skip: collect the reasons instead of raising the first of them.

    Returns:
      By sequence and frame, why it cannot be used.

    Raises:
      DataError: the first frame, in order, that cannot be used.
      StuckReaderError: a block is not read in time.
    """

    def search(block: Segment) -> dict[int, str]:
        bad: dict[int, str] = {}
        waiting = [(block.start, block.stop)]
        while waiting:
            start, stop = waiting.pop()
            try:
                read(block.sequence, range(start, stop))
            except DataError as error:
                if not skip:
                    raise
                if stop - start == 1:
                    bad[start] = str(error)
                else:
                    # The first half last, as it is taken first: errors come in order.
                    middle = (start + stop) // 2
                    waiting += [(middle, stop), (start, middle)]
        return bad

    def name(block: Segment) -> str:
        return place(block.sequence, range(block.start, block.stop))

    blocks = [
        Segment(sequence, start, min(start + size, length))
        for sequence, length in enumerate(lengths)
        for start in range(0, length, size)
    ]
    bad: dict[int, dict[int, str]] = {}
    found = map_in_threads(search, blocks, name, timeout=BLOCK_TIMEOUT)
    for block, reasons in zip(blocks, found):
        if reasons:
            bad.setdefault(block.sequence, {}).update(reasons)
    return bad
