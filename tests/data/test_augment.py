"""Augmentation: one change for all of a window, drawn from its seed, epoch and index alone."""

import dataclasses
import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from opened import augmented_by

from jaxconvlstm.data.augment import Augmentation, Change, background, signal
from jaxconvlstm.errors import DataError


def any_augmentation(crop: tuple[int, int] | None, crop_by: str, **options: Any) -> Augmentation:
    """Without a crop, there is no way to choose it."""
    return augmented_by(crop=crop, crop_by=crop_by if crop else "uniform", **options)


augmentations = st.builds(
    any_augmentation,
    crop=st.none() | st.tuples(st.integers(1, 5), st.integers(1, 7)),
    crop_by=st.sampled_from(["uniform", "signal"]),
    flip=st.sampled_from(["none", "horizontal", "vertical", "both"]),
    rotate=st.booleans(),
    reverse=st.booleans(),
)
numbers = st.integers(0, 2**40)


def coordinates(frames: int, height: int = 5, width: int = 7) -> np.ndarray:
    """A clip `[frames, height, width, 3]` whose pixels say their frame, row and column."""
    return np.stack(np.indices((frames, height, width)), axis=-1)


def augmented(augmentation: Augmentation, clip: np.ndarray, index: int = 0) -> np.ndarray:
    """A clip of 3 input frames and the rest targets, as the loader changes it."""
    change = augmentation.draw(1, 0, index, clip.shape[1:3], clip[2])
    rows, columns = change.region or (slice(None), slice(None))
    inputs, targets = change.apply(clip[:3, rows, columns], clip[3:, rows, columns])
    assert len(inputs) == 3
    return np.concatenate([inputs, targets])


@given(augmentations, numbers)
def test_all_frames_of_a_window_are_changed_alike(augmentation: Augmentation, index: int) -> None:
    clip = augmented(augmentation, coordinates(5), index)
    order = clip[:, 0, 0, 0].tolist()
    assert order == [0, 1, 2, 3, 4] or (augmentation.options.reverse and order == [4, 3, 2, 1, 0])
    places = clip[..., 1:]
    assert (places == places[0]).all() and (clip[..., 0] == clip[:, :1, :1, 0]).all()
    # Neighbours stay neighbours, and no pixel is there twice.
    for axis in (0, 1):
        steps = np.abs(np.diff(places[0], axis=axis)).sum(axis=-1)
        assert (steps == 1).all()
    size = augmentation.options.crop or (5, 7)
    assert len(np.unique(places[0].reshape(-1, 2), axis=0)) == size[0] * size[1]
    turned = augmentation.options.rotate and size[0] == size[1]
    assert clip.shape[1:3] == size or (turned and clip.shape[2:0:-1] == size)


@given(augmentations, numbers, numbers, numbers)
def test_the_same_numbers_give_the_same_change(
    augmentation: Augmentation, seed: int, epoch: int, index: int
) -> None:
    frame = coordinates(1)[0]
    first, second = (augmentation.draw(seed, epoch, index, (5, 7), frame) for _ in range(2))
    assert first == second


def test_each_number_matters() -> None:
    augmentation = augmented_by(crop=(8, 8))
    drawn = [
        augmentation.draw(*numbers, (999, 999)) for numbers in itertools.product((1, 2), repeat=3)
    ]
    assert len({str(change) for change in drawn}) == 8


@given(augmentations, numbers, st.sampled_from(["flip", "rotate", "reverse"]))
def test_switching_one_on_changes_no_other(
    augmentation: Augmentation, index: int, name: str
) -> None:
    off, on = (
        Augmentation(dataclasses.replace(augmentation.options, **{name: value})).draw(
            0, 0, index, (5, 7), coordinates(1)[0]
        )
        for value in (("none", "both") if name == "flip" else (False, True))
    )
    belongs = {
        "flip": ("upside_down", "mirrored"),
        "rotate": ("quarter_turns",),
        "reverse": ("backwards",),
    }[name]
    for field in Change._fields:
        assert field in belongs or getattr(off, field) == getattr(on, field)


@pytest.mark.parametrize(
    ("flip", "allowed"),
    [
        ("none", {(False, False)}),
        ("horizontal", {(False, False), (False, True)}),
        ("vertical", {(False, False), (True, False)}),
        ("both", set(itertools.product((False, True), repeat=2))),
    ],
)
def test_flips(flip: Any, allowed: set[tuple[bool, bool]]) -> None:
    drawn = [augmented_by(flip=flip).draw(1, 0, index, (6, 8)) for index in range(100)]
    assert {(change.upside_down, change.mirrored) for change in drawn} == allowed


@pytest.mark.parametrize(
    ("crop", "size", "turns"),
    [(None, (6, 8), {0, 2}), (None, (6, 6), {0, 1, 2, 3}), ((4, 4), (6, 8), {0, 1, 2, 3})],
)
def test_turns(crop: Any, size: tuple[int, int], turns: set[int]) -> None:
    drawn = [augmented_by(crop=crop, rotate=True).draw(1, 0, i, size) for i in range(100)]
    assert {change.quarter_turns for change in drawn} == turns


def test_each_way_is_drawn_about_as_often() -> None:
    augmentation = augmented_by(flip="both", rotate=True, reverse=True)
    drawn = [augmentation.draw(3, 0, index, (6, 6)) for index in range(2000)]
    ways, counts = np.unique(
        [tuple(map(int, change[1:])) for change in drawn], axis=0, return_counts=True
    )
    assert len(ways) == 2 * 2 * 4 * 2
    # 62.5 are expected of each; 3.9 standard deviations either way.
    assert counts.min() > 32 and counts.max() < 95


def test_a_clip_played_backwards_begins_with_its_targets() -> None:
    clip = coordinates(5)
    inputs, targets = Change(backwards=True).apply(clip[:3], clip[3:])
    assert (inputs[:, 0, 0, 0].tolist(), targets[:, 0, 0, 0].tolist()) == ([4, 3, 2], [1, 0])


def test_uniform_crops_reach_every_place_alike() -> None:
    augmentation = augmented_by(crop=(4, 5))
    regions = [augmentation.draw(1, 0, index, (6, 8)).region for index in range(1200)]
    places, counts = np.unique(
        [(rows.start, columns.start) for rows, columns in filter(None, regions)],
        axis=0,
        return_counts=True,
    )
    assert len(places) == 3 * 4
    # 100 are expected of each; 4 standard deviations either way.
    assert counts.min() > 60 and counts.max() < 140


def covered(frame: np.ndarray, spot: tuple[int, int], missing: float | None = None) -> float:
    """Share of 400 crops of 8x8 by signal that hold a place of the frame."""
    augmentation = augmented_by(crop=(8, 8), crop_by="signal", missing_value=missing)
    hits = 0
    for index in range(400):
        region = augmentation.draw(5, 0, index, frame.shape[:2], frame).region
        assert region is not None
        for part, side in zip(region, frame.shape[:2], strict=True):
            assert part.start >= 0 and part.stop <= side and part.stop - part.start == 8
        hits += all(part.start <= at < part.stop for part, at in zip(region, spot, strict=True))
    return hits / 400


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.float32])
def test_signal_crops_look_where_something_is(dtype: Any) -> None:
    frame = np.full((32, 32, 1), 20, dtype)
    uniform = covered(frame, (14, 20))
    assert 0.05 < uniform < 0.2
    frame[12:16, 18:22] = 100
    # One crop in ten would hold the spot; the likeliest of eight holds it far more often.
    assert covered(frame, (14, 20)) > 3.5 * uniform
    # Places without anything stay possible.
    assert 0 < covered(frame, (28, 4)) < 0.1


@pytest.mark.parametrize(("dtype", "code"), [(np.uint8, 255), (np.float32, np.nan)])
def test_missing_values_are_no_signal(dtype: Any, code: float) -> None:
    frame = np.zeros((32, 32, 1), dtype)
    plain = covered(frame, (14, 20))
    frame[10:18, 16:24] = code
    missing = None if np.isnan(code) else code
    assert covered(frame, (14, 20), missing) == plain
    # Nor is anything wrong with a frame of nothing else.
    frame[:] = code
    assert covered(frame, (14, 20), missing) == plain


def test_background_and_signal() -> None:
    frame = np.zeros((20, 20, 2), np.uint8)
    frame[..., 1] = 7
    frame[:5] = (100, 9)
    assert background(frame).tolist() == [0, 7]
    assert signal(frame[:5], background(frame)) == (100 + 2) / 2
    assert signal(frame, background(frame), missing=100) == pytest.approx((0 + 2) / 2 / 4)
    assert background(frame.astype(np.float32) + 0.5).tolist() == [0.5, 7.5]
    assert background(np.full((4, 4, 1), np.nan, np.float32)).tolist() == [0]


def test_too_large_a_crop() -> None:
    augmented_by(crop=(6, 8)).check((6, 8, 1))
    with pytest.raises(DataError, match="--crop 7 8 is larger than the frames, 6x8"):
        augmented_by(crop=(7, 8)).check((6, 8, 1))
