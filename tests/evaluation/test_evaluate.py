"""Sums over the batches of an evaluation, and how they are printed; nothing is compiled."""

from typing import Any

import numpy as np
import pytest

from jaxconvlstm.batch import Batch
from jaxconvlstm.config.data import DataConfig
from jaxconvlstm.data.dataset import open_dataset
from jaxconvlstm.errors import DataError
from jaxconvlstm.evaluation.compatibility import check_compatible
from jaxconvlstm.evaluation.evaluate import Forecasts, evaluate
from jaxconvlstm.evaluation.report import print_table
from jaxconvlstm.evaluation.trained_model import TrainedModel
from jaxconvlstm.scale import Values


def test_batches_count_by_their_valid_pixels_and_padding_is_no_window() -> None:
    """Five windows in batches of two; those of the first batch have few valid pixels."""
    config = DataConfig(dataset="array", input_frames=2, target_frames=1)
    windows = open_dataset(config, 0, data=np.zeros((7, 4, 4), np.float32)).windows("all")
    losses, weights = iter([1.0, 2.0, 4.0]), iter([1.0, 8.0, 4.0])

    def eval_step(variables: Any, batch: Batch) -> dict[str, Any]:
        loss, weight = next(losses), next(weights)
        persistence = {"persistence_loss": 10 * loss, "persistence": {}}
        return {"loss": loss, "weight": weight, "model": {}, **persistence}

    sums = evaluate(eval_step, {}, windows, Forecasts(), batch_size=2, threads=1)
    assert sums.count == len(windows) == 5
    assert sums.loss == pytest.approx((1 + 2 * 8 + 4 * 4) / 13)
    assert sums.persistence_loss == pytest.approx(10 * sums.loss)


def test_the_table_counts_lead_times_from_the_first_that_is_scored(
    capsys: pytest.CaptureFixture[str],
) -> None:
    scores = {"mse": [0.25, 0.5]}
    means = {"mse": 0.375}
    result = {"per_lead": {"model": scores, "persistence": scores}}
    print_table({**result, "model": means, "persistence": means}, first_lead=3)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["lead", "3", "4", "mean"]


@pytest.mark.parametrize("channels", [1, 2, 4])
def test_data_of_other_channels_are_refused(channels: int) -> None:
    module: Any = None
    config: Any = None
    model = TrainedModel(module, {}, config, Values.for_dtype(np.uint8), 3)
    data = DataConfig()
    check_compatible(model, np.dtype(np.uint8), (8, 8, 3), data, data)
    with pytest.raises(DataError, match=f"trained on 3 channels, got {channels}"):
        check_compatible(model, np.dtype(np.uint8), (8, 8, channels), data, data)
