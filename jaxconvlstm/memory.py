"""Keep freed memory in the process (glibc malloc settings)."""

import ctypes
from typing import Any

# Parameters of `mallopt`, from glibc's `malloc.h`.
_TRIM_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -4, -8


def keep_freed_memory() -> bool:
    """Keeps freed memory in this process, instead of returning it to the operating system.

    On a CPU each training step allocates gigabytes, and frees them at its end. By default glibc
    returns every block larger than 32 MiB, and the next step gets new pages, which the system
    clears one by one: that takes a tenth to a third of a step. Memory that is kept is used again.

    Blocks that one program has freed seldom fit the next program, so the process may need more
    memory as a whole; see `hand_back_freed_memory`.

    Both scripts call it. Research code can, best before it imports JAX: threads that already run
    have heaps of their own.

    Returns:
      False where the C library is not glibc, and nothing changes; True elsewhere.
    """
    mallopt = _glibc("mallopt")
    if mallopt is None:
        return False
    # One heap for all threads, no block outside of it (by `mmap`), and its end never returned.
    settings = (_ARENA_MAX, 1), (_MMAP_MAX, 0), (_TRIM_THRESHOLD, -1)
    return all([mallopt(*setting) == 1 for setting in settings])


def hand_back_freed_memory() -> None:
    """Returns what is free now to the system, once: between training and validation, e.g."""
    trim = _glibc("malloc_trim")
    if trim is not None:
        trim(0)


def _glibc(name: str) -> Any:
    """A function of the C library; None where it has none of that name."""
    try:
        return getattr(ctypes.CDLL(None), name)
    except (AttributeError, OSError, TypeError):
        return None
