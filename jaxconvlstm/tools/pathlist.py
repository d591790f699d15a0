"""Write a path list of a folder of pictures: one line for every window, to edit by hand.

python -m jaxconvlstm pathlist --data DIR --out list.txt

python -m jaxconvlstm pathlist --data DIR --out list.txt --length 20 --stride 5

Training on it: python train.py --data list.txt --input-frames 7 --target-frames 1
"""

import dataclasses
import shlex
from collections.abc import Sequence
from pathlib import Path

from jaxconvlstm.checks import check_positive, plural
from jaxconvlstm.errors import ConfigError
from jaxconvlstm.messages import printable, say
from jaxconvlstm.tools import cli


@dataclasses.dataclass(frozen=True)
class Arguments:
    """What `pathlist` takes."""

    data: Path | None = None
    """Folder of pictures, or of folders of pictures."""
    out: Path | None = None
    """The path list to write."""
    length: int = 8
    """Frames in a line."""
    stride: int = 8
    """Frames from the start of a line to that of the next."""
    overwrite: bool = False
    """Replace a file that is there."""
    debug: bool = False
    """Show the traceback of an error."""


def main(arguments: Sequence[str]) -> None:
    """Writes the list, and says how to use it."""
    parsed = cli.parse(Arguments, arguments, Arguments(), __doc__ or "")
    if parsed.data is None or parsed.out is None:
        example = "python -m jaxconvlstm pathlist --data DIR --out list.txt"
        raise ConfigError(f"expected --data and --out: {example}")
    check_positive("--length", parsed.length)
    check_positive("--stride", parsed.stride)

    from jaxconvlstm.data.sources.images.path_list import write_path_list

    lines, sequences, notes = write_path_list(
        parsed.data,
        parsed.out,
        length=parsed.length,
        stride=parsed.stride,
        overwrite=parsed.overwrite,
    )
    for note in notes:
        say(note)
    say(
        f"wrote {printable(parsed.out)}: {plural(lines, 'line')} of {parsed.length} frames from "
        f"{plural(sequences, 'sequence')}"
    )
    place = shlex.quote(printable(parsed.out))
    frames = f"--input-frames {parsed.length - 1} --target-frames 1"
    say(cli.as_started(f"next: python train.py --data {place} {frames}"))
