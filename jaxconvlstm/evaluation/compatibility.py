"""Compatibility of a model with data: are they those, or like those, that it was trained on?"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from jaxconvlstm.checks import plural
from jaxconvlstm.config.data import DataConfig
from jaxconvlstm.errors import DataError
from jaxconvlstm.evaluation.trained_model import TrainedModel
from jaxconvlstm.scale import Values


def is_same_data(data: DataConfig, trained_on: DataConfig) -> bool:
    """Whether `data` are read from the place, and the array, that the model was trained on."""
    there, before = (
        (config.dataset, config.data is not None and Path(config.data).resolve(), config.variable)
        for config in (data, trained_on)
    )
    return there == before


def override_values(values: Values, data: DataConfig, trained_on: DataConfig) -> Values:
    """Replaces what flags change of a scale: range, missing values, unit.

    Args:
      values: the scale that the model was trained with.
      data: the data to be read.
      trained_on: the data that the model was trained on.
    """
    if data.value_range is not None and data.value_range != trained_on.value_range:
        low, high = data.value_range
        values = dataclasses.replace(values, low=low, high=high)
    if data.threshold is not None and trained_on.threshold is None:
        # Values that have been through a threshold are 0 and 1.
        values = dataclasses.replace(values, low=0.0, high=1.0)
    return dataclasses.replace(
        values,
        missing=data.missing_value,
        nan=values.nan or data.nan == "mask",
        unit=data.unit or values.unit,
    )


def check_compatible(
    model: TrainedModel,
    dtype: np.dtype,
    frame_shape: Sequence[int],
    data: DataConfig,
    trained_on: DataConfig,
) -> None:
    """Checks that frames are of the kind that a model was trained on.

    Args:
      model: a `Predictor` or `Classifier`.
      dtype, frame_shape: of the frames; `(height, width, channels)`.
      data: where the frames come from.
      trained_on: the data that the model was trained on.

    Raises:
      DataError: other channels, another size where the network is made for one, or another dtype
        without a value range that says what its values mean.
    """
    place, scale, channels = data.data or data.dataset, model.values, frame_shape[-1]
    if channels != model.channels:
        wanted = plural(model.channels, "channel")
        hint = f"; --channels {model.channels} reads them so" if channels in (1, 3) else ""
        raise DataError(f"{place}: trained on {wanted}, got {channels}{hint}")
    if model.frame_size is not None and model.frame_size != tuple(frame_shape[:2]):
        made, got = ("x".join(map(str, size)) for size in (model.frame_size, frame_shape[:2]))
        height, width = model.frame_size
        raise DataError(
            f"{place}: the network is made for {made}, got {got}; --size {height} {width} resizes"
        )
    if dtype.name != scale.dtype and data.value_range in (None, trained_on.value_range):
        raise DataError(
            f"{place}: trained on {scale.dtype} from {scale.low:g} to {scale.high:g}, "
            f"got {dtype.name}; --value-range LO HI says what becomes 0 and 1"
        )
