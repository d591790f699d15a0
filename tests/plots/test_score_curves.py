"""Plots hold what they are given, and their text fits."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from picture_search import pixels, rim_is_white

from jaxconvlstm.errors import ConfigError
from jaxconvlstm.plots import (
    CURVE_TITLES,
    confusion,
    confusion_matrix,
    curves,
    history,
    score_curves,
)

KEYS = ("mse", "mae", "psnr", "ssim")


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Every figure that is written, to look at what is in it."""
    kept: list[Any] = []
    save = score_curves.save_figure

    def keep(figure: Any, path: Path, **options: Any) -> None:
        kept.append(figure)
        save(figure, path, **options)

    for module in (score_curves, confusion_matrix):
        monkeypatch.setattr(module, "save_figure", keep)
    return kept


def boxes(*texts: Any) -> list[Any]:
    """Where texts stand, in pixels."""
    return [text.get_window_extent() for text in texts if text.get_text()]


@pytest.mark.parametrize("horizon", [1, 12])
def test_curves(tmp_path: Path, horizon: int) -> None:
    scores = {key: list(np.linspace(0.1, 0.9, horizon)) for key in KEYS}
    worse = {**scores, "ssim": [float("nan")] * horizon}
    curves({"model": scores, "persistence": worse}, tmp_path / "curves.png")
    picture = pixels(tmp_path / "curves.png")
    assert picture.shape[1] == 1000 and rim_is_white(picture, 4)
    blue = np.abs(picture - (31, 119, 180)).max(axis=-1) < 8
    half = picture.shape[0] // 2
    for part in (blue[:half, :500], blue[:half, 500:], blue[half:, :500], blue[half:, 500:]):
        assert part.any()


@pytest.mark.parametrize("count", [1, 3, 6, 10])
def test_curves_of_many_scores(tmp_path: Path, figures: list[Any], count: int) -> None:
    """Every score has a panel; titles lie above their panels, apart and inside the picture."""
    keys = [*list(CURVE_TITLES)[::-1], "another"][:count]
    scores = {key: [0.1, float("nan"), 0.3] for key in keys}
    curves({"model": scores, "persistence": {}}, tmp_path / "curves.png")
    (figure,) = figures
    panels = [panel for panel in figure.axes if panel.axison]
    titles = [panel.get_title().replace("\n", " ") for panel in panels]
    assert titles == [CURVE_TITLES.get(key, key) for key in keys]
    for panel in panels:
        assert [line.get_label() for line in panel.lines] == ["model", "persistence"]
        np.testing.assert_array_equal(panel.lines[0].get_ydata(), [0.1, np.nan, 0.3])
    places = boxes(*(panel.title for panel in panels))
    assert not any(a.overlaps(b) for a in places for b in places if a is not b)
    assert all(box.x0 >= 0 and box.x1 <= figure.bbox.width for box in places)
    assert rim_is_white(pixels(tmp_path / "curves.png"), 4)


def test_a_score_without_any_value_says_so(tmp_path: Path, figures: list[Any]) -> None:
    curves({"model": {"mse": [0.1], "ssim": [float("nan")]}}, tmp_path / "curves.png")
    assert [[text.get_text() for text in panel.texts] for panel in figures[0].axes] == [
        [],
        ["no value"],
    ]


def records(steps: int, spread: float) -> list[dict[str, Any]]:
    """As a run logs them: losses fall by the factor `spread`."""
    fall = np.geomspace(1, 1 / spread, steps)
    lines: list[dict[str, Any]] = [
        {"step": k + 1, "split": "train", "loss": float(loss), "learning_rate": 1e-3}
        for k, loss in enumerate(fall)
    ]
    return [*lines, {"step": steps, "split": "val", "loss": 0.7, "persistence_loss": 0.8}]


@pytest.mark.parametrize(("spread", "scale"), [(5, "linear"), (50, "log")])
def test_history_of_a_forecast(
    tmp_path: Path, figures: list[Any], spread: float, scale: str
) -> None:
    lines = records(9, spread)
    lines[4]["loss"] = None  # JSON's null: not finite
    lines[5]["loss"] = float("inf")
    history(lines, tmp_path / "history.png", title="RUN $\\x$ \udcff \u65e5 " * 40)
    loss, rate = figures[0].axes
    assert [loss.get_yscale(), rate.get_yscale()] == [scale, "linear"]
    shown = {line.get_label(): line.get_xydata() for line in loss.lines}
    assert list(shown) == ["training", "validation", "persistence"]
    np.testing.assert_array_equal(shown["training"][:, 0], [1, 2, 3, 4, 7, 8, 9])
    np.testing.assert_allclose(shown["training"][-1], [9, 1 / spread])
    assert shown["validation"].tolist() == [[9, 0.7]]
    assert rate.lines[0].get_ydata().tolist() == [1e-3] * 9
    assert rim_is_white(pixels(tmp_path / "history.png"), 4)


def test_history_of_a_classifier(tmp_path: Path, figures: list[Any]) -> None:
    lines = [
        {"step": 2, "split": "train", "loss": 0.0, "accuracy": 0.5},
        {"step": 2, "split": "val", "loss": 3.0, "accuracy": 0.25},
    ]
    history(lines, tmp_path / "history.png")
    loss, accuracy = figures[0].axes
    assert loss.get_yscale() == "linear"  # A zero has no logarithm.
    assert accuracy.get_title() == "Accuracy (higher is better)"
    assert [line.get_ydata().tolist() for line in accuracy.lines] == [[0.5], [0.25]]
    assert {line.get_marker() for line in loss.lines} == {"o"}  # A single point is no line.
    assert accuracy.get_xlabel() == "step" and not loss.get_xlabel()


@pytest.mark.parametrize("lines", [[], [{"step": 1, "split": "train", "loss": float("nan")}]])
def test_history_of_nothing(tmp_path: Path, lines: list[dict[str, Any]]) -> None:
    with pytest.raises(ConfigError, match="records: expected losses"):
        history(lines, tmp_path / "history.png")


def cells(figure: Any) -> dict[tuple[int, int], str]:
    """What stands in each cell, by row and column."""
    (panel,) = figure.axes
    return {
        (round(text.get_position()[1]), round(text.get_position()[0])): text.get_text()
        for text in panel.texts
    }


def test_confusion(tmp_path: Path, figures: list[Any]) -> None:
    """Rows are true classes: counts and shares of the row."""
    matrix = np.array([[150, 50, 0], [1, 999, 0], [0, 0, 0]])
    confusion(matrix, ["a", "b", "c"], tmp_path / "confusion.png", title="lines")
    texts = cells(figures[0])
    assert texts[0, 0] == "150\n75%" and texts[0, 1] == "50\n25%" and texts[0, 2] == "0"
    assert texts[1, 0] == "1\n<1%" and texts[1, 1] == "999\n100%" and texts[2, 2] == "0"
    (panel,) = figures[0].axes
    assert panel.get_title() == "lines\naccuracy 95.8% of 1200"
    assert [label.get_text() for label in panel.get_yticklabels()] == ["a", "b", "c"]
    np.testing.assert_array_equal(
        panel.images[0].get_array(), [[0.75, 0.25, 0], [0.001, 0.999, 0], [0, 0, 0]]
    )


@pytest.mark.parametrize("count", [1, 2, 12, 30])
def test_confusion_is_readable(tmp_path: Path, figures: list[Any], count: int) -> None:
    """Numbers fit into their cells, names do not overlap, nothing is cut off."""
    matrix = np.full((count, count), 3) + np.diag([12345] * count)
    names = [f"{k} $\\x$ \udcff \u65e5 is a name that is far too long" for k in range(count)]
    confusion(matrix, names, tmp_path / "confusion.png", title="A $\\TITLE$ \udcff " * 9)
    (figure,) = figures
    (panel,) = figure.axes
    side = panel.get_window_extent().width / count
    for box in boxes(*panel.texts[: 2 * count]):
        assert box.width < side and box.height < side
    labels = boxes(*panel.get_xticklabels()) + boxes(*panel.get_yticklabels())
    assert len(labels) == 2 * count
    assert not any(a.overlaps(b) for k, a in enumerate(labels) for b in labels[:k])
    picture = pixels(tmp_path / "confusion.png")
    assert rim_is_white(picture) and max(picture.shape) <= 2100


def test_confusion_of_very_many_classes_has_no_numbers(tmp_path: Path, figures: list[Any]) -> None:
    confusion(np.eye(60), [str(k) for k in range(60)], tmp_path / "confusion.png")
    assert not cells(figures[0])
    assert max(pixels(tmp_path / "confusion.png").shape) <= 2100


def test_confusion_refuses_what_is_no_matrix(tmp_path: Path) -> None:
    path = tmp_path / "confusion.png"
    with pytest.raises(ConfigError, match=r"matrix: expected 3 x 3 counts, got shape \(2, 2\)"):
        confusion(np.eye(2), ["a", "b", "c"], path)
    with pytest.raises(ConfigError, match="matrix: expected counts"):
        confusion(np.array([[-1, 0], [0, 1]]), ["a", "b"], path)
    with pytest.raises(ConfigError, match="matrix: expected 2 axes"):
        confusion(np.ones(4), ["a", "b"], path)
    assert not path.exists()


def test_curves_of_nothing(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="at least one score"):
        curves({"model": {}}, tmp_path / "curves.png")
