"""The generated clips are those of the classic example."""

import numpy as np
import pytest

from jaxconvlstm.config.data import DataConfig, Split
from jaxconvlstm.data.dataset import open_dataset
from jaxconvlstm.data.synthetic.generated import clip_generator
from jaxconvlstm.data.synthetic.moving_squares import moving_squares
from jaxconvlstm.errors import ConfigError


def slow_clip(generator: np.random.Generator, frames: int) -> tuple[np.ndarray, np.ndarray]:
    """The same random numbers, drawn with the loops and slices of the classic example."""
    squares = generator.integers(3, 8)
    half_widths = generator.choice((2, 3), squares)
    starts = generator.integers(20, 60, (2, squares))
    velocities = generator.integers(-1, 2, (2, squares))
    draws = generator.integers(0, 4, (frames, squares))
    noisy, clean = np.zeros((2, frames, 80, 80))
    for n in range(squares):
        w = half_widths[n]
        for t in range(frames):
            y, x = starts[:, n] + velocities[:, n] * t
            for clip in (noisy, clean):
                clip[t, y - w : y + w, x - w : x + w] += 1
            if draws[t, n] >= 2:
                sign = 1 if draws[t, n] == 3 else -1
                noisy[t, y - w - 1 : y + w + 1, x - w - 1 : x + w + 1] += sign * 0.1
    noisy, clean = noisy[:, 20:60, 20:60], clean[:, 20:60, 20:60]
    return np.minimum(noisy, 1)[..., None], np.minimum(clean, 1)[..., None]


@pytest.mark.parametrize("index", range(20))
def test_clips_equal_the_loops_of_the_example(index: int) -> None:
    noisy, clean = moving_squares(clip_generator(1, 0, 0, index), 16)
    assert noisy.shape == clean.shape == (16, 40, 40, 1)
    assert noisy.dtype == clean.dtype == np.float32
    expected_noisy, expected_clean = slow_clip(clip_generator(1, 0, 0, index), 16)
    np.testing.assert_array_equal(clean, expected_clean)
    np.testing.assert_allclose(noisy, expected_noisy, atol=1e-6)


def test_a_longer_clip_goes_on_from_the_same_frames() -> None:
    short, _ = moving_squares(clip_generator(3, 0, 1, 2), 5)
    long, _ = moving_squares(clip_generator(3, 0, 1, 2), 60)
    np.testing.assert_array_equal(long[:5], short)


def test_targets_follow_the_inputs_without_noise() -> None:
    windows = open_dataset(DataConfig(input_frames=7, target_frames=3), seed=5).windows("val")
    inputs, targets = windows.read(0, 4)
    noisy, clean = moving_squares(clip_generator(5, 1, 0, 4), 10)
    np.testing.assert_array_equal(inputs, noisy[:7])
    np.testing.assert_array_equal(targets, clean[7:])
    assert windows.name(4) == "val clip 4"


def test_targets_may_be_all_frames_after_the_first() -> None:
    config = DataConfig(input_frames=3, target_frames=2, frame_step=2)
    windows = open_dataset(config, seed=5).windows("val", dense_targets=True)
    inputs, targets = windows.read(0, 4, (slice(0, 9), slice(3, 30)))
    noisy, clean = moving_squares(clip_generator(5, 1, 0, 4), 9)
    np.testing.assert_array_equal(inputs, noisy[[0, 2, 4], :9, 3:30])
    np.testing.assert_array_equal(targets, clean[[2, 4, 6, 8], :9, 3:30])
    assert windows.dense_targets


def test_frame_step_takes_every_nth_frame() -> None:
    config = DataConfig(input_frames=2, target_frames=2, frame_step=3)
    inputs, targets = open_dataset(config, seed=5).windows("test").read(0, 1)
    noisy, clean = moving_squares(clip_generator(5, 2, 0, 1), 10)
    np.testing.assert_array_equal(inputs, noisy[[0, 3]])
    np.testing.assert_array_equal(targets, clean[[6, 9]])


COUNTS, HALF_WIDTHS, NOISE = (3, 4, 5, 6, 7), (2, 3), 0.1
"""Of the published example: 3 to 7 squares, 4 or 6 pixels wide; noise of 0.1 in half of the frames,
on a border one pixel wider."""


def cover(time: int, wider: int, half_width: int) -> np.ndarray:
    """Probability `[40, 40]` that one square lies over each pixel, from all its possible clips."""
    along = np.zeros((3, 40))
    for way in (-1, 0, 1):
        for start in range(20, 60):
            centre, half = start + way * time - 20, half_width + wider
            along[way + 1, max(centre - half, 0) : max(centre + half, 0)] += 1 / 40
    across = along.mean(axis=0)  # Both axes are drawn by themselves.
    return np.outer(across, across)


def lit(time: int) -> np.ndarray:
    """Probability `[40, 40]` that a pixel of a clean frame is 1: some square covers it."""
    one = np.mean([cover(time, 0, half_width) for half_width in HALF_WIDTHS], axis=0)
    return 1 - np.mean([(1 - one) ** count for count in COUNTS], axis=0)


def noise_power(time: int) -> np.ndarray:
    """Mean square `[40, 40]` of a noisy frame where the clean one is 0.

    Only a border adds to it: that of any of the squares, while none covers the pixel. Signs of
    different squares cancel in the mean.
    """
    covers = np.mean([cover(time, 0, half_width) for half_width in HALF_WIDTHS], axis=0)
    ring = np.mean([cover(time, 1, half_width) for half_width in HALF_WIDTHS], axis=0) - covers
    share = np.mean([count * ring * (1 - covers) ** (count - 1) for count in COUNTS], axis=0)
    return NOISE**2 / 2 * share


@pytest.fixture(scope="module")
def many_clips() -> tuple[np.ndarray, np.ndarray]:
    """The frames 0, 10 and 19 of 2,500 clips: noisy and clean, `[clips, 3, 40, 40]`."""
    clips = [moving_squares(clip_generator(0, 0, 0, index), 20) for index in range(2500)]
    noisy, clean = (
        np.array([clip[kind][[0, 10, 19], ..., 0] for clip in clips]) for kind in (0, 1)
    )
    return noisy, clean


def assert_mean(found: np.ndarray, expected: np.ndarray, largest_error: float) -> None:
    """Compares the mean of `[clips, 40, 40]` with an expectation `[40, 40]`: in sum, and in the
    middle and at the rim, within 4 standard errors, which are small against what is compared."""
    middle = np.zeros((40, 40), bool)
    middle[10:30, 10:30] = True
    for where in (middle, ~middle, middle | ~middle):
        sums = found[:, where].sum(axis=1)
        error = sums.std() / np.sqrt(len(sums))
        assert error < largest_error * expected[where].sum()
        assert abs(sums.mean() - expected[where].sum()) < 4 * error


@pytest.mark.parametrize("index, time", [(0, 0), (1, 10), (2, 19)])
def test_squares_are_where_the_example_says(many_clips, index: int, time: int) -> None:
    _, clean = many_clips
    assert set(np.unique(clean)) == {0, 1}
    assert_mean(clean[:, index], lit(time), 0.03)


@pytest.mark.parametrize("index, time", [(0, 0), (1, 10), (2, 19)])
def test_noise_is_what_the_example_says(many_clips, index: int, time: int) -> None:
    noisy, clean = many_clips
    dark = np.where(clean[:, index] == 0, noisy[:, index], 0)
    assert_mean(dark**2, noise_power(time), 0.04)
    # As often lighter as darker: the mean is 0.
    sums = dark.sum(axis=(1, 2))
    assert abs(sums.mean()) < 4 * sums.std() / np.sqrt(len(sums))
    # Within squares it darkens alone: what would be lighter than 1 is clipped.
    assert noisy.max() == 1
    inside = noisy[:, index][clean[:, index] == 1]
    assert np.mean(inside < 1) == pytest.approx(1 / 4, abs=0.05)


def test_only_training_clips_change_with_the_epoch_and_splits_differ() -> None:
    dataset = open_dataset(DataConfig(), seed=2**70)
    first = {}
    for split in ("train", "val", "test"):
        windows = dataset.windows(split)
        first[split] = windows.read(0, 0)[0]
        np.testing.assert_array_equal(first[split], windows.read(0, 0)[0])
        assert np.array_equal(first[split], windows.read(1, 0)[0]) == (split != "train")
    assert not np.array_equal(first["train"], first["val"])
    assert not np.array_equal(first["val"], first["test"])


def test_sizes() -> None:
    dataset = open_dataset(DataConfig(), seed=0)
    sizes = [len(dataset.windows(split)) for split in ("train", "val", "test", "all")]
    assert sizes == [800, 100, 200, 1100]
    assert dataset.frame_shape == (40, 40, 1)
    limited = open_dataset(DataConfig(limit=7, split=Split(0.9, 0, 0.1)), seed=0)
    assert len(limited.windows("train")) == 7
    assert limited.windows("all").name(7) == "test clip 0"
    assert limited.notes == ["generated clips of 40x40x1 float32; windows: train 7, val 0, test 7"]


def test_settings_that_generated_clips_cannot_follow() -> None:
    for config in (DataConfig(size=(64, 64)), DataConfig(channels=3), DataConfig(data="pictures")):
        with pytest.raises(ConfigError):
            open_dataset(config, seed=0)
