"""Pictures show the frames' own values, labelled and in order, and are written whole."""

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jaxconvlstm import drawing
from jaxconvlstm.errors import ConfigError
from jaxconvlstm.pictures import MissingLibraryError, animation, curves, save_frame, strip

Position = tuple[int, int]


def film(frames: int, height: int, width: int, channels: int, seed: int = 0) -> np.ndarray:
    """Coarse random frames: no two alike, and none of a uniform colour."""
    shape = (frames, height, width, channels)
    return np.random.default_rng(seed).random(shape).astype(np.float32)


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB")).astype(int)


def pages(path: Path) -> list[np.ndarray]:
    """All frames of a GIF."""
    with Image.open(path) as picture:
        found = []
        for index in range(getattr(picture, "n_frames", 1)):
            picture.seek(index)
            found.append(np.asarray(picture.convert("RGB")).astype(int))
        return found


def places(picture: np.ndarray, frame: np.ndarray, tolerance: int = 0) -> list[Position]:
    """(y, x) of every place where `frame`, enlarged by some whole factor, stands in `picture`."""
    rgb = np.rint(np.clip(frame, 0, 1) * 255).astype(int)
    rgb = rgb if rgb.shape[-1] == 3 else rgb[..., :1].repeat(3, axis=-1)
    height, width = rgb.shape[:2]
    starts = np.argwhere(np.abs(picture - rgb[0, 0]).max(axis=-1) <= tolerance)
    found = []
    for factor in range(1, 65):
        ends = starts + np.array([height, width]) * factor
        rest = starts[(ends <= picture.shape[:2]).all(axis=1)]
        # The corners of every enlarged pixel: as telling as all of it, and far fewer.
        for place in np.ndindex(height, width):
            for corner in (np.array(place) * factor, (np.array(place) + 1) * factor - 1):
                y, x = (rest + corner).T
                rest = rest[np.abs(picture[y, x] - rgb[place]).max(axis=-1) <= tolerance]
            if len(rest) == 0:
                break
        found += [(int(y), int(x)) for y, x in rest]
    return found


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("horizon", [1, 12])
def test_strip_shows_every_frame_in_its_place(tmp_path: Path, channels: int, horizon: int) -> None:
    inputs = film(3, 5, 7, channels, seed=1)
    predictions, targets = (film(horizon, 5, 7, channels, seed) for seed in (2, 3))
    strip(inputs, predictions, targets, tmp_path / "strip.png", title="a film")
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
    scales = [drawing.difference_scale(np.array([[-d]])) for d in (0, 0.013, 0.1, 0.3, 1)]
    assert scales == [0.01, 0.02, 0.1, 0.5, 1.0]


def test_strip_without_ground_truth(tmp_path: Path) -> None:
    inputs, predictions = film(3, 8, 8, 1), film(2, 8, 8, 1, seed=1)
    strip(inputs, predictions, None, tmp_path / "without.png")
    strip(inputs, predictions, predictions, tmp_path / "with.png")
    without = pixels(tmp_path / "without.png")
    assert all(len(places(without, frame)) == 1 for frame in [*inputs, *predictions])
    assert len(without) < len(pixels(tmp_path / "with.png"))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("horizon", [1, 12, 100])
def test_large_frames_are_reduced(tmp_path: Path, channels: int, horizon: int) -> None:
    frames = film(1, 300, 500, channels)
    future = frames.repeat(horizon, axis=0)
    strip(frames.repeat(4, axis=0), future, future, tmp_path / "strip.png")
    with Image.open(tmp_path / "strip.png") as picture:
        assert 400 <= picture.width <= 2000 and picture.height <= 2000


def test_last_inputs_are_shown(tmp_path: Path) -> None:
    inputs = film(50, 8, 8, 1)
    strip(inputs, inputs[:1], None, tmp_path / "strip.png")
    picture = pixels(tmp_path / "strip.png")
    shown = [index for index, frame in enumerate(inputs[1:], 1) if places(picture, frame)]
    assert shown == list(range(44, 50))


def test_text_is_inside_the_picture(tmp_path: Path) -> None:
    """Titles of any length are wrapped, so that the rim stays white; no name is too odd."""
    frames = film(2, 4, 4, 1)
    for title in ("word " * 60, "x" * 400, "new\nline", "caf\xe9 \udcff \u65e5", "", " "):
        strip(frames, frames, frames, tmp_path / "strip.png", title=title)
        picture = pixels(tmp_path / "strip.png")
        for rim in (picture[:8], picture[-8:], picture[:, :8], picture[:, -8:]):
            assert (rim == 255).all(), title


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("horizon", [1, 12])
@pytest.mark.parametrize("truth", [True, False])
def test_animation(tmp_path: Path, channels: int, horizon: int, truth: bool) -> None:
    inputs = film(3, 5, 7, channels, seed=1)
    predictions, targets = (film(horizon, 5, 7, channels, seed) for seed in (2, 3))
    path = tmp_path / "film.gif"
    animation(inputs, predictions, targets if truth else None, path, frames_per_second=8)
    with Image.open(path) as picture:
        assert picture.n_frames == 3 + horizon and picture.info["loop"] == 0
        for index in range(picture.n_frames):
            picture.seek(index)
            assert picture.info["duration"] == 120  # hundredths of a second: 12.5 rounds to 12
    found = pages(path)
    assert len({page.shape for page in found}) == 1
    # Greys are 1.5 of 255 apart at most; dithered colours move further.
    tolerance = 1 if channels == 1 else 24
    for page, frame in zip(found, [*inputs, *predictions]):
        assert places(page, frame, tolerance)
    for page, frame in zip(found[3:], targets if truth else ()):
        assert places(page, frame, tolerance)[0][1] > page.shape[1] // 4


def test_animation_keeps_frames_that_do_not_change(tmp_path: Path) -> None:
    still = np.full((6, 8, 8, 3), 0.5, np.float32)
    animation(still, still, still, tmp_path / "film.gif")
    assert len(pages(tmp_path / "film.gif")) == 12


def test_paper_of_a_colour_animation_is_white(tmp_path: Path) -> None:
    frames = film(1, 40, 40, 3)
    animation(frames, frames, frames[::-1], tmp_path / "film.gif")
    for page in pages(tmp_path / "film.gif"):
        assert (page[:8] == 255).all() and (page[:, -8:] == 255).all()


def test_large_animation_is_reduced(tmp_path: Path) -> None:
    frames = film(1, 300, 500, 1)
    animation(frames, frames, frames, tmp_path / "film.gif")
    assert pages(tmp_path / "film.gif")[0].shape[1] <= 1600


@pytest.mark.parametrize("draw", [strip, animation])
def test_other_channel_counts_show_the_first(tmp_path: Path, draw: Callable[..., None]) -> None:
    frames = film(2, 8, 8, 5)
    frames[0, 0, 0] = np.nan
    path = tmp_path / "picture"
    draw(frames, frames, frames, path)
    shown = np.nan_to_num(frames[0, ..., :1])
    assert places(pages(path)[0], shown, tolerance=1)


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


@pytest.mark.parametrize("horizon", [1, 12])
def test_curves(tmp_path: Path, horizon: int) -> None:
    scores = {key: list(np.linspace(0.1, 0.9, horizon)) for key in ("mse", "mae", "psnr", "ssim")}
    worse = {**scores, "ssim": [float("nan")] * horizon}
    curves({"model": scores, "persistence": worse}, tmp_path / "curves.png")
    picture = pixels(tmp_path / "curves.png")
    assert picture.shape[1] == 1000
    blue = np.abs(picture - (31, 119, 180)).max(axis=-1) < 8
    half = picture.shape[0] // 2
    for part in (blue[:half, :500], blue[:half, 500:], blue[half:, :500], blue[half:, 500:]):
        assert part.any()


def test_curves_without_matplotlib(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingLibraryError, match="curves need Matplotlib") as caught:
        curves({"model": {"mse": [1.0]}}, tmp_path / "curves.png")
    assert isinstance(caught.value, ImportError) and "\n" not in str(caught.value)


def test_a_picture_is_whole_or_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frames, path = film(2, 4, 4, 1), tmp_path / "new" / "strip.png"
    strip(frames, frames, None, path)
    before = path.read_bytes()
    assert [entry.name for entry in path.parent.iterdir()] == ["strip.png"]

    def fail(image: Image.Image, file: object, **options: object) -> None:
        file.write(b"half a pic")  # type: ignore[attr-defined]
        raise OSError("disk full")

    monkeypatch.setattr(Image.Image, "save", fail)
    with pytest.raises(OSError, match="disk full"):
        strip(frames, frames, frames, path)
    assert path.read_bytes() == before
    assert [entry.name for entry in path.parent.iterdir()] == ["strip.png"]


def test_bad_frames_are_named(tmp_path: Path) -> None:
    frames, path = film(2, 4, 4, 1), tmp_path / "picture"
    for bad, message in (
        ((frames[0], frames, frames), r"inputs: expected 4 axes"),
        ((frames, frames, frames[:1]), r"targets: expected the shape of predictions"),
        ((frames, np.uint8(frames), None), r"predictions: expected floats from 0 to 1, got uint8"),
        ((frames[:0], frames, None), r"inputs: expected frames to show"),
    ):
        for draw in (strip, animation):
            with pytest.raises(ConfigError, match=message):
                draw(*bad, path)
    with pytest.raises(ConfigError, match="frames_per_second"):
        animation(frames, frames, None, path, frames_per_second=0)
    with pytest.raises(ConfigError, match="at least one score"):
        curves({"model": {}}, path)
