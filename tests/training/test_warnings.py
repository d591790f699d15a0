"""How far networks see, against their Jacobians; and how far things move, in clips made to move."""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxconvlstm.config.data import DataConfig
from jaxconvlstm.config.model import ModelConfig
from jaxconvlstm.config.run import Config
from jaxconvlstm.config.training import TrainingConfig
from jaxconvlstm.data.synthetic.generated import clip_generator
from jaxconvlstm.data.synthetic.moving_squares import moving_squares
from jaxconvlstm.models import build
from jaxconvlstm.training.warnings import largest_motion, warnings_for

NETWORKS = {
    "frames": ModelConfig(features=(2,), layers=1, kernel_size=(3,), downsample=1),
    "even kernel": ModelConfig(features=(2,), layers=1, kernel_size=(4,), downsample=1),
    "halved": ModelConfig(features=(2,), layers=2, kernel_size=(3,), downsample=2),
    "halved, even": ModelConfig(features=(2,), layers=2, kernel_size=(1, 2), downsample=2),
    "quartered": ModelConfig(features=(2,), layers=1, kernel_size=(1,), downsample=4),
    "stacked": ModelConfig("stacked", (2,), (5, 1), output="sigmoid"),
    "stacked, ghosting": ModelConfig("stacked", (2,), (1, 2), activation="relu"),
    "stacked, patches": ModelConfig("stacked", (2,), (3, 2), patch_size=2),
    "forecaster": ModelConfig("encoder-forecaster", (2,), (5, 3)),
    "forecaster, patches": ModelConfig("encoder-forecaster", (2,), (1, 4), patch_size=2),
    "pyramid": ModelConfig("pyramid-forecaster", (2,), (1, 3, 2), layers=3),
}


def least_seen(config: ModelConfig) -> int:
    """What `receptive_radius` says, found by differentiation: the least of all sides and pixels.

    All weights are positive, so that no two paths cancel. The newest frame is the only one given.
    """
    side = 8 * math.ceil((2 * config.receptive_radius() + 20) / 8)
    module = build(config, channels=1)
    frame = jnp.full((1, side, side, 1), 0.5)
    shapes = jax.eval_shape(module.init, jax.random.key(0), frame[:, None])
    variables = jax.tree.map(lambda leaf: jnp.full(leaf.shape, 0.05), shapes)

    @jax.jit
    def gradient(row: Any, column: Any) -> Any:
        def pixel(newest: Any) -> Any:
            return module.apply(variables, newest[:, None])[0, 0, row, column, 0]

        return jax.grad(pixel)(frame)

    seen = []
    middle = side // 2
    for pixel in range(middle, middle + 8):
        places = np.argwhere(np.asarray(gradient(pixel, pixel))[0, ..., 0])
        seen += [*(pixel - places.min(axis=0)), *(places.max(axis=0) - pixel)]
    return min(seen)


# Of the simpler ones nothing is asked that these do not.
HARDEST = "halved, even", "stacked, patches", "forecaster, patches", "pyramid"


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=() if n in HARDEST else pytest.mark.slow) for n in NETWORKS],
)
def test_the_reach_is_that_of_the_jacobian(name: str) -> None:
    assert NETWORKS[name].receptive_radius() == least_seen(NETWORKS[name])


def test_reach_of_known_networks() -> None:
    assert ModelConfig(layers=2, kernel_size=(5,), downsample=1).receptive_radius() == 2 + 2 + 1
    published = ModelConfig("stacked", layers=3, kernel_size=(5, 3, 1))
    assert published.receptive_radius() == 2 + 1 + 0 + 1
    assert dataclasses.replace(published, patch_size=4).receptive_radius() == 16
    assert ModelConfig("seq2one-lstm").receptive_radius() == math.inf


def test_motion_adds_how_far_it_looks() -> None:
    plain = ModelConfig(features=(2,), layers=1)
    for reach, seen in ((2, 2), (7, 6), (10, 10)):
        motion = dataclasses.replace(plain, output="motion", reach=reach)
        assert motion.receptive_radius() == plain.receptive_radius() + seen


def test_motion_is_seen_to_come_from_there() -> None:
    """A clip that moves 8 pixels down: what is seen lies 8 pixels further up than without."""
    clip = jnp.asarray(shifting((8, 0), 48, 48)[:1, :2], jnp.float32)
    highest = {}
    for output in ("frame", "motion"):
        config = ModelConfig(features=(2,), layers=1, downsample=1, output=output)
        module = build(config, channels=1)
        shapes = jax.eval_shape(module.init, jax.random.key(0), clip)
        variables = jax.tree.map(lambda leaf: jnp.full(leaf.shape, 0.05), shapes)

        def pixel(newest: Any, module: Any = module, variables: Any = variables) -> Any:
            clips = jnp.concatenate([clip[:, :1], newest[:, None]], axis=1)
            return module.apply(variables, clips)[0, 0, 24, 24, 0]

        seen = np.asarray(jax.jit(jax.grad(pixel))(clip[:, 1]))[0, ..., 0]
        # Matching leaves a trace of weight on other places too.
        highest[output] = np.argwhere(seen > 1e-3 * seen.max())[:, 0].min()
    assert highest["frame"] == 24 - ModelConfig(layers=1, downsample=1).receptive_radius()
    assert highest["frame"] - highest["motion"] == pytest.approx(8, abs=1)


@pytest.mark.parametrize("flag", ["kernel_size", "layers", "downsample"])
def test_larger_flags_see_further(flag: str) -> None:
    """As the warning says that they do."""
    values = {"kernel_size": [(3,), (5,), (7,)], "layers": [1, 2, 3], "downsample": [1, 2, 4, 8]}
    reaches = [ModelConfig(**{flag: value}).receptive_radius() for value in values[flag]]
    assert sorted(set(reaches)) == reaches


def texture(generator: np.random.Generator, height: int, width: int) -> np.ndarray:
    """A smooth random picture that goes on at the opposite edge, `[height, width, 1]`."""
    noise = generator.random((height, width, 1))
    return sum(np.roll(noise, (y, x), (0, 1)) for y in range(5) for x in range(5)) / 5


def shifting(velocity: tuple[int, int], height: int = 64, width: int = 64) -> np.ndarray:
    """Two clips of six frames, each of one texture that moves as a whole."""
    generator = np.random.default_rng(0)
    pictures = [texture(generator, height, width) for _ in range(2)]
    return np.array(
        [
            [np.roll(picture, np.multiply(velocity, time), (0, 1)) for time in range(6)]
            for picture in pictures
        ]
    )


def digits(speed: float, clips: int = 3, frames: int = 7, side: int = 64) -> np.ndarray:
    """Two handwritten strokes that fly in any direction and bounce off the walls, at whole pixels.

    As Moving MNIST is made, but for the digits.
    """
    generator = np.random.default_rng(1)
    found = np.zeros((clips, frames, side, side, 1), np.float32)
    grid = np.stack(np.mgrid[:28, :28], -1)
    for clip in range(2 * clips):
        pen, heading = generator.uniform(8, 20, 2), generator.uniform(0, 2 * np.pi)
        stroke = np.zeros((28, 28))
        for _ in range(50):
            heading += generator.normal(0, 0.35)
            pen = np.clip(pen + np.array([np.sin(heading), np.cos(heading)]), 4, 23)
            distance = ((grid - pen) ** 2).sum(-1)
            stroke = np.maximum(stroke, np.minimum(1.5 * np.exp(-distance / 2.5), 1))
        place, course = generator.uniform(0, side - 28, 2), generator.uniform(0, 2 * np.pi)
        step = speed * np.array([np.sin(course), np.cos(course)])
        for frame in found[clip // 2]:
            y, x = np.rint(place).astype(int)
            part = frame[y : y + 28, x : x + 28, 0]
            np.maximum(part, stroke, out=part)
            outside = (place + step < 0) | (place + step > side - 28)
            step = np.where(outside, -step, step)
            place = place + step
    return found


def noisy(clips: np.ndarray, spread: float) -> np.ndarray:
    return clips + spread * np.random.default_rng(2).normal(size=clips.shape)


@pytest.mark.parametrize("velocity", [(0, 1), (3, 0), (-5, 2), (4, 9), (0, -14)])
def test_a_texture_moves_as_far_as_it_is_moved(velocity: tuple[int, int]) -> None:
    assert largest_motion(shifting(velocity)) == max(map(abs, velocity))


@pytest.mark.parametrize("size", [(16, 16), (20, 90), (200, 40)])
def test_frames_of_any_size(size: tuple[int, int]) -> None:
    assert largest_motion(shifting((2, -3), *size)) == 3


def test_moving_squares_move_a_pixel_a_frame() -> None:
    """With noise and without, several over each other, and leaving the picture."""
    for noise_free in (False, True):
        clips = [moving_squares(clip_generator(0, 0, 0, n), 12)[noise_free] for n in range(8)]
        assert largest_motion(np.stack(clips)) == 1


@pytest.mark.parametrize("speed", [1.0, 3.6, 7.0])
def test_flying_digits(speed: float) -> None:
    """At whole pixels some frames are further apart than the speed says."""
    clips = digits(speed)
    assert 0.7 * speed <= largest_motion(clips) <= math.ceil(speed)
    assert largest_motion(noisy(clips, 0.05)) == pytest.approx(largest_motion(clips), abs=1)


def test_the_scale_of_the_values_does_not_matter() -> None:
    clips = digits(3.6)
    assert largest_motion(255 * clips) == largest_motion(clips - 7) == largest_motion(clips)


def test_motion_in_colour() -> None:
    clips = shifting((3, 1))
    colour = np.concatenate([clips, 0 * clips, 1 - clips], axis=-1)
    assert largest_motion(colour) == 3


def test_no_motion_is_found_where_nothing_moves() -> None:
    """In stillness, in noise, where only the light changes, in one frame, or in none at all."""
    generator = np.random.default_rng(3)
    still = shifting((0, 0))
    light = 1 + 0.5 * np.sin(np.arange(6)).reshape((1, 6, 1, 1, 1))
    strangers = np.array([[texture(generator, 64, 64) for _ in range(6)] for _ in range(2)])
    for clips in (
        still,
        noisy(still, 0.1),
        still + light,
        still * light,
        np.zeros_like(still),
        generator.random((3, 6, 64, 64, 1)),
        generator.random((3, 6, 16, 16, 1)),
        strangers,
        shifting((3, 0))[:, :1],
        shifting((3, 0), 12, 12),
    ):
        assert largest_motion(clips) == 0


def test_what_vanishes_or_appears_has_not_moved() -> None:
    clips = np.zeros((4, 6, 64, 64, 1))
    clips[:, ::2, 10:30, 20:44] = 1
    assert largest_motion(clips) == 0


CLIPS = digits(3.6, clips=3, frames=5)
FAR = ModelConfig(layers=2, downsample=4)
GHOSTING = ModelConfig("stacked", (64,), (1, 2), activation="relu", norm="batch", output="sigmoid")


def warned(model: ModelConfig = FAR, sampling: str = "free", **data: Any) -> list[str]:
    config = Config(DataConfig(**data), model, TrainingConfig(sampling=sampling))
    return warnings_for(config, CLIPS)


def test_no_warning_where_none_is_due() -> None:
    assert warned() == warned(sampling="scheduled") == warned(sampling="reverse") == []


def test_a_network_that_sees_less_far_than_things_move() -> None:
    (warning,) = warned(GHOSTING)
    assert "sees 1 px" in warning and "up to 4 px" in warning
    assert "--kernel-size, --layers or --patch-size" in warning and "\n" not in warning
    near = ModelConfig(layers=1, kernel_size=(1,), downsample=1)
    assert "--kernel-size, --layers or --downsample" in warned(near)[0]
    moving = dataclasses.replace(near, output="motion", reach=2)
    assert "--kernel-size, --layers, --downsample or --reach" in warned(moving)[0]
    assert warned(dataclasses.replace(moving, reach=4)) == []


def test_training_that_never_feeds_back() -> None:
    (warning,) = warned(target_frames=1)
    assert "(--target-frames 1)" in warning and "; --target-frames 5 trains" in warning
    (warning,) = warned(sampling="teacher")
    assert "(--sampling teacher)" in warning and "; --sampling scheduled trains" in warning
    # Its own frames among those given; or those before the first that is scored.
    assert warned(sampling="reverse", target_frames=1) == []
    assert warned(target_frames=1, horizon=3) == []


def test_models_that_feed_nothing_back_anyway() -> None:
    forecaster = ModelConfig("encoder-forecaster", kernel_size=(5,), layers=2, patch_size=4)
    assert warned(forecaster, target_frames=1) == []
    config = Config(
        DataConfig(dataset="moving-lines", input_frames=2),
        ModelConfig("convlstm-classifier", kernel_size=(1,), layers=1, downsample=1),
        TrainingConfig(loss="cross-entropy"),
    )
    assert warnings_for(config, CLIPS) == []


def test_two_warnings_at_once() -> None:
    assert len(warned(GHOSTING, target_frames=1)) == 2
