"""Pictures that `inspect` draws: frames from all over the data, and where most changes."""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from jaxconvlstm import plots
from jaxconvlstm.config.data import DataConfig
from jaxconvlstm.data.frames_dataset import FramesDataset
from jaxconvlstm.data.sources.base import Frames, Segment
from jaxconvlstm.scale import Values
from jaxconvlstm.spread import spread
from jaxconvlstm.tools.inspect.survey import Survey

COLUMNS = 8
ANIMATION_FRAMES = 40
MOST_PIXELS = 960
"""The longer side of a frame as it is drawn; of larger frames every n-th pixel is taken."""


def draw_pictures(
    dataset: FramesDataset, survey: Survey, config: DataConfig, rows: int, out: Path
) -> list[Path]:
    """Write `contact-sheet.png` and, if a sequence has two frames, `animation.gif`.

    Args:
      dataset: the data.
      survey: tells between which frames most changes.
      config: tells how many frames windows have, and how far apart.
      rows: most rows of the contact sheet.
      out: the folder, which is made.

    Returns:
      The files.
    """
    frames, values, step = dataset.frames, dataset.values, config.frame_step
    legend = legend_of(frames, values)
    columns = min(COLUMNS, config.input_frames + config.target_frames)
    places = places_of(frames.segments(), rows, columns, step)
    if not places:
        return []
    written = [out / "contact-sheet.png"]
    clips = [read_clip(frames, values, sequence, numbers) for sequence, numbers in places]
    plots.contact_sheet(clips, written[0], legend)
    if survey.liveliest is not None:
        sequence, middle = survey.liveliest
        numbers = _around(frames.segments(), sequence, middle, step)
        written.append(out / "animation.gif")
        plots.labelled_animation(read_clip(frames, values, sequence, numbers), written[1], legend)
    return written


def _around(segments: Sequence[Segment], sequence: int, middle: int, step: int) -> range:
    """Frames around one of a sequence, without a gap between them."""
    (segment,) = [s for s in segments if s.sequence == sequence and s.start <= middle < s.stop]
    count = min(ANIMATION_FRAMES, -(-(segment.stop - segment.start) // step))
    # Near an end of the segment, the frames are not centred but as many as elsewhere.
    last_start = segment.stop - 1 - (count - 1) * step
    start = max(segment.start, min(middle - count * step // 2, last_start))
    return range(start, start + count * step, step)


def places_of(
    segments: Sequence[Segment], rows: int, columns: int, step: int
) -> list[tuple[int, range]]:
    """Choose sequence and frames of each row: different sequences, or places along a few long ones.

    Args:
      segments: runs of frames without a gap.
      rows, columns: most rows, and frames in each.
      step: frames from one column to the next.
    """
    # Short segments are shown only where there is nothing else.
    span = (columns - 1) * step + 1
    segments = [s for s in segments if s.stop - s.start >= span] or list(segments)
    segments = [segments[index] for index in spread(len(segments), rows)] if segments else []
    places = []
    for number, (sequence, start, stop) in enumerate(segments):
        # The rows are divided evenly; the first segments get what is left over.
        own = rows // len(segments) + (number < rows % len(segments))
        room = stop - start
        for first in spread(max(1, room - span + 1), max(1, min(own, room // span))):
            numbers = range(start + int(first), min(start + int(first) + span, stop), step)
            places.append((sequence, numbers))
    return places


def read_clip(frames: Frames, values: Values, sequence: int, numbers: range) -> plots.LabelledClip:
    """Read frames to be drawn, with every n-th pixel if they are large."""
    height, width, channels = frames.frame_shape
    every = -(-max(height, width) // MOST_PIXELS)
    shown = channels if channels == 3 else 1
    # Frame by frame: all of them at full size may be too much for the memory.
    pixels = [
        # [1, H, W, C] -> [H / every, W / every, 1 or 3]
        values.raw_to_unit(frames.read(sequence, [number])[0, ::every, ::every])[..., :shown]
        for number in numbers
    ]
    name, first, last = frames.names[sequence], numbers[0], numbers[-1]
    title = f"{name}, frame {first}" if first == last else f"{name}, frames {first} to {last}"
    labels = [_label(frames.frame_name(sequence, number), number) for number in numbers]
    return plots.LabelledClip(title, labels, np.stack(pixels))


def _label(name: str, number: int) -> str:
    """The frame's name, with its number where the name does not hold it."""
    if name == str(number):
        return f"frame {number}"
    return name if str(number) in re.findall(r"[0-9]+", name) else f"{number}: {name}"


def legend_of(frames: Frames, values: Values) -> list[str]:
    """Lines that tell the values of black and white, or of colours."""
    unit = f" {values.unit}" if values.unit else ""
    scale = ", logarithmic" if values.log else ""
    channels = frames.frame_shape[-1]
    if channels == 3:
        return [f"colours from {values.describe()}{scale}"]
    lines = [f"black is {values.low:g}, white is {values.high:g}{unit}{scale}"]
    if channels != 1:
        lines.append(f"the first of {channels} channels is shown")
    return lines
