"""The axes of an array: sequences N, time T, height H, width W, channels C."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from jaxconvlstm.errors import ConfigError, DataError

MOST_CHANNELS = 4
"""A last axis up to this long is taken for channels."""
MOST_SEQUENCES = 10**7
MOST_FRAME_BYTES = 2**32

# Names of dimensions in netCDF, HDF5 and Zarr files. "height" may be an altitude too, but then
# another dimension is H as well, and the user is asked.
_NAMES = {
    "N": "n sample samples sequence sequences member members ensemble batch event case number "
    "realization realisation",
    "T": "t time times frame frames step date valid_time",
    "H": "h y lat latitude northing height row rows j projection_y_coordinate south_north",
    "W": "w x lon long longitude easting width column columns col cols i "
    "projection_x_coordinate west_east",
    "C": "c channel channels band bands",
}
_LETTERS = {name: letter for letter, names in _NAMES.items() for name in names.split()}
# Files that everybody has: their axes by name, length (None for any) and bytes of a value.
_KNOWN: dict[str, tuple[str, tuple[int | None, ...], int]] = {
    # The Moving MNIST test clips, or some of them.
    "mnist_test_seq.npy": ("TNHW", (20, None, 64, 64), 1)
}
_PROPOSALS = {
    2: ("HW",),
    3: ("THW", "HWC"),
    4: ("NTHW", "TNHW", "THWC", "TCHW"),
    5: ("NTHWC", "NTCHW", "TNHWC", "TNCHW"),
}


@dataclasses.dataclass(frozen=True)
class Layout:
    """An array's shape, and the letter of each of its axes."""

    shape: tuple[int, ...]
    axes: str

    def size(self, letter: str) -> int:
        """Length of an axis; 1 where the array has none of that letter."""
        return self.shape[self.axes.index(letter)] if letter in self.axes else 1

    @property
    def frame_shape(self) -> tuple[int, int, int]:
        """`(height, width, channels)`."""
        return self.size("H"), self.size("W"), self.size("C")

    def key(self, number: int, time: slice, rows: slice, columns: slice) -> tuple[int | slice, ...]:
        """The index that cuts frames of one sequence out of the array."""
        indices: dict[str, int | slice] = {
            "N": number,
            "T": time,
            "H": rows,
            "W": columns,
            "C": slice(None),
        }
        return tuple(indices[letter] for letter in self.axes)

    def arrange(self, cut: np.ndarray) -> np.ndarray:
        """The values at `key`, as `[time, height, width, channels]`."""
        return _transpose(cut, self.axes.replace("N", ""), "THWC")

    def view(self, array: np.ndarray) -> np.ndarray:
        """The whole array as `[sequence, time, height, width, channels]`, nothing copied."""
        return _transpose(array, self.axes, "NTHWC")


def _transpose(array: np.ndarray, axes: str, to: str) -> np.ndarray:
    """Moves axes, and adds those that are missing with length 1."""
    moved = array.transpose([axes.index(letter) for letter in to if letter in axes])
    missing = tuple(index for index, letter in enumerate(to) if letter not in axes)
    return np.expand_dims(moved, missing)


def find_layout(
    name: str,
    shape: Sequence[int],
    itemsize: int,
    axes: str | None,
    dimensions: Sequence[str] = (),
    one_frame_files: bool = False,
) -> Layout:
    """The axes of an array: as the user says, as the file names them, or by the shape.

    Args:
      name: of the array, for errors.
      shape: of the array.
      itemsize: bytes of one value.
      axes: as the user gave them.
      dimensions: the file's own names of the axes; empty for none.
      one_frame_files: whether the file is one of many, which may hold one frame each.

    Raises:
      ConfigError: `axes` does not fit the array.
      DataError: the axes are unclear, or an axis is empty or absurdly long.
    """
    shape = tuple(shape)
    shown = f"{name} {list(shape)}"
    if axes is None:
        axes = (
            _named(dimensions)
            or _of_known_file(name, shape, itemsize)
            or _by_shape(shape, one_frame_files)
        )
        if axes is None:
            raise DataError(f"{shown}: unclear what the axes are{_proposal(shape, dimensions)}")
    elif len(axes) != len(shape):
        raise ConfigError(f"--axes {axes}: {len(axes)} letters, but {shown} has {len(shape)} axes")
    if "T" not in axes and not one_frame_files:
        what = "single frames" if "N" in axes else "a single frame"
        raise DataError(
            f"{shown} with axes {axes}: {what} without time; a sequence of frames is needed "
            "(an axis T, or a folder of files of one frame each)"
        )
    layout = Layout(shape, axes)
    if 0 in shape:
        raise DataError(f"{shown}: no values, an axis has length 0")
    frame_bytes = int(np.prod(layout.frame_shape, dtype=object)) * itemsize
    if frame_bytes > MOST_FRAME_BYTES or layout.size("N") > MOST_SEQUENCES:
        raise DataError(f"{shown}: this cannot be right, read as {axes}")
    return layout


def _named(dimensions: Sequence[str]) -> str | None:
    letters = [_LETTERS.get(name.rpartition("/")[2].lower(), "") for name in dimensions]
    axes = "".join(letters)
    known = all(letters) and len(set(axes)) == len(axes) and {"H", "W"} <= set(axes)
    return axes if known else None


def _of_known_file(name: str, shape: tuple[int, ...], itemsize: int) -> str | None:
    """The axes that a well-known file has, if this is one, by its name and all that can be seen."""
    axes, sizes, known_itemsize = _KNOWN.get(Path(name).name, (None, (), 0))
    alike = len(sizes) == len(shape) and all(
        size in (None, found) for size, found in zip(sizes, shape)
    )
    return axes if alike and itemsize == known_itemsize else None


def _by_shape(shape: tuple[int, ...], one_frame_files: bool) -> str | None:
    with_channels = len(shape) >= 3 and shape[-1] <= MOST_CHANNELS
    if len(shape) == 2 and one_frame_files:
        return "HW"
    if len(shape) == 3:
        # In a folder, [480, 640, 3] is more likely one colour frame than 480 tiny ones.
        return None if with_channels and one_frame_files else "THW"
    return {4: "THWC", 5: "NTHWC"}.get(len(shape)) if with_channels else None


def _proposal(shape: tuple[int, ...], dimensions: Sequence[str]) -> str:
    """A hint at axes to try, by where a short axis may be the channels."""
    fits = [
        axes
        for axes in _PROPOSALS.get(len(shape), ())
        if "C" not in axes or shape[axes.index("C")] <= MOST_CHANNELS
    ]
    named = f" (named {', '.join(dimensions)})" if dimensions else ""
    if not fits:
        return f"{named}; expected 3 to 5 axes, e.g. --axes NTHW"
    return f"{named}; say so, e.g. {' or '.join(f'--axes {axes}' for axes in fits[:2])}"
