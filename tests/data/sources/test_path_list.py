"""Path lists: the original form, our own that any name survives, and lines that share frames."""

import json
import os
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opened import images
from PIL import Image

from jaxconvlstm.data.sources.base import Segment
from jaxconvlstm.data.sources.images.path_list import read_path_list, write_path_list
from jaxconvlstm.errors import ConfigError, DataError


def shot(folder: Path, count: int, first: int = 0) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{number}.png" for number in range(first, first + count)]
    for number, path in enumerate(paths, first):
        Image.fromarray(np.full((4, 4), number, np.uint8)).save(path)
    return paths


def written(path: Path, text: str | bytes) -> Path:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def refusal(path: Path) -> str:
    with pytest.raises(DataError) as caught:
        images(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_lines_of_the_original_form(tmp_path: Path) -> None:
    paths = shot(tmp_path / "a", 4)
    text = "a/0.png a/3.png a/1.png \r\n\r\n  \n" + f"{paths[2]}\ta/1.png"
    frames = images(written(tmp_path / "list.txt", "\ufeff" + text))
    assert frames.names == ["line 1", "line 4"]
    assert frames.lengths == [3, 2]
    # In the order given.
    assert frames.read(0, range(3))[:, 0, 0, 0].tolist() == [0, 3, 1]
    # From the list's folder, however the list is named.
    assert [frames.frame_name(0, frame) for frame in range(3)] == ["a/0.png", "a/3.png", "a/1.png"]
    assert frames.frame_name(1, 0) == "a/2.png"
    assert frames.segments() == [Segment(0, 0, 3), Segment(1, 0, 2)]


def test_lines_that_share_frames_are_a_group(tmp_path: Path) -> None:
    shot(tmp_path, 9)
    (tmp_path / "link.png").symlink_to("5.png")
    lines = ["0.png 1.png", "4.png 5.png", "1.png 2.png", "7.png 8.png", "link.png 6.png"]
    frames = images(written(tmp_path / "list.txt", "\n".join(lines)))
    assert frames.groups == [0, 1, 0, 2, 1]
    assert frames.notes == ["lines that share frames: 4, kept in the same split"]
    apart = images(written(tmp_path / "list.txt", "0.png 1.png\n2.png 3.png"))
    assert apart.groups is None and apart.notes == []


def test_a_line_that_holds_a_frame_twice_is_not_divided(tmp_path: Path) -> None:
    shot(tmp_path, 9)
    (tmp_path / "link.png").symlink_to("5.png")
    frames = images(written(tmp_path / "list.txt", "0.png 1.png\n5.png 6.png link.png"))
    assert frames.groups == [0, 1]
    assert frames.notes == ["lines that hold a frame twice: 1, not divided in time"]


def test_a_reordered_list_has_other_frame_names(tmp_path: Path) -> None:
    shot(tmp_path / "a", 2)
    shot(tmp_path / "b", 2)
    lines = ["a/0.png a/1.png", "b/0.png b/1.png"]
    before = images(written(tmp_path / "list.txt", "\n".join(lines)))
    after = images(written(tmp_path / "list.txt", "\n".join(reversed(lines))))
    assert before.names == after.names
    assert before.frame_name(0, 0) != after.frame_name(0, 0)


def test_a_shared_bad_frame_is_bad_in_every_line(tmp_path: Path) -> None:
    shot(tmp_path, 4)
    written(tmp_path / "1.png", "text")
    path = written(tmp_path / "list.txt", "0.png 1.png 2.png\n1.png 2.png 3.png 1.png")
    frames = images(path, on_bad_frame="skip")
    assert {line: list(bad) for line, bad in frames.bad.items()} == {0: [1], 1: [0, 3]}
    assert frames.notes[-1].startswith("bad frames skipped: 1, e.g. ")
    assert "1.png: cannot be read" in refusal(path)


def test_paths_from_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shot(tmp_path / "a", 2)
    (tmp_path / "lists").mkdir()
    path = written(tmp_path / "lists" / "list.txt", "a/0.png a/1.png")
    monkeypatch.chdir(tmp_path)
    assert images(path).notes == [
        "paths taken from the current folder, as they are not in the list's own: 2, e.g. a/0.png"
    ]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("0.png 1.png\n\n0.png gone.png", "list.txt line 3: no such file: gone.png; names with bl"),
        ('["0.png", "gone.png"]', "list.txt line 1: no such file: gone.png"),
        ('["0.png", "\\u0000.png"]', r"list.txt line 1: no such file: \x00.png"),
        ('["0.png", "\\ud800.png"]', r"list.txt line 1: no such file: \ud800.png"),
        ("0.png " + 300 * "x", "no such file: xxx"),
        ("These are notes of mine.", "list.txt line 1: no pictures; accepted are .png, .jpg"),
        ("[]", "list.txt line 1: no pictures"),
        (100_000 * "[", "list.txt line 1: no pictures"),
        ("\n \n", "the path list is empty"),
        (b"\x89PNG\0\0", "not a path list"),
        ("0.png\n".encode("utf-16"), "not a path list"),
    ],
)
def test_what_is_no_path_list(tmp_path: Path, content: str | bytes, reason: str) -> None:
    shot(tmp_path, 2)
    assert reason in refusal(written(tmp_path / "list.txt", content))


def test_a_path_list_has_an_order_of_its_own(tmp_path: Path) -> None:
    shot(tmp_path, 2)
    path = written(tmp_path / "list.txt", "0.png 1.png")
    pages = [Image.new("L", (4, 4), page) for page in range(3)]
    pages[0].save(tmp_path / "clip.tif", save_all=True, append_images=pages[1:])
    for source in (path, tmp_path / "clip.tif"):
        with pytest.raises(ConfigError, match=f"--time-format: .*{source.name}"):
            images(source, time_format="%Y")
        with pytest.raises(ConfigError, match=f"--allow-gaps: .*{source.name}"):
            images(source, allow_gaps=True)


def test_written_lines_are_windows(tmp_path: Path) -> None:
    shot(tmp_path / "data" / "a", 7)
    shot(tmp_path / "data" / "b", 3)
    shot(tmp_path / "data" / "b", 5, first=6)
    out = tmp_path / "list.txt"
    lines, sequences, notes = write_path_list(tmp_path / "data", out, length=3, stride=2)
    assert (lines, sequences) == (6, 2)
    assert notes == [
        "gaps in numbering: 1 (3 frames missing), e.g. before b/6.png; no line crosses one"
    ]
    found = [json.loads(line) for line in out.read_text().splitlines()]
    assert found[0] == ["data/a/0.png", "data/a/1.png", "data/a/2.png"]
    assert found[3:] == [
        [f"data/b/{n}.png" for n in ns] for ns in ((0, 1, 2), (6, 7, 8), (8, 9, 10))
    ]
    frames = images(out)
    assert frames.lengths == [3] * 6
    assert frames.groups == [0, 0, 0, 1, 2, 2]
    assert {path.name for path in tmp_path.iterdir()} == {"data", "list.txt"}

    assert write_path_list(tmp_path / "data", out, length=4, stride=4, overwrite=True) == (
        2, 2, [notes[0], "frames in no line: 7"],
    )  # fmt: skip


def test_what_cannot_be_written(tmp_path: Path) -> None:
    shot(tmp_path / "data", 4)
    out = written(tmp_path / "list.txt", "mine")
    with pytest.raises(ConfigError, match=r"list\.txt: is already there; --overwrite"):
        write_path_list(tmp_path / "data", out)
    with pytest.raises(DataError, match="no 8 frames in a row"):
        write_path_list(tmp_path / "data", out, overwrite=True)
    assert out.read_text() == "mine"
    with pytest.raises(ConfigError, match=r"\.txt"):
        write_path_list(tmp_path / "data", tmp_path / "list.json", length=2)
    with pytest.raises(ConfigError, match="cannot be written: No such file"):
        write_path_list(tmp_path / "data", tmp_path / "gone" / "list.txt", length=2)


def test_files_of_several_pages_are_left_out(tmp_path: Path) -> None:
    shot(tmp_path / "data", 3)
    pages = [Image.fromarray(np.full((4, 4), page, np.uint8)) for page in range(3)]
    pages[0].save(tmp_path / "data" / "clip.tif", save_all=True, append_images=pages[1:])
    lines, _, notes = write_path_list(tmp_path / "data", tmp_path / "list.txt", length=3)
    assert lines == 1
    assert notes == ["files with several pages left out, which a path list cannot hold: 1"]


# Any bytes but those that no name can hold.
names = st.binary(min_size=1, max_size=40).filter(
    lambda name: b"/" not in name and b"\0" not in name and not name.startswith(b".")
)


@settings(deadline=None, max_examples=60)
@given(folder=names, stems=st.lists(names, min_size=1, max_size=4, unique=True))
def test_any_name_survives(folder: bytes, stems: list[bytes]) -> None:
    with tempfile.TemporaryDirectory() as place:
        root = Path(place) / os.fsdecode(folder)
        if root.suffix == ".txt":
            return
        try:
            root.mkdir()
            for stem in stems:
                (root / os.fsdecode(stem + b".png")).touch()
        except OSError:
            return  # This file system refuses the name.
        out = Path(place) / "list .txt"
        lines, _, _ = write_path_list(root, out, length=1, stride=1)
        assert lines == len(stems)
        assert out.read_bytes().isascii()
        found = read_path_list(out)
        assert {path for line in found.lines for path in line} == set(root.iterdir())
        assert found.notes == ["every line holds one picture: a line is a sequence"] * (lines > 1)


def test_lines_of_one_picture_are_noted(tmp_path: Path) -> None:
    shot(tmp_path, 3)
    found = read_path_list(written(tmp_path / "list.txt", "0.png\n1.png\n2.png\n"))
    assert found.notes == ["every line holds one picture: a line is a sequence"]
