"""Curves of scores over lead time and of training, drawn with Matplotlib."""

import math
import textwrap
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxconvlstm.errors import ConfigError
from jaxconvlstm.plots.drawing import new_file, text_font, wrap_text

CURVE_TITLES = {
    "mse": "MSE (lower is better)",
    "mae": "MAE (lower is better)",
    "psnr": "PSNR in dB (higher is better)",
    "ssim": "SSIM (higher is better)",
    "openstl_mse": "MSE as OpenSTL sums it (lower is better)",
    "openstl_mae": "MAE as OpenSTL sums it (lower is better)",
    "openstl_psnr": "PSNR as OpenSTL, in dB (higher is better)",
    "openstl_ssim": "SSIM as OpenSTL (higher is better)",
    "shi_cross_entropy": "Cross-entropy as Shi et al. 2015 sum it (lower is better)",
    "trail": "Trail: share of predicted energy where the object was (lower is better)",
}

TITLE_POINTS = 11.5  # 16 pixels
_TITLE_LETTERS = 54  # fit above a panel
_LOOKS: dict[str, dict[str, Any]] = {
    "model": {"color": "tab:blue", "marker": "o", "zorder": 3},
    "persistence": {"color": "0.45", "marker": "s", "linestyle": "--"},
}


def curves(
    per_lead: Mapping[str, Mapping[str, Sequence[float]]], path: str | Path, *, first_lead: int = 1
) -> None:
    """Write a PNG with one panel for each score over lead time.

    Args:
      per_lead: `{"model": {key: [K floats]}, "persistence": {...}}`; a NaN leaves a gap.
      path: the file; its folder is made.
      first_lead: lead time of the first score.

    Raises:
      ConfigError: there is no score to draw.
    """
    keys = list(dict.fromkeys(key for scores in per_lead.values() for key in scores))
    if not keys:
        raise ConfigError("per_lead: expected at least one score, got none")
    columns = min(2 if len(keys) <= 4 else 3, len(keys))
    rows = -(-len(keys) // columns)
    figure = new_figure(5 * columns, 3.2 * rows + 0.5)
    panels = figure.subplots(rows, columns, squeeze=False).ravel()  # [rows, columns] -> [n]
    for key, panel in zip(keys, panels):
        for name, scores in per_lead.items():
            leads = range(first_lead, first_lead + len(scores.get(key, ())))
            look = _LOOKS.get(name, {"marker": "^"})
            panel.plot(leads, scores.get(key, ()), markersize=4, label=name, **look)
        _decorate(panel, CURVE_TITLES.get(key, key), "lead time in frames")
        panel.margins(x=0.05, y=0.1)
        if all(len(scores.get(key, ())) <= 1 for scores in per_lead.values()):
            # Of two points alone only their distance from 0 says how far they are apart.
            panel.set_ylim(bottom=min(0, panel.get_ylim()[0]))
        if not any(np.isfinite(scores.get(key, ())).any() for scores in per_lead.values()):
            panel.text(0.5, 0.5, "no value", transform=panel.transAxes, ha="center", va="center")
            panel.set(xticks=[], yticks=[])
    for panel in panels[len(keys) :]:
        panel.set_axis_off()
    lines, names = panels[0].get_legend_handles_labels()
    figure.legend(lines, names, loc="outside upper center", ncols=len(names), frameon=False)
    save_figure(figure, path)


def history(records: Sequence[Mapping[str, Any]], path: str | Path, *, title: str = "") -> None:
    """Write a PNG of a run's training: loss over steps, accuracy if there is one, learning rate.

    A loss that spans more than a factor of ten is drawn on a logarithmic scale.

    Args:
      records: the lines of `metrics.jsonl`, each with `step`, `split` ("train" or "val") and any of
        `loss`, `persistence_loss`, `accuracy` and `learning_rate`; None and NaN leave a gap.
      path: the file; its folder is made.
      title: a line above.

    Raises:
      ConfigError: there is nothing to draw.
    """
    looks: dict[tuple[str, str], dict[str, Any]] = {
        ("train", "loss"): {"color": "tab:blue", "linewidth": 1, "label": "training"},
        ("val", "loss"): {"color": "tab:orange", "marker": "o", "label": "validation"},
        ("val", "persistence_loss"): {"color": "0.45", "linestyle": "--", "label": "persistence"},
        ("train", "accuracy"): {"color": "tab:blue", "linewidth": 1, "label": "training"},
        ("val", "accuracy"): {"color": "tab:orange", "marker": "o", "label": "validation"},
        ("train", "learning_rate"): {"color": "tab:green"},
    }
    titles = {
        "loss": "Loss (lower is better)",
        "accuracy": "Accuracy (higher is better)",
        "learning_rate": "Learning rate",
    }
    found: dict[str, list[tuple[np.ndarray, dict[str, Any]]]] = {}
    for (split, key), look in looks.items():
        points = _points(records, split, key)
        if len(points):
            found.setdefault(key.removeprefix("persistence_"), []).append((points, look))
    shown = [key for key in titles if key in found]
    if not shown:
        raise ConfigError("records: expected losses of training or validation, got none")

    figure = new_figure(8, 3 * len(shown) + 0.4 * bool(title))
    panels = figure.subplots(len(shown), 1, squeeze=False, sharex=True).ravel()
    for key, panel in zip(shown, panels):
        for points, look in found[key]:
            # A line of a single point is invisible without a marker.
            marker = {"marker": "o"} if len(points) == 1 else {}
            panel.plot(points[:, 0], points[:, 1], markersize=4, **{**look, **marker})
        _decorate(panel, titles[key], "step" if panel is panels[-1] else "")
        values = np.concatenate([points[:, 1] for points, _ in found[key]])
        if key == "loss" and values.min() > 0 and values.max() > 10 * values.min():
            panel.set_yscale("log")
        if "label" in found[key][0][1]:
            panel.legend(frameon=False)
    if title:
        figure.suptitle(fitted_title(title, 640), fontsize=TITLE_POINTS, parse_math=False)
    save_figure(figure, path)


def _points(records: Sequence[Mapping[str, Any]], split: str, key: str) -> np.ndarray:
    """Steps and values of those records that have a finite value: `[n, 2]`."""
    points = [
        (record["step"], record[key])
        for record in records
        if record.get("split") == split and record.get(key) is not None
    ]
    return np.array([point for point in points if math.isfinite(point[1])], np.float64)


def _decorate(panel: Any, title: str, axis: str) -> None:
    from matplotlib.ticker import MaxNLocator

    if len(title) > _TITLE_LETTERS:
        title = title.replace(" (", "\n(")
    panel.set_title("\n".join(textwrap.fill(line, _TITLE_LETTERS) for line in title.split("\n")))
    panel.set_xlabel(axis)
    panel.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    panel.grid(alpha=0.3)


def new_figure(width: float, height: float) -> Any:
    """An empty figure, in inches of 100 pixels."""
    # Only here: most commands draw no curves, and importing Matplotlib takes a while. A Figure of
    # its own, without pyplot, needs no display and is freed when it is out of reach.
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    layout = ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.1)
    return Figure(figsize=(width, height), dpi=100, layout=layout)


def save_figure(figure: Any, path: str | Path, **options: Any) -> None:
    """Write a figure as PNG."""
    with new_file(path) as file, warnings.catch_warnings():
        # A letter that the font lacks becomes a box.
        warnings.filterwarnings("ignore", "Glyph", UserWarning)
        figure.savefig(file, format="png", **options)


def fitted_title(title: str, width: float) -> str:
    """Wrap a title to some pixels, at `TITLE_POINTS`."""
    # Matplotlib's default font is the same, so Pillow can measure it; 72 points are 100 pixels.
    return "\n".join(wrap_text(title, text_font(round(TITLE_POINTS / 72 * 100)), int(width)))
