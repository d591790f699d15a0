"""What `inspect` draws of data: rows of frames from all over them, and where most happens."""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from jaxconvlstm.config.data import DataConfig
from jaxconvlstm.data.frames_dataset import FramesDataset
from jaxconvlstm.data.sources.base import Frames, Segment
from jaxconvlstm.plots.overview import Scene, clip, contact_sheet
from jaxconvlstm.scale import Values
from jaxconvlstm.spread import spread
from jaxconvlstm.tools.inspect.survey import Survey

COLUMNS = 8
CLIP_FRAMES = 40
MOST_PIXELS = 960
"""Every so many-th pixel of larger frames is drawn, so that the longer side has at most as many."""


def draw(
    dataset: FramesDataset, survey: Survey, config: DataConfig, rows: int, out: Path
) -> list[Path]:
    """Writes `contact-sheet.png` and, if a sequence has two frames, `animation.gif`.

    Args:
      dataset: the data.
      survey: says where most happens.
      config: says how many frames windows have, and how far apart.
      rows: at most so many rows.
      out: the folder, which is made.

    Returns:
      What was written.
    """
    frames, values, step = dataset.frames, dataset.values, config.frame_step
    legend = legend_of(frames, values)
    columns = min(COLUMNS, config.input_frames + config.target_frames)
    places = places_of(frames.segments(), rows, columns, step)
    if not places:
        return []
    sheet = [scene(frames, values, sequence, numbers) for sequence, numbers in places]
    written = [out / "contact-sheet.png"]
    contact_sheet(sheet, written[0], legend)
    if survey.liveliest is not None:
        sequence, middle = survey.liveliest
        (around,) = [
            s for s in frames.segments() if s.sequence == sequence and s.start <= middle < s.stop
        ]
        count = min(CLIP_FRAMES, -(-(around.stop - around.start) // step))
        last_start = around.stop - 1 - (count - 1) * step
        start = max(around.start, min(middle - count * step // 2, last_start))
        numbers = range(start, start + count * step, step)
        written.append(out / "animation.gif")
        clip(scene(frames, values, sequence, numbers), written[1], legend)
    return written


def places_of(
    segments: Sequence[Segment], rows: int, columns: int, step: int
) -> list[tuple[int, range]]:
    """Sequences and frames of each row: of different sequences, or places along a few long ones."""
    # Short segments are shown only where there is nothing else.
    span = (columns - 1) * step + 1
    segments = [s for s in segments if s.stop - s.start >= span] or list(segments)
    segments = [segments[index] for index in spread(len(segments), rows)] if segments else []
    places = []
    for number, (sequence, start, stop) in enumerate(segments):
        own = rows // len(segments) + (number < rows % len(segments))
        room = stop - start
        for first in spread(max(1, room - span + 1), max(1, min(own, room // span))):
            numbers = range(start + int(first), min(start + int(first) + span, stop), step)
            places.append((sequence, numbers))
    return places


def scene(frames: Frames, values: Values, sequence: int, numbers: range) -> Scene:
    """Reads frames to be drawn, reduced if they are large."""
    height, width, channels = frames.frame_shape
    every = -(-max(height, width) // MOST_PIXELS)
    shown = channels if channels == 3 else 1
    pictures, missing = [], []
    for number in numbers:
        pixels = frames.read(sequence, [number])[0][::every, ::every]
        there = values.valid(pixels)[..., :shown] > 0
        pictures.append(values.to_unit(values.scale(pixels))[..., :shown])
        missing.append(~there.all(axis=-1))
    name, first, last = frames.names[sequence], numbers[0], numbers[-1]
    title = f"{name}, frame {first}" if first == last else f"{name}, frames {first} to {last}"
    labels = [_label(frames.frame_name(sequence, number), number) for number in numbers]
    return Scene(title, labels, np.stack(pictures), np.stack(missing))


def _label(name: str, number: int) -> str:
    """The frame's name, with its number where the name does not tell it."""
    if name == str(number):
        return f"frame {number}"
    return name if str(number) in re.findall(r"[0-9]+", name) else f"{number}: {name}"


def legend_of(frames: Frames, values: Values) -> list[str]:
    """What the greys or colours mean."""
    unit = f" {values.unit}" if values.unit else ""
    scale = ", logarithmic" if values.log else ""
    channels = frames.frame_shape[-1]
    if channels == 3:
        return [f"colours from {values.describe()}{scale}"]
    lines = [f"black is {values.low:g}, white is {values.high:g}{unit}{scale}"]
    if channels != 1:
        lines.append(f"the first of {channels} channels is shown")
    return lines
