"""Pictures of frames and scores: the only writer of image files.

Frames are `[time, height, width, channels]` floats, fractions of the value range. They are clipped
to [0, 1] to be drawn; three channels are colours, of any other number the first is drawn in grey. A
pixel with a NaN is missing: it gets a colour of its own, which a key explains.

Every file is written under a temporary name and renamed when it is whole.
"""

from jaxconvlstm.plots.animations import animation, step_pictures
from jaxconvlstm.plots.class_strips import classified
from jaxconvlstm.plots.confusion_matrix import confusion
from jaxconvlstm.plots.contact_sheets import LabelledClip, contact_sheet, labelled_animation
from jaxconvlstm.plots.drawing import decoded_and_raw, save_frame
from jaxconvlstm.plots.mp4 import MissingLibraryError
from jaxconvlstm.plots.notebook import show
from jaxconvlstm.plots.score_curves import CURVE_TITLES, curves, history
from jaxconvlstm.plots.strips import Clip, grid, strip
