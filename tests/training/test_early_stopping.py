"""Patience with a validation loss, against Keras's callbacks on the same losses."""

import itertools
import json
import types
import warnings
from typing import Any

import numpy as np
import pytest

from jaxconvlstm.training.early_stopping import SMALLEST_SCALE, Patience, Plateau

SEQUENCES = {
    "falling": np.linspace(1, 0, 12),
    "rising": np.linspace(0, 1, 12),
    "flat": np.ones(12),
    "one dip": np.array([3, 2, 4, 4, 1, 4, 4, 4, 4, 4, 4, 4.0]),
    "in steps": np.repeat([5.0, 4, 3, 2], 3),
    **{f"random {n}": np.random.default_rng(n).random(40).round(1) for n in range(4)},
}


def test_patience_by_hand() -> None:
    patience = Patience(2)
    assert [patience.update(loss) for loss in (3, 2, 2, 1, 5, 1.5)] == [False] * 5 + [True]
    assert (patience.best, patience.waited, patience.over) == (1.0, 2, True)


def test_plateaus_by_hand() -> None:
    plateau = Plateau(2, factor=0.5)
    losses, scales = (3, 4, 4, 4, 4, 2, 2, 2), [1, 1, 0.5, 0.5, 0.25, 0.25, 0.25, 0.125]
    reduced = []
    for loss, scale in zip(losses, scales, strict=True):
        reduced.append(plateau.update(loss))
        assert plateau.scale == scale and not plateau.over
    assert np.flatnonzero(reduced).tolist() == [2, 4, 7]


def keras() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its own, at the first import
        import keras
    return keras


@pytest.mark.parametrize("name", SEQUENCES)
@pytest.mark.parametrize("epochs", [1, 2, 5])
def test_training_ends_when_keras_ends_it(name: str, epochs: int) -> None:
    callback = keras().callbacks.EarlyStopping("val_loss", patience=epochs, mode="min")
    model = types.SimpleNamespace(stop_training=False)
    callback.set_model(model)
    callback.on_train_begin()
    patience = Patience(epochs)
    for epoch, loss in enumerate(SEQUENCES[name]):
        callback.on_epoch_end(epoch, {"val_loss": loss})
        assert patience.update(loss) == model.stop_training
        if model.stop_training:
            break


@pytest.mark.parametrize("name", SEQUENCES)
@pytest.mark.parametrize("epochs, factor", [(1, 0.1), (2, 0.5), (5, 0.1)])
def test_the_rate_is_reduced_when_keras_reduces_it(name: str, epochs: int, factor: float) -> None:
    callback = keras().callbacks.ReduceLROnPlateau(
        "val_loss", factor, epochs, mode="min", min_delta=0, cooldown=0, min_lr=SMALLEST_SCALE
    )
    model = types.SimpleNamespace(optimizer=types.SimpleNamespace(learning_rate=np.array(1.0)))
    callback.set_model(model)
    callback.on_train_begin()
    plateau = Plateau(epochs, factor=factor)
    for epoch, loss in enumerate(SEQUENCES[name]):
        before = float(model.optimizer.learning_rate)
        callback.on_epoch_end(epoch, {"val_loss": loss})
        after = float(model.optimizer.learning_rate)
        assert plateau.update(loss) == (after < before * 0.999)
        assert plateau.scale == pytest.approx(after)


def test_the_rate_is_never_reduced_below_its_floor() -> None:
    plateau = Plateau(1, factor=0.1)
    reduced = [plateau.update(1.0) for _ in range(20)]
    assert plateau.scale == pytest.approx(SMALLEST_SCALE)
    assert reduced == [False, *[True] * 4, *[False] * 15]


def test_a_nan_loss_is_no_improvement() -> None:
    patience = Patience(2)
    assert [patience.update(loss) for loss in (1, float("nan"), float("nan"))][-1]
    assert patience.best == 1
    first = Patience(2)
    first.update(float("nan"))
    assert first.best is None and not first.update(7.0)
    assert first.best == 7 and first.waited == 0


@pytest.mark.parametrize("fresh", [Patience(2), Plateau(2, factor=0.5)])
def test_a_resumed_count_goes_on_as_if_it_had_never_stopped(fresh: Patience) -> None:
    losses = SEQUENCES["random 0"]
    for pause in range(len(losses)):
        counters = [fresh.restored({}), fresh.restored({})]
        for counter, loss in itertools.product(counters, losses[:pause]):
            counter.update(loss)
        whole, stopped = counters
        resumed = fresh.restored(json.loads(json.dumps(stopped.to_json(), allow_nan=False)))
        for loss in losses[pause:]:
            assert whole.update(loss) == resumed.update(loss)
            assert whole == resumed


def test_a_resumed_count_takes_the_new_settings() -> None:
    plateau = Plateau(1, factor=0.5)
    for _ in range(3):
        plateau.update(1.0)
    other = Plateau(3, factor=0.1).restored(plateau.to_json())
    assert (other.patience, other.factor, other.scale, other.best) == (3, 0.1, 0.25, 1.0)
