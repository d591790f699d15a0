"""The one reader of JSON files, which may come from anywhere."""

import json
import os
import stat
from pathlib import Path
from typing import Any

from jaxconvlstm.errors import ConfigError, JaxConvLSTMError
from jaxconvlstm.messages import printable

LARGEST = 64 * 2**20
"""Bytes of the largest file that is read as a whole."""
DEEPEST = 50
"""Levels of the most deeply nested value that is accepted."""


def read_object(path: Path, kind: type[JaxConvLSTMError] = ConfigError) -> dict[str, Any]:
    """The JSON object in a file.

    Args:
      path: the file.
      kind: the error to raise if it cannot be read, or is no JSON object.
    """
    try:
        values = parse(read_plain_file(path))
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise kind(f"{printable(path)}: cannot be read as JSON: {reason}") from error
    if not isinstance(values, dict):
        found = type(values).__name__
        raise kind(f"{printable(path)}: expected a JSON object, got {found}")
    return values


def read_plain_file(path: Path) -> bytes:
    """The content of a file that is one: a pipe or a device would be waited for, or never end.

    Raises:
      OSError: it cannot be opened.
      ValueError: it is no plain file, or larger than `LARGEST`.
    """
    with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:  # noqa: PTH123
        about = os.fstat(file.fileno())
        if not stat.S_ISREG(about.st_mode):
            raise ValueError("not a plain file")
        if about.st_size > LARGEST:
            raise ValueError(f"{about.st_size} bytes, of at most {LARGEST}")
        return file.read(LARGEST)


def parse(text: bytes | str) -> Any:
    """A JSON text as Python values.

    Raises:
      ValueError: it is no JSON, or nested more deeply than `DEEPEST`.
    """
    try:
        values = json.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    level = [values]
    for _ in range(DEEPEST):
        level = [inner for value in level for inner in _inside(value)]
        if not level:
            return values
    raise ValueError("nested too deeply")


def _inside(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []
