"""Frames as pictures: PNG strips, GIF animations, single frames, and curves of scores.

Frames are `[time, height, width, channels]` floats on the network's scale. They are clipped to
[0, 1] for showing; three channels are colours, of any other number the first is shown as grey. A
value that is not a number is shown as 0.

Every picture is written under a temporary name and renamed when it is whole.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from jaxconvlstm.checks import check_positive, check_rank, check_same_shape
from jaxconvlstm.drawing import (
    GAP,
    INK,
    LEAST_CELL,
    LINE,
    MARGIN,
    MOST_CELL,
    MOST_WIDTH,
    USUAL_CELL,
    USUAL_PANEL,
    WHITE,
    adaptive_palette,
    colours,
    difference_colours,
    difference_scale,
    grey_palette,
    input_labels,
    paste_frame,
    replacing,
    save_gif,
    shown_size,
    signed_difference,
    text_font,
    wrap_text,
)
from jaxconvlstm.errors import ConfigError, JaxConvLSTMError
from jaxconvlstm.spread import spread

LAYOUT = "time, height, width, channels"

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
    font = text_font()
    label_width = int(font.getlength("blue too low")) + 2 * GAP
    most = (MOST_WIDTH - 2 * MARGIN - label_width) // (LEAST_CELL + GAP)
    leads = spread(len(predictions), most)
    given = np.arange(len(inputs))[-min(most, max(len(leads), 6)) :]
    columns = max(len(leads), len(given))
    room = (MOST_WIDTH - 2 * MARGIN - label_width) // columns - GAP
    size = shown_size(predictions.shape[1:3], min(room, MOST_CELL), USUAL_CELL)

    predicted = [("prediction", colours(predictions[leads]))]
    if targets is not None:
        difference = signed_difference(predictions, targets)
        scale = difference_scale(difference)
        label = f"difference\nblue too low\nred too high\nscale ±{scale:g}"
        predicted.append(("truth", colours(targets[leads])))
        predicted.append((label, difference_colours(difference[leads], scale)))
    blocks = [
        (input_labels(len(inputs), given), [("input", colours(inputs[given]))]),
        ([f"+{lead + 1}" for lead in leads], predicted),
    ]

    cell_width = max(size[1], LEAST_CELL)
    left = MARGIN + label_width
    width = left + columns * (cell_width + GAP) - GAP + MARGIN
    title_lines = wrap_text(title, font, width - 2 * MARGIN)
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
                paste_frame(canvas, draw, frame, (x, top), size)
            top += row_height + GAP
        top += GAP - 2
    with replacing(path) as file:
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
        difference = signed_difference(predictions, targets)
        scale, panels = difference_scale(difference), 3
        differences = difference_colours(difference, scale)
        truth = colours(targets)
    size = shown_size(predictions.shape[1:3], MOST_CELL, USUAL_PANEL)
    font = text_font()
    explanation = f"difference ±{scale:g}"
    labels_width = int(max(map(font.getlength, (explanation, "prediction +999")))) + GAP
    cell_width = max(size[1], labels_width)
    width = 2 * MARGIN + panels * (cell_width + 2 * GAP) - 2 * GAP
    legend = wrap_text("difference: blue is too low, red too high", font, width - 2 * MARGIN)
    legend = legend if targets is not None else []
    height = 2 * MARGIN + LINE + GAP + size[0] + (GAP if legend else 0) + LINE * len(legend)

    def page(contents: Sequence[tuple[str, np.ndarray | None]]) -> Image.Image:
        canvas = Image.new("RGB", (width, height), WHITE)
        draw = ImageDraw.Draw(canvas)
        for number, (label, frame) in enumerate(contents):
            x = MARGIN + number * (cell_width + 2 * GAP)
            place = (x + (cell_width - size[1]) // 2, MARGIN + LINE + GAP)
            draw.text((x + cell_width // 2, MARGIN + LINE), label, INK, font, anchor="md")
            paste_frame(canvas, draw, frame, place, size)
        for number, line in enumerate(legend):
            draw.text((MARGIN, MARGIN + LINE + size[0] + 2 * GAP + LINE * number), line, INK, font)
        return canvas

    pages = []
    labels = input_labels(len(inputs), np.arange(len(inputs)))
    for label, frame in zip(labels, colours(inputs)):
        contents = [(f"input {label}", frame), (f"input {label}", frame), (explanation, None)]
        pages.append(page(contents[:panels]))
    for lead, frame in enumerate(colours(predictions)):
        contents = [(f"prediction +{lead + 1}", frame)]
        if targets is not None:
            contents += [(f"truth +{lead + 1}", truth[lead]), (explanation, differences[lead])]
        pages.append(page(contents))

    pages = [adaptive_palette(each) if colour else grey_palette(each) for each in pages]
    save_gif(pages, path, frames_per_second)


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
    with replacing(path) as file:
        figure.savefig(file, format="png")


def save_frame(frame: np.ndarray, path: str | Path) -> None:
    """Writes one frame as a PNG that holds exactly its values.

    PNG as written here holds 8 bits in 1 or 3 channels, or 16 bits in 1: of a frame with any other
    number of channels the first is written.

    Args:
      frame: `[height, width, channels]`, uint8 or uint16.
      path: the file; its folder is made.

    Raises:
      ConfigError: any other dtype; floats have to be scaled to uint8 first.
    """
    frame = np.asarray(frame)
    check_rank("frame", frame, 3, "height, width, channels")
    name = frame.dtype.newbyteorder("=").name
    if name not in ("uint8", "uint16"):
        raise ConfigError(f"frame: expected uint8 or uint16, got {frame.dtype}")
    if frame.size == 0:
        raise ConfigError(f"frame: expected pixels to write, got shape {frame.shape}")
    pixels = frame.astype(name)
    in_colour = frame.shape[-1] == 3 and name == "uint8"
    picture = Image.fromarray(pixels if in_colour else pixels[..., 0])
    with replacing(path) as file:
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
