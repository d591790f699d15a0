"""Measure the memory of a ConvLSTM layer, the growth of time and memory, and compilation.

    python benchmarks/memory.py                # memory of a layer, growth, compile time
    python benchmarks/memory.py --only layer

`layer`: temporary memory of the gradients of a ConvLSTM layer (in its weights and inputs), as XLA
plans it, in units of the layer's output (time x batch x height x width x features floats); of one
layer, and the memory that a further layer on top adds. `growth`: seconds and memory for longer
clips, larger batches and larger frames, and the exponents of power laws fitted to them. `compile`:
seconds to trace and compile the training step of OpenSTL's ConvLSTM-S.
"""

import argparse
import dataclasses
import json
import math
import statistics
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from peers import WORKS, ours

from jaxconvlstm import ConvLSTM, keep_freed_memory
from jaxconvlstm.device import describe_device

MEASUREMENTS = ("layer", "growth", "compile")
Shape = tuple[int, int, int, int]  # batch, time, height, width


def gradient(layer: nn.Module, shape: Shape, channels: int) -> tuple[Any, tuple[Any, Any]]:
    """Compile the gradients of a loss in a layer's weights and inputs.

    Args:
      layer: the module.
      shape: of the inputs, without their channels.
      channels: of the inputs.

    Returns:
      The compiled function, and the arguments to call it with.
    """
    inputs = jax.random.normal(jax.random.key(0), (*shape, channels))
    variables = jax.jit(layer.init)(jax.random.key(1), inputs)

    def loss(variables: Any, inputs: jax.Array) -> jax.Array:
        return jnp.mean(layer.apply(variables, inputs) ** 2)  # type: ignore[operator]

    compiled = jax.jit(jax.grad(loss, (0, 1))).lower(variables, inputs).compile()
    return compiled, (variables, inputs)


def seconds_of(compiled: Any, arguments: Any, repeats: int = 7) -> float:
    """Median seconds of `repeats` calls after a first one; that one alone if it takes over 20 s."""
    seconds = []
    for _ in range(repeats + 1):
        began = time.perf_counter()
        jax.block_until_ready(compiled(*arguments))
        seconds.append(time.perf_counter() - began)
        if seconds[0] > 20:
            return seconds[0]
    return statistics.median(seconds[1:])


class Stack(nn.Module):
    """`count` ConvLSTM layers: "Flax's cell", "ours" or "ours, `--remat`"."""

    kind: str
    count: int
    features: int

    @nn.compact
    def __call__(self, inputs: jax.Array) -> jax.Array:
        for _ in range(self.count):
            if self.kind == "Flax's cell":
                layer = nn.RNN(nn.ConvLSTMCell(self.features, (3, 3)))
            else:
                layer = ConvLSTM(self.features, (3, 3), remat="remat" in self.kind)
            inputs = layer(inputs)
        return inputs


def layers(features: int = 64, shape: Shape = (1, 20, 64, 64)) -> list[dict[str, Any]]:
    """Memory and seconds of the gradients of each kind of layer.

    Returns:
      For each kind `units`, the memory of one layer in units of its output; `units_added`, the
      memory that a third layer adds to two; and `seconds` of one layer.
    """
    unit = 4 * math.prod(shape) * features
    results = []
    for kind in ("Flax's cell", "ours", "ours, `--remat`"):
        runs = [gradient(Stack(kind, count, features), shape, features) for count in (1, 2, 3)]
        memory = [run.memory_analysis().temp_size_in_bytes / unit for run, _ in runs]
        seconds = seconds_of(*runs[0])
        entry = {"layer": kind, "units": memory[0], "units_added": memory[2] - memory[1]}
        results.append({**entry, "seconds": seconds})
        print(f"| {kind} | {memory[0]:.1f} | {memory[2] - memory[1]:.1f} | {seconds:.3f} |")
    return results


def growth(features: int = 32) -> list[dict[str, Any]]:
    """Exponents of time and memory in the length of clips, the batch size and the frame's area.

    Returns:
      For each, the two exponents, and the seconds and bytes that they were fitted to.
    """
    series: dict[str, list[Shape]] = {
        "time": [(2, steps, 32, 32) for steps in (10, 20, 40, 80)],
        "batch": [(batch, 10, 32, 32) for batch in (2, 4, 8, 16)],
        "area": [(2, 10, side, side) for side in (32, 64, 96, 128)],
    }
    layer = ConvLSTM(features, (3, 3))
    results = []
    for name, shapes in series.items():
        runs = [gradient(layer, shape, features) for shape in shapes]
        memory = [compiled.memory_analysis().temp_size_in_bytes for compiled, _ in runs]
        rounds = [[seconds_of(*run, repeats=1) for run in runs] for _ in range(7)]  # in turn
        seconds = np.median(rounds, axis=0)
        size = np.log([math.prod(shape) for shape in shapes])
        # The slope of log y over log size is the exponent of a power law.
        of_time, of_memory = (float(np.polyfit(size, np.log(y), 1)[0]) for y in (seconds, memory))
        entry = {"grows": name, "time_exponent": of_time, "memory_exponent": of_memory}
        results.append({**entry, "seconds": seconds.tolist(), "bytes": memory})
        print(f"| {name} | {of_time:.2f} | {of_memory:.2f} |", flush=True)
    return results


def compile_times() -> list[dict[str, Any]]:
    """Seconds to trace and compile a training step of OpenSTL's network, for 20 and 200 frames."""
    results = []
    for given, predicted in ((10, 10), (100, 100)):
        work = dataclasses.replace(WORKS["openstl"], given=given, predicted=predicted)
        peer = ours.build_with(ours.network("openstl"), work, work.batch, forecast=False)
        seconds = peer.facts["compile_seconds"]
        results.append({"frames": given + predicted, "seconds": seconds})
        print(f"| {given + predicted} | {seconds} |", flush=True)
    return results


def main() -> None:
    """Run the chosen measurements, and print a table for each."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=MEASUREMENTS, default=MEASUREMENTS)
    parser.add_argument("--json", type=Path, help="file to write the results to")
    arguments = parser.parse_args()
    keep_freed_memory()  # as train.py does
    print(describe_device())
    results: dict[str, Any] = {"device": describe_device()}
    if "layer" in arguments.only:
        print("\n| layer | memory, units | of another layer | seconds |")
        print("| --- | ---: | ---: | ---: |", flush=True)
        results["layer"] = layers()
    if "growth" in arguments.only:
        print("\n| grows | exponent of time | of memory |\n| --- | ---: | ---: |")
        results["growth"] = growth()
    if "compile" in arguments.only:
        print("\n| frames of a clip | seconds to compile |\n| ---: | ---: |")
        results["compile"] = compile_times()
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
