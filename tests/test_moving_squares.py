"""The generated films are those of the classic example."""

import numpy as np
import pytest

from jaxconvlstm.config import DataConfig, Split
from jaxconvlstm.data.datasets import open_dataset
from jaxconvlstm.data.moving_squares import film_generator, moving_squares
from jaxconvlstm.errors import ConfigError


def slow_film(generator: np.random.Generator, frames: int) -> tuple[np.ndarray, np.ndarray]:
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
            for film in (noisy, clean):
                film[t, y - w : y + w, x - w : x + w] += 1
            if draws[t, n] >= 2:
                sign = 1 if draws[t, n] == 3 else -1
                noisy[t, y - w - 1 : y + w + 1, x - w - 1 : x + w + 1] += sign * 0.1
    noisy, clean = noisy[:, 20:60, 20:60], clean[:, 20:60, 20:60]
    return np.minimum(noisy, 1)[..., None], np.minimum(clean, 1)[..., None]


@pytest.mark.parametrize("index", range(20))
def test_films_equal_the_loops_of_the_example(index: int) -> None:
    noisy, clean = moving_squares(film_generator(1, 0, 0, index), 16)
    assert noisy.shape == clean.shape == (16, 40, 40, 1)
    assert noisy.dtype == clean.dtype == np.float32
    expected_noisy, expected_clean = slow_film(film_generator(1, 0, 0, index), 16)
    np.testing.assert_array_equal(clean, expected_clean)
    np.testing.assert_allclose(noisy, expected_noisy, atol=1e-6)


def test_a_longer_film_goes_on_from_the_same_frames() -> None:
    short, _ = moving_squares(film_generator(3, 0, 1, 2), 5)
    long, _ = moving_squares(film_generator(3, 0, 1, 2), 60)
    np.testing.assert_array_equal(long[:5], short)


def test_targets_follow_the_inputs_without_noise() -> None:
    windows = open_dataset(DataConfig(input_frames=7, target_frames=3), seed=5).windows("val")
    inputs, targets = windows.read(0, 4)
    noisy, clean = moving_squares(film_generator(5, 1, 0, 4), 10)
    np.testing.assert_array_equal(inputs, noisy[:7])
    np.testing.assert_array_equal(targets, clean[7:])
    assert windows.name(4) == "val film 4"


def test_frame_step_takes_every_nth_frame() -> None:
    config = DataConfig(input_frames=2, target_frames=2, frame_step=3)
    inputs, targets = open_dataset(config, seed=5).windows("test").read(0, 1)
    noisy, clean = moving_squares(film_generator(5, 2, 0, 1), 10)
    np.testing.assert_array_equal(inputs, noisy[[0, 3]])
    np.testing.assert_array_equal(targets, clean[[6, 9]])


def test_only_training_films_change_with_the_epoch_and_splits_differ() -> None:
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
    assert limited.windows("all").name(7) == "test film 0"
    assert limited.notes == ["generated films of 40x40x1 float32; windows: train 7, val 0, test 7"]


def test_settings_that_generated_films_cannot_follow() -> None:
    for config in (DataConfig(size=(64, 64)), DataConfig(channels=3), DataConfig(data="pictures")):
        with pytest.raises(ConfigError):
            open_dataset(config, seed=0)
