"""HDF5 files of weather services are read in their unit, by the services' own conventions."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from jaxconvlstm.config.data import DataConfig
from jaxconvlstm.data.dataset import guess_dataset
from jaxconvlstm.data.sources.arrays.array_frames import ArrayFrames
from jaxconvlstm.errors import DataError

NAN = np.nan
STORED = np.array([[0, 1, 2], [100, 254, 255]], np.uint8)


def frames_in(folder: Path, **options: Any) -> ArrayFrames:
    return ArrayFrames(folder, DataConfig(dataset="array", data=str(folder), **options))


def first(folder: Path, **options: Any) -> np.ndarray:
    return frames_in(folder, **options).read(0, [0])[0, :, :, 0]


def write_odim(
    path: Path, images: dict[str, dict[str, Any]], stored: np.ndarray = STORED, own: bool = False
) -> None:
    """One dataset an image, with the attributes of its `what`, or of that of its `data1`."""
    path.parent.mkdir(exist_ok=True)
    with h5py.File(path, "w") as file:
        file.attrs["Conventions"] = np.bytes_("ODIM_H5/V2_2")
        for number, (quantity, what) in enumerate(images.items(), start=1):
            group = f"dataset{number}"
            file[f"{group}/data1/data"] = stored
            file[f"{group}/quality1/data"] = np.zeros_like(stored)
            place = file.require_group(f"{group}/data1/what" if own else f"{group}/what")
            place.attrs.update({"quantity": np.bytes_(quantity), **what})


REFLECTIVITY = {"gain": 0.5, "offset": -32.0, "nodata": 255.0, "undetect": 0.0}


@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("quantity, nothing, unit", [("DBZH", -30, "dBZ"), ("RATE", 0, "mm/h")])
def test_odim_gain_offset_and_codes(
    tmp_path: Path, quantity: str, nothing: float, unit: str, own: bool
) -> None:
    folder = tmp_path / "radar"
    for minute in (0, 5):
        images = {quantity: REFLECTIVITY, "QIND": {}}
        write_odim(folder / f"2021070412{minute:02d}.h5", images, own=own)
    assert guess_dataset(str(folder)) == "array"
    frames = frames_in(folder)
    expected = [[nothing, -31.5, -31], [18, 95, NAN]]
    np.testing.assert_array_equal(frames.read(0, [0])[0, :, :, 0], expected)
    assert frames.unit == unit and frames.lengths == [2] and frames.nan_is_missing
    assert any(f"ODIM_H5: {quantity}, undetect is {nothing} {unit}" in n for n in frames.notes)


def test_odim_codes_that_are_not_given_are_not_there(tmp_path: Path) -> None:
    stored = np.array([[0.0, 1.5], [NAN, 255.0]], np.float32)
    write_odim(tmp_path / "a" / "1.hdf", {"ACRR": {}}, stored)
    np.testing.assert_array_equal(first(tmp_path / "a"), stored)


def test_of_several_odim_quantities_one_is_chosen(tmp_path: Path) -> None:
    folder = tmp_path / "a"
    write_odim(folder / "1.h5", {"DBZH": REFLECTIVITY, "VRAD": {"nodata": 255.0, "undetect": 0.0}})
    with pytest.raises(DataError, match=r"dataset1/data1/data \[2, 3\] DBZH.* VRAD"):
        frames_in(folder)
    for variable in ("VRAD", "dataset2/data1/data"):
        values = first(folder, variable=variable)
        np.testing.assert_array_equal(values, [[NAN, 1, 2], [100, 254, NAN]])


def write_knmi(path: Path, formula: str = "GEO=0.01*PV+0.0") -> None:
    path.parent.mkdir(exist_ok=True)
    with h5py.File(path, "w") as file:
        file.require_group("overview")
        file["image1/image_data"] = np.array([[0, 7], [65534, 65535]], np.uint16)
        file["image1"].attrs["image_geo_parameter"] = np.bytes_("ACCUMULATED_PRECIPITATION_[MM]")
        calibration = file.require_group("image1/calibration").attrs
        calibration["calibration_formulas"] = np.bytes_(formula)
        calibration["calibration_missing_data"] = np.array([65535], np.int32)
        calibration["calibration_out_of_image"] = np.array([65534], np.int32)


def test_knmi_formula_and_codes(tmp_path: Path) -> None:
    write_knmi(tmp_path / "a" / "RAD_NL25_201008260000.h5")
    frames = frames_in(tmp_path / "a")
    values = frames.read(0, [0])[0, :, :, 0]
    np.testing.assert_allclose(values, [[0, 0.07], [NAN, NAN]], rtol=1e-6)
    assert frames.unit == "mm"


def test_a_knmi_formula_that_is_not_known_is_said(tmp_path: Path) -> None:
    write_knmi(tmp_path / "a" / "1.h5", "GEO=LOG(PV)")
    frames = frames_in(tmp_path / "a")
    assert frames.unit is None and frames.dtype == np.uint16
    assert any("GEO=LOG(PV)' is not known" in note for note in frames.notes)


def test_the_kind_of_data_is_what_a_folder_holds(tmp_path: Path) -> None:
    for names, kind in (
        (["a.h5", "b.h5"], "array"),
        (["x/a.mp4"], "video"),
        (["a.h5", "x/b.png"], "folder"),
        (["a.h5", "b.mp4"], "folder"),
        (["x.zarr/0.0"], "array"),
        (["a.txt"], "folder"),
    ):
        place = tmp_path / "-".join(names).replace("/", "_")
        for name in names:
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            (place / name).touch()
        assert guess_dataset(str(place)) == kind, names
