"""Run one implementation in a process of its own, and take steps on request.

`step_time.py` starts this script. It prints a line of JSON once it is ready. Then it reads a number
of steps from each line of its standard input, takes them, and prints their seconds. So several
implementations can be timed in turn, while those that wait use no processor. Each keeps the memory
that it frees, as `train.py` does, unless `--fresh-memory` is given.
"""

import argparse
import importlib
import json
import os
import sys
import time
import traceback
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from jaxconvlstm.memory import keep_freed_memory

MODULES = {"ours": "ours", "flax": "flax_cell", "keras": "keras_layers", "torch": "torch_layers"}


def main() -> None:
    """Build the implementation, take a first step, and answer requests until the input ends."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("peer", help="ours, flax, keras-tensorflow, torch-compile, ..., matrix")
    parser.add_argument("work")
    parser.add_argument("--batch-size", type=int, required=True)
    parser.add_argument("--dtype", required=True)
    parser.add_argument("--forecast", action="store_true")
    parser.add_argument("--fresh-memory", action="store_true")
    arguments = parser.parse_args()
    # Libraries print to the standard output, too: from here on that goes to the standard error.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def answer(**facts: object) -> None:
        print(json.dumps(facts), file=answers, flush=True)

    if not arguments.fresh_memory:
        keep_freed_memory()
    name, _, mode = arguments.peer.partition("-")
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    if name == "keras":
        os.environ["KERAS_BACKEND"] = mode
    try:
        began = time.perf_counter()
        if name == "matrix":
            from peers import ours

            peer = ours.matrix_product(arguments.dtype, 2048)
        else:
            module = importlib.import_module(f"peers.{MODULES[name]}")
            mode = mode or module.MODES[0]
            size, dtype, forecast = arguments.batch_size, arguments.dtype, arguments.forecast
            peer = module.build(arguments.work, mode, size, dtype, forecast)
        peer.run(1)
        seconds = time.perf_counter() - began
    except Exception as error:
        traceback.print_exc()
        answer(error=f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}")
        return
    answer(parameters=peer.parameters, until_first=round(seconds, 2), **peer.facts)
    for line in sys.stdin:
        began = time.perf_counter()
        peer.run(int(line))
        answer(seconds=time.perf_counter() - began)


if __name__ == "__main__":
    main()
