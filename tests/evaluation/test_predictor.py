"""What research code gets from a run folder."""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxconvlstm as jcl
from jaxconvlstm.config.data import DataConfig
from jaxconvlstm.config.model import ModelConfig
from jaxconvlstm.config.run import Config
from jaxconvlstm.config.training import TrainingConfig


def clip(*shape: int) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 255, (*shape, 3), np.uint8)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> jcl.Predictor:
    """Trained on uint8 colour frames for two steps."""
    folder = tmp_path_factory.mktemp("run")
    config = Config(
        DataConfig(input_frames=3, target_frames=2),
        ModelConfig(features=(4, 5), downsample=4, output="change"),
        TrainingConfig(epochs=1, steps_per_epoch=2, batch_size=2, sample_every=0),
    )
    jcl.fit(config, folder, data=clip(1, 24, 12, 16))
    return jcl.load(folder)


def test_prediction_is_the_modules_own(model: jcl.Predictor) -> None:
    frames = clip(3, 12, 16)
    apply = jax.jit(lambda inputs: model.module.apply(model.variables, inputs, steps=4))
    scaled = apply(jnp.asarray(frames[None], jnp.float32) / 255)
    expected = np.clip(np.rint(np.asarray(scaled[0], np.float64) * 255), 0, 255).astype(np.uint8)
    np.testing.assert_array_equal(model.predict(frames, steps=4), expected)


@pytest.mark.parametrize(
    "time, size, steps",
    [(1, (12, 16), 1), (2, (13, 17), 7), (9, (5, 3), 3), (1, (40, 24), 2)],
)
def test_any_size_any_length(
    model: jcl.Predictor, time: int, size: tuple[int, int], steps: int
) -> None:
    future = model.predict(clip(time, *size), steps=steps)
    assert future.shape == (steps, *size, 3) and future.dtype == np.uint8


def test_a_batch_is_predicted_row_by_row(model: jcl.Predictor) -> None:
    frames = clip(2, 3, 12, 16)
    together = model.predict(frames.astype(np.float32), steps=4)
    for row in range(2):
        alone = model.predict(frames[row].astype(np.float32), steps=4)
        np.testing.assert_allclose(together[row], alone, atol=1e-3)  # of 255


def test_floats_are_in_the_data_s_own_units(model: jcl.Predictor) -> None:
    frames = clip(3, 12, 16)
    floats = model.predict(frames.astype(np.float64), steps=4)
    assert floats.dtype == np.float64
    whole = model.predict(frames, steps=4)
    np.testing.assert_allclose(np.clip(np.rint(floats), 0, 255), whole, atol=1)


def test_a_stream_is_the_prediction_frame_by_frame(model: jcl.Predictor) -> None:
    frames = clip(3, 13, 16)
    # Of floats nothing is rounded: after two steps of training little changes from frame to frame.
    for dtype, tolerance in ((np.uint8, 1), (np.float32, 1e-3)):
        stream = model.stream(frames.astype(dtype))
        streamed = np.stack([next(stream) for _ in range(5)])
        expected = model.predict(frames.astype(dtype), steps=5)
        assert streamed.dtype == expected.dtype == dtype
        np.testing.assert_allclose(
            streamed.astype(float), expected.astype(float), rtol=0, atol=tolerance
        )


def test_a_tile_smaller_than_the_frames_is_predicted_by_itself(model: jcl.Predictor) -> None:
    """So that a prediction in tiles is near that of whole frames, and not the same."""
    frames = clip(1, 40, 24).astype(np.float32)
    whole, tiled = (model.predict(frames, steps=2, tile=tile) for tile in (None, (24, 24)))
    assert 0 < np.abs(tiled - whole).max() < 5  # of 255


@pytest.mark.parametrize(
    "frames, message",
    [
        (np.zeros((3, 12, 16, 1), np.uint8), "trained on 3 channels, got 1"),
        (np.zeros((3, 12, 16), np.uint8), "expected"),
        (np.zeros((0, 12, 16, 3), np.uint8), "at least one frame"),
        (np.zeros((3, 12, 16, 3), np.uint16), "trained on uint8, got uint16"),
    ],
)
def test_what_does_not_fit_is_said(model: jcl.Predictor, frames: np.ndarray, message: str) -> None:
    with pytest.raises(jcl.ConfigError, match=message):
        model.predict(frames, steps=2)


def test_steps_start_at_one(model: jcl.Predictor) -> None:
    with pytest.raises(jcl.ConfigError, match="steps"):
        model.predict(clip(3, 12, 16), steps=0)


def test_the_flax_parts_are_there(model: jcl.Predictor) -> None:
    assert set(model.variables) == {"params"}
    assert isinstance(model.module, jcl.FramePredictor)
    assert model.config.model.features == (4, 5)


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    for place in (tmp_path / "none", tmp_path):
        with pytest.raises(jcl.CheckpointError, match="run folder"):
            jcl.load(place)


def test_black_and_white_is_asked_for_where_that_was_learned(model: jcl.Predictor) -> None:
    data = dataclasses.replace(model.config.data, threshold=128.0)
    config = dataclasses.replace(model.config, data=data)
    values = dataclasses.replace(model.values, high=1.0)
    strict = jcl.Predictor(model.module, model.variables, config, values, model.channels)
    frames = clip(3, 12, 16)
    with pytest.raises(jcl.ConfigError, match=r"trained on 0 and 1 \(--threshold 128\)"):
        strict.predict(frames)
    future = strict.predict((frames >= 128).astype(frames.dtype))
    assert future.dtype == np.uint8 and future.max() <= 1


def test_what_is_masked_is_missing_or_refused(model: jcl.Predictor) -> None:
    frames = clip(2, 12, 16).astype(np.float32)
    masked = np.ma.masked_equal(frames, frames[0, 3, 4, 1])
    assert np.ma.is_masked(masked)
    with pytest.raises(jcl.ConfigError, match="some are masked"):
        model.predict(masked)
    for values, filled in (
        (dataclasses.replace(model.values, missing=-1.0), -1.0),
        (dataclasses.replace(model.values, nan=True), np.nan),
    ):
        knows = model.with_values(values)
        expected = knows.predict(np.ma.filled(masked, filled))
        np.testing.assert_array_equal(knows.predict(masked), expected)
        assert (expected != model.predict(frames)).any()


@pytest.mark.parametrize(
    "options, match",
    [
        (dict(steps=1.5), "steps: expected a whole number"),
        (dict(steps=True), "steps: expected a whole number"),
        (dict(steps=0), "steps: expected a whole number"),
        (dict(tile=(0, 0)), "tile: expected a whole number"),
        (dict(tile=8), "tile: expected"),
        (dict(frames=np.full((2, 12, 16, 3), 1e300)), "too large for float32"),
    ],
)
def test_arguments_that_cannot_work_are_refused(
    model: jcl.Predictor, options: dict[str, Any], match: str
) -> None:
    with pytest.raises(jcl.ConfigError, match=match):
        model.predict(**dict(frames=clip(2, 12, 16)) | options)
