"""Checkpoints: what is kept, what is best, and clear words when something does not fit."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import optax
import pytest

from jaxconvlstm.checkpoint import Checkpoints
from jaxconvlstm.config import FORMAT_VERSION
from jaxconvlstm.errors import CheckpointError


def items(step: int) -> dict[str, Any]:
    params = {"a": {"kernel": np.full((3, 4), step, np.float32)}, "b": np.arange(5, dtype=np.int32)}
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(1e-3))
    return {
        "variables": {"params": params},
        "opt_state": optimizer.init({"w": np.ones(3, np.float32)}),
        "meta": {"format_version": FORMAT_VERSION, "step": step, "best": None},
        "data": {"next_index": step},
    }


def save(folder: Path, losses: dict[int, float | None]) -> None:
    with Checkpoints(folder, writable=True) as checkpoints:
        for step, loss in losses.items():
            checkpoints.save(step, items(step), loss)


def test_everything_comes_back(tmp_path: Path) -> None:
    save(tmp_path, {7: 0.5})
    with Checkpoints(tmp_path) as checkpoints:
        expected = {name: items(0)[name] for name in ("variables", "opt_state")}
        loaded = checkpoints.load(7, expected)
        np.testing.assert_array_equal(
            loaded["variables"]["params"]["a"]["kernel"], np.full((3, 4), 7)
        )
        assert type(loaded["opt_state"]) is type(expected["opt_state"])
        assert checkpoints.load_meta(7)["step"] == 7
        assert checkpoints.load_data(7) == {"next_index": 7}


def test_the_newest_two_and_the_best_are_kept(tmp_path: Path) -> None:
    save(tmp_path, {1: 5.0, 2: 1.0, 3: None, 4: 3.0, 5: 2.0, 6: None})
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.steps() == [2, 5, 6]
        assert checkpoints.choose("best") == 2
        assert checkpoints.choose("last") == 6
        assert checkpoints.choose("5") == 5
        with pytest.raises(CheckpointError, match="2, 5, 6"):
            checkpoints.choose("4")


def test_without_any_score_the_newest_is_the_best(tmp_path: Path) -> None:
    save(tmp_path, {1: None, 2: None})
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.choose("best") == 2


def test_a_step_can_be_replaced(tmp_path: Path) -> None:
    with Checkpoints(tmp_path, writable=True) as checkpoints:
        checkpoints.save(1, items(1), None)
        checkpoints.wait()
        checkpoints.save(1, items(9), 0.5, replace=True)
        checkpoints.wait()
        loaded = checkpoints.load(1, {"variables": items(1)["variables"]})
        assert loaded["variables"]["params"]["a"]["kernel"][0, 0] == 9


def test_every_leaf_that_does_not_fit_is_named(tmp_path: Path) -> None:
    save(tmp_path, {1: None})
    other = {"params": {"a": {"kernel": np.zeros((3, 5), np.float32)}, "c": np.zeros(2)}}
    with Checkpoints(tmp_path) as checkpoints, pytest.raises(CheckpointError) as caught:
        checkpoints.load(1, {"variables": other})
    message = str(caught.value)
    for part in (
        "params/a/kernel: saved float32[3, 4], expected float32[3, 5]",
        "params/b: saved int32[5], expected nothing",
        "params/c: saved nothing, expected float64[2]",
    ):
        assert part in message


def test_another_format_is_refused(tmp_path: Path) -> None:
    with Checkpoints(tmp_path, writable=True) as checkpoints:
        checkpoints.save(1, {**items(1), "meta": {"format_version": 99}}, None)
    with Checkpoints(tmp_path) as checkpoints, pytest.raises(CheckpointError, match="99"):
        checkpoints.load_meta(1)


def test_reading_makes_no_folder(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no such folder"):
        Checkpoints(tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_an_empty_folder_holds_no_checkpoint(tmp_path: Path) -> None:
    with (
        Checkpoints(tmp_path) as checkpoints,
        pytest.raises(CheckpointError, match="no checkpoint"),
    ):
        checkpoints.choose()


def test_a_damaged_meta_is_one_clear_line(tmp_path: Path) -> None:
    save(tmp_path, {1: None})
    for path in (tmp_path / "1" / "meta").rglob("*"):
        if path.is_file():
            path.write_text(json.dumps([1])[:2])
    with Checkpoints(tmp_path) as checkpoints, pytest.raises(CheckpointError) as caught:
        checkpoints.load_meta(1)
    assert "\n" not in str(caught.value)
