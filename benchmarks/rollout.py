"""Measure the sequences per second that implementations forecast, each frame fed back.

    python benchmarks/rollout.py                                 # OpenSTL's ConvLSTM-S, 10 to 10
    python benchmarks/rollout.py --batch-size 1 16 --peers ours torch-compile

OpenSTL publishes 113 sequences a second for this network on a V100.
"""

import argparse
import json
from pathlib import Path

from peers import WORKS
from step_time import DEFAULT_PEERS, FRESH_MEMORY, PEERS, race, table


def main() -> None:
    """Time the chosen implementations, and print a table for each batch size."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", choices=("openstl", "seq2one"), default="openstl")
    parser.add_argument("--peers", nargs="+", choices=PEERS, help="by default, what suits the work")
    parser.add_argument("--batch-size", type=int, nargs="+", help="sequences at once")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--rounds", type=int, default=7, help="turns of each implementation")
    parser.add_argument("--fresh-memory", action="store_true", help=FRESH_MEMORY)
    parser.add_argument("--json", type=Path, help="file to write all results to")
    arguments = parser.parse_args()
    results = []
    for batch in arguments.batch_size or [WORKS[arguments.work].batch]:
        peers = list(arguments.peers or DEFAULT_PEERS[arguments.work])
        result = race(
            peers,
            arguments.work,
            batch,
            arguments.dtype,
            arguments.rounds,
            forecast=True,
            fresh_memory=arguments.fresh_memory,
        )
        results.append(result)
        print(f"\n{table(result)}\n", flush=True)
        if arguments.json:
            arguments.json.write_text(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
