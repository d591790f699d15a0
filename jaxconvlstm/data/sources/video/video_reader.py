"""Decoding of a video file: all of it once, or any frame of it."""

import dataclasses
import itertools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from jaxconvlstm.data.sources.video.video_file import VideoIndex, explained, open_video, reason_of
from jaxconvlstm.errors import DataError
from jaxconvlstm.messages import printable


class Decoded(NamedTuple):
    """A frame as PyAV gives it, and its position in the file."""

    position: int
    frame: Any


class VideoReader:
    """An open file that gives any of its frames, for one thread.

    It seeks to the keyframe before a frame, unless the decoder already stands between the two.
    Frames are bit-identical to those of one pass over the whole file.
    """

    def __init__(self, index: VideoIndex):
        """Opens the file.

        Raises:
          DataError: it cannot be opened.
        """
        self._index = index
        self._position = -1  # Of the last frame that was given.
        self._frames: Iterator[Decoded] = iter(())
        self._open()

    def __del__(self) -> None:
        # PyAV's objects refer to each other, and would keep the file open for a while.
        if hasattr(self, "_container"):
            self.close()

    def close(self) -> None:
        """Closes the file."""
        self._frames = iter(())
        self._container.close()

    def frames_to(self, wanted: int) -> Iterator[Decoded]:
        """The frames that have to be decoded for the frame `wanted`, which is the last one.

        Raises:
          DataError: it cannot be decoded.
        """
        try:
            yield from self._frames_to(wanted)
        except DataError:
            raise
        except Exception as error:
            name = self._index.frame_name(wanted)
            raise explained(self._index.path, error, name) from error

    def _frames_to(self, wanted: int) -> Iterator[Decoded]:
        keyframe = int(self._index.keyframes[self._index.keyframe(wanted)])
        # An abandoned iteration invalidates the position.
        stands, self._position = self._position, len(self._index.times)
        # From between the keyframe and the frame, decoding on is cheaper than seeking back.
        if not keyframe - 1 <= stands < wanted:
            self._go_to(wanted)
        for decoded in self._frames:
            if decoded.position > wanted:
                break
            if decoded.position < keyframe:
                continue  # Decoded only on the way to the keyframe.
            if decoded.frame.is_corrupt:
                raise ValueError("damaged")
            if decoded.position == wanted:
                self._position = wanted
                yield decoded
                return
            yield decoded
        raise ValueError("the file is damaged or cut off there, or has changed")

    def _go_to(self, wanted: int) -> None:
        """Seeks so that the frame, or one not far before it, is decoded next."""
        index = self._index
        if index.timed:
            key = index.keyframe(wanted)
            # Some formats are not sought exactly, and some keyframes need frames before them
            # (intra refresh): then further back, and from the start in the end.
            for back in itertools.takewhile(lambda back: back <= key, (0, 1, 2, 4, 8)):
                time = int(index.times[index.keyframes[key - back]])
                self._container.seek(time, stream=self._stream, backward=True)
                if self._starts_by(wanted):
                    return
        self._container.close()
        self._open()

    def _starts_by(self, wanted: int) -> bool:
        self._frames = _numbered(self._index, decode(self._container, self._stream, self._index))
        for decoded in self._frames:
            if decoded.position > wanted:
                return False
            if not decoded.frame.is_corrupt:
                # Put back: the caller gets it first.
                self._frames = itertools.chain([decoded], self._frames)
                return True
        return False

    def _open(self) -> None:
        self._container, self._stream = open_video(self._index.path)
        self._frames = _numbered(self._index, decode(self._container, self._stream, self._index))
        self._position = -1


def check_video(
    index: VideoIndex, use: Callable[[Decoded], None]
) -> tuple[VideoIndex, dict[int, str]]:
    """Decodes a whole file once.

    Args:
      index: of the file.
      use: called with every frame that can be used, at its position in that index.

    Returns:
      The index with what decoding has shown: packets that hold no frame are not counted, and
      frames that the file announces but does not hold are added. Then the frames that cannot be
      used, and why.

    Raises:
      DataError: the file cannot be opened, or nothing of it decoded; and what `use` raises.
    """
    failures: list[str] = []
    times: list[int | None] = []
    bad: dict[int, str] = {}
    container, stream = open_video(index.path)
    with container:
        frames = decode(container, stream, None, failures)
        for number, frame in enumerate(frames):
            times.append(frame.pts)
            position = index.position(frame.pts) if index.timed else number
            if position is not None and frame.is_corrupt:
                bad[position] = "damaged"
            elif position is not None:
                use(Decoded(position, frame))
    if not times:
        raise DataError(f"{printable(index.path)}: cannot be read: no frame can be decoded")
    known = [time for time in times if time is not None]
    # Times that decoding contradicts, as those of B-frames in AVI files, are of no use.
    if not index.timed or len(known) < len(times) or np.any(np.diff(known) <= 0):
        length = max(len(times), len(index.times) if failures or index.damage else 0)
        index, known = index.counted(length), list(range(len(times)))
    return _corrected(index, np.array(known), failures, bad)


def _corrected(
    index: VideoIndex, shown: np.ndarray, failures: list[str], bad: dict[int, str]
) -> tuple[VideoIndex, dict[int, str]]:
    """Compares the index with the times of the frames that were decoded."""
    found = np.isin(index.times, shown)
    damage = index.damage or next(iter(failures), None)
    if not found.all() and not (damage or bad or index.lost):
        keys = index.times[index.keyframes]
        times = index.times[found]
        remark = "with packets that hold no frame, which are not counted"
        index = dataclasses.replace(
            index,
            times=times,
            keyframes=np.searchsorted(times, keys[np.isin(keys, times)]),
            remarks=(*index.remarks, remark),
        )
        return index, {}
    bad |= {int(frame): damage or "cannot be decoded" for frame in np.flatnonzero(~found)}
    for frame in sorted(bad):
        # What is predicted from a damaged frame is wrong too, even if the decoder does not say so.
        after = int(np.searchsorted(index.keyframes, frame, side="right"))
        end = index.keyframes[after] if after < len(index.keyframes) else len(index.times)
        for follower in range(frame + 1, int(end)):
            bad.setdefault(follower, f"follows the damaged {index.frame_name(frame)}")
    if index.lost:
        count = len(index.times)
        steps = np.arange(1, index.lost + 1) * index.step
        times = np.concatenate([index.times, index.times[-1] + steps.astype(np.int64)])
        bad |= dict.fromkeys(range(count, len(times)), ends_early(index))
        index = dataclasses.replace(index, times=times)
    return index, bad


def ends_early(index: VideoIndex) -> str:
    """The fault of a file that has lost its end."""
    count = len(index.times)
    return f"the file ends early, after {count} of {count + index.lost} frames"


def _numbered(index: VideoIndex, frames: Iterator[Any]) -> Iterator[Decoded]:
    """With their positions. No method: that would make a cycle that keeps the file open."""
    for number, frame in enumerate(frames):
        position = index.position(frame.pts) if index.timed else number
        if position is not None:
            yield Decoded(position, frame)


def decode(
    container: Any,
    stream: Any,
    index: VideoIndex | None = None,
    failures: list[str] | None = None,
) -> Iterator[Any]:
    """PyAV's frames from the next keyframe on.

    Args:
      container, stream: open, standing anywhere.
      index: of a file that was sought in: frames shown before that keyframe are left out, as they
        refer to frames before it.
      failures: receives why packets could not be decoded; without it, that is raised.
    """
    start = None
    started = False
    packets = iter(container.demux(stream))
    while True:
        try:
            packet = next(packets, None)
            if packet is None:
                return
            # The decoder would make grey or smeared frames of what refers to frames before.
            if not started and packet.size and not packet.is_keyframe:
                continue
            if not started:
                start, started = packet.pts, True
            frames = packet.decode()
        except Exception as error:
            if failures is None:
                raise
            failures.append(reason_of(error))
            continue
        for frame in frames:
            if index is None or not index.timed or start is None or frame.pts >= start:
                yield frame
