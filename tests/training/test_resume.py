"""A stopped run goes on bit for bit: counters, averages, statistics, dropout, sampling."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

import jaxconvlstm as jcl
from jaxconvlstm.config.data import DataConfig
from jaxconvlstm.config.model import ModelConfig
from jaxconvlstm.config.run import Config
from jaxconvlstm.config.training import TrainingConfig
from jaxconvlstm.errors import Interrupted
from jaxconvlstm.training.signals import StopSignals

EVERYTHING = Config(
    DataConfig(input_frames=3, target_frames=2, limit=4),
    ModelConfig(
        model="stacked",
        features=(3,),
        layers=2,
        norm="batch",
        patch_size=4,
        dropout=0.2,
        recurrent_dropout=0.2,
        output="sigmoid",
    ),
    TrainingConfig(
        epochs=6,
        steps_per_epoch=2,
        batch_size=2,
        log_every=1,
        sample_every=0,
        learning_rate=0.5,
        schedule="step",
        decay_epochs=2,
        loss="bce",
        supervise="all",
        sampling="scheduled",
        sampling_steps=9,
        reduce_on_plateau=1,
        early_stopping=5,
        ema=0.9,
    ),
)


def saved(folder: Path) -> dict[str, Any]:
    """The newest checkpoint: arrays and counters."""
    from jaxconvlstm.runs.checkpoint import Checkpoints

    with Checkpoints(folder / "checkpoints") as checkpoints:
        step = checkpoints.choose("last")
        meta = checkpoints.load_meta(step)
        names = ("variables", "opt_state", "trained")
        arrays = checkpoints._load(step, dict.fromkeys(names))
    return {"meta": meta, **arrays}


def stop_after(monkeypatch: pytest.MonkeyPatch, checks: int) -> None:
    """A signal arrives at the `checks`-th time that one is looked for."""
    left = [checks]

    def check(self: StopSignals) -> None:
        left[0] -= 1
        if left[0] == 0:
            raise Interrupted("stopped by a test", 15)

    monkeypatch.setattr(StopSignals, "check", check)


@pytest.mark.parametrize("checks", [7, 16])
def test_a_run_with_everything_goes_on_as_if_never_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, checks: int
) -> None:
    jcl.fit(EVERYTHING, tmp_path / "whole")
    with monkeypatch.context() as stopping:
        stop_after(stopping, checks)
        with pytest.raises(Interrupted, match="saved step"):
            jcl.fit(EVERYTHING, tmp_path / "parts")
    assert 0 < saved(tmp_path / "parts")["meta"]["step"] < 12
    jcl.fit(EVERYTHING, tmp_path / "parts", resume="must")
    whole, parts = saved(tmp_path / "whole"), saved(tmp_path / "parts")
    for name in whole["meta"]:
        assert whole["meta"][name] == parts["meta"][name], name
    jax.tree.map(np.testing.assert_array_equal, whole, parts)
    assert whole["meta"]["plateau"]["scale"] < 1  # it was worth counting
    records = [
        [
            {key: value for key, value in json.loads(line).items() if "second" not in key}
            for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()
        ]
        for name in ("whole", "parts")
    ]
    for one, other in zip(*records, strict=True):
        one.pop("wait_share", None), other.pop("wait_share", None)
        assert one == other


def test_calls_of_few_steps_make_the_same_run(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    jcl.fit(EVERYTHING, tmp_path / "whole")
    few = dataclasses.replace(
        EVERYTHING, training=dataclasses.replace(EVERYTHING.training, max_steps=5)
    )
    capsys.readouterr()
    for step in (5, 10, 12, 12):
        result = jcl.fit(few, tmp_path / "parts", resume="auto")
        assert (result.step, result.finished) == (step, step == 12)
    said = capsys.readouterr().out
    assert "stopping at step 10 of 12, as --max-steps 5 says; go on with --resume auto" in said
    assert "finished already" in said
    whole, parts = saved(tmp_path / "whole"), saved(tmp_path / "parts")
    for run in (whole, parts):
        del run["meta"]["config"]
    assert whole["meta"] == parts["meta"]
    jax.tree.map(np.testing.assert_array_equal, whole, parts)


def test_hours_end_a_call_with_everything_saved(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    training = dataclasses.replace(EVERYTHING.training, max_hours=1e-9)
    result = jcl.fit(dataclasses.replace(EVERYTHING, training=training), tmp_path)
    # Not one step, but nothing that a next call could not go on from.
    assert result.step == 0 and saved(tmp_path)["meta"]["step"] == 0
    assert "as --max-hours 1e-09 says" in capsys.readouterr().out
    unlimited = dataclasses.replace(EVERYTHING.training, max_hours=None, epochs=1)
    assert jcl.fit(dataclasses.replace(EVERYTHING, training=unlimited), tmp_path, "must").step == 2


def test_other_data_in_the_place_of_the_runs_own_are_refused(tmp_path: Path) -> None:
    data = np.random.default_rng(0).random((40, 8, 8), np.float32)
    config = Config(
        DataConfig(dataset="array", input_frames=2, target_frames=1, data=str(tmp_path / "d.npy")),
        ModelConfig(features=(2,), layers=1),
        TrainingConfig(epochs=1, steps_per_epoch=2, batch_size=2, sample_every=0),
    )
    np.save(tmp_path / "d.npy", data)
    jcl.fit(config, tmp_path / "run")
    more = dataclasses.replace(config, training=dataclasses.replace(config.training, epochs=2))
    np.save(tmp_path / "d.npy", data[::-1])
    with pytest.raises(jcl.CheckpointError, match=r"have changed since step 2 .*other values"):
        jcl.fit(more, tmp_path / "run", resume="must")
    np.save(tmp_path / "d.npy", data)
    assert jcl.fit(more, tmp_path / "run", resume="must").step == 4


def test_objects_that_draw_their_values_anew_go_on_with_a_warning(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    class Drawn:
        rng = np.random.default_rng(0)

        def __len__(self) -> int:
            return 4

        def __getitem__(self, index: int) -> np.ndarray:
            return self.rng.random((12, 8, 8), np.float32)

    config = Config(
        DataConfig(input_frames=2, target_frames=1),
        ModelConfig(features=(2,), layers=1),
        TrainingConfig(epochs=1, steps_per_epoch=2, batch_size=2, sample_every=0),
    )
    jcl.fit(config, tmp_path, data=Drawn())
    more = dataclasses.replace(config, training=dataclasses.replace(config.training, epochs=2))
    assert jcl.fit(more, tmp_path, resume="must", data=Drawn()).step == 4
    # Drawn once, they are drawn alike; the second draws of one object are others.
    drawn = Drawn()
    drawn[0]
    last = dataclasses.replace(config, training=dataclasses.replace(config.training, epochs=3))
    assert jcl.fit(last, tmp_path, resume="must", data=drawn).step == 6
    assert "they hold other values" in capsys.readouterr().out


def test_early_stopping_ends_a_run_for_good_or_until_patience_grows(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    training = dataclasses.replace(
        EVERYTHING.training, learning_rate=1e-12, early_stopping=1, reduce_on_plateau=None, ema=0.0
    )
    config = dataclasses.replace(EVERYTHING, training=training)
    result = jcl.fit(config, tmp_path)
    assert result.step < 12
    assert "training ends early" in capsys.readouterr().out
    assert jcl.fit(config, tmp_path, resume="must").step == result.step
    assert "finished already" in capsys.readouterr().out
    patient = dataclasses.replace(training, early_stopping=12)
    more = jcl.fit(dataclasses.replace(config, training=patient), tmp_path, resume="must")
    assert more.step == 12
    assert "going on with --early-stopping 12, was 1" in capsys.readouterr().out


def test_a_run_can_start_from_the_weights_of_another(tmp_path: Path) -> None:
    jcl.fit(EVERYTHING, tmp_path / "first")
    first = jcl.load(tmp_path / "first")
    still = dataclasses.replace(
        TrainingConfig(
            epochs=1,
            steps_per_epoch=1,
            batch_size=2,
            learning_rate=1e-30,
            loss="bce",
            sample_every=0,
        ),
        init_from=str(tmp_path / "first"),
    )
    config = dataclasses.replace(EVERYTHING, training=still)
    jcl.fit(config, tmp_path / "second")
    second = jcl.load(tmp_path / "second")
    jax.tree.map(
        np.testing.assert_array_equal, first.variables["params"], second.variables["params"]
    )
    other = dataclasses.replace(config, model=dataclasses.replace(config.model, features=(5,)))
    with pytest.raises(jcl.CheckpointError, match="expected float32"):
        jcl.fit(other, tmp_path / "third")
