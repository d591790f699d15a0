"""How far a network sees, how far things move, and what is to be said where the first is less.

A convolution sees a few pixels around a place. What has moved further since the newest frame
cannot be drawn where it now is, and stays where it was: a trail.
"""

from functools import partial

import jax
import numpy as np

from jaxconvlstm.config.model import ModelConfig
from jaxconvlstm.config.options import flag
from jaxconvlstm.config.run import Config
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
    if config.model.classifies:
        return []
    found = []
    reach, motion = config.model.receptive_radius(), largest_motion(clips)
    if reach < motion:
        found.append(
            f"in one step the network sees {reach:g} px around each pixel, but things in these "
            f"data move up to {motion:g} px a frame: predictions will leave trails or fade; larger "
            f"{_flags_of_reach(config.model)} would see further"
        )
    if not config.model.reads_predictions:
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
    names += ["reach"] if getattr(config, "output", None) in ("motion", "filter") else []
    flags = [flag(name) for name in names if name in config.names()]
    return f"{', '.join(flags[:-1])} or {flags[-1]}"
