"""A video file, or a folder of them, as sequences of frames."""

import dataclasses
import os
import threading
from collections import Counter, OrderedDict
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from jaxconvlstm.config.data import SourceOptions
from jaxconvlstm.data.prefetch import map_in_threads
from jaxconvlstm.data.preprocess import Preparation
from jaxconvlstm.data.sources.base import CHECK_ALL_UP_TO, FrameCache, Frames, Region, stack
from jaxconvlstm.data.sources.files import find_files, is_folder
from jaxconvlstm.data.sources.images.numbering import GAP
from jaxconvlstm.data.sources.split_folders import splits_of_folders
from jaxconvlstm.data.sources.video.video_file import (
    EXTENSIONS,
    VideoIndex,
    explained,
    import_av,
    index_video,
    pixels_of,
    upright_shape,
)
from jaxconvlstm.data.sources.video.video_reader import (
    Decoded,
    VideoReader,
    check_video,
    ends_early,
)
from jaxconvlstm.errors import DataError
from jaxconvlstm.messages import printable

OPEN_FILES = 4
"""Video files that each thread keeps open."""
FILE_TIMEOUT = 600.0
"""Seconds that are waited for one file, and one more for each frame where all are decoded."""


class VideoFrames(Frames):
    """The frames of videos, as uint8: RGB, or grey where that is asked for or all there is.

    Every video file at or below the folder is one sequence. Frames are decoded when they are read,
    from the keyframe before them on, and kept if all of them fit in memory.
    """

    def __init__(self, source: str | Path, config: SourceOptions):
        """Lists the files and the frames in them, and checks them.

        With `config.check_files` "all" everything is decoded once; "headers" and "none" read all
        packets, but decode the first frame of each file only. None is "all" up to
        `CHECK_ALL_UP_TO` frames, and "none" above.

        Args:
          source: a video file or a folder.
          config: how videos are read and prepared.

        Raises:
          DataError: nothing there, a file that is damaged or no video, or frames of unlike size.
        """
        super().__init__()
        import_av()
        self._skips = config.on_bad_frame == "skip"
        # Each thread has files and a converter of its own: PyAV's are not safe to share.
        self._local = threading.local()
        root = Path(source)
        files = [root]
        if root.is_dir() or not root.exists():
            accepted = [f".{extension}" for extension in EXTENSIONS]
            files, notes = find_files(root, _is_video, "videos", accepted)
            self.notes += notes
        used = self._choose_sequences(len(files), config.sequences, printable(root))
        videos = self._index(files[used.start : used.stop])
        first = videos[0]
        grey = first.grey if config.channels is None else config.channels == 1
        self._prepare = Preparation(dataclasses.replace(config, channels=1 if grey else 3))
        if config.channels is None and (other := sum(v.grey != grey for v in videos)):
            kinds = "colour videos read as grey" if grey else "grey videos read as colour"
            self.notes.append(f"{kinds}, as the first is: {other}")
        self._first_path = first.path
        self.frame_shape = self._prepare.shape((*first.shape, 1))
        self.dtype = self._prepare.dtype(np.uint8)
        for video in videos:
            self._compare(video, video.shape)
        # Lost ones count, too: `_check` adds them to the list, as bad frames.
        frames = sum(len(video.times) + video.lost for video in videos)
        frame_bytes = int(np.prod(self.frame_shape)) * self.dtype.itemsize
        self._cache = FrameCache(frames, frame_bytes, config.cache * 2**30)
        check_files = config.check_files
        if check_files is None:
            check_files = "all" if frames <= CHECK_ALL_UP_TO else "none"
        self._videos = self._check(videos, everything=check_files == "all" or self._skips)
        self.lengths = [len(video.times) for video in self._videos]
        base = root if root.is_dir() else root.parent
        inside = [video.path.relative_to(base) for video in self._videos]
        self.names = [printable(path) for path in inside]
        self.folders = [tuple(map(printable, path.parent.parts)) for path in inside]
        self.splits, split_notes = splits_of_folders(self.folders)
        self.notes += split_notes
        self._note_remarks()
        if not config.allow_gaps:
            self._find_gaps()
        self.details = {"video": self._description()}

    def read(
        self, sequence: int, frames: Sequence[int], region: Region | None = None
    ) -> np.ndarray:
        """See `Frames.read`."""
        return stack((self._frame(sequence, frame) for frame in frames), region)

    def frame_name(self, sequence: int, frame: int) -> str:
        """E.g. "frame 12 (0.48 s)"."""
        return self._videos[sequence].frame_name(frame)

    def _frame(self, sequence: int, wanted: int) -> np.ndarray:
        kept = self._cache.get(sequence, wanted)
        if kept is not None:
            return kept
        pixels = None
        for decoded in self._reader(sequence).frames_to(wanted):
            # Those on the way there will be wanted too, if there is room for all.
            if decoded.position == wanted or self._cache.keeps:
                pixels = self._pixels(self._videos[sequence], decoded)
                self._cache.put(sequence, decoded.position, pixels)
        assert pixels is not None  # The last one is the one wanted.
        return pixels

    def _reader(self, sequence: int) -> VideoReader:
        """This thread's open file. A thread that ends closes its own."""
        readers: OrderedDict[int, VideoReader] | None = getattr(self._local, "readers", None)
        if readers is None:
            readers = self._local.readers = OrderedDict()
        if sequence not in readers:
            readers[sequence] = VideoReader(self._videos[sequence])
            if len(readers) > OPEN_FILES:
                readers.popitem(last=False)[1].close()
        readers.move_to_end(sequence)
        return readers[sequence]

    def _pixels(self, video: VideoIndex, decoded: Decoded) -> np.ndarray:
        """A frame converted and prepared."""
        self._compare(video, upright_shape(decoded.frame), decoded.position)
        reformatter = getattr(self._local, "reformatter", None)
        if reformatter is None:
            reformatter = self._local.reformatter = import_av().video.reformatter.VideoReformatter()
        try:
            pixels = pixels_of(decoded.frame, self._prepare.options.channels == 1, reformatter)
        except Exception as error:
            raise explained(video.path, error, video.frame_name(decoded.position)) from error
        return self._prepare(pixels)

    def _compare(self, video: VideoIndex, shape: tuple[int, int], frame: int = 0) -> None:
        """Refuses frames of another size than the first one's."""
        expected = self.frame_shape[:2]
        if self._prepare.options.size is None and shape != expected:
            place = f" in {video.frame_name(frame)}" if frame else ""
            raise DataError(
                "{}: {}x{} pixels (height x width){}, but {} has {}x{}; --size H W resizes all to "
                "one size".format(
                    printable(video.path), *shape, place, printable(self._first_path), *expected
                )
            )

    def _index(self, files: list[Path]) -> list[VideoIndex]:
        """Lists the frames of all files."""
        found, unusable = [], []
        for video in map_in_threads(self._index_one, files, printable, timeout=FILE_TIMEOUT):
            if isinstance(video, DataError):
                unusable.append(video)
            else:
                found.append(video)
        if unusable and not found:
            raise unusable[0]
        if unusable:
            self.notes.append(f"videos left out: {len(unusable)}, e.g. {unusable[0]}")
        return found

    def _index_one(self, path: Path) -> VideoIndex | DataError:
        try:
            video = index_video(path)
        except DataError as error:
            if self._skips:
                return error
            raise
        if not self._skips and (video.lost or video.damage):
            reason = ends_early(video) if video.lost else video.damage
            raise DataError(f"{printable(path)}: cut off or damaged: {reason}")
        return video

    def _check(self, videos: list[VideoIndex], everything: bool) -> list[VideoIndex]:
        """Decodes files once, so that bad frames are met before training and not in it."""

        def check(number: int) -> tuple[VideoIndex, dict[int, str]]:
            video = videos[number]
            # Where packets do not tell which frames there are, decoding has to.
            return (
                self._check_one(number, video) if everything or not video.certain else (video, {})
            )

        most = max(len(video.times) for video in videos)
        checked = list(
            map_in_threads(
                check,
                range(len(videos)),
                lambda number: printable(videos[number].path),
                timeout=FILE_TIMEOUT + most,
            )
        )
        self.bad = {number: bad for number, (_, bad) in enumerate(checked) if bad}
        if self.bad:
            number, bad = next(iter(self.bad.items()))
            video, frame = checked[number][0], min(bad)
            example = f"{printable(video.path)}: {video.frame_name(frame)}: {bad[frame]}"
            count = sum(map(len, self.bad.values()))
            if count == sum(len(video.times) for video, _ in checked):
                raise DataError(f"none of the {count} frames can be used, e.g. {example}")
            self.notes.append(f"frames that cannot be used: {count}, e.g. {example}")
        return [video for video, _ in checked]

    def _check_one(self, number: int, video: VideoIndex) -> tuple[VideoIndex, dict[int, str]]:
        decoded_frames: dict[int, np.ndarray] = {}

        def use(decoded: Decoded) -> None:
            if self._cache.keeps:
                decoded_frames[decoded.position] = self._pixels(video, decoded)
            else:
                self._compare(video, upright_shape(decoded.frame), decoded.position)

        checked, bad = check_video(video, use)
        if bad and not self._skips:
            frame = min(bad)
            raise DataError(f"{printable(video.path)}: {checked.frame_name(frame)}: {bad[frame]}")
        # Positions have moved if packets turned out to hold no frame.
        if np.array_equal(checked.times[: len(video.times)], video.times):
            for position, pixels in decoded_frames.items():
                self._cache.put(number, position, pixels)
        return checked, bad

    def _note_remarks(self) -> None:
        """One note for each assumption, with a count."""
        remarks = Counter(remark for video in self._videos for remark in video.remarks)
        for remark, count in remarks.items():
            example = next(video for video in self._videos if remark in video.remarks)
            self.notes.append(f"videos {remark}: {count}, e.g. {printable(example.path)}")

    def _find_gaps(self) -> None:
        gaps: dict[int, list[int]] = {}
        for number, video in enumerate(self._videos):
            steps = np.diff(video.times)
            # Frames are missing where one is shown for longer than usual.
            jumps = np.flatnonzero(steps > GAP * video.step) + 1
            if len(jumps):
                gaps[number] = jumps.tolist()
        self.gaps = gaps
        if gaps:
            number, first = next((number, jumps[0]) for number, jumps in gaps.items())
            count = sum(map(len, gaps.values()))
            example = f"{self.names[number]} before {self.frame_name(number, first)}"
            self.notes.append(f"gaps in the times of frames: {count}, e.g. {example}")

    def _description(self) -> str:
        """E.g. "bikes.mp4 h264 640x272, 250 frames, 25 fps"."""
        kinds = Counter(
            "{} {}x{}".format(video.codec, *video.shape[::-1]) for video in self._videos
        )
        rates = Counter(f"{float(video.rate or 0):.4g} fps" for video in self._videos)
        count = len(self._videos)
        which = self.names[0] if count == 1 else f"{count} files:"
        return f"{which} {', '.join(kinds)}, {sum(self.lengths)} frames, {', '.join(rates)}"


def _is_video(entry: os.DirEntry[str]) -> bool:
    return Path(entry.name).suffix[1:].lower() in EXTENSIONS and not is_folder(entry)
