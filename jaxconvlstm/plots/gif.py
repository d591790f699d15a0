"""GIF files of pages, and the palettes that they hold pages in."""

from collections.abc import Iterable
from typing import IO

import numpy as np
from PIL import Image

from jaxconvlstm.plots.drawing import DIFFERENCE_STEPS, MISSING, WHITE, difference_to_rgb

_GREYS = 256 - DIFFERENCE_STEPS - 1  # One colour is that of missing pixels.


def write_gif(
    pages: Iterable[Image.Image], file: IO[bytes], frames_per_second: float, in_colour: bool
) -> None:
    """Write pages as a GIF that starts again when it is over; see `animations.save_clip`."""
    first, *others = map(_adaptive_palette if in_colour else _grey_palette, pages)
    first.save(
        file,
        format="GIF",
        save_all=True,
        append_images=others,
        duration=10 * page_hundredths(frames_per_second),
        loop=0,
        # Pillow's optimisation drops unused colours, so that the palettes of pages would differ.
        optimize=False,
    )


def page_hundredths(frames_per_second: float) -> int:
    """Duration of a page in hundredths of a second, as GIF counts.

    GIF holds a page for some minutes at most, and viewers play at most 50 pages a second.
    """
    return max(2, round(min(100 / frames_per_second, 60_000)))


def _grey_palette(page: Image.Image) -> Image.Image:
    """Replace each colour by the nearest of greys 1.5 of 255 apart and the difference's colours.

    Nothing is dithered: flat areas stay flat, and the colours of the difference and of missing
    pixels are exact.
    """
    difference = difference_to_rgb(np.linspace(-1, 1, DIFFERENCE_STEPS), 1.0)
    greys = np.rint(np.linspace(0, 255, _GREYS)).astype(np.uint8)[:, None].repeat(3, axis=1)
    palette = np.concatenate([greys, difference, np.array([MISSING], np.uint8)])
    pixels = np.asarray(page).astype(np.int32)
    # A page has few colours and many pixels, so distances are taken once for each colour.
    codes, inverse = np.unique(pixels @ np.array([1 << 16, 1 << 8, 1]), return_inverse=True)
    colours = np.stack([codes >> 16, codes >> 8 & 255, codes & 255], axis=-1)
    # [colours, 1, rgb] - [1, palette, rgb] -> [colours, palette]
    distance = ((colours[:, None] - palette[None].astype(np.int32)) ** 2).sum(axis=-1)
    nearest = distance.argmin(axis=1).astype(np.uint8)
    indexed = Image.fromarray(nearest[inverse].reshape(pixels.shape[:2]))
    indexed.putpalette(palette.tobytes())
    return indexed


def _adaptive_palette(page: Image.Image) -> Image.Image:
    """Dither a page in its own 254 best colours; paper and missing pixels stay exact."""
    fixed = (WHITE, MISSING)
    best = page.quantize(256 - len(fixed), Image.Quantize.MAXCOVERAGE)
    palette = (best.getpalette() or [])[: 3 * (256 - len(fixed))]
    dithered = np.array(page.quantize(palette=best, dither=Image.Dither.FLOYDSTEINBERG))
    first = len(palette) // 3
    for number, colour in enumerate(fixed):
        dithered[(np.asarray(page) == colour).all(axis=-1)] = first + number
    indexed = Image.fromarray(dithered)
    indexed.putpalette([*palette, *WHITE, *MISSING])
    return indexed
