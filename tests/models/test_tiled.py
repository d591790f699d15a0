"""Overlapping tiles: cover every pixel, leave no seam, and see nothing beyond themselves."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxconvlstm.config.model import ModelConfig
from jaxconvlstm.evaluation.evaluate import fitting_batch
from jaxconvlstm.models import build
from jaxconvlstm.models.tiled import predict_tiled


@pytest.mark.parametrize("size", [(40, 56), (16, 57), (17, 16), (5, 70)])
def test_what_is_the_same_everywhere_is_exact(size) -> None:
    frames = jax.random.normal(jax.random.key(0), (2, 3, *size, 2))

    def predict(inputs):
        return jnp.stack([inputs[:, -1] * 2, inputs[:, 0] + 1], axis=1)

    tiled = jax.jit(lambda x: predict_tiled(predict, x, (16, 20)))(frames)
    np.testing.assert_allclose(tiled, predict(frames), atol=1e-5)


def test_tiles_are_no_larger_than_asked() -> None:
    sizes = []

    def predict(inputs):
        sizes.append(inputs.shape[2:4])
        return inputs

    predict_tiled(predict, jnp.zeros((1, 2, 100, 30, 1)), (32, 48))
    assert set(sizes) == {(32, 30)}


def test_a_model_predicts_in_tiles_nearly_as_on_whole_frames() -> None:
    """Far from the edges of tiles nothing differs; the blend hides the rest."""
    config = ModelConfig(features=(4,), layers=1, downsample=2, output="frame")
    module = build(config, 1)
    rows, columns = jnp.meshgrid(jnp.arange(64.0), jnp.arange(64.0), indexing="ij")
    clip = jnp.stack([jnp.sin((rows + columns + time) / 6) for time in range(4)])[None, ..., None]
    variables = module.init(jax.random.key(1), clip)

    def predict(inputs):
        return module.apply(variables, inputs, steps=2)

    whole = predict(clip)
    tiled = predict_tiled(predict, clip, (48, 48))
    assert tiled.shape == whole.shape
    spread = float(jnp.std(whole))
    assert float(jnp.abs(tiled - whole)[:, :, 8:-8, 8:-8].max()) < spread
    assert float(jnp.abs(tiled - whole).mean()) < 0.05 * spread


def test_large_frames_are_evaluated_fewer_at_once() -> None:
    assert fitting_batch(8, (128, 128, 3)) == 8
    assert fitting_batch(8, (1226, 760, 1)) == 2
    assert fitting_batch(8, (9000, 9000, 1)) == 1
