"""Presets: configurations that work on a first try. Flags override them.

Each says what it is and how it is run, and those that were measured how long that takes on two CPU
cores and what they reach; docs/presets.md has them in tables.
"""

import inspect
from collections.abc import Callable

from jaxconvlstm.checks import check_choice
from jaxconvlstm.config.data import DataConfig
from jaxconvlstm.config.model import (
    CNNLSTMConfig,
    ConvLSTMClassifierConfig,
    EncoderForecasterConfig,
    FramePredictorConfig,
    ModelConfig,
    PyramidForecasterConfig,
    Seq2OneLSTMConfig,
    StackedConfig,
)
from jaxconvlstm.config.run import Config
from jaxconvlstm.config.training import TrainingConfig

PRESETS: dict[str, Callable[[], Config]] = {}


def preset(name: str) -> Config:
    """The preset of that name.

    Raises:
      ConfigError: there is none.
    """
    check_choice("--preset", name, tuple(PRESETS))
    return PRESETS[name]()


def describe(name: str) -> str:
    """What a preset is, in one line."""
    return (inspect.getdoc(PRESETS[name]) or name).splitlines()[0]  # `python -OO` has none


def _named(make: Callable[[], Config]) -> Callable[[], Config]:
    PRESETS[make.__name__.replace("_", "-")] = make
    return make


@_named
def moving_squares() -> Config:
    """Generated moving squares, noisy; the default, and the README's demo.

    python train.py --preset moving-squares --out RUN

    3 minutes; mean squared error 0.06 of persistence's on test clips.
    """
    return Config(
        DataConfig(dataset="moving-squares"),
        FramePredictorConfig(
            features=(32,), kernel_size=(3,), layers=2, downsample=2, output="frame"
        ),
        TrainingConfig(epochs=5, steps_per_epoch=120, batch_size=4, learning_rate=3e-3),
    )


@_named
def folder() -> Config:
    """Your own pictures, arrays or videos: several frames ahead along their motion.

    python train.py --preset folder --data DIR --out RUN

    7 minutes on 242 frames of a street scene; mean squared error 0.26 of persistence's for the next
    frame, 0.43 for the fifth.
    """
    return Config(
        DataConfig(dataset="folder", input_frames=7, target_frames=5, flip="horizontal"),
        FramePredictorConfig(
            features=(64,), kernel_size=(3,), layers=2, downsample=4, output="motion"
        ),
        TrainingConfig(epochs=20, batch_size=4, learning_rate=5e-4, loss="mae"),
    )


@_named
def folder_classes() -> Config:
    """Your own clips, sorted into folders named after their class.

    python train.py --preset folder-classes --data DIR --out RUN
    """
    return Config(
        DataConfig(dataset="folder", input_frames=16, labels="folders"),
        ConvLSTMClassifierConfig(features=(32,), layers=1, downsample=4),
        TrainingConfig(epochs=20, batch_size=8, learning_rate=1e-3, loss="cross-entropy"),
    )


@_named
def seq2one() -> Config:
    """The frame after 7: strided encoder, ConvLSTM on the feature map, transposed decoder.

    python -m jaxconvlstm pathlist --data DIR --out list.txt
    python train.py --preset seq2one --data list.txt --out RUN

    98 images a second. 10 epochs on 116 windows of a street scene, 2.5 minutes: mean squared error
    0.79 of persistence's, SSIM 0.87, in a shot that training never saw.
    """
    return Config(
        _seq2one_data(),
        FramePredictorConfig(
            features=(64,), kernel_size=(3,), layers=2, downsample=8, output="motion"
        ),
        TrainingConfig(epochs=100, batch_size=8, learning_rate=5e-4, sample_every=5),
    )


@_named
def seq2one_lstm() -> Config:
    """The frame after 7, by the original network with an LSTM at a 1x1 bottleneck.

    python -m jaxconvlstm pathlist --data DIR --out list.txt
    python train.py --preset seq2one-lstm --data list.txt --out RUN

    64 images a second. It learns slowly: after 5 epochs on the same windows, 2 minutes, its
    pictures are a grey that is everywhere the same.
    """
    return Config(
        _seq2one_data(),
        Seq2OneLSTMConfig(),
        TrainingConfig(
            epochs=100,
            batch_size=8,
            learning_rate=1e-4,
            schedule="constant",
            warmup_steps=0,
            clip_norm=0,
            sample_every=5,
        ),
    )


def _seq2one_data() -> DataConfig:
    return DataConfig(
        dataset="folder", input_frames=7, target_frames=1, size=(128, 128), fit="crop", channels=3
    )


@_named
def moving_squares_stack() -> Config:
    """Moving squares by four stacked layers on whole frames: the classic Keras example, causal.

    python train.py --preset moving-squares-stack --out RUN

    29 minutes; cross-entropy 0.0064 a pixel one step ahead, on test clips.
    """
    return Config(
        DataConfig(
            dataset="moving-squares",
            input_frames=15,
            target_frames=1,
            eval_input_frames=7,
            eval_steps=8,
        ),
        StackedConfig(
            features=(40,),
            kernel_size=(3,),
            layers=4,
            norm="batch",
            output="sigmoid",
        ),
        TrainingConfig(
            epochs=6,
            steps_per_epoch=180,
            batch_size=2,
            learning_rate=2e-3,
            loss="bce",
            supervise="all",
        ),
    )


@_named
def moving_mnist() -> Config:
    """Two moving digits, copied along their motion; 10 frames given and 10 predicted.

    python train.py --preset moving-mnist --data digits.gz --out RUN

    31 minutes beside other work; mean squared error 0.36 of persistence's (0.18 for the next frame,
    0.46 for the tenth), SSIM 0.62.
    """
    return _copying(_digits())


def _copying(data: DataConfig) -> Config:
    """Pixels copied along their motion: what moves stays sharp when it is fed back."""
    return Config(
        data,
        StackedConfig(
            features=(64,),
            kernel_size=(3,),
            layers=3,
            patch_size=4,
            norm="batch",
            output="filter",
            reach=4,
        ),
        TrainingConfig(
            epochs=6,
            steps_per_epoch=200,
            batch_size=2,
            learning_rate=2e-3,
            loss="bce",
            supervise="all",
            sampling="scheduled",
            # A quarter of the true frames is gone at the end: earlier, what is not yet sharp fades.
            sampling_steps=4800,
        ),
    )


def _digits(**changes: object) -> DataConfig:
    settings = {"dataset": "moving-mnist", "input_frames": 10, "target_frames": 10, **changes}
    return DataConfig(**settings)  # type: ignore[arg-type]


@_named
def next_frame() -> Config:
    """Moving digits in black and white, copied along their motion, fed back for as long as asked.

    python train.py --preset next-frame --data digits.gz --out RUN

    9 minutes; fed back ten times, mean squared error 0.47 of persistence's and trail 0.30 (0.24
    and 0.02 for the next frame) on test clips.
    """
    return _copying(_digits(threshold=128.0, eval_input_frames=5, eval_steps=10))


@_named
def next_frame_ghosting() -> Config:
    """How trails come about: 1x1 and 2x2 kernels, ReLU, one step ahead only. Not to be used.

    python train.py --preset next-frame-ghosting --data digits.gz --out RUN

    5 minutes; fed back five times, trail 0.64, and the whole way stays visible.
    """
    return Config(
        _digits(
            threshold=128.0,
            input_frames=15,
            target_frames=1,
            # No more in all than in training: on longer clips its cells overflow, and all is white.
            eval_input_frames=5,
            eval_steps=10,
        ),
        StackedConfig(
            features=(64,),
            kernel_size=(1, 2),
            layers=2,
            activation="relu",
            norm="batch",
            output="sigmoid",
        ),
        TrainingConfig(epochs=2, steps_per_epoch=50, batch_size=4, loss="bce", supervise="all"),
    )


@_named
def keras_moving_mnist() -> Config:
    """The keras.io example: 5x5, 3x3 and 1x1 layers of 64 on whole frames, causal head.

    python train.py --preset keras-moving-mnist --data digits.gz --out RUN

    After 70 steps of 2 clips, 5 minutes, mean squared error 0.58 of persistence's, cross-entropy
    0.108 a pixel one step ahead (persistence 0.525).
    """
    return Config(
        _digits(input_frames=19, target_frames=1, eval_input_frames=10, eval_steps=10),
        StackedConfig(
            features=(64,),
            kernel_size=(5, 3, 1),
            layers=3,
            activation="relu",
            norm="batch-between",
            output="sigmoid",
        ),
        TrainingConfig(
            epochs=20,
            batch_size=5,
            learning_rate=1e-3,
            schedule="constant",
            warmup_steps=0,
            clip_norm=0,
            loss="bce",
            supervise="all",
            early_stopping=10,
            reduce_on_plateau=5,
        ),
    )


@_named
def encoder_forecaster() -> Config:
    """Shi et al. 2015: peepholes, states copied into a forecaster that reads nothing.

    python train.py --preset encoder-forecaster --data digits.gz --out RUN

    After 130 steps of 4 clips, 8 minutes, mean squared error 0.54 of persistence's: far more
    training is needed, as predictions still fade within five frames.
    """
    return Config(
        _digits(),
        EncoderForecasterConfig(
            features=(128, 64, 64),
            kernel_size=(5,),
            layers=3,
            peephole="channel",
            patch_size=4,
            output="sigmoid",
        ),
        TrainingConfig(
            epochs=20, batch_size=8, learning_rate=1e-3, optimizer="rmsprop", loss="bce"
        ),
    )


@_named
def encoder_forecaster_pyramid() -> Config:
    """Encoder and forecaster with maps of three sizes, as in most PyTorch versions of Shi et al.

    python train.py --preset encoder-forecaster-pyramid --data digits.gz --out RUN

    After 25 steps of 2 clips, 7 minutes, mean squared error 0.58 of persistence's, which is a haze:
    far more training is needed.
    """
    return Config(
        _digits(),
        PyramidForecasterConfig(
            features=(64, 96, 96),
            kernel_size=(5,),
            layers=3,
            output="sigmoid",
        ),
        TrainingConfig(epochs=20, batch_size=4, learning_rate=1e-3, loss="bce"),
    )


@_named
def moving_lines() -> Config:
    """In which of four directions does a line grow? A small CNN and an LSTM.

    python train.py --preset moving-lines --out RUN

    1.5 minutes; test accuracy 0.9975 to 1 with three seeds.
    """
    return _lines(CNNLSTMConfig(), steps=100, rate=2e-3)


@_named
def moving_lines_convlstm() -> Config:
    """In which of four directions does a line grow? A ConvLSTM.

    python train.py --preset moving-lines-convlstm --out RUN

    2 to 3 minutes; test accuracy 1 with three seeds.
    """
    model = ConvLSTMClassifierConfig(features=(16,), layers=1, downsample=4)
    return _lines(model, steps=55, rate=3e-3)


def _lines(model: ModelConfig, steps: int, rate: float) -> Config:
    return Config(
        DataConfig(dataset="moving-lines", input_frames=50),
        model,
        TrainingConfig(
            epochs=4, steps_per_epoch=steps, batch_size=16, learning_rate=rate, loss="cross-entropy"
        ),
    )
