"""Training and evaluation without a network, and what they ask of the interpreter."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from scripts import ROOT, TINY

# Runs scripts with a hook that notes what could start other code, or reach other machines.
WATCHED = """
import json, runpy, sys
out, root, commands = sys.argv[1:]
sys.path.insert(0, root)
STARTS = ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork",
          "os.forkpty", "pty.spawn", "pickle.find_class", "urllib.Request")
REACHES = ("socket.connect", "socket.bind", "socket.sendto", "socket.getaddrinfo")
found = []
def hook(event, arguments):
    if event in STARTS + REACHES:
        found.append(f"{event} {arguments!r}"[:200])
    elif event in ("compile", "exec"):
        caller = sys._getframe(1).f_code.co_filename
        if "jaxconvlstm" in caller:
            found.append(f"{event} in {caller}")
from jaxconvlstm.tools import start
start.end = sys.exit  # another command follows in this process
sys.addaudithook(hook)
for sys.argv in json.loads(commands):
    try:
        runpy.run_path(sys.argv[0], run_name="__main__")
    except SystemExit as stop:
        if stop.code:
            raise
with open(out, "w") as file:
    json.dump(found, file)
"""


def watched(tmp_path: Path, *commands: list[object]) -> list[str]:
    """What scripts did that the hook notes, on a machine without a network where that can be."""
    alone = ["unshare", "--map-root-user", "--net"]
    if shutil.which("unshare") is None or subprocess.run([*alone, "true"]).returncode:
        pytest.skip("this machine gives nobody a network of their own")
    notes = tmp_path / "notes.json"
    texts = json.dumps([list(map(str, command)) for command in commands])
    result = subprocess.run(
        [*alone, sys.executable, "-c", WATCHED, str(notes), str(ROOT), texts],
        capture_output=True,
        text=True,
        timeout=300,
        cwd=tmp_path,
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return json.loads(notes.read_text())


@pytest.mark.slow
def test_nothing_is_reached_unpickled_evaluated_or_started(tmp_path: Path) -> None:
    train, out = [ROOT / "train.py", *TINY, "--limit", 4], ["--out", tmp_path / "run"]
    assert (
        watched(
            tmp_path,
            [*train, *out, "--sample-every", 1, "--max-steps", 3],
            [*train, *out, "--sample-every", 1, "--resume", "must"],
            [ROOT / "eval.py", tmp_path / "run", "--samples", 1],
        )
        == []
    )
    assert list((tmp_path / "run" / "samples").glob("*.png"))
    assert (tmp_path / "run" / "eval" / "strip-0.png").is_file()


@pytest.mark.slow
def test_the_hook_notes_each_kind_of_event(tmp_path: Path) -> None:
    (tmp_path / "jaxconvlstm_like.py").write_text(
        "import pickle, socket, subprocess\n"
        "pickle.loads(pickle.dumps(pickle.Pickler))\n"
        "eval('1')\n"
        "subprocess.run(['true'])\n"
        "try:\n    socket.create_connection(('127.0.0.1', 9), 1)\nexcept OSError:\n    pass\n"
    )
    found = " ".join(watched(tmp_path, [tmp_path / "jaxconvlstm_like.py"]))
    for event in ("pickle.find_class", "compile in", "subprocess.Popen", "socket.connect"):
        assert event in found
