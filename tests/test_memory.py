"""Freed memory stays with the process, once it is told to."""

import ctypes
import platform
import subprocess
import sys

import pytest

from jaxconvlstm.memory import hand_back_freed_memory, keep_freed_memory

PROGRAM = """
import resource, sys
from jaxconvlstm import keep_freed_memory
if sys.argv[1] == "keep":
    assert keep_freed_memory()
for _ in range(3):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    block = b"x" * 100_000_000
    del block
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
assert "jax" not in sys.modules  # threads of JAX's would keep memory of their own
print(faults)
"""

HANDS_BACK = """
from jaxconvlstm.memory import hand_back_freed_memory, keep_freed_memory

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096

assert keep_freed_memory()
large, small = b"x" * 100_000_000, b"y" * 1_000_000
before = resident()
del large
kept = resident()
hand_back_freed_memory()
print(before - kept, before - resident())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_pages_are_used_again() -> None:
    faults = {
        what: int(subprocess.check_output([sys.executable, "-c", PROGRAM, what]))
        for what in ("keep", "default")
    }
    assert faults["default"] > 10 * (faults["keep"] + 100)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_what_is_kept_is_handed_back_when_asked_for() -> None:
    output = subprocess.check_output([sys.executable, "-c", HANDS_BACK], text=True)
    by_freeing, by_asking = map(int, output.split())
    assert by_freeing < 10_000_000 < 90_000_000 < by_asking


def test_another_c_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())
    assert not keep_freed_memory()
    hand_back_freed_memory()
