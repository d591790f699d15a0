"""Lines for people: every text that is printed, and names that come from outside in it."""

import os
import sys


def say(text: str, *, error: bool = False) -> None:
    """Print a text at once, without the control codes that names in it may bring along.

    Args:
      text: one line or several.
      error: print on the standard error, so that it stands in no table.
    """
    lines = "\n".join(printable(line) for line in text.split("\n"))
    print(lines, file=sys.stderr if error else sys.stdout, flush=True)


def warn(message: str) -> None:
    """Print a warning of one line, on the standard error."""
    say(f"warning: {printable(message)}", error=True)


def printable(name: str | os.PathLike[str]) -> str:
    """A file name on one line that any UTF-8 terminal or log can hold.

    File names are bytes: Python shows those that are not UTF-8 as lone surrogates, which cannot be
    printed. They, newlines and control codes are written as escapes.
    """
    text = os.fspath(name)
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
