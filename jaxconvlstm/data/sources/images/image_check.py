"""A look at every picture before training, so that a bad one is met then and not hours later."""

import dataclasses
import itertools
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from PIL import Image

from jaxconvlstm.data.prefetch import map_in_threads
from jaxconvlstm.data.sources.images.image_file import Picture, PictureHeader
from jaxconvlstm.errors import DataError

SHOWN = 5
"""Kinds of pictures that are named; the others are counted."""
AT_ONCE = 256
"""Runs that are handed out together, as a million waiting ones take memory."""
RUN_TIMEOUT = 300.0
"""Seconds that are waited for a run, and one more for each of its frames."""

Run = tuple[int, Sequence[int]]
"""A sequence, and some of its frames in order."""


@dataclasses.dataclass
class Findings:
    """Counts over some pictures, and those that cannot be used.

    Attributes:
      headers: number of frames of each format, mode and size.
      colour: number of frames in colour, and of those in grey.
      transparent: number of frames that have a transparency.
      refused: by sequence and frame, why it cannot be used.
    """

    headers: Counter[tuple[str, str, str]] = dataclasses.field(default_factory=Counter)
    colour: Counter[bool] = dataclasses.field(default_factory=Counter)
    transparent: int = 0
    refused: dict[tuple[int, int], str] = dataclasses.field(default_factory=dict)

    def count(self, header: PictureHeader, frames: int = 1) -> None:
        """Notes the header of a picture, or of so many pages."""
        size = f"{header.height}x{header.width}"
        self.headers[header.format, header.mode, size] += frames
        self.colour[header.colour] += frames
        self.transparent += frames if header.transparent else 0

    def details(self, frames: int) -> dict[str, str]:
        """The lines that `inspect` prints, where there are so many frames in all."""
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


def check_pictures(
    runs: Iterable[Run],
    decode: Callable[[int, Sequence[int]], Iterable[Picture]] | None,
    look: Callable[[int, int], tuple[PictureHeader, int] | None],
    name: Callable[[Run], str],
    skip: bool,
) -> Findings:
    """Reads pictures in several threads.

    Args:
      runs: what to read, each in one thread.
      decode: gives frames of a sequence, or raises a DataError; None if headers are enough.
      look: gives a frame's header and the number of frames whose header it is, or raises; None for
        a page whose file was looked at already.
      name: what a run is called, should reading it never end.
      skip: collect the reasons instead of raising the first of them.

    Raises:
      DataError: the first frame, in order, that cannot be used.
      StuckReaderError: a run is not read in time.
    """

    def check(run: Run) -> Findings:
        findings = Findings()
        sequence, frames = run
        usable = frames if decode is None else decodable(findings, sequence, frames)
        for frame in usable:
            if (seen := look(sequence, frame)) is not None:
                findings.count(*seen)
        return findings

    def decodable(findings: Findings, sequence: int, frames: Sequence[int]) -> list[int]:
        assert decode is not None
        usable: list[int] = []
        # Frames are decoded in one go as long as none fails; after one that does, from the next.
        while frames:
            done = 0
            try:
                for _ in decode(sequence, frames):
                    done += 1
            except DataError as error:
                if not skip:
                    raise
                findings.refused[sequence, frames[done]] = str(error)
            usable += frames[:done]
            frames = frames[done + 1 :]
        return usable

    found = Findings()
    remaining = iter(runs)
    with warnings.catch_warnings():
        # Pillow warns of what reading then refuses; an error is one line.
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        while some := list(itertools.islice(remaining, AT_ONCE)):
            timeout = RUN_TIMEOUT + max(len(frames) for _, frames in some)
            # Results come in order, so that always the same bad file is named.
            for findings in map_in_threads(check, some, name, timeout=timeout):
                found.headers += findings.headers
                found.colour += findings.colour
                found.transparent += findings.transparent
                found.refused |= findings.refused
    return found
