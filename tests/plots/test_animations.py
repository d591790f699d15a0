"""Clips play every frame in order, as long as they should, as GIF, MP4 and PNGs."""

import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from picture_search import clip, pages, pixels, places, rim_is_white
from PIL import Image

from jaxconvlstm.errors import ConfigError
from jaxconvlstm.plots import (
    MissingLibraryError,
    animation,
    animations,
    drawing,
    gif,
    mp4,
    step_pictures,
)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("horizon", [1, 6])
@pytest.mark.parametrize("truth", [True, False])
def test_animation(tmp_path: Path, channels: int, horizon: int, truth: bool) -> None:
    inputs = clip(3, 5, 7, channels, seed=1)
    predictions, targets = (clip(horizon, 5, 7, channels, seed) for seed in (2, 3))
    path = tmp_path / "clip.gif"
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
    animation(still, still, still, tmp_path / "clip.gif")
    assert len(pages(tmp_path / "clip.gif")) == 12


@pytest.mark.parametrize("channels", [1, 3])
def test_paper_is_white_and_missing_pixels_are_marked(tmp_path: Path, channels: int) -> None:
    """Also where colours are dithered to the 256 of a GIF."""
    frames = clip(1, 40, 40, channels)
    holed = frames.copy()
    holed[0, 10:20, 10:20] = np.nan
    animation(frames, frames, holed, tmp_path / "clip.gif", title="a clip " * 40)
    given, predicted = pages(tmp_path / "clip.gif")
    for page in (given, predicted):
        assert rim_is_white(page)
    marked = (predicted == drawing.MISSING).all(axis=-1)
    key = (given == drawing.MISSING).all(axis=-1)
    assert marked.sum() - key.sum() == 2 * (10 * 8) ** 2  # Truth and difference, 8 times enlarged.
    assert 50 < key.sum() < 400


def test_large_animation_is_reduced(tmp_path: Path) -> None:
    frames = clip(1, 300, 500, 1)
    animation(frames, frames, frames, tmp_path / "clip.gif")
    assert pages(tmp_path / "clip.gif")[0].shape[1] <= 1600


def test_long_labels_do_not_overlap(tmp_path: Path) -> None:
    """Of frames far narrower than their labels every panel is as wide as the widest."""
    frames = clip(1, 200, 1, 1)
    animation(frames, frames, frames, tmp_path / "clip.gif")
    page = pages(tmp_path / "clip.gif")[1]
    ink = (page[:34] < 128).any(axis=(0, 2))
    gaps = np.diff(np.flatnonzero(ink))
    # Letters are a few pixels apart; the labels of three panels much more.
    assert (gaps > 12).sum() == 2 and rim_is_white(page)


@pytest.mark.parametrize(("rate", "hundredths"), [(5, 20), (8, 12), (1000, 2), (1e-9, 60000)])
def test_pages_are_held_as_long_as_viewers_can(rate: float, hundredths: int) -> None:
    assert gif.page_hundredths(rate) == hundredths


@pytest.mark.parametrize("encoder", mp4._ENCODERS)
@pytest.mark.parametrize("size", [(5, 7), (51, 33)])
def test_mp4_shows_the_same_pages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encoder: str, size: tuple[int, int]
) -> None:
    """As many as the GIF's, as long, of even size, and of the same colours."""
    av = pytest.importorskip("av")
    if not mp4._can_write(av, encoder):
        pytest.skip(f"this PyAV has no encoder {encoder}")
    monkeypatch.setattr(mp4, "_ENCODERS", {encoder: mp4._ENCODERS[encoder]})
    inputs = np.full((2, *size, 3), (0.9, 0.2, 0.1), np.float32)
    predictions = np.full((5, *size, 3), (0.1, 0.3, 0.8), np.float32)
    predictions[3:] = 0.5
    arguments = (inputs, predictions, predictions[::-1])
    animation(*arguments, tmp_path / "clip.mp4", frames_per_second=8)
    drawn = [np.asarray(page).astype(int) for page in animations._pages(*arguments, "")]
    with av.open(str(tmp_path / "clip.mp4")) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == ("mpeg4" if encoder == "mpeg4" else "h264")
        assert stream.codec_context.pix_fmt == "yuv420p"
        decoded = list(container.decode(video=0))
        held = Fraction(12, 100)
        assert [frame.pts * frame.time_base for frame in decoded] == [k * held for k in range(7)]
        assert stream.duration * stream.time_base == 7 * held
    assert len(decoded) == len(drawn)
    for frame, page in zip(decoded, drawn):
        assert frame.width % 2 == frame.height % 2 == 0
        shown = frame.to_ndarray(format="rgb24").astype(int)
        assert (shown[page.shape[0] :] > 240).all() and (shown[:, page.shape[1] :] > 240).all()
        error = np.abs(shown[: page.shape[0], : page.shape[1]] - page)
        # Text has hard edges, of whose colour a quarter is stored.
        assert error.mean() < 3 and np.median(error) <= 3


def test_mp4_is_whole_or_not_there(tmp_path: Path) -> None:
    pytest.importorskip("av")
    path = tmp_path / "clip.mp4"
    path.write_bytes(b"before")

    def broken():
        yield Image.new("RGB", (64, 64))
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        animations.save_clip(broken(), path, 5, False)
    assert path.read_bytes() == b"before"
    assert [entry.name for entry in tmp_path.iterdir()] == ["clip.mp4"]


def test_mp4_without_pyav(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    frames = clip(2, 4, 4, 1)
    with pytest.raises(MissingLibraryError, match="MP4 needs PyAV") as caught:
        animation(frames, frames, None, tmp_path / "clip.mp4")
    assert isinstance(caught.value, ImportError) and "\n" not in str(caught.value)
    assert not any(tmp_path.iterdir())


MARK_COLOURS = {animations.INITIAL: (33, 102, 172), animations.PREDICTION: (178, 24, 43)}


def test_step_pictures(tmp_path: Path) -> None:
    """The given frames on both sides, marked as such; then the prediction beside its truth."""
    inputs = clip(3, 8, 8, 1, seed=1)
    predictions, targets = (clip(4, 8, 8, 1, seed) for seed in (2, 3))
    written = step_pictures(inputs, predictions, targets, tmp_path / "steps", title="clip 3")
    assert [path.name for path in written] == [f"step-{number:03}.png" for number in range(7)]
    assert sorted(tmp_path.glob("steps/*")) == written
    shown = [pixels(path) for path in written]
    assert len({picture.shape for picture in shown}) == 1
    for number, picture in enumerate(shown):
        mark, other = list(MARK_COLOURS.values())[:: 1 if number < 3 else -1]
        assert (picture == mark).all(axis=-1).sum() > 200
        assert not (picture == other).all(axis=-1).any()
        assert rim_is_white(picture)
    for frame, picture in zip(inputs, shown):
        left, right = places(picture, frame)
        assert left[0] == right[0] and left[1] < picture.shape[1] // 2 < right[1]
    for predicted, true, picture in zip(predictions, targets, shown[3:]):
        ((top, left),), ((same_top, right),) = places(picture, predicted), places(picture, true)
        assert top == same_top and left < picture.shape[1] // 2 < right


def test_marks_are_drawn_as_words(tmp_path: Path) -> None:
    """The mark is what the two kinds of pictures differ by, in letters over 20 pixels high."""
    frames = clip(1, 8, 8, 1)
    given, predicted = step_pictures(frames, frames, frames, tmp_path)
    heights = []
    for path, colour in zip((given, predicted), MARK_COLOURS.values()):
        rows = np.flatnonzero((pixels(path) == colour).all(axis=-1).any(axis=1))
        heights.append(np.ptp(rows))
    assert min(heights) >= 20
    widths = [
        np.ptp(np.flatnonzero((pixels(path) == colour).all(axis=-1).any(axis=0)))
        for path, colour in zip((given, predicted), MARK_COLOURS.values())
    ]
    font = drawing.text_font(28, bold=True)
    ratio = font.getlength(animations.INITIAL) / font.getlength(animations.PREDICTION)
    assert widths[0] / widths[1] == pytest.approx(ratio, rel=0.05)


def test_step_pictures_beside_the_truth_of_given_frames(tmp_path: Path) -> None:
    """The truth of all frames after the first: the first has none and stands on both sides."""
    inputs, predictions = clip(3, 8, 8, 1, seed=1), clip(2, 8, 8, 1, seed=2)
    targets = clip(4, 8, 8, 1, seed=3)
    shown = [pixels(path) for path in step_pictures(inputs, predictions, targets, tmp_path)]
    assert len(places(shown[0], inputs[0])) == 2
    for given, true, picture in zip([*inputs[1:], *predictions], targets, shown[1:]):
        assert places(picture, given)[0][1] < places(picture, true)[0][1]


@pytest.mark.parametrize("shape", [(1, 1), (300, 900), (40, 40)])
def test_step_pictures_without_truth_and_of_any_size(
    tmp_path: Path, shape: tuple[int, int]
) -> None:
    frames = clip(1, *shape, 3)
    for path in step_pictures(frames, frames, None, tmp_path):
        picture = pixels(path)
        assert rim_is_white(picture) and 200 <= picture.shape[1] < 900


def test_bad_clips_are_named(tmp_path: Path) -> None:
    frames, path = clip(2, 4, 4, 1), tmp_path / "clip.gif"
    for bad, message in (
        ((frames[0], frames, frames), r"inputs: expected 4 axes"),
        ((frames, np.uint8(frames), None), r"predictions: expected floats from 0 to 1, got uint8"),
        ((frames[:0], frames, None), r"inputs: expected frames to show"),
    ):
        with pytest.raises(ConfigError, match=message):
            animation(*bad, path)
        with pytest.raises(ConfigError, match=message):
            step_pictures(*bad, tmp_path)
    with pytest.raises(ConfigError, match=r"targets: expected the shape of predictions"):
        animation(frames, frames, frames[:1], path)
    with pytest.raises(ConfigError, match=r"targets: expected 2 frames, or the 3 after the first"):
        step_pictures(frames, frames, frames[:1], tmp_path)
    with pytest.raises(ConfigError, match="frames_per_second"):
        animation(frames, frames, None, path, frames_per_second=0)
    with pytest.raises(ConfigError, match=r"clip.avi: expected a clip's name to end in .gif or"):
        animation(frames, frames, None, tmp_path / "clip.avi")
    assert not any(tmp_path.iterdir())
