"""Ways to run the same loop over time, one of which a GPU is to choose.

All of them compute the same values and the same gradients. None has a flag: which of them is the
fastest on a GPU has not been measured yet, and `benchmarks/gpu.py` does that. What it finds becomes
the default, and the rest is deleted. On a CPU the default is the fastest one.
"""

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager


@dataclasses.dataclass(frozen=True)
class Variant:
    """How a loop over time is run; the defaults are what is run everywhere today.

    Attributes:
      inputs: where the input convolution stands: "by size" (before the loop for small maps),
        "before" the loop, "inside" it, or by its "channels" (before for few of them or small maps).
      joined: whether the convolutions of frame and state are one convolution of both side by side,
        where their channels suit a GPU: "both ways", "forwards" alone, so that no gradient is
        computed in frames that are data, or "never".
      late_kernels: take the hidden kernel's gradient after the backward loop, as one convolution
        over all time steps; the input convolution then stands before the loop.
      whole_steps: loop from whole step to whole step. The state is stored twice, but the outputs
        are not shifted by one, which is a copy.
      unroll: time steps in an iteration of the compiled loop.
      wavefront: run layers that follow each other in one loop, each one step behind the one below,
        so that none waits for another one within an iteration.
    """

    inputs: str = "by size"
    joined: str = "both ways"
    late_kernels: bool = False
    whole_steps: bool = False
    unroll: int = 1
    wavefront: bool = False


# The most promising ones first: where time is short, the last are not measured.
VARIANTS = {
    "default": Variant(),
    "late-kernels": Variant(late_kernels=True),
    "before-loop": Variant(inputs="before"),
    "apart": Variant(joined="never"),
    "joined-forwards": Variant(joined="forwards"),
    "unrolled": Variant(unroll=5),
    "late-kernels-unrolled": Variant(late_kernels=True, unroll=5),
    "by-channels": Variant(inputs="channels"),
    "wavefront": Variant(wavefront=True, joined="never"),
    "whole-steps": Variant(whole_steps=True),
    "inside-loop": Variant(inputs="inside"),
}

chosen = VARIANTS["default"]
"""What is traced from now on; read while tracing, so that compiled programs stay as they are."""


@contextmanager
def using(name: str) -> Iterator[None]:
    """Trace with another variant meanwhile."""
    global chosen
    before, chosen = chosen, VARIANTS[name]
    try:
        yield
    finally:
        chosen = before
