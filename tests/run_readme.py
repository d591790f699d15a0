"""Runs the commands and Python blocks of the README and of the documents it names, at a tiny size.

`make demo` and every `python train.py` get flags that make them short; DIR and RUN stand for a
folder of pictures made here and for a fresh run folder. Commands that install or fetch something
are left to the Makefile and to CI, which do nothing else. The scripts run in this process, and
compile as under the tests.
"""

import os
import re
import runpy
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

import conftest  # noqa: F401
import numpy as np
from PIL import Image

from jaxconvlstm.tools import start

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = ("README.md", "docs/data.md", "docs/reliability.md")
RUNNABLE = [["python", name] for name in ("train.py", "eval.py", "-m")] + [["make", "demo"]]
TINY = "--epochs 1 --steps-per-epoch 2 --batch-size 2 --features 4 --limit 4".split()


def make_pictures(folder: Path) -> None:
    """Two sequences of 40 colour pictures with a square that moves."""
    for sequence in range(2):
        place = folder / f"sequence{sequence}"
        place.mkdir(parents=True)
        for frame in range(40):
            pixels = np.full((24, 32, 3), 30, np.uint8)
            column = (frame + 8 * sequence) % 26
            pixels[8:14, column : column + 6] = (220, 120, 40)
            Image.fromarray(pixels).save(place / f"frame{frame}.png")


def blocks(language: str) -> list[str]:
    """The fenced blocks of one language."""
    texts = [(ROOT / name).read_text(encoding="utf-8") for name in DOCUMENTS]
    return re.findall(rf"```{language}\n(.*?)```", "".join(texts), re.DOTALL)


def commands() -> list[list[str]]:
    """The shell blocks' commands that can run here, with their comments taken off."""
    found = []
    for block in blocks("sh"):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            if words[:2] in RUNNABLE:
                found.append(words)
    return found


def run(words: list[str]) -> None:
    """Run a command; those of Python here, as if they were typed.

    Raises:
      SystemExit, CalledProcessError: it failed.
    """
    print("$", " ".join(words), flush=True)
    if words[0] == "make":
        subprocess.run(words, cwd=ROOT, check=True)
        return
    sys.argv = words[1:] if words[1] != "-m" else words[2:]
    start.end = sys.exit  # another command follows in this process
    try:
        if words[1] == "-m":
            runpy.run_module(words[2], run_name="__main__", alter_sys=True)
        else:
            runpy.run_path(words[1], run_name="__main__")
    except SystemExit as stop:
        if stop.code:
            raise


def main() -> None:
    """Run everything; the first failure ends it."""
    os.environ["JAX_PLATFORMS"] = "cpu"
    os.chdir(ROOT)
    with tempfile.TemporaryDirectory() as scratch:
        data, folder = Path(scratch, "pictures"), Path(scratch, "run")
        make_pictures(data)
        places = {"DIR": str(data), "RUN": str(folder), "list.txt": f"{scratch}/list.txt"}
        places["RUN-LINES"] = f"{scratch}/lines"
        done = 0
        for words in commands():
            words = [places.get(word, word) for word in words]
            if words[0] == "make":
                words += [f"FLAGS={' '.join(TINY)}", f"DEMO={scratch}/demo"]
            else:
                words += TINY if words[1] == "train.py" else []
                words += ["--out", f"{scratch}/look"] if "inspect" in words else []
            run(words)
            done += 1
        for block in blocks("python"):
            print(block, flush=True)
            exec(block.replace('"RUN"', repr(str(folder))), {})
            done += 1
        if done < 5:
            raise SystemExit(f"only {done} commands found in the README: its form has changed")
    print(f"{done} commands of the README ran")


if __name__ == "__main__":
    main()
