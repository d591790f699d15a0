"""Reads every picture once, so that a bad one is met before training and not in it."""

import dataclasses
import itertools
import os
import warnings
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor

from PIL import Image

from jaxconvlstm.data.pictures.picture_file import Picture, PictureHeader
from jaxconvlstm.errors import DataError

SHOWN = 5
"""Kinds of pictures that are named; the others are counted."""

Run = tuple[int, Sequence[int]]
"""A sequence, and some of its frames in order."""


@dataclasses.dataclass
class Findings:
    """What was found in some pictures.

    Attributes:
      headers: number of frames of each format, mode and size.
      colour: number of frames in colour, and of those in grey.
      refused: by sequence and frame, why it cannot be used.
    """

    headers: Counter[tuple[str, str, str]] = dataclasses.field(default_factory=Counter)
    colour: Counter[bool] = dataclasses.field(default_factory=Counter)
    refused: dict[tuple[int, int], str] = dataclasses.field(default_factory=dict)

    def count(self, header: PictureHeader, frames: int = 1) -> None:
        """Notes the header of a picture, or of so many pages."""
        size = f"{header.height}x{header.width}"
        self.headers[header.format, header.mode, size] += frames
        self.colour[header.colour] += frames

    def transparent(self) -> int:
        """Number of frames that have a transparency."""
        modes = ("LA", "La", "PA", "RGBA", "RGBa")
        return sum(count for (_, mode, _), count in self.headers.items() if mode in modes)

    def details(self, frames: int) -> dict[str, str]:
        """What `inspect` prints, where there are so many frames in all."""
        others = frames - self.headers.total() - len(self.refused)
        rest = f" (and {others:,} that were not looked at)" if others > 0 else ""
        found = {}
        for place, title in enumerate(("files", "modes", "sizes")):
            counts: Counter[str] = Counter()
            for header, count in self.headers.items():
                counts[header[place]] += count
            shown = [f"{name} {count}" for name, count in counts.most_common(SHOWN)]
            if len(counts) > SHOWN:
                shown.append(f"{len(counts) - SHOWN} other {title}")
            found[title] = ", ".join(shown) + rest
        return found


def exhaust(pictures: Iterable[Picture]) -> None:
    """Decodes all, and keeps none."""
    deque(pictures, maxlen=0)


def check_pictures(
    runs: Iterable[Run],
    decode: Callable[[int, Sequence[int]], Iterable[Picture]] | None,
    look: Callable[[int, int], tuple[PictureHeader, int] | None],
    skip: bool,
) -> Findings:
    """Reads pictures in several threads.

    Args:
      runs: what to read, each in one thread.
      decode: gives frames of a sequence, or raises a DataError; None if headers are enough.
      look: gives a frame's header and the number of frames whose header it is, or raises; None for
        a page whose file was looked at already.
      skip: collect the reasons instead of raising the first of them.

    Raises:
      DataError: the first frame, in order, that cannot be used.
    """

    def check(run: Run) -> Findings:
        findings = Findings()
        sequence, frames = run
        usable = frames
        if decode is not None:
            try:
                exhaust(decode(sequence, frames))
            except DataError:
                if not skip:
                    raise
                usable = []
                for frame in frames:
                    try:
                        exhaust(decode(sequence, [frame]))
                        usable.append(frame)
                    except DataError as error:
                        findings.refused[sequence, frame] = str(error)
        for frame in usable:
            if (seen := look(sequence, frame)) is not None:
                findings.count(*seen)
        return findings

    found = Findings()
    remaining = iter(runs)
    with warnings.catch_warnings(), ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        # Pillow warns of what reading then refuses; an error is one line.
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        # Not all at once, as a million waiting runs take memory.
        while some := list(itertools.islice(remaining, 64)):
            # `map` hands out results in order, so that always the same bad file is named.
            for findings in pool.map(check, some):
                found.headers += findings.headers
                found.colour += findings.colour
                found.refused |= findings.refused
    return found
