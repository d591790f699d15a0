"""The loader: what it yields depends on seed, epoch and index, and on nothing else."""

import contextlib
import gc
import itertools
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from opened import augmented_by

from jaxconvlstm.batch import Batch
from jaxconvlstm.data.loader import TrainLoader, evaluation_batches
from jaxconvlstm.data.prefetch import ReadAhead
from jaxconvlstm.data.sources.base import Region
from jaxconvlstm.errors import DataError, StuckReaderError


class NumberedWindows:
    """Windows whose pixels say which epoch, window, frame, row and column they are from."""

    frame_shape, dense_targets = (6, 8, 5), False

    def __init__(self, count: int, bad: int | None = None, slow: int | None = None):
        self.count, self.bad, self.slow = count, bad, slow
        self.released = threading.Event()
        self.regions: list[Region | None] = []

    def __len__(self) -> int:
        return self.count

    def read(
        self, epoch: int, index: int, region: Region | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        if index == self.bad:
            raise OSError("the disk\nis gone")
        if index == self.slow:
            self.released.wait()
        self.regions.append(region)
        clip = np.indices((5, 6, 8, 1))[:3].transpose(1, 2, 3, 4, 0)[..., 0, :]
        numbers = np.broadcast_to([epoch, index], (*clip.shape[:3], 2))
        clip = np.concatenate([numbers, clip], axis=-1).astype(np.int32)
        if region is not None:
            clip = clip[:, region[0], region[1]]
        return clip[:3], clip[3:]

    def name(self, index: int) -> str:
        return f"clip {index}"


def take(count: int, *, windows: Any = None, **options: Any) -> list[Batch]:
    options = {"batch_size": 3, "seed": 1, "threads": 1, **options}
    with TrainLoader(windows or NumberedWindows(10), **options) as loader:
        return list(itertools.islice(loader, count))


def assert_same(first: list[Batch], second: list[Batch]) -> None:
    assert len(first) == len(second)
    for one, other in zip(first, second, strict=True):
        for array, expected in zip(one, other, strict=True):
            np.testing.assert_array_equal(array, expected)


def test_an_epoch_has_each_window_once_and_the_next_another_order() -> None:
    batches = take(9)
    orders = []
    for epoch in range(3):
        part = np.concatenate([batch.inputs[:, 0, 0, 0] for batch in batches[3 * epoch :][:3]])
        assert set(part[:, 0]) == {epoch}
        assert len(set(part[:, 1])) == 9
        orders.append(tuple(part[:, 1]))
    assert len(set(orders)) == 3


def test_shapes_and_weight() -> None:
    (batch,) = take(1)
    assert batch.inputs.shape == (3, 3, 6, 8, 5)
    assert batch.targets.shape == (3, 2, 6, 8, 5)
    assert batch.weight.shape == (3, 1, 1, 1, 1)
    assert batch.weight.dtype == np.float32 and batch.weight.all()
    assert batch.inputs.dtype == np.int32


@pytest.mark.parametrize("seed", [0, 2**31, 2**32 + 5, 2**80])
def test_threads_and_restarts_change_nothing(seed: int) -> None:
    changes = augmented_by(crop=(4, 4), flip="both", rotate=True, reverse=True)
    options = {"seed": seed, "augmentation": changes}
    expected = take(11, threads=1, **options)
    assert_same(take(11, threads=2, **options), expected)
    assert_same(take(11, threads=7, **options), expected)
    for start in (1, 3, 7):
        assert_same(take(11 - start, threads=2, start=start, **options), expected[start:])


def test_seeds_differ() -> None:
    assert not np.array_equal(take(1, seed=1)[0].inputs, take(1, seed=2)[0].inputs)
    assert not np.array_equal(take(1, seed=1)[0].inputs, take(1, seed=2**32 + 1)[0].inputs)


@pytest.mark.parametrize("crop_by", ["uniform", "signal"])
def test_changes_are_the_same_in_all_frames_of_a_window(crop_by: Any) -> None:
    seen = set()
    changes = augmented_by(crop=(4, 5), crop_by=crop_by, flip="both")
    for batch in take(200, augmentation=changes):
        assert batch.inputs.shape[2:4] == (4, 5)
        for inputs, targets in zip(batch.inputs, batch.targets, strict=True):
            clip = np.concatenate([inputs, targets])
            np.testing.assert_array_equal(clip[:, 0, 0, 2], np.arange(5))
            rows, columns = clip[..., 3], clip[..., 4]
            assert (rows == rows[:1, :, :1]).all() and (columns == columns[:1, :1]).all()
            steps = {*np.diff(rows[0, :, 0])}, {*np.diff(columns[0, 0])}
            assert steps[0] in ({1}, {-1}) and steps[1] in ({1}, {-1})
            seen.add((rows.min(), columns.min(), *steps[0], *steps[1]))
    # 3 rows and 4 columns to start from, and four ways to be turned.
    assert len(seen) == 3 * 4 * 4


def test_only_the_region_of_a_crop_is_read() -> None:
    windows = NumberedWindows(10)
    take(3, windows=windows, augmentation=augmented_by(crop=(4, 5), reverse=True))
    sizes = {(r.stop - r.start, c.stop - c.start) for r, c in filter(None, windows.regions)}
    assert sizes == {(4, 5)} and None not in windows.regions
    # Where the crop depends on what is in the frames, they are read whole.
    windows = NumberedWindows(10)
    take(3, windows=windows, augmentation=augmented_by(crop=(4, 5), crop_by="signal"))
    assert set(windows.regions) == {None}


class LabelledWindows(NumberedWindows):
    """Windows whose class is their number."""

    def read(self, epoch: int, index: int, region: Region | None = None) -> Any:
        inputs, _ = super().read(epoch, index, region)
        return inputs, np.array(index, np.int32)


@pytest.mark.parametrize("crop_by", ["uniform", "signal"])
def test_a_class_stays_what_it_is(crop_by: Any) -> None:
    changes = augmented_by(crop=(4, 4), crop_by=crop_by, flip="both", rotate=True, reverse=True)
    orders = set()
    for batch in take(30, windows=LabelledWindows(10), augmentation=changes):
        assert batch.inputs.shape == (3, 3, 4, 4, 5)
        assert (batch.targets.shape, batch.targets.dtype) == ((3,), np.int32)
        np.testing.assert_array_equal(batch.inputs[:, 0, 0, 0, 1], batch.targets)
        assert (batch.weight.shape, batch.weight.dtype) == ((3,), np.float32)
        orders |= {tuple(clip[:, 0, 0, 2].tolist()) for clip in batch.inputs}
    # The input frames alone, forwards and backwards.
    assert orders == {(0, 1, 2), (2, 1, 0)}
    batches = list(evaluation_batches(LabelledWindows(5), 3, threads=1))
    assert [batch.targets.tolist() for batch in batches] == [[0, 1, 2], [3, 4, 4]]
    assert batches[1].weight.tolist() == [1, 1, 0]


class EveryWindows(NumberedWindows):
    """Windows whose targets are all frames after the first."""

    dense_targets = True

    def read(self, epoch: int, index: int, region: Region | None = None) -> Any:
        clip = np.concatenate(super().read(epoch, index, region))
        return clip[:3], clip[1:]


def test_targets_that_are_inputs_too_are_changed_with_them() -> None:
    changes = augmented_by(crop=(4, 5), flip="both", reverse=True)
    orders = set()
    for batch in take(30, windows=EveryWindows(10), augmentation=changes):
        np.testing.assert_array_equal(batch.inputs[:, 1:], batch.targets[:, :2])
        for inputs, targets in zip(batch.inputs, batch.targets, strict=True):
            clip = np.concatenate([inputs[:1], targets])
            orders.add(tuple(clip[:, 0, 0, 2].tolist()))
            assert (clip[..., 3:] == clip[:1, ..., 3:]).all()
    assert orders == {(0, 1, 2, 3, 4), (4, 3, 2, 1, 0)}


def test_evaluation_is_in_order_and_padded_without_weight() -> None:
    batches = list(evaluation_batches(NumberedWindows(7), 3, threads=2))
    assert [batch.inputs[:, 0, 0, 0, 1].tolist() for batch in batches] == [
        [0, 1, 2],
        [3, 4, 5],
        [6] * 3,
    ]
    assert batches[0].weight.ravel().tolist() == [1, 1, 1]
    assert batches[2].weight.ravel().tolist() == [1, 0, 0]
    assert batches[2].weight.shape == (3, 1, 1, 1, 1)
    assert [len(b.inputs) for b in evaluation_batches(NumberedWindows(2), 8, threads=1)] == [2]
    assert list(evaluation_batches(NumberedWindows(0), 8, threads=1)) == []


@pytest.mark.parametrize("threads", [1, 3])
def test_an_error_in_a_thread_names_the_sample(threads: int) -> None:
    windows = NumberedWindows(10, bad=4)
    with pytest.raises(DataError) as caught:
        take(9, windows=windows, threads=threads)
    assert str(caught.value) == "clip 4: the disk is gone"
    with pytest.raises(DataError, match="clip 4"):
        list(evaluation_batches(windows, 4, threads=threads))


def test_too_large_a_batch_or_crop_names_both_numbers() -> None:
    with pytest.raises(DataError, match="--batch-size 11 is more than the 10 training windows"):
        take(1, batch_size=11)
    with pytest.raises(DataError, match="--crop 7 8 is larger than the frames, 6x8"):
        take(1, augmentation=augmented_by(crop=(7, 8)))


def test_running_out_of_memory_is_not_blamed_on_the_data() -> None:
    class Huge(NumberedWindows):
        def read(self, *_: Any) -> Any:
            raise MemoryError("no room")

    with pytest.raises(MemoryError, match="no room"):
        take(1, windows=Huge(10))


@pytest.mark.parametrize("threads", [1, 3])
def test_a_reader_that_hangs_is_named(threads: int) -> None:
    windows = NumberedWindows(10, slow=4)
    began = time.monotonic()
    with pytest.raises(StuckReaderError, match=r"clip 4: not read after 0\.3 seconds"):
        take(9, windows=windows, threads=threads, timeout=0.3)
    with pytest.raises(StuckReaderError, match="clip 4"):
        list(evaluation_batches(windows, 4, threads=threads, timeout=0.3))
    assert time.monotonic() - began < 4
    windows.released.set()


def test_a_slow_reader_that_gets_on_is_not_stuck() -> None:
    class Slow(NumberedWindows):
        def read(self, epoch: int, index: int, region: Region | None = None) -> Any:
            time.sleep(0.1)
            return super().read(epoch, index, region)

    # Each batch takes longer than the limit for one window.
    assert len(take(2, windows=Slow(8), batch_size=4, timeout=0.3)) == 2


def test_what_the_check_raises_ends_the_wait() -> None:
    windows = NumberedWindows(3, slow=1)
    began = time.monotonic()

    def check() -> None:
        if time.monotonic() - began > 0.3:
            raise InterruptedError("asked to stop")

    with pytest.raises(InterruptedError):
        take(1, windows=windows, check=check)
    assert time.monotonic() - began < 3
    windows.released.set()


def test_an_interrupt_ends_the_wait() -> None:
    # Where tests run in the background, SIGINT is ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    windows = NumberedWindows(3, slow=1)
    timer = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    began = time.monotonic()
    try:
        with pytest.raises(KeyboardInterrupt):
            take(1, windows=windows)
    finally:
        signal.signal(signal.SIGINT, before)
    assert time.monotonic() - began < 3
    windows.released.set()


def test_closing_waits_for_nobody_and_ends_the_threads() -> None:
    before = threading.active_count()
    windows = NumberedWindows(1000)
    loader = TrainLoader(windows, 10, 1, threads=3)
    next(loader)
    loader.close()
    loader.close()
    with pytest.raises(StopIteration):
        next(loader)
    TrainLoader(windows, 10, 1, threads=3).close()
    deadline = time.monotonic() + 5
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threading.active_count() <= before


PROGRAM = """
import sys, time
from jaxconvlstm.tools import cli, start
from jaxconvlstm.data.loader import TrainLoader
import numpy as np

class Windows:
    frame_shape, dense_targets = (4, 4, 1), False
    def __len__(self):
        return 2
    def read(self, epoch, index, region=None):
        if (epoch, index) == (3, 0):
            print("waiting", flush=True)
            time.sleep(1000)
        return np.zeros((1, 4, 4, 1)), np.zeros((1, 4, 4, 1))
    def name(self, index):
        return f"clip {index}"

def main(arguments):
    with TrainLoader(Windows(), 1, 0, threads=2, timeout=float(arguments[0])) as loader:
        for batch in loader:
            pass

start.process(lambda: cli.run(main, sys.argv[1:]))
"""


@contextlib.contextmanager
def waiting_program(timeout: float) -> Iterator[subprocess.Popen[str]]:
    """A program whose loader has begun to wait for a reader that hangs."""
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(timeout)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as program:
        try:
            assert program.stdout is not None and program.stdout.readline() == "waiting\n"
            yield program
        finally:
            program.kill()


def test_a_program_ends_although_a_reader_hangs() -> None:
    with waiting_program(timeout=0.5) as program:
        _, complaint = program.communicate(timeout=6)
    assert program.returncode == 3
    assert complaint.startswith("error: clip ") and complaint.count("\n") == 1


def test_a_program_that_waits_can_be_interrupted_and_leaves_no_child() -> None:
    with waiting_program(timeout=100) as program:
        children = Path(f"/proc/{program.pid}/task/{program.pid}/children")
        if children.exists():
            assert children.read_text() == ""
        program.send_signal(signal.SIGINT)
        _, complaint = program.communicate(timeout=6)
    assert (program.returncode, complaint) == (130, "error: interrupted\n")


def test_what_threads_held_is_let_go_by_the_caller() -> None:
    """As the libraries of files need, which are not safe from two threads."""
    let_go = []

    class File:
        def __del__(self) -> None:
            let_go.append(threading.current_thread())

    def reader_of(file: File) -> ReadAhead[int]:
        def read(reader: ReadAhead[int], number: int) -> int:
            time.sleep(0.02)
            return number if file else 0

        return ReadAhead(read, range(1, 100), threads=3, timeout=5)

    for taken in (1, 2, 3) * 5:
        reader = reader_of(File())
        assert [next(reader) for _ in range(taken)] == list(range(1, taken + 1))
        reader.close()
        del reader
    gc.collect()
    assert let_go == [threading.current_thread()] * 15
