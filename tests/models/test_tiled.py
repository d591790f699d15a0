"""Overlapping tiles: cover every pixel, leave no seam, and see nothing beyond themselves."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxconvlstm.config.model import ModelConfig
from jaxconvlstm.evaluation.evaluate import fitting_batch
from jaxconvlstm.models import build
from jaxconvlstm.models.tiled import predict_tiled


@pytest.mark.parametrize("size", [(40, 56), (16, 57), (17, 16), (5, 70)])
def test_predictions_that_depend_on_one_pixel_are_exact(size) -> None:
    frames = np.random.default_rng(0).normal(size=(2, 3, *size, 2)).astype(np.float32)

    def predict(inputs):
        return jnp.stack([inputs[:, -1] * 2, inputs[:, 0] + 1], axis=1)

    tiled = jax.jit(lambda x: predict_tiled(predict, x, (16, 20)))(frames)
    expected = np.stack([frames[:, -1] * 2, frames[:, 0] + 1], axis=1)
    np.testing.assert_allclose(tiled, expected, atol=1e-5)


def test_tiles_are_no_larger_than_asked() -> None:
    sizes = []

    def predict(inputs):
        sizes.append(inputs.shape[2:4])
        return inputs

    tiled = partial(predict_tiled, predict, tile=(32, 48))
    jax.eval_shape(tiled, jnp.zeros((1, 2, 100, 30, 1)))
    assert set(sizes) == {(32, 30)}


def test_a_model_predicts_in_tiles_nearly_as_on_whole_frames() -> None:
    """Far from the edges of tiles nothing differs; the blend hides the rest."""
    config = ModelConfig(features=(4,), layers=1, downsample=2, output="frame")
    module = build(config, 1)
    rows, columns = jnp.meshgrid(jnp.arange(64.0), jnp.arange(64.0), indexing="ij")
    clip = jnp.stack([jnp.sin((rows + columns + time) / 6) for time in range(4)])[None, ..., None]

    @jax.jit
    def both(clip):
        variables = module.init(jax.random.key(1), clip)
        predict = partial(module.apply, variables, steps=2)
        return predict(clip), predict_tiled(predict, clip, (48, 48))

    whole, tiled = both(clip)
    assert tiled.shape == whole.shape
    spread = float(jnp.std(whole))
    assert float(jnp.abs(tiled - whole)[:, :, 8:-8, 8:-8].max()) < spread
    assert float(jnp.abs(tiled - whole).mean()) < 0.05 * spread


def test_large_frames_are_evaluated_fewer_at_once() -> None:
    assert fitting_batch(8, (128, 128, 3)) == 8
    assert fitting_batch(8, (1226, 760, 1)) == 2
    assert fitting_batch(8, (9000, 9000, 1)) == 1
