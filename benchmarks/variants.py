"""Time the variants of the loop over time on this device, all in one process.

    python benchmarks/variants.py openstl --batch-size 64 --dtype bfloat16
    python benchmarks/variants.py seq2one --variants default late-kernels --forecast

`jaxconvlstm/nn/variants.py` says what they are. They are compiled side by side, which takes as long
as the slowest of them on a machine with many cores, and then take steps in turn. Each line that is
printed is JSON, so that what was found is there even if time runs out; `gpu.py` makes tables of it.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import jax
from peers import WORKS, ours

from jaxconvlstm.nn import variants
from jaxconvlstm.training.cost import count, count_flops, peak_memory


def say(name: str, **facts: Any) -> None:
    """Print what was found of a variant, as a line of JSON."""
    print(json.dumps({"name": name, **facts}), flush=True)


def programs(
    work: str, names: list[str], batch: int, dtype: str, forecast: bool, threads: int
) -> dict[str, Callable[[int], Any]]:
    """Compile the variants, in `threads` threads; those that cannot be are said and left out."""
    waiting = {}
    runs: dict[str, Callable[[int], Any]] = {}
    with ThreadPoolExecutor(threads) as pool:
        for name in names:
            began = time.perf_counter()
            try:
                with variants.using(name):
                    module = ours.network(work, dtype)
                    traced, bind, parameters = ours.trace(module, WORKS[work], batch, forecast)
                    lowered = traced.lower()
            except Exception as error:
                say(name, error=f"{type(error).__name__}: {error}".splitlines()[0])
                continue
            jaxpr = traced.jaxpr.jaxpr
            facts = {
                "parameters": parameters,
                "flops": count_flops(jaxpr),
                "bytes": count(jaxpr, ours.bytes_of),
                "traced": round(time.perf_counter() - began, 2),
            }
            waiting[pool.submit(lowered.compile)] = name, bind, facts
        for done in as_completed(waiting):
            name, bind, facts = waiting[done]
            try:
                compiled = done.result()
                runs[name] = bind(compiled)
                say(name, peak_memory=peak_memory(compiled), **facts)
            except Exception as error:
                say(name, error=f"{type(error).__name__}: {error}".splitlines()[0])
    # As compiled, the order is chance's.
    return {name: runs[name] for name in names if name in runs}


def main() -> None:
    """Compile, take three steps each, and then steps in turn."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("work", choices=WORKS)
    parser.add_argument("--variants", nargs="+", choices=variants.VARIANTS, metavar="NAME")
    parser.add_argument("--batch-size", type=int, help="clips a step")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--forecast", action="store_true", help="forecasts, in place of steps")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each variant")
    parser.add_argument("--steps", type=int, default=10, help="steps in a turn")
    parser.add_argument("--threads", type=int, default=4, help="of the compilation")
    arguments = parser.parse_args()
    names = list(arguments.variants or variants.VARIANTS)
    batch = arguments.batch_size or WORKS[arguments.work].batch
    settings = batch, arguments.dtype, arguments.forecast, arguments.threads
    runs = programs(arguments.work, names, *settings)
    say("", device=jax.devices()[0].device_kind, jax=jax.__version__, rounds=arguments.rounds)
    for name, run in list(runs.items()):
        try:
            result = run(3)  # some heads begin at zero, and pass nothing on before they change
        except Exception as error:  # too little memory, for instance
            say(name, error=f"{type(error).__name__}: {error}".splitlines()[0])
            del runs[name]
            continue
        if not arguments.forecast:
            # From the same weights and clips: how near a variant is to the others.
            say(name, **{key: float(result[key]) for key in ("loss", "gradient_norm")})
    for _ in range(arguments.rounds):
        for name, run in runs.items():
            began = time.perf_counter()
            run(arguments.steps)
            say(name, seconds=(time.perf_counter() - began) / arguments.steps)


if __name__ == "__main__":
    main()
