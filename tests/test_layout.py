"""The one-way flow of imports, and what the core may need."""

import ast
import subprocess
import sys
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent / "jaxconvlstm"
# Lower numbers may not import higher ones; modules of one number may import each other.
LEVELS = {
    "version": 0,
    "errors": 0,
    "checks": 1,
    "config": 2,
    "presets": 3,
    "heap": 0,
    "pieces": 0,
    "products": 1,
    "conv": 2,
    "motion": 3,
    "cell": 3,
    "layers": 4,
    "similarity": 1,
    "trail": 1,
    "classification": 2,
    "losses": 2,
    "sampling": 2,
    "optimization": 3,
    "stopping": 0,
    "reach": 3,
    "tiles": 2,
    "metrics": 2,
    "data.batch": 3,
    "data.values": 3,
    "models": 5,
    "data": 4,
    "tasks": 6,
    "training": 7,
    "diagnosis": 7,
    "cost": 0,
    "device": 1,
    "progress": 0,
    "spread": 0,
    "signals": 1,
    "pictures": 5,
    "pictures.drawing": 2,
    "pictures.mp4": 3,
    "pictures.panels": 3,
    "pictures.sheets": 3,
    "pictures.films": 4,
    "pictures.plots": 4,
    "survey": 5,
    "suspicions": 5,
    "scenes": 5,
    "durable": 0,
    "events": 0,
    "manifest": 1,
    "checkpoint": 6,
    "run_folder": 6,
    "evaluation": 7,
    "rollout": 7,
    "classifier": 8,
    "loading": 9,
    "matching": 8,
    "resuming": 6,
    "samples": 8,
    "reporting": 9,
    "trainer": 9,
    "cli": 10,
    "inspection": 11,
    "pathlist": 11,
    "verification": 11,
}
CORE = (
    *("pieces", "products", "conv", "motion", "cell", "layers", "models", "tiles", "losses"),
    *("metrics", "similarity", "trail", "classification", "sampling", "optimization", "tasks"),
    "training",
)


def level(module: str) -> int:
    """Level of `jaxconvlstm.MODULE`; a module inside a package has its package's unless named."""
    return LEVELS[module] if module in LEVELS else LEVELS[module.split(".")[0]]


def test_imports_point_one_way() -> None:
    wrong = []
    for path in PACKAGE.rglob("*.py"):
        name = ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")
        if name in ("__init__", "__main__"):
            continue  # the public names: they see everything
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.ImportFrom) or not (node.module or "").startswith(
                "jaxconvlstm"
            ):
                continue
            inner = node.module.removeprefix("jaxconvlstm").lstrip(".")
            for target in [inner] if inner else [alias.name for alias in node.names]:
                if level(target) > level(name):
                    wrong.append(f"{name} imports {target}")
    assert not wrong


def test_no_jax_in_the_loaders_path() -> None:
    for path in (PACKAGE / "data").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not [n for n in names if n.split(".")[0] in ("jax", "flax", "optax")], path


def test_the_core_needs_only_the_frameworks() -> None:
    """As on a bare GPU machine, where nothing else is installed."""
    program = (
        "import sys\n"
        "absent = ['grain', 'tyro', 'orbax', 'PIL', 'matplotlib', 'tensorboardX', 'av']\n"
        "sys.modules.update(dict.fromkeys(absent))\n"
        "import jaxconvlstm\n" + "".join(f"import jaxconvlstm.{name}\n" for name in CORE)
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def test_every_public_name_is_there() -> None:
    import jaxconvlstm

    for name in jaxconvlstm.__all__:
        assert getattr(jaxconvlstm, name) is not None
