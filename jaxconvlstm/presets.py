"""Presets: configurations that work on a first try. Flags override them."""

from jaxconvlstm.checks import check_choice
from jaxconvlstm.config import Config, DataConfig, ModelConfig, TrainingConfig

PRESETS: dict[str, Config] = {
    "moving-squares": Config(
        DataConfig(dataset="moving-squares"),
        ModelConfig(features=(32,), kernel_size=(3,), layers=2, downsample=2, output="frame"),
        TrainingConfig(epochs=5, steps_per_epoch=120, batch_size=4, learning_rate=3e-3),
    ),
    "folder": Config(
        DataConfig(dataset="folder", input_frames=7, target_frames=5, flip="horizontal"),
        ModelConfig(features=(64,), kernel_size=(3,), layers=2, downsample=4, output="motion"),
        TrainingConfig(epochs=20, batch_size=4, learning_rate=5e-4, loss="mae"),
    ),
}


def preset(name: str) -> Config:
    """The preset of that name.

    Raises:
      ConfigError: there is none.
    """
    check_choice("--preset", name, tuple(PRESETS))
    return PRESETS[name]
