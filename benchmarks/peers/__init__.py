"""The networks that are timed, and their implementations in other libraries.

There is a module per implementation, each with `MODES` and `build(work, mode, batch, dtype,
forecast)`, which returns a `Peer`. The modules of JAX and of PyTorch share no import but this one,
so that each runs where the other library is not installed.
"""

import dataclasses
import os
from collections.abc import Callable


@dataclasses.dataclass(frozen=True)
class Work:
    """A network and its input: a training step or forecast of it on random clips is timed.

    Attributes:
      name: one word, as on the command line.
      text: description of the network and the clips.
      batch: clips per step, unless `--batch-size` is given.
      given, predicted: frames of a clip that are given, and that are predicted.
      frame: height, width and channels.
      dense_targets: the prediction after each frame is trained on, not only those after the last
        frame given.
    """

    name: str
    text: str
    batch: int
    given: int
    predicted: int
    frame: tuple[int, int, int]
    dense_targets: bool = False


WORKS = {
    work.name: work
    for work in (
        Work(
            "keras-example",
            "keras.io ConvLSTM example: three ConvLSTM layers of 64 features, 5x5, 3x3 and 1x1, "
            "with batch normalisation between, and a 3x3x3 head; 19 frames of 64x64x1, one step "
            "ahead",
            *(1, 19, 1, (64, 64, 1), True),
        ),
        Work(
            "openstl",
            "OpenSTL's ConvLSTM-S: four layers of 128 features, 5x5, on patches of 4x4, and a 1x1 "
            "head; 10 frames of 64x64x1 given and 10 predicted, where a frame that is read after "
            "those given is either the true or the predicted one (scheduled sampling)",
            *(4, 10, 10, (64, 64, 1), True),
        ),
        Work(
            "seq2one",
            "encoder (three strided convolutions), two ConvLSTM layers of 64 features, 3x3, "
            "decoder (three transposed ones); 7 frames of 128x128x3 given, 1 predicted",
            *(8, 7, 1, (128, 128, 3)),
        ),
        Work(
            "seq2one-lstm",
            "encoder (seven strided convolutions), LSTM of 1024 units, decoder (seven transposed "
            "ones); 7 frames of 128x128x3 given, 1 predicted",
            *(8, 7, 1, (128, 128, 3)),
        ),
    )
}


TINY = "BENCHMARKS_TINY"
"""Environment variable under which all networks get so little that they run within seconds."""

if os.environ.get(TINY):
    WORKS = {
        name: dataclasses.replace(
            work, given=3, predicted=min(work.predicted, 2), frame=(16, 16, work.frame[-1])
        )
        for name, work in WORKS.items()
    }


@dataclasses.dataclass(frozen=True)
class Peer:
    """An implementation that is ready to take steps.

    Attributes:
      run: takes a number of steps, or makes as many forecasts, and returns when they are done.
      parameters: number of trained parameters.
      facts: further entries for the results, such as versions; JSON.
    """

    run: Callable[[int], None]
    parameters: int
    facts: dict[str, object]
