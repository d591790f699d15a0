"""Whether memory that is freed stays with the process."""

import ctypes

# Parameters of `mallopt`, from glibc's `malloc.h`.
_TRIM_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -4, -8


def keep_freed_memory() -> bool:
    """Lets this process keep what it frees, in place of handing it back to the system.

    On a CPU each training step takes gigabytes for what it computes, and frees them at its end. By
    default glibc hands back all that is larger than 32 MiB, and the next step gets pages that the
    system clears one by one: a tenth to a third of a step. Kept, they are used again. The process
    takes no more memory at its peak, but stays there.

    Both scripts do so. Research code of its own can, best before it imports JAX, since threads that
    run already keep memory of their own.

    Returns:
      Whether it does; False where the C library is another one than glibc, and nothing changes.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    # One heap for all threads, nothing outside of it, and nothing of it handed back.
    settings = (_ARENA_MAX, 1), (_MMAP_MAX, 0), (_TRIM_THRESHOLD, -1)
    return all([mallopt(*setting) == 1 for setting in settings])
