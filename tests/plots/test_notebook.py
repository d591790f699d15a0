"""`show` plays arrays of any kind in a notebook, and says on which scale."""

import base64
import io
import re
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from picture_search import clip, pages, pixels, places, rim_is_white
from PIL import Image

from jaxconvlstm.errors import ConfigError
from jaxconvlstm.plots.drawing import MISSING
from jaxconvlstm.plots.notebook import Picture, show


def shown(picture: Picture) -> list[np.ndarray]:
    """The pages that a notebook plays."""
    html = picture._repr_html_()
    assert html is not None and picture._repr_png_() is None
    (source,) = re.findall(r'src="data:image/gif;base64,([^"]*)"', html)
    return pages(io.BytesIO(base64.b64decode(source)))  # type: ignore[arg-type]


def still(picture: Picture) -> np.ndarray:
    """The single picture that a notebook displays."""
    data = picture._repr_png_()
    assert data is not None and picture._repr_html_() is None
    return pixels(io.BytesIO(data))  # type: ignore[arg-type]


def test_a_clip_is_played_with_all_its_frames() -> None:
    frames = clip(4, 6, 8, 1)[..., 0]
    found = shown(show(frames))
    assert len(found) == 4
    for page, frame in zip(found, frames):
        assert len(places(page, frame[..., None], 1)) == 1 and rim_is_white(page)


@pytest.mark.parametrize(
    ("shape", "is_still"),
    [
        ((6, 8), True),
        ((6, 8, 1), True),
        ((6, 8, 3), True),
        ((2, 6, 8), False),
        ((2, 6, 8, 1), False),
        ((2, 6, 8, 3), False),
        ((2, 6, 8, 5), False),
    ],
)
def test_layouts(shape: tuple[int, ...], is_still: bool) -> None:
    array = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    picture = show(array)
    page = still(picture) if is_still else shown(picture)[0]
    frame = array if is_still else array[0]
    frame = frame[..., None] if frame.ndim == 2 else frame
    tolerance = 24 if shape[-1] == 3 and not is_still else 1  # A GIF of colours is dithered.
    assert len(places(page, frame / 255, tolerance)) == 1


def test_bytes_and_shares_are_shown_as_they_are() -> None:
    """Even if they do not reach black and white: nothing is stretched, nothing has to be said."""
    grey = np.full((4, 4), 100)
    for array in (grey.astype(np.uint8), grey / 255, jnp.asarray(grey / 255, jnp.float32)):
        picture = show(array)
        assert (100, 100, 100) in still(picture).reshape(-1, 3)
        assert not picture._scales()
    mask = show(np.eye(4, dtype=bool))
    assert len(places(still(mask), np.eye(4)[..., None])) == 1


@pytest.mark.parametrize("dtype", ["uint16", "int32", "float64", "float16"])
def test_other_values_are_scaled_and_the_scale_is_told(dtype: str) -> None:
    array = np.array([[200, 300, 400], [500, 600, 700]]).astype(dtype)
    picture = show(array)
    assert picture._scales() == ["black is 200, white is 700"]
    expected = np.arange(6).reshape(2, 3, 1) / 5
    assert len(places(still(picture), expected)) == 1


def test_clips_of_one_dtype_share_their_scale() -> None:
    first, second = np.array([[0.0, 2.0]]), np.array([[1.0, 4.0]])
    picture = show({"low": first, "high": second, "bytes": np.zeros((1, 2), np.uint8)})
    assert picture._scales() == ["low, high: black is 0, white is 4"]
    page = still(picture)
    assert places(page, np.array([[[0.0], [0.5]]])) and places(page, np.array([[[0.25], [1.0]]]))


@pytest.mark.parametrize("value", [7.0, -1e38, 3.4e38])
def test_a_constant_is_told(value: float) -> None:
    picture = show(np.full((2, 2), value, np.float32))
    assert picture._scales() == [f"all values are {np.float32(value):.4g}"]
    assert (still(picture) == 0).all(axis=-1).any()


def test_what_is_not_finite() -> None:
    """Does not enter the scale: NaN is marked, infinity is white or black."""
    array = np.array([[0.0, 10.0, np.inf], [-np.inf, 5.0, np.nan]])
    picture = show(array)
    assert picture._scales() == ["black is 0, white is 10"]
    expected = np.array([[0, 1, 1], [0, 0.5, 0]])[..., None].repeat(3, axis=-1)
    expected[1, 2] = np.array(MISSING) / 255
    assert len(places(still(picture), expected)) == 1
    assert (still(show(np.full((2, 2), np.nan))) == MISSING).all(axis=-1).sum() > 1000


def test_clips_side_by_side() -> None:
    """In one page each; a still stays, a clip that is over leaves its place empty."""
    long, short, single = clip(3, 6, 8, 1, 1), clip(2, 5, 5, 1, 2), clip(1, 4, 9, 1, 3)[0]
    found = shown(show({"long": long, "short": short}, single))
    assert len(found) == 3 and len({page.shape for page in found}) == 1
    for number, page in enumerate(found):
        ((top, left),) = places(page, long[number], 1)
        ((same_top, right),) = places(page, single, 1)
        assert top == same_top and left < right
        assert bool(places(page, short[min(number, 1)], 1)) == (number < 2)


def test_labels_differ_so_that_no_page_is_lost() -> None:
    assert len(shown(show(np.zeros((5, 8, 8))))) == 5


def test_repr_is_one_readable_line() -> None:
    picture = show({"truth": np.zeros((10, 64, 32))}, np.zeros((4, 4)), title="RUN")
    assert repr(picture) == (
        "<truth (10 frames of 64 x 32), 2 (4 x 4); save('clip.gif') writes it>"
    )
    assert repr(show(np.zeros((4, 4)))) == "<4 x 4; save('picture.png') writes it>"


def test_save_by_ending(tmp_path: Path) -> None:
    frames = clip(5, 8, 8, 1)
    picture = show({"a": frames, "b": frames[:2]}, frames_per_second=8, title="two clips")
    picture.save(tmp_path / "new" / "clip.gif")
    with Image.open(tmp_path / "new" / "clip.gif") as written:
        assert written.n_frames == 5 and written.info["duration"] == 120
    picture.save(str(tmp_path / "clip.png"))
    sheet = pixels(tmp_path / "clip.png")
    assert rim_is_white(sheet) and sheet.shape[1] <= 2000
    assert [len(places(sheet, frame)) for frame in frames] == [2, 2, 1, 1, 1]
    show(frames[0]).save(tmp_path / "still.PNG")
    assert len(places(pixels(tmp_path / "still.PNG"), frames[0])) == 1
    show(frames[0]).save(tmp_path / "still.gif")
    assert len(pages(tmp_path / "still.gif")) == 1
    for name in ("clip.jpg", "clip.avi"):
        with pytest.raises(ConfigError, match=f"{name}: expected"):
            picture.save(tmp_path / name)


def test_save_as_video(tmp_path: Path) -> None:
    av = pytest.importorskip("av")
    show(clip(4, 9, 9, 3)).save(tmp_path / "clip.mp4")
    with av.open(str(tmp_path / "clip.mp4")) as container:
        assert len(list(container.decode(video=0))) == 4


def test_a_sheet_of_a_long_clip_is_not_too_wide(tmp_path: Path) -> None:
    show(np.zeros((200, 4, 4)), title="long").save(tmp_path / "clip.png")
    picture = pixels(tmp_path / "clip.png")
    assert rim_is_white(picture) and picture.shape[1] <= 2000


@pytest.mark.parametrize("count", [1, 2, 9])
def test_pages_fit_into_a_notebook(count: int) -> None:
    """However large the frames are, and however long their names."""
    clips = {f"a clip with a long name, {k}": np.zeros((300, 700, 3)) for k in range(count)}
    page = still(show(clips, title="a title " * 30))
    assert rim_is_white(page) and page.shape[0] < 800 and page.shape[1] <= 1650


def test_titles_cannot_break_the_html() -> None:
    html = show(np.zeros((2, 4, 4)), title='"><script>')._repr_html_()
    assert html is not None and "<script>" not in html


@pytest.mark.parametrize(
    ("clips", "message"),
    [
        ((), "clips: expected at least one array"),
        (({},), "clips: expected at least one array"),
        ((np.zeros(4),), r"clips: expected \[time, height, width\].*got shape \(4,\)"),
        ((np.zeros((1, 2, 3, 4, 1)),), "of a batch show one example"),
        ((np.zeros((2, 0, 4)),), "clips: expected pixels to show"),
        ((np.zeros((4, 4), complex),), "clips: expected real numbers, got complex128"),
        ((np.array([["a"]]),), "clips: expected real numbers"),
        (({"truth": np.zeros((4, 4)), "b": np.zeros(3)},), r"clips\['b'\]: expected"),
    ],
)
def test_what_cannot_be_shown_is_named(clips: tuple[Any, ...], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        show(*clips)


def test_speed_has_to_be_positive() -> None:
    with pytest.raises(ConfigError, match="frames_per_second"):
        show(np.zeros((4, 4)), frames_per_second=0)
