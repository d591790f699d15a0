"""TensorBoard event files, written at once and in this thread."""

import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from jaxconvlstm.atomic import naming


class Events:
    """An event file in `folder`.

    tensorboardX's own `SummaryWriter` hands events to a thread, pickled; what it has not written
    yet is lost with the process.
    """

    def __init__(self, folder: Path, step: int):
        """Opens a new file, which hides events past `step` that an earlier process wrote.

        Args:
          folder: where event files lie; it is made if need be.
          step: step that the run goes on from.
        """
        # Imported late, so that evaluation starts sooner.
        from tensorboardX import event_file_writer

        self._folder = folder
        with naming(folder):
            folder.mkdir(parents=True, exist_ok=True)
            others = any(folder.iterdir())
            self._writer = event_file_writer.EventsWriter(str(folder / "events"))
        if others:
            # TensorBoard takes this event for a restart, and drops what came before from there on.
            from tensorboardX.proto import event_pb2

            start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
            self._write(step + 1, session_log=start)

    def add_scalars(self, step: int, values: dict[str, float]) -> None:
        """Adds a point to the curve of each name."""
        from tensorboardX import summary

        for name, value in values.items():
            self._write(step, summary=summary.scalar(name, value))
        with naming(self._folder):
            self._writer.flush()

    def add_picture(self, step: int, name: str, path: Path) -> None:
        """Adds a picture from its file."""
        from tensorboardX import summary

        with Image.open(path) as picture:
            pixels = np.asarray(picture.convert("RGB"))
        self._write(step, summary=summary.image(name, pixels, dataformats="HWC"))
        with naming(self._folder):
            self._writer.flush()

    def close(self) -> None:
        """Closes the file."""
        with naming(self._folder):
            self._writer.close()

    def _write(self, step: int, **content: Any) -> None:
        from tensorboardX.proto import event_pb2

        with naming(self._folder):
            self._writer.write_event(event_pb2.Event(wall_time=time.time(), step=step, **content))
