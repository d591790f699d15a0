"""The last frames of every sequence, from which a forecast of the unknown starts."""

import dataclasses
from collections.abc import Iterator

import numpy as np

from jaxconvlstm.config.data import DataConfig
from jaxconvlstm.data.dataset import REAL, check_applies, open_frames
from jaxconvlstm.data.windows import window_span
from jaxconvlstm.errors import ConfigError, DataError


class LastFrames:
    """The last frames of every sequence.

    Iterating reads them: `(name, frames [count, height, width, channels])` of each sequence that
    ends with them without a gap.

    Attributes:
      dtype, frame_shape: of the frames; `(height, width, channels)`.
      notes: one line each, among them how many sequences do not.
    """

    def __init__(self, config: DataConfig, count: int):
        """Opens the data.

        Args:
          config: names the data, and how they are read; `limit` is the most sequences.
          count: number of frames, `config.frame_step` apart.

        Raises:
          ConfigError: a setting that this kind of data cannot follow.
          DataError: no sequence is long enough, or a frame cannot be read.
        """
        check_applies(config)
        if config.dataset not in REAL:
            raise ConfigError(
                f"--dataset {config.dataset}: generated clips have no last frames to forecast "
                "from; --data names data that have"
            )
        # Only what is used gets decoded, unless asked otherwise.
        check = config.check_files or "none"
        self._frames = frames = open_frames(dataclasses.replace(config, check_files=check))
        self._step = config.frame_step
        self._span = window_span(count, 0, self._step)
        self.dtype, self.frame_shape = frames.dtype, frames.frame_shape
        # A sequence whose last frame is bad has no frames that the next one would follow.
        ends = [s for s in frames.segments() if s.stop == frames.lengths[s.sequence]]
        found = [s for s in ends if s.stop - s.start >= self._span]
        if not found:
            longest = max((s.stop - s.start for s in ends), default=0)
            raise DataError(
                f"{config.data}: the longest sequence ends with {longest} frames in a row; a "
                f"forecast from {count} input frames needs {self._span}"
            )
        self.notes = list(frames.notes)
        if short := len(frames.lengths) - len(found):
            self.notes.append(
                f"sequences left out, without {self._span} frames in a row at their end: {short}"
            )
        self._ends = found[: config.limit]

    def __len__(self) -> int:
        return len(self._ends)

    def __iter__(self) -> Iterator[tuple[str, np.ndarray]]:
        for sequence, _, stop in self._ends:
            numbers = range(stop - self._span, stop, self._step)
            yield self._frames.names[sequence], self._frames.read(sequence, numbers)
