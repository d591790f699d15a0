"""`kill -9` at random times."""

import argparse
import random
import re
import shutil
import signal
import time
from pathlib import Path
from typing import Any

from injection.processes import log_of, log_text, newest, records, same, train, wait_for


def kill(out: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Kill runs at random times, resume each until it ends, and compare it with an undisturbed run.

    A fifth of the kills come during the start of a process, the others within two seconds of its
    first step. A run saves every 5 of its 60 steps an epoch, and at the end of each epoch.
    """
    rng = random.Random(arguments.seed)
    flags = ("--epochs", arguments.epochs, "--steps-per-epoch", 60, "--checkpoint-every", 5)
    shutil.rmtree(out, ignore_errors=True)
    reference = out / "reference"
    assert train(reference, *flags).wait() == 0, log_of(reference).read_text()
    expected = records(reference), newest(reference)
    counts = {"kills": 0, "runs ended": 0, "cannot resume": 0, "differ": 0, "most steps lost": 0}
    starting = saving = number = 0
    run = out / "run-0"
    while counts["kills"] < arguments.kills or run.exists():
        logged = max((record["step"] for record in records(run)), default=0)
        process = train(run, *flags)
        if run.exists() and logged:
            # Steps lost are those logged before the kill and not in the checkpoint resumed from.
            wait_for(r"going on from step|error:|finished already", run, process)
            gone_on = re.search(r"(?:going on from|finished already, at) step (\d+)", log_text(run))
            lost = logged - int(gone_on[1]) if gone_on else logged
            counts["most steps lost"] = max(counts["most steps lost"], lost)
        early = rng.random() < 0.2
        if counts["kills"] < arguments.kills:
            begun = True if early else wait_for(r"compiled in|error:", run, process)
            time.sleep(rng.uniform(0, 4) if early else rng.uniform(0, 2))
            if begun and process.poll() is None:
                process.send_signal(signal.SIGKILL)
                process.wait()
                counts["kills"] += 1
                starting += early
                saving += any(run.glob("checkpoints/*orbax-checkpoint-tmp*"))
                continue
        if process.wait() != 0:
            counts["cannot resume"] += 1
            print(log_text(run)[-2000:], flush=True)
        else:
            counts["runs ended"] += 1
            if records(run) != expected[0] or not same(newest(run), expected[1]):
                counts["differ"] += 1
        number += 1
        run = out / f"run-{number}"
    aside = len(list(out.glob("run-*/checkpoints/*.damaged")))
    return {
        **counts,
        "while starting": starting,
        "with a save under way": saving,
        "steps set aside": aside,
    }
