"""The architectures; `build` makes one from its configuration."""

from typing import Any

import jax.numpy as jnp
from flax import linen as nn

from jaxconvlstm.checks import per_layer
from jaxconvlstm.config.run import MODEL_SETTINGS, ModelConfig
from jaxconvlstm.models.cnn_lstm import CNNLSTMClassifier
from jaxconvlstm.models.convlstm_classifier import ConvLSTMClassifier
from jaxconvlstm.models.encoder_forecaster import EncoderForecaster
from jaxconvlstm.models.frame_predictor import FramePredictor
from jaxconvlstm.models.pyramid_forecaster import PyramidForecaster
from jaxconvlstm.models.seq2one_lstm import Seq2OneLSTM
from jaxconvlstm.models.stacked import StackedConvLSTM

__all__ = [
    "CNNLSTMClassifier",
    "ConvLSTMClassifier",
    "EncoderForecaster",
    "FramePredictor",
    "PyramidForecaster",
    "Seq2OneLSTM",
    "StackedConvLSTM",
    "build",
]

_FORECASTING: dict[str, type[nn.Module]] = {
    "frame-predictor": FramePredictor,
    "stacked": StackedConvLSTM,
    "encoder-forecaster": EncoderForecaster,
    "pyramid-forecaster": PyramidForecaster,
    "seq2one-lstm": Seq2OneLSTM,
}
_CLASSIFYING: dict[str, type[nn.Module]] = {
    "convlstm-classifier": ConvLSTMClassifier,
    "cnn-lstm": CNNLSTMClassifier,
}


def build(config: ModelConfig, channels: int, classes: int = 0) -> nn.Module:
    """The module that `config` describes.

    Args:
      config: the network.
      channels: channels of the pictures.
      classes: number of classes, for a classifier.
    """
    settings: dict[str, Any] = {
        name: getattr(config, name) for name in MODEL_SETTINGS[config.model].split()
    }
    for name in ("features", "kernel_size"):
        if name in settings:
            settings[name] = per_layer(name, settings[name], config.layers)
    settings.pop("layers", None)
    if "dtype" in settings:
        settings["dtype"] = jnp.dtype(config.dtype)
    if settings.get("peephole") == "none":
        settings["peephole"] = None
    if config.model in _CLASSIFYING:
        return _CLASSIFYING[config.model](classes=classes, **settings)
    return _FORECASTING[config.model](channels=channels, **settings)
