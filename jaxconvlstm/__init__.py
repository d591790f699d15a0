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
from jaxconvlstm.version import __version__

if TYPE_CHECKING:
    from jaxconvlstm.cell import ConvLSTMCell
    from jaxconvlstm.classifier import Classifier
    from jaxconvlstm.config import Config, DataConfig, ModelConfig, Split, TrainingConfig
    from jaxconvlstm.conv import Conv, ConvTranspose
    from jaxconvlstm.data.batch import Batch
    from jaxconvlstm.data.datasets import open_dataset
    from jaxconvlstm.data.values import Values
    from jaxconvlstm.heap import keep_freed_memory
    from jaxconvlstm.layers import ConvLSTM, Decoder, Encoder
    from jaxconvlstm.loading import load
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
    from jaxconvlstm.pictures.notebook import show
    from jaxconvlstm.presets import preset
    from jaxconvlstm.rollout import Predictor
    from jaxconvlstm.trainer import fit

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
    "Batch": "jaxconvlstm.data.batch",
    "CNNLSTMClassifier": "jaxconvlstm.models",
    "Classifier": "jaxconvlstm.classifier",
    "Config": "jaxconvlstm.config",
    "Conv": "jaxconvlstm.conv",
    "ConvLSTM": "jaxconvlstm.layers",
    "ConvLSTMCell": "jaxconvlstm.cell",
    "ConvLSTMClassifier": "jaxconvlstm.models",
    "ConvTranspose": "jaxconvlstm.conv",
    "DataConfig": "jaxconvlstm.config",
    "Decoder": "jaxconvlstm.layers",
    "Encoder": "jaxconvlstm.layers",
    "EncoderForecaster": "jaxconvlstm.models",
    "FramePredictor": "jaxconvlstm.models",
    "ModelConfig": "jaxconvlstm.config",
    "Predictor": "jaxconvlstm.rollout",
    "PyramidForecaster": "jaxconvlstm.models",
    "Seq2OneLSTM": "jaxconvlstm.models",
    "Split": "jaxconvlstm.config",
    "StackedConvLSTM": "jaxconvlstm.models",
    "TrainingConfig": "jaxconvlstm.config",
    "Values": "jaxconvlstm.data.values",
    "build": "jaxconvlstm.models",
    "fit": "jaxconvlstm.trainer",
    "keep_freed_memory": "jaxconvlstm.heap",
    "load": "jaxconvlstm.loading",
    "open_dataset": "jaxconvlstm.data.datasets",
    "preset": "jaxconvlstm.presets",
    "show": "jaxconvlstm.pictures.notebook",
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
