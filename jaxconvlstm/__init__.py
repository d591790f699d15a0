"""Predict images from images: ConvLSTM networks in JAX and Flax.

import jaxconvlstm as jcl
model = jcl.load("RUN")
future = model.predict(frames, steps=12)
"""

from typing import TYPE_CHECKING, Any

from jaxconvlstm.errors import (
    CheckpointError,
    ConfigError,
    DataError,
    JaxConvLSTMError,
    NonFiniteError,
)

__version__ = "0.2.0"

if TYPE_CHECKING:
    from jaxconvlstm.batch import Batch
    from jaxconvlstm.config.data import DataConfig, Split
    from jaxconvlstm.config.model import ModelConfig
    from jaxconvlstm.config.presets import preset
    from jaxconvlstm.config.run import Config
    from jaxconvlstm.config.training import TrainingConfig
    from jaxconvlstm.data.dataset import open_dataset
    from jaxconvlstm.evaluation.classifier import Classifier
    from jaxconvlstm.evaluation.load import load
    from jaxconvlstm.evaluation.predictor import Predictor
    from jaxconvlstm.memory import keep_freed_memory
    from jaxconvlstm.models import (
        CNNLSTMClassifier,
        ConvLSTMClassifier,
        EncoderForecaster,
        FramePredictor,
        PyramidForecaster,
        Seq2OneLSTM,
        StackedConvLSTM,
        build,
    )
    from jaxconvlstm.nn.cell import ConvLSTMCell
    from jaxconvlstm.nn.conv import Conv, ConvTranspose
    from jaxconvlstm.nn.conv_lstm import ConvLSTM
    from jaxconvlstm.nn.encoder_decoder import Decoder, Encoder
    from jaxconvlstm.plots.notebook import show
    from jaxconvlstm.scale import Values
    from jaxconvlstm.training.trainer import fit

# Where each public name is. All but the errors are imported when they are first used: the layers
# bring JAX along, the rest Orbax or Pillow. The layers and models run where only JAX, Flax, Optax
# and NumPy are installed; tools like `inspect` start without JAX.
_PLACES = {
    # Layers and models: plain Flax modules.
    "nn.cell": "ConvLSTMCell",
    "nn.conv": "Conv ConvTranspose",
    "nn.conv_lstm": "ConvLSTM",
    "nn.encoder_decoder": "Decoder Encoder",
    "models": "CNNLSTMClassifier ConvLSTMClassifier EncoderForecaster FramePredictor "
    "PyramidForecaster Seq2OneLSTM StackedConvLSTM build",
    # Runs: train, load, predict, look.
    "evaluation.classifier": "Classifier",
    "evaluation.predictor": "Predictor",
    "training.trainer": "fit",
    "memory": "keep_freed_memory",
    "evaluation.load": "load",
    "plots.notebook": "show",
    # Configuration.
    "config.run": "Config",
    "config.data": "DataConfig Split",
    "config.model": "ModelConfig",
    "config.training": "TrainingConfig",
    "config.presets": "preset",
    # Data.
    "batch": "Batch",
    "scale": "Values",
    "data.dataset": "open_dataset",
    # Errors.
    "errors": "CheckpointError ConfigError DataError JaxConvLSTMError NonFiniteError",
}
_LAZY = {
    name: f"{__name__}.{module}" for module, names in _PLACES.items() for name in names.split()
}
__all__ = [*_LAZY, "__version__"]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    value = getattr(importlib.import_module(_LAZY[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
