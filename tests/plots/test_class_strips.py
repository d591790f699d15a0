"""Pictures of classified clips: which frames, which bars, and what is right or wrong."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from picture_search import clip, pixels, places, rim_is_white

from jaxconvlstm.errors import ConfigError
from jaxconvlstm.plots import class_strips, classified
from jaxconvlstm.plots.class_strips import RIGHT, UNKNOWN, WRONG
from jaxconvlstm.plots.drawing import MISSING

CLASSES = ("left to right", "right to left", "top to bottom", "bottom to top")


def count(picture: np.ndarray, colour: tuple[int, int, int]) -> int:
    return int((picture == colour).all(axis=-1).sum())


def test_frames_are_spread_over_each_clip(tmp_path: Path) -> None:
    """A row for each clip, of any length, with its first and last frame."""
    clips = [clip(11, 8, 8, 1, seed=1), clip(2, 8, 8, 1, seed=2)]
    classified(clips, CLASSES, np.eye(4)[:2], None, tmp_path / "classes.png")
    picture = pixels(tmp_path / "classes.png")
    shown = [places(picture, frame) for frame in clips[0]]
    assert [number for number, found in enumerate(shown) if found] == [0, 2, 4, 6, 8, 10]
    tops = {found[0][0] for found in shown if found}
    (lower,) = {places(picture, frame)[0][0] for frame in clips[1]}
    assert len(tops) == 1 and lower > tops.pop()
    lefts = [found[0][1] for found in shown if found]
    assert lefts == sorted(lefts)


def test_right_is_green_and_wrong_is_red(tmp_path: Path) -> None:
    """Each colour stands in the heading and in the bar of what was predicted."""
    clips = [clip(2, 8, 8, 1)]
    chances = np.array([[0.1, 0.7, 0.15, 0.05]])
    seen = {}
    for name, labels in (("right", [1]), ("wrong", [3]), ("unknown", None)):
        classified(clips, CLASSES, chances, labels, tmp_path / f"{name}.png")
        picture = pixels(tmp_path / f"{name}.png")
        seen[name] = [count(picture, colour) > 0 for colour in (RIGHT, WRONG, UNKNOWN)]
        assert rim_is_white(picture)
    assert seen == {
        "right": [True, False, False],
        "wrong": [False, True, False],
        "unknown": [False, False, True],
    }


@pytest.mark.parametrize("chance", [0.25, 0.5, 1.0])
def test_bars_are_as_long_as_classes_are_probable(tmp_path: Path, chance: float) -> None:
    """The bar is the longest run of its colour."""
    chances = np.array([[chance, 1 - chance]])
    classified([clip(1, 8, 8, 1)], ["a", "b"], chances, None, tmp_path / "classes.png")
    picture = pixels(tmp_path / "classes.png")
    index = int(chance < 0.5)
    length = (picture == UNKNOWN).all(axis=-1).sum(axis=1).max()
    assert length == round(chances[0, index] * (class_strips._BAR - 2))


def test_verdicts() -> None:
    chances = np.array([0.3, 0.02, 0.2, 0.25, 0.1, 0.13, 0.0])
    names = list("abcdefg")
    right = class_strips._judge(chances, names, 0)
    assert right.lines == ["a"] and right.colour == RIGHT and right.predicted == 0
    assert [index for index, _, _ in right.bars] == [0, 3, 2, 5, 4]
    assert [is_true for _, _, is_true in right.bars] == [True, False, False, False, False]
    wrong = class_strips._judge(chances, names, 6)
    assert wrong.lines == ["wrong: a", "true: g"] and wrong.colour == WRONG
    # The true class is shown, however improbable.
    assert wrong.bars[-1] == (6, 0.0, True) and len(wrong.bars) == 5
    unknown = class_strips._judge(chances, names, None)
    assert unknown.lines == ["a"] and not any(is_true for _, _, is_true in unknown.bars)
    broken = class_strips._judge(np.array([0.5, np.nan]), names[:2], 1)
    assert broken.lines == ["no class: not a number", "true: b"] and broken.predicted is None


@pytest.mark.parametrize("shape", [(1, 1), (40, 200), (400, 300)])
def test_nothing_is_cut_off(tmp_path: Path, shape: tuple[int, int]) -> None:
    """Of frames of any size, names of any length, and many classes."""
    frames = clip(3, *shape, 3)
    frames[0, 0, 0] = np.nan
    names = [f"a class with a very long name indeed, that goes on, {k}" for k in range(40)]
    chances = np.random.default_rng(0).dirichlet(np.ones(40), 2)
    path = tmp_path / "classes.png"
    classified([frames, frames], names, chances, [3, 4], path, title="a title " * 40)
    picture = pixels(path)
    assert rim_is_white(picture) and picture.shape[1] <= 2000
    assert count(picture, MISSING) > 50  # The key, at least.


def test_bad_arguments_are_named(tmp_path: Path) -> None:
    frames, chances, path = clip(2, 4, 4, 1), np.full((1, 4), 0.25), tmp_path / "classes.png"
    cases: list[tuple[tuple[Any, ...], str]] = [
        (([frames], CLASSES, chances[0], None), "probabilities: expected 2 axes"),
        (([frames] * 2, CLASSES, chances, None), "probabilities: expected 2 clips of 4 classes"),
        (([], CLASSES, chances[:0], None), "probabilities: expected 0 clips of 4 classes"),
        (([frames], CLASSES, chances, [4]), r"labels: expected 1 from 0 to 3, got \[4\]"),
        (([frames], CLASSES, chances, [0, 1]), "labels: expected 1 from 0 to 3"),
        (([frames[0]], CLASSES, chances, None), "clips: expected 4 axes"),
        (([np.uint8(frames)], CLASSES, chances, None), "clips: expected floats from 0 to 1"),
    ]
    for arguments, message in cases:
        with pytest.raises(ConfigError, match=message):
            classified(*arguments, path)
    assert not path.exists()
