"""Time of one whole training step (forward, loss, backward, Adam), float32.

The network is the keras.io ConvLSTM example's: three ConvLSTM layers of 64 features with 5x5, 3x3
and 1x1 kernels, on 19 frames of 64x64x1, and a 3x3x3 head. The head here is causal (it reads the
current and the two earlier frames); the original's also reads the next one.

    python benchmarks/step_time.py --batch-size 1 --repeats 5
"""

import argparse
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from jaxconvlstm import Conv, ConvLSTM
from jaxconvlstm.cost import count_flops, human, peak_memory
from jaxconvlstm.device import describe_device


class KerasExample(nn.Module):
    """The example's network, without its batch norms (under 1 % of the work)."""

    @nn.compact
    def __call__(self, film: jax.Array) -> jax.Array:
        """`[batch, time, height, width, 1]` to the same shape, in (0, 1)."""
        hidden = film
        for index, size in enumerate((5, 3, 1)):
            hidden = ConvLSTM(64, (size, size), name=f"layer_{index}")(hidden)
        earlier = [
            jnp.pad(hidden, [(0, 0), (lag, 0), *[(0, 0)] * 3])[:, : film.shape[1]]
            for lag in (2, 1, 0)
        ]
        return nn.sigmoid(Conv(1, (3, 3), name="head")(jnp.concatenate(earlier, axis=-1)))


def measure(batch_size: int, repeats: int) -> dict[str, Any]:
    """Median seconds of a step, its FLOPs and its peak memory."""
    network, optimizer = KerasExample(), optax.adam(1e-3)
    film = jax.random.uniform(jax.random.key(0), (batch_size, 19, 64, 64, 1))
    params = jax.jit(network.init)(jax.random.key(1), film)
    state = (params, optimizer.init(params))

    def step(state: Any, film: jax.Array) -> Any:
        params, moments = state

        def loss(params: Any) -> jax.Array:
            predicted = network.apply(params, film).clip(1e-7, 1 - 1e-7)
            return -jnp.mean(film * jnp.log(predicted) + (1 - film) * jnp.log1p(-predicted))

        gradient = jax.grad(loss)(params)
        updates, moments = optimizer.update(gradient, moments)
        return optax.apply_updates(params, updates), moments

    began = time.perf_counter()
    traced = jax.jit(step, donate_argnums=0).trace(state, film)
    compiled = traced.lower().compile()
    compile_seconds = time.perf_counter() - began
    seconds = []
    for _ in range(repeats + 1):
        began = time.perf_counter()
        state = jax.block_until_ready(compiled(state, film))
        seconds.append(time.perf_counter() - began)
    median = statistics.median(seconds[1:])
    flops = count_flops(traced.jaxpr.jaxpr)
    return {
        "batch_size": batch_size,
        "step_seconds": round(median, 4),
        "flops_per_second": flops / median,
        "matrix_flops_per_second": matrix_rate(),
        "peak_memory": peak_memory(compiled),
        "compile_seconds": round(compile_seconds, 2),
        "device": describe_device(),
    }


def matrix_rate(size: int = 2048, repeats: int = 5) -> float:
    """FLOP/s of a square matrix product: what this machine can do at best."""
    matrix = jax.random.normal(jax.random.key(0), (size, size))
    product = jax.jit(jnp.matmul).lower(matrix, matrix).compile()
    seconds = []
    for _ in range(repeats + 1):
        began = time.perf_counter()
        jax.block_until_ready(product(matrix, matrix))
        seconds.append(time.perf_counter() - began)
    return 2 * size**3 / statistics.median(seconds[1:])


def main() -> None:
    """Prints a line, or JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch-size", type=int, default=1, help="films per step")
    parser.add_argument(
        "--repeats", type=int, default=5, help="timed steps; the median is reported"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    arguments = parser.parse_args()
    result = measure(arguments.batch_size, arguments.repeats)
    if arguments.json:
        print(json.dumps(result, indent=2))
        return
    print(result["device"])
    print(
        f"batch {result['batch_size']}: {result['step_seconds']:.2f} s a step, "
        f"{human(result['flops_per_second'], 'FLOP/s')} "
        f"({result['flops_per_second'] / result['matrix_flops_per_second']:.0%} of a matrix "
        f"product's), peak memory {human(result['peak_memory'], 'B')}, "
        f"compiled in {result['compile_seconds']} s"
    )


if __name__ == "__main__":
    main()
