"""Array files of every kind: what is read, what is refused, and that damage ends in one line."""

import base64
import contextlib
import gzip
import io
import os
import pickle
import struct
import sys
import tracemalloc
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import h5py
import netCDF4
import numpy as np
import pytest
import zarr
from opened import arrays

from jaxconvlstm.data.sources.arrays import library_arrays
from jaxconvlstm.data.sources.arrays.stored_array import OpenFiles
from jaxconvlstm.errors import ConfigError, DataError

VALUES = (np.arange(4 * 9 * 8 * 6) % 251).reshape(4, 9, 8, 6).astype(np.uint8)
DIMENSIONS = ("sample", "time", "lat", "lon")


def write(path: Path, values: np.ndarray = VALUES, name: str = "rain") -> Path:
    """A file of the kind that its extension says."""
    match path.suffix:
        case ".npy":
            np.save(path, values)
        case ".npz":
            np.savez_compressed(path, **{name: values})
        case ".h5":
            with h5py.File(path, "w") as file:
                file.create_dataset(name, data=values, chunks=True, compression="gzip")
        case ".nc":
            with netCDF4.Dataset(path, "w") as file:
                for dimension, size in zip(DIMENSIONS[-values.ndim :], values.shape):
                    file.createDimension(dimension, size)
                variable = file.createVariable(name, values.dtype, DIMENSIONS[-values.ndim :])
                variable[:] = values
        case ".zarr":
            zarr.create_group(path).create_array(name, data=values)
    return path


KINDS = [".npy", ".npz", ".h5", ".nc", ".zarr"]


@pytest.mark.parametrize("cache_gib", [0, 1])
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_reads_the_same(tmp_path, kind, cache_gib):
    path = write(tmp_path / f"x{kind}")
    frames = arrays(path, axes="NTHW", cache=cache_gib)
    assert frames.lengths == [9] * 4 and frames.names[3] == "x[3]"
    assert frames.dtype == np.uint8 and frames.frame_shape == (8, 6, 1)
    assert any("is read" in note for note in frames.notes) == (kind != ".npy")

    def right(index: int) -> bool:
        number, wanted = index % 4, ([2, 3, 4], [1, 3, 5], [0, 7, 2])[index % 3]
        region = (slice(1, 7), slice(0, 5)) if index % 2 else None
        read = frames.read(number, wanted, region)[..., 0]
        return np.array_equal(read, VALUES[number, wanted][:, *(region or (slice(None),) * 2)])

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(right, range(96)))
    part = arrays(path, axes="NTHW", cache=cache_gib, sequences=(2, 4))
    assert part.names[0] == "x[2]"
    np.testing.assert_array_equal(part.read(1, [8])[..., 0], VALUES[3, [8]])


@pytest.mark.parametrize("kind", KINDS)
def test_a_nan_in_every_kind(tmp_path, kind):
    values = VALUES.astype(np.float32)
    values[2, 5, 3, 1] = np.nan
    path = write(tmp_path / f"x{kind}", values)
    place = rf"x\{kind}.*, sequence 2, frame 5: NaN at row 3, column 1"
    for check in (None, "none"):
        with pytest.raises(DataError, match=place):
            arrays(path, axes="NTHW", check_files=check).read(2, [4, 5])


@pytest.mark.parametrize("kind", KINDS[1:])
def test_one_of_several_arrays(tmp_path, kind):
    path = tmp_path / f"x{kind}"
    other = VALUES[:, :, :4, :4]
    match kind:
        case ".npz":
            np.savez(path, snow=VALUES, rain=other, years=np.arange(4))
        case ".h5":
            with h5py.File(path, "w") as file:
                file["rain"], file["deep/snow"], file["years"] = other, VALUES, np.arange(4)
        case ".nc":
            with netCDF4.Dataset(path, "w") as file:
                for size in (4, 6, 8, 9):
                    file.createDimension(f"d{size}", size)
                file.createVariable("rain", "u1", ("d4", "d9", "d4", "d4"))[:] = other
                group = file.createGroup("deep")
                group.createVariable("snow", "u1", ("d4", "d9", "d8", "d6"))[:] = VALUES
        case ".zarr":
            group = zarr.create_group(path)
            group.create_array("rain", data=other)
            group.create_array("deep/snow", data=VALUES)
            group.create_array("years", data=np.arange(4))
    with pytest.raises(DataError, match="several arrays, --variable") as error:
        arrays(path, axes="NTHW")
    assert "snow [4, 9, 8, 6]" in str(error.value) and "years" not in str(error.value)
    name = "snow" if kind == ".npz" else "/deep/snow"
    frames = arrays(path, axes="NTHW", variable=name)
    np.testing.assert_array_equal(frames.read(3, [8])[..., 0], VALUES[3, [8]])
    assert len(frames.notes) == 1
    with pytest.raises(DataError, match="no array 'hail'; it holds"):
        arrays(path, axes="NTHW", variable="hail")


def test_the_only_array_of_enough_axes_is_noted(tmp_path):
    np.savez(tmp_path / "x.npz", clip=VALUES[0], times=np.arange(9))
    frames = arrays(tmp_path / "x.npz")
    assert any("the only array of enough axes, clip, is read" in note for note in frames.notes)


def test_dimension_names_give_the_axes(tmp_path):
    swapped = VALUES.transpose(1, 0, 3, 2)  # time, sample, lon, lat
    with netCDF4.Dataset(tmp_path / "x.nc", "w") as file:
        for name, size in zip(("time", "member", "x", "y"), swapped.shape):
            file.createDimension(name, size)
        file.createVariable("rain", "u1", ("time", "member", "x", "y"))[:] = swapped
    with h5py.File(tmp_path / "x.h5", "w") as file:
        dataset = file.create_dataset("rain", data=swapped)
        for axis, name in zip(dataset.dims, ("time", "sequence", "easting", "northing")):
            axis.label = name
    zarr.create_array(tmp_path / "x.zarr", data=swapped, dimension_names=["t", "n", "lon", "lat"])
    old = zarr.create_array(tmp_path / "old.zarr", data=swapped, zarr_format=2)
    old.attrs["_ARRAY_DIMENSIONS"] = ["time", "batch", "col", "row"]
    for name in ("x.nc", "x.h5", "x.zarr", "old.zarr"):
        frames = arrays(tmp_path / name)
        np.testing.assert_array_equal(frames.read(3, [8])[..., 0], VALUES[3, [8]])
        assert any("read as TNWH" in note for note in frames.notes)


def test_unknown_dimension_names_are_shown(tmp_path):
    with netCDF4.Dataset(tmp_path / "x.nc", "w") as file:
        for name, size in (("time", 9), ("level", 5), ("y", 8), ("x", 6)):
            file.createDimension(name, size)
        file.createVariable("rain", "u1", ("time", "level", "y", "x"))
    with pytest.raises(DataError, match="time, level, y, x"):
        arrays(tmp_path / "x.nc")


@pytest.mark.parametrize("kind", [".nc", ".h5", ".zarr"])
def test_packed_values_with_missing_ones(tmp_path, kind):
    path = tmp_path / f"x{kind}"
    packed = VALUES[0].astype(np.int16)
    packed[4, 2, 3] = -1
    attributes = {"_FillValue": -1, "scale_factor": 0.5, "add_offset": -32.0, "units": "dBZ"}
    if kind == ".nc":
        with netCDF4.Dataset(path, "w") as file:
            for name, size in zip("tyx", packed.shape):
                file.createDimension(name, size)
            variable = file.createVariable("rain", "i2", tuple("tyx"), fill_value=-1)
            variable.set_auto_maskandscale(False)
            variable.setncatts({k: v for k, v in attributes.items() if k != "_FillValue"})
            variable[:] = packed
    elif kind == ".h5":
        with h5py.File(path, "w") as file:
            file["rain"] = packed
            file["rain"].attrs.update(attributes)
    else:
        zarr.create_group(path).create_array("rain", data=packed, attributes=attributes)
    expected = np.where(packed == -1, np.nan, packed * 0.5 - 32).astype(np.float32)
    for check in (None, "none"):
        frames = arrays(path, axes="THW", check_files=check)
        assert frames.dtype == np.float32 and frames.unit == "dBZ" and frames.nan_is_missing
        np.testing.assert_array_equal(frames.read(0, range(9))[..., 0], expected)
        assert any("missing are read as NaN" in note for note in frames.notes)
        assert any("scale_factor" in note for note in frames.notes)


def test_unsigned_and_plain_netcdf_values_stay_as_they_are(tmp_path):
    with netCDF4.Dataset(tmp_path / "x.nc", "w", format="NETCDF3_CLASSIC") as file:
        for name, size in zip("tyx", VALUES[0].shape):
            file.createDimension(name, size)
        variable = file.createVariable("rain", "i1", tuple("tyx"))
        variable.setncattr("_Unsigned", "true")
        variable[:] = VALUES[0]
    frames = arrays(tmp_path / "x.nc")
    assert frames.dtype == np.uint8 and not frames.nan_is_missing
    np.testing.assert_array_equal(frames.read(0, range(9))[..., 0], VALUES[0])


def test_chunks_of_zarr_that_are_not_there_are_counted(tmp_path):
    zarr.create_array(tmp_path / "x.zarr", data=VALUES[0] + np.uint8(1), chunks=(3, 8, 6))
    (tmp_path / "x.zarr/c/1/0/0").unlink()
    frames = arrays(tmp_path / "x.zarr")
    assert any("not stored, read as 0: 1 of 3" in note for note in frames.notes)


def test_a_folder_of_files(tmp_path):
    for name, number in (("clip10.npy", 2), ("clip9.npy", 1), ("more/clip1.h5", 3)):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        write(tmp_path / name, VALUES[number])
    (tmp_path / "notes.txt").write_text("?")
    frames = arrays(tmp_path)
    assert list(frames.names) == ["clip9", "clip10", "more/clip1"]
    for sequence in range(3):
        expected = VALUES[sequence + 1, 2:5]
        np.testing.assert_array_equal(frames.read(sequence, [2, 3, 4])[..., 0], expected)
    assert any("files ignored that are no array files: 1" in note for note in frames.notes)
    assert any("axes read as THW: 3 arrays" in note for note in frames.notes)
    assert arrays(tmp_path, sequences=(1, 3)).names == ["clip10", "more/clip1"]
    write(tmp_path / "odd.npy", VALUES[0, :, :5])
    with pytest.raises(DataError, match=r"odd\.npy: frames of 5x6x1 .* but .*clip9\.npy has 8x6x1"):
        arrays(tmp_path)
    assert arrays(tmp_path, size=(4, 4)).read(3, [1]).shape == (1, 4, 4, 1)


@pytest.mark.parametrize("kind", [".npy", ".zarr"])
def test_a_file_that_is_linked_to_counts_once(tmp_path, kind):
    (tmp_path / "test").mkdir()
    write(tmp_path / f"b{kind}", VALUES[0])
    (tmp_path / f"a{kind}").symlink_to(f"b{kind}")
    (tmp_path / f"test/c{kind}").symlink_to(f"../a{kind}")
    count = 2
    if kind == ".npy":
        (tmp_path / "test/d.npy").hardlink_to(tmp_path / "b.npy")
        count = 3
    frames = arrays(tmp_path, axes="THW")
    assert list(frames.names) == ["b"]
    assert frames.notes[0].startswith(
        f"links to array files that are listed already, left out: {count}, e.g. "
    )
    (tmp_path / f"broken{kind}").symlink_to("nowhere")
    with pytest.raises(DataError, match="broken"):
        arrays(tmp_path, axes="THW")


def test_a_folder_of_one_frame_files(tmp_path):
    for folder, number in (("a", 1), ("b", 2)):
        (tmp_path / folder).mkdir()
        for time in range(9):
            np.save(tmp_path / folder / f"f{time + 5}.npy", VALUES[number, time])
    frames = arrays(tmp_path, axes="HW")
    assert list(frames.names) == ["a", "b"] and frames.lengths == [9, 9]
    region = slice(0, 3), slice(2, 4)
    read = frames.read(1, [0, 8, 4], region)[..., 0]
    np.testing.assert_array_equal(read, VALUES[2, [0, 8, 4]][:, *region])
    (tmp_path / "b/f7.npy").write_bytes(b"")
    with pytest.raises(DataError, match=r"f7\.npy"):
        arrays(tmp_path, axes="HW")
    frames = arrays(tmp_path, axes="HW", on_bad_frame="skip")
    assert list(frames.bad[1]) == [2] and "f7.npy" in frames.bad[1][2]
    assert "axes read as HW: 9 arrays" in arrays(tmp_path / "a").notes[0]


def test_one_frame_of_each_sequence_a_file(tmp_path):
    for time in range(9):
        np.save(tmp_path / f"{time}.npy", VALUES[:, time])
    frames = arrays(tmp_path, axes="NHW", sequences=(1, 4))
    assert frames.lengths == [9, 9, 9]
    np.testing.assert_array_equal(frames.read(1, range(9))[..., 0], VALUES[2])


def test_frames_of_unlike_size_are_resized_one_by_one(tmp_path):
    for time in range(4):
        np.save(tmp_path / f"{time}.npy", VALUES[0, 0, : 8 - time])
    frames = arrays(tmp_path, size=(8, 6), axes="HW", on_bad_frame="skip")
    assert frames.read(0, range(4)).shape == (4, 8, 6, 1) and not frames.bad


def test_folders_named_as_parts(tmp_path):
    for name in ("train", "val"):
        (tmp_path / name).mkdir()
        write(tmp_path / name / "x.npy")
    frames = arrays(tmp_path, axes="NTHW")
    assert frames.splits == ["train"] * 4 + ["val"] * 4
    assert frames.names[4] == "val/x[0]"


@pytest.mark.parametrize("kind", [".npy", ".npz", ".nc"])
def test_more_files_than_are_kept_open(tmp_path, kind, monkeypatch):
    monkeypatch.setattr(OpenFiles.__init__, "__defaults__", (3, 2**30))
    for number in range(12):
        write(tmp_path / f"{number}{kind}", VALUES[number % 4])
    frames = arrays(tmp_path, check_files="none")
    descriptors = Path("/proc/self/fd")
    before = len(list(descriptors.iterdir())) if descriptors.exists() else 0

    def right(n: int) -> bool:
        return np.array_equal(frames.read(n % 12, [n % 9])[0, ..., 0], VALUES[n % 4, n % 9])

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(right, range(300)))
    if before:
        assert len(list(descriptors.iterdir())) - before < 8


@contextlib.contextmanager
def little_memory() -> Iterator[None]:
    """Python's own parser may take some MB on a hostile header, but nothing like the data."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < 20e6
    finally:
        tracemalloc.stop()


def header(descr: object = "<f4", shape: object = (9, 8, 6), data: bytes = bytes(1728)) -> bytes:
    """A .npy file by hand."""
    text = repr({"descr": descr, "fortran_order": False, "shape": shape}).encode()
    text += b" " * (-(len(text) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + data


def saved(array: object, save=np.save) -> bytes:
    buffer = io.BytesIO()
    save(buffer, array)
    return buffer.getvalue()


def member(data: bytes) -> bytes:
    """A .npz file with one member."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("x.npy", data)
    return buffer.getvalue()


GOOD = saved(VALUES[0])
OBJECTS = saved(np.array([[[None]]]), lambda file, array: np.save(file, array, allow_pickle=True))
DAMAGED = {
    "objects.npy": (OBJECTS, "never unpickled"),
    "pickle.npy": (pickle.dumps(VALUES), "a pickle, which is never loaded"),
    "zip.npy": (saved(VALUES, np.savez), "zip file"),
    "text.npy": (b"1,2,3\n", "no array in NumPy's"),
    "empty.npy": (b"", "empty"),
    "short.npy": (GOOD[:-1], "truncated"),
    "cut.npy": (GOOD[:40], "damaged header"),
    "absurd.npy": (header(shape=(10**15, 64, 64)), "truncated"),
    "overflow.npy": (header(shape=(2**63, 2**63, 4)), "truncated"),
    "negative.npy": (header(shape=(-1, 8, 6)), "damaged header"),
    "fraction.npy": (header(shape=(9.5, 8, 6)), "damaged header"),
    "none.npy": (header(shape=(9, 0, 6)), "length 0"),
    "call.npy": (GOOD[:10] + b"__import__('os').system('true')".ljust(118) + GOOD[128:], "damaged"),
    "long.npy": (b"\x93NUMPY\x02\x00\xff\xff\xff\xff" + bytes(100), "damaged header"),
    "future.npy": (b"\x93NUMPY\x09\x00" + GOOD[8:], "format"),
    "nested.npy": (GOOD[:10] + (b"(" * 118) + GOOD[128:], "damaged"),
    "structure.npy": (header(descr=[("a", "<f4")]), "cannot be read as pixels"),
    "text.npz": (b"1,2,3\n", "cannot be read"),
    "npy.npz": (GOOD, "cannot be read"),
    "objects.npz": (member(OBJECTS), "never unpickled"),
    "absurd.npz": (member(header(shape=(10**15, 64, 64))), "damaged"),
    "short.npz": (member(GOOD[:-5]), "damaged"),
    "cut.npz": (saved(VALUES, np.savez)[:-30], "cannot be read"),
    "none.npz": (saved(VALUES, lambda file, _: np.savez(file)), "holds none"),
    "text.h5": (b"1,2,3\n", "cannot be read"),
    "empty.h5": (b"", "cannot be read"),
    "text.nc": (b"1,2,3\n", "cannot be read"),
    "text.png": (b"1,2,3\n", r"known are \.npy"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_damage_is_one_line_and_takes_no_memory(tmp_path, name):
    data, match = DAMAGED[name]
    path = tmp_path / name
    path.write_bytes(data)
    with little_memory(), pytest.raises(DataError, match=match) as error:
        arrays(path)
    assert str(path) in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("kind", [".h5", ".nc", ".npz", ".npy"])
def test_a_truncated_file(tmp_path, kind):
    rng = np.random.default_rng(0)
    path = write(tmp_path / f"x{kind}", rng.integers(0, 255, (40, 64, 64), np.uint8))
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 2 // 3])
    with pytest.raises(DataError, match=rf"x\{kind}"):
        arrays(path)


@pytest.mark.parametrize("kind", [".h5", ".npz", ".zarr"])
def test_damaged_values_are_met_before_training(tmp_path, kind):
    rng = np.random.default_rng(0)
    path = write(tmp_path / f"x{kind}", rng.integers(0, 99, (40, 64, 64), np.uint8))
    file = next((path / "rain/c").rglob("0")) if kind == ".zarr" else path
    if file.is_dir():
        file = next(each for each in file.rglob("*") if each.is_file())
    data = bytearray(file.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 4000] = bytes(4000)
    file.write_bytes(data)
    with pytest.raises(DataError, match=rf"x\{kind}"):
        arrays(path, check_files="all")


def test_a_zip_that_claims_more_than_it_can_hold(tmp_path):
    """Sizes in the directory of a zip file are no more to be trusted than those in a header."""
    data = bytearray(member(header(shape=(2**20, 32, 32), data=b"")))
    size = 2**32 - 2**20
    directory = data.rindex(b"PK\x01\x02")
    data[directory + 24 : directory + 28] = struct.pack("<I", size)
    (tmp_path / "x.npz").write_bytes(data)
    with little_memory(), pytest.raises(DataError, match=r"x\.npz"):
        arrays(tmp_path / "x.npz")


def test_absurd_shapes_in_other_files(tmp_path):
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_dataset("a", (10**15, 9, 64, 64), "u1", chunks=(1, 9, 64, 64))
        file.create_dataset("b", (9, 10**6, 10**6), "u1", chunks=(1, 64, 64))
    group = zarr.create_group(tmp_path / "x.zarr")
    group.create_array("a", shape=(10**6, 10**7, 64), chunks=(10**6, 10**6, 64), dtype="u1")
    for name, variable, axes in (
        ("x.h5", "a", "NTHW"),
        ("x.h5", "b", "THW"),
        ("x.zarr", "a", "THW"),
    ):
        with pytest.raises(DataError, match="cannot be right"):
            arrays(tmp_path / name, variable=variable, axes=axes)


def test_files_that_are_not_there(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "x.zarr").mkdir()
    (tmp_path / "x.h5").mkdir()
    (tmp_path / "y.zarr").write_text("")
    for name, match in (
        ("gone.npy", "No such file"), ("empty", "no array files"), ("x.zarr", "x.zarr: "),
        ("x.h5", "no array files"), ("y.zarr", "is a file"), ("a\0b.npy", "null"),
    ):  # fmt: skip
        with pytest.raises(DataError, match=match):
            arrays(tmp_path / name)
    with pytest.raises(DataError, match="known are"):
        (tmp_path / "x.gz").write_bytes(gzip.compress(GOOD))
        arrays(tmp_path / "x.gz")


def test_a_variable_of_a_file_with_one_array(tmp_path):
    path = write(tmp_path / "x.npy", VALUES[0])
    with pytest.raises((DataError, ConfigError), match="holds one array"):
        arrays(path, variable="rain")


@pytest.mark.parametrize("library", ["h5py", "netCDF4", "zarr"])
def test_a_library_that_is_not_installed(tmp_path, monkeypatch, library):
    path = write(tmp_path / {"h5py": "x.h5", "netCDF4": "x.nc", "zarr": "x.zarr"}[library])
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(DataError, match=r"pip install 'jaxconvlstm\[arrays\]'"):
        arrays(path, axes="NTHW")


def test_a_big_hdf5_file_is_read_window_by_window(tmp_path):
    """Bigger than what may be kept: only the chunks of a window come into memory."""
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_dataset("x", (20000, 64, 64), "f4", chunks=(20, 64, 64))[19999] = 1
    with little_memory():
        frames = arrays(tmp_path / "x.h5", check_files="none", cache=0.01)
        assert frames.read(0, range(19980, 20000)).sum() == 64 * 64
    assert library_arrays.LIBRARY_LOCK.acquire(timeout=1)
    library_arrays.LIBRARY_LOCK.release()


@pytest.mark.parametrize("mark", ["_FillValue", "missing_value"])
@pytest.mark.parametrize("kind", [".h5", ".zarr"])
def test_marks_of_missing_values(tmp_path, kind, mark):
    path = write(tmp_path / f"x{kind}", VALUES[0].astype(np.float32))
    value = float(VALUES[0, 1, 2, 3])
    if kind == ".h5":
        with h5py.File(path, "a") as file:
            file["rain"].attrs[mark] = np.float32(value)
    else:
        zarr.open_group(path)["rain"].attrs[mark] = value
    frames = arrays(path, axes="THW", nan="mask")
    assert frames.nan_is_missing
    expected = np.where(VALUES[0] == value, np.nan, VALUES[0].astype(np.float32))
    np.testing.assert_array_equal(frames.read(0, range(9))[..., 0], expected)


@pytest.mark.parametrize("fill", [-9999.0, 0.0])
@pytest.mark.parametrize("by", ["xarray", "others"])
def test_the_fill_value_of_zarr_2(tmp_path, by, fill):
    values = VALUES[0].astype(np.float32)
    values[:, 2, 3] = fill
    array = zarr.create_array(tmp_path / "x.zarr", data=values, fill_value=fill, zarr_format=2)
    if by == "xarray":
        array.attrs["_ARRAY_DIMENSIONS"] = ["time", "lat", "lon"]
    frames = arrays(tmp_path / "x.zarr", axes="THW", nan="mask")
    assert frames.nan_is_missing == (by == "xarray" or fill != 0)
    assert np.isnan(frames.read(0, [1])[0, 2, 3, 0]) == frames.nan_is_missing
    said = [note for note in frames.notes if f"its fill_value, {fill}, is taken to mark" in note]
    assert len(said) == frames.nan_is_missing


def test_the_fill_value_of_xarray_in_zarr_3(tmp_path):
    values = VALUES[0].astype(np.float32)
    array = zarr.create_array(tmp_path / "x.zarr", data=values)
    array.attrs["_FillValue"] = base64.standard_b64encode(struct.pack("<d", 7)).decode()
    frames = arrays(tmp_path / "x.zarr", axes="THW", nan="mask")
    expected = np.where(values == 7, np.nan, values)
    np.testing.assert_array_equal(frames.read(0, range(9))[..., 0], expected)


def one_frame_files(folder: Path, names: list[str]) -> Path:
    folder.mkdir()
    for number, name in enumerate(names):
        np.save(folder / f"{name}.npy", np.full((4, 4), number, np.uint8))
    return folder


def test_gaps_in_the_numbers_of_one_frame_files(tmp_path):
    folder = one_frame_files(tmp_path / "a", [f"f{n:03d}" for n in range(9) if n not in (4, 5)])
    frames = arrays(folder, axes="HW")
    assert frames.gaps == {0: [4]}
    said = "gaps in numbering: 1 (2 frames missing), e.g. before a/f006.npy; no window crosses one"
    assert any(note.startswith(said) for note in frames.notes)
    allowed = arrays(folder, axes="HW", allow_gaps=True)
    assert allowed.gaps == {} and any("windows may cross them" in note for note in allowed.notes)


def test_names_of_one_frame_files_as_times(tmp_path):
    names = ["010220 1200", "010220 1300", "020120 1100", "020120 1000"]
    folder = one_frame_files(tmp_path / "a", names)
    (folder / "020120 1000.npy").write_bytes(b"")
    frames = arrays(folder, axes="HW", time_format="%d%m%y %H%M", on_bad_frame="skip")
    assert frames.gaps == {0: [2]} and list(frames.bad[0]) == [0]
    assert frames.read(0, range(1, 4))[:, 0, 0, 0].tolist() == [2, 0, 1]
    with pytest.raises(ConfigError, match="--time-format: has no effect"):
        arrays(np.zeros((5, 4, 4)), time_format="%Y")


@pytest.mark.parametrize("kind", [".h5", ".nc", ".zarr"])
def test_gaps_in_a_time_coordinate(tmp_path, kind):
    path = write(tmp_path / f"x{kind}", VALUES[0])
    times = np.array([0, 1, 2, 3, 7, 8, 9, 10, 11]) / 12
    if kind == ".h5":
        with h5py.File(path, "a") as file:
            file["time"] = times
            for axis, label in enumerate(("time", "lat", "lon")):
                file["rain"].dims[axis].label = label
    elif kind == ".nc":
        with netCDF4.Dataset(path, "a") as file:
            file.createVariable("time", "f8", ("time",))[:] = times
    else:
        group = zarr.open_group(path)
        group["rain"].attrs["_ARRAY_DIMENSIONS"] = ["time", "lat", "lon"]
        group.create_array("time", data=times)
    frames = arrays(path)
    assert frames.gaps == {0: [4]}
    said = "gaps in the time coordinate: 1 (3 frames missing), e.g. before frame 4 of "
    assert any(note.startswith(said) for note in frames.notes)
    assert arrays(path, allow_gaps=True).gaps == {}


def test_a_time_coordinate_that_does_not_rise_is_noted(tmp_path):
    path = write(tmp_path / "x.nc", VALUES[0])
    with netCDF4.Dataset(path, "a") as file:
        file.createVariable("time", "i4", ("time",))[:] = [0, 1, 1, 2, 3, 4, 5, 6, 7]
    frames = arrays(path)
    assert frames.gaps == {} and any("time coordinates that do not rise" in n for n in frames.notes)


@pytest.mark.parametrize("kind", KINDS)
def test_a_pipe_is_not_waited_for(tmp_path, kind):
    os.mkfifo(tmp_path / f"x{kind}")
    for source in (tmp_path, tmp_path / f"x{kind}"):
        with pytest.raises(DataError, match=f"x{kind}: cannot be read: not an ordinary file"):
            arrays(source)
