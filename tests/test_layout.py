"""The one-way flow of imports, and what the core may need."""

import ast
import re
import subprocess
import sys
from collections import defaultdict
from functools import cache
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "jaxconvlstm"
CORE = ("nn", "models", "metrics", "task", "training.step", "training.optimizer")
Graph = dict[str, set[str]]


def modules() -> dict[str, Path]:
    """Every module of the package by its name below `jaxconvlstm`, but the entry points."""
    found = {}
    for path in PACKAGE.rglob("*.py"):
        name = ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")
        if name not in ("__init__", "__main__"):
            found[name] = path
    return found


@cache
def imports() -> Graph:
    """The modules that each module imports, anywhere in it."""
    paths = modules()
    graph: Graph = {name: set() for name in paths}
    for name, path in paths.items():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                wanted = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                wanted = [f"{node.module}.{alias.name}" for alias in node.names]
            else:
                continue
            for target in wanted:
                parts = target.removeprefix("jaxconvlstm.").split(".")
                while parts and ".".join(parts) not in paths:
                    parts.pop()
                if target.startswith("jaxconvlstm.") and parts:
                    graph[name].add(".".join(parts))
    return graph


def rooms(graph: Graph, floor: str) -> Graph:
    """The imports between the files and folders that lie directly in `floor`."""
    prefix = f"{floor}." if floor else ""
    between: Graph = defaultdict(set)
    for name, targets in graph.items():
        if not name.startswith(prefix):
            continue
        room = name.removeprefix(prefix).split(".")[0]
        for target in targets:
            if target.startswith(prefix):
                other = target.removeprefix(prefix).split(".")[0]
                if other != room:
                    between[room].add(other)
    return between


def circle(graph: Graph) -> list[str]:
    """A way through `graph` that comes back to where it began; empty if there is none."""
    done: set[str] = set()

    def walk(name: str, path: list[str]) -> list[str]:
        if name in path:
            return [*path[path.index(name) :], name]
        if name in done:
            return []
        for target in sorted(graph.get(name, ())):
            if found := walk(target, [*path, name]):
                return found
        done.add(name)
        return []

    for name in sorted(graph):
        if found := walk(name, []):
            return found
    return []


FLOORS = sorted({name.rpartition(".")[0] for name in modules()})


@pytest.mark.parametrize("floor", FLOORS)
def test_imports_between_folders_point_one_way(floor: str) -> None:
    assert circle(rooms(imports(), floor)) == []


def test_no_circle_of_modules() -> None:
    assert circle({name: targets - {name} for name, targets in imports().items()}) == []


def test_the_way_from_the_command_to_the_gate_equations_is_short() -> None:
    """At most five files, both ends counted; re-exports of packages do not shorten it."""
    graph = {name: targets - packages() for name, targets in imports().items()}
    ways = [["tools.train"]]
    for way in ways:
        if way[-1] == "nn.cell":
            assert len(way) <= 5, way
            return
        ways += [[*way, target] for target in sorted(graph[way[-1]]) if target not in way]
    raise AssertionError("no way")


def packages() -> set[str]:
    """The names of the folders."""
    return {name for name, path in modules().items() if path.name == "__init__.py"}


def test_few_modules_lie_at_the_top() -> None:
    assert len(list(PACKAGE.glob("*.py"))) <= 14


def test_the_map_in_contributing_has_every_module_in_the_order_of_imports() -> None:
    text = (PACKAGE.parent / "CONTRIBUTING.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (`.*`) \| (.*) \|$", text, re.MULTILINE)
    order: dict[str, int] = {}
    found: set[str] = set()
    for number, (places, description) in enumerate(rows):
        for place in re.findall(r"`([\w/]+)(?:/|\.py)`", places):
            order.setdefault(place.partition("/")[0], number)
            inside = {path.stem for path in (PACKAGE / place).rglob("*.py")} - {"__init__"}
            listed = set(description.rpartition(": ")[2].split(", "))
            # A folder that has a row of its own is not listed again.
            assert not inside or listed <= inside, place
            found |= listed
    assert set(order) == {path.stem for path in PACKAGE.iterdir() if path.stem[0] != "_"}
    assert {path.stem for path in PACKAGE.glob("*/**/*.py")} - {"__init__"} <= found
    between = rooms(imports(), "")
    assert [(a, b) for a in between for b in between[a] if order[a] < order[b]] == []


def test_no_jax_in_the_loaders_path() -> None:
    for folder in ("data", "config"):
        for path in (PACKAGE / folder).rglob("*.py"):
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


def test_there_is_one_printer() -> None:
    """It escapes the control codes in names; how a process ends is written without it."""
    printing = {
        name
        for name, path in modules().items()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Name) and node.id == "print"
    }
    assert printing == {"messages"}
