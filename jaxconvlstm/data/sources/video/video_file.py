"""One video file: the list of its frames with their times, and their pixels as arrays."""

import dataclasses
import re
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from jaxconvlstm.config.data import LARGEST_FRAME
from jaxconvlstm.errors import DataError
from jaxconvlstm.messages import printable

EXTENSIONS = tuple("mp4 m4v mov mkv webm avi mpg mpeg ts wmv flv ogv y4m".split())
# FFmpeg goes by content, not by name: a playlist in disguise must not open other files.
FORMATS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpeg,mpegts,asf,flv,ogg,yuv4mpegpipe"
OPEN_OPTIONS = {"format_whitelist": FORMATS, "protocol_whitelist": "file"}

UNSPECIFIED_MATRIX = 2  # AVCOL_SPC_UNSPECIFIED, which FFmpeg converts as Rec. 601.
REC_601_MATRICES = (UNSPECIFIED_MATRIX, 5, 6)  # AVCOL_SPC_BT470BG, AVCOL_SPC_SMPTE170M


@dataclasses.dataclass(frozen=True)
class VideoIndex:
    """The list of a video file's frames.

    Attributes:
      path: the file.
      times: of the frames in order of presentation, in units of `time_base` seconds.
      time_base: of the times.
      keyframes: positions of the frames at which decoding can start, in order.
      timed: every frame is found by its time. If not, the times are made up from the frame rate,
        and frames are counted from the start of the file.
      certain: whether the packets alone tell which frames there are. If not, only decoding does.
      shape: height and width of the first frame, turned as the file says.
      grey: whether the file itself has a single channel.
      codec: its name.
      rate: frames a second, as the file says.
      remarks: what was assumed or converted, each to be read behind "videos".
      lost: number of frames at the end that the file announces but does not hold.
      damage: why the file could not be read to its end, if so.
    """

    path: Path
    times: np.ndarray
    time_base: Fraction
    keyframes: np.ndarray
    timed: bool
    certain: bool
    shape: tuple[int, int]
    grey: bool
    codec: str
    rate: Fraction | None
    remarks: tuple[str, ...]
    lost: int = 0
    damage: str | None = None

    @property
    def step(self) -> float:
        """The typical time from one frame to the next, in units of `time_base`."""
        return float(np.median(np.diff(self.times))) if len(self.times) > 1 else 1.0

    def frame_name(self, frame: int) -> str:
        """E.g. "frame 12 (0.48 s)", counted from the first frame."""
        seconds = float(int(self.times[frame] - self.times[0]) * self.time_base)
        return f"frame {frame} ({seconds:.2f} s)"

    def position(self, time: int | None) -> int | None:
        """The position of the frame that is shown at a time; None if there is none."""
        if time is None:
            return None
        found = int(np.searchsorted(self.times, time))
        return found if found < len(self.times) and self.times[found] == time else None

    def keyframe(self, frame: int) -> int:
        """The place in `keyframes` of the last one at or before a frame."""
        return max(0, int(np.searchsorted(self.keyframes, frame, side="right")) - 1)

    def counted(self, frames: int) -> "VideoIndex":
        """The same file with frames that are counted, as their times are missing or wrong."""
        remark = "without times of frames, decoded from the start each time"
        return dataclasses.replace(
            self,
            times=np.arange(frames),
            time_base=1 / self.rate if self.rate else Fraction(1, 25),
            keyframes=np.zeros(1, np.int64),
            timed=False,
            remarks=tuple(dict.fromkeys((*self.remarks, remark))),
        )


def import_av() -> Any:
    """PyAV, which hides what FFmpeg would print.

    Raises:
      DataError: it is not installed.
    """
    try:
        import av
    except ImportError as error:
        raise DataError("video needs PyAV: pip install 'jaxconvlstm[video]'") from error
    return av


def open_video(path: Path) -> tuple[Any, Any]:
    """The open file, and its first stream of pictures that move.

    Raises:
      DataError: the file cannot be read, or holds no video.
    """
    av = import_av()
    try:
        if path.exists() and not path.is_file():
            raise ValueError("not a regular file")  # Reading a pipe would wait for ever.
        # Absolute, as a colon in a relative name would be taken for a protocol. Not `options`, with
        # which PyAV 17 crashes on formats that announce no streams (FLV).
        container = av.open(str(path.absolute()), container_options=OPEN_OPTIONS)
    except Exception as error:
        raise explained(path, error) from error
    try:
        return _moving_stream(path, container)
    # What a damaged header leaves of a stream lacks whatever it did not say.
    except AttributeError as error:
        container.close()
        raise explained(path, error) from error


def _moving_stream(path: Path, container: Any) -> tuple[Any, Any]:
    av = import_av()
    covers = (av.stream.Disposition.attached_pic, av.stream.Disposition.still_image)
    streams = [s for s in container.streams.video if not any(s.disposition & c for c in covers)]
    # A stream that FFmpeg has no decoder for has no context, and then no size either.
    usable = bool(streams) and streams[0].codec_context is not None
    width, height = (streams[0].width, streams[0].height) if usable else (0, 0)
    if not usable or width * height > LARGEST_FRAME:
        kinds = ", ".join(sorted({stream.type for stream in container.streams})) or "nothing"
        container.close()
        if width * height > LARGEST_FRAME:
            reason = f"more pixels than the {LARGEST_FRAME:,} that are decoded"
        else:
            reason = f"no video in it that can be decoded, only {kinds}"
        raise DataError(f"{printable(path)}: cannot be read: {reason}")
    # Several files or places are decoded at a time; threads of the decoder's own would only make
    # its frames arrive later.
    streams[0].codec_context.thread_type = "NONE"
    streams[0].codec_context.thread_count = 1
    return container, streams[0]


def index_video(path: Path) -> VideoIndex:
    """Lists the frames of a file by reading its packets; only the first frame is decoded.

    Raises:
      DataError: the file cannot be read, is no video, or not a single frame can be decoded.
    """
    first = _first_frame(path)
    container, stream = open_video(path)
    shown: list[int | None] = []
    keys: list[int] = []
    damage, end = None, 0
    with container:
        try:
            for packet in container.demux(stream):
                if packet.size and packet.is_keyframe and packet.pts is not None:
                    keys.append(packet.pts)
                # An edit list hides packets that are only there to decode others from.
                if packet.size and not packet.is_discard:
                    shown.append(packet.pts)
                    end = max(end, (packet.pts or 0) + (packet.duration or 0))
        except Exception as error:
            damage = reason_of(error)
        known = {time for time in shown if time is not None}
        # What is shown before the first keyframe refers to frames that are not in the file.
        times = np.array(sorted(time for time in known if keys and time >= min(keys)), np.int64)
        keyframes = np.searchsorted(times, np.array(keys, np.int64))
        index = VideoIndex(
            path=path,
            times=times,
            time_base=stream.time_base,
            keyframes=np.unique(keyframes[keyframes < len(times)]),
            timed=True,
            # AVI has no times: those of B-frames are FFmpeg's guess.
            certain=container.format.name != "avi" or len(keys) == len(shown),
            shape=upright_shape(first),
            grey=_is_grey(first),
            codec=stream.codec_context.name,
            rate=stream.average_rate or stream.guessed_rate,
            remarks=_remarks(container, stream, first),
            damage=damage,
        )
        if not len(times) or len(known) < len(shown):
            return dataclasses.replace(index.counted(len(shown)), certain=False)
        return dataclasses.replace(index, lost=_lost(index, container, stream, end))


def _first_frame(path: Path) -> Any:
    container, stream = open_video(path)
    with container:
        try:
            for frame in container.decode(stream):
                return frame
        except Exception as error:
            raise explained(path, error) from error
    raise DataError(f"{printable(path)}: cannot be read: it holds no frame")


def _lost(index: VideoIndex, container: Any, stream: Any, end: int) -> int:
    """Number of frames missing at the end, by the file's own statements of its length.

    Formats without an index or a duration (MPEG, y4m) do not tell.
    """
    # MP4 and AVI list the place of every frame: those beyond the end of the file are lost.
    held = index.path.stat().st_size
    formats = set(container.format.name.split(","))
    if formats & {"mp4", "avi"}:
        entries = stream.index_entries
        if all(entry.pos + entry.size <= held for entry in entries):
            return 0
        stated = stream.frames if "avi" in formats else len(entries)
        return max(0, stated - len(index.times))
    seconds = None
    if stated_duration := stream.metadata.get("DURATION"):
        seconds = _seconds(index.path, stated_duration)
    elif formats & {"webm", "flv"} and len(container.streams) == 1 and container.duration:
        seconds = container.duration / 1e6
    if seconds is None:
        return 0
    # Others state a duration: what is missing of it was cut off.
    missing = seconds / float(stream.time_base) - end
    # The last frame may be shown longer than the others.
    tolerated = max(2 * index.step, 0.02 * (end + missing))
    return round(missing / index.step) if missing > tolerated else 0


def _seconds(path: Path, duration: str) -> float:
    """E.g. of "00:00:12.500000000".

    Raises:
      DataError: something else, as the file is damaged.
    """
    found = re.fullmatch(r"\s*(\d+):(\d+):(\d+(?:\.\d*)?)\0*\s*", duration, re.ASCII)
    if found is None:
        raise DataError(f"{printable(path)}: damaged: a duration of {printable(duration)[:40]!r}")
    hours, minutes, rest = map(float, found.groups())
    return 3600 * hours + 60 * minutes + rest


def _remarks(container: Any, stream: Any, first: Any) -> tuple[str, ...]:
    found = []
    components = first.format.components
    bits = max(component.bits for component in components)
    if bits > 8:
        found.append(f"converted from {bits} to 8 bits a channel")
    if any(component.is_alpha for component in components):
        found.append("whose transparency is dropped")
    has_matrix = not _is_grey(first) and not first.format.is_rgb
    if has_matrix and first.colorspace == UNSPECIFIED_MATRIX:
        found.append("that do not say how they code colour, read as Rec. 601")
    if stream.sample_aspect_ratio not in (None, 0, 1):
        found.append("whose pixels are not square, read as they are")
    if first.rotation % 90:
        found.append(f"to be shown turned by {first.rotation} degrees, read unturned")
    if len(container.streams.video) > 1:
        found.append("with several video streams, of which the first is read")
    return tuple(found)


def _is_grey(frame: Any) -> bool:
    return frame.format.name.startswith(("gray", "ya", "mono"))


def _quarter_turns(frame: Any) -> int:
    return frame.rotation // 90 % 4 if frame.rotation % 90 == 0 else 0


def upright_shape(frame: Any) -> tuple[int, int]:
    """Height and width as the frame is to be shown."""
    shape = frame.height, frame.width
    return shape[::-1] if _quarter_turns(frame) % 2 else shape


def pixels_of(frame: Any, grey: bool, reformatter: Any) -> np.ndarray:
    """A decoded frame as uint8, upright.

    Args:
      frame: PyAV's.
      grey: whether grey is enough.
      reformatter: PyAV's, of one thread.

    Returns:
      RGB `[height, width, 3]`; or, of grey videos and where grey is enough, luma over the full
      range `[height, width, 1]`, which is what grey is made of RGB in Rec. 601.
    """
    grey = _is_grey(frame) or (grey and _is_rec_601(frame))
    # More exact conversion is ten times slower, and further from what other tools give: like
    # theirs, FFmpeg's fast one rounds down, and does not interpolate colour.
    wanted = "gray" if grey else "rgb24"
    plane = reformatter.reformat(frame, format=wanted, threads=1).planes[0]
    channels = 1 if grey else 3
    # FFmpeg pads each row to a multiple of some bytes, which are cut off here.
    rows = np.frombuffer(plane, np.uint8).reshape(frame.height, plane.line_size)
    pixels = rows[:, : frame.width * channels].reshape(frame.height, frame.width, channels)
    return np.array(np.rot90(pixels, _quarter_turns(frame)), order="C")


def _is_rec_601(frame: Any) -> bool:
    return not frame.format.is_rgb and frame.colorspace in REC_601_MATRICES


def reason_of(error: Exception) -> str:
    """The reason of a failure on one line."""
    av = import_av()
    if isinstance(error, av.error.InvalidDataError):
        return "invalid data"
    return " ".join(
        (getattr(error, "strerror", None) or str(error) or type(error).__name__).split()
    )


def explained(path: Path, error: Exception, frame: str | None = None) -> DataError:
    """The error of a video on one line that names it."""
    av = import_av()
    reason = reason_of(error)
    if isinstance(error, av.error.InvalidDataError | av.error.ArgumentError) and frame is None:
        reason = f"not a video, cut off or damaged; accepted are .{', '.join(EXTENSIONS)}"
        if path.exists() and path.stat().st_size == 0:
            reason = "the file is empty"
    place = printable(path) if frame is None else f"{printable(path)}: {frame}"
    return DataError(f"{place}: cannot be read: {reason}")
