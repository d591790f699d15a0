"""Files that are there whole or not at all, whatever happens meanwhile."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any


@contextlib.contextmanager
def replacing(path: str | Path, mode: str = "wb", *, sync: bool = False) -> Iterator[IO[Any]]:
    """Opens a temporary file beside `path`, which takes its place once it is whole.

    Args:
      path: the file to write; its folder must be there.
      mode: "wb", or "w" for UTF-8 text.
      sync: bring content and name to the disk, so that they outlast a crash of the machine.

    Raises:
      OSError: there is no room, or the folder cannot be written to; what was there stays.
    """
    path = Path(path)
    # The process in its name: two that write at once must not share it.
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with naming(path):
        try:
            with temporary.open(mode, encoding=None if "b" in mode else "utf-8") as file:
                yield file
                if sync:
                    file.flush()
                    os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise
        if sync:
            sync_folder(path.parent)


def replace_text(path: Path, text: str) -> None:
    """Writes a small file that outlasts a crash of the machine; see `replacing`."""
    with replacing(path, "w", sync=True) as file:
        file.write(text)


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Names the file in an `OSError` that does not, as those of a full disk."""
    try:
        yield
    except OSError as error:
        if error.errno is None or error.filename is not None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error


def sync_folder(folder: Path) -> None:
    """Brings the names in a folder to the disk, as `fsync` does the content of a file."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
