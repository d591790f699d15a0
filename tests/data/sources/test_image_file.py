"""Picture files: pages, headers, and the short way for plain pictures."""

import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from jaxconvlstm.data.sources.images.image_file import read_header, read_picture
from jaxconvlstm.errors import DataError


def clip(count: int, *shape: int) -> list[np.ndarray]:
    """Random pictures of few values, which a GIF's palette holds exactly."""
    generator = np.random.default_rng(0)
    return [generator.integers(0, 4, shape, np.uint8) * 60 for _ in range(count)]


def save_pages(path: Path, pages: list[np.ndarray], **options: Any) -> Path:
    images = [Image.fromarray(page) for page in pages]
    images[0].save(path, save_all=True, append_images=images[1:], **options)
    return path


@pytest.mark.parametrize("name", ["a.gif", "a.tif", "a.webp"])
@pytest.mark.parametrize("shape", [(12, 18), (12, 18, 3)])
def test_pages_are_read_one_by_one(tmp_path: Path, name: str, shape: tuple[int, ...]) -> None:
    pages = clip(4, *shape)
    path = save_pages(tmp_path / name, pages, **({"lossless": True} if "webp" in name else {}))
    header = read_header(path)
    assert (header.height, header.width, header.pages) == (12, 18, 4)
    for number in (3, 0, 2):
        frame, colour, _ = read_picture(path, page=number)
        assert frame.shape == (12, 18, 3 if header.colour else 1) and colour == header.colour
        expected = pages[number].reshape(12, 18, -1)
        np.testing.assert_array_equal(frame, np.broadcast_to(expected, frame.shape))
        # Within 1: grey is a rounded weighted mean.
        if len(shape) == 2:
            grey = read_picture(path, 1, page=number).frame
            np.testing.assert_allclose(grey, expected, atol=1)
    with pytest.raises(DataError, match="cannot be read: 4 pages, where one is expected"):
        read_picture(path)
    with pytest.raises(DataError, match="page 4: cannot be read: no such page"):
        read_picture(path, page=4)


def test_a_page_of_a_gif_that_only_draws_what_changed(tmp_path: Path) -> None:
    pages = [np.zeros((20, 20, 3), np.uint8)]
    for number in range(1, 4):
        pages.append(pages[-1].copy())
        pages[-1][4 * number : 4 * number + 3, 5:9] = (200, 60 * number, 0)
    path = save_pages(tmp_path / "a.gif", pages)
    for number, page in enumerate(pages):
        np.testing.assert_array_equal(read_picture(path, page=number).frame, page)


def test_16_bit_pages_keep_their_precision(tmp_path: Path) -> None:
    pages = [np.arange(12, dtype=np.uint16).reshape(3, 4) * 5000 + n for n in range(3)]
    path = save_pages(tmp_path / "a.tif", pages)
    assert read_header(path).dtype == np.uint16
    np.testing.assert_array_equal(read_picture(path, page=2).frame[..., 0], pages[2])


def test_a_page_of_a_file_that_has_one(tmp_path: Path) -> None:
    Image.fromarray(clip(1, 5, 6)[0]).save(tmp_path / "a.png")
    first = read_picture(tmp_path / "a.png").frame
    np.testing.assert_array_equal(read_picture(tmp_path / "a.png", page=0).frame, first)


def test_a_moving_png_is_no_sequence(tmp_path: Path) -> None:
    path = save_pages(tmp_path / "a.png", clip(3, 5, 6))
    for read in (read_header, read_picture):
        with pytest.raises(DataError, match=r"a\.png: cannot be read: 3 pages, where one is"):
            read(path)


@pytest.mark.parametrize(
    ("name", "mode"), [("a.png", "L"), ("a.png", "RGB"), ("a.jpg", "L"), ("a.jpg", "RGB")]
)
def test_headers(tmp_path: Path, name: str, mode: str) -> None:
    Image.new(mode, (7, 5)).save(tmp_path / name)
    picture_format = "PNG" if "png" in name else "JPEG"
    colour = mode == "RGB"
    expected = (5, 7, colour, np.uint8, 1, mode, picture_format, False, None)
    assert read_header(tmp_path / name) == expected


@pytest.mark.parametrize("before", [b"IDAT", b"IEND"])
def test_a_png_is_turned_wherever_its_tag_stands(tmp_path: Path, before: bytes) -> None:
    image = Image.fromarray(clip(1, 5, 8)[0])
    image.save(tmp_path / "a.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    content = b"eXIf" + exif.tobytes()[6:]
    chunk = struct.pack(">I", len(content) - 4) + content + struct.pack(">I", zlib.crc32(content))
    picture = (tmp_path / "a.png").read_bytes()
    place = picture.index(before) - 4
    (tmp_path / "a.png").write_bytes(picture[:place] + chunk + picture[place:])
    frame = read_picture(tmp_path / "a.png").frame
    np.testing.assert_array_equal(frame[..., 0], np.rot90(np.asarray(image), -1))


@pytest.mark.parametrize("name", ["a.png", "a.jpg"])
@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.parametrize("channels", [None, 1, 3])
def test_the_short_way_gives_what_the_long_one_does(
    tmp_path: Path, name: str, mode: str, channels: int | None
) -> None:
    shape = (9, 11) if mode == "L" else (9, 11, 3)
    Image.fromarray(clip(1, *shape)[0]).save(tmp_path / name)
    found = channels or (1 if mode == "L" else 3)
    with Image.open(tmp_path / name) as image:
        expected = np.asarray(image.convert("L" if found == 1 else "RGB")).reshape(9, 11, found)
    frame, colour, _ = read_picture(tmp_path / name, channels)
    np.testing.assert_array_equal(frame, expected)
    assert frame.dtype == np.uint8 and colour == (mode == "RGB")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity_are_refused_unless_allowed(tmp_path: Path, value: float) -> None:
    pixels = np.zeros((3, 4), np.float32)
    pixels[1, 2] = value
    Image.fromarray(pixels).save(tmp_path / "a.tif")
    with pytest.raises(DataError, match="NaN or infinity at row 1, column 2"):
        read_picture(tmp_path / "a.tif")
    frame = read_picture(tmp_path / "a.tif", allow_nan=True).frame
    np.testing.assert_array_equal(frame[..., 0], pixels)


@pytest.mark.parametrize("name", ["a.png", "a.jpg"])
@pytest.mark.parametrize("share", [0.3, 0.7, 0.95])
def test_a_file_cut_short_is_one_line(tmp_path: Path, name: str, share: float) -> None:
    Image.fromarray(clip(1, 64, 64, 3)[0]).save(tmp_path / name)
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(content[: int(share * len(content))])
    with pytest.raises(DataError, match=rf"{name}: cannot be read: [^\n]+$"):
        read_picture(tmp_path / name)


def test_a_pipe_behind_a_picture_s_name_is_refused_at_once(tmp_path: Path) -> None:
    path = tmp_path / "frame.png"
    os.mkfifo(path)
    for read in (read_picture, read_header):
        with pytest.raises(DataError, match="not an ordinary file"):
            read(path)


def tiff(
    path: Path,
    bits: int = 8,
    samples: int = 1,
    planar: bool = False,
    sample_format: int = 1,
    description: str = "",
    photometric: int = 1,
) -> Path:
    """One page of 4x4 pixels, with tags that Pillow does not write."""
    text = description.encode() + b"\0"
    plane = 16 * bits // 8
    tail = 8 + 2 + 12 * (12 if samples == 2 else 11) + 4
    shorts = tail + len(text) + len(text) % 2
    offsets = shorts + 6 * samples
    data = offsets + 4 * samples
    planes = samples if planar else 1

    def tag(number: int, kind: int, count: int, value: int) -> bytes:
        return struct.pack("<HHI", number, kind, count) + (
            struct.pack("<HH", value, 0) if kind == 3 and count == 1 else struct.pack("<I", value)
        )

    def per_sample(number: int, value: int) -> bytes:
        return tag(number, 3, samples, value if samples == 1 else value << 16 | value)

    # Three values do not fit into a tag.
    wide = tag(258, 3, samples, shorts) if samples > 2 else per_sample(258, bits)
    tags = [
        tag(256, 3, 1, 4), tag(257, 3, 1, 4), wide, tag(259, 3, 1, 1), tag(262, 3, 1, photometric),
        tag(270, 2, len(text), tail),
        tag(273, 4, planes, data if planes == 1 else offsets), tag(277, 3, 1, samples),
        tag(278, 3, 1, 4), tag(284, 3, 1, 2 if planar else 1), tag(339, 3, 1, sample_format),
    ]  # fmt: skip
    if samples == 2:
        tags.insert(-1, tag(338, 3, 1, 0))
    content = b"II*\0" + struct.pack("<IH", 8, len(tags)) + b"".join(tags) + bytes(4)
    content += text.ljust(shorts - tail, b"\0") + struct.pack(f"<{samples}H", *[bits] * samples)
    content = content.ljust(offsets, b"\0")
    content += struct.pack(f"<{planes}I", *(data + plane * n for n in range(planes)))
    path.write_bytes(content.ljust(data, b"\0") + bytes(plane * samples))
    return path


MISREAD: dict[str, tuple[dict[str, Any], str]] = {
    "planes of 16 bits": (
        {"bits": 16, "samples": 3, "planar": True, "photometric": 2},
        "16 bits in each of several channels",
    ),
    "two samples": ({"samples": 2}, "2 values a pixel"),
    "signed": ({"sample_format": 2}, "signed 8-bit"),
    "ImageJ channels": ({"description": "ImageJ=1.5\nimages=60\nchannels=2\n"}, "60 images"),
    "stack of one page": ({"description": "ImageJ=1.5\nimages=60\n"}, "60 images stored as one"),
    "tifffile": ({"description": '{"shape": [30, 4, 4], "truncated": true}'}, "30 images stored"),
    "OME": (
        {"description": '<OME><Pixels SizeC="2" SizeT="3" SizeZ="5"/></OME>'},
        "2 channels and",
    ),
    "OME depth": ({"description": "<Pixels ID='a' SizeC='1' SizeZ='5'>"}, "5 slices"),
}


@pytest.mark.parametrize("fault", MISREAD)
def test_tiff_files_that_would_be_misread(tmp_path: Path, fault: str) -> None:
    options, reason = MISREAD[fault]
    path = tiff(tmp_path / "a.tif", **options)
    for read in (read_header, read_picture):
        with pytest.raises(DataError, match=f"a\\.tif: cannot be read: {reason}"):
            read(path)


def test_tiff_files_that_are_what_they_seem(tmp_path: Path) -> None:
    for description in ("", "ImageJ=1.5\nimages=1\n", '<Pixels SizeC="1" SizeZ="1">', "channels=2"):
        assert read_picture(tiff(tmp_path / "a.tif", description=description)).frame.shape[2] == 1
    description = '<Pixels SizeC="3" SizeZ="1">'
    path = tiff(tmp_path / "a.tif", samples=3, photometric=2, description=description)
    assert read_picture(path).colour


@pytest.mark.parametrize(
    ("lines", "reason"),
    [("channels=2\nframes=2", "2 channels"), ("slices=2\nframes=2", "2 slices"), ("slices=4", "")],
)
def test_stacks_of_imagej(tmp_path: Path, lines: str, reason: str) -> None:
    # A plain stack calls its only axis slices.
    info = {270: f"ImageJ=1.53\nimages=4\n{lines}\n"}
    path = save_pages(tmp_path / "a.tif", clip(4, 5, 6), tiffinfo=info)
    if not reason:
        assert read_header(path).pages == 4
        return
    with pytest.raises(DataError, match=f"{reason}, whose pages are no sequence in time; convert"):
        read_header(path)


def test_warnings_of_pillow_are_not_shown_beside_the_error(tmp_path: Path) -> None:
    path = save_pages(tmp_path / "a.tif", clip(4, 5, 6))
    path.write_bytes(path.read_bytes()[: -path.stat().st_size // 2])
    code = (
        "import sys; from jaxconvlstm.data.sources.images.image_file import read_picture\n"
        "from jaxconvlstm.errors import DataError\n"
        "try: read_picture(sys.argv[1], page=2)\n"
        "except DataError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True)
    assert done.stderr == "" and done.stdout.count("\n") == 1 and "a.tif" in done.stdout
