"""The lock file: complete, hashed, and from nowhere in particular."""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOCK = (ROOT / "requirements.lock").read_text(encoding="utf-8")
# A line that names a package, and its hashes on the lines after it.
ENTRIES = re.findall(r"^([a-z0-9][^\s=]*)==[^\n]*(?:\\\n +[^\n]*)*", LOCK, re.MULTILINE)


def name_of(requirement: str) -> str:
    match = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert match
    return re.sub(r"[-_.]+", "-", match[0]).lower()


def test_everything_that_the_package_asks_for_is_locked() -> None:
    with (ROOT / "pyproject.toml").open("rb") as file:
        project = tomllib.load(file)["project"]
    extras = project["optional-dependencies"]
    asked = [*project["dependencies"], *extras["dev"], *extras["arrays"], *extras["video"]]
    assert {name_of(requirement) for requirement in asked} <= set(ENTRIES)


def test_every_package_has_hashes_and_none_an_address() -> None:
    entries = re.split(r"^(?=[a-z0-9])", LOCK, flags=re.MULTILINE)
    named = [entry for entry in entries if "==" in entry]
    assert len(named) == len(ENTRIES) > 50
    for entry in named:
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", entry), entry
    assert "://" not in LOCK and " @ " not in LOCK and "--index" not in LOCK
