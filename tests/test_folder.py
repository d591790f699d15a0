"""Folders of pictures: order, kinds of pictures, and the faults that real ones have."""

import os
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from jaxconvlstm.config import DataConfig, Split
from jaxconvlstm.data.datasets import last_frames, open_dataset
from jaxconvlstm.data.folder import FolderFrames, list_sequences, natural_key
from jaxconvlstm.data.picture_file import printable, read_header, read_picture, resize
from jaxconvlstm.data.values import Values
from jaxconvlstm.errors import ConfigError, DataError

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
        FolderFrames(path, **options)
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
    frames = FolderFrames(tmp_path)
    assert [s.name for s in frames.sequences] == [tmp_path.name, "shot2", "shot2/deep", "shot10"]
    assert frames.lengths == [1, 1, 1, 1]
    assert frames.frame_shape == (6, 8, 1)
    assert frames.notes == []


def test_other_files_are_ignored_and_counted(tmp_path: Path) -> None:
    write(tmp_path / "a.png")
    for name in ("._a.png", ".DS_Store", "Thumbs.db", "notes.txt", "png"):
        (tmp_path / name).write_bytes(b"text")
    frames = FolderFrames(tmp_path)
    assert frames.lengths == [1]
    assert len(frames.notes) == 1
    assert frames.notes[0].startswith("files ignored that are no pictures: 5")


def test_links_end_and_each_folder_counts_once(tmp_path: Path) -> None:
    write(tmp_path / "real" / "a.png")
    (tmp_path / "real" / "up").symlink_to(tmp_path)
    (tmp_path / "zlink").symlink_to(tmp_path / "real")
    (tmp_path / "self").symlink_to(tmp_path / "self")
    sequences, ignored = list_sequences(tmp_path)
    assert [sequence.name for sequence in sequences] == ["real"]
    assert [path.name for path in ignored] == ["self"]


@pytest.mark.parametrize("name", [b"caf\xe9", b"a b\n-c", "é".encode(), b"-x"])
def test_any_name_can_be_read_and_printed(tmp_path: Path, name: bytes) -> None:
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name))
    try:
        folder.mkdir()
    except OSError:
        pytest.skip("this file system refuses the name")
    write(folder / "a.png")
    write(folder / os.fsdecode(b"b\xff.png"))
    frames = FolderFrames(tmp_path)
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
    own = FolderFrames(tmp_path)
    assert own.frame_shape == (*SHAPE, channels)
    assert own.dtype == np.uint8
    for wanted, kind in ((1, "L"), (3, "RGB")):
        frame = FolderFrames(tmp_path, channels=wanted).read(0, 0)  # type: ignore[arg-type]
        expected = np.asarray(picture.convert(kind)).reshape(*SHAPE, wanted)
        np.testing.assert_array_equal(frame, expected)


def test_palette_with_transparency_does_not_warn(tmp_path: Path) -> None:
    picture = Image.fromarray(ramp(channels=3)).convert("P")
    picture.save(tmp_path / "a.png", transparency=bytes(range(256)))
    assert FolderFrames(tmp_path).frame_shape == (*SHAPE, 3)


@pytest.mark.parametrize("extension", ["png", "tif", "pgm"])
def test_16_bits_keep_every_value(tmp_path: Path, extension: str) -> None:
    write(tmp_path / f"a.{extension}", ramp(np.uint16))
    for channels in (None, 1, 3):
        frame = FolderFrames(tmp_path, channels=channels).read(0, 0)  # type: ignore[arg-type]
        assert frame.dtype == np.uint16
        assert frame.shape == (*SHAPE, channels or 1)
        np.testing.assert_array_equal(frame[..., -1], ramp(np.uint16))


def test_big_endian_16_bits(tmp_path: Path) -> None:
    pixels = ramp(np.uint16)
    Image.frombytes("I;16B", SHAPE[::-1], pixels.astype(">u2").tobytes()).save(tmp_path / "a.tif")
    frame = FolderFrames(tmp_path).read(0, 0)
    assert frame.dtype == np.uint16 and frame.dtype.isnative
    np.testing.assert_array_equal(frame[..., 0], pixels)


def test_floats_stay_floats(tmp_path: Path) -> None:
    write(tmp_path / "a.tif", ramp(np.float32) - 7)
    frame = FolderFrames(tmp_path, channels=1).read(0, 0)
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
        frames = FolderFrames(tmp_path, check_files=check_files)  # type: ignore[arg-type]
        with pytest.raises(DataError, match=r"b\.png"):
            frames.read(0, 1)


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
    frames = FolderFrames(tmp_path, check_files="headers")
    bad.unlink()
    with pytest.raises(DataError, match=r"b\.png: cannot be read: No such file"):
        frames.read(0, 1)


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


@pytest.mark.parametrize("name", ["a.gif", "a.tif"])
def test_several_pages(tmp_path: Path, name: str) -> None:
    pages = [Image.fromarray(ramp()), Image.fromarray(255 - ramp())]
    pages[0].save(tmp_path / name, save_all=True, append_images=pages[1:])
    assert "multi-page files are not read as sequences yet" in refusal(tmp_path)


def test_previews_in_a_jpeg_are_not_pages(tmp_path: Path) -> None:
    pages = [Image.fromarray(ramp(channels=3)), Image.fromarray(ramp(channels=3))]
    pages[0].save(tmp_path / "a.jpg", format="MPO", save_all=True, append_images=pages[1:])
    assert FolderFrames(tmp_path).frame_shape == (*SHAPE, 3)


@pytest.mark.parametrize("check_files", ["all", "headers"])
def test_another_size_names_both(tmp_path: Path, check_files: Any) -> None:
    write(tmp_path / "a.png")
    write(tmp_path / "b.png", np.zeros((5, 9), np.uint8))
    message = refusal(tmp_path, check_files=check_files)
    for part in ("a.png", "b.png", "6x8", "5x9", "--size H W"):
        assert part in message
    assert FolderFrames(tmp_path, size=(4, 4), check_files=check_files).frame_shape == (4, 4, 1)


@pytest.mark.parametrize("check_files", ["all", "headers"])
def test_another_dtype_names_both(tmp_path: Path, check_files: Any) -> None:
    write(tmp_path / "a.png")
    write(tmp_path / "b.png", ramp(np.uint16))
    message = refusal(tmp_path, check_files=check_files)
    assert "b.png: uint16 values, but" in message and "a.png has uint8" in message


def test_colour_among_grey_is_converted_and_counted(tmp_path: Path) -> None:
    write(tmp_path / "a.png")
    write(tmp_path / "b.png", ramp(channels=3))
    frames = FolderFrames(tmp_path)
    assert frames.read(0, 1).shape == (*SHAPE, 1)
    assert frames.notes == ["colour pictures read as grey, as the first is: 1"]
    assert FolderFrames(tmp_path, channels=1).notes == []


def test_missing_and_empty_folders(tmp_path: Path) -> None:
    assert "nowhere: cannot be listed: No such file" in refusal(tmp_path / "nowhere")
    assert "accepted are .png, .jpg" in refusal(tmp_path)
    (tmp_path / "a.txt").write_text("text")
    assert "a.txt: cannot be listed: Not a directory" in refusal(tmp_path / "a.txt")


def test_checked_frames_are_kept(tmp_path: Path) -> None:
    path = write(tmp_path / "a.png")
    frames = FolderFrames(tmp_path)
    path.unlink()
    np.testing.assert_array_equal(frames.read(0, 0)[..., 0], ramp())
    with pytest.raises(ValueError, match="read-only"):
        frames.read(0, 0)[:] = 0


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


def test_a_missing_code_is_never_predicted() -> None:
    scaled = np.array([0.0, 0.5, 253.6 / 255, 1.0, 2.0])
    np.testing.assert_array_equal(
        Values(0, 255, "uint8", missing=255).unscale(scaled), [0, 128, 254, 254, 254]
    )
    np.testing.assert_array_equal(
        Values(0, 255, "uint8", missing=0).unscale(np.array([-1, 0, 0.4 / 255])), [1, 1, 1]
    )
    nudged = Values(0, 255, "uint8", missing=128).unscale(np.array([127.6, 128, 128.4]) / 255)
    np.testing.assert_array_equal(nudged, [127, 127, 129])


def films(root: Path, lengths: list[int]) -> str:
    """Sequences whose frame `i` is `100 * sequence + i` everywhere, 16 bits."""
    for sequence, length in enumerate(lengths):
        for frame in range(length):
            pixels = np.full(SHAPE, 100 * sequence + frame, np.uint16)
            write(root / f"film{sequence}" / f"{frame}.png", pixels)
    return str(root)


def test_windows_of_a_folder(tmp_path: Path) -> None:
    config = DataConfig(
        dataset="folder", data=films(tmp_path, [40, 3]), input_frames=2, target_frames=1,
        frame_step=2, stride=3,
    )  # fmt: skip
    dataset = open_dataset(config, seed=0)
    assert dataset.frame_shape == (6, 8, 1)
    assert dataset.notes == [
        "sequences left out, shorter than a window of 5 frames: 1",
        "2 sequences, 43 frames of 6x8x1 uint16; windows: train 4, val 3, test 3",
    ]
    windows = dataset.windows("train")
    inputs, targets = windows.read(0, 1)
    assert (inputs.shape, targets.shape) == ((2, 6, 8, 1), (1, 6, 8, 1))
    assert [*inputs[:, 0, 0, 0], *targets[:, 0, 0, 0]] == [3, 5, 7]
    assert windows.name(1) == "film0 frames 3-7"
    # Each part has room for 5 targets. The parts do not move when other lengths are asked for,
    # which may not fit then.
    longer = dataset.windows("train", target_frames=4)
    assert longer.read(0, 0)[1].shape == (4, 6, 8, 1)
    assert longer.name(len(longer) - 1) == "film0 frames 3-13"
    with pytest.raises(DataError, match="longest stretch of frames for test has 13 frames"):
        dataset.windows("test", target_frames=9)
    assert dataset.windows("all", 1, 1).name(13) == "film1 frames 0-2"


def test_limit_spreads_over_the_split(tmp_path: Path) -> None:
    config = DataConfig(
        dataset="folder", data=films(tmp_path, [20, 20]), input_frames=1, target_frames=1, limit=3
    )
    windows = open_dataset(config, seed=0).windows("all")
    names = [windows.name(index) for index in range(len(windows))]
    assert names == ["film0 frames 0-1", "film0 frames 18-19", "film1 frames 18-19"]


def test_last_frames(tmp_path: Path) -> None:
    config = DataConfig(dataset="folder", data=films(tmp_path, [9, 3]), frame_step=2)
    values, found = last_frames(config, 3)
    assert values.dtype == "uint16"
    assert [name for name, _ in found] == ["film0"]
    assert list(found[0][1][:, 0, 0, 0]) == [4, 6, 8]
    with pytest.raises(
        DataError, match=r"longest sequence has 9 frames; .* 6 input frames needs 11"
    ):
        last_frames(config, 6)


def test_what_a_dataset_needs(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="--dataset folder needs --data DIR"):
        open_dataset(DataConfig(dataset="folder"), 0)
    with pytest.raises(ConfigError, match="--dataset folder"):
        open_dataset(DataConfig(data=str(tmp_path)), 0)
    config = DataConfig(dataset="folder", data=films(tmp_path, [9]))
    dataset = open_dataset(config, 0)
    with pytest.raises(
        DataError, match=r"longest sequence has 9 frames; 10 input and 5 target .* 15"
    ):
        dataset.windows("train")
    short = DataConfig(
        dataset="folder", data=str(tmp_path), input_frames=4, target_frames=2, split=Split(1, 0, 0)
    )
    with pytest.raises(DataError, match="test=0"):
        open_dataset(short, 0).windows("test")


def test_printable_is_one_line() -> None:
    assert printable("a\nb\udcff é") == r"a\nb\udcff é"
