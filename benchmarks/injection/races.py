"""Several processes on one run: readers beside a writer, and two that would train at once."""

import argparse
import random
import re
import shutil
import time
from pathlib import Path
from typing import Any

from injection.processes import (
    ROOT,
    begin,
    log_of,
    log_text,
    newest,
    records,
    same,
    train,
    wait_for,
)
from jaxconvlstm.errors import JaxConvLSTMError
from jaxconvlstm.evaluation.load import load


def races(out: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Read a run while it saves and removes steps; then start runs in one folder at once."""
    shutil.rmtree(out, ignore_errors=True)
    return {
        "readers": readers(out / "read", arguments.races),
        "writers": writers(out / "written", -(-arguments.races // 4), arguments.seed),
    }


def readers(run: Path, times: int) -> dict[str, Any]:
    """Call `load` and `verify` while a run saves at every step, and keeps but a few."""
    counts = dict.fromkeys(("loads", "loads failed", "verifications", "verifications failed"), 0)
    process = train(run, "--epochs", 10_000, "--steps-per-epoch", 3, "--checkpoint-every", 1)
    wait_for(r"epoch 2/", run, process)
    verification = run.with_name("verify")
    while counts["verifications"] < times:
        verify = begin(log_of(verification), "-m", "jaxconvlstm", "verify", run)
        while verify.poll() is None:
            counts["loads"] += 1
            try:
                load(run, "last")
            except JaxConvLSTMError as error:
                counts["loads failed"] += 1
                print(error, flush=True)
        counts["verifications"] += 1
        if verify.returncode != 0:
            counts["verifications failed"] += 1
            print(log_text(verification)[-1500:], flush=True)
        assert process.poll() is None, log_text(run)
    process.terminate()
    process.wait()
    return counts


def writers(out: Path, pairs: int, seed: int) -> dict[str, Any]:
    """Start two processes on one run at a random distance, and go on until it has ended.

    Each must end with 0 (it trained, or found the run finished) or with 4 (the other trains), and
    the run must end like one that nothing else touched.
    """
    rng = random.Random(seed)
    flags = ("--epochs", 2, "--steps-per-epoch", 20, "--checkpoint-every", 5)
    began = time.monotonic()
    reference = out / "reference"
    assert train(reference, *flags).wait() == 0, log_text(reference)
    length = time.monotonic() - began
    expected = records(reference), newest(reference)
    counts = {"pairs": pairs, "refused": 0, "wrong exit code": 0, "differ": 0}
    for pair in range(pairs):
        run = out / f"run-{pair}"
        first = train(run, *flags)
        time.sleep(rng.uniform(0, length))
        second = begin(log_of(out / "second"), *first.args[2:], cwd=ROOT)  # type: ignore[index]
        codes = [process.wait() for process in (first, second)]
        counts["refused"] += codes.count(4)
        if not set(codes) <= {0, 4} or 0 not in codes:
            counts["wrong exit code"] += 1
            print(codes, log_text(run)[-800:], log_text(out / "second")[-800:], flush=True)
        if records(run) != expected[0] or not same(newest(run), expected[1]):
            counts["differ"] += 1
            print(re.findall("error.*", log_text(run)), flush=True)
        shutil.rmtree(run)
    return counts
