"""Options of the networks: a dataclass for each architecture, with how far it sees beside it.

To add an architecture, write its dataclass here and its module in `models/NAME.py`, with the same
field names; `--help`, the checks and `models.build` follow from the two.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, ClassVar, Literal

from jaxconvlstm.checks import check_choice, per_layer
from jaxconvlstm.config.options import Options, flag
from jaxconvlstm.errors import ConfigError

# So that a configuration of somebody else's asks for no network of absurd size.
_MOST = {"layers": 100, "reach": 1000, "patch_size": 1000, "features": 2**16, "kernel_size": 255}

Span = tuple[int, int]
"""The first and the last index that is read along one axis."""
Layer = Callable[[Span], Span]
"""From the indices of a layer's output to those of its input that they depend on."""


class _ByName(type):
    """Lets `ModelConfig(model=NAME, ...)` make the dataclass of that architecture."""

    def __call__(cls, *values: Any, **settings: Any) -> Any:
        if cls is not ModelConfig:
            return super().__call__(*values, **settings)
        if len(values) > len(_POSITIONAL):
            raise ConfigError(f"expected at most {', '.join(_POSITIONAL)} without a name")
        settings = {**dict(zip(_POSITIONAL, values)), **settings}
        kind = _kind(model := settings.pop("model", FramePredictorConfig.model))
        if unknown := settings.keys() - _DEFAULTS.keys():
            raise ConfigError(f"--model {model}: unknown setting {', '.join(sorted(unknown))}")
        return kind(**_own(kind, settings))


@dataclasses.dataclass(frozen=True)
class ModelConfig(Options, metaclass=_ByName):
    """The network; `ModelConfig(model=NAME, ...)` makes the dataclass of that architecture.

    Attributes:
      architecture: name of the class in `models/NAME.py`.
      classifies: it names a class; the others predict frames.
      reads_predictions: its forecast feeds on itself; that of others unrolls from a state alone.
    """

    architecture: ClassVar[str]
    classifies: ClassVar[bool] = False
    reads_predictions: ClassVar[bool] = True

    model: str
    """Architecture."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, most in _MOST.items():
            value = getattr(self, name, None)
            if value is not None:
                self._check_positive(name)
                if max(value if isinstance(value, tuple) else (value,)) > most:
                    raise ConfigError(f"{flag(name)}: expected at most {most}")
        for name in ("dropout", "recurrent_dropout"):
            if not 0 <= getattr(self, name, 0) < 1:
                raise ConfigError(f"{flag(name)}: expected a fraction from 0 to below 1")

    def _label(self, name: str) -> str:
        """See `Options._label`: choices depend on the architecture."""
        return f"{flag(name)} of --model {vars(type(self))['model']}"

    def settings(self) -> dict[str, Any]:
        """The fields of the module, with one value per layer where there may be several."""
        fields = {name: getattr(self, name) for name in self.names()}
        del fields["model"]
        if (layers := fields.pop("layers", None)) is not None:
            for name in ("features", "kernel_size"):
                fields[name] = per_layer(flag(name), fields[name], layers)
        return fields

    @property
    def fixes_frame_size(self) -> bool:
        """The weights are of one frame size."""
        return getattr(self, "peephole", "none") == "spatial"

    @property
    def predicts_unit_interval(self) -> bool:
        """Predictions lie in (0, 1), whatever the weights."""
        return getattr(self, "output", None) in ("sigmoid", "filter")

    def of_kind(self, model: str) -> "ModelConfig":
        """Another architecture with these settings, less those that mean nothing to it.

        Raises:
          ConfigError: there is no such model.
        """
        kind = _kind(model)
        kept = {
            name: getattr(self, name)
            for name in kind.names()
            if hasattr(self, name) and kind.accepts(name, getattr(self, name))
        }
        if "layers" not in kept:
            # Of another number of layers: nothing is known for each of them.
            kept = {name: kept[name] for name in kept.keys() - {"features", "kernel_size"}}
        return kind(**{**kept, "model": model})

    @classmethod
    def known_names(cls) -> set[str]:
        """See `Options.known_names`: the settings of any architecture."""
        return set(_DEFAULTS)

    def updated(self, values: Mapping[str, Any], source: str) -> "ModelConfig":
        """See `Options.updated`; `values` may name another architecture."""
        settings = dict(values)
        base = self.of_kind(settings.pop("model")) if "model" in settings else self
        if unknown := settings.keys() - self.known_names():
            raise ConfigError(f"{source}: unknown key {', '.join(sorted(unknown))} in model")
        try:
            return dataclasses.replace(base, **_own(type(base), settings))
        except ConfigError as error:
            raise ConfigError(f"{source}: {error}") from None

    def receptive_radius(self) -> float:
        """Pixels of the newest frame that every pixel of the next one sees, in each direction.

        Counted back through the layers between the newest frame given and the next one predicted.
        In one time step a ConvLSTM passes on what its input convolution sees, and nothing yet by
        the convolution of its hidden state, which is of the frame before. It is exact for the pixel
        and the side that see least: an even kernel sees one pixel less to the top and left, a pixel
        at the edge of a block of the feature map less than one in its middle.

        Returns:
          Pixels; infinity where the whole frame is seen at once.
        """
        return math.inf


@dataclasses.dataclass(frozen=True)
class Recurrent(ModelConfig):
    """What all models of ConvLSTM layers share."""

    features: tuple[int, ...] = (32,)
    """Hidden features of each ConvLSTM layer: one number for all, or one per layer."""
    kernel_size: tuple[int, ...] = (3,)
    """Kernel of each ConvLSTM layer, on the feature map: one number for all, or one per layer."""
    layers: int = 2
    """Number of ConvLSTM layers."""
    peephole: Literal["none", "channel", "spatial"] = "none"
    """Let the gates see the cell state: with one weight per channel, or per pixel and channel."""
    activation: Literal["tanh", "relu"] = "tanh"
    """What squashes the candidate and the output of each ConvLSTM cell."""
    dropout: float = 0.0
    """Fraction of each recurrent layer's inputs that is dropped in training; one mask for a
    window."""
    recurrent_dropout: float = 0.0
    """Fraction of each recurrent layer's hidden state that is dropped in training, likewise."""
    remat: bool = False
    """Recompute in the backward pass instead of storing: less memory, more time."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Precision of the convolutions; parameters and cell state stay float32."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("features", "kernel_size"):
            per_layer(flag(name), getattr(self, name), self.layers)

    @property
    def kernels(self) -> tuple[int, ...]:
        """The kernel of each layer."""
        return per_layer("--kernel-size", self.kernel_size, self.layers)


@dataclasses.dataclass(frozen=True)
class FramePredictorConfig(Recurrent):
    """Strided encoder, ConvLSTM layers on the feature map, transposed-convolution decoder."""

    architecture = "FramePredictor"

    model: Literal["frame-predictor"] = "frame-predictor"
    downsample: Literal[1, 2, 4, 8, 16] = 2
    """Factor between the picture and the feature map that the layers work on."""
    output: Literal["frame", "change", "motion", "sigmoid"] = "frame"
    """Predict the frame; its change from the last one; its change from the last one moved on along
    its motion; a frame squashed into (0, 1); or each pixel as a mean of those around it in the last
    frame, with weights for each place (frames on [0, 1])."""
    reach: int = 10
    """Largest motion that --output motion looks for, and that --output filter copies along, in
    pixels a frame."""

    def receptive_radius(self) -> float:
        """See `ModelConfig`. With motion, some come from matching, which is two pixels fine."""
        stages = self.downsample.bit_length() - 1
        layers = [_head, *[_doubled] * stages, *_layers(self), *[_halved] * stages]
        radius = _radius(layers, side=self.downsample)
        return radius + self.reach // 2 * 2 if self.output == "motion" else radius


@dataclasses.dataclass(frozen=True)
class StackedConfig(Recurrent):
    """ConvLSTM layers on whole frames, or patches of them, and a causal convolution over time."""

    architecture = "StackedConvLSTM"

    model: Literal["stacked"] = "stacked"
    output: Literal["frame", "change", "sigmoid", "filter"] = "frame"
    reach: int = 10
    norm: Literal["none", "batch", "batch-between"] = "none"
    """Batch normalisation after each ConvLSTM layer, or after each but the last."""
    patch_size: int = 1
    """Side of the square of pixels that becomes one, with so many times the channels."""

    def receptive_radius(self) -> float:
        """See `ModelConfig`. With a filter, nothing is copied from further than its reach."""
        radius = _radius([_head, *_layers(self)], patch=self.patch_size)
        return min(radius, self.reach) if self.output == "filter" else radius


@dataclasses.dataclass(frozen=True)
class EncoderForecasterConfig(Recurrent):
    """The encoding-forecasting network of Shi et al. 2015."""

    architecture = "EncoderForecaster"
    reads_predictions = False

    model: Literal["encoder-forecaster"] = "encoder-forecaster"
    output: Literal["frame", "sigmoid"] = "frame"
    patch_size: int = 1

    def receptive_radius(self) -> float:
        """See `ModelConfig`.

        From each layer down to some level in the forecaster, where the state is handed over, and
        on in the encoder: that level's kernel counts twice, and the largest sees most.
        """
        twice = partial(_convolved, kernel=max(self.kernels))
        return _radius([*_layers(self), twice], patch=self.patch_size)


@dataclasses.dataclass(frozen=True)
class PyramidForecasterConfig(Recurrent):
    """The encoding-forecasting network with maps of three sizes."""

    architecture = "PyramidForecaster"
    reads_predictions = False

    model: Literal["pyramid-forecaster"] = "pyramid-forecaster"
    layers: Literal[3] = 3
    output: Literal["frame", "sigmoid"] = "frame"

    def receptive_radius(self) -> float:
        """See `ModelConfig`: up to the forecaster's highest level, and down in the encoder."""
        layers = _layers(self)[::-1]
        up, down = [_head, layers[0]], [layers[0], _head]
        for layer in layers[1:]:
            up, down = [*up, _doubled, layer], [layer, _halved, *down]
        return _radius([*up, *down], side=4)


@dataclasses.dataclass(frozen=True)
class Seq2OneLSTMConfig(ModelConfig):
    """An LSTM at a 1x1 bottleneck between strided and transposed convolutions."""

    architecture = "Seq2OneLSTM"
    fixes_frame_size = True
    predicts_unit_interval = True

    model: Literal["seq2one-lstm"] = "seq2one-lstm"
    dropout: float = 0.0
    recurrent_dropout: float = 0.0
    dtype: Literal["float32", "bfloat16"] = "float32"


@dataclasses.dataclass(frozen=True)
class ConvLSTMClassifierConfig(Recurrent):
    """Names the class of a clip: ConvLSTM layers on the feature map, pooled."""

    architecture = "ConvLSTMClassifier"
    classifies = True
    reads_predictions = False

    model: Literal["convlstm-classifier"] = "convlstm-classifier"
    downsample: Literal[1, 2, 4, 8, 16] = 2


@dataclasses.dataclass(frozen=True)
class CNNLSTMConfig(ModelConfig):
    """Names the class of a clip: a small convolution of every frame, and an LSTM."""

    architecture = "CNNLSTMClassifier"
    fixes_frame_size = True
    classifies = True
    reads_predictions = False

    model: Literal["cnn-lstm"] = "cnn-lstm"


MODELS: dict[str, type[ModelConfig]] = {
    vars(kind)["model"]: kind
    for kind in (
        FramePredictorConfig,
        StackedConfig,
        EncoderForecasterConfig,
        PyramidForecasterConfig,
        Seq2OneLSTMConfig,
        ConvLSTMClassifierConfig,
        CNNLSTMConfig,
    )
}
"""The dataclass of each architecture, by its name."""
_POSITIONAL = ("model", "features", "kernel_size", "layers")
_DEFAULTS = {
    field.name: {
        getattr(other, field.name) for other in MODELS.values() if hasattr(other, field.name)
    }
    for kind in MODELS.values()
    for field in dataclasses.fields(kind)
}
"""Of every setting of any architecture, its defaults."""


def _kind(model: Any) -> type[ModelConfig]:
    check_choice("--model", model, tuple(MODELS))
    return MODELS[model]


def _own(kind: type[ModelConfig], settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that an architecture has; others must have their default."""
    own = {name: value for name, value in settings.items() if name in kind.names()}
    for name in settings.keys() - own.keys():
        value = settings[name]
        value = tuple(value) if isinstance(value, list) else value
        if value not in _DEFAULTS[name]:
            raise ConfigError(f"{flag(name)}: has no effect on --model {vars(kind)['model']}")
    return own


def _layers(config: Recurrent) -> list[Layer]:
    """The ConvLSTM layers, from the last to the first."""
    return [partial(_convolved, kernel=kernel) for kernel in reversed(config.kernels)]


def _radius(layers: list[Layer], side: int = 1, patch: int = 1) -> int:
    """The least that a pixel sees through layers, which are listed from the output back.

    Args:
      layers: on the path that sees most.
      side: pixels after which the pattern of strided layers repeats.
      patch: side of the square of pixels that the layers see as one.
    """
    least = []
    for pixel in range(side * patch):
        span = (pixel // patch, pixel // patch)
        for layer in layers:
            span = layer(span)
        least += [pixel - span[0] * patch, (span[1] + 1) * patch - 1 - pixel]
    return min(least)


def _convolved(span: Span, kernel: int) -> Span:
    """The inputs of a convolution with SAME padding."""
    return span[0] - (kernel - 1) // 2, span[1] + kernel // 2


_head: Layer = partial(_convolved, kernel=3)


def _halved(span: Span) -> Span:
    """The inputs of a 4x4 convolution with stride 2: for `i` from `2 i - 1` to `2 i + 2`."""
    return 2 * span[0] - 1, 2 * span[1] + 2


def _doubled(span: Span) -> Span:
    """The inputs of a 4x4 transposed convolution with stride 2: each `i` whose `_halved` has it."""
    return (span[0] - 1) // 2, (span[1] + 1) // 2
