"""Training and evaluation without a network, and what they ask of the interpreter."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
TINY = (
    "--epochs 2 --steps-per-epoch 2 --batch-size 2 --features 4 --layers 1 --input-frames 3 "
    "--target-frames 2 --limit 4 --log-every 1"
).split()
# Runs a script with a hook that notes what could start other code, or reach other machines.
WATCHED = """
import json, runpy, sys
out, root, script = sys.argv[1:4]
sys.argv = sys.argv[3:]
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
sys.addaudithook(hook)
try:
    runpy.run_path(script, run_name="__main__")
finally:
    with open(out, "w") as file:
        json.dump(found, file)
"""


def watched(tmp_path: Path, script: str, *arguments: object) -> list[str]:
    """What a script did that the hook notes, on a machine without a network where that can be."""
    alone = ["unshare", "--map-root-user", "--net"]
    if shutil.which("unshare") is None or subprocess.run([*alone, "true"]).returncode:
        pytest.skip("this machine gives nobody a network of their own")
    notes = tmp_path / "notes.json"
    command = [*alone, sys.executable, "-c", WATCHED, notes, ROOT, ROOT / script, *arguments]
    result = subprocess.run(
        list(map(str, command)),
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
    run = tmp_path / "run"
    assert watched(tmp_path, "train.py", *TINY, "--out", run, "--max-steps", 3) == []
    assert watched(tmp_path, "train.py", *TINY, "--out", run, "--resume", "must") == []
    assert watched(tmp_path, "eval.py", run) == []


@pytest.mark.slow
def test_the_hook_sees_what_it_is_to_see(tmp_path: Path) -> None:
    (tmp_path / "jaxconvlstm_like.py").write_text(
        "import pickle, socket, subprocess\n"
        "pickle.loads(pickle.dumps(pickle.Pickler))\n"
        "eval('1')\n"
        "subprocess.run(['true'])\n"
        "try:\n    socket.create_connection(('127.0.0.1', 9), 1)\nexcept OSError:\n    pass\n"
    )
    found = " ".join(watched(tmp_path, str(tmp_path / "jaxconvlstm_like.py")))
    for event in ("pickle.find_class", "compile in", "subprocess.Popen", "socket.connect"):
        assert event in found
