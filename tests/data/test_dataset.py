"""Windows, parts and scales of real data, whatever source they come from."""

import dataclasses
import json

import numpy as np
import pytest

from jaxconvlstm.config.data import DataConfig, Split
from jaxconvlstm.data.dataset import check_applies, for_other_data, open_dataset
from jaxconvlstm.data.frames_dataset import FramesDataset
from jaxconvlstm.data.last_frames import LastFrames
from jaxconvlstm.data.sources.base import Frames, stack
from jaxconvlstm.errors import ConfigError, DataError

CONFIG = DataConfig(dataset="array", data="memory", input_frames=3, target_frames=2)


class MemoryFrames(Frames):
    """Sequences in memory; the value of a frame says which it is: 100 * sequence + frame."""

    def __init__(self, lengths, dtype="float32", channels=1, gaps=None, bad=None, parts=None):
        super().__init__()
        self.names = [f"sequence{index}" for index in range(len(lengths))]
        self.lengths = lengths
        self.frame_shape = (4, 6, channels)
        self.dtype = np.dtype(dtype)
        self.gaps, self.bad, self.splits = gaps or {}, bad or {}, parts

    def read(self, sequence, frames, region=None):
        one = np.ones(self.frame_shape, self.dtype)
        return stack((one * (100 * sequence + frame) for frame in frames), region)


def dataset(frames, **settings) -> FramesDataset:
    return FramesDataset(dataclasses.replace(CONFIG, **settings), frames)


def numbers(windows) -> list[list[float]]:
    """The frames of each window, by the value of their first pixel."""
    clips = (np.concatenate(windows.read(0, index)) for index in range(len(windows)))
    return [clip[:, 0, 0, 0].tolist() for clip in clips]


def used(windows) -> set[float]:
    return {number for window in numbers(windows) for number in window}


def test_horizon_and_frame_step_say_which_frames_a_window_has() -> None:
    windows = dataset(MemoryFrames([60]), horizon=4, frame_step=2).windows("all")
    inputs, targets = windows.read(0, 1)
    assert inputs[:, 0, 0, 0].tolist() == [1, 3, 5]
    assert targets[:, 0, 0, 0].tolist() == [13, 15]
    assert windows.name(1) == "sequence0 frames 1-15"
    assert len(windows) == 60 - 14


def test_targets_may_be_all_frames_after_the_first() -> None:
    data = dataset(MemoryFrames([60]), frame_step=2)
    windows = data.windows("all", dense_targets=True)
    inputs, targets = windows.read(0, 1)
    assert inputs[:, 0, 0, 0].tolist() == [1, 3, 5]
    assert targets[:, 0, 0, 0].tolist() == [3, 5, 7, 9]
    assert len(windows) == len(data.windows("all"))
    assert [windows.dense_targets, data.windows("all").dense_targets] == [True, False]
    inputs, targets = data.windows("all", 1, 1, dense_targets=True).read(0, 0)
    assert [inputs[:, 0, 0, 0].tolist(), targets[:, 0, 0, 0].tolist()] == [[0], [2]]


def test_a_region_is_all_that_is_read() -> None:
    windows = dataset(MemoryFrames([30])).windows("train")
    inputs, targets = windows.read(0, 0, (slice(1, 3), slice(0, 5)))
    assert inputs.shape == (3, 2, 5, 1)
    assert targets.shape == (2, 2, 5, 1)


def test_no_window_crosses_a_gap_or_touches_a_bad_frame() -> None:
    frames = MemoryFrames([30], gaps={0: [10]}, bad={0: {20: "damaged"}})
    data = dataset(frames, split=Split(1, 0, 0))
    windows = data.windows("all")
    # Windows of 5: 26 in 30 frames; 4 would cross the gap, 5 would hold frame 20.
    assert len(windows) == 26 - 4 - 5
    assert "windows left out, across a gap or with a bad frame: 9 of 26" in data.notes
    for window in numbers(windows):
        assert 20 not in window
        assert not {9, 10} <= set(window)


def test_parts_by_folder_keep_to_their_folders() -> None:
    parts = ["train", "train", "val", "test"]
    data = dataset(MemoryFrames([10] * 4, parts=parts))
    assert used(data.windows("train")) == {*range(10), *range(100, 110)}
    assert used(data.windows("val")) == set(range(200, 210))
    assert used(data.windows("test")) == set(range(300, 310))


def test_a_part_without_a_folder_is_divided_from_training() -> None:
    data = dataset(MemoryFrames([40, 40, 10], parts=["train", "train", "test"]))
    assert used(data.windows("test")) == set(range(200, 210))
    val = used(data.windows("val"))
    assert val and max(val) < 200
    assert not val & used(data.windows("train"))
    with pytest.raises(DataError, match="val split has no windows"):
        dataset(
            MemoryFrames([40, 40, 10], parts=["train", "train", "test"]), split=Split(0.9, 0, 0.1)
        ).windows("val")


def test_a_recorded_split_stays_where_it_was() -> None:
    before = dataset(MemoryFrames([60]))
    record = json.loads(json.dumps(before.split_record()))
    # Frames that came later belong to no part, and move none.
    after = FramesDataset(CONFIG, MemoryFrames([90]), record)
    for part in ("train", "val", "test"):
        assert numbers(after.windows(part)) == numbers(before.windows(part))
    with pytest.raises(DataError, match="had at least 44 frames, now 30"):
        FramesDataset(CONFIG, MemoryFrames([30]), record).windows("train")
    record["train"][0]["last"] = "another.png"
    with pytest.raises(DataError, match=r"was another.png, now it is \d+"):
        FramesDataset(CONFIG, MemoryFrames([60]), record).windows("train")


@pytest.mark.parametrize(
    "values, message",
    [
        ({"train": ["sequence9"]}, "no sequence 'sequence9'"),
        ({"train": ["sequence0"], "test": [{"sequence": "sequence0", "start": 5}]}, "in both"),
        ({"training": []}, "unknown key training"),
        ({"train": [{"sequence": "sequence0", "start": 9, "stop": 3}]}, "are no segment"),
        ({"train": [7]}, "expected a sequence's name"),
        ({"format_version": 9}, "format version 9"),
    ],
)
def test_what_a_split_file_must_not_say(tmp_path, values, message) -> None:
    path = tmp_path / "split.json"
    path.write_text(json.dumps(values))
    with pytest.raises(DataError, match=message) as failure:
        dataset(MemoryFrames([30, 30]), split_file=str(path)).windows("train")
    assert str(path) in str(failure.value)


def test_a_split_file_may_name_whole_sequences(tmp_path) -> None:
    path = tmp_path / "split.json"
    segment = {"sequence": "sequence2", "start": 10, "stop": 20}
    path.write_text(json.dumps({"train": ["sequence0", "sequence1"], "test": [segment]}))
    data = dataset(MemoryFrames([30, 30, 30]), split_file=str(path))
    assert used(data.windows("train")) == {*range(30), *range(100, 130)}
    assert used(data.windows("test")) == set(range(210, 220))


@pytest.mark.parametrize("normalize", ["range", "min-max", "mean-std"])
@pytest.mark.parametrize("transform", ["none", "log"])
def test_the_scale_follows_from_the_training_part_alone(normalize, transform) -> None:
    data = dataset(MemoryFrames([50], channels=2), normalize=normalize, transform=transform)
    training = np.array(sorted(used(data.windows("train"))))
    assert training.max() < 49
    assert (data.values.low, data.values.high) == (training.min(), training.max())
    shares = (
        np.log1p(training) / np.log1p(training.max())
        if transform == "log"
        else (training / training.max())
    )
    scaled = data.values.scale(np.repeat(training[:, None], 2, axis=1).astype(np.float32))
    expected = {
        "range": shares,
        "min-max": (shares - shares.min()) / np.ptp(shares),
        "mean-std": (shares - shares.mean()) / shares.std(),
    }[normalize]
    np.testing.assert_allclose(scaled, np.repeat(expected[:, None], 2, axis=1), atol=1e-5)
    np.testing.assert_allclose(data.values.to_unit(scaled)[:, 0], shares, atol=1e-5)
    np.testing.assert_allclose(data.values.inverse(scaled)[:, 1], training, rtol=1e-4, atol=1e-3)


def test_floats_from_zero_to_one_and_unsigned_integers_keep_their_range() -> None:
    frames = MemoryFrames([30])
    frames.read = lambda s, numbers, region=None: np.full((len(numbers), 4, 6, 1), 0.5, np.float32)
    assert dataset(frames).values.high == 1
    assert dataset(MemoryFrames([30], "uint8")).values.high == 255
    assert dataset(MemoryFrames([30], "uint16")).values.high == 65535
    assert dataset(MemoryFrames([60], "int16")).values.high < 60
    assert dataset(MemoryFrames([30], "int16"), value_range=(0, 99)).values.high == 99


def test_a_setting_without_effect_is_refused() -> None:
    for name, value in (("axes", "THW"), ("time_format", "%Y"), ("stride", 2), ("size", (4, 4))):
        config = DataConfig(**{name: value})
        with pytest.raises(ConfigError, match="has no effect on --dataset moving-squares"):
            check_applies(config)
    config = dataclasses.replace(CONFIG, axes="THW", stride=2)
    assert for_other_data(config, "folder") == dataclasses.replace(
        config, dataset="folder", axes=None
    )
    with pytest.raises(ConfigError, match="generated"):
        open_dataset(DataConfig(data="somewhere"), 0)
    for config in (DataConfig("folder", digits=3), DataConfig("moving-mnist", labels="folders")):
        with pytest.raises(ConfigError, match="has no effect on --dataset"):
            check_applies(config)
    digits = DataConfig("moving-mnist", data="d.npy", digits=3, threshold=128, eval_steps=20)
    check_applies(digits)
    assert for_other_data(digits, "array") == DataConfig(
        "array", data="d.npy", threshold=128, eval_steps=20
    )


def test_a_forecast_needs_clips_that_end() -> None:
    with pytest.raises(ConfigError, match="moving-squares: generated clips have no last frames"):
        LastFrames(DataConfig(), 3)


def test_real_data_need_a_place() -> None:
    for kind in ("folder", "array", "video"):
        with pytest.raises(DataError, match=f"--dataset {kind} needs --data"):
            open_dataset(DataConfig(dataset=kind), 0)


def test_parts_that_are_too_short_say_what_is_needed() -> None:
    with pytest.raises(DataError, match="3 input and 2 target frames at --horizon 3 need 7"):
        dataset(MemoryFrames([6]), horizon=3).windows("all")


def test_a_code_that_no_value_has_is_refused() -> None:
    for missing in (300.0, 3.5, -1.0):
        with pytest.raises(ConfigError, match=r"--missing-value .*: no uint8 value is that"):
            dataset(MemoryFrames([30], "uint8"), missing_value=missing)


def test_what_has_no_effect_on_these_data_is_said() -> None:
    notes = dataset(MemoryFrames([30], "uint8"), nan="mask", tile=(64, 64)).notes
    assert "--nan mask: uint8 values are never NaN" in notes
    assert "--tile 64 64: frames are no larger, and evaluated whole" in notes


def test_all_of_the_data_may_be_for_test() -> None:
    for lengths in ([30], [30] * 12):
        data = dataset(MemoryFrames(lengths), split=Split(0, 0, 1))
        assert used(data.windows("test")) == {
            100 * index + frame for index in range(len(lengths)) for frame in range(30)
        }


def test_a_hostile_split_file_is_refused(tmp_path) -> None:
    path = tmp_path / "split.json"
    path.write_text("[" * 200_000)
    with pytest.raises(DataError, match="cannot be read as JSON"):
        dataset(MemoryFrames([30]), split_file=str(path)).windows("train")
    with pytest.raises(DataError, match="no such file"):
        dataset(MemoryFrames([30]), split_file=str(tmp_path)).windows("train")
