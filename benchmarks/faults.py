"""Inject faults into runs, and count the losses.

python benchmarks/faults.py --out FAULTS              # all experiments, about an hour, two cores
python benchmarks/faults.py --out FAULTS --only kill --kills 10

Prints the counts that `docs/reliability.md` reports, and writes them to `faults.json`. The
experiments with a disk of their own mount a small file system, which needs root.
"""

import argparse
import json
import os
import platform
from pathlib import Path
from typing import Any

import jax
from injection.damage import damage, identities, json_damage
from injection.kills import kill
from injection.races import races
from injection.saves import disk, failed_saves
from injection.stop_signals import signals, terminate

EXPERIMENTS = {
    "kill": kill,
    "damage": damage,
    "json": json_damage,
    "identities": identities,
    "signals": signals,
    "terminate": terminate,
    "disk": disk,
    "saves": failed_saves,
    "races": races,
}


def main() -> None:
    """Run the chosen experiments, print their counts, and save them after each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--kills", type=int, default=100, help="number of kill -9")
    parser.add_argument("--epochs", type=int, default=10, help="epochs of a run that is killed")
    parser.add_argument("--fills", type=int, default=10, help="fill levels of the disk")
    parser.add_argument("--repeats", type=int, default=3, help="signals of each kind in a phase")
    parser.add_argument("--terminations", type=int, default=104, help="SIGTERM at random moments")
    parser.add_argument("--saves", type=int, default=3, help="failed saves of each kind")
    parser.add_argument("--races", type=int, default=50, help="verifications of a run that trains")
    parser.add_argument("--texts", type=int, help="text files to damage (default: all)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="*", choices=EXPERIMENTS, default=list(EXPERIMENTS))
    arguments = parser.parse_args()
    arguments.out = arguments.out.resolve()
    arguments.out.mkdir(parents=True, exist_ok=True)
    results: dict[str, Any] = {
        "machine": f"{os.cpu_count()} cores, Python {platform.python_version()}, "
        f"JAX {jax.__version__}, {jax.devices()[0].device_kind}"
    }
    print(results["machine"], flush=True)
    for name in arguments.only:
        results[name] = EXPERIMENTS[name](arguments.out / name, arguments)
        print(json.dumps({name: results[name]}, indent=1), flush=True)
        (arguments.out / "faults.json").write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
