"""Confusion matrices as heat maps, drawn with Matplotlib."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxconvlstm.checks import check_rank
from jaxconvlstm.errors import ConfigError
from jaxconvlstm.plots.drawing import shortened, text_font
from jaxconvlstm.plots.score_curves import TITLE_POINTS, fitted_title, new_figure, save_figure

# In pixels; a hundred are an inch.
_MOST_SIDE = 1700
_LEAST_SIDE = 260
_NAME = 220


def confusion(matrix: Any, classes: Sequence[str], path: str | Path, *, title: str = "") -> None:
    """Write a PNG of a confusion matrix: counts, and fractions of the true class as colours.

    Up to 32 classes have numbers in their cells; with more there are only colours.

    Args:
      matrix: `[classes, classes]` counts; row is the true class, column the predicted one.
      classes: their names.
      path: the file; its folder is made.
      title: a line above, over one that tells the accuracy.

    Raises:
      ConfigError: the matrix has another shape, or holds a negative number or a NaN.
    """
    matrix = np.asarray(matrix)
    check_rank("matrix", matrix, 2, "true class, predicted class")
    count = len(classes)
    if matrix.shape != (count, count) or count == 0:
        raise ConfigError(f"matrix: expected {count} x {count} counts, got shape {matrix.shape}")
    if not (np.isfinite(matrix) & (matrix >= 0)).all():
        raise ConfigError("matrix: expected counts, got a negative number or none")

    cell, cell_points = (90, 10.0) if count <= 6 else (62, 8.0) if count <= 14 else (52, 7.0)
    side = min(max(cell * count, _LEAST_SIDE), _MOST_SIDE)
    name_points = min(10.0 if count <= 14 else 8.5, 0.6 * side / count)
    font = text_font(max(1, round(name_points / 72 * 100)))
    names = [shortened(name, font, _NAME) for name in classes]
    longest = max(map(font.getlength, names))
    around = longest + 80
    figure = new_figure((side + around) / 100, (side + around + 20) / 100)
    panel = figure.subplots()
    # Of each row, the true class; a class without examples stays 0.
    fractions = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    panel.imshow(fractions, cmap="Blues", vmin=0, vmax=1)
    if cell * count <= _MOST_SIDE:
        _write_numbers(panel, matrix, fractions, cell_points)
    turned = 90 if longest > side / count - 4 else 0
    ticks = range(count)
    panel.set_xticks(ticks, names, rotation=turned, fontsize=name_points, parse_math=False)
    panel.set_yticks(ticks, names, fontsize=name_points, parse_math=False)
    panel.set_xticks(np.arange(count + 1) - 0.5, minor=True)
    panel.set_yticks(np.arange(count + 1) - 0.5, minor=True)
    panel.grid(which="minor", color="white", linewidth=min(1.0, 0.2 * side / count))
    panel.tick_params(which="both", length=0)
    panel.set_xlabel("predicted")
    panel.set_ylabel("true (100% a row)")
    total = matrix.sum()
    right = f"accuracy {np.trace(matrix) / total:.1%} of {total:.0f}" if total else "no examples"
    lines = [fitted_title(title, max(side, 400)), right] if title.strip() else [right]
    panel.set_title("\n".join(lines), fontsize=TITLE_POINTS, parse_math=False)
    save_figure(figure, path, bbox_inches="tight", pad_inches=0.15)


def _write_numbers(panel: Any, matrix: np.ndarray, fractions: np.ndarray, points: float) -> None:
    for (row, column), number in np.ndenumerate(matrix):
        fraction = fractions[row, column]
        percent = "<1%" if fraction < 0.005 else f"{fraction:.0%}"
        panel.text(
            column,
            row,
            f"{number:.0f}\n{percent}" if number else "0",
            ha="center",
            va="center",
            color="white" if fraction > 0.5 else "0.15" if number else "0.65",
            fontsize=points,
        )
