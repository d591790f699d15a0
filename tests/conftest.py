"""What holds for every test: strict numerics, and shapes in annotations that are enforced."""

import gc
import os
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

# Nearly all the time of these tests is that of compiling code that runs once. XLA's passes, which
# rewrite the program, still run; but LLVM does not optimise, and compiles one module.
_FAST_COMPILE = (
    "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true "
    "--xla_cpu_parallel_codegen_split_count=1"
)
# The old emitters make the kernels in a fifth of the time of the MLIR ones. A flag that XLA does
# not know, such as this one from JAX 0.11 on, aborts the process.
if version("jaxlib").startswith("0.10."):
    _FAST_COMPILE += " --xla_cpu_use_fusion_emitters=false"
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {_FAST_COMPILE}".strip()
# What one test or script has compiled, the others load, and so does the next run of the tests.
_CACHE = {
    "JAX_COMPILATION_CACHE_DIR": str(Path(__file__).parent.parent / ".pytest_cache" / "xla"),
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.03",
    "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
}
for _name, _value in _CACHE.items():
    os.environ.setdefault(_name, _value)
# Before the first import of keras, which reads it then.
os.environ.setdefault("KERAS_BACKEND", "jax")

import jax  # noqa: E402
import jaxtyping  # noqa: E402
import pytest  # noqa: E402

# Before the first import of jaxconvlstm: what is imported already stays unchecked.
CHECKED = ("nn", "models", "metrics")
jaxtyping.install_import_hook([f"jaxconvlstm.{name}" for name in CHECKED], "beartype.beartype")

# Locations in programs are for those who read them, and tracing leaves little that is garbage.
jax.config.update("jax_traceback_in_locations_limit", 0)
gc.set_threshold(200_000, 20, 100)
# A rank that grows silently is how [batch] meets [batch, batch]; the package never relies on it.
jax.config.update("jax_numpy_rank_promotion", "raise")
# Nor on dtypes that meet: a caller may forbid it, and float32 by bfloat16 is seldom meant.
jax.config.update("jax_numpy_dtype_promotion", "strict")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Folders whose files take long come first: at the end, no process works on one alone."""
    long = ["tests", "tools", "training", "config", "models", "nn", "evaluation", "metrics", "runs"]
    items.sort(key=lambda item: (*long, item.path.parent.name).index(item.path.parent.name))


@pytest.fixture
def float64() -> Iterator[None]:
    """Double precision, for comparisons at 1e-10 and for numerical derivatives."""
    with jax.enable_x64(True):
        yield


@pytest.fixture
def foreign_code() -> Iterator[None]:
    """Lets other libraries promote ranks and dtypes: theirs is not ours to fix."""
    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        yield


@pytest.fixture
def as_user(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the annotations' own check, so that what a user would see is what is raised."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
