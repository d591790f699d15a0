"""The errors a user can meet, each with the exit code that the scripts leave with.

An error message is one line that names the file, parameter or frame it is about.
"""

import errno


class JaxConvLSTMError(Exception):
    """Base of all errors that this package raises on purpose."""

    exit_code = 1


class ConfigError(JaxConvLSTMError, ValueError):
    """A flag, a configuration value or an argument that cannot work (exit code 2)."""

    exit_code = 2


class DataError(JaxConvLSTMError, ValueError):
    """Data that are missing, unreadable or not what the run needs (exit code 3)."""

    exit_code = 3


class StuckReaderError(DataError):
    """Data that are not read in time (exit code 3); the thread that reads them may never end."""


class CheckpointError(JaxConvLSTMError):
    """A run folder or checkpoint that is missing, foreign, damaged or in use (exit code 4)."""

    exit_code = 4


class NonFiniteError(JaxConvLSTMError):
    """Training met a NaN or an infinity (exit code 5)."""

    exit_code = 5


class ResourceError(JaxConvLSTMError):
    """Disk or memory ran out (exit code 6)."""

    exit_code = 6


class Interrupted(BaseException):
    """Training was asked to stop by a signal, and has saved (exit code 128 + signal number).

    No `Exception`: whoever handles whatever may go wrong must not handle this.
    """

    def __init__(self, message: str, signal_number: int):
        super().__init__(message)
        self.exit_code = 128 + signal_number


_SCARCE = {
    errno.ENOMEM: "memory",
    errno.EMFILE: "file descriptors (ulimit -n)",
    errno.ENFILE: "file descriptors of the machine",
    errno.EAGAIN: "threads or processes (ulimit -u)",
}


def describe_os_error(error: OSError) -> str:
    """An error of the operating system in words, with what it is about."""
    if error.strerror is None:
        return f"{type(error).__name__}: {error}"
    # What is written to by name is named; a stream has none, and nor has a folder that is gone.
    unnamed = "the working folder" if error.errno == errno.ENOENT else "standard output or a stream"
    what = f"not enough {_SCARCE[error.errno]}" if error.errno in _SCARCE else error.strerror
    return f"{error.filename or unnamed}: {what}"


def scarce_resource(error: BaseException) -> str | None:
    """What there was too little of, if that is what an error says; else None."""
    number, text = getattr(error, "errno", None), str(error)
    if number in _SCARCE:
        return _SCARCE[number]
    if isinstance(error, MemoryError) or "annot allocate memory" in text:
        return _SCARCE[errno.ENOMEM]
    if "failed to map segment" in text or "std::bad_alloc" in text:
        return _SCARCE[errno.ENOMEM]
    if "start new thread" in text or "Resource temporarily unavailable" in text:
        return _SCARCE[errno.EAGAIN]
    if "Too many open files" in text:
        return _SCARCE[errno.EMFILE]
    return None
