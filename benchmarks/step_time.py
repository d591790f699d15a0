"""Measure the time of a whole training step (forward, loss, backward, Adam), ours and others'.

    python benchmarks/step_time.py                                   # all networks
    python benchmarks/step_time.py --work openstl --peers ours torch-eager torch-compile
    python benchmarks/step_time.py --work keras-example --batch-size 4 --json results.json

Each implementation runs in a process of its own. They take steps in turn, one round after the
other, so that the changing speed of a shared machine affects all of them alike; medians are
reported. An implementation whose step takes over half a minute takes few steps. Those that are not
installed are left out, and named; `pip install -e '.[bench]'` installs all.
"""

import argparse
import json
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from peers import WORKS

TORCH = ("torch-eager", "torch-channels-last", "torch-compile", "torch-compile-channels-last")
PEERS = (
    "ours",
    "ours-remat",
    "ours-before-loop",
    "ours-inside-loop",
    "flax",
    "keras-tensorflow",
    "keras-torch",
    "keras-jax",
    *TORCH,
)
# Implementations that are timed without --peers; flax and keras-jax take over 20 times as long on a
# CPU.
DEFAULT_PEERS = {
    "keras-example": ("ours", "keras-tensorflow", "keras-torch", "torch-eager"),
    "openstl": ("ours", *TORCH),
    "seq2one": ("ours", *TORCH),
    "seq2one-lstm": ("ours", *TORCH),
}
SLOW = 30.0
"""Seconds of a step above which an implementation takes two turns only."""
SHORT = 5.0
"""Seconds of a step below which a step that is not timed precedes each turn."""
PAUSE = 0.5
"""Seconds between two turns."""

FRESH_MEMORY = (
    "let each process hand what it frees back to the system, which is the C library's default; "
    "otherwise all keep it, as train.py does"
)


class Worker:
    """A process that takes steps when told; see `worker.py`.

    Attributes:
      peer: name of the implementation.
      seconds: of a step in each turn.
      facts: the first answer of the process: parameters, versions and the like, or an error.
    """

    def __init__(self, peer: str, work: str, batch: int, dtype: str, *flags: str):
        self.peer = peer
        command = [sys.executable, str(Path(__file__).with_name("worker.py")), peer, work]
        command += ["--batch-size", str(batch), "--dtype", dtype, *flags]
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self.seconds: list[float] = []
        self.facts: dict[str, Any] = {}

    def ready(self) -> bool:
        """Wait for its first step; False if that fails."""
        self.facts = self._answer()
        return "error" not in self.facts

    def steps(self, count: int) -> None:
        """Take `count` steps, and append the mean of their seconds to `seconds`."""
        # OpenMP's threads of the process before wait actively for a while, which takes a core.
        time.sleep(PAUSE)
        if not self.seconds or self.seconds[0] < SHORT:
            self._take(1)  # not timed: fills the caches again
        self.seconds.append(self._take(count) / count)

    def close(self) -> None:
        """End the process."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()

    def _take(self, count: int) -> float:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{count}\n")
        self.process.stdin.flush()
        return self._answer()["seconds"]

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        return json.loads(line) if line else {"error": "it ended, or took too long"}


def race(
    peers: list[str],
    work: str,
    batch: int,
    dtype: str = "float32",
    rounds: int = 7,
    steps: int = 1,
    forecast: bool = False,
    fresh_memory: bool = False,
) -> dict[str, Any]:
    """Time implementations in turn.

    Args:
      peers: names of implementations, from `PEERS`.
      work: name of the network, from `peers.WORKS`.
      batch: clips per step.
      dtype: "float32" or "bfloat16".
      rounds: turns of each implementation.
      steps: steps in a turn.
      forecast: time forecasts in place of training steps.
      fresh_memory: leave the processes at the C library's default, which returns freed memory to
        the system.

    Returns:
      The settings, the machine and its rate; and for each implementation the median and the least
      seconds of a step, the number of turns, and its facts. It can be written as JSON.
    """
    flags = ["--forecast"] if forecast else []
    flags += ["--fresh-memory"] if fresh_memory else []
    entries: dict[str, dict[str, Any]] = {}
    workers = []
    for name in ["matrix", *peers]:
        worker = Worker(name, work, batch, dtype, *([] if name == "matrix" else flags))
        began = time.monotonic()
        if worker.ready():
            workers.append(worker)
            print(f"  {name}: ready after {time.monotonic() - began:.1f} s", flush=True)
        else:
            print(f"  {name}: left out ({worker.facts['error']})", flush=True)
            worker.close()
    for number in range(rounds):
        for worker in workers:
            if number > 1 and worker.seconds[0] > SLOW:
                continue
            worker.steps(1 if worker.seconds and worker.seconds[0] > SLOW else steps)
    for worker in workers:
        worker.close()
        entries[worker.peer] = {
            "seconds": statistics.median(worker.seconds),
            "fastest": min(worker.seconds),
            "turns": len(worker.seconds),
            **worker.facts,
        }
    matrix = entries.pop("matrix", {"flops": 0, "seconds": 1})
    return {
        "work": work,
        "forecast": forecast,
        "fresh_memory": fresh_memory,
        "batch_size": batch,
        "dtype": dtype,
        "machine": machine(),
        "matrix_flops_per_second": matrix["flops"] / matrix["seconds"],
        "peers": entries,
    }


def machine() -> str:
    """Name of the processor, number of cores, and version of Python."""
    model = platform.processor() or platform.machine()
    path = Path("/proc/cpuinfo")
    if path.exists():
        lines = [line for line in path.read_text().splitlines() if line.startswith("model name")]
        cores = len(lines)
        model = f"{lines[0].split(':')[1].strip()}, {cores} cores" if lines else model
    return f"{model}, Python {platform.python_version()}"


def table(result: dict[str, Any]) -> str:
    """A Markdown table of a result of `race`, with a row per implementation, the fastest first."""
    entries = result["peers"]
    ours = entries.get("ours")
    flops = ours["flops"] if ours else None
    rate = result["matrix_flops_per_second"]
    verb = "forecast" if result["forecast"] else "step"
    clips = "sequences" if result["forecast"] else "clips"
    lines = [
        f"{result['work']}, batch {result['batch_size']}, {result['dtype']}; {result['machine']}; "
        f"a matrix product reaches {rate / 1e9:.0f} GFLOP/s",
        "",
        f"| implementation | {verb}, ms | {clips}/s | times ours | GFLOP/s | "
        "of a matrix product's | parameters | first |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name, entry in sorted(entries.items(), key=lambda item: item[1]["seconds"]):
        seconds = entry["seconds"]
        ratio = f"{seconds / ours['seconds']:.2f}" if ours else ""
        speed = f"{flops / seconds / 1e9:.0f}" if flops else ""
        fraction = f"{flops / seconds / rate:.0%}" if flops and rate else ""
        lines.append(
            f"| {name} | {seconds * 1e3:.1f} | {result['batch_size'] / seconds:.1f} | {ratio} | "
            f"{speed} | {fraction} | {entry['parameters']:,} | {entry['until_first']:.0f} s |"
        )
    versions: dict[str, str] = {}
    for entry in entries.values():
        versions |= entry.get("versions", {})
    named = ", ".join(f"{name} {version}" for name, version in sorted(versions.items()))
    return "\n".join([*lines, "", named])


def main() -> None:
    """Time the chosen networks, and print a table for each network and batch size."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    works = "\n".join(f"  {work.name}: {work.text}" for work in WORKS.values())
    parser.epilog = f"works:\n{works}"
    parser.add_argument("--work", nargs="+", choices=WORKS, default=list(WORKS))
    parser.add_argument("--peers", nargs="+", choices=PEERS, help="by default, what suits the work")
    parser.add_argument("--batch-size", type=int, nargs="+", help="clips a step; several in turn")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--rounds", type=int, default=7, help="turns of each implementation")
    parser.add_argument("--steps", type=int, default=1, help="steps in a turn")
    parser.add_argument("--fresh-memory", action="store_true", help=FRESH_MEMORY)
    parser.add_argument("--json", type=Path, help="file to write all results to")
    arguments = parser.parse_args()
    results = []
    for name in arguments.work:
        peers = list(arguments.peers or DEFAULT_PEERS[name])
        for batch in arguments.batch_size or [WORKS[name].batch]:
            print(f"{name}, batch {batch}", flush=True)
            results.append(
                race(
                    peers,
                    name,
                    batch,
                    arguments.dtype,
                    arguments.rounds,
                    arguments.steps,
                    fresh_memory=arguments.fresh_memory,
                )
            )
            print(f"\n{table(results[-1])}\n", flush=True)
            if arguments.json:
                arguments.json.write_text(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
