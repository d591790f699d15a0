"""Still pictures show the frames' raw values, labelled and in order, and are written whole."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from picture_search import clip, pixels, places, rim_is_white
from PIL import Image

from jaxconvlstm.errors import ConfigError
from jaxconvlstm.plots import decoded_and_raw, drawing, grid, save_frame, strip

MISSING = np.array(drawing.MISSING)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("horizon", [1, 12])
def test_strip_shows_every_frame_in_its_place(tmp_path: Path, channels: int, horizon: int) -> None:
    inputs = clip(3, 5, 7, channels, seed=1)
    predictions, targets = (clip(horizon, 5, 7, channels, seed) for seed in (2, 3))
    strip(inputs, predictions, targets, tmp_path / "strip.png", title="a clip")
    picture = pixels(tmp_path / "strip.png")
    assert picture.shape[1] <= 2000
    tops = []
    for frames in (inputs, predictions, targets):
        found = [places(picture, frame) for frame in frames]
        assert [len(spots) for spots in found] == [1] * len(frames)
        rows, lefts = zip(*[spots[0] for spots in found])
        assert len(set(rows)) == 1
        steps = np.diff(lefts)
        assert (steps >= 64).all() and len(set(steps)) <= 1
        tops.append(rows[0])
    assert tops == sorted(tops) and len(set(tops)) == 3


def test_strip_clips_and_marks_the_difference(tmp_path: Path) -> None:
    """Too low is blue, right is near white, too high is red; values beyond [0, 1] are clipped."""
    predictions = np.array([-3.0, 0.5, 7.0], np.float32).reshape(1, 1, 3, 1)
    targets = np.array([1.0, 0.5, 0.0], np.float32).reshape(1, 1, 3, 1)
    strip(targets, predictions, targets, tmp_path / "strip.png")
    picture = pixels(tmp_path / "strip.png")
    assert len(places(picture, predictions[0])) == 1
    blue, white, red = np.array([(5, 48, 97), (247, 247, 247), (103, 0, 31)]) / 255
    assert len(places(picture, np.stack([blue, white, red])[None])) == 1


def test_difference_scale_is_the_next_round_number() -> None:
    differences = ([[-0.0]], [[-0.013]], [[-0.1]], [[0.3, np.nan]], [[1.0]], [[np.nan]])
    scales = [drawing.difference_scale(np.array(each)) for each in differences]
    assert scales == [0.01, 0.02, 0.1, 0.5, 1.0, 0.01]


def test_strip_without_ground_truth(tmp_path: Path) -> None:
    inputs, predictions = clip(3, 8, 8, 1), clip(2, 8, 8, 1, seed=1)
    strip(inputs, predictions, None, tmp_path / "without.png")
    strip(inputs, predictions, predictions, tmp_path / "with.png")
    without = pixels(tmp_path / "without.png")
    assert all(len(places(without, frame)) == 1 for frame in [*inputs, *predictions])
    assert len(without) < len(pixels(tmp_path / "with.png"))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("horizon", [1, 12, 60])
def test_large_frames_are_reduced(tmp_path: Path, channels: int, horizon: int) -> None:
    frames = clip(1, 200, 500, channels)
    future = frames.repeat(horizon, axis=0)
    strip(frames.repeat(4, axis=0), future, future, tmp_path / "strip.png")
    with Image.open(tmp_path / "strip.png") as picture:
        assert 400 <= picture.width <= 2000 and picture.height <= 2000


def test_last_inputs_are_shown(tmp_path: Path) -> None:
    inputs = clip(50, 8, 8, 1)
    strip(inputs, inputs[:1], None, tmp_path / "strip.png")
    picture = pixels(tmp_path / "strip.png")
    shown = [index for index, frame in enumerate(inputs[1:], 1) if places(picture, frame)]
    assert shown == list(range(44, 50))


TITLES = ("word " * 60, "x" * 400, "new\nline", "caf\xe9 \udcff \u65e5", "", " ")


@pytest.mark.parametrize("title", TITLES, ids=range(len(TITLES)))
def test_text_is_inside_the_picture(tmp_path: Path, title: str) -> None:
    """Titles of any length are wrapped, so that the rim stays white; no name is too odd."""
    frames = clip(2, 4, 4, 1)
    strip(frames, frames, frames, tmp_path / "strip.png", title=title)
    grid([(frames, frames, frames)], tmp_path / "grid.png", title=title, names=[title])
    for name in ("strip.png", "grid.png"):
        assert rim_is_white(pixels(tmp_path / name))


def test_letters_of_most_alphabets_are_known() -> None:
    font = drawing.text_font()
    unknown = bytes(font.getmask("\ue123"))
    assert all(bytes(font.getmask(letter)) != unknown for letter in "äßéñłжλ±…→")


def test_missing_pixels_have_their_own_colour_and_a_key(tmp_path: Path) -> None:
    """In the truth and in the difference, of which nothing is known there; never in others."""
    frames = clip(2, 8, 8, 1)
    holed = frames.copy()
    holed[1, 2:4, 5] = np.nan
    strip(frames, frames, frames, tmp_path / "whole.png")
    strip(frames, frames, holed, tmp_path / "holed.png")
    whole, picture = pixels(tmp_path / "whole.png"), pixels(tmp_path / "holed.png")
    assert not (whole == MISSING).all(axis=-1).any()
    assert len(picture) == len(whole) + drawing.LINE
    rgb = frames[1].repeat(3, axis=-1)
    rgb[2:4, 5] = MISSING / 255
    assert len(places(picture, rgb)) == 1
    marked = (picture == MISSING).all(axis=-1)
    # Two rows, two pixels, 20 times enlarged; the key is at the left.
    assert marked[:, 60:].sum() == 2 * 2 * 20**2 and 50 < marked[:, :60].sum() < 400


def test_a_reduced_pixel_is_missing_if_most_of_it_is() -> None:
    """Of what a pixel stands for, missing ones leave the mean of the others as it is."""
    frame = np.full((4, 8, 3), 100, np.uint8)
    frame[:2, :2] = drawing.MISSING
    frame[0, 2] = drawing.MISSING
    frame[2:, 6:] = 200
    reduced = np.asarray(drawing._resized(frame, (2, 4)))
    assert (reduced[0, 0] == MISSING).all()
    assert (reduced[0, 1:] == 100).all() and (reduced[1, :3] == 100).all()
    assert (reduced[1, 3] == 200).all()


def test_infinite_values_are_clipped(tmp_path: Path) -> None:
    frames = np.array([-np.inf, 0.5, np.inf], np.float32).reshape(1, 1, 3, 1)
    strip(frames, frames, None, tmp_path / "strip.png")
    assert len(places(pixels(tmp_path / "strip.png"), np.array([[[0], [0.5], [1]]]))) == 2


def test_other_channel_counts_show_the_first(tmp_path: Path) -> None:
    frames = clip(2, 8, 8, 5)
    strip(frames, frames, frames, tmp_path / "strip.png")
    assert places(pixels(tmp_path / "strip.png"), frames[0, ..., :1])


def test_grid_shows_windows_below_each_other(tmp_path: Path) -> None:
    """Inputs and truth in one row, the prediction right below its truth."""
    windows = [tuple(clip(n, 8, 8, 1, 3 * k + i) for i, n in enumerate((6, 5, 5))) for k in (0, 1)]
    grid(windows, tmp_path / "grid.png", title="two", names=["first", "second"])
    picture = pixels(tmp_path / "grid.png")
    bottom = 0
    for inputs, predictions, targets in windows:
        assert not any(places(picture, frame) for frame in inputs[:2])
        given, true, predicted = (
            [places(picture, frame)[0] for frame in frames]
            for frames in (inputs[2:], targets, predictions)
        )
        assert len({y for y, _ in given + true}) == 1 and len({y for y, _ in predicted}) == 1
        assert true[0][0] > bottom and predicted[0][0] - true[0][0] == 16 * 8 + drawing.GAP
        assert [x for _, x in true] == [x for _, x in predicted]
        lefts = [x for _, x in given + true]
        steps = np.diff(lefts)
        # The line between given and predicted frames takes its own room.
        assert set(np.delete(steps, 3)) == {16 * 8 + drawing.GAP}
        assert steps[3] == 16 * 8 + 3 * drawing.GAP
        bottom = predicted[0][0] + 16 * 8


def test_grid_of_windows_without_truth_or_with_few_inputs(tmp_path: Path) -> None:
    first, second = clip(4, 8, 8, 1, 1), clip(2, 8, 8, 1, 2)
    grid([(first, first[:1], None), (second, second[:1], None)], tmp_path / "grid.png")
    picture = pixels(tmp_path / "grid.png")
    last = [places(picture, frames[-1])[0] for frames in (first, second)]
    assert last[0][1] == last[1][1] and last[0][0] < last[1][0]


@pytest.mark.parametrize(("shape", "horizon"), [((8, 8), 60), ((300, 500), 3), ((1, 400), 1)])
def test_grid_is_never_too_wide(tmp_path: Path, shape: tuple[int, int], horizon: int) -> None:
    frames = clip(horizon, *shape, 1)
    grid([(frames, frames, frames)] * 2, tmp_path / "grid.png")
    picture = pixels(tmp_path / "grid.png")
    assert 400 <= picture.shape[1] <= 2000 and rim_is_white(picture)


def test_decoded_and_raw_are_the_pixels_alone(tmp_path: Path) -> None:
    target = np.random.default_rng(0).integers(0, 256, (5, 7, 3))
    prediction = (target / 255).astype(np.float32)
    prediction[0, 0], prediction[0, 1, 0] = (-0.5, np.nan, 1.5), np.inf
    paths = decoded_and_raw(prediction, target / 255, tmp_path / "new" / "epoch-5")
    assert [path.name for path in paths] == ["epoch-5-decoded.png", "epoch-5-raw.png"]
    np.testing.assert_array_equal(pixels(paths[1]), target)
    expected = target.copy()
    expected[0, 0], expected[0, 1, 0] = (0, 0, 255), 255
    np.testing.assert_array_equal(pixels(paths[0]), expected)


def test_decoded_and_raw_of_grey_frames(tmp_path: Path) -> None:
    frame = (np.arange(256).reshape(16, 16, 1) / 255).astype(np.float32)
    for path in decoded_and_raw(frame, frame[::-1], str(tmp_path / "grey.v2")):
        with Image.open(path) as picture:
            assert picture.mode == "L" and picture.size == (16, 16)
    first, second = tmp_path / "grey.v2-decoded.png", tmp_path / "grey.v2-raw.png"
    np.testing.assert_array_equal(pixels(first)[..., 0].ravel(), np.arange(256))
    np.testing.assert_array_equal(pixels(second)[::-1], pixels(first))


def test_decoded_and_raw_refuse_what_is_no_frame(tmp_path: Path) -> None:
    frame = np.zeros((4, 4, 1), np.float32)
    with pytest.raises(ConfigError, match="target: expected floats from 0 to 1, got uint8"):
        decoded_and_raw(frame, frame.astype(np.uint8), tmp_path / "a")
    with pytest.raises(ConfigError, match="prediction: expected 3 axes"):
        decoded_and_raw(frame[..., 0], frame, tmp_path / "a")


@pytest.mark.parametrize(
    ("dtype", "channels", "mode"),
    [("uint8", 1, "L"), ("uint8", 3, "RGB"), ("uint16", 1, "I;16"), (">u2", 1, "I;16")],
)
def test_saved_frame_is_exact(tmp_path: Path, dtype: str, channels: int, mode: str) -> None:
    limit = np.iinfo(dtype).max
    frame = np.random.default_rng(0).integers(0, limit + 1, (5, 7, channels)).astype(dtype)
    frame[0, 0], frame[0, 1] = 0, limit
    save_frame(frame, tmp_path / "frame.png")
    with Image.open(tmp_path / "frame.png") as picture:
        assert picture.mode == mode
        np.testing.assert_array_equal(np.asarray(picture).reshape(frame.shape), frame)


@pytest.mark.parametrize(("dtype", "channels"), [("uint8", 2), ("uint8", 5), ("uint16", 3)])
def test_first_channel_is_saved_where_a_png_cannot_hold_all(
    tmp_path: Path, dtype: str, channels: int
) -> None:
    frame = np.random.default_rng(0).integers(0, 200, (5, 7, channels)).astype(dtype)
    save_frame(frame, tmp_path / "frame.png")
    with Image.open(tmp_path / "frame.png") as picture:
        np.testing.assert_array_equal(np.asarray(picture), frame[..., 0])


@pytest.mark.parametrize("dtype", ["float32", "int16", "bool"])
def test_frames_that_no_png_holds_are_refused(tmp_path: Path, dtype: str) -> None:
    with pytest.raises(ConfigError, match=f"got {dtype}"):
        save_frame(np.zeros((4, 4, 1), dtype), tmp_path / "frame.png")
    with pytest.raises(ConfigError, match="pixels to write"):
        save_frame(np.zeros((4, 4, 0), np.uint8), tmp_path / "frame.png")
    assert not any(tmp_path.iterdir())


def test_a_picture_is_whole_or_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frames, path = clip(2, 4, 4, 1), tmp_path / "new" / "strip.png"
    strip(frames, frames, None, path)
    before = path.read_bytes()
    assert [entry.name for entry in path.parent.iterdir()] == ["strip.png"]

    def fail(image: Image.Image, file: Any, **options: object) -> None:
        file.write(b"half a pic")
        raise OSError("disk full")

    monkeypatch.setattr(Image.Image, "save", fail)
    with pytest.raises(OSError, match="disk full"):
        strip(frames, frames, frames, path)
    assert path.read_bytes() == before
    assert [entry.name for entry in path.parent.iterdir()] == ["strip.png"]


def test_bad_frames_are_named(tmp_path: Path) -> None:
    frames, path = clip(2, 4, 4, 1), tmp_path / "picture"
    for bad, message in (
        ((frames[0], frames, frames), r"inputs: expected 4 axes"),
        ((frames, frames, frames[:1]), r"targets: expected the shape of predictions"),
        ((frames, np.uint8(frames), None), r"predictions: expected floats from 0 to 1, got uint8"),
        ((frames[:0], frames, None), r"inputs: expected frames to show"),
    ):
        with pytest.raises(ConfigError, match=message):
            strip(*bad, path)
        with pytest.raises(ConfigError, match=message):
            grid([bad], path)
    with pytest.raises(ConfigError, match="clips: expected at least one window"):
        grid([], path)
    with pytest.raises(ConfigError, match="names: expected 1, one for each window, got 2"):
        grid([(frames, frames, None)], path, names=["a", "b"])
    with pytest.raises(ConfigError, match="expected the shape of those of the first window"):
        grid([(frames, frames, None), (frames, frames[:1], None)], path)
    assert not path.exists()
