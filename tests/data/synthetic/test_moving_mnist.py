"""The clips of digits move as those of the common generator, of digits that no other part has."""

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest

from jaxconvlstm.config.data import DataConfig, Split
from jaxconvlstm.data.dataset import guess_dataset, open_dataset
from jaxconvlstm.data.last_frames import LastFrames
from jaxconvlstm.data.synthetic.digits import read_digits
from jaxconvlstm.data.synthetic.generated import clip_generator
from jaxconvlstm.data.synthetic.moving_mnist import moving_digits
from jaxconvlstm.errors import ConfigError, DataError

PICTURES = np.random.default_rng(0).integers(1, 256, (30, 9, 7), dtype=np.uint8)
"""Of 9x7 pixels, none of them black; the first pixel says which picture it is."""
PICTURES[:, 0, 0] = np.arange(30) + 1


def idx(pictures: np.ndarray) -> bytes:
    """As the format's description says: magic number, sizes, values, all big-endian."""
    return struct.pack(">HBB3I", 0, 8, 3, *pictures.shape) + pictures.tobytes()


@pytest.fixture
def digits(tmp_path: Path) -> Path:
    path = tmp_path / "digits-idx3-ubyte.gz"
    path.write_bytes(gzip.compress(idx(PICTURES)))
    return path


def config(path: Path, **settings: object) -> DataConfig:
    return DataConfig(dataset="moving-mnist", data=str(path), **settings)  # type: ignore[arg-type]


def slow_clip(generator: np.random.Generator, pictures: np.ndarray, digits: int, frames: int):
    """The rules of the common generator in plain loops, from the same random numbers."""
    height, width = pictures.shape[1:]
    chosen = generator.integers(0, len(pictures), digits)
    starts, angles = generator.random((digits, 2)), generator.random(digits) * 2 * np.pi
    clip = np.zeros((frames, 64, 64))
    for number in range(digits):
        y, x = starts[number]
        v_y, v_x = np.sin(angles[number]), np.cos(angles[number])
        for frame in clip:
            y, x = y + v_y * 0.1, x + v_x * 0.1
            if x <= 0:
                x, v_x = 0, -v_x
            if x >= 1:
                x, v_x = 1, -v_x
            if y <= 0:
                y, v_y = 0, -v_y
            if y >= 1:
                y, v_y = 1, -v_y
            top, left = int((64 - height) * y), int((64 - width) * x)
            for row in range(height):
                for column in range(width):
                    value = pictures[chosen[number], row, column]
                    frame[top + row, left + column] = max(frame[top + row, left + column], value)
    return clip[..., None]


@pytest.mark.parametrize("index", range(6))
def test_clips_equal_the_loops_of_the_common_generator(index: int) -> None:
    clip = moving_digits(clip_generator(1, 0, 0, index), PICTURES, 1 + index % 3, 25)
    assert (clip.shape, clip.dtype) == ((25, 64, 64, 1), np.uint8)
    expected = slow_clip(clip_generator(1, 0, 0, index), PICTURES, 1 + index % 3, 25)
    np.testing.assert_array_equal(clip, expected)


def test_a_longer_clip_goes_on_from_the_same_frames() -> None:
    short, long = (moving_digits(clip_generator(3, 0, 1, 2), PICTURES, 2, n) for n in (5, 60))
    np.testing.assert_array_equal(long[:5], short)


def tracks(clips: int, frames: int, size: int = 28) -> np.ndarray:
    """Top and left of the one digit of each clip: `[clips, frames, 2]`."""
    spot = np.full((1, size, size), 255, np.uint8)
    found = []
    for index in range(clips):
        clip = moving_digits(clip_generator(0, 0, 0, index), spot, 1, frames)[..., 0] > 0
        assert (clip.sum(axis=(1, 2)) == size * size).all()  # All of it is always in sight.
        found.append(np.stack([clip.any(axis).argmax(axis=1) for axis in (2, 1)], axis=-1))
    return np.array(found)


def test_digits_go_everywhere_in_all_directions_at_one_speed() -> None:
    tops_and_lefts = tracks(1000, 30)
    assert tops_and_lefts.min() == 0 and tops_and_lefts.max() == 36
    # 0.1 of the way that there is: 3.6 pixels a frame, up to rounding and where it turns back.
    steps = np.diff(tops_and_lefts[:, :2], axis=1)[:, 0]
    inside = ((tops_and_lefts[:, :2] > 0) & (tops_and_lefts[:, :2] < 36)).all(axis=(1, 2))
    speeds = np.hypot(*steps[inside].T)
    assert speeds.min() > 3.6 - 1.5 and speeds.max() < 3.6 + 1.5
    # Rounding adds 1/6 to the mean square of a step along each axis.
    assert np.sqrt((speeds**2).mean() - 2 / 6) == pytest.approx(3.6, abs=0.05)
    # Uniform: eight directions, each an eighth, with a standard error of about 0.011.
    turns = np.arctan2(*steps[inside].T)
    shares = np.histogram(turns, 8, (-np.pi, np.pi))[0] / len(turns)
    np.testing.assert_allclose(shares, 1 / 8, atol=0.04)
    # Starts are uniform: each quarter in the middle has a quarter of 2,000, with a standard error
    # of about 0.01 (those outside lose some in the first step).
    for first in (9, 18):
        share = ((tops_and_lefts[:, 0] >= first) & (tops_and_lefts[:, 0] < first + 9)).mean()
        assert share == pytest.approx(0.25, abs=0.04)


def test_windows_follow_from_seed_part_epoch_and_index(digits: Path) -> None:
    dataset = open_dataset(config(digits, input_frames=4, target_frames=3), seed=5)
    inputs, targets = dataset.windows("val").read(7, 2)
    clip = moving_digits(clip_generator(5, 1, 0, 2), dataset.pictures["val"], 2, 7)
    np.testing.assert_array_equal(np.concatenate([inputs, targets]), clip)
    assert len(inputs) == 4
    assert dataset.windows("val").name(2) == "val clip 2"
    train = dataset.windows("train")
    assert not np.array_equal(train.read(0, 0)[0], train.read(1, 0)[0])
    np.testing.assert_array_equal(train.read(1, 0)[0], train.read(1, 0)[0])
    assert not np.array_equal(train.read(0, 0)[0], train.read(0, 1)[0])
    assert dataset.split_record() is None and dataset.classes == ()


def test_lengths_steps_regions_and_every_frame(digits: Path) -> None:
    settings = {"input_frames": 2, "target_frames": 2, "frame_step": 3}
    dataset = open_dataset(config(digits, horizon=2, **settings), seed=5)
    inputs, targets = dataset.windows("test").read(0, 1, (slice(8, 40), slice(0, 20)))
    clip = moving_digits(clip_generator(5, 2, 0, 1), dataset.pictures["test"], 2, 13)
    np.testing.assert_array_equal(inputs, clip[[0, 3], 8:40, :20])
    np.testing.assert_array_equal(targets, clip[[9, 12], 8:40, :20])
    windows = open_dataset(config(digits, **settings), 5).windows("test", 3, 2, dense_targets=True)
    inputs, targets = windows.read(0, 1)
    np.testing.assert_array_equal(inputs, clip[[0, 3, 6]])
    np.testing.assert_array_equal(targets, clip[[3, 6, 9, 12]])


def test_no_digit_is_in_two_parts_and_the_seed_says_where_each_is(digits: Path) -> None:
    dataset = open_dataset(config(digits), seed=1)
    parts = {name: set(part[:, 0, 0].tolist()) for name, part in dataset.pictures.items()}
    assert [len(part) for part in parts.values()] == [24, 3, 3]
    assert set.union(*parts.values()) == set(range(1, 31))
    again, other = (open_dataset(config(digits), seed=seed) for seed in (1, 2))
    np.testing.assert_array_equal(again.pictures["test"], dataset.pictures["test"])
    assert not np.array_equal(other.pictures["test"], dataset.pictures["test"])
    only = open_dataset(config(digits, split=Split(0.5, 0, 0.1), limit=3), seed=1)
    assert {name: len(part) for name, part in only.pictures.items()} == {"train": 15, "test": 3}
    assert [len(only.windows("train")), len(only.windows("all"))] == [3, 6]
    with pytest.raises(DataError, match="val split has no windows"):
        only.windows("val")


def test_clips_show_as_many_digits_as_asked_for(digits: Path) -> None:
    for count in (1, 3):
        dataset = open_dataset(config(digits, digits=count, limit=40), seed=0)
        windows = dataset.windows("train")
        lit = [(windows.read(0, index)[0] > 0).sum(axis=(1, 2, 3)).max() for index in range(40)]
        assert max(lit) == count * 9 * 7


def test_threshold_and_value_range(digits: Path) -> None:
    plain = open_dataset(config(digits), seed=3)
    assert (plain.values.low, plain.values.high, plain.dtype) == (0, 255, np.uint8)
    dataset = open_dataset(config(digits, threshold=128.0), seed=3)
    assert (dataset.values.low, dataset.values.high) == (0, 1)
    inputs, targets = dataset.windows("val").read(0, 0)
    expected = plain.windows("val").read(0, 0)
    np.testing.assert_array_equal(inputs, expected[0] >= 128)
    np.testing.assert_array_equal(targets, expected[1] >= 128)
    assert inputs.dtype == np.uint8
    assert open_dataset(config(digits, value_range=(0.0, 100.0)), seed=3).values.high == 100


def test_sizes_and_notes(digits: Path) -> None:
    dataset = open_dataset(config(digits), seed=0)
    sizes = [len(dataset.windows(split)) for split in ("train", "val", "test", "all")]
    assert sizes == [10_000, 100, 200, 10_300]
    assert dataset.frame_shape == (64, 64, 1)
    assert dataset.notes == [
        "30 digits, none in two splits: train 24, val 3, test 3",
        "generated clips of 2 digits on 64x64x1 uint8; windows: train 10000, val 100, test 200",
    ]


@pytest.mark.parametrize("kind", ["uint8", "int64", "bool", "float32", "float64"])
@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_arrays_of_digits(tmp_path: Path, kind: str, suffix: str) -> None:
    pictures = PICTURES if kind in ("uint8", "int64") else (PICTURES > 99) * PICTURES
    array = {"b": pictures > 99, "f": pictures / 255}.get(np.dtype(kind).kind, pictures)
    path = tmp_path / f"digits{suffix}"
    (np.save if suffix == ".npy" else np.savez_compressed)(path, array.astype(kind))
    found, notes = read_digits(path)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, (pictures > 99) * 255 if kind == "bool" else pictures)
    assert len(notes) == (kind != "uint8") and all("read as uint8" in note for note in notes)


def test_one_of_several_arrays(tmp_path: Path) -> None:
    path = tmp_path / "mnist.npz"
    np.savez(path, x_train=PICTURES, x_test=PICTURES[:5], y_train=np.arange(30))
    assert len(read_digits(path, "x_test")[0]) == 5
    assert len(open_dataset(config(path, variable="x_train"), 0).pictures["train"]) == 24
    with pytest.raises(DataError, match=r"--variable NAME says which: x_train \[30, 9, 7\], x_tes"):
        read_digits(path)


def test_idx_files_plain_and_packed(tmp_path: Path, digits: Path) -> None:
    plain = tmp_path / "digits"
    plain.write_bytes(idx(PICTURES))
    for path in (plain, digits):
        found, notes = read_digits(path)
        np.testing.assert_array_equal(found, PICTURES)
        assert notes == []
    with pytest.raises(DataError, match="one array"):
        read_digits(plain, "x")


def packed(content: bytes) -> bytes:
    return gzip.compress(content, mtime=0)


GOOD = idx(PICTURES)
BAD_FILES = {
    "empty": (b"", "no file of digits"),
    "text": (b"a text that says something", "no file of digits"),
    "short": (GOOD[:10], "truncated, within its header"),
    "labels": (struct.pack(">HBBI", 0, 8, 1, 30) + bytes(30), "got 1 axes, which may be labels"),
    "floats": (struct.pack(">HBB3I", 0, 13, 3, 1, 1, 1) + bytes(4), "type 0x0d, expected unsigned"),
    "nothing": (struct.pack(">HBB3I", 0, 8, 3, 0, 28, 28), "an axis has length 0"),
    "cut": (GOOD[:-7], r"holds 1883 bytes of pixels, but \[30, 9, 7\] needs 1890"),
    "long": (GOOD + b"x", r"more bytes of pixels, but \[30, 9, 7\] needs 1890"),
    "huge": (struct.pack(">HBB3I", 0, 8, 3, 2**32 - 1, 28, 28) + bytes(99), "more than the 1 GiB"),
    "lie": (struct.pack(">HBB3I", 0, 8, 3, 10**6, 28, 28) + bytes(99), "holds 99 bytes of pixels"),
    "packed-lie": (packed(struct.pack(">HBB3I", 0, 8, 3, 10**6, 28, 28) + bytes(99)), "holds 99 b"),
    "packed-cut": (packed(GOOD)[:-30], "cannot be read: Compressed file ended"),
    "packed-changed": (packed(GOOD)[:-8] + b"\0" * 8, "cannot be read: CRC check failed"),
    "packed-garbage": (packed(GOOD)[:12] + b"\xff" * 50, "cannot be read"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_damaged_files_are_named(tmp_path: Path, name: str) -> None:
    content, message = BAD_FILES[name]
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        open_dataset(config(path), 0)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "array, message",
    [
        (np.zeros((20, 3, 64, 64), np.uint8), "4 axes, which may be clips: --dataset array reads"),
        (np.zeros((5, 9)), "got 2 axes"),
        (np.zeros((0, 9, 9)), "an axis has length 0"),
        (np.full((9, 9, 9), 2.0), "floats from 0 to 1, got float64 from 2 to 2"),
        (np.full((9, 9, 9), np.nan), "floats from 0 to 1, got float64"),
        (np.full((9, 9, 9), -1), "integers from 0 to 255 .* got int64 from -1 to -1"),
        (np.full((9, 9, 9), 256), "integers from 0 to 255"),
        (np.zeros((9, 64, 9), np.uint8), "digits of 64x9, which cannot move in 64x64"),
        (np.zeros((5, 9, 9), np.uint8), "5 digits, too few for 2 in a clip of train and val and t"),
    ],
)
def test_arrays_that_are_no_digits(tmp_path: Path, array: np.ndarray, message: str) -> None:
    path = tmp_path / "digits.npy"
    np.save(path, array)
    with pytest.raises(DataError, match=message) as caught:
        open_dataset(config(path), 0)
    assert str(path) in str(caught.value)


def test_what_cannot_be_a_file_of_digits(tmp_path: Path, digits: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        open_dataset(config(tmp_path / "gone"), 0)
    with pytest.raises(DataError, match="is a folder"):
        open_dataset(config(tmp_path), 0)
    with pytest.raises(DataError, match="--dataset moving-mnist needs --data FILE"):
        open_dataset(DataConfig(dataset="moving-mnist"), 0)
    (tmp_path / "digits.npy").write_bytes(b"\x80\x04K\x01.")
    with pytest.raises(DataError, match="a pickle, which is never loaded"):
        open_dataset(config(tmp_path / "digits.npy"), 0)


def test_settings_that_clips_of_digits_cannot_follow(digits: Path) -> None:
    for settings in ({"channels": 3}, {"size": (32, 32)}, {"labels": "folders"}, {"stride": 2}):
        with pytest.raises(ConfigError):
            open_dataset(config(digits, **settings), 0)
    with pytest.raises(ConfigError, match="--digits: has no effect on --dataset moving-squares"):
        open_dataset(DataConfig(digits=3), 0)
    with pytest.raises(ConfigError, match="no last frames to forecast from"):
        LastFrames(config(digits), 3)


def test_the_name_of_an_idx_file_says_what_it_is() -> None:
    for name in ("train-images-idx3-ubyte.gz", "t10k-images.idx3-ubyte", "digits-8000-idx3-ubyte"):
        assert guess_dataset(f"/data/{name}") == "moving-mnist"
    assert guess_dataset("/data/idx3-ubyte-pictures") == "folder"
