"""Frames as pictures: the only writer of images.

Frames are `[time, height, width, channels]` floats, shares of the value range. They are clipped to
[0, 1] for showing; three channels are colours, of any other number the first is shown as grey. A
value that is not a number is missing: its pixel gets a colour of its own, which a line explains.

Every picture is written under a temporary name and renamed when it is whole.
"""

from jaxconvlstm.plots.animations import animation, step_pictures
from jaxconvlstm.plots.class_pictures import classified
from jaxconvlstm.plots.confusion_matrix import confusion
from jaxconvlstm.plots.drawing import MissingLibraryError
from jaxconvlstm.plots.notebook import show
from jaxconvlstm.plots.score_curves import CURVE_TITLES, curves, history
from jaxconvlstm.plots.strips import decoded_and_raw, grid, save_frame, strip

__all__ = [
    "CURVE_TITLES",
    "MissingLibraryError",
    "animation",
    "classified",
    "confusion",
    "curves",
    "decoded_and_raw",
    "grid",
    "history",
    "save_frame",
    "show",
    "step_pictures",
    "strip",
]
