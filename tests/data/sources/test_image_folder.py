"""Folders of pictures: order, kinds of pictures, and the faults that real ones have."""

import os
import struct
import threading
import tracemalloc
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from opened import images
from PIL import Image

from jaxconvlstm.data.preprocess import resize
from jaxconvlstm.data.sources.base import Segment
from jaxconvlstm.data.sources.files import natural_key
from jaxconvlstm.data.sources.images import folder, image_check, listing
from jaxconvlstm.data.sources.images.image_file import read_header, read_picture
from jaxconvlstm.data.sources.images.listing import list_sequences
from jaxconvlstm.errors import ConfigError, DataError, StuckReaderError
from jaxconvlstm.messages import printable

SHAPE = (6, 8)


def ramp(dtype: Any = np.uint8, channels: int | None = None) -> np.ndarray:
    """A picture in which all pixels differ, over the whole range of an integer dtype."""
    shape = SHAPE if channels is None else (*SHAPE, channels)
    top = np.iinfo(dtype).max if np.dtype(dtype).kind == "u" else 1
    return np.linspace(0, top, int(np.prod(shape))).astype(dtype).reshape(shape)


def write(path: Path, pixels: np.ndarray | None = None, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(ramp() if pixels is None else pixels).save(path, **options)
    return path


def png_of_16_bits(path: Path, colour_type: int, samples: int) -> Path:
    """A PNG with 16 bits in each of several samples, which Pillow cannot write."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    rows = b"".join(b"\0" + bytes(range(8 * samples * 2)) for _ in range(6))
    header = struct.pack(">IIBBBBB", 8, 6, 16, colour_type, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )
    return path


def refusal(path: Path, **options: Any) -> str:
    """The error that reading a folder ends in: always one line."""
    with pytest.raises(DataError) as caught:
        images(path, **options)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 3
    return str(caught.value)


def test_order_is_natural_with_and_without_padding() -> None:
    names = ["frame10", "frame2", "frame1", "frame003", "b2a10", "b2a9", "a", "frame01", "Frame4"]
    expected = [
        "a",
        "b2a9",
        "b2a10",
        "frame01",
        "frame1",
        "frame2",
        "frame003",
        "Frame4",
        "frame10",
    ]
    assert sorted(names, key=natural_key) == expected


def test_every_folder_of_pictures_is_a_sequence(tmp_path: Path) -> None:
    for name in ("shot10/a.png", "shot2/a.png", "shot2/deep/b.JPG", "top.png", ".hidden/a.png"):
        write(tmp_path / name)
    frames = images(tmp_path)
    assert [s.name for s in frames.sequences] == [tmp_path.name, "shot2", "shot2/deep", "shot10"]
    assert frames.lengths == [1, 1, 1, 1]
    assert frames.frame_shape == (6, 8, 1)
    assert frames.names == [s.name for s in frames.sequences]
    assert frames.notes == []


def test_other_files_are_ignored_and_counted(tmp_path: Path) -> None:
    write(tmp_path / "a.png")
    for name in ("._a.png", ".DS_Store", "Thumbs.db", "notes.txt", "png"):
        (tmp_path / name).write_bytes(b"text")
    frames = images(tmp_path)
    assert frames.lengths == [1]
    assert len(frames.notes) == 1
    assert frames.notes[0].startswith("files ignored that are no pictures: 5")


def test_links_end_and_each_folder_counts_once(tmp_path: Path) -> None:
    write(tmp_path / "real" / "a.png")
    (tmp_path / "real" / "up").symlink_to(tmp_path)
    (tmp_path / "zlink").symlink_to(tmp_path / "real")
    (tmp_path / "self").symlink_to(tmp_path / "self")
    sequences, notes = list_sequences(tmp_path)
    assert [sequence.name for sequence in sequences] == ["real"]
    assert notes == [f"files ignored that are no pictures: 1, e.g. {tmp_path}/self"]


@pytest.mark.parametrize("name", [b"caf\xe9", b"a b\n-c", "é".encode(), b"-x"])
def test_any_name_can_be_read_and_printed(tmp_path: Path, name: bytes) -> None:
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name))
    try:
        folder.mkdir()
    except OSError:
        pytest.skip("this file system refuses the name")
    write(folder / "a.png")
    write(folder / os.fsdecode(b"b\xff.png"))
    frames = images(tmp_path)
    assert frames.lengths == [2]
    shown = frames.sequences[0].name
    assert shown.encode("utf-8") and "\n" not in shown
    (folder / os.fsdecode(b"b\xff.png")).write_bytes(b"")
    assert r"\udcff.png" in refusal(tmp_path).encode("utf-8").decode()


@pytest.mark.parametrize(
    ("mode", "channels"),
    [("1", 1), ("L", 1), ("LA", 1), ("P", 3), ("RGB", 3), ("RGBA", 3), ("CMYK", 3)],
)
def test_modes_of_8_bits(tmp_path: Path, mode: str, channels: int) -> None:
    picture = Image.fromarray(ramp(channels=3)).convert(mode)
    path = tmp_path / ("a.tif" if mode == "CMYK" else "a.png")
    picture.save(path)
    own = images(tmp_path)
    assert own.frame_shape == (*SHAPE, channels)
    assert own.dtype == np.uint8
    for wanted, kind in ((1, "L"), (3, "RGB")):
        frame = images(tmp_path, channels=wanted).read(0, [0])[0]
        expected = np.asarray(picture.convert(kind)).reshape(*SHAPE, wanted)
        np.testing.assert_array_equal(frame, expected)


def test_palette_with_transparency_does_not_warn(tmp_path: Path) -> None:
    picture = Image.fromarray(ramp(channels=3)).convert("P")
    picture.save(tmp_path / "a.png", transparency=bytes(range(256)))
    assert images(tmp_path).frame_shape == (*SHAPE, 3)


@pytest.mark.parametrize("extension", ["png", "tif", "pgm"])
def test_16_bits_keep_every_value(tmp_path: Path, extension: str) -> None:
    write(tmp_path / f"a.{extension}", ramp(np.uint16))
    for channels in (None, 1, 3):
        frame = images(tmp_path, channels=channels).read(0, [0])[0]
        assert frame.dtype == np.uint16
        assert frame.shape == (*SHAPE, channels or 1)
        np.testing.assert_array_equal(frame[..., -1], ramp(np.uint16))


def test_big_endian_16_bits(tmp_path: Path) -> None:
    pixels = ramp(np.uint16)
    Image.frombytes("I;16B", SHAPE[::-1], pixels.astype(">u2").tobytes()).save(tmp_path / "a.tif")
    frame = images(tmp_path).read(0, [0])[0]
    assert frame.dtype == np.uint16 and frame.dtype.isnative
    np.testing.assert_array_equal(frame[..., 0], pixels)


def test_floats_stay_floats(tmp_path: Path) -> None:
    write(tmp_path / "a.tif", ramp(np.float32) - 7)
    frame = images(tmp_path, channels=1).read(0, [0])[0]
    assert frame.dtype == np.float32
    np.testing.assert_array_equal(frame[..., 0], ramp(np.float32) - 7)


def test_non_finite_floats_are_named(tmp_path: Path) -> None:
    pixels = ramp(np.float32)
    pixels[2, 3] = np.nan
    write(tmp_path / "a.tif", pixels)
    assert "a.tif: cannot be read: NaN or infinity at row 2, column 3" in refusal(tmp_path)


@pytest.mark.parametrize(("colour_type", "samples"), [(2, 3), (4, 2), (6, 4)])
def test_16_bit_colour_is_not_squeezed(tmp_path: Path, colour_type: int, samples: int) -> None:
    png_of_16_bits(tmp_path / "a.png", colour_type, samples)
    assert "a.png" in refusal(tmp_path) and "would be cut to 8" in refusal(tmp_path)


def test_16_bit_colour_ppm_is_not_squeezed(tmp_path: Path) -> None:
    (tmp_path / "a.ppm").write_bytes(b"P6 2 2 65535\n" + bytes(24))
    assert "would be cut to 8" in refusal(tmp_path)


@pytest.mark.parametrize(("orientation", "turned"), [(1, False), (3, False), (6, True), (8, True)])
def test_exif_rotation(tmp_path: Path, orientation: int, turned: bool) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    plain = write(tmp_path / "plain.jpg")
    rotated = write(tmp_path / "turned.jpg", exif=exif)
    quarter_turns = {1: 0, 3: 2, 6: 3, 8: 1}[orientation]
    frame = read_picture(rotated).frame
    np.testing.assert_array_equal(frame, np.rot90(read_picture(plain).frame, quarter_turns))
    assert frame.shape[:2] == (SHAPE[::-1] if turned else SHAPE)
    assert read_header(rotated)[:2] == frame.shape[:2]


@pytest.mark.parametrize("check_files", [None, "all"])
def test_truncated_picture_is_found_before_training(tmp_path: Path, check_files: Any) -> None:
    write(tmp_path / "a.png")
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    for name in ("b.png", "b.jpg"):
        bad = write(tmp_path / name, noise)
        bad.write_bytes(bad.read_bytes()[: bad.stat().st_size // 2])
        assert f"{name}: cannot be read" in refusal(tmp_path, check_files=check_files)
        bad.unlink()


def test_unchecked_truncated_picture_fails_when_read(tmp_path: Path) -> None:
    write(tmp_path / "a.png", ramp(channels=3))
    bad = write(tmp_path / "b.png", np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8))
    bad.write_bytes(bad.read_bytes()[:80])
    for check_files in ("none", "headers"):
        frames = images(tmp_path, check_files=check_files)
        with pytest.raises(DataError, match=r"b\.png"):
            frames.read(0, [1])[0]


@pytest.mark.parametrize("check_files", ["all", "headers"])
@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "the file is empty"),
        (b"text\n" * 9, "not a picture"),
        (b"%!PS-Adobe", "not a picture"),
    ],
)
def test_what_is_no_picture(tmp_path: Path, content: bytes, reason: str, check_files: Any) -> None:
    write(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(content)
    assert f"b.png: cannot be read: {reason}" in refusal(tmp_path, check_files=check_files)


def test_a_broken_link_is_not_silently_left_out(tmp_path: Path) -> None:
    write(tmp_path / "a.png")
    (tmp_path / "b.png").symlink_to(tmp_path / "gone.png")
    assert "b.png: cannot be read: No such file" in refusal(tmp_path)


def test_unreadable_file(tmp_path: Path) -> None:
    write(tmp_path / "a.png")
    write(tmp_path / "b.png").chmod(0)
    if os.access(tmp_path / "b.png", os.R_OK):
        pytest.skip("root reads everything")
    assert "b.png: cannot be read: Permission denied" in refusal(tmp_path)


def test_a_file_that_disappears(tmp_path: Path) -> None:
    write(tmp_path / "a.png")
    bad = write(tmp_path / "b.png")
    frames = images(tmp_path, check_files="headers")
    bad.unlink()
    with pytest.raises(DataError, match=r"b\.png: cannot be read: No such file"):
        frames.read(0, [1])[0]


@pytest.mark.parametrize("check_files", ["all", "headers", "none"])
def test_decompression_bomb(tmp_path: Path, check_files: Any) -> None:
    # Just above the limit where Pillow warns, and far above the one where it raises.
    for side in (9_500, 60_000):
        header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
        bomb = b"IHDR" + header
        (tmp_path / "a.png").write_bytes(
            b"\x89PNG\r\n\x1a\n\0\0\0\r"
            + bomb
            + struct.pack(">I", zlib.crc32(bomb))
            + b"\0\0\0\0IDAT"
            + struct.pack(">I", zlib.crc32(b"IDAT"))
        )
        assert "more pixels than" in refusal(tmp_path, check_files=check_files)


def test_previews_in_a_jpeg_are_not_pages(tmp_path: Path) -> None:
    pages = [Image.fromarray(ramp(channels=3)), Image.fromarray(ramp(channels=3))]
    pages[0].save(tmp_path / "a.jpg", format="MPO", save_all=True, append_images=pages[1:])
    assert images(tmp_path).frame_shape == (*SHAPE, 3)


@pytest.mark.parametrize("check_files", ["all", "headers"])
def test_another_size_names_both(tmp_path: Path, check_files: Any) -> None:
    write(tmp_path / "a.png")
    write(tmp_path / "b.png", np.zeros((5, 9), np.uint8))
    message = refusal(tmp_path, check_files=check_files)
    for part in ("a.png", "b.png", "6x8", "5x9", "--size H W"):
        assert part in message
    assert images(tmp_path, size=(4, 4), check_files=check_files).frame_shape == (4, 4, 1)


@pytest.mark.parametrize("check_files", ["all", "headers"])
def test_another_dtype_names_both(tmp_path: Path, check_files: Any) -> None:
    write(tmp_path / "a.png")
    write(tmp_path / "b.png", ramp(np.uint16))
    message = refusal(tmp_path, check_files=check_files)
    assert "b.png: uint16 values, but" in message and "a.png has uint8" in message


def test_colour_among_grey_is_converted_and_counted(tmp_path: Path) -> None:
    write(tmp_path / "1.png")
    write(tmp_path / "2.png", ramp(channels=3))
    frames = images(tmp_path)
    assert frames.read(0, [1]).shape == (1, *SHAPE, 1)
    assert frames.notes == ["colour pictures read as grey, as the first is: 1"]
    assert images(tmp_path, channels=1).notes == []


def test_missing_and_empty_folders(tmp_path: Path) -> None:
    assert "nowhere: cannot be listed: No such file" in refusal(tmp_path / "nowhere")
    assert "accepted are .png, .jpg" in refusal(tmp_path)
    (tmp_path / "a.doc").write_text("text")
    assert "a.doc: expected a folder of pictures, a path list (.txt)" in refusal(tmp_path / "a.doc")
    assert "one picture is no sequence" in refusal(write(tmp_path / "a.gif"))


def test_checked_frames_are_kept(tmp_path: Path) -> None:
    path = write(tmp_path / "a.png")
    frames = images(tmp_path)
    path.unlink()
    np.testing.assert_array_equal(frames.read(0, [0])[0, ..., 0], ramp())


def test_resizing_keeps_16_bits(tmp_path: Path) -> None:
    pixels = np.full((20, 20), 54_321, np.uint16)
    resized = resize(pixels[..., None], (7, 9))
    assert resized.dtype == np.uint16
    np.testing.assert_array_equal(resized, np.full((7, 9, 1), 54_321))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_resizing_does_not_mix_in_missing_values(dtype: Any) -> None:
    missing = 255
    frame = np.full((32, 32, 1), 40, dtype)
    frame[:, 16:] = missing
    resized = resize(frame, (8, 8), missing)
    assert resized.dtype == dtype
    np.testing.assert_allclose(resized[:, :4], 40, rtol=1e-6)
    np.testing.assert_array_equal(resized[:, 4:], missing)


def test_printable_is_one_line() -> None:
    assert printable("a\nb\udcff é") == r"a\nb\udcff é"


def counter(frame: int, shape: tuple[int, int] = SHAPE) -> np.ndarray:
    """A grey picture that says which frame it is."""
    return np.full(shape, frame, np.uint8)


def shot(folder: Path, numbers: Any, name: str = "frame{}.png") -> None:
    for number in numbers:
        write(folder / name.format(number), counter(number))


def test_windows_do_not_cross_missing_frames(tmp_path: Path) -> None:
    shot(tmp_path / "shot1", [*range(3, 12), *range(15, 20)])
    shot(tmp_path / "shot2", range(4))
    frames = images(tmp_path)
    assert frames.segments() == [Segment(0, 0, 9), Segment(0, 9, 14), Segment(1, 0, 4)]
    assert frames.notes == [
        "gaps in numbering: 1 (3 frames missing), e.g. before shot1/frame15.png; "
        "no window crosses one (--allow-gaps lets them)"
    ]
    crossing = images(tmp_path, allow_gaps=True)
    assert crossing.segments() == [Segment(0, 0, 14), Segment(1, 0, 4)]
    assert crossing.notes == [
        "gaps in numbering: 1 (3 frames missing), e.g. before shot1/frame15.png; "
        "windows may cross them (--allow-gaps)"
    ]


def test_a_time_format_orders_frames(tmp_path: Path) -> None:
    # In natural order the last day of January is the last of all.
    for number, name in enumerate(("30.01.2020", "31.01.2020", "01.02.2020", "04.02.2020")):
        write(tmp_path / f"scan_{name}.png", counter(number))
    frames = images(tmp_path, time_format="%d.%m.%Y")
    assert frames.read(0, range(4))[:, 0, 0, 0].tolist() == [0, 1, 2, 3]
    assert frames.frame_name(0, 0) == "scan_30.01.2020.png"
    assert frames.gaps == {0: [3]}
    assert frames.notes[0] == "times read from names as %d.%m.%Y, 1 day apart"
    write(tmp_path / "scan_today.png")
    message = refusal(tmp_path, time_format="%d.%m.%Y")
    assert f"{tmp_path}/scan_today: the name holds no time" in message
    with pytest.raises(ConfigError, match="--time-format %Q"):
        images(tmp_path, time_format="%Q")


def test_folders_named_train_and_test_are_the_parts(tmp_path: Path) -> None:
    for name in ("Train/a", "Train/b", "validation", "test/x"):
        shot(tmp_path / name, range(2))
    frames = images(tmp_path)
    assert dict(zip(frames.names, frames.splits or ())) == {
        "Train/a": "train", "Train/b": "train", "validation": "val", "test/x": "test",
    }  # fmt: skip
    assert "splits as the folders' names say, in sequences: train 2, val 1, test 1" in frames.notes
    shot(tmp_path / "more", range(2))
    assert images(tmp_path).splits is None


def test_train_alone_is_a_name_like_any_other(tmp_path: Path) -> None:
    shot(tmp_path / "train", range(2))
    assert images(tmp_path).splits is None
    assert images(tmp_path / "train").splits is None


def test_a_link_to_a_listed_picture_is_no_second_frame(tmp_path: Path) -> None:
    shot(tmp_path / "train", range(3))
    outside = write(tmp_path / "elsewhere" / "9.png")
    root = tmp_path / "train"
    (root / "test").mkdir()
    (root / "test" / "copy.png").symlink_to(Path("..") / "frame1.png")
    (root / "test" / "copy of copy.png").symlink_to(root / "test" / "copy.png")
    (root / "test" / "one.png").symlink_to(outside)
    (root / "test" / "two.png").symlink_to(outside)
    frames = images(root)
    assert [list(s.files) for s in frames.sequences] == [
        ["frame0.png", "frame1.png", "frame2.png"],
        ["one.png"],
    ]
    assert frames.notes[0].startswith("links to pictures that are listed already, left out: 3")


@pytest.mark.parametrize("extension", ["gif", "tif", "webp"])
def test_pages_are_a_sequence(tmp_path: Path, extension: str) -> None:
    pages = [Image.fromarray(counter(40 * page)) for page in range(5)]
    options = {"lossless": True} if extension == "webp" else {}
    shot(tmp_path, range(2), "frame{}." + extension)
    path = tmp_path / f"clip.{extension}"
    pages[0].save(path, save_all=True, append_images=pages[1:], **options)
    frames = images(tmp_path, channels=1)
    assert frames.names == [tmp_path.name, f"clip.{extension}"]
    assert frames.lengths == [2, 5]
    assert frames.frame_name(1, 3) == f"clip.{extension} page 3"
    for source in (frames, images(path, channels=1, cache=0, check_files="headers")):
        found = source.read(len(source.names) - 1, [3, 0, 4, 3])
        np.testing.assert_array_equal(found[:, 2, 2, 0], [120, 0, 160, 120])
    assert images(path).names == [f"clip.{extension}"]
    assert images(path).details["files"].endswith(" 5")


def test_many_files_are_not_opened_for_their_pages(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(listing, "OPENED_UP_TO", 1)
    pages = [Image.fromarray(counter(page)) for page in range(3)]
    pages[0].save(tmp_path / "2.gif", save_all=True, append_images=pages[1:])
    shot(tmp_path, [1], "{}.gif")
    frames = images(tmp_path, check_files="none")
    assert frames.lengths == [2]
    assert frames.notes == [
        "GIF, TIFF and WebP files taken for single pictures, being more than 1: 2"
    ]
    with pytest.raises(DataError, match=r"2\.gif: cannot be read: 3 pages"):
        frames.read(0, [1])


def test_bad_frames_are_skipped_and_counted(tmp_path: Path) -> None:
    shot(tmp_path, range(9))
    for number in (0, 4):
        (tmp_path / f"frame{number}.png").write_bytes(b"text")
    write(tmp_path / "frame5.png", counter(5, (3, 3)))
    write(tmp_path / "frame7.png", counter(5).astype(np.uint16))
    frames = images(tmp_path, on_bad_frame="skip", check_files="none")
    assert frames.segments() == [Segment(0, 1, 4), Segment(0, 6, 7), Segment(0, 8, 9)]
    assert frames.notes[0].startswith("bad frames skipped: 4, e.g. ")
    assert "frame0.png: cannot be read: not a picture" in frames.notes[0]
    assert "3x3 pixels" in frames.bad[0][5] and "uint16" in frames.bad[0][7]
    assert frames.read(0, [1, 2, 3])[:, 0, 0, 0].tolist() == [1, 2, 3]
    for path in tmp_path.iterdir():
        path.write_bytes(b"text")
    assert "none of the 9 pictures can be used" in refusal(tmp_path, on_bad_frame="skip")


def test_bad_pages_are_skipped(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (5, 32, 32), np.uint8)
    pages = [Image.fromarray(page) for page in noise]
    path = tmp_path / "clip.tif"
    pages[0].save(path, save_all=True, append_images=pages[1:])
    floats = Image.fromarray(np.zeros((32, 32), np.float32))
    pages[0].save(path, save_all=True, append_images=[pages[1], floats, pages[3]])
    frames = images(path, on_bad_frame="skip")
    assert list(frames.bad[0]) == [2]
    assert frames.segments() == [Segment(0, 0, 2), Segment(0, 3, 4)]
    assert "clip.tif page 2: float32 values" in refusal(path)


def test_all_pages_of_a_file_are_checked_in_one_pass(tmp_path: Path, monkeypatch: Any) -> None:
    pages = [Image.fromarray(counter(page)) for page in range(50)]
    pages[0].save(tmp_path / "clip.gif", save_all=True, append_images=pages[1:])
    read = folder.read_pages
    passes: list[int] = []

    def counted(path: Path, numbers: Any, *arguments: Any, **options: Any) -> Any:
        passes.append(len(numbers))
        return read(path, numbers, *arguments, **options)

    monkeypatch.setattr(folder, "read_pages", counted)
    images(tmp_path / "clip.gif", on_bad_frame="skip")
    assert passes == [50]


def test_a_picture_that_is_never_read_is_named(tmp_path: Path, monkeypatch: Any) -> None:
    shot(tmp_path, range(40))
    ends = threading.Event()
    read = folder.read_picture

    def dead(path: Any, *arguments: Any, **options: Any) -> Any:
        if "frame20" in os.fspath(path):
            ends.wait()
        return read(path, *arguments, **options)

    monkeypatch.setattr(folder, "read_picture", dead)
    monkeypatch.setattr(image_check, "RUN_TIMEOUT", -15.5)
    try:
        with pytest.raises(StuckReaderError, match=r"frame16\.png: not read after 0\.5 seconds"):
            images(tmp_path)
    finally:
        ends.set()


def test_nan_passes_where_it_is_masked(tmp_path: Path) -> None:
    pixels = ramp(np.float32)
    pixels[2, 3] = np.nan
    write(tmp_path / "1.tif", pixels)
    frames = images(tmp_path, nan="mask")
    np.testing.assert_array_equal(frames.read(0, [0])[0, ..., 0], pixels)


def test_a_range_of_sequences(tmp_path: Path) -> None:
    for number in range(4):
        shot(tmp_path / f"shot{number}", range(2))
    frames = images(tmp_path, sequences=(1, 3))
    assert frames.names == ["shot1", "shot2"]
    assert frames.notes == ["sequences 1 to 2 of 4 used (--sequences)"]
    assert "--sequences 4 9: there are only 4" in refusal(tmp_path, sequences=(4, 9))
    assert "there are only 4" in refusal(tmp_path, sequences=(3, 5))


def test_names_that_print_alike_are_numbered(tmp_path: Path) -> None:
    for name in ("a\nb", r"a\nb"):
        shot(tmp_path / name, range(2))
    assert sorted(images(tmp_path).names) == [r"a\nb", r"a\nb (2)"]


def test_only_a_region_is_given(tmp_path: Path) -> None:
    write(tmp_path / "1.png")
    frames = images(tmp_path)
    region = (slice(1, 4), slice(2, 7))
    np.testing.assert_array_equal(frames.read(0, [0], region)[0, ..., 0], ramp()[region])


def test_what_was_seen_is_described(tmp_path: Path) -> None:
    shot(tmp_path, range(3))
    write(tmp_path / "frame3.jpg", ramp(channels=3))
    Image.fromarray(ramp(channels=3)).convert("RGBA").save(tmp_path / "frame4.png")
    frames = images(tmp_path)
    assert frames.details == {
        "files": "PNG 4, JPEG 1", "modes": "L 3, RGB 1, RGBA 1", "sizes": "6x8 5",
    }  # fmt: skip
    assert "pictures whose transparency is left out: 1" in frames.notes
    unseen = images(tmp_path, check_files="none").details["files"]
    assert unseen == "PNG 1 (and 4 that were not looked at)"


def test_many_files_are_listed_in_little_memory(tmp_path: Path) -> None:
    write(tmp_path / "frame000000.png")
    count = 12_000
    for number in range(1, count):
        if number != 7_000:
            os.close(os.open(tmp_path / f"frame{number:06d}.png", os.O_CREAT))
    tracemalloc.start()
    try:
        frames = images(tmp_path)
        segments = frames.segments()
        kept, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert segments == [Segment(0, 0, 7_000), Segment(0, 7_000, count - 1)]
    # The names take 64 bytes each, and their place in a list 8.
    assert kept < 100 * count and peak < 300 * count


@pytest.mark.parametrize("kind", ["palette", "colour", "alpha"])
def test_every_kind_of_transparency_is_counted(tmp_path: Path, kind: str) -> None:
    image = Image.fromarray(ramp(channels=4 if kind == "alpha" else 3))
    image = image.convert("P") if kind == "palette" else image
    options: dict[str, Any] = {
        "palette": {"transparency": 0},
        "colour": {"transparency": (0, 0, 0)},
    }
    for number in range(3):
        image.save(tmp_path / f"{number}.png", **options.get(kind, {}))
    frames = images(tmp_path)
    assert "pictures whose transparency is left out: 3" in frames.notes
