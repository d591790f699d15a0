"""Train and score the presets one after the other, and print a table of their scores.

python benchmarks/presets.py --digits digits-8000-idx3-ubyte.gz --pictures list.txt --out RUNS

`docs/presets.md` has the minutes that each takes on two CPU cores; `--only NAME ...` chooses
presets. Runs that are finished in `--out` are not repeated.
"""

import argparse
import json
import platform
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

import jax

ROOT = Path(__file__).resolve().parent.parent
DIGITS, PICTURES = "DIGITS", "PICTURES"
# Flags in addition to each preset: its data, and a number of steps that takes some minutes.
RUNS: dict[str, str] = {
    "moving-squares": "",
    "moving-squares-stack": "",
    "seq2one": f"--data {PICTURES} --epochs 10",
    "seq2one-lstm": f"--data {PICTURES} --epochs 5",
    "moving-mnist": f"--data {DIGITS}",
    "next-frame": f"--data {DIGITS}",
    "next-frame-ghosting": f"--data {DIGITS}",
    "keras-moving-mnist": f"--data {DIGITS} --batch-size 2 --epochs 1 --steps-per-epoch 70",
    "encoder-forecaster": f"--data {DIGITS} --batch-size 4 --epochs 2 --steps-per-epoch 65",
    "encoder-forecaster-pyramid": f"--data {DIGITS} --batch-size 2 --epochs 1 --steps-per-epoch 25",
    "moving-lines": "",
    "moving-lines-convlstm": "",
}
COLUMNS = ("mse", "ssim", "trail", "openstl_mse", "shi_cross_entropy", "accuracy")


def main() -> None:
    """Measure the chosen presets, and print the table of all finished ones."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--digits", required=True, help="IDX file of handwritten digits")
    parser.add_argument("--pictures", required=True, help="folder or path list of pictures")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", nargs="*", choices=RUNS, default=list(RUNS))
    arguments = parser.parse_args()
    for name in arguments.only:
        flags = RUNS[name].replace(DIGITS, arguments.digits).replace(PICTURES, arguments.pictures)
        measure(name, shlex.split(flags), arguments.out / name)
    print(f"Python {platform.python_version()}, JAX {jax.__version__}, {jax.devices()[0]}\n")
    print(table(arguments.out))


def measure(name: str, flags: list[str], run: Path) -> None:
    """Train and score one preset, unless its scores are there already."""
    if (run / "eval" / "metrics.json").is_file():
        return
    shutil.rmtree(run, ignore_errors=True)  # the time is that of a whole run
    began = time.monotonic()
    call("train.py", "--preset", name, *flags, "--out", str(run))
    minutes = (time.monotonic() - began) / 60
    call("eval.py", str(run))
    (run / "minutes.json").write_text(json.dumps(minutes))


def call(script: str, *arguments: str) -> None:
    """Run `train.py` or `eval.py`; an error ends the benchmark."""
    print("+", script, *arguments, flush=True)
    subprocess.run([sys.executable, str(ROOT / script), *arguments], check=True, cwd=ROOT)


def table(runs: Path) -> str:
    """A row per finished run: minutes, best validation loss, and the test scores it has."""
    lines = [
        "| preset | minutes | validation loss | " + " | ".join(COLUMNS) + " |",
        "| --- | ---: | ---: |" + " ---: |" * len(COLUMNS),
    ]
    for name in RUNS:
        if not (runs / name / "minutes.json").is_file():
            continue
        minutes = json.loads((runs / name / "minutes.json").read_text())
        scores = json.loads((runs / name / "eval" / "metrics.json").read_text())["model"]
        records = map(json.loads, (runs / name / "metrics.jsonl").read_text().splitlines())
        losses = [record["loss"] for record in records if record["split"] == "val"]
        cells = [f"{scores[key]:.4g}" if key in scores else "" for key in COLUMNS]
        best = f"{min(losses):.5f}" if losses else ""
        lines.append(f"| `{name}` | {minutes:.1f} | {best} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
