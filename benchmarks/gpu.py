"""Answer the open questions for a GPU, the most valuable first, in at most nine minutes.

    python benchmarks/gpu.py --out DIR [--minutes 9]

Writes `results.json` and `report.md` after each answer, so that nothing is lost when time runs out.
It needs JAX, Flax and Optax, uses PyTorch and Orbax if they are installed, and names what is not.
"""

import argparse
import json
import os
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from step_time import TORCH, race, table

ROOT = Path(__file__).resolve().parent.parent
# Each script runs in a process of its own, so that none holds the memory that another one needs.
AGREEMENT = """
import jax, jax.numpy as jnp, numpy as np
from jaxconvlstm import ConvLSTM
jax.config.update("jax_default_matmul_precision", "highest")
worst = 0.0
for options in ({}, {"peephole": "channel"}, {"remat": True}, {"kernel_size": (5, 5)}):
    layer = ConvLSTM(32, **options)
    clip = np.random.default_rng(0).normal(size=(2, 6, 24, 32, 16)).astype(np.float32)
    variables = jax.device_get(layer.init(jax.random.key(0), clip))
    def loss(variables, clip):
        return jnp.mean(jnp.sin(layer.apply(variables, clip)))
    results = []
    for device in jax.devices()[:1] + jax.devices("cpu")[:1]:
        with jax.default_device(device):
            values = jax.jit(jax.value_and_grad(loss, (0, 1)))(variables, clip)
            results.append(jax.device_get(values))
    for ours, theirs in zip(*map(jax.tree.leaves, results)):
        worst = max(worst, float(np.abs(ours - theirs).max() / np.abs(theirs).max()))
print(f"largest difference of a GPU from a CPU, values and gradients: {worst:.1e} of the largest")
assert worst < 1e-4
"""
EXCHANGE = """
import sys, numpy as np, jaxconvlstm as jcl
run, clip = sys.argv[1], np.random.default_rng(0).random((5, 40, 40, 1), np.float32)
if sys.argv[2] == "train":
    data, model = jcl.DataConfig(limit=8), jcl.ModelConfig(features=(8,))
    jcl.fit(jcl.Config(data, model, jcl.TrainingConfig(epochs=1)), run)
    np.save(run + ".npy", jcl.load(run).predict(clip, steps=3))
else:
    print("largest difference of a prediction:",
          np.abs(jcl.load(run).predict(clip, steps=3) - np.load(run + ".npy")).max())
"""
METRICS = """
import sys, time
sys.path.insert(0, "benchmarks")
import jax, optax
from peers import WORKS, ours
from jaxconvlstm.training.step import init_state, make_train_step
work = WORKS["seq2one"]
module = ours.network("seq2one", "bfloat16")
task, data, optimizer = ours.task_of(work, module), ours.clips(work, 8), optax.adam(1e-3)
state = init_state(module, optimizer, work.frame, seed=0)
step = jax.jit(make_train_step(task, optimizer), donate_argnums=0)
for fetch in (False, True, False, True):
    began = time.perf_counter()
    for _ in range(100):
        state, metrics = step(state, data)
        if fetch:
            jax.device_get(metrics)
    jax.block_until_ready(state)
    print(f"{'fetching' if fetch else 'not fetching'} metrics: "
          f"{(time.perf_counter() - began) * 10:.2f} ms a step")
"""
MEMORY = """
import sys
sys.path.insert(0, "benchmarks")
import memory
print("| layer | memory, units | of another layer | seconds |")
print("| --- | ---: | ---: | ---: |")
memory.layers()
"""
THREE = TORCH[:3]  # without the slowest to compile
Answer = str


class Questions:
    """The ways to answer a question; each answer is text, and may add to `results`.

    Attributes:
      out: folder for the runs of `exchange`.
      deadline: time at which all answers should be there, on the clock of `time.monotonic`.
      results: of all races.
    """

    def __init__(self, out: Path, deadline: float):
        self.out, self.deadline = out, deadline
        self.results: list[dict[str, Any]] = []

    def left(self) -> float:
        """Seconds until the deadline."""
        return self.deadline - time.monotonic()

    def step(self, work: str, batch: int, dtype: str, peers: list[str], **options: Any) -> Answer:
        """Time training steps or forecasts; see `step_time.race`."""
        result = race(
            peers,
            work,
            batch,
            dtype,
            rounds=5,
            steps=10,
            matrix_size=8192,
            together=False,
            patience=max(20.0, min(150.0, self.left())),
            **options,
        )
        self.results.append(result)
        return table(result)

    def script(self, text: str, *arguments: str, platform: str | None = None) -> Answer:
        """The output of a Python script.

        Args:
          text: the script.
          arguments: its command-line arguments.
          platform: of JAX, "cpu" for instance; by default the one that JAX chooses.
        """
        environment = dict(os.environ, PYTHONPATH=str(ROOT))
        if platform is not None:
            environment["JAX_PLATFORMS"] = platform
        done = subprocess.run(
            [sys.executable, "-c", text, *arguments],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            timeout=max(60.0, self.left()),
            check=False,
        )
        if done.returncode:
            return f"failed: {(done.stderr.strip().splitlines() or ['without a word'])[-1]}"
        return done.stdout.strip()

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
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    ask = Questions(arguments.out, time.monotonic() + 60 * arguments.minutes)
    variants = ["ours", "ours-before-loop", "ours-in-loop", "ours-remat"]
    bf16, f32 = "bfloat16", "float32"
    questions: list[tuple[str, Callable[[], Answer]]] = [
        ("Agreement with a CPU", lambda: ask.script(AGREEMENT)),
        ("OpenSTL, batch 16, bfloat16", lambda: ask.step("openstl", 16, bf16, ["ours", *THREE])),
        (
            "OpenSTL, batch 64, bfloat16",
            lambda: ask.step("openstl", 64, bf16, [*variants, *TORCH[:2]]),
        ),
        (
            "OpenSTL, batch 16, tf32",
            lambda: ask.step("openstl", 16, f32, [*variants, "flax", *TORCH[:2]]),
        ),
        (
            "Forecasts of OpenSTL's network",
            lambda: ask.step("openstl", 16, f32, ["ours", *TORCH[:2]], forecast=True),
        ),
        (
            "keras.io example, batch 4, bfloat16",
            lambda: ask.step("keras-example", 4, bf16, [*variants, "flax", TORCH[0]]),
        ),
        (
            "Sequence to one, batch 8, bfloat16",
            lambda: ask.step("seq2one", 8, bf16, [*variants, "flax", *THREE]),
        ),
        ("Checkpoints between CPU and GPU", ask.exchange),
        ("Cost of fetching the metrics", lambda: ask.script(METRICS)),
        ("Memory of a layer", lambda: ask.script(MEMORY)),
        (
            "keras.io example, batch 4, tf32",
            lambda: ask.step("keras-example", 4, f32, ["ours", "flax", TORCH[0]]),
        ),
        ("OpenSTL, batch 64, tf32", lambda: ask.step("openstl", 64, f32, ["ours", *TORCH[:2]])),
        (
            "Sequence to one, batch 8, tf32",
            lambda: ask.step("seq2one", 8, f32, ["ours", *TORCH[:2]]),
        ),
    ]
    report: list[str] = []
    for title, answer in questions:
        if ask.left() < 15:
            report.append(f"## {title}\n\nnot asked: time was up")
            continue
        print(f"{title} ({ask.left():.0f} s left)", flush=True)
        try:
            text = answer()
        except Exception as error:  # the other questions are still worth an answer
            traceback.print_exc()
            text = f"failed: {type(error).__name__}: {error}"
        report.append(f"## {title}\n\n{text}")
        (arguments.out / "report.md").write_text("\n\n".join(report) + "\n")
        (arguments.out / "results.json").write_text(json.dumps(ask.results, indent=2))
    (arguments.out / "report.md").write_text("\n\n".join(report) + "\n")
    print("\n\n".join(report))


if __name__ == "__main__":
    main()
