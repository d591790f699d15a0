"""How far a network sees, how far things move, and what is to be said where the first is less.

A convolution sees a few pixels around a place. What has moved further since the newest frame
cannot be drawn where it now is, and stays where it was: a trail.
"""

import math
from collections.abc import Callable
from functools import partial

import jax
import numpy as np

from jaxconvlstm.checks import per_layer
from jaxconvlstm.config.run import (
    CLASSIFIERS,
    FORECASTERS,
    MODEL_SETTINGS,
    Config,
    ModelConfig,
    flag,
)
from jaxconvlstm.nn.motion import matching_costs
from jaxconvlstm.spread import spread

MOST_PAIRS = 32
"""Pairs of frames that are looked at, spread evenly over all."""
BLOCKS = 4
"""Blocks of each pair that are looked for: those that change most."""
MOST_MOTION = 24
"""Pixels a frame up to which motion is looked for, if a quarter of the frame is not less."""
FEWEST_FOUND = 4
"""Blocks of which motion must be known for it to say something about the data."""
# A block is found again if no more than so much is left of its change at rest. Noise never is: of
# a thousand places the best still leaves two thirds. Matches by chance in smooth clips leave a
# fifth.
_LEFT = 0.1
# Of places that fit equally well within this share, along an edge for instance, the nearest counts.
_AS_GOOD = 0.05
# Between unrelated pictures the change at rest is twice the block's own variance. Where it is far
# more, the block holds little itself: something has left it, and an empty place is found anywhere.
_MOST_CHANGE = 3.0

Span = tuple[int, int]
"""The first and the last index that is seen along one axis."""
Layer = Callable[[Span], Span]
"""From what is looked at of a layer's output to what that layer reads for it."""


def receptive_reach(config: ModelConfig) -> float:
    """How many pixels of the newest frame every pixel of the next one sees, in each direction.

    Counted back through the layers that lie between the newest frame given and the next one
    predicted. In one time step a ConvLSTM passes on what its input convolution sees, and nothing
    yet by the convolution of its hidden state, which is of the frame before. It is exact for the
    pixel and the side that see least: an even kernel sees one pixel less to the top and left, a
    pixel at the edge of a block of the feature map less than one in its middle. With
    `output="motion"`, what is seen may come from `config.reach` pixels further; with "filter", it
    is copied from no further.

    Returns:
      Pixels; infinity for models that see the whole frame at once.
    """
    if config.model in ("seq2one-lstm", *CLASSIFIERS):
        return math.inf
    path, side = _path(config), config.patch_size
    least = math.inf
    for pixel in range(side * 2 ** path.count(_halved)):
        span = (pixel // side, pixel // side)
        for layer in path:
            span = layer(span)
        least = min(least, pixel - span[0] * side, (span[1] + 1) * side - 1 - pixel)
    if config.output == "motion":
        least += config.reach // 2 * 2  # matching is two pixels fine
    return min(least, config.reach) if config.output == "filter" else least


def _path(config: ModelConfig) -> list[Layer]:
    """The layers on the way that sees most, from a predicted pixel back to the newest frame."""
    kernels = per_layer("--kernel-size", config.kernel_size, config.layers)
    layers: list[Layer] = [partial(_convolved, kernel=kernel) for kernel in reversed(kernels)]
    head: Layer = partial(_convolved, kernel=3)
    if config.model == "encoder-forecaster":
        # From each layer down to some level in the forecaster, where the state is handed over,
        # and on in the encoder: that level's kernel counts twice, and the largest sees most.
        return [*layers, partial(_convolved, kernel=max(kernels))]
    if config.model == "pyramid-forecaster":
        # Up to the highest level in the forecaster, and down again in the encoder.
        up, down = [head, layers[-1]], [layers[-1], head]
        for layer in layers[-2::-1]:
            up, down = [*up, _doubled, layer], [layer, _halved, *down]
        return [*up, *down]
    stages = config.downsample.bit_length() - 1 if config.model == "frame-predictor" else 0
    return [head, *[_doubled] * stages, *layers, *[_halved] * stages]


def _convolved(span: Span, kernel: int) -> Span:
    """What a convolution with SAME padding reads for `span`."""
    return span[0] - (kernel - 1) // 2, span[1] + kernel // 2


def _halved(span: Span) -> Span:
    """What a 4x4 convolution with stride 2 reads: for `i` from `2 i - 1` to `2 i + 2`."""
    return 2 * span[0] - 1, 2 * span[1] + 2


def _doubled(span: Span) -> Span:
    """What a 4x4 transposed convolution with stride 2 reads: each `i` whose `_halved` has `o`."""
    return (span[0] - 1) // 2, (span[1] + 1) // 2


def largest_motion(inputs: np.ndarray) -> float:
    """How far things move in a frame, as the faster of them do.

    In pairs of frames the blocks that change most are looked for in the frame before, up to a
    quarter of its smaller side away. Differences in brightness do not count. Of the displacements
    found, the larger of down and across, it is the 90th percentile.

    Args:
      inputs: clips `[n, time, height, width, channels]`, on any scale.

    Returns:
      Pixels a frame, at least 1; or 0 where nothing is seen to move: in still scenes, in noise,
      where things change but cannot be found again, or in frames of less than 16 pixels.
    """
    clips, time, height, width, _ = inputs.shape
    side = min(height, width)
    pairs = clips * (time - 1)
    if side < 16 or pairs == 0:
        return 0.0
    block, most = (16 if side >= 32 else 8), min(side // 4, MOST_MOTION)
    found: list[int] = []
    for pair in spread(pairs, MOST_PAIRS).tolist():
        clip, frame = divmod(pair, time - 1)
        before, after = inputs[clip, frame : frame + 2].astype(np.float32)
        found += _displacements(before, after, block, most)
    return float(np.percentile(found, 90)) if len(found) >= FEWEST_FOUND else 0.0


def _displacements(before: np.ndarray, after: np.ndarray, block: int, most: int) -> list[int]:
    """How far the blocks of `after` that change most have come, where that can be told.

    Args:
      before, after: consecutive frames, `[height, width, channels]`.
      block: side of the blocks.
      most: largest displacement looked for.
    """
    whole = tuple(slice(side // block * block) for side in after.shape[:2])
    # The cost at rest is how much a block changes; that against a black frame is what it holds.
    change, content = (
        np.asarray(_costs(frame[whole][None], after[whole][None], block))[0, ..., 0, 0]
        for frame in (before, np.zeros_like(before))
    )
    change = np.where(change <= _MOST_CHANGE * content, change, 0)
    places = np.argsort(change, axis=None)[: -BLOCKS - 1 : -1]
    corners = block * np.stack(np.unravel_index(places, change.shape), axis=-1)
    # Nothing is found outside of the frame, which NaN says.
    padded = np.pad(before, ((most, most), (most, most), (0, 0)), constant_values=np.nan)
    # Displacements across are pairs of their own here, those down are `matching_costs`' to try:
    # a program of 49 shifted pictures would take seconds to compile.
    tries = 2 * most + 1
    around = [
        padded[top : top + block + 2 * most, left + across : left + across + block]
        for top, left in corners
        for across in range(tries)
    ]
    here = [after[top : top + block, left : left + block] for top, left in corners]
    all_costs = _costs(np.stack(around), np.repeat(here, tries, axis=0), block)
    all_costs = np.asarray(all_costs).reshape((len(corners), tries, tries))  # block, across, down
    offsets = np.abs(np.arange(tries) - most)
    distance = np.maximum(offsets[:, None], offsets[None])
    found = []
    for at_rest, costs in zip(change.flat[places], np.nan_to_num(all_costs, nan=np.inf)):
        if costs.min() < _LEFT * at_rest:
            found.append(int(distance[costs <= costs.min() + _AS_GOOD * at_rest].min()))
    return found


# Traced once for all pairs of frames.
_costs = jax.jit(partial(matching_costs, ignore_brightness=True), static_argnums=2)


def warnings_for(config: Config, clips: np.ndarray) -> list[str]:
    """What a configuration is known to end in on such data, a line each, with the flags to change.

    Args:
      config: of the run.
      clips: some training inputs, `[n, time, height, width, channels]`, on the network's scale.
    """
    if config.classifies:
        return []
    found = []
    reach, motion = receptive_reach(config.model), largest_motion(clips)
    if reach < motion:
        found.append(
            f"in one step the network sees {reach:g} px around each pixel, but things in these "
            f"data move up to {motion:g} px a frame: predictions will leave trails or fade; larger "
            f"{_flags_of_reach(config.model)} would see further"
        )
    if config.model.model in FORECASTERS:
        return found
    cause, ahead = None, config.data.horizon - 1 + config.data.target_frames
    if config.training.sampling == "teacher":
        cause, remedy = "--sampling teacher", "--sampling scheduled"
    elif config.training.sampling != "reverse" and ahead == 1:
        cause, remedy = "--target-frames 1", "--target-frames 5"
    if cause:
        found.append(
            f"training never feeds back its own output ({cause}): the next frame is what it is "
            f"for, and those predicted after it may leave trails or fade; {remedy} trains on them"
        )
    return found


def _flags_of_reach(config: ModelConfig) -> str:
    """The flags on which the reach of this model depends, e.g. "--kernel-size or --layers"."""
    names = ["kernel_size", "layers", "downsample", "patch_size"]
    names += ["reach"] if config.output in ("motion", "filter") else []
    settings = MODEL_SETTINGS[config.model].split()
    flags = [flag(name) for name in names if name in settings]
    return f"{', '.join(flags[:-1])} or {flags[-1]}"
