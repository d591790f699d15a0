"""MP4 files of pages, written with PyAV."""

from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from typing import IO, Any

from PIL import Image, ImageOps

from jaxconvlstm.errors import JaxConvLSTMError
from jaxconvlstm.plots.drawing import WHITE, new_file
from jaxconvlstm.plots.gif import page_hundredths

# By preference; PyAV's wheels differ in what they can write. The quality is high, as flat areas at
# a few pages a second take little room at any quality.
_ENCODERS: dict[str, dict[str, str]] = {
    "libx264": {"crf": "16", "tune": "animation"},
    "libopenh264": {"b": "4M"},
    "mpeg4": {"b": "8M"},
}
_REC_601 = 6  # AVCOL_SPC_SMPTE170M, which FFmpeg converts with unless told otherwise.
_LIMITED_RANGE = 1  # AVCOL_RANGE_MPEG


class MissingLibraryError(JaxConvLSTMError, ImportError):
    """PyAV, which MP4 files need, is not installed (exit code 2)."""

    exit_code = 2


def save_mp4(pages: Iterable[Image.Image], path: str | Path, frames_per_second: float) -> None:
    """Write pages as a video that any player and browser shows.

    It is H.264 where PyAV has an encoder for it, else MPEG-4 Part 2, in 4:2:0. A page of odd width
    or height gets a white line more.

    Args:
      pages: RGB, all of one size; at least one.
      path: the file; its folder is made.
      frames_per_second: above 0. Every page is held as long as in a GIF.

    Raises:
      MissingLibraryError: PyAV is not installed.
    """
    try:
        import av
    except ImportError:
        raise MissingLibraryError(
            "MP4 needs PyAV, which is not installed: pip install 'jaxconvlstm[video]'"
        ) from None
    with new_file(path) as file:
        _encode(av, pages, file, page_hundredths(frames_per_second))


def _encode(av: Any, pages: Iterable[Image.Image], file: IO[bytes], hundredths: int) -> None:
    codec = next(name for name in _ENCODERS if _can_write(av, name))
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream(
            codec, rate=Fraction(100, hundredths), options=_ENCODERS[codec]
        )
        stream.pix_fmt = "yuv420p"
        context = stream.codec_context
        context.colorspace, context.color_range = _REC_601, _LIMITED_RANGE
        for number, page in enumerate(pages):
            # In 4:2:0 a colour belongs to two by two pixels.
            evened = ImageOps.expand(page, (0, 0, page.width % 2, page.height % 2), WHITE)
            frame = av.VideoFrame.from_image(evened)
            # `pages` may be a generator: the size is known only from its first page.
            if number == 0:
                stream.width, stream.height = frame.width, frame.height
            frame.pts, frame.time_base = number, Fraction(hundredths, 100)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())  # Flush the encoder.


def _can_write(av: Any, codec: str) -> bool:
    try:
        av.codec.Codec(codec, "w")
    except ValueError:
        return False
    return True
