"""Arrays as sequences of frames: axes, regions, laziness, values that are refused, objects."""

import itertools
import threading
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opened import arrays

from jaxconvlstm.config.data import DataConfig
from jaxconvlstm.data.preprocess import Preparation
from jaxconvlstm.data.sources.arrays import array_search
from jaxconvlstm.data.sources.arrays.array_reader import runs
from jaxconvlstm.data.sources.arrays.stored_array import OpenFiles
from jaxconvlstm.errors import ConfigError, DataError, StuckReaderError


def numbers(*shape: int, dtype=np.float32) -> np.ndarray:
    """Values that are all different, as far as the dtype goes."""
    return np.arange(np.prod(shape)).reshape(shape).astype(dtype)


def save(folder: Path, array: np.ndarray, name: str = "x.npy") -> Path:
    np.save(folder / name, array)
    return folder / name


class Items:
    """What a user may have: a length, and items."""

    def __init__(self, items):
        self.items, self.asked = items, 0

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        self.asked += 1
        return self.items[index]


AXES = [
    "".join(axes)
    for letters in ("HWT", "HWTN", "HWTC", "HWTNC")
    for axes in itertools.permutations(letters)
]


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(AXES), st.booleans(), st.data())
def test_every_order_of_axes_reads_the_same_frames(tmp_path_factory, axes, fortran, data):
    sizes = {"N": 3, "T": 5, "H": 4, "W": 6, "C": 2}
    sizes |= {letter: 1 for letter in sizes if letter not in axes}
    wanted = numbers(*sizes.values())
    there = [letter for letter in "NTHWC" if letter in axes]
    lacking = tuple(index for index, letter in enumerate("NTHWC") if letter not in axes)
    stored = wanted.squeeze(lacking).transpose([there.index(letter) for letter in axes])
    path = tmp_path_factory.mktemp("x") / "x.npy"
    np.save(path, np.asfortranarray(stored) if fortran else np.ascontiguousarray(stored))
    frames = arrays(path, axes=axes)
    number = data.draw(st.integers(0, sizes["N"] - 1))
    chosen = data.draw(st.lists(st.integers(0, 4), min_size=1, max_size=6))
    top, left_side = data.draw(st.integers(0, 3)), data.draw(st.integers(0, 5))
    region = slice(top, top + 2), slice(left_side, None)
    assert frames.frame_shape == (4, 6, sizes["C"])
    assert frames.lengths == [5] * sizes["N"]
    expected = wanted[number]
    np.testing.assert_array_equal(frames.read(number, range(5)), expected)
    np.testing.assert_array_equal(frames.read(number, chosen, region), expected[chosen][:, *region])


@pytest.mark.parametrize(
    ("shape", "axes"), [((9, 8, 8), "THW"), ((9, 8, 8, 3), "THWC"), ((2, 9, 8, 8, 1), "NTHWC")]
)
def test_clear_shapes_need_no_axes_and_the_choice_is_noted(tmp_path, shape, axes):
    path = save(tmp_path, numbers(*shape, dtype=np.uint8))
    frames = arrays(path)
    assert frames.notes == [f"axes of {path} {list(shape)} read as {axes}"]
    assert set(frames.lengths) == {9}
    assert frames.names[0] == ("x[0]" if "N" in axes else "x")
    assert f"{list(shape)} uint8" in frames.details["array"]


@pytest.mark.parametrize(
    ("shape", "proposed"),
    [((20, 30, 64, 64), "--axes TNHW"), ((4, 20, 1, 32, 32), "--axes NTCHW"),
     ((64, 64), "--axes HW"), ((64,), "3 to 5 axes")],
)  # fmt: skip
def test_unclear_shapes_are_refused_with_a_proposal(tmp_path, shape, proposed):
    path = save(tmp_path, np.zeros(shape, np.uint8))
    with pytest.raises(DataError, match=proposed) as error:
        arrays(path)
    assert str(list(shape)) in str(error.value)


def test_axes_that_do_not_fit(tmp_path):
    path = save(tmp_path, numbers(3, 5, 8, 8))
    with pytest.raises(ConfigError, match="3 letters"):
        arrays(path, axes="THW")
    with pytest.raises(DataError, match="without time"):
        arrays(path, axes="NHWC")


@given(st.lists(st.integers(0, 30), max_size=12))
def test_runs_name_the_same_frames(frames):
    assert [n for run in runs(frames) for n in range(run.start, run.stop, run.step or 1)] == frames


def test_even_frames_are_one_run():
    assert len(runs(range(3, 40, 2))) == len(runs([3, 5, 7, 9])) == len(runs(np.arange(5))) == 1


def test_only_the_frames_asked_for_are_read(tmp_path):
    """300 MB that are not on the disk: neither memory nor time may grow with the file."""
    path = tmp_path / "x.npy"
    with path.open("wb") as file:
        header = {"descr": "<f4", "fortran_order": False, "shape": (1200, 256, 256)}
        np.lib.format.write_array_header_1_0(file, header)
        file.truncate(file.tell() + 1200 * 256 * 256 * 4)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(OpenFiles, "MAPPED_BYTES", 2**25)
        tracemalloc.start()
        frames = arrays(path, check_files="none")
        before, highest = mapped_bytes(), 0
        for start in range(0, 1200, 20):
            frames.read(0, range(start, start + 20))
            highest = max(highest, mapped_bytes() - before)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak < 30e6
    assert highest < 100e6


def mapped_bytes() -> int:
    """Memory of this process that is pages of files; 0 where the system does not say."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return sum(1024 * int(line.split()[1]) for line in lines if line.startswith("RssFile"))


def test_what_is_read_is_a_copy_in_native_order(tmp_path):
    stored = numbers(6, 4, 4, dtype=">u2")
    frames = arrays(save(tmp_path, stored))
    read = frames.read(0, range(2, 4))
    assert read.dtype == frames.dtype == np.uint16 and read.dtype.isnative
    np.testing.assert_array_equal(read[..., 0], stored[2:4])
    assert "foreign byte order" in frames.notes[1]
    read[:] = 0
    np.testing.assert_array_equal(frames.read(0, range(6))[..., 0], stored)


@pytest.mark.parametrize(
    ("dtype", "becomes"),
    [("bool", "uint8"), ("float64", "float32"), ("int64", "int32"), ("uint64", "int32"),
     ("uint32", "int32"), ("int8", "int8"), ("uint16", "uint16"), ("float16", "float16")],
)  # fmt: skip
def test_dtypes(tmp_path, dtype, becomes):
    stored = (numbers(4, 3, 3) % 2).astype(dtype)
    frames = arrays(save(tmp_path, stored))
    assert frames.read(0, [1, 3]).dtype == frames.dtype == becomes
    np.testing.assert_array_equal(frames.read(0, [1, 3])[..., 0], stored[[1, 3]])
    converted = [note for note in frames.notes if f"{dtype} values read as {becomes}" in note]
    assert len(converted) == (dtype != becomes)


@pytest.mark.parametrize("dtype", ["complex64", "datetime64[s]", "S3", "U3", "i4,f4"])
def test_dtypes_that_are_no_pixels(tmp_path, dtype):
    with pytest.raises(DataError, match=r"x\.npy"):
        arrays(save(tmp_path, np.zeros((4, 3, 3), dtype)))


def test_integers_that_do_not_fit(tmp_path):
    stored = numbers(2, 6, 4, 4, dtype=np.int64)
    stored[1, 5] = 2**31
    path = save(tmp_path, stored)
    frames = arrays(path, axes="NTHW")
    assert frames.read(1, range(5)).dtype == np.int32
    with pytest.raises(DataError, match=r"x\.npy, sequence 1, frame 5: 2147483648 does not fit"):
        frames.read(1, [5])
    with pytest.raises(DataError, match="does not fit"):
        arrays(path, axes="NTHW", check_files="all")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_nan_is_named_with_its_place(tmp_path, value, dtype):
    stored = numbers(3, 7, 5, 6, dtype=dtype)
    stored[2, 4, 3, 1] = value
    path = save(tmp_path, stored)
    what = "NaN" if np.isnan(value) else "infinity"
    place = rf"x\.npy, sequence 2, frame 4: {what} at row 3, column 1; --nan mask"
    with pytest.raises(DataError, match=place):
        arrays(path, axes="NTHW")
    frames = arrays(path, axes="NTHW", check_files="none")
    assert frames.read(2, range(4)).shape == (4, 5, 6, 1)
    assert frames.read(2, [4], (slice(0, 3), slice(0, 6))).shape == (1, 3, 6, 1)
    with pytest.raises(DataError, match=place):
        frames.read(2, [1, 4, 5], (slice(2, 5), slice(1, 3)))
    masked = arrays(path, axes="NTHW", nan="mask")
    np.testing.assert_equal(masked.read(2, [4])[0, 3, 1, 0], np.array(value, masked.dtype))


def test_large_floats_are_finite_unless_they_overflow(tmp_path):
    large = np.full((3, 4, 4), 3e38, np.float32)
    assert arrays(save(tmp_path, large)).read(0, [0]).max() == np.float32(3e38)
    with pytest.raises(DataError, match="frame 0: infinity"):
        arrays(save(tmp_path, np.full((3, 4, 4), 1e300)))


def test_frames_with_nan_can_be_left_out(tmp_path):
    stored = numbers(2, 50, 4, 4)
    stored[1, [7, 8, 33], 2, 2] = np.nan
    frames = arrays(save(tmp_path, stored), axes="NTHW", on_bad_frame="skip")
    assert {n: list(bad) for n, bad in frames.bad.items()} == {1: [7, 8, 33]}
    assert "frame 7: NaN" in frames.bad[1][7]
    assert any(note.startswith("frames that cannot be used: 3, e.g. ") for note in frames.notes)
    assert [s[1:] for s in frames.segments()] == [(0, 50), (0, 7), (9, 33), (34, 50)]
    stored[:] = np.inf
    with pytest.raises(DataError, match="no frame can be used"):
        arrays(save(tmp_path, stored), axes="NTHW", on_bad_frame="skip")


def test_sequences_are_a_part(tmp_path):
    stored = numbers(9, 5, 4, 4)
    path = save(tmp_path, stored)
    frames = arrays(path, axes="NTHW", sequences=(6, 8))
    assert list(frames.names) == ["x[6]", "x[7]"]
    assert "sequences 6 to 7 of 9 used (--sequences)" in frames.notes
    np.testing.assert_array_equal(frames.read(1, [2])[..., 0], stored[7, [2]])
    with pytest.raises(DataError, match=r"x\.npy: --sequences 6 10: there are only 9"):
        arrays(path, axes="NTHW", sequences=(6, 10))


@pytest.mark.parametrize(
    "options",
    [{"threshold": 20}, {"channels": 1}, {"size": (8, 9)},
     {"size": (6, 6), "fit": "crop"}, {"channels": 1, "size": (3, 3), "threshold": 40}],
)  # fmt: skip
def test_preparation_is_that_of_each_frame(tmp_path, options):
    stored = numbers(2, 6, 5, 6, 3, dtype=np.uint8)
    frames = arrays(save(tmp_path, stored), **options)
    preparation = Preparation(DataConfig(**options))
    expected = np.stack([preparation(frame) for frame in stored[1, [5, 1, 1]]])
    region = slice(1, 3), slice(0, 2)
    for _ in range(2):  # The second time from memory.
        read = frames.read(1, [5, 1, 1])
        np.testing.assert_array_equal(read, expected)
        np.testing.assert_array_equal(frames.read(1, [5, 1, 1], region), expected[:, *region])
    assert read.shape[1:] == frames.frame_shape and read.dtype == frames.dtype


def test_channels_that_cannot_be_made(tmp_path):
    with pytest.raises(DataError, match="--channels 3"):
        arrays(save(tmp_path, numbers(5, 4, 4, 2)), channels=3)


def test_objects_are_sequences():
    rng = np.random.default_rng(0)
    clips = [rng.integers(0, 255, (length, 8, 6, 3), np.uint8) for length in (5, 9, 7)]
    for objects in (clips, tuple(clips), Items(clips)):
        frames = arrays(objects)
        assert frames.lengths == [5, 9, 7] and list(frames.names) == ["0", "1", "2"]
        assert frames.frame_shape == (8, 6, 3)
        region = slice(2, 7), slice(1, 3)
        np.testing.assert_array_equal(frames.read(1, range(3, 8), region), clips[1][3:8, *region])
    part = arrays(Items(clips), sequences=(1, 3))
    assert part.lengths == [9, 7] and "sequences 1 to 2 of 3 used (--sequences)" in part.notes
    with pytest.raises(DataError, match="data: --sequences 1 4: there are only 3"):
        arrays(Items(clips), sequences=(1, 4))
    np.testing.assert_array_equal(part.read(0, [8]), clips[1][[8]])


def test_objects_may_be_lists_of_frames():
    clip = numbers(6, 4, 5)
    frames = arrays([list(clip), list(clip[:3])])
    assert frames.lengths == [6, 3]
    np.testing.assert_array_equal(frames.read(0, [1, 4])[..., 0], clip[[1, 4]])
    lazy = arrays(Items([list(clip)]))
    np.testing.assert_array_equal(lazy.read(0, [5])[..., 0], clip[[5]])


class Reused(Items):
    """Gives the same buffer for every item, as a decoder may."""

    def __init__(self, items, as_list):
        super().__init__(items)
        self.buffer, self.as_list = np.zeros_like(items[0]), as_list

    def __getitem__(self, index):
        self.asked += 1
        self.buffer[:] = self.items[index]
        return list(self.buffer) if self.as_list else self.buffer


@pytest.mark.parametrize("as_list", [False, True])
@pytest.mark.parametrize("cache_gib", [0, 1])
def test_a_buffer_that_the_object_uses_again(as_list, cache_gib):
    clips = [numbers(7, 16, 16) + 1000 * n for n in range(3)]
    frames = arrays(Reused(clips, as_list), cache=cache_gib)
    read = [frames.read(n, range(1, 6, 2)) for n in range(3)]
    with ThreadPoolExecutor(8) as pool:
        read += pool.map(lambda n: frames.read(n % 3, range(1, 6, 2)), range(60))
    for number, values in enumerate(read):
        np.testing.assert_array_equal(values[..., 0], clips[number % 3][1:6:2])


def test_an_item_of_frames_is_asked_for_once_a_read():
    items = Reused([numbers(9, 8, 8)], as_list=True)
    frames = arrays(items, cache=0)
    before = items.asked
    frames.read(0, range(2, 8))
    assert items.asked - before == 1


def test_frames_of_an_item_may_differ_in_size():
    items = Items([[numbers(4 + n, 6) for n in range(5)]])
    frames = arrays(items, size=(4, 6))
    assert frames.read(0, range(5)).shape == (5, 4, 6, 1)
    np.testing.assert_array_equal(frames.read(0, [0])[0, ..., 0], numbers(4, 6))


def test_a_search_that_never_ends_is_named(monkeypatch):
    monkeypatch.setattr(array_search, "BLOCK_TIMEOUT", 0.3)
    ends = threading.Event()

    class Dead(Items):
        def __getitem__(self, index):
            if self.asked > 1:
                ends.wait()
            return super().__getitem__(index)

    try:
        with pytest.raises(StuckReaderError, match=r"sequence 0, frames 0 to 4: not read"):
            arrays(Dead([numbers(5, 4, 4)] * 2), cache=0, check_files="all")
    finally:
        ends.set()


def test_items_are_kept_only_while_they_fit():
    items = Items([numbers(9, 8, 8) for _ in range(3)])
    kept, fresh = arrays(items), arrays(items, cache=0)
    for frames, times in ((kept, 0), (fresh, 4)):
        frames.read(0, [0])
        before = items.asked
        for _ in range(4):
            frames.read(0, [1])
        assert items.asked - before == times


@pytest.mark.parametrize(
    ("objects", "match"),
    [
        ([np.zeros((5, 8, 8)), "clip.mp4"], "sequence 1: a str is no array"),
        ([["a.png", "b.png"]], "sequence 0, frame 0: a str"),
        ([np.zeros((5, 8, 8)), np.zeros((8, 8))], r"sequence 1: shape \[8, 8\]"),
        ([np.zeros((5, 8, 8)), np.zeros((5, 8, 9))], "sequence 1: frames of 8x9x1"),
        ([np.zeros((5, 8, 8)), np.zeros((5, 8, 8), "u1")], "sequence 1: uint8 values"),
        ([np.zeros((5, 8, 8)), np.full((5, 8, 8), None)], "sequence 1: holds Python objects"),
        ([np.zeros((5, 8, 8)), np.zeros((0, 8, 8))], "sequence 1 .*length 0"),
        ([[]], "sequence 0: holds no frames"),
        ([], "no sequences"),
        ({"a": np.zeros((5, 8, 8))}, "dict is neither"),
        (iter([]), "neither an array nor"),
        (np.array("text"), "array"),
        ([np.ma.masked_equal(np.zeros((5, 8, 8), "u1"), 0)], "sequence 0: masked uint8"),
    ],
)
def test_objects_that_are_no_sequences(objects, match):
    with pytest.raises(DataError, match=match) as error:
        arrays(objects)
    assert "\n" not in str(error.value)


def test_errors_of_the_users_own_code_name_the_item():
    class Broken(Items):
        def __getitem__(self, index):
            raise KeyError(f"clip {index}")

    with pytest.raises(DataError, match="sequence 0: KeyError: 'clip 0'"):
        arrays(Broken([1, 2]))

    class Changing(Items):
        def __getitem__(self, index):
            self.asked += 1
            return np.zeros((5 if self.asked < 3 else 4, 8, 8), np.uint8)

    frames = arrays(Changing([1, 2]), cache=0)
    with pytest.raises(DataError, match="sequence 1: its shape or dtype has changed"):
        frames.read(1, [4])


def test_nan_in_an_object():
    clips = [numbers(5, 4, 4), numbers(5, 4, 4)]
    clips[1][3, 2, 1] = np.nan
    with pytest.raises(DataError, match="sequence 1, frame 3: NaN at row 2, column 1"):
        arrays(clips)
    missing = np.ma.masked_less(numbers(5, 4, 4), 3)
    assert np.isnan(arrays([missing], nan="mask").read(0, [0])).sum() == 3


def test_arrays_in_memory_and_hdf5_datasets(tmp_path):
    stored = numbers(4, 9, 8, 8)
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["clips"] = stored
        direct = arrays(file["clips"], axes="NTHW")
        file["clip"] = stored[1]
        one = arrays(Items([file["clip"]]))
        np.testing.assert_array_equal(one.read(0, [3])[..., 0], stored[1, [3]])
        with ThreadPoolExecutor(8) as pool:
            read = list(pool.map(lambda n: direct.read(n % 4, [2, 5, 6]), range(40)))
    for number, values in enumerate(read):
        np.testing.assert_array_equal(values[..., 0], stored[number % 4, [2, 5, 6]])
    given_array = arrays(stored, axes="NTHW")
    assert given_array.names[3] == "array[3]"
    with pytest.raises(ConfigError, match="--variable"):
        arrays(stored, axes="NTHW", variable="x")


def test_users_objects_are_used_by_one_thread_at_a_time():
    class Single(Items):
        busy = threading.Lock()

        def __getitem__(self, index):
            assert self.busy.acquire(blocking=False), "used by two threads"
            try:
                return self.items[index].copy()
            finally:
                self.busy.release()

    clips = [numbers(5, 32, 32) + n for n in range(6)]
    frames = arrays(Single(clips), cache=0)
    with ThreadPoolExecutor(8) as pool:
        read = list(pool.map(lambda n: frames.read(n % 6, [4]), range(300)))
    assert all((values[0, ..., 0] == clips[n % 6][4]).all() for n, values in enumerate(read))


def test_truth_values_have_a_range():
    assert arrays(np.ones((5, 4, 4), bool)).value_range == (0, 1)
    assert arrays(np.ones((5, 4, 4), np.uint8)).value_range is None
