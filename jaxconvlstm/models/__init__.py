"""The architectures; `build` makes one from its configuration."""

import importlib

import jax.numpy as jnp
from flax import linen as nn

from jaxconvlstm.config.model import ModelConfig
from jaxconvlstm.models.cnn_lstm import CNNLSTMClassifier
from jaxconvlstm.models.convlstm_classifier import ConvLSTMClassifier
from jaxconvlstm.models.encoder_forecaster import EncoderForecaster
from jaxconvlstm.models.frame_predictor import FramePredictor
from jaxconvlstm.models.pyramid_forecaster import PyramidForecaster
from jaxconvlstm.models.seq2one_lstm import Seq2OneLSTM
from jaxconvlstm.models.stacked import StackedConvLSTM


def build(config: ModelConfig, channels: int, classes: int = 0) -> nn.Module:
    """The module that `config` describes, from the file of that name.

    Args:
      config: the network.
      channels: channels of the frames, for a model that predicts frames.
      classes: number of classes, for a classifier.
    """
    file = importlib.import_module(f"{__name__}.{config.model.replace('-', '_')}")
    settings = config.settings()
    if "dtype" in settings:
        settings["dtype"] = jnp.dtype(settings["dtype"])
    if settings.get("peephole") == "none":
        settings["peephole"] = None
    size = {"classes": classes} if config.classifies else {"channels": channels}
    return getattr(file, config.architecture)(**size, **settings)
