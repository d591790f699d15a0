"""The device that JAX uses: its name, its memory, and a GPU that is not used."""

import contextlib
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import jax

from jaxconvlstm.errors import ConfigError, ResourceError


def describe_device() -> str:
    """Names the device on a line, e.g. "device: cpu (2 cores), JAX 0.10.2, Python 3.12.3".

    Raises:
      ConfigError, ResourceError: JAX finds no device, of the kind asked for or at all.
    """
    try:
        device = jax.devices()[0]
    except (RuntimeError, AssertionError) as error:
        reason = " ".join(str(error).split()) or "it has none on this machine"
        if platforms := os.environ.get("JAX_PLATFORMS"):
            raise ConfigError(f"JAX_PLATFORMS={platforms}: JAX finds no device: {reason}") from None
        raise ResourceError(f"JAX finds no device: {reason}") from error
    if device.platform == "cpu":
        name = f"cpu ({os.cpu_count()} cores)"
    else:
        name = f"{len(jax.devices())} x {device.device_kind} ({device.platform})"
    return f"device: {name}, JAX {jax.__version__}, Python {sys.version.split()[0]}"


def device_memory() -> int | None:
    """Bytes of memory that the device has for JAX, or None if that is not known."""
    device = jax.devices()[0]
    if device.platform == "cpu":
        # JAX gives no statistics of the CPU; its memory is the machine's.
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return (device.memory_stats() or {}).get("bytes_limit")


def gpu_warning() -> str | None:
    """Warns where this machine has an NVIDIA GPU that JAX does not use; None elsewhere."""
    present = Path("/proc/driver/nvidia/version").exists() or shutil.which("nvidia-smi")
    # Who chose the CPU needs no warning.
    wanted = os.environ.get("JAX_PLATFORMS", "").lower()
    if not present or jax.default_backend() != "cpu" or wanted == "cpu":
        return None
    return (
        "warning: this machine has an NVIDIA GPU, but JAX runs on the CPU; "
        "install its GPU version with: pip install 'jax[cuda13]'"
    )


@contextlib.contextmanager
def memory_advice(advice: str) -> Iterator[None]:
    """Turns XLA's out-of-memory error into one line with advice.

    Args:
      advice: what to try, e.g. "try a smaller --batch-size".

    Raises:
      ResourceError: the device has too little memory for what ran within.
    """
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        # XLA raises one class for all errors, and begins its message with the kind.
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        raise ResourceError(f"out of memory on the device; {advice}") from error
