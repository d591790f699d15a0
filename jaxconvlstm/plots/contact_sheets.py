"""Pictures of data as they are: a contact sheet of many clips, and an animation of one."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxconvlstm.plots.animations import save_clip
from jaxconvlstm.plots.drawing import (
    USUAL_CELL,
    USUAL_PANEL,
    has_missing,
    save_png,
    shortened,
    shown_size,
    text_font,
    to_rgb,
)
from jaxconvlstm.plots.panels import Panels
from jaxconvlstm.plots.sheets import Block, Row, cell_size, draw_sheet

# In pixels.
_MOST_CELL = 240
_LABEL_SIZE = 13  # Smaller than other text: file names are long.
_TITLE = 640  # About two lines of the narrowest sheet.


class LabelledClip(NamedTuple):
    """Frames of one sequence, in order, with a name for each.

    Attributes:
      title: the sequence and the frames in it.
      labels: a short name of each frame.
      frames: `[time, height, width, channels]`, float, fractions of the value range, NaN where
        missing; three channels are colours, of any other number the first is drawn in grey.
    """

    title: str
    labels: Sequence[str]
    frames: np.ndarray


def contact_sheet(
    clips: Sequence[LabelledClip], path: str | Path, legend: Sequence[str] = ()
) -> None:
    """Write a PNG with one row of frames for each clip, its title above.

    Args:
      clips: at least one; frames of any size, the same in all.
      path: the file; its folder is made.
      legend: lines below, before the key to missing pixels.
    """
    columns = max(len(clip.frames) for clip in clips)
    shape = clips[0].frames.shape[1:3]
    size = cell_size(shape, columns, USUAL_CELL, most=_MOST_CELL, label_width=0)
    blocks = [
        Block(_title(clip), clip.labels, [Row("", [*to_rgb(clip.frames)], size)]) for clip in clips
    ]
    missing = has_missing(*(clip.frames for clip in clips))
    sheet = draw_sheet(blocks, foot=legend, missing=missing, label_width=0, label_size=_LABEL_SIZE)
    save_png(sheet, path)


def labelled_animation(clip: LabelledClip, path: str | Path, legend: Sequence[str] = ()) -> None:
    """Write a GIF that plays a clip, at most 320 pixels wide and high, with its labels.

    Args:
      clip: all its frames are played.
      path, legend: see `contact_sheet`.
    """
    size = shown_size(clip.frames.shape[1:3], USUAL_PANEL, USUAL_PANEL, USUAL_PANEL)
    panels = Panels(
        [size],
        [clip.labels],
        title=_title(clip),
        foot=legend,
        missing=has_missing(clip.frames),
    )
    pages = (panels.page([content]) for content in zip(clip.labels, to_rgb(clip.frames)))
    save_clip(pages, path, frames_per_second=8, in_colour=clip.frames.shape[-1] == 3)


def _title(clip: LabelledClip) -> str:
    """A title that cannot fill the page; its end tells which frames they are."""
    return shortened(clip.title, text_font(), _TITLE, keep_end=True)
