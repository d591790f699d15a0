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

__all__ = [
    # Layers and models: plain Flax modules.
    "Conv",
    "ConvLSTM",
    "ConvLSTMCell",
    "ConvTranspose",
    "Decoder",
    "Encoder",
    "CNNLSTMClassifier",
    "ConvLSTMClassifier",
    "EncoderForecaster",
    "FramePredictor",
    "PyramidForecaster",
    "Seq2OneLSTM",
    "StackedConvLSTM",
    "build",
    # Runs: train, load, predict, look.
    "Classifier",
    "Predictor",
    "fit",
    "keep_freed_memory",
    "load",
    "show",
    # Configuration.
    "Config",
    "DataConfig",
    "ModelConfig",
    "Split",
    "TrainingConfig",
    "preset",
    # Data.
    "Batch",
    "Values",
    "open_dataset",
    # Errors.
    "CheckpointError",
    "ConfigError",
    "DataError",
    "JaxConvLSTMError",
    "NonFiniteError",
    "__version__",
]

# Imported when they are first used: the layers bring JAX along, the rest Orbax or Pillow. The
# layers and models run where only JAX, Flax, Optax and NumPy are installed; tools like `inspect`
# start without JAX.
_LAZY = {
    "Batch": "jaxconvlstm.batch",
    "CNNLSTMClassifier": "jaxconvlstm.models",
    "Classifier": "jaxconvlstm.evaluation.classifier",
    "Config": "jaxconvlstm.config.run",
    "Conv": "jaxconvlstm.nn.conv",
    "ConvLSTM": "jaxconvlstm.nn.conv_lstm",
    "ConvLSTMCell": "jaxconvlstm.nn.cell",
    "ConvLSTMClassifier": "jaxconvlstm.models",
    "ConvTranspose": "jaxconvlstm.nn.conv",
    "DataConfig": "jaxconvlstm.config.data",
    "Decoder": "jaxconvlstm.nn.encoder_decoder",
    "Encoder": "jaxconvlstm.nn.encoder_decoder",
    "EncoderForecaster": "jaxconvlstm.models",
    "FramePredictor": "jaxconvlstm.models",
    "ModelConfig": "jaxconvlstm.config.model",
    "Predictor": "jaxconvlstm.evaluation.predictor",
    "PyramidForecaster": "jaxconvlstm.models",
    "Seq2OneLSTM": "jaxconvlstm.models",
    "Split": "jaxconvlstm.config.data",
    "StackedConvLSTM": "jaxconvlstm.models",
    "TrainingConfig": "jaxconvlstm.config.training",
    "Values": "jaxconvlstm.scale",
    "build": "jaxconvlstm.models",
    "fit": "jaxconvlstm.training.trainer",
    "keep_freed_memory": "jaxconvlstm.memory",
    "load": "jaxconvlstm.evaluation.load",
    "open_dataset": "jaxconvlstm.data.dataset",
    "preset": "jaxconvlstm.config.presets",
    "show": "jaxconvlstm.plots.notebook",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    value = getattr(importlib.import_module(_LAZY[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
