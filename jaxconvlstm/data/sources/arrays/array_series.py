"""Sequences, and the arrays that they are made of, for files and folders of files."""

import dataclasses
import itertools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from jaxconvlstm.data.sources.arrays.array_files import EXTENSIONS, is_array_file, open_array
from jaxconvlstm.data.sources.arrays.array_values import dtype_to_read
from jaxconvlstm.data.sources.arrays.axes import Layout, find_layout
from jaxconvlstm.data.sources.arrays.stored_array import StoredArray
from jaxconvlstm.data.sources.files import find_files
from jaxconvlstm.errors import DataError
from jaxconvlstm.messages import printable


@dataclasses.dataclass(frozen=True)
class Source:
    """An array, its axes, and the dtype that it is read as."""

    stored: StoredArray
    layout: Layout
    dtype: np.dtype[Any]
    remarks: tuple[str, ...]

    @classmethod
    def of(cls, stored: StoredArray, layout: Layout) -> "Source":
        """The array with the dtype that its values are read as.

        Raises:
          DataError: the values cannot be read.
        """
        dtype, remark = dtype_to_read(stored.name, stored.dtype)
        return cls(stored, layout, dtype, (*stored.remarks, *([remark] if remark else [])))

    @property
    def nbytes(self) -> int:
        """Bytes of the values, as they are stored."""
        return int(np.prod(self.layout.shape, dtype=object)) * self.stored.dtype.itemsize


@dataclasses.dataclass
class Series:
    """One or more sequences that lie in the same arrays.

    Attributes:
      name: of the file, folder or object, without extension.
      sources: one array with time in it; or one for each frame, None where it cannot be used.
      first, stop: the sequences along the axis N that are used.
      offset: how many of them the array no longer has, because only the others were loaded.
      bad: frames that cannot be used, and why.
      folder: of the file, below the folder that was given.
      files: names of the sources, in order, where each is a file of one frame.
    """

    name: str
    sources: list[Source | None]
    first: int = 0
    stop: int = 1
    offset: int = 0
    bad: dict[int, str] = dataclasses.field(default_factory=dict)
    folder: Path = Path()
    files: Sequence[str] = ()

    def __post_init__(self) -> None:
        self.stop = self.any_source.layout.size("N")

    @property
    def any_source(self) -> Source:
        """The first array that can be used."""
        return next(source for source in self.sources if source is not None)

    @property
    def whole(self) -> Source | None:
        """The array that holds all frames; None where each is an array of its own."""
        first = self.sources[0]
        return first if first is not None and "T" in first.layout.axes else None

    @property
    def length(self) -> int:
        """Number of frames of each sequence."""
        return len(self.sources) if self.whole is None else self.whole.layout.size("T")

    def names(self) -> Iterator[str]:
        """Name of each sequence."""
        if "N" not in self.any_source.layout.axes:
            return iter([self.name])
        return (f"{self.name}[{number}]" for number in range(self.first, self.stop))


def from_path(
    path: Path,
    axes: str | None,
    variable: str | None,
    on_bad_frame: Literal["error", "skip"],
) -> tuple[list[Series], list[str]]:
    """The sequences in a file, or in a folder of files, and notes on the files left out.

    Raises:
      ConfigError: the axes do not fit.
      DataError: a file is damaged, or it is unclear what it holds.
    """
    if path.is_dir() and path.suffix.lower() != ".zarr":
        return _from_folder(path, axes, variable, on_bad_frame)
    return [Series(printable(path.stem), [_open(path, axes, variable, False)])], []


def choose_from(found: list[Series], used: range) -> list[Series]:
    """Only the sequences of these numbers."""
    start = 0
    for series in found:
        length = series.stop
        series.first = min(max(used.start - start, 0), length)
        series.stop = max(min(used.stop - start, length), series.first)
        start += length
    return [series for series in found if series.first < series.stop]


def _from_folder(
    root: Path, axes: str | None, variable: str | None, on_bad_frame: Literal["error", "skip"]
) -> tuple[list[Series], list[str]]:
    found, notes = find_files(
        root, lambda entry: is_array_file(entry.name), "array files", EXTENSIONS
    )
    # In folders of one frame a file, the files of a folder are the frames of one sequence.
    one_frame = axes is not None and "T" not in axes
    series = []
    first: Source | None = None
    for folder, group in itertools.groupby(found, lambda file: file.parent):
        files = list(group)
        below = folder.relative_to(root)
        sources: list[Source | None] = []
        bad: dict[int, str] = {}
        for file in files:
            try:
                source = _open(file, axes, variable, True)
            except DataError as error:
                if not (one_frame and on_bad_frame == "skip"):
                    raise
                bad[len(sources)] = str(error)
                sources.append(None)
                continue
            if first is None:
                first, one_frame = source, "T" not in source.layout.axes
            if ("T" not in source.layout.axes) != one_frame:
                raise DataError(
                    f"{source.stored.name}: axes {source.layout.axes}, but "
                    f"{first.stored.name} has {first.layout.axes}"
                )
            sources.append(source)
        if not one_frame:
            stems = Counter(file.stem for file in files)
            series += [
                Series(_name(below / file.name, stems), [source], folder=below)
                for file, source in zip(files, sources)
            ]
        elif len(bad) < len(files):
            name = printable(root.resolve().name if folder == root else below)
            series.append(
                Series(name, sources, bad=bad, folder=below, files=[file.name for file in files])
            )
        else:
            raise DataError(f"{printable(folder)}: no file can be used, e.g. {bad[0]}")
    for each in series:
        _check_alike(each)
    return series, notes


def _name(path: Path, stems: Mapping[str, int]) -> str:
    """The path without extension, unless another file differs in nothing else."""
    return printable(path.with_suffix("") if stems[path.stem] == 1 else path)


def _open(path: Path, axes: str | None, variable: str | None, in_folder: bool) -> Source:
    stored = open_array(path, variable, None if axes is None else len(axes))
    layout = find_layout(
        stored.name, stored.shape, stored.dtype.itemsize, axes, stored.dimensions, in_folder
    )
    return Source.of(stored, layout)


def _check_alike(series: Series) -> None:
    """The files of one sequence must hold as many sequences each."""
    first = series.any_source
    for source in series.sources:
        if source is not None and source.layout.size("N") != first.layout.size("N"):
            raise DataError(
                f"{source.stored.name}: {source.layout.size('N')} sequences, but "
                f"{first.stored.name} has {first.layout.size('N')}"
            )
