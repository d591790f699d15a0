"""Videos: every frame as one pass over the file gives it, and files that are not as they should."""

import gc
import os
import re
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from opened import videos
from PIL import Image

from jaxconvlstm.config.data import DataConfig
from jaxconvlstm.data.preprocess import Preparation
from jaxconvlstm.data.sources.video import video_frames
from jaxconvlstm.data.sources.video.video_frames import VideoFrames
from jaxconvlstm.data.sources.video.video_reader import VideoReader
from jaxconvlstm.errors import DataError, StuckReaderError

av = pytest.importorskip("av")

ROOT = Path(__file__).resolve().parents[3]
BIKES = ROOT.parent / "shared/data/video"
HEIGHT, WIDTH, COUNT = 48, 64, 36

H264 = {"g": "10", "bf": "3", "preset": "veryfast"}
CODECS = {
    "open-gop.mp4": ("libx264", H264 | {"x264-params": "open-gop=1:scenecut=0"}),
    "h264.ts": ("libx264", H264),
    "h264.flv": ("libx264", H264),
    "no-times.avi": ("libx264", H264),
    "refresh.mkv": ("libx264", {"g": "10", "intra-refresh": "1"}),
    "hevc.mov": ("libx265", {"x265-params": "log-level=none:keyint=10:open-gop=1"}),
    "mpeg4.avi": ("mpeg4", {"g": "10", "bf": "2"}),
    "mpeg2.mpg": ("mpeg2video", {"g": "10", "bf": "2"}),
    "vp8.webm": ("libvpx", {"g": "10", "auto-alt-ref": "1", "lag-in-frames": "10"}),
    "vp9.webm": ("libvpx-vp9", {"g": "10", "lag-in-frames": "10", "cpu-used": "8"}),
    "mjpeg.avi": ("mjpeg", {}),
    "ffv1.mkv": ("ffv1", {"g": "10"}),
    "raw.y4m": ("wrapped_avframe", {}),
}


def scene(frame: int, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    """Colours that move, none of them out of reach of Rec. 601."""
    rows, columns = np.mgrid[:height, :width]
    waves = [np.sin((columns + 2 * frame) / 7 + c) * np.cos((rows - frame) / 5) for c in range(3)]
    return np.stack([128 + 60 * wave for wave in waves], axis=-1).astype(np.uint8)


def encode(
    path: Path,
    codec: str = "libx264",
    options: dict[str, str] | None = None,
    *,
    count: int = COUNT,
    pixels: str | None = None,
    time: Callable[[int], int] = lambda frame: frame,
    shape: tuple[int, int] = (HEIGHT, WIDTH),
    matrix: int | None = None,
    container: dict[str, str] | None = None,
    rotation: int = 0,
) -> Path:
    """Writes a video of `scene`, 25 frames a second."""
    try:
        av.codec.Codec(codec, "w")
    except av.error.FFmpegError:
        pytest.skip(f"this PyAV has no encoder {codec}")
    with av.open(str(path), "w", options=container or {}) as file:
        stream = file.add_stream(codec, rate=25, options=H264 if options is None else options)
        stream.height, stream.width = shape
        stream.pix_fmt = pixels or ("yuvj420p" if codec == "mjpeg" else "yuv420p")
        if rotation:
            if not hasattr(stream, "set_display_rotation"):
                pytest.skip("this PyAV cannot write a rotation")
            stream.set_display_rotation(rotation)
        if matrix is not None:
            stream.codec_context.colorspace = matrix
        for number in range(count):
            frame = av.VideoFrame.from_ndarray(scene(number, *shape), format="rgb24")
            if matrix is not None:
                frame = frame.reformat(format=stream.pix_fmt, dst_colorspace="ITU709")
                frame.colorspace = matrix
            frame.pts, frame.time_base = time(number), Fraction(1, 25)
            file.mux(stream.encode(frame))
        file.mux(stream.encode())
    return path


def in_one_pass(path: Path) -> np.ndarray:
    """All frames of a file, as PyAV's documentation decodes them."""
    with av.open(str(path)) as file:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)])


def lazy(path: Path, **arguments: object) -> VideoFrames:
    """Nothing decoded before it is read, nothing kept."""
    return videos(path, **{"check_files": "none", "cache": 0.0, **arguments})


@pytest.mark.parametrize("name", CODECS)
def test_any_order_gives_the_frames_of_one_pass(tmp_path, name):
    codec, options = CODECS[name]
    path = encode(tmp_path / name, codec, options)
    expected = in_one_pass(path)
    assert len(expected) == COUNT

    video = lazy(path)

    assert video.lengths == [COUNT]
    for frame in np.random.default_rng(0).permutation(COUNT):
        np.testing.assert_array_equal(video.read(0, [frame])[0], expected[frame], str(frame))
    np.testing.assert_array_equal(video.read(0, range(0, COUNT, 3)), expected[::3])
    np.testing.assert_array_equal(videos(path).read(0, range(COUNT)), expected)


def test_threads_read_at_the_same_time(tmp_path):
    paths = [encode(tmp_path / f"{name}.mp4") for name in range(6)]
    expected = in_one_pass(paths[0])
    video = lazy(tmp_path)
    places = np.random.default_rng(1).permutation(6 * COUNT)

    def read(place: int) -> np.ndarray:
        return video.read(place % 6, [place // 6])[0]

    with ThreadPoolExecutor(4) as pool:
        for place, frame in zip(places, pool.map(read, places)):
            np.testing.assert_array_equal(frame, expected[place // 6])


def test_only_what_is_needed_is_decoded(tmp_path, monkeypatch):
    video = lazy(encode(tmp_path / "a.mp4", options={"g": "6", "bf": "0"}))
    decoded = []
    original = VideoReader.frames_to

    def counting(self, wanted):
        for frame in original(self, wanted):
            decoded.append(frame.position)
            yield frame

    monkeypatch.setattr(VideoReader, "frames_to", counting)
    video.read(0, [8])
    assert decoded == [6, 7, 8]
    video.read(0, [10, 11, 12])
    assert decoded == [6, 7, 8, 9, 10, 11, 12]
    video.read(0, [31])
    assert decoded[7:] == [30, 31]


def test_kept_frames_are_not_decoded_again(tmp_path):
    path = encode(tmp_path / "a.mp4")
    expected = in_one_pass(path)
    for check in ("all", "none"):
        video = videos(path, check_files=check)
        video.read(0, range(COUNT))
        path.rename(tmp_path / "b")
        np.testing.assert_array_equal(
            video.read(0, [5, 6], (slice(3, 9), slice(2, 30))), expected[5:7, 3:9, 2:30]
        )
        (tmp_path / "b").rename(path)


@pytest.mark.skipif(not BIKES.exists(), reason="needs the real clip beside the repository")
def test_a_real_clip_agrees_with_its_published_frames():
    video = videos(BIKES / "bikes.mp4", size=(128, 128), fit="crop")
    assert video.lengths == [250]
    assert video.details == {"video": "bikes.mp4 h264 640x272, 250 frames, 25 fps"}
    pictures = sorted((BIKES / "bikes-frames").rglob("*.jpg"))
    assert len(pictures) == 242
    errors = []
    for picture in pictures:
        with Image.open(picture) as image:
            expected = np.asarray(image.convert("RGB"), np.float32)
        number = int(re.findall(r"\d+", picture.stem)[0])
        errors.append(np.abs(video.read(0, [number])[0] - expected).mean())
    assert np.mean(errors) < 2  # of 255


@pytest.mark.parametrize("pixels", ["yuv420p", "yuvj420p", "yuv444p", "yuv420p10", "bgr0"])
def test_grey_is_that_of_rec_601(tmp_path, pixels):
    codec = "mjpeg" if pixels == "yuvj420p" else "ffv1"
    path = encode(tmp_path / "a.mkv", codec, {}, pixels=pixels, count=3)
    # The default of `to_ndarray` rounds down.
    exact = av.video.reformatter.Interpolation.BICUBIC.value | 0x2000 | 0x40000
    with av.open(str(path)) as file:
        frames = [frame.reformat(format="rgb24", interpolation=exact) for frame in file.decode()]
    expected = np.stack([frame.to_ndarray() for frame in frames]) @ [0.299, 0.587, 0.114]

    grey = videos(path, channels=1)

    assert grey.frame_shape == (HEIGHT, WIDTH, 1)
    assert np.abs(grey.read(0, range(3))[..., 0] - expected).max() <= 2
    assert np.abs(grey.read(0, range(3))[..., 0] - expected).mean() <= 0.6
    assert any("from 10 to 8 bits" in note for note in grey.notes) == (pixels == "yuv420p10")


def test_the_colour_matrix_that_the_file_names_is_used(tmp_path):
    path = encode(tmp_path / "a.mp4", options=H264 | {"crf": "1"}, matrix=1, pixels="yuv444p")
    colour = lazy(path)
    assert not colour.notes
    assert np.abs(colour.read(0, [4])[0].astype(int) - scene(4)).mean() < 2
    grey = videos(path, channels=1).read(0, [4])[0, ..., 0]
    # The luma of Rec. 709, which the file holds, is 1.7 away from this.
    assert np.abs(grey - scene(4) @ [0.299, 0.587, 0.114]).mean() < 1


def test_grey_videos_have_one_channel_and_are_repeated_for_colour(tmp_path):
    encode(tmp_path / "a.mkv", "ffv1", {}, pixels="gray16le", count=3)
    grey = lazy(tmp_path)
    assert grey.frame_shape == (HEIGHT, WIDTH, 1)
    expected = scene(1) @ [0.299, 0.587, 0.114]
    assert np.abs(grey.read(0, [1])[0, ..., 0] - expected).max() <= 2
    colour = videos(tmp_path, channels=3).read(0, [1])[0]
    np.testing.assert_array_equal(colour, np.repeat(grey.read(0, [1])[0], 3, axis=-1))
    encode(tmp_path / "b.mkv", "ffv1", {}, count=3)
    assert "colour videos read as grey, as the first is: 1" in lazy(tmp_path).notes


@pytest.mark.parametrize("rotation", [90, 180, -90])
def test_a_rotated_video_is_turned_upright(tmp_path, rotation):
    stored = in_one_pass(encode(tmp_path / "a.mp4", count=4))
    video = lazy(encode(tmp_path / "b.mp4", count=4, rotation=rotation))
    # FFmpeg's angle is counterclockwise, as NumPy's.
    expected = np.rot90(stored, rotation // 90, axes=(1, 2))
    assert video.frame_shape == expected.shape[1:]
    np.testing.assert_array_equal(video.read(0, range(4)), expected)


def test_frames_that_an_edit_list_hides_are_not_counted(tmp_path):
    whole = encode(tmp_path / "whole.mp4")
    cut = tmp_path / "cut.mp4"
    with av.open(str(whole)) as source, av.open(str(cut), "w") as target:
        target.flags &= ~0x200000  # Let times be negative: the edit list begins at 0.
        stream = source.streams.video[0]
        copied = target.add_stream_from_template(stream)
        for packet in source.demux(stream):
            if packet.size:
                packet.pts -= 4 * 512
                packet.dts -= 4 * 512
                packet.stream = copied
                target.mux(packet)
    expected = in_one_pass(cut)
    for check in ("all", "none"):
        video = videos(cut, check_files=check, cache=0)
        assert video.lengths == [len(expected)]
        for frame in (20, 0, 3):
            np.testing.assert_array_equal(video.read(0, [frame])[0], expected[frame])


def test_a_jump_in_time_is_a_gap(tmp_path):
    path = encode(tmp_path / "a.mkv", time=lambda frame: frame + 3 * (frame > 11))
    video = lazy(path)
    assert video.gaps == {0: [12]}
    assert any(note.startswith("gaps in the times of frames: 1") for note in video.notes)
    assert [segment[1:] for segment in video.segments()] == [(0, 12), (12, COUNT)]
    assert video.frame_name(0, 11) == "frame 11 (0.44 s)"
    assert video.frame_name(0, 12) == "frame 12 (0.60 s)"
    assert lazy(path, allow_gaps=True).gaps == {}
    # A frame rate that varies is no gap.
    assert not lazy(encode(tmp_path / "b.mkv", time=lambda frame: 3 * frame + frame % 2)).gaps


def test_folders_are_listed_in_natural_order(tmp_path):
    for name in ("clip10.mp4", "clip2.mp4", "deep/x.MKV", ".hidden.mp4", "._clip2.mp4"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        encode(tmp_path / name.replace("MKV", "mkv"), count=3).rename(tmp_path / name)
    (tmp_path / "notes.txt").write_text("no video")
    (tmp_path / "deep/loop").symlink_to(tmp_path)
    (tmp_path / "broken.gif").write_bytes(b"GIF")
    video = lazy(tmp_path)
    assert video.names == ["clip2.mp4", "clip10.mp4", "deep/x.MKV"]
    assert video.notes[0].startswith("files ignored that are no videos: 4, e.g. ")
    part = lazy(tmp_path, sequences=(1, 2))
    assert part.names == ["clip10.mp4"]
    assert "sequences 1 to 1 of 3 used (--sequences)" in part.notes
    with pytest.raises(DataError, match="--sequences 1 4: there are only 3"):
        lazy(tmp_path, sequences=(1, 4))
    assert "3 files" in video.details["video"]


def test_a_file_that_is_linked_to_counts_once(tmp_path):
    encode(tmp_path / "b.mp4", count=3)
    (tmp_path / "a.mp4").symlink_to("b.mp4")
    (tmp_path / "c.mp4").hardlink_to(tmp_path / "b.mp4")
    video = lazy(tmp_path)
    assert video.names == ["b.mp4"]
    assert video.notes[0].startswith("links to videos that are listed already, left out: 2, e.g. ")
    (tmp_path / "loop.mp4").symlink_to("loop.mp4")
    with pytest.raises(DataError, match=r"loop\.mp4: "):
        lazy(tmp_path)


def test_strange_names_are_opened(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    plain = encode(tmp_path / "a.mp4", count=3)
    for name in ("concat:x.mp4", "-i.mp4", "a\nb.mp4", "\udcff.mp4", "é %03d.mp4"):
        try:
            plain.with_name(name).write_bytes(plain.read_bytes())
        except (OSError, UnicodeError):
            continue
        video = lazy(Path(name))
        assert video.lengths == [3]
        assert video.names[0].isprintable()


@pytest.mark.parametrize("size", [None, (24, 24)])
def test_all_videos_have_one_size(tmp_path, size):
    encode(tmp_path / "a.mp4", count=3)
    encode(tmp_path / "b.mp4", count=3, shape=(32, 80))
    options = {} if size is None else {"size": size, "fit": "crop"}
    if size is None:
        with pytest.raises(DataError, match=r"b\.mp4: 32x80 pixels .*a\.mp4 has 48x64; --size"):
            videos(tmp_path, **options)
        return
    video = videos(tmp_path, **options)
    assert video.frame_shape == (24, 24, 3)
    expected = Preparation(DataConfig(**options))(in_one_pass(tmp_path / "b.mp4")[2])
    np.testing.assert_array_equal(video.read(1, [2])[0], expected)


def audio_only(path: Path) -> None:
    with av.open(str(path), "w") as file:
        stream = file.add_stream("aac", rate=44100, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        frame.sample_rate = 44100
        file.mux(stream.encode(frame))
        file.mux(stream.encode())


def playlist(path: Path) -> None:
    encode(path.with_name("real.ts"), count=3)
    path.write_text("#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nreal.ts\n#EXT-X-ENDLIST\n")


def without_its_end(path: Path) -> None:
    whole = encode(path.with_name("whole.mp4"))
    path.write_bytes(whole.read_bytes()[:-300])


def unreadable(path: Path) -> None:
    encode(path, count=3).chmod(0)
    if os.access(path, os.R_OK):
        pytest.skip("this user may read everything")


FAULTS: dict[str, Callable[[Path], object]] = {
    "the file is empty": lambda path: path.write_bytes(b""),
    "not a video": lambda path: path.write_text("no video " * 500),
    "not a video.*": lambda path: path.write_bytes(np.random.default_rng(0).bytes(50_000)),
    "not a video, cut off": without_its_end,
    "not a video, .*": playlist,
    "only audio": audio_only,
    "a regular file": os.mkfifo,
    "No such file": lambda path: path.symlink_to("nowhere.mp4"),
    "ermission denied": unreadable,
    "cannot be read": lambda path: (
        path.with_name("cover.mp4").write_bytes(b"\0" * 999)
        and path.write_bytes(b"\0\0\0\x18ftypisom" + b"\0" * 200)
    ),
}


@pytest.mark.parametrize("reason", FAULTS)
def test_what_is_no_video_is_named_on_one_line(tmp_path, reason, capfd):
    (tmp_path / "data").mkdir()
    path = tmp_path / "data/bad.mp4"
    FAULTS[reason](tmp_path / "bad.mp4")
    (tmp_path / "bad.mp4").rename(path)
    capfd.readouterr()
    for source in (path, path.parent):
        with pytest.raises(DataError, match=rf"bad\.mp4: .*{reason}") as error:
            videos(source)
        assert "\n" not in str(error.value)

    encode(path.with_name("good.mp4"), count=3)
    video = videos(path.parent, on_bad_frame="skip")
    assert video.names == ["good.mp4"]
    assert any(note.startswith("videos left out: 1, e.g. ") for note in video.notes)
    assert capfd.readouterr() == ("", "")


def test_nothing_there(tmp_path):
    with pytest.raises(DataError, match=r"no videos; accepted are \.mp4, .* \.y4m"):
        videos(tmp_path)
    with pytest.raises(DataError, match="nowhere: cannot be listed"):
        videos(tmp_path / "nowhere")
    encode(tmp_path / "a.mp4", count=3)
    with pytest.raises(DataError, match="--sequences 5 9: there are only 1"):
        videos(tmp_path, sequences=(5, 9))


@pytest.mark.parametrize("name", ["start.mp4", "h264.mkv", "vp9.webm", "mjpeg.avi"])
def test_a_video_that_was_cut_off(tmp_path, name, capfd):
    path = tmp_path / name
    codec, options = CODECS.get(name, ("libx264", H264))
    encode(path, codec, options, container={"movflags": "faststart"} if "mp4" in name else None)
    expected = in_one_pass(path)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * 0.7)])
    for check in ("all", "none"):
        with pytest.raises(DataError, match=rf"{name}: "):
            videos(path, check_files=check)

    video = videos(path, on_bad_frame="skip", cache=0)

    assert video.lengths == [COUNT]
    bad = video.bad[0]
    assert 5 < len(bad) < COUNT
    assert max(bad) == COUNT - 1
    assert any(note.startswith(f"frames that cannot be used: {len(bad)}, ") for note in video.notes)
    for frame in set(range(COUNT)) - set(bad):
        np.testing.assert_array_equal(video.read(0, [frame])[0], expected[frame])
    with pytest.raises(DataError, match=rf"{name}: frame {COUNT - 1} "):
        video.read(0, [COUNT - 1])
    assert capfd.readouterr().err == ""


def test_damage_spoils_the_frames_up_to_the_next_keyframe(tmp_path):
    path = encode(tmp_path / "a.mkv", options={"g": "10", "bf": "0"})
    expected = in_one_pass(path)
    data = bytearray(path.read_bytes())
    with av.open(str(path)) as file:
        packet = [packet for packet in file.demux(video=0) if packet.size][13]
        place = data.index(bytes(packet)) + 5
    data[place : place + packet.size - 5] = bytes(packet.size - 5)
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"a\.mkv: frame 13 \(0\.52 s\): "):
        videos(path)
    with pytest.raises(DataError, match=r"a\.mkv: frame 1[3-9] "):
        lazy(path).read(0, range(COUNT))

    video = videos(path, on_bad_frame="skip", cache=0)

    assert sorted(video.bad[0]) == list(range(13, 20))
    for segment in video.segments():
        frames = range(segment.start, segment.stop)
        np.testing.assert_array_equal(video.read(0, frames), expected[frames])


def test_a_file_that_disappears_is_named(tmp_path):
    path = encode(tmp_path / "a.mp4")
    video = lazy(path)
    path.unlink()
    with pytest.raises(DataError, match=r"a\.mp4: .*No such file"):
        video.read(0, [3])


def test_a_frame_of_another_size_is_named(tmp_path):
    path = tmp_path / "a.ts"
    small, large = (encode(tmp_path / f"{side}.ts", shape=(side, side)) for side in (32, 48))
    path.write_bytes(small.read_bytes() + large.read_bytes())
    with pytest.raises(DataError, match=r"a\.ts: 48x48 pixels .* in frame .* has 32x32"):
        videos(path)


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts open files in /proc")
def test_a_file_that_is_never_read_is_named(tmp_path, monkeypatch):
    encode(tmp_path / "a.mp4", count=3)
    ends = threading.Event()
    monkeypatch.setattr(video_frames, "FILE_TIMEOUT", 0.3)
    monkeypatch.setattr(video_frames, "index_video", lambda path: ends.wait())
    try:
        with pytest.raises(StuckReaderError, match=r"a\.mp4: not read after 0\.3 seconds"):
            videos(tmp_path)
    finally:
        ends.set()


def test_files_are_closed(tmp_path):
    for number in range(6):
        encode(tmp_path / f"{number}.mp4", count=3)

    def opened() -> int:
        links = [str(link.readlink()) for link in Path("/proc/self/fd").iterdir() if link.exists()]
        return sum(link.startswith(str(tmp_path)) for link in links)

    video = lazy(tmp_path)
    assert opened() == 0
    gc.disable()  # Reference counts alone must do.
    try:
        for sequence in range(6):
            video.read(sequence, [1])
        assert 1 <= opened() <= 4
        thread = threading.Thread(target=lambda: video.read(0, [2]))
        thread.start()
        thread.join()
        assert opened() <= 4
        del video
        assert opened() == 0
    finally:
        gc.enable()


def test_without_pyav_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(DataError, match=r"video needs PyAV: pip install 'jaxconvlstm\[video\]'"):
        videos(tmp_path)


def test_a_header_that_was_cut_off_is_named(tmp_path):
    whole = encode(
        tmp_path / "whole.mp4", count=3, container={"movflags": "faststart"}
    ).read_bytes()
    path = tmp_path / "cut.mp4"
    for size in range(40, len(whole) - 1, len(whole) // 30):
        path.write_bytes(whole[:size])
        with pytest.raises(DataError, match=r"cut\.mp4: "):
            lazy(path)


def test_a_duration_that_is_damaged_is_named(tmp_path):
    path = encode(tmp_path / "a.mkv", count=5)
    content = path.read_bytes()
    place = content.index(b"00:00:00.")
    path.write_bytes(content[:place] + b"0p" + content[place + 2 :])
    with pytest.raises(DataError, match=r"a\.mkv: damaged: a duration of '0p:00"):
        lazy(path)
