"""Whether memory that is freed stays with the process."""

import ctypes
from typing import Any

# Parameters of `mallopt`, from glibc's `malloc.h`.
_TRIM_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -4, -8


def keep_freed_memory() -> bool:
    """Lets this process keep what it frees, in place of handing it back to the system.

    On a CPU each training step takes gigabytes for what it computes, and frees them at its end. By
    default glibc hands back all that is larger than 32 MiB, and the next step gets pages that the
    system clears one by one: a tenth to a third of a step. Kept, they are used again.

    What one program has freed need not suit the next one, so the process may take more memory as a
    whole; see `hand_back_freed_memory`.

    Both scripts do so. Research code of its own can, best before it imports JAX, since threads that
    run already keep memory of their own.

    Returns:
      Whether it does; False where the C library is another one than glibc, and nothing changes.
    """
    mallopt = _glibc("mallopt")
    if mallopt is None:
        return False
    # One heap for all threads, nothing outside of it, and nothing of it handed back.
    settings = (_ARENA_MAX, 1), (_MMAP_MAX, 0), (_TRIM_THRESHOLD, -1)
    return all([mallopt(*setting) == 1 for setting in settings])


def hand_back_freed_memory() -> None:
    """Hands back once what is free now: between programs, such as training and validation."""
    trim = _glibc("malloc_trim")
    if trim is not None:
        trim(0)


def _glibc(name: str) -> Any:
    try:
        return getattr(ctypes.CDLL(None), name)
    except (AttributeError, OSError, TypeError):
        return None
