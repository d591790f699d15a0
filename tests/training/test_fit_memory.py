"""Training on Python objects from research code, and what is kept when their data fail."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

import jaxconvlstm as jcl
from jaxconvlstm.config.data import DataConfig, Split
from jaxconvlstm.config.model import ModelConfig
from jaxconvlstm.config.run import Config
from jaxconvlstm.config.training import TrainingConfig
from jaxconvlstm.errors import ConfigError, DataError
from jaxconvlstm.runs.folder import read_split

CONFIG = Config(
    DataConfig(input_frames=2, target_frames=1, read_timeout=5.0),
    ModelConfig(features=(2,), layers=1, downsample=1),
    # The compiled step does not depend on the number of epochs.
    TrainingConfig(
        epochs=1,
        steps_per_epoch=2,
        batch_size=2,
        sample_every=0,
        threads=1,
        schedule="constant",
        warmup_steps=0,
    ),
)


def clips(count: int = 3, frames: int = 20) -> np.ndarray:
    return np.random.default_rng(0).normal(5, 2, (count, frames, 8, 8, 1)).astype(np.float32)


def changed(config: Config, section: str, **settings: object) -> Config:
    """The configuration with some settings of a section changed."""
    new = dataclasses.replace(getattr(config, section), **settings)
    return dataclasses.replace(config, **{section: new})


class Failing:
    """A clip whose file goes away after so many reads."""

    def __init__(self, clip: np.ndarray, reads: list[int]):
        self.clip, self.reads, self.shape, self.dtype = clip, reads, clip.shape, clip.dtype

    def __len__(self) -> int:
        return len(self.clip)

    def __getitem__(self, key: object) -> np.ndarray:
        self.reads[0] -= 1
        if self.reads[0] < 0:
            raise OSError("the disk has gone")
        return self.clip[key]


def test_a_list_of_arrays_trains_like_one_array(tmp_path: Path) -> None:
    array = jcl.fit(CONFIG, tmp_path / "array", data=clips())
    listed = jcl.fit(CONFIG, tmp_path / "list", data=list(clips()))
    first, second = (jcl.load(result.folder) for result in (array, listed))
    given = clips()[0, :2]
    np.testing.assert_array_equal(first.predict(given, 3), second.predict(given, 3))
    assert first.values.low == clips()[:, :16].min()
    with pytest.raises(ConfigError, match=r"NaN or infinity at \[0, 3, 4, 0\]"):
        given[0, 3, 4] = np.nan
        first.predict(given)


def test_a_resumed_run_keeps_its_scale_and_its_split(tmp_path: Path) -> None:
    config = changed(CONFIG, "data", normalize="mean-std")
    jcl.fit(config, tmp_path, data=clips())
    before, split = jcl.load(tmp_path).values, read_split(tmp_path)
    longer = changed(config, "training", epochs=2)
    # More frames at the end of each sequence, of quite other values: neither is measured anew.
    grown = np.concatenate([clips(), 100 + clips()], axis=1)
    assert jcl.fit(longer, tmp_path, resume="must", data=grown).step == 4
    assert jcl.load(tmp_path, "last").values == before
    assert read_split(tmp_path) == split


def test_data_that_fail_do_not_take_finished_work_along(tmp_path: Path) -> None:
    """The reads that are left suffice for an epoch's steps and validation, and not for the next."""
    reads = [10**9]
    data = [Failing(clip, reads) for clip in clips()]
    config = changed(CONFIG, "training", epochs=50, steps_per_epoch=3)
    config = changed(config, "data", cache=0.0)
    reads[0] = 400
    with pytest.raises(DataError, match=r"the disk has gone.*saved step \d+.*--resume auto"):
        jcl.fit(config, tmp_path, data=data)
    records = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    validated = [record["step"] for record in records if record["split"] == "val"]
    assert validated
    saved = jcl.load(tmp_path, "last").step
    assert saved >= max(validated)
    # The disk is back.
    reads[0] = 10**9
    short = changed(config, "training", epochs=saved // 3 + 2)
    assert jcl.fit(short, tmp_path, resume="must", data=data).step == 3 * (saved // 3 + 2)


def test_data_without_any_target_are_not_trained_on(tmp_path: Path) -> None:
    missing = clips()
    missing[:, 2:] = -1
    config = changed(CONFIG, "data", missing_value=-1.0, value_range=(0.0, 10.0))
    with pytest.raises(DataError, match=r"nothing to train on: every target pixel of \d+ windows"):
        jcl.fit(changed(config, "data", split=Split(0.9, 0, 0.1)), tmp_path, data=missing)
