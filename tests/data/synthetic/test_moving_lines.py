"""The clips of growing lines, and the class of each."""

import numpy as np
import pytest

from jaxconvlstm.config.data import DataConfig, Split
from jaxconvlstm.data.dataset import check_applies, for_other_data, open_dataset
from jaxconvlstm.data.loader import TrainLoader, evaluation_batches
from jaxconvlstm.data.synthetic.generated import clip_generator
from jaxconvlstm.data.synthetic.moving_lines import DIRECTIONS, moving_line
from jaxconvlstm.errors import ConfigError, DataError

LINES = DataConfig(dataset="moving-lines", input_frames=50)


def pixels(frame: np.ndarray) -> set[tuple[int, int]]:
    """Rows and columns of what is drawn."""
    return set(zip(*np.nonzero(frame[..., 0])))


def ways(count: int) -> dict[str, np.ndarray]:
    """For each direction the position across it, by length: `[clips, 50]`."""
    found: dict[str, list[list[int]]] = {name: [] for name in DIRECTIONS}
    for index in range(count):
        clip = moving_line(clip_generator(0, 0, 0, index), index % 4)
        rows, columns = np.nonzero(clip[-1, ..., 0])
        across, along = (rows, columns) if index % 4 < 2 else (columns, rows)
        found[DIRECTIONS[index % 4]].append(across[np.argsort(along)].tolist())
    return {name: np.array(lines) for name, lines in found.items()}


@pytest.mark.parametrize("direction", range(4))
@pytest.mark.parametrize("index", range(5))
def test_a_line_grows_a_pixel_a_frame_from_edge_to_edge(direction: int, index: int) -> None:
    clip = moving_line(clip_generator(1, 0, 0, index), direction)
    assert (clip.shape, clip.dtype) == ((50, 50, 50, 1), np.uint8)
    assert set(np.unique(clip)) == {0, 255}
    before: set[tuple[int, int]] = set()
    tip = None
    for time, frame in enumerate(clip):
        drawn = pixels(frame)
        assert before < drawn and len(drawn) == time + 1
        ((row, column),) = drawn - before
        expected = {
            "left-to-right": (row, time),
            "right-to-left": (row, 49 - time),
            "top-to-bottom": (time, column),
            "bottom-to-top": (49 - time, column),
        }[DIRECTIONS[direction]]
        assert (row, column) == expected
        # One further along, and at most one to the side.
        assert tip is None or max(abs(row - tip[0]), abs(column - tip[1])) == 1
        before, tip = drawn, (row, column)


def test_lines_start_anywhere_and_wander_evenly() -> None:
    for lines in ways(4000).values():
        assert lines.shape == (1000, 50)
        assert lines.min() == 0 and lines.max() == 49
        # Uniform: fifths of 1,000 starts have 200 each, with a standard deviation of 13.
        counts = np.histogram(lines[:, 0], 5, (0, 50))[0]
        assert counts.min() > 140 and counts.max() < 260
        turns = np.diff(lines, axis=1)
        free = ((lines > 0) & (lines < 49))[:, :-1]
        shares = [np.mean(turns[free] == turn) for turn in (-1, 0, 1)]
        np.testing.assert_allclose(shares, 1 / 3, atol=0.015)
        # At the border, what would leave stays: 0 with probability 2/3.
        assert np.mean(turns[lines[:, :-1] == 0] == 0) == pytest.approx(2 / 3, abs=0.06)
        # A turn says nothing of the next one.
        assert abs(np.corrcoef(turns[:, 10], turns[:, 11])[0, 1]) < 0.15


def test_windows_give_the_first_frames_and_the_class() -> None:
    dataset = open_dataset(LINES, seed=3)
    assert dataset.classes == DIRECTIONS
    assert dataset.split_record() is None
    windows = dataset.windows("val")
    for index in range(8):
        inputs, label = windows.read(0, index)
        assert (label.shape, label.dtype) == ((), np.int32)
        assert label == index % 4
        expected = moving_line(clip_generator(3, 1, 0, index), index % 4)
        np.testing.assert_array_equal(inputs, expected)
    assert windows.name(5) == "val clip 5"
    part, label = dataset.windows("val", 10, 7, dense_targets=True).read(
        0, 7, (slice(5, 30), slice(10, 30))
    )
    np.testing.assert_array_equal(part, expected[:10, 5:30, 10:30])
    assert label == 3


def test_classes_are_balanced_and_training_clips_new_in_each_epoch() -> None:
    dataset = open_dataset(LINES, seed=0)
    assert [len(dataset.windows(split)) for split in ("train", "val", "test")] == [2000, 200, 400]
    for split in ("train", "val"):
        windows = dataset.windows(split)
        first, again, later = (windows.read(epoch, 2) for epoch in (0, 0, 1))
        np.testing.assert_array_equal(first[0], again[0])
        assert np.array_equal(first[0], later[0]) == (split == "val")
        assert first[1] == later[1] == 2
    limited = open_dataset(DataConfig("moving-lines", limit=40, split=Split(0.5, 0, 0.5)), 0)
    labels = [int(limited.windows("all").read(0, index)[1]) for index in range(80)]
    assert np.bincount(labels).tolist() == [20] * 4
    assert limited.notes == ["generated clips of 50x50x1 uint8; windows: train 40, val 0, test 40"]


def test_batches_have_labels() -> None:
    windows = open_dataset(DataConfig("moving-lines", input_frames=5, limit=6), 0).windows("train")
    batches = list(evaluation_batches(windows, 4, threads=1))
    assert [batch.targets.tolist() for batch in batches] == [[0, 1, 2, 3], [0, 1, 1, 1]]
    assert [batch.weight.tolist() for batch in batches] == [[1] * 4, [1, 1, 0, 0]]
    assert batches[0].inputs.shape == (4, 5, 50, 50, 1)
    with TrainLoader(windows, 3, seed=1, threads=2) as loader:
        labels = np.concatenate([next(loader).targets for _ in range(2)])
    assert labels.dtype == np.int32
    assert sorted(labels.tolist()) == [0, 0, 1, 1, 2, 3]


def test_labels_index_into_the_classes_of_a_model() -> None:
    known = ("bottom-to-top", "left-to-right", "other", "right-to-left", "top-to-bottom")
    dataset = open_dataset(LINES, 0, classes=known)
    assert dataset.classes == known
    assert [int(dataset.windows("val").read(0, index)[1]) for index in range(4)] == [1, 3, 4, 0]
    with pytest.raises(DataError, match=r"left-to-right: no class that the model kno.* cats, d"):
        open_dataset(LINES, 0, classes=("cats", "dogs"))
    with pytest.raises(DataError, match="moving-squares: the model names classes"):
        open_dataset(DataConfig(), 0, classes=("cats", "dogs"))


def test_a_line_is_there_after_fifty_frames() -> None:
    for settings in ({"input_frames": 51}, {"input_frames": 18, "frame_step": 3}):
        dataset = open_dataset(DataConfig("moving-lines", **settings), 0)
        with pytest.raises(ConfigError, match=r"--input-frames \d+.*after 50 frames"):
            dataset.windows("train")
    windows = open_dataset(DataConfig("moving-lines", input_frames=17, frame_step=3), 0).windows(
        "val"
    )
    assert np.count_nonzero(windows.read(0, 0)[0], axis=(1, 2, 3)).tolist() == list(range(1, 50, 3))


@pytest.mark.parametrize(
    "settings",
    [
        *({"flip": "horizontal"}, {"rotate": True}, {"reverse": True}, {"crop": (20, 20)}),
        *({"channels": 3}, {"data": "x"}, {"threshold": 3.0}, {"labels": "folders"}),
        *({"size": (64, 64)}, {"stride": 2}, {"digits": 3}),
    ],
)
def test_settings_that_would_change_the_class_or_nothing(settings: dict) -> None:
    with pytest.raises(ConfigError, match=f"--{next(iter(settings))}"):
        open_dataset(DataConfig("moving-lines", **settings), 0)


def test_what_applies_elsewhere_is_left_out_for_lines() -> None:
    other = DataConfig("folder", data="x", labels="folders", threshold=3.0, value_range=None)
    check_applies(for_other_data(other, "moving-lines"))
    assert for_other_data(other, "video").labels == "folders"
