"""Answer the open questions for a GPU in one call, the most valuable first.

    python benchmarks/gpu.py --out DIR [--minutes 9]

Writes `report.md`, tables to read, and `results.json`, all numbers, after each answer, so that
nothing is lost if it is stopped. Four minutes are enough for what matters most. It needs JAX, Flax,
Optax and jaxtyping, uses PyTorch and Orbax if they are installed, and names what is not.
`benchmarks/README.md` lists the questions; `--tiny` asks them all within minutes on any machine.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gpu_scripts import AGREEMENT, EXCHANGE, MEMORY, METRICS, RATES
from peers import TINY
from step_time import TORCH, Worker, machine

ROOT = Path(__file__).resolve().parent.parent
EAGER, CHANNELS_LAST, COMPILED = TORCH[:3]
COMMAND_BUFFERS = (
    "--xla_gpu_graph_min_graph_size=1 "
    "--xla_gpu_enable_command_buffer=FUSION,CUBLAS,CUBLASLT,CUDNN,CUSTOM_CALL,WHILE,CONDITIONAL"
)
Answer = str
Entries = dict[str, dict[str, Any]]


class Questions:
    """The ways to answer a question; each answer is text, and may add to `results`.

    Attributes:
      out: folder for the runs of `exchange`.
      deadline: time at which all answers should be there, on the clock of `time.monotonic`.
      tiny: whether only to see that everything runs.
      results: all numbers.
      rates: floating-point operations per second of a matrix product for each dtype, and bytes per
        second of a "copy".
    """

    def __init__(self, out: Path, deadline: float, tiny: bool):
        self.out, self.deadline, self.tiny = out, deadline, tiny
        self.results: list[dict[str, Any]] = []
        self.rates: dict[str, Any] = {}

    def left(self) -> float:
        """Seconds until the deadline."""
        return self.deadline - time.monotonic()

    def machine(self) -> Answer:
        """The device, versions, and the rates that others are compared with."""
        sizes = ("256", "1000000") if self.tiny else ("8192", str(2**29))
        for line in self.script(RATES, *sizes).splitlines():
            if not line.startswith("{"):
                return line
            self.rates |= json.loads(line)
        self.results.append(self.rates)
        described = [f"{key} {self.rates[key]}" for key in ("device", "jax", "flax", "optax")]
        return (
            f"{machine()}; {', '.join(described)}; products of matrices "
            f"{self.rates['bfloat16'] / 1e12:.3g} TFLOP/s in bfloat16 and "
            f"{self.rates['float32'] / 1e12:.3g} in tf32; copies {self.rates['copy'] / 1e12:.3g} "
            "TB/s (read and written)"
        )

    def race(
        self,
        work: str,
        batch: int,
        dtype: str,
        names: list[str],
        peers: list[str],
        *,
        forecast: bool = False,
        flags: str = "",
    ) -> Answer:
        """Time our variants in one process, and then other implementations in one each.

        Args:
          work, batch, dtype: see `step_time.race`.
          names: variants of ours; see `variants.py`.
          peers: of `step_time.PEERS`.
          forecast: time forecasts in place of training steps.
          flags: for `XLA_FLAGS` of ours.
        """
        if self.tiny:
            batch, names = 1, names if len(names) > 8 else names[:1]
        entries: Entries = {}
        result = {"work": work, "batch": batch, "dtype": dtype, "forecast": forecast}
        result |= {"flags": flags, "entries": entries}
        self.results.append(result)
        command = ["benchmarks/variants.py", work, "--batch-size", str(batch), "--dtype", dtype]
        command += ["--forecast"] if forecast else []
        command += ["--rounds", "1", "--steps", "1"] if self.tiny else []
        environment = {"XLA_FLAGS": flags} if flags else {}
        lines, failure = self.process(*command, "--variants", *names, **environment)
        notes = [f"ours ended: {failure}"] if failure else []
        for line in lines:
            if not (line.startswith("{") and line.endswith("}")):
                continue  # a library's own words, or half a line
            facts = json.loads(line)
            entry = entries.setdefault(facts.pop("name"), {})
            if "seconds" in facts:
                entry.setdefault("turns", []).append(facts["seconds"])
            entry |= facts
        entries.pop("", None)
        for peer in peers:
            worker = Worker(peer, work, batch, dtype, *(["--forecast"] if forecast else []))
            # A process that hangs, or compiles for too long, must not take the others' time.
            timer = threading.Timer(max(20.0, min(150.0, self.left())), worker.process.kill)
            timer.start()
            try:
                if worker.ready():
                    for _ in range(1 if self.tiny else 5):
                        worker.steps(1 if self.tiny else 10)
                    entries[peer] = {"turns": worker.seconds, **worker.facts}
                else:
                    notes.append(f"{peer} was left out: {worker.facts['error']}")
            except (KeyError, OSError):  # it was killed between two answers
                notes.append(f"{peer} was left out: it took too long")
            finally:
                timer.cancel()
                worker.close()
        for name, entry in entries.items():
            if "error" in entry:
                notes.append(f"{name} was left out: {entry['error']}")
        return "\n\n".join([self.table(result), *notes])

    def table(self, result: dict[str, Any]) -> Answer:
        """A row per implementation, the fastest first."""
        rate, copy = self.rates.get(result["dtype"]), self.rates.get("copy")
        timed = {
            name: statistics.median(entry["turns"])
            for name, entry in result["entries"].items()
            if entry.get("turns")
        }
        ours = timed.get("default")
        one = result["entries"].get("default", {})
        unit = "forecast" if result["forecast"] else "step"
        lines = [
            f"| implementation | {unit}, ms | clips/s | times the default | of a matrix product's "
            "rate | of a copy's bandwidth | peak memory, GB | gradient norm |",
            "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
        ]
        for name, seconds in sorted(timed.items(), key=lambda item: item[1]):
            entry = result["entries"][name]
            # The work is the same whoever does it; what is moved is known of ours alone.
            flops, moved = one.get("flops"), entry.get("bytes")
            cells = [
                name,
                f"{seconds * 1e3:.2f}",
                f"{result['batch'] / seconds:.1f}",
                f"{seconds / ours:.2f}" if ours else "",
                f"{flops / seconds / rate:.1%}" if flops and rate else "",
                f"{moved / seconds / copy:.1%}" if moved and copy else "",
                f"{entry['peak_memory'] / 1e9:.2f}" if entry.get("peak_memory") else "",
                f"{entry['gradient_norm']:.5g}" if "gradient_norm" in entry else "",
            ]
            lines.append(f"| {' | '.join(cells)} |")
        return "\n".join(lines)

    def script(self, text: str, *arguments: str, platform: str | None = None) -> Answer:
        """What a Python script prints, and why it failed if it did.

        Args:
          text: the script.
          arguments: its command-line arguments.
          platform: of JAX, "cpu" for instance; by default the one that JAX chooses.
        """
        environment = {} if platform is None else {"JAX_PLATFORMS": platform}
        lines, failure = self.process("-c", text, *arguments, **environment)
        return "\n".join([*lines, f"failed: {failure}"] if failure else lines)

    def process(self, *arguments: str, **environment: str) -> tuple[list[str], str | None]:
        """Run Python until it ends or time is up.

        Args:
          arguments: a script or `-c`, and what follows.
          environment: variables to add.

        Returns:
          The lines that it printed, and the last line of its error if it failed.
        """
        printed, errors = self.out / "printed.txt", self.out / "errors.txt"
        with printed.open("w") as output, errors.open("w") as error:
            process = subprocess.Popen(
                [sys.executable, *arguments],
                cwd=ROOT,
                env=os.environ | {"PYTHONPATH": str(ROOT)} | environment,
                stdout=output,
                stderr=error,
            )
            try:
                process.wait(timeout=max(30.0, self.left()))
            except subprocess.TimeoutExpired:
                process.kill()  # what it has printed until now is still worth reading
                process.wait()
        lines = printed.read_text(errors="replace").splitlines()
        if process.returncode == 0:
            return lines, None
        said = errors.read_text(errors="replace").strip()
        print(said[-2000:], file=sys.stderr)
        return lines, (said.splitlines() or ["stopped without a word"])[-1]

    def exchange(self) -> Answer:
        """Write a checkpoint on the GPU and read it on the CPU, and the other way around."""
        lines = []
        for first, then in ((None, "cpu"), ("cpu", None)):
            run = str(self.out / f"run-{first or 'gpu'}")
            trained = self.script(EXCHANGE, run, "train", platform=first)
            lines.append(f"trained on {first or 'gpu'}: {trained.splitlines()[-1:]}")
            lines.append(
                f"read on {then or 'gpu'}: {self.script(EXCHANGE, run, '', platform=then)}"
            )
        return "\n".join(lines)


def main() -> None:
    """Ask until all questions are answered or time is up."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=9.0, help="time for all of it")
    parser.add_argument("--tiny", action="store_true", help="only to see that everything runs")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    if arguments.tiny:
        os.environ[TINY] = "1"
    ask = Questions(arguments.out, time.monotonic() + 60 * arguments.minutes, arguments.tiny)
    bf16, f32 = "bfloat16", "float32"
    best = ["default", "late-kernels", "apart"]
    late = ["late-kernels-unrolled", "before-loop", "joined-forwards", "unrolled", "wavefront"]
    rest = [*late, "by-channels", "whole-steps", "inside-loop"]
    buffers = ["default", "late-kernels", "late-kernels-unrolled"]
    questions: list[tuple[str, Callable[[], Answer]]] = [
        ("The machine", ask.machine),
        ("Agreement with a CPU", lambda: ask.script(AGREEMENT)),
        (
            "OpenSTL, batch 64, bfloat16",
            lambda: ask.race("openstl", 64, bf16, best, [CHANNELS_LAST, COMPILED]),
        ),
        (
            "Sequence to one, batch 8, bfloat16: all variants",
            lambda: ask.race("seq2one", 8, bf16, [*best, *rest], [EAGER, CHANNELS_LAST, COMPILED]),
        ),
        (
            "keras.io example, batch 4, bfloat16",
            lambda: ask.race("keras-example", 4, bf16, [*best, "by-channels"], ["flax", EAGER]),
        ),
        (
            "Forecasts of OpenSTL's network, batch 16, bfloat16",
            lambda: ask.race(
                "openstl", 16, bf16, ["default", "apart"], [CHANNELS_LAST, COMPILED], forecast=True
            ),
        ),
        (
            "OpenSTL, batch 64, bfloat16: the other variants",
            lambda: ask.race("openstl", 64, bf16, ["default", *late], [EAGER]),
        ),
        (
            "Sequence to one, batch 8, bfloat16, with command buffers",
            lambda: ask.race("seq2one", 8, bf16, buffers, [], flags=COMMAND_BUFFERS),
        ),
        (
            "Cost of fetching the metrics",
            lambda: ask.script(METRICS, "2" if ask.tiny else "100"),
        ),
        ("Checkpoints between CPU and GPU", ask.exchange),
        (
            "OpenSTL, batch 16, tf32",
            lambda: ask.race("openstl", 16, f32, best, ["flax", CHANNELS_LAST, COMPILED]),
        ),
        (
            "Sequence to one, batch 8, tf32",
            lambda: ask.race("seq2one", 8, f32, best, ["flax", CHANNELS_LAST]),
        ),
        (
            "keras.io example, batch 4, tf32",
            lambda: ask.race("keras-example", 4, f32, best, ["flax", EAGER]),
        ),
        ("Memory of a layer", lambda: "not asked" if ask.tiny else ask.script(MEMORY)),
    ]
    report: list[str] = []
    if ask.tiny:
        # The others take long on a CPU, and run nothing that these do not.
        alike = "keras", "OpenSTL, batch 16", "OpenSTL, batch 64, bfloat16: "
        questions = [item for item in questions if not item[0].startswith(alike)]
    for title, answer in questions:
        began = time.monotonic()
        if ask.left() < (1 if ask.tiny else 15):
            text = "not asked: time was up"
        else:
            print(f"{title} ({ask.left():.0f} s left)", flush=True)
            try:
                text = answer()
            except Exception as error:  # the other questions are still worth an answer
                traceback.print_exc()
                text = f"failed: {type(error).__name__}: {error}"
        report.append(f"## {title} ({time.monotonic() - began:.0f} s)\n\n{text}")
        (arguments.out / "report.md").write_text("\n\n".join(report) + "\n")
        (arguments.out / "results.json").write_text(json.dumps(ask.results, indent=2))
    print("\n\n".join(report))


if __name__ == "__main__":
    main()
