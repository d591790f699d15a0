"""The loader: what it yields depends on seed, epoch and index, and on nothing else."""

import ast
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import jaxconvlstm.data
from jaxconvlstm.data.batch import Batch
from jaxconvlstm.data.loader import TrainLoader, evaluation_batches
from jaxconvlstm.errors import DataError


class NumberedWindows:
    """Windows whose pixels say which epoch, window, frame, row and column they are from."""

    def __init__(self, count: int, bad: int | None = None):
        self.count, self.bad = count, bad

    def __len__(self) -> int:
        return self.count

    def read(self, epoch: int, index: int) -> tuple[np.ndarray, np.ndarray]:
        if index == self.bad:
            raise OSError("the disk\nis gone")
        film = np.indices((5, 6, 8, 1))[:3].transpose(1, 2, 3, 4, 0)[..., 0, :]
        numbers = np.broadcast_to([epoch, index], (*film.shape[:3], 2))
        film = np.concatenate([numbers, film], axis=-1).astype(np.int32)
        return film[:3], film[3:]

    def name(self, index: int) -> str:
        return f"film {index}"


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
    options = {"seed": seed, "crop": (4, 5), "flip": "both"}
    expected = take(11, threads=1, **options)
    assert_same(take(11, threads=2, **options), expected)
    assert_same(take(11, threads=7, **options), expected)
    for start in (1, 3, 7):
        assert_same(take(11 - start, threads=2, start=start, **options), expected[start:])


def test_seeds_differ() -> None:
    assert not np.array_equal(take(1, seed=1)[0].inputs, take(1, seed=2)[0].inputs)
    assert not np.array_equal(take(1, seed=1)[0].inputs, take(1, seed=2**32 + 1)[0].inputs)


def test_position() -> None:
    with TrainLoader(NumberedWindows(10), 3, 1, threads=2, start=5) as loader:
        assert (loader.position, loader.batches_per_epoch) == (5, 3)
        next(loader)
        assert loader.position == 6
        loader.close()


def test_crop_and_flip_are_the_same_in_all_frames_of_a_window() -> None:
    seen = set()
    for batch in take(60, crop=(4, 5), flip="both"):
        assert batch.inputs.shape[2:4] == (4, 5)
        for inputs, targets in zip(batch.inputs, batch.targets, strict=True):
            film = np.concatenate([inputs, targets])
            np.testing.assert_array_equal(film[:, 0, 0, 2], np.arange(5))
            rows, columns = film[..., 3], film[..., 4]
            assert (rows == rows[:1, :, :1]).all() and (columns == columns[:1, :1]).all()
            steps = {*np.diff(rows[0, :, 0])}, {*np.diff(columns[0, 0])}
            assert steps[0] in ({1}, {-1}) and steps[1] in ({1}, {-1})
            seen.add((rows.min(), columns.min(), *steps[0], *steps[1]))
    # 3 rows and 4 columns to start from, and four ways to be turned.
    assert len(seen) == 3 * 4 * 4


@pytest.mark.parametrize(
    ("flip", "flipped"), [("none", set()), ("horizontal", {4}), ("vertical", {3})]
)
def test_flips(flip: str, flipped: set[int]) -> None:
    found = set()
    for batch in take(20, flip=flip):
        assert batch.inputs.shape[2:4] == (6, 8)
        for inputs in batch.inputs:
            found |= {axis for axis in (3, 4) if inputs[0, 0, 0, axis] > 0}
    assert found == flipped


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
    assert str(caught.value) == "film 4: the disk is gone"
    with pytest.raises(DataError, match="film 4"):
        list(evaluation_batches(windows, 4, threads=threads))


def test_too_large_a_batch_or_crop_names_both_numbers() -> None:
    with pytest.raises(DataError, match="--batch-size 11 is more than the 10 training windows"):
        take(1, batch_size=11)
    with pytest.raises(DataError, match="--crop 7 8 is larger than the frames, 6x8"):
        take(1, crop=(7, 8))


def test_no_file_of_the_data_package_imports_jax() -> None:
    # Grain does, for its own trees; what reads data must not need an accelerator's library.
    for path in Path(jaxconvlstm.data.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not {name.partition(".")[0] for name in names} & {"jax", "flax"}, path
