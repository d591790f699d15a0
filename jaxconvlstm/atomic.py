"""Files that are there whole or not at all, whatever happens meanwhile."""

import contextlib
import functools
import os
import socket
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
    _clear_once(path.parent)
    # Machine and process in its name: two that write at once must not share it.
    temporary = path.with_name(f".{path.name}.{_host()}.{os.getpid()}.tmp")
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


@functools.cache
def _clear_once(folder: Path) -> None:
    """Clears a folder the first time that this process writes to it."""
    remove_leftovers(folder)


def remove_leftovers(folder: Path) -> None:
    """Removes temporary files of `replacing` in a folder, whose process was killed."""
    for path in folder.glob(f".*.{_host()}.*.tmp"):
        process = path.name.split(".")[-2]
        if process.isdecimal() and not is_running(int(process)):
            with contextlib.suppress(OSError):
                path.unlink()


def is_running(process: int) -> bool:
    """Whether there is a process of this number on this machine."""
    try:
        os.kill(process, 0)  # sends nothing
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def _host() -> str:
    # In file names, and between dots.
    return "".join(c if c.isalnum() else "-" for c in socket.gethostname())


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
