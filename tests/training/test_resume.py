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
from jaxconvlstm.training.validation import Validation

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
# The compiled step of a run that goes on to more epochs is the one that is compiled already.
SMALL = Config(
    DataConfig(input_frames=2, target_frames=1, value_range=(0.0, 1.0)),
    ModelConfig(features=(2,), layers=1),
    TrainingConfig(
        epochs=1,
        steps_per_epoch=2,
        batch_size=2,
        sample_every=0,
        schedule="constant",
        warmup_steps=0,
    ),
)


def training(config: Config, **settings: object) -> Config:
    """The configuration with some settings of training changed."""
    return dataclasses.replace(config, training=dataclasses.replace(config.training, **settings))


def saved(folder: Path) -> dict[str, Any]:
    """The newest checkpoint: arrays and counters."""
    from jaxconvlstm.runs.checkpoint import Checkpoints

    with Checkpoints(folder / "checkpoints") as checkpoints:
        step = checkpoints.choose("last")
        meta = checkpoints.load_meta(step)
        names = ("variables", "opt_state", "trained")
        arrays = checkpoints._load(step, dict.fromkeys(names))
    return {"meta": meta, **arrays}


def records(folder: Path) -> list[dict[str, Any]]:
    """The lines of `metrics.jsonl`, but for how long things took."""
    found = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [
        {k: v for k, v in line.items() if "second" not in k and k != "wait_share"}
        for line in found
    ]  # fmt: skip


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with everything that was never stopped."""
    folder = tmp_path_factory.mktemp("whole")
    jcl.fit(EVERYTHING, folder)
    return folder


def assert_same_run(one: Path, other: Path) -> None:
    """The newest checkpoints hold the same bits and counters, and the logs the same numbers."""
    first, second = saved(one), saved(other)
    for run in (first, second):
        del run["meta"]["config"]  # where limits of a call may differ
    assert first["meta"] == second["meta"]
    jax.tree.map(np.testing.assert_array_equal, first, second)
    assert records(one) == records(other)


def stop_after(monkeypatch: pytest.MonkeyPatch, checks: int) -> None:
    """A signal arrives at the `checks`-th time that one is looked for."""
    left = [checks]

    def check(self: StopSignals) -> None:
        left[0] -= 1
        if left[0] == 0:
            raise Interrupted("stopped by a test", 15)

    monkeypatch.setattr(StopSignals, "check", check)


def test_a_run_with_everything_goes_on_as_if_never_stopped(
    whole: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    """The first call has no time for one step, and leaves what the next can go on from."""
    assert jcl.fit(training(EVERYTHING, max_hours=1e-9), tmp_path).step == 0
    assert saved(tmp_path)["meta"]["step"] == 0
    assert "as --max-hours 1e-09 says" in capsys.readouterr().out
    with monkeypatch.context() as stopping:
        stop_after(stopping, 8)
        with pytest.raises(Interrupted, match="saved step") as stopped:
            jcl.fit(EVERYTHING, tmp_path, resume="auto")
        assert stopped.value.exit_code == 143  # 128 and the signal's number
    reached = saved(tmp_path)["meta"]["step"]
    assert 0 < reached < 7
    few = training(EVERYTHING, max_steps=7)
    for step in (reached + 7, 12, 12):
        result = jcl.fit(few, tmp_path, resume="must")
        assert (result.step, result.finished) == (step, step == 12)
    said = capsys.readouterr().out
    assert f"stopping at step {reached + 7} of 12, as --max-steps 7 says; go on with" in said
    assert "finished already" in said
    assert_same_run(whole, tmp_path)
    assert saved(whole)["meta"]["plateau"]["scale"] < 1  # it was worth counting


def test_other_data_in_the_place_of_the_runs_own_are_refused(tmp_path: Path) -> None:
    values = np.random.default_rng(0).random((40, 8, 8), np.float32)
    data = dataclasses.replace(SMALL.data, dataset="array", data=str(tmp_path / "d.npy"))
    config = dataclasses.replace(SMALL, data=data)
    np.save(tmp_path / "d.npy", values)
    jcl.fit(config, tmp_path / "run")
    more = training(config, epochs=2)
    np.save(tmp_path / "d.npy", values[::-1])
    with pytest.raises(jcl.CheckpointError, match=r"have changed since step 2 .*other values"):
        jcl.fit(more, tmp_path / "run", resume="must")
    np.save(tmp_path / "d.npy", values)
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

    jcl.fit(SMALL, tmp_path, data=Drawn())
    # Drawn once, they are drawn alike; the second draws of one object are others.
    drawn = Drawn()
    drawn[0]
    assert jcl.fit(training(SMALL, epochs=2), tmp_path, resume="must", data=drawn).step == 4
    assert "they hold other values" in capsys.readouterr().out


@pytest.mark.slow
def test_early_stopping_ends_a_run_for_good_or_until_patience_grows(
    whole: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """At the first epoch of the run with everything whose validation loss is no better."""
    losses = [line["loss"] for line in records(whole) if line["split"] == "val"]
    worse = next(n for n in range(1, 6) if losses[n] >= min(losses[:n]))
    assert worse < 5
    impatient = training(EVERYTHING, early_stopping=1)
    validated: list[Any] = []
    validate = Validation.run

    def run(self: Validation, variables: Any, *arguments: Any) -> float | None:
        validated.append(jax.device_get(variables))
        return validate(self, variables, *arguments)

    monkeypatch.setattr(Validation, "run", run)
    result = jcl.fit(impatient, tmp_path)
    assert result.step == 2 * (worse + 1)
    # The averaged weights are those that are validated, saved, and loaded if they are the best.
    jax.tree.map(np.testing.assert_array_equal, validated[-1], saved(tmp_path)["variables"])
    best = int(np.argmin(losses[: worse + 1]))
    assert result.best == (losses[best], 2 * (best + 1))
    loaded = jcl.load(tmp_path)
    assert loaded.step == result.best[1] < result.step
    jax.tree.map(np.testing.assert_array_equal, loaded.variables, validated[best])
    assert "training ends early" in capsys.readouterr().out
    assert jcl.fit(impatient, tmp_path, resume="must").step == result.step
    assert "finished already" in capsys.readouterr().out
    assert jcl.fit(training(EVERYTHING, early_stopping=12), tmp_path, resume="must").step == 12
    assert "going on with --early-stopping 12, was 1" in capsys.readouterr().out


def test_a_run_can_start_from_the_weights_of_another(whole: Path, tmp_path: Path) -> None:
    config = training(EVERYTHING, init_from=str(whole), max_hours=1e-9)
    assert jcl.fit(config, tmp_path / "second").step == 0
    jax.tree.map(
        np.testing.assert_array_equal,
        jcl.load(whole).variables,
        jcl.load(tmp_path / "second").variables,
    )
    on = training(EVERYTHING, init_from=str(whole), max_steps=1)
    assert jcl.fit(on, tmp_path / "second", resume="must").step == 1
    other = dataclasses.replace(config, model=dataclasses.replace(config.model, features=(5,)))
    with pytest.raises(jcl.CheckpointError, match="expected float32"):
        jcl.fit(other, tmp_path / "third")
