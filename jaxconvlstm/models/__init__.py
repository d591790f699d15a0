"""The architectures; `build` makes one from its configuration."""

import jax.numpy as jnp
from flax import linen as nn

from jaxconvlstm.checks import per_layer
from jaxconvlstm.config import ModelConfig
from jaxconvlstm.models.frame_predictor import FramePredictor

__all__ = ["FramePredictor", "build"]


def build(config: ModelConfig, channels: int) -> nn.Module:
    """The module that `config` describes, for pictures of `channels` channels."""
    return FramePredictor(
        channels=channels,
        features=per_layer("--features", config.features, config.layers),
        kernel_size=per_layer("--kernel-size", config.kernel_size, config.layers),
        downsample=config.downsample,
        output=config.output,
        reach=config.reach,
        peephole=None if config.peephole == "none" else config.peephole,
        remat=config.remat,
        dtype=jnp.dtype(config.dtype),
    )
