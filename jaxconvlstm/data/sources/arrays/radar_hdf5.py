"""Conventions of weather services for HDF5 files: ODIM_H5 (OPERA) and KNMI's.

References:
  Michelson et al. 2021, "EUMETNET OPERA weather radar information model for implementation with
    the HDF5 file format", version 2.4: sections 4.3 to 4.5 (`what`, `quantity`), table 16.
  KNMI, "HDF5 Data Format Specification", TR-262, version 3.6: groups `imageN` and `calibration`.
"""

import dataclasses
import re
from typing import Any

import numpy as np

from jaxconvlstm.data.sources.arrays.library_arrays import Packing, attribute_number
from jaxconvlstm.data.sources.arrays.stored_array import choose_variable

_ODIM_DATA = re.compile(r"dataset\d+/data\d+/data")
_KNMI_DATA = re.compile(r"image\d+/image_data")
_KNMI_FORMULA = re.compile(r"GEO\s*=\s*([-+.\deE]+)\s*\*\s*PV\s*([-+]\s*[.\deE]+)?")
# Quantities of ODIM: unit, and the value where nothing was detected.
_RAIN = ("mm/h", 0.0)
_REFLECTIVITY = ("dBZ", -30.0)
_QUANTITIES: dict[str, tuple[str, float]] = {
    "RATE": _RAIN,
    "ACRR": ("mm", 0.0),
    **dict.fromkeys("TH TV DBZH DBZV".split(), _REFLECTIVITY),
    "ZDR": ("dB", np.nan),
    **dict.fromkeys("VRAD VRADH VRADV WRAD WRADH WRADV".split(), ("m/s", np.nan)),
    "KDP": ("degree/km", np.nan),
    "PHIDP": ("degree", np.nan),
    "HGHT": ("km", np.nan),
}
_QUALITIES = ("QIND", "BRDR", "CLASS")


@dataclasses.dataclass(frozen=True)
class RadarImage:
    """A dataset of a radar file, and how its values are read.

    Attributes:
      key: of the dataset.
      packing: scale, offset, missing codes, and what stands for codes of "nothing detected".
      unit: of the values; None if unknown.
      remarks: what was chosen and assumed.
    """

    key: str
    packing: Packing
    unit: str | None
    remarks: tuple[str, ...]


def find_radar_image(name: str, file: Any, variable: str | None) -> RadarImage | None:
    """The image of an ODIM or KNMI file; None if the file is neither.

    Args:
      name: of the file, for errors.
      file: the open file.
      variable: path of a dataset, or quantity such as "DBZH", as the user gave it.

    Raises:
      DataError: there is no such image, or several may be meant.
    """
    if _text(file.attrs.get("Conventions")).startswith("ODIM_H5"):
        return _odim(name, file, variable)
    if "overview" in file and "image1/image_data" in file:
        return _knmi(name, file, variable)
    return None


def _odim(name: str, file: Any, variable: str | None) -> RadarImage:
    found = _datasets(file, _ODIM_DATA)
    about = {key: _inherited(file, key) for key in found}
    quantities = {key: _text(about[key].get("quantity")) for key in found}
    shapes = {
        key: item.shape for key, item in found.items() if quantities[key] not in _QUALITIES
    } or {key: item.shape for key, item in found.items()}
    if variable is not None:
        shapes = {key: item.shape for key, item in found.items()}
        named = [key for key in found if quantities[key] == variable]
        variable = named[0] if len(named) == 1 else variable
    key, _ = choose_variable(name, shapes, variable, 2, dict(quantities))
    what, quantity = about[key], quantities[key]
    unit, nothing = _QUANTITIES.get(quantity, (None, np.nan))
    undetect = attribute_number(what.get("undetect"))
    nodata = attribute_number(what.get("nodata"))
    packing = Packing(
        fills=() if nodata is None else (nodata,),
        scale=_number(what.get("gain"), 1.0),
        offset=_number(what.get("offset"), 0.0),
        codes=() if undetect is None or undetect == nodata else ((undetect, nothing),),
        always=True,
    )
    echo = f"{nothing:g} {unit}" if np.isfinite(nothing) else "missing"
    said = f", undetect is {echo}" if packing.codes else ""
    return RadarImage(
        key, packing, unit, (f"by the convention of ODIM_H5: {quantity or 'no quantity'}{said}",)
    )


def _inherited(file: Any, key: str) -> dict[str, Any]:
    """The attributes of `what` groups from the root down to the dataset's own; the nearest win."""
    group = key.rpartition("/")[0]
    places = [group.rpartition("/")[0], group]
    attributes: dict[str, Any] = {}
    for place in places:
        if f"{place}/what" in file:
            attributes |= dict(file[f"{place}/what"].attrs)
    return attributes


def _knmi(name: str, file: Any, variable: str | None) -> RadarImage:
    found = _datasets(file, _KNMI_DATA)
    parameters = {
        key: _text(file[key.partition("/")[0]].attrs.get("image_geo_parameter")) for key in found
    }
    shapes = {key: item.shape for key, item in found.items()}
    key, _ = choose_variable(name, shapes, variable, 2, parameters)
    group = f"{key.partition('/')[0]}/calibration"
    calibration = dict(file[group].attrs) if group in file else {}
    formula = _text(calibration.get("calibration_formulas"))
    scale = _KNMI_FORMULA.fullmatch(formula.replace(" ", "").upper())
    fills = (
        attribute_number(calibration.get(f"calibration_{what}"))
        for what in ("missing_data", "out_of_image")
    )
    unit = re.search(r"\[(.+)\]", parameters[key])
    if scale is None:
        return RadarImage(
            key,
            Packing(),
            None,
            (f"KNMI's calibration {formula!r} is not known, so values are raw",),
        )
    packing = Packing(
        tuple(dict.fromkeys(fill for fill in fills if fill is not None)),
        float(scale[1]),
        float(scale[2] or 0),
        always=True,
    )
    shown = unit[1].lower().replace("dbz", "dBZ") if unit else None
    return RadarImage(key, packing, shown, (f"by the convention of KNMI: {formula}",))


def _datasets(file: Any, wanted: re.Pattern[str]) -> dict[str, Any]:
    found: dict[str, Any] = {}

    def visit(key: str, item: Any) -> None:
        if wanted.fullmatch(key) and getattr(item, "shape", None) is not None:
            found[key] = item

    file.visititems(visit)
    return found


def _number(value: Any, default: float) -> float:
    number = attribute_number(value)
    return default if number is None else float(number)


def _text(value: Any) -> str:
    if isinstance(value, np.ndarray) and value.size == 1:
        value = value.reshape(-1)[0]
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace").strip()
    return value.strip() if isinstance(value, str) else ""
