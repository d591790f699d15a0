"""Frames as pictures: PNG strips, GIF animations, single frames, and curves of scores.

Frames are `[time, height, width, channels]` floats on the network's scale. They are clipped to
[0, 1] for showing; three channels are colours, of any other number the first is shown as grey. A
value that is not a number is shown as 0.

Every picture is written under a temporary name and renamed when it is whole.
"""

import os
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from jaxconvlstm.checks import check_positive, check_rank, check_same_shape
from jaxconvlstm.errors import ConfigError, JaxConvLSTMError

LAYOUT = "time, height, width, channels"

# All in pixels. A cell is what one frame is drawn in.
MOST_WIDTH = 2000
LEAST_CELL = 64
USUAL_CELL = 160
USUAL_PANEL = 320
MOST_CELL = 480
GAP = 6
MARGIN = 12
TEXT_SIZE = 16
LINE = 22

WHITE = (255, 255, 255)
INK = (30, 30, 30)
OUTLINE = (170, 170, 170)
EMPTY = (235, 235, 235)

# Red-blue of ColorBrewer, darkened at the ends: the prediction is too low, right, too high.
DIFFERENCE_COLOURS = np.array(
    [(5, 48, 97), (67, 147, 195), (247, 247, 247), (214, 96, 77), (103, 0, 31)], np.float64
)
DIFFERENCE_SCALES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)

CURVE_TITLES = {
    "mse": "MSE (lower is better)",
    "mae": "MAE (lower is better)",
    "psnr": "PSNR in dB (higher is better)",
    "ssim": "SSIM (higher is better)",
}


class MissingLibraryError(JaxConvLSTMError, ImportError):
    """A library that this picture needs is not installed (exit code 2)."""

    exit_code = 2


def strip(
    inputs: Any, predictions: Any, targets: Any | None, path: str | Path, *, title: str = ""
) -> None:
    """Writes a PNG that shows a prediction at a glance, one row each for input, prediction, truth
    and difference, with time running to the right.

    Small frames are enlarged by a whole factor, large ones reduced, so that the picture is at most
    2000 pixels wide. Of many inputs the last few are shown; of very many predictions some, evenly
    spread. The difference is prediction minus truth, averaged over the channels: blue is too low,
    red too high, on the scale that its label tells.

    Args:
      inputs: `[T, height, width, channels]`, float, [0, 1].
      predictions: `[K, height, width, channels]`, likewise.
      targets: as predictions, or None: without ground truth there are two rows only.
      path: the file; its folder is made.
      title: a line above.

    Raises:
      ConfigError: a shape or dtype that is not of this kind.
    """
    inputs, predictions, targets = _check_film(inputs, predictions, targets)
    font = _font()
    label_width = int(font.getlength("blue too low")) + 2 * GAP
    most = (MOST_WIDTH - 2 * MARGIN - label_width) // (LEAST_CELL + GAP)
    leads = _spread(len(predictions), most)
    given = np.arange(len(inputs))[-min(most, max(len(leads), 6)) :]
    columns = max(len(leads), len(given))
    room = (MOST_WIDTH - 2 * MARGIN - label_width) // columns - GAP
    size = _shown_size(predictions.shape[1:3], min(room, MOST_CELL), USUAL_CELL)

    predicted = [("prediction", _colours(predictions[leads]))]
    if targets is not None:
        difference = _difference(predictions, targets)
        scale = _difference_scale(difference)
        label = f"difference\nblue too low\nred too high\nscale ±{scale:g}"
        predicted.append(("truth", _colours(targets[leads])))
        predicted.append((label, _difference_colours(difference[leads], scale)))
    blocks = [
        (_input_labels(len(inputs), given), [("input", _colours(inputs[given]))]),
        ([f"+{lead + 1}" for lead in leads], predicted),
    ]

    cell_width = max(size[1], LEAST_CELL)
    left = MARGIN + label_width
    width = left + columns * (cell_width + GAP) - GAP + MARGIN
    title_lines = _wrap(title, font, width - 2 * MARGIN)
    heights = [
        max(size[0], LINE * (label.count("\n") + 1)) for _, rows in blocks for label, _ in rows
    ]
    height = 2 * MARGIN + LINE * len(title_lines) + sum(heights) + GAP * len(heights)
    height += (LINE + GAP) * len(blocks)
    canvas = Image.new("RGB", (width, height), WHITE)
    draw = ImageDraw.Draw(canvas)
    top = MARGIN
    for line in title_lines:
        draw.text((MARGIN, top), line, INK, font)
        top += LINE
    for labels, rows in blocks:
        centre = left + cell_width // 2
        for column, label in enumerate(labels):
            place = (centre + column * (cell_width + GAP), top + LINE)
            draw.text(place, label, INK, font, anchor="md")
        top += LINE + 2
        for label, frames in rows:
            row_height = heights.pop(0)
            for number, line in enumerate(label.split("\n")):
                draw.text((MARGIN, top + LINE * number), line, INK, font)
            for column, frame in enumerate(frames):
                x = left + column * (cell_width + GAP) + (cell_width - size[1]) // 2
                _paste(canvas, draw, frame, (x, top), size)
            top += row_height + GAP
        top += GAP - 2
    with _replacing(path) as file:
        canvas.save(file, format="PNG")


def animation(
    inputs: Any,
    predictions: Any,
    targets: Any | None,
    path: str | Path,
    *,
    frames_per_second: float = 5,
) -> None:
    """Writes a GIF that plays the input and then the prediction, beside truth and difference.

    Every frame is labelled, "input t-3" or "prediction +2"; while the input plays, it is shown in
    the place of the truth too. The film starts again when it is over.

    Args:
      inputs, predictions, targets: see `strip`; all frames are shown.
      path: the file; its folder is made.
      frames_per_second: above 0; GIF counts in hundredths of a second, and 50 is the most that
        viewers play.

    Raises:
      ConfigError: a shape or dtype that is not of this kind.
    """
    check_positive("frames_per_second", frames_per_second)
    inputs, predictions, targets = _check_film(inputs, predictions, targets)
    colour = 3 in (inputs.shape[-1], predictions.shape[-1])
    scale, panels = 1.0, 1
    differences = np.zeros(len(predictions))
    if targets is not None:
        difference = _difference(predictions, targets)
        scale, panels = _difference_scale(difference), 3
        differences = _difference_colours(difference, scale)
        truth = _colours(targets)
    size = _shown_size(predictions.shape[1:3], MOST_CELL, USUAL_PANEL)
    font = _font()
    explanation = f"difference ±{scale:g}"
    labels_width = int(max(map(font.getlength, (explanation, "prediction +999")))) + GAP
    cell_width = max(size[1], labels_width)
    width = 2 * MARGIN + panels * (cell_width + 2 * GAP) - 2 * GAP
    legend = _wrap("difference: blue is too low, red too high", font, width - 2 * MARGIN)
    legend = legend if targets is not None else []
    height = 2 * MARGIN + LINE + GAP + size[0] + (GAP if legend else 0) + LINE * len(legend)

    def page(contents: Sequence[tuple[str, np.ndarray | None]]) -> Image.Image:
        canvas = Image.new("RGB", (width, height), WHITE)
        draw = ImageDraw.Draw(canvas)
        for number, (label, frame) in enumerate(contents):
            x = MARGIN + number * (cell_width + 2 * GAP)
            place = (x + (cell_width - size[1]) // 2, MARGIN + LINE + GAP)
            draw.text((x + cell_width // 2, MARGIN + LINE), label, INK, font, anchor="md")
            _paste(canvas, draw, frame, place, size)
        for number, line in enumerate(legend):
            draw.text((MARGIN, MARGIN + LINE + size[0] + 2 * GAP + LINE * number), line, INK, font)
        return canvas

    pages = []
    labels = _input_labels(len(inputs), np.arange(len(inputs)))
    for label, frame in zip(labels, _colours(inputs)):
        contents = [(f"input {label}", frame), (f"input {label}", frame), (explanation, None)]
        pages.append(page(contents[:panels]))
    for lead, frame in enumerate(_colours(predictions)):
        contents = [(f"prediction +{lead + 1}", frame)]
        if targets is not None:
            contents += [(f"truth +{lead + 1}", truth[lead]), (explanation, differences[lead])]
        pages.append(page(contents))

    pages = [_adaptive_palette(each) if colour else _grey_palette(each) for each in pages]
    hundredths = max(2, round(100 / frames_per_second))
    with _replacing(path) as file:
        pages[0].save(
            file,
            format="GIF",
            save_all=True,
            append_images=pages[1:],
            duration=10 * hundredths,
            loop=0,
            optimize=False,
        )


def curves(per_lead: Mapping[str, Mapping[str, Sequence[float]]], path: str | Path) -> None:
    """Writes a PNG with one panel for each score over lead time.

    Args:
      per_lead: `{"model": {key: [K floats]}, "persistence": {...}}`; a NaN leaves a gap.
      path: the file; its folder is made.

    Raises:
      MissingLibraryError: Matplotlib is not installed.
      ConfigError: there is no score to draw.
    """
    try:
        from matplotlib.figure import Figure
        from matplotlib.ticker import MaxNLocator
    except ImportError:
        raise MissingLibraryError(
            "curves need Matplotlib, which is not installed: pip install matplotlib"
        ) from None

    keys = list(dict.fromkeys(key for scores in per_lead.values() for key in scores))
    if not keys:
        raise ConfigError("per_lead: expected at least one score, got none")
    columns = min(2, len(keys))
    rows = -(-len(keys) // columns)
    figure = Figure(figsize=(5 * columns, 3.2 * rows + 0.5), dpi=100, layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    looks: dict[str, dict[str, Any]] = {
        "model": {"color": "tab:blue", "marker": "o", "zorder": 3},
        "persistence": {"color": "0.45", "marker": "s", "linestyle": "--"},
    }
    for key, panel in zip(keys, panels):
        for name, scores in per_lead.items():
            leads = range(1, len(scores.get(key, ())) + 1)
            look = looks.get(name, {"marker": "^"})
            panel.plot(leads, scores.get(key, ()), markersize=4, label=name, **look)
        panel.set_title(CURVE_TITLES.get(key, key))
        panel.set_xlabel("lead time in frames")
        panel.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        panel.margins(x=0.05, y=0.1)
        panel.grid(alpha=0.3)
    for panel in panels[len(keys) :]:
        panel.set_axis_off()
    lines, names = panels[0].get_legend_handles_labels()
    figure.legend(lines, names, loc="outside upper center", ncols=len(names), frameon=False)
    with _replacing(path) as file:
        figure.savefig(file, format="png")


def save_frame(frame: np.ndarray, path: str | Path) -> None:
    """Writes one frame as a PNG that holds exactly its values.

    Args:
      frame: `[height, width, channels]`: uint8 with 1 or 3 channels, or uint16 with 1.
      path: the file; its folder is made.

    Raises:
      ConfigError: any other dtype or number of channels; floats have to be scaled to uint8 first.
    """
    frame = np.asarray(frame)
    check_rank("frame", frame, 3, "height, width, channels")
    kind = (frame.dtype.newbyteorder("=").name, frame.shape[-1])
    if kind not in (("uint8", 1), ("uint8", 3), ("uint16", 1)):
        raise ConfigError(
            "frame: expected uint8 with 1 or 3 channels or uint16 with 1, "
            f"got {frame.dtype} with {frame.shape[-1]}"
        )
    pixels = frame.astype(kind[0])
    picture = Image.fromarray(pixels if frame.shape[-1] == 3 else pixels[..., 0])
    with _replacing(path) as file:
        picture.save(file, format="PNG")


def _check_film(
    inputs: Any, predictions: Any, targets: Any | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """The three as NumPy arrays of float32, or a `ConfigError`."""
    films = {"inputs": inputs, "predictions": predictions, "targets": targets}
    for name, film in films.items():
        if film is None:
            continue
        film = np.asarray(film)
        check_rank(name, film, 4, LAYOUT)
        if film.dtype.kind in "buic":
            raise ConfigError(f"{name}: expected floats from 0 to 1, got {film.dtype}")
        if film.size == 0:
            raise ConfigError(f"{name}: expected frames to show, got shape {film.shape}")
        films[name] = film.astype(np.float32)
    if targets is not None:
        check_same_shape("targets", films["targets"], "predictions", films["predictions"])
    return films["inputs"], films["predictions"], films["targets"]


def _clip(frames: np.ndarray) -> np.ndarray:
    return np.clip(np.nan_to_num(frames, nan=0.0), 0, 1)


def _colours(frames: np.ndarray) -> np.ndarray:
    """`[time, height, width, 3]` uint8, clipped; other than three channels become grey."""
    frames = frames if frames.shape[-1] == 3 else np.repeat(frames[..., :1], 3, axis=-1)
    return np.rint(_clip(frames) * 255).astype(np.uint8)


def _difference(predictions: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Prediction minus truth as shown, `[time, height, width]`, mean over the channels."""
    return (_clip(predictions) - _clip(targets)).mean(axis=-1)


def _difference_scale(difference: np.ndarray) -> float:
    """The smallest round number that no difference exceeds."""
    largest = np.abs(difference).max()
    return next(scale for scale in DIFFERENCE_SCALES if largest <= scale or scale == 1)


def _difference_colours(difference: np.ndarray, scale: float) -> np.ndarray:
    """`[time, height, width, 3]` uint8: blue at `-scale`, near white at 0, red at `scale`."""
    # As many steps as fit beside the greys in the palette of a GIF.
    steps = np.rint(np.clip(difference / scale, -1, 1) * 40) / 40
    anchors = np.linspace(-1, 1, len(DIFFERENCE_COLOURS))
    channels = [np.interp(steps, anchors, DIFFERENCE_COLOURS[:, index]) for index in range(3)]
    return np.rint(np.stack(channels, axis=-1)).astype(np.uint8)


def _input_labels(count: int, shown: np.ndarray) -> list[str]:
    """`t-2`, `t-1`, `t0`: the last input is time 0."""
    return [f"t{index - count + 1:d}" for index in shown]


def _spread(count: int, most: int) -> np.ndarray:
    """All of `count` indices, or `most` of them with the first, the last and equal gaps."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(int))


def _shown_size(size: Sequence[int], most_width: int, usual: int) -> tuple[int, int]:
    """Height and width that a frame is shown with.

    Enlarged by the largest whole factor that keeps it within `usual`; never reduced unless it is
    wider than `most_width` or higher than a cell may be.
    """
    height, width = size
    factor = min(usual, most_width) // max(width, height)
    if factor >= 1:
        return height * factor, width * factor
    reduction = min(1.0, most_width / width, MOST_CELL / height)
    return max(1, round(height * reduction)), max(1, round(width * reduction))


def _paste(
    canvas: Image.Image,
    draw: ImageDraw.ImageDraw,
    frame: np.ndarray | None,
    place: tuple[int, int],
    size: tuple[int, int],
) -> None:
    """Draws a frame, or an empty panel, in a thin outline that covers none of its pixels."""
    height, width = size
    x, y = place
    draw.rectangle((x - 1, y - 1, x + width, y + height), fill=EMPTY, outline=OUTLINE)
    if frame is not None:
        method = Image.Resampling.NEAREST if height >= len(frame) else Image.Resampling.BOX
        canvas.paste(Image.fromarray(frame).resize((width, height), method), place)


def _font() -> Any:
    return ImageFont.load_default(size=TEXT_SIZE)


def _wrap(text: str, font: Any, width: int) -> list[str]:
    """Lines that are at most `width` pixels wide, with what no font can draw replaced."""
    text = " ".join(text.encode("utf-8", "replace").decode().split())
    for characters in range(len(text), 1, -1):
        lines = textwrap.wrap(text, characters)
        if all(font.getlength(line) <= width for line in lines):
            return lines
    return list(text)


def _grey_palette(page: Image.Image) -> Image.Image:
    """Exactly the page's own greys and the colours of the difference: nothing is dithered.

    Of 256 colours 81 are the difference's; the 175 others are greys, 1.5 of 255 apart.
    """
    difference = _difference_colours(np.linspace(-1, 1, 81), 1.0)
    greys = np.rint(np.linspace(0, 255, 175)).astype(np.uint8)[:, None].repeat(3, axis=1)
    palette = np.concatenate([greys, difference])
    pixels = np.asarray(page).astype(np.int32)
    codes, inverse = np.unique(pixels @ np.array([1 << 16, 1 << 8, 1]), return_inverse=True)
    colours = np.stack([codes >> 16, codes >> 8 & 255, codes & 255], axis=-1)
    distance = ((colours[:, None] - palette[None].astype(np.int32)) ** 2).sum(axis=-1)
    nearest = distance.argmin(axis=1).astype(np.uint8)
    indexed = Image.fromarray(nearest[inverse].reshape(pixels.shape[:2]))
    indexed.putpalette(palette.tobytes())
    return indexed


def _adaptive_palette(page: Image.Image) -> Image.Image:
    """The page's own best colours, dithered; the paper stays white."""
    best = page.quantize(255, Image.Quantize.MEDIANCUT)
    palette = (best.getpalette() or [])[: 3 * 255]
    dithered = np.array(page.quantize(palette=best, dither=Image.Dither.FLOYDSTEINBERG))
    white = len(palette) // 3
    dithered[(np.asarray(page) == 255).all(axis=-1)] = white
    indexed = Image.fromarray(dithered)
    indexed.putpalette([*palette, *WHITE])
    return indexed


@contextmanager
def _replacing(path: str | Path) -> Iterator[IO[bytes]]:
    """A file under a temporary name that takes its place at `path` once it is whole."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            yield file
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
