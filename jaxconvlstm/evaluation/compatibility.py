"""Whether data are those, or like those, that a model was trained on."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jaxconvlstm.checks import plural
from jaxconvlstm.config.run import DataConfig
from jaxconvlstm.errors import DataError
from jaxconvlstm.scale import Values


def is_same_data(data: DataConfig, own: DataConfig) -> bool:
    """Whether these are the data that the model was trained on."""
    places = {
        None if config.data is None else Path(config.data).resolve() for config in (data, own)
    }
    return data.dataset == own.dataset and len(places) == 1 and data.variable == own.variable


def values_for(values: Values, data: DataConfig, own: DataConfig) -> Values:
    """The scale that the model was trained with, but for what the flags change."""
    if data.value_range is not None and data.value_range != own.value_range:
        low, high = data.value_range
        values = dataclasses.replace(values, low=low, high=high)
    if data.threshold is not None and own.threshold is None:
        values = dataclasses.replace(values, low=0.0, high=1.0)
    return dataclasses.replace(
        values,
        missing=data.missing_value,
        nan=values.nan or data.nan == "mask",
        unit=data.unit or values.unit,
    )


def check_like(
    model: Any, dtype: Any, frame_shape: Sequence[int], data: DataConfig, own: DataConfig
) -> None:
    """Raises `DataError` unless the data are of the kind that the model was trained on.

    Args:
      model: a `Predictor` or `Classifier`.
      dtype, frame_shape: of the data's frames, `(height, width, channels)`.
      data, own: where they come from, and what it was trained on.
    """
    place, trained, channels = data.data or data.dataset, model.values, frame_shape[-1]
    if channels != model.channels:
        wanted = plural(model.channels, "channel")
        hint = f"; --channels {model.channels} reads them so" if channels in (1, 3) else ""
        raise DataError(f"{place}: trained on {wanted}, got {channels}{hint}")
    if model.frame_size not in (None, tuple(frame_shape[:2])):
        made, got = ("x".join(map(str, size)) for size in (model.frame_size, frame_shape[:2]))
        height, width = model.frame_size
        raise DataError(
            f"{place}: the network is made for {made}, got {got}; --size {height} {width} resizes"
        )
    if dtype.name != trained.dtype and data.value_range in (None, own.value_range):
        raise DataError(
            f"{place}: trained on {trained.dtype} from {trained.low:g} to {trained.high:g}, "
            f"got {dtype.name}; --value-range LO HI says what becomes 0 and 1"
        )
