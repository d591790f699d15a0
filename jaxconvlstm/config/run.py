"""The configuration of a run: frozen dataclasses, to and from JSON.

The field names are the flags of `train.py` (with dashes for underscores), and what stands in a run
folder's `config.json`. The help texts of the flags are the comments below each field.
"""

import dataclasses
import json
import math
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from jaxconvlstm.checks import check_choice, check_positive, per_layer
from jaxconvlstm.errors import ConfigError

FORMAT_VERSION = 4
CLASSIFIERS = ("convlstm-classifier", "cnn-lstm")
"""Models that name a class; the others predict frames."""
FORECASTERS = ("encoder-forecaster", "pyramid-forecaster")
"""Models whose forecast unrolls from a state alone: nothing is fed back."""
_RECURRENT = "features kernel_size layers peephole activation dropout recurrent_dropout remat dtype"
MODEL_SETTINGS = {
    "frame-predictor": f"{_RECURRENT} downsample output reach",
    "stacked": f"{_RECURRENT} output reach norm patch_size",
    "encoder-forecaster": f"{_RECURRENT} output patch_size",
    "pyramid-forecaster": f"{_RECURRENT} output",
    "seq2one-lstm": "dropout recurrent_dropout dtype",
    "convlstm-classifier": f"{_RECURRENT} downsample",
    "cnn-lstm": "",
}
"""Which fields of `ModelConfig` mean something for which model."""
_OUTPUTS = {
    "frame-predictor": ("frame", "change", "motion", "sigmoid"),
    "stacked": ("frame", "change", "sigmoid", "filter"),
    "encoder-forecaster": ("frame", "sigmoid"),
    "pyramid-forecaster": ("frame", "sigmoid"),
}
# So that a configuration of somebody else's asks for no network of absurd size.
_MOST = {"layers": 100, "reach": 1000, "patch_size": 1000, "features": 2**16, "kernel_size": 255}
LARGEST_FRAME = 89_478_485
"""Most pixels of a frame: as many as Pillow decodes of a picture."""


_DATASETS = Literal["moving-squares", "moving-mnist", "moving-lines", "folder", "array", "video"]


def flag(name: str) -> str:
    """The flag of a field: `input_frames` to `--input-frames`."""
    return "--" + name.replace("_", "-")


@dataclasses.dataclass(frozen=True)
class Split:
    """Shares of the data for training, validation and test; they add up to at most 1."""

    train: float = 0.8
    val: float = 0.1
    test: float = 0.1

    def __post_init__(self) -> None:
        shares = dataclasses.asdict(self)
        for name, share in shares.items():
            if not 0 <= share <= 1:
                raise ConfigError(f"--split {name}={share:g}: expected a share from 0 to 1")
        if sum(shares.values()) > 1 + 1e-9:
            raise ConfigError(f"--split: the shares add up to {sum(shares.values()):g}, over 1")

    @classmethod
    def parse(cls, parts: list[str]) -> "Split":
        """From `["train=0.8", "val=0.1", "test=0.1"]`; a share that is not named is 0."""
        shares = dict.fromkeys((field.name for field in dataclasses.fields(cls)), 0.0)
        for part in parts:
            name, _, value = part.partition("=")
            if name not in shares:
                raise ConfigError(f"--split {part}: expected train=, val= or test=")
            try:
                shares[name] = float(value)
            except ValueError:
                raise ConfigError(f"--split {part}: {value!r} is not a number") from None
        return cls(**shares)


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """Where the frames come from and how windows are cut from them."""

    dataset: _DATASETS = "moving-squares"
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
    time_format: str | None = None
    """How file names tell the time, as in strftime, e.g. %Y%m%d%H%M; by default common forms are
    recognised."""
    allow_gaps: bool = False
    """Let windows cross gaps in the numbers or times of frames."""
    size: tuple[int, int] | None = None
    """Resize every frame to height and width."""
    fit: Literal["stretch", "crop"] = "stretch"
    """With --size: resize the whole frame, or its largest centred part of those proportions."""
    crop: tuple[int, int] | None = None
    """Train on random crops of height and width; whole frames are evaluated."""
    crop_by: Literal["uniform", "signal"] = "uniform"
    """Draw crops anywhere alike, or more often where something stands out from the background."""
    tile: tuple[int, int] | None = None
    """Evaluate in overlapping tiles of height and width, if whole frames need too much memory."""
    flip: Literal["none", "horizontal", "vertical", "both"] = "none"
    """Mirror training windows at random."""
    rotate: bool = False
    """Turn training windows at random by 0, 90, 180 or 270 degrees (by 0 or 180, if not square)."""
    reverse: bool = False
    """Play training windows backwards at random, where motion looks alike both ways."""
    channels: Literal[1, 3] | None = None
    """1 reads frames as grey, 3 as colour; by default as the first picture is."""
    threshold: float | None = None
    """Values from this one on become 1, all others 0."""
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
    missing_value: float | None = None
    """Pixels of this value are left out of loss and scores."""
    nan: Literal["error", "mask"] = "error"
    """NaN and infinity in the data: stop and name the place, or treat them as missing values."""
    on_bad_frame: Literal["error", "skip"] = "error"
    """A frame that cannot be used: stop, or drop the windows that touch it, with a count."""
    split: Split = Split()
    """Shares for training, validation and test, e.g. train=0.8 val=0.1 test=0.1."""
    split_by: Literal["auto", "sequence", "time"] = "auto"
    """Hold out whole sequences, or the last part of each; auto: folders named train, val and test
    if there are; else sequences if there are ten."""
    split_file: str | None = None
    """JSON file that says which frames belong to which part, as a run folder's split.json does."""
    check_files: Literal["all", "headers", "none"] | None = None
    """What to read of every file before training; by default all up to 10,000 frames, or up to a
    GiB of an array's floats."""
    cache: float = 1.0
    """Keep decoded frames in memory if all of them take no more than so many GiB; 0 keeps none."""
    read_timeout: float = 25.0
    """Seconds after which a window that has not been read counts as never to come."""
    limit: int | None = None
    """Use at most this many windows of each split."""

    def __post_init__(self) -> None:
        check_choice("--dataset", self.dataset, typing.get_args(_DATASETS))
        names = ("input_frames", "target_frames", "eval_input_frames", "eval_steps", "horizon")
        for name in (*names, "stride", "frame_step", "limit", "digits"):
            value = getattr(self, name)
            if value is not None:
                check_positive(flag(name), value)
        for name in ("size", "crop", "tile"):
            for side in getattr(self, name) or ():
                check_positive(flag(name), side)
        if self.size is not None and math.prod(self.size) > LARGEST_FRAME:
            raise ConfigError(f"--size: more than the {LARGEST_FRAME:,} pixels that are allowed")
        numbers = (*(self.value_range or ()), self.missing_value or 0.0, self.threshold or 0.0)
        if not all(map(math.isfinite, numbers)):
            raise ConfigError(
                "--value-range, --missing-value and --threshold: expected finite numbers"
            )
        check_positive("--read-timeout", self.read_timeout)
        if not (self.cache >= 0 and math.isfinite(self.cache)):
            raise ConfigError(f"--cache: expected 0 or more GiB, got {self.cache:g}")
        self._check_pairs()
        if self.value_range is not None and not self.value_range[0] < self.value_range[1]:
            raise ConfigError(
                "--value-range: expected LO below HI, got "
                f"{self.value_range[0]:g} {self.value_range[1]:g}"
            )

    def _check_pairs(self) -> None:
        """Settings that mean nothing without, or beside, another."""
        if self.fit == "crop" and self.size is None:
            raise ConfigError("--fit crop: needs --size H W, whose proportions it cuts out")
        if self.crop_by == "signal" and self.crop is None:
            raise ConfigError("--crop-by signal: needs --crop H W")
        if self.reverse and self.horizon > 1:
            raise ConfigError("--reverse: backwards, the frames before --horizon would be given")
        if self.split_file is not None and self.split_by != "auto":
            raise ConfigError("--split-by: --split-file says already which frames are where")
        if self.threshold is not None:
            for name, value in (
                ("missing-value", self.missing_value),
                ("value-range", self.value_range),
                ("nan", None if self.nan == "error" else self.nan),
            ):
                if value is not None:
                    raise ConfigError(f"--threshold: makes values 0 and 1, so it excludes --{name}")
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
class ModelConfig:
    """The network."""

    model: Literal[
        "frame-predictor",
        "stacked",
        "encoder-forecaster",
        "pyramid-forecaster",
        "seq2one-lstm",
        "convlstm-classifier",
        "cnn-lstm",
    ] = "frame-predictor"
    """Architecture: encoder, ConvLSTM layers on the feature map, decoder; ConvLSTM layers on whole
    frames and a convolution over time; Shi et al. 2015; its variant with maps of several sizes; an
    LSTM between convolutions; or one of two classifiers."""
    features: tuple[int, ...] = (32,)
    """Hidden features of each ConvLSTM layer: one number for all, or one per layer."""
    kernel_size: tuple[int, ...] = (3,)
    """Kernel of each ConvLSTM layer, on the feature map: one number for all, or one per layer."""
    layers: int = 2
    """Number of ConvLSTM layers."""
    downsample: Literal[1, 2, 4, 8, 16] = 2
    """Factor between the picture and the feature map that the layers work on."""
    output: Literal["frame", "change", "motion", "sigmoid", "filter"] = "frame"
    """Predict the frame; its change from the last one; its change from the last one moved on along
    its motion; a frame squashed into (0, 1); or each pixel as a mean of those around it in the last
    frame, with weights for each place (frames on [0, 1])."""
    reach: int = 10
    """Largest motion that --output motion looks for, and that --output filter copies along, in
    pixels a frame."""
    peephole: Literal["none", "channel", "spatial"] = "none"
    """Let the gates see the cell state: with one weight per channel, or per pixel and channel."""
    activation: Literal["tanh", "relu"] = "tanh"
    """What squashes the candidate and the output of each ConvLSTM cell."""
    norm: Literal["none", "batch", "batch-between"] = "none"
    """Batch normalisation after each ConvLSTM layer, or after each but the last."""
    patch_size: int = 1
    """Side of the square of pixels that becomes one, with so many times the channels."""
    dropout: float = 0.0
    """Share of each recurrent layer's inputs that is dropped in training; one mask for a window."""
    recurrent_dropout: float = 0.0
    """Share of each recurrent layer's hidden state that is dropped in training, likewise."""
    remat: bool = False
    """Recompute in the backward pass instead of storing: less memory, more time."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Precision of the convolutions; parameters and cell state stay float32."""

    def __post_init__(self) -> None:
        for name in ("layers", "reach", "patch_size"):
            check_positive(flag(name), getattr(self, name))
            if getattr(self, name) > _MOST[name]:
                raise ConfigError(f"{flag(name)}: expected at most {_MOST[name]}")
        for name in ("dropout", "recurrent_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigError(f"{flag(name)}: expected a share from 0 to below 1")
        for name in ("features", "kernel_size"):
            for value in per_layer(flag(name), getattr(self, name), self.layers):
                check_positive(flag(name), value)
            if max(getattr(self, name)) > _MOST[name]:
                raise ConfigError(f"{flag(name)}: expected at most {_MOST[name]}")
        for field in dataclasses.fields(self):
            named = {"model", *MODEL_SETTINGS[self.model].split()}
            if field.name not in named and getattr(self, field.name) != field.default:
                raise ConfigError(f"{flag(field.name)}: has no effect on --model {self.model}")
        outputs = _OUTPUTS.get(self.model, (self.output,))
        check_choice(f"--output of --model {self.model}", self.output, outputs)
        if self.model == "pyramid-forecaster" and self.layers != 3:
            raise ConfigError("--model pyramid-forecaster: has --layers 3, a scale each")

    def of_kind(self, model: str) -> "ModelConfig":
        """Another model with these settings, less those that mean nothing to it.

        Raises:
          ConfigError: there is no such model.
        """
        check_choice("--model", model, tuple(MODEL_SETTINGS))
        kept = set(MODEL_SETTINGS[model].split())
        settings: dict[str, Any] = {
            name: value for name, value in dataclasses.asdict(self).items() if name in kept
        }
        if settings.get("output") not in _OUTPUTS.get(model, (settings.get("output"),)):
            del settings["output"]
        if model == "pyramid-forecaster" and self.layers != 3:
            for name in ("features", "kernel_size", "layers"):
                del settings[name]
            settings["layers"] = 3
        return ModelConfig(**{**settings, "model": model})


@dataclasses.dataclass(frozen=True)
class TrainingConfig:
    """How the network is trained."""

    seed: int = 0
    """Seed of the weights, the order of the data and generated clips."""
    epochs: int = 10
    """Passes over the training windows."""
    steps_per_epoch: int | None = None
    """Steps between validations; by default as many as the training windows fill."""
    batch_size: int = 8
    """Windows per step."""
    learning_rate: float = 2e-3
    """Peak learning rate."""
    schedule: Literal["constant", "cosine", "one-cycle", "exponential", "step"] = "cosine"
    """Learning rate over the run, after the warm-up: constant; a cosine down to a hundredth; up and
    down once (which has a warm-up of its own); times --decay-rate every --decay-epochs, smoothly or
    in steps."""
    decay_rate: float = 0.1
    """What the learning rate is multiplied by (exponential and step)."""
    decay_epochs: float = 10.0
    """Epochs after which it has been (exponential and step)."""
    warmup_steps: int = 20
    """Steps in which the learning rate rises to its peak."""
    reduce_on_plateau: int | None = None
    """Epochs without a better validation loss after which the learning rate is reduced."""
    plateau_factor: float = 0.1
    """What it is multiplied by then."""
    early_stopping: int | None = None
    """Epochs without a better validation loss after which training ends."""
    optimizer: Literal["adam", "adamw", "adadelta", "rmsprop"] = "adam"
    """Optimizer."""
    weight_decay: float = 1e-4
    """Decoupled weight decay (adamw only)."""
    clip_norm: float = 1.0
    """Largest global norm of the gradient; larger ones are scaled down. 0 turns it off."""
    loss: Literal["mse", "mae", "bce", "huber", "mae-ssim", "mse-gdl", "cross-entropy"] = "mse"
    """Mean squared or absolute error; binary cross-entropy (with --output sigmoid); Huber's;
    absolute error mixed with SSIM, or squared error with gradient differences; or cross-entropy of
    classes."""
    supervise: Literal["targets", "all"] = "targets"
    """Frames that the loss is of: the target frames, or every frame after the first, each predicted
    from those before it."""
    sampling: Literal["free", "teacher", "scheduled", "reverse"] = "free"
    """What is fed back in training: the model's own frames; the true ones; the true ones ever more
    rarely; or that, and ever more of the true ones among the input frames (PredRNN-v2)."""
    sampling_curve: Literal["linear", "exponential", "inverse-sigmoid"] = "linear"
    """How the probability of a true frame falls (Bengio et al. 2015)."""
    sampling_steps: int | None = None
    """Steps after which no true frame is fed back any more; by default half of all."""
    ema: float = 0.0
    """Decay of the moving average of the weights, which is evaluated and loaded in their place,
    e.g. 0.999. 0 turns it off."""
    init_from: str | None = None
    """Run folder whose weights to start from, to train on for other data or another purpose."""
    max_steps: int | None = None
    """Save and stop after so many steps of this call; --resume auto goes on."""
    max_hours: float | None = None
    """Save and stop after so many hours of this call, for queues that give no more."""
    checkpoint_every: int | None = None
    """Also save every so many steps; by default after each epoch."""
    sample_every: int = 1
    """Write sample pictures every so many epochs; 0 writes none."""
    log_every: int = 20
    """Write a line of metrics every so many steps."""
    threads: int = 2
    """Threads that read and decode data."""

    def __post_init__(self) -> None:
        names = ("epochs", "steps_per_epoch", "batch_size", "learning_rate", "checkpoint_every")
        more = ("reduce_on_plateau", "early_stopping", "sampling_steps", "decay_epochs")
        limits = ("max_steps", "max_hours")
        for name in (
            *names,
            *more,
            *limits,
            "decay_rate",
            "plateau_factor",
            "log_every",
            "threads",
        ):
            value = getattr(self, name)
            if value is not None:
                check_positive(flag(name), value)
        for name in ("learning_rate", "decay_rate", "decay_epochs"):
            if not math.isfinite(getattr(self, name)):
                raise ConfigError(f"{flag(name)}: expected a number, got {getattr(self, name)}")
        if self.plateau_factor >= 1:
            raise ConfigError(
                f"--plateau-factor: expected less than 1, got {self.plateau_factor:g}"
            )
        if not 0 <= self.ema < 1:
            raise ConfigError(f"--ema: expected a decay from 0 to below 1, got {self.ema:g}")
        for name in ("clip_norm", "weight_decay", "warmup_steps", "sample_every", "seed"):
            value = getattr(self, name)
            if not (value >= 0 and math.isfinite(value)):
                raise ConfigError(f"{flag(name)}: expected 0 or more, got {value!r}")
        decays = self.schedule in ("exponential", "step")
        warms_up = self.schedule != "one-cycle" or self.warmup_steps == 0
        for name, has_effect, needed in (
            ("weight_decay", self.optimizer == "adamw", "--optimizer adamw"),
            ("plateau_factor", self.reduce_on_plateau, "--reduce-on-plateau"),
            ("decay_rate", decays, "--schedule exponential or step"),
            ("decay_epochs", decays, "--schedule exponential or step"),
            ("warmup_steps", warms_up, "another --schedule than one-cycle"),
            ("sampling_steps", self.sampling in ("scheduled", "reverse"), "--sampling scheduled"),
            ("sampling_curve", self.sampling == "scheduled", "--sampling scheduled"),
        ):
            if not has_effect and getattr(self, name) != getattr(TrainingConfig, name):
                raise ConfigError(f"{flag(name)}: needs {needed}")


@dataclasses.dataclass(frozen=True)
class Config:
    """Everything that says how a run goes."""

    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    training: TrainingConfig = TrainingConfig()

    def __post_init__(self) -> None:
        data, model, training = self.data, self.model, self.training
        sigmoid = model.output in ("sigmoid", "filter") or model.model == "seq2one-lstm"
        if training.loss == "bce" and not sigmoid:
            raise ConfigError("--loss bce: needs predictions in (0, 1); add --output sigmoid")
        if sigmoid and data.normalize == "mean-std":
            raise ConfigError(
                "--normalize mean-std: leaves [0, 1], in which --output sigmoid and filter and "
                "--model seq2one-lstm predict"
            )
        if data.split.train == 0:
            raise ConfigError("--split train=0: nothing would be trained on")
        if data.split.val == 0:
            for name in ("early_stopping", "reduce_on_plateau"):
                if getattr(training, name) is not None:
                    raise ConfigError(f"{flag(name)}: looks at the validation loss; --split val=0")
        self._check_task()
        self._check_feedback()

    @property
    def classifies(self) -> bool:
        """Whether classes are predicted, and not frames."""
        return self.model.model in CLASSIFIERS

    @property
    def fixes_frame_size(self) -> bool:
        """Whether the weights are of one frame size."""
        fixed = self.model.model in ("cnn-lstm", "seq2one-lstm")
        return fixed or self.model.peephole == "spatial"

    def _check_task(self) -> None:
        """Data, model and loss are all of classes, or all of frames."""
        labelled = self.data.dataset == "moving-lines" or self.data.labels != "none"
        data = "--dataset moving-lines" if self.data.dataset == "moving-lines" else "--labels"
        if self.classifies and not labelled:
            raise ConfigError(
                f"--model {self.model.model}: names classes; --labels folders takes them from the "
                "names of folders"
            )
        if labelled and not self.classifies:
            remedy = (
                "--model convlstm-classifier" if data != "--labels" else "--preset folder-classes"
            )
            raise ConfigError(
                f"{data}: these data have classes, and --model {self.model.model} predicts frames; "
                f"{remedy} names classes"
            )
        if self.classifies != (self.training.loss == "cross-entropy"):
            wanted = "cross-entropy" if self.classifies else "another: it is of classes"
            raise ConfigError(f"--loss {self.training.loss}: expected {wanted}")
        if self.classifies:
            for name in ("target_frames", "horizon", "eval_steps", "tile"):
                if getattr(self.data, name) != getattr(DataConfig, name):
                    raise ConfigError(f"{flag(name)}: no frames are predicted, but classes")

    def _check_feedback(self) -> None:
        """What is fed back, and what the loss is of, against what the model reads."""
        sampling, model = self.training.sampling, self.model.model
        chosen = {
            f"--sampling {sampling}": sampling != "free",
            "--supervise all": self.training.supervise == "all",
        }
        for name in (name for name, is_chosen in chosen.items() if is_chosen):
            if model in (*FORECASTERS, *CLASSIFIERS):
                raise ConfigError(f"{name}: --model {model} reads none of its predictions")
            if self.data.horizon > 1:
                raise ConfigError(f"{name}: the true frames before --horizon are not read")
            if self.data.reverse and self.training.supervise == "all":
                raise ConfigError("--reverse: excludes --supervise all")
        if sampling in ("teacher", "scheduled") and self.data.target_frames == 1:
            raise ConfigError(f"--sampling {sampling}: of --target-frames 1 nothing is fed back")

    def to_json(self) -> dict[str, Any]:
        """As plain dictionaries and lists."""
        return {"format_version": FORMAT_VERSION, **dataclasses.asdict(self)}

    @classmethod
    def from_json(
        cls, values: Mapping[str, Any], source: str = "config", base: Any = None
    ) -> "Config":
        """From what `to_json` gives, or from a file with some of the flags in one flat object.

        Args:
          values: the settings.
          source: what an error names.
          base: where settings come from that are not given: anything with the three sections.

        Raises:
          ConfigError: a key that no flag has, a value of the wrong type, or a newer format.
        """
        values = dict(values)
        version = values.pop("format_version", FORMAT_VERSION)
        if version != FORMAT_VERSION:
            raise ConfigError(f"{source}: format version {version!r}, expected {FORMAT_VERSION}")
        parts: dict[str, Any] = {}
        flat = dict(values)
        for section, kind in (
            ("data", DataConfig),
            ("model", ModelConfig),
            ("training", TrainingConfig),
        ):
            nested = flat.pop(section) if isinstance(flat.get(section), Mapping) else {}
            names = {field.name for field in dataclasses.fields(kind)}
            given = {**nested, **{name: flat.pop(name) for name in names & flat.keys()}}
            unknown = given.keys() - names
            if unknown:
                raise ConfigError(
                    f"{source}: unknown key {', '.join(sorted(unknown))} in {section}"
                )
            parts[section] = _build(kind, given, source, getattr(base or cls(), section))
        if flat:
            raise ConfigError(f"{source}: unknown key {', '.join(sorted(flat))}")
        return cls(**parts)

    @classmethod
    def load(cls, path: Path, base: Any = None) -> "Config":
        """Reads a JSON file; see `from_json`."""
        return cls.from_json(read_settings(path), str(path), base)


def read_settings(path: Path) -> dict[str, Any]:
    """The JSON object of a configuration file.

    Raises:
      ConfigError: it cannot be read, or is no JSON object.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: cannot be read as JSON: {error}") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: expected a JSON object, got {type(values).__name__}")
    return values


def _build(kind: type, given: Mapping[str, Any], source: str, base: Any) -> Any:
    """One section from plain JSON values: lists become tuples, an object becomes a `Split`."""
    hints = typing.get_type_hints(kind)
    values = {}
    for name, value in given.items():
        if isinstance(value, Mapping) and hints[name] is Split:
            if unknown := value.keys() - {"train", "val", "test"}:
                raise ConfigError(f"{source}: unknown key {', '.join(sorted(unknown))} in split")
            value = _build(Split, value, source, Split(0.0, 0.0, 0.0))
        elif isinstance(value, list):
            value = tuple(value)
        elif typing.get_args(hints[name])[-1:] == (Ellipsis,) and not isinstance(value, str):
            value = (value,)  # a single number where several may stand, as on the command line
        if not _fits(value, hints[name]):
            raise ConfigError(f"{source}: {name}: {value!r} is not what {flag(name)} takes")
        values[name] = value
    return dataclasses.replace(base, **values)


def _fits(value: Any, hint: Any) -> bool:
    """Whether a value is of the type that a field is annotated with."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        return value in arguments
    if origin in (types.UnionType, typing.Union):
        return any(_fits(value, argument) for argument in arguments)
    if origin is tuple:
        if not isinstance(value, tuple):
            return False
        if arguments[-1] is Ellipsis:
            return bool(value) and all(_fits(item, arguments[0]) for item in value)
        return len(value) == len(arguments) and all(map(_fits, value, arguments))
    if hint in (int, float):
        wanted = int if hint is int else (int, float)
        return isinstance(value, wanted) and not isinstance(value, bool)
    return isinstance(value, hint)
