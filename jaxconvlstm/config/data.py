"""Options of the data: where frames come from, and how windows are cut, divided, scaled, changed.

Each part is a dataclass of its own, which is what the code that needs it takes; `DataConfig` is all
of them at once, with flat names.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, Literal

from jaxconvlstm.config.options import Options, flag
from jaxconvlstm.errors import ConfigError

LARGEST_FRAME = 89_478_485
"""Most pixels of a frame: as many as Pillow decodes of a picture."""


@dataclasses.dataclass(frozen=True)
class SourceOptions(Options):
    """Where frames come from, and how each is read."""

    dataset: Literal[
        "moving-squares", "moving-mnist", "moving-lines", "folder", "array", "video"
    ] = "moving-squares"
    """Kind of data: generated clips of moving squares, of moving digits (from --data) or of growing
    lines; a folder of pictures (or a path list); arrays (.npy, .npz, HDF5, netCDF, Zarr); a video
    file or a folder of them."""
    data: str | None = None
    """Folder or file. Of pictures: one sub-folder per sequence, one flat folder, or a path list. Of
    digits for moving-mnist: an IDX file or an array. Or the name of public data: mnist,
    moving-mnist-test."""
    digits: int = 2
    """Digits in a clip of moving-mnist."""
    labels: Literal["none", "folders"] = "none"
    """folders: predict the class of a sequence, which is the first folder that it lies in."""
    variable: str | None = None
    """Name of the array in a file that holds several."""
    axes: str | None = None
    """What an array's axes are, e.g. TNHW: N sequences, T time, H height, W width, C channels."""
    sequences: tuple[int, int] | None = None
    """Use only the sequences from the first number up to, not including, the second."""
    time_format: str | None = None
    """How file names tell the time, as in strftime, e.g. %Y%m%d%H%M; by default common forms are
    recognised."""
    allow_gaps: bool = False
    """Let windows cross gaps in the numbers or times of frames."""
    size: tuple[int, int] | None = None
    """Resize every frame to height and width."""
    fit: Literal["stretch", "crop"] = "stretch"
    """With --size: resize the whole frame, or its largest centred part of those proportions."""
    channels: Literal[1, 3] | None = None
    """1 reads frames as grey, 3 as colour; by default as the first picture is."""
    threshold: float | None = None
    """Values from this one on become 1, all others 0."""
    missing_value: float | None = None
    """Pixels of this value are left out of loss and scores."""
    nan: Literal["error", "mask"] = "error"
    """NaN and infinity in the data: stop and name the place, or treat them as missing values."""
    on_bad_frame: Literal["error", "skip"] = "error"
    """A frame that cannot be used: stop, or drop the windows that touch it, with a count."""
    check_files: Literal["all", "headers", "none"] | None = None
    """What to read of every file before training; by default all up to 10,000 frames, or up to a
    GiB of an array's floats."""
    cache: float = 1.0
    """Keep decoded frames in memory if all of them take no more than so many GiB; 0 keeps none."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_positive("digits", "size")
        self._check_not_negative("cache", unit=" GiB")
        if self.size is not None and math.prod(self.size) > LARGEST_FRAME:
            raise ConfigError(f"--size: more than the {LARGEST_FRAME:,} pixels that are allowed")
        for name in ("threshold", "missing_value"):
            if not math.isfinite(getattr(self, name) or 0.0):
                raise ConfigError(f"{flag(name)}: expected finite numbers")
        if self.fit == "crop" and self.size is None:
            raise ConfigError("--fit crop: needs --size H W, whose proportions it cuts out")
        if self.sequences is not None and not 0 <= self.sequences[0] < self.sequences[1]:
            first, last = self.sequences
            raise ConfigError(f"--sequences: expected 0 <= FIRST < STOP, got {first} {last}")
        if self.axes is not None and (
            set(self.axes) - set("NTHWC")
            or len(set(self.axes)) < len(self.axes)
            or not {"H", "W"} <= set(self.axes)
        ):
            raise ConfigError(
                f"--axes {self.axes}: expected each letter once, of N (sequences), T (time), "
                "H (height), W (width) and C (channels), with H and W among them"
            )


@dataclasses.dataclass(frozen=True)
class WindowOptions(Options):
    """How windows of frames are cut from sequences and read."""

    input_frames: int = 10
    """Frames given to the model in training."""
    target_frames: int = 5
    """Frames to predict in training, each fed back to predict the next."""
    eval_input_frames: int | None = None
    """Frames that eval.py gives to the model; by default as many as in training."""
    eval_steps: int | None = None
    """Frames that eval.py predicts; by default as many as in training."""
    horizon: int = 1
    """The first frame to score, counted from the last one given; those before it are predicted too,
    but neither trained on nor scored."""
    stride: int = 1
    """Frames between the starts of two windows."""
    frame_step: int = 1
    """Take every n-th frame of a sequence."""
    limit: int | None = None
    """Use at most this many windows of each split."""
    tile: tuple[int, int] | None = None
    """Evaluate in overlapping tiles of height and width, if whole frames need too much memory."""
    read_timeout: float = 25.0
    """Seconds after which a window that has not been read counts as never to come."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_positive(*WindowOptions.names())


@dataclasses.dataclass(frozen=True)
class Split(Options):
    """Fractions of the data for training, validation and test; they add up to at most 1."""

    train: float = 0.8
    val: float = 0.1
    test: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        fractions = dataclasses.asdict(self)
        for name, fraction in fractions.items():
            if not 0 <= fraction <= 1:
                raise ConfigError(f"--split {name}={fraction:g}: expected a fraction from 0 to 1")
        if sum(fractions.values()) > 1 + 1e-9:
            raise ConfigError(
                f"--split: the fractions add up to {sum(fractions.values()):g}, over 1"
            )

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Split":
        """From a JSON object; a fraction that is not named is 0."""
        return cls(0.0, 0.0, 0.0).updated(values, "split")

    @classmethod
    def parse(cls, parts: list[str]) -> "Split":
        """From `["train=0.8", "val=0.1", "test=0.1"]`; a fraction that is not named is 0."""
        fractions: dict[str, float] = {}
        for part in parts:
            name, _, value = part.partition("=")
            if name not in cls.names():
                raise ConfigError(f"--split {part}: expected train=, val= or test=")
            try:
                fractions[name] = float(value)
            except ValueError:
                raise ConfigError(f"--split {part}: {value!r} is not a number") from None
        return cls.from_json(fractions)


@dataclasses.dataclass(frozen=True)
class SplitOptions(Options):
    """Which data are held out for validation and test."""

    split: Split = Split()
    """Fractions for training, validation and test, e.g. train=0.8 val=0.1 test=0.1."""
    split_by: Literal["auto", "sequence", "time"] = "auto"
    """Hold out whole sequences, or the last part of each; auto: folders named train, val and test
    if there are; else sequences if there are ten."""
    split_file: str | None = None
    """JSON file that says which frames belong to which split, as a run folder's split.json does."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.split_file is not None and self.split_by != "auto":
            raise ConfigError("--split-by: --split-file says already which frames are where")


@dataclasses.dataclass(frozen=True)
class ScaleOptions(Options):
    """The scale that the network works on."""

    value_range: tuple[float, float] | None = None
    """Values that become 0 and 1; by default the whole range of 8- and 16-bit unsigned integers;
    for others 0 to 1 if the training data lie in it, else their smallest and largest value."""
    normalize: Literal["range", "min-max", "mean-std"] = "range"
    """Scale of the network: --value-range; each channel's smallest to largest value; or each
    channel's mean and standard deviation; both of the training data."""
    transform: Literal["none", "log"] = "none"
    """log: work on the logarithm of 1 + the distance from the lowest value, for skewed values."""
    unit: str | None = None
    """Unit of the values, to be printed, e.g. dBZ; by default what the file says."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.value_range is None:
            return
        low, high = self.value_range
        if not (math.isfinite(low) and math.isfinite(high)):
            raise ConfigError("--value-range: expected finite numbers")
        if not low < high:
            raise ConfigError(f"--value-range: expected LO below HI, got {low:g} {high:g}")
        largest = max(abs(low), abs(high))
        if largest > 1e38 or high - low < max(1e-30, 1e-6 * largest):
            raise ConfigError(
                f"--value-range: float32 cannot tell values from {low:g} to {high:g} apart"
            )


@dataclasses.dataclass(frozen=True)
class AugmentOptions(Options):
    """Random changes of the training windows."""

    crop: tuple[int, int] | None = None
    """Train on random crops of height and width; whole frames are evaluated."""
    crop_by: Literal["uniform", "signal"] = "uniform"
    """Draw crops anywhere alike, or more often where something stands out from the background."""
    flip: Literal["none", "horizontal", "vertical", "both"] = "none"
    """Mirror training windows at random."""
    rotate: bool = False
    """Turn training windows at random by 0, 90, 180 or 270 degrees (by 0 or 180, if not square)."""
    reverse: bool = False
    """Play training windows backwards at random, where motion looks alike both ways."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_positive("crop")
        if self.crop_by == "signal" and self.crop is None:
            raise ConfigError("--crop-by signal: needs --crop H W")


# Fields come in the order of the bases from the last one on.
@dataclasses.dataclass(frozen=True)
class DataConfig(AugmentOptions, ScaleOptions, SplitOptions, WindowOptions, SourceOptions):
    """Where the frames come from and how windows are cut from them."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.reverse and self.horizon > 1:
            raise ConfigError("--reverse: backwards, the frames before --horizon would be given")
        for name in ("missing_value", "nan", "value_range"):
            if self.threshold is not None and getattr(self, name) != getattr(DataConfig, name):
                raise ConfigError(f"--threshold: makes values 0 and 1, so it excludes {flag(name)}")
