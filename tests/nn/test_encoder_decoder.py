"""The borders of a picture, and its last squashing."""

import jax
import jax.numpy as jnp
import numpy as np
import reference
from numerics import normal

from jaxconvlstm.nn.encoder_decoder import limited_sigmoid, pad_to_multiple


def test_sides_are_padded_with_the_edge_below_and_right() -> None:
    frames = normal(0, 2, 4, 5, 1)
    for multiple in (1, 3):
        widths = ((0, 0), (0, -4 % multiple), (0, -5 % multiple), (0, 0))
        expected = np.pad(np.asarray(frames), widths, mode="edge")
        np.testing.assert_array_equal(pad_to_multiple(frames, multiple), expected)


def test_limited_sigmoid_is_the_sigmoid_and_never_stops_learning() -> None:
    logits = np.array([-1e4, -20.0, -3.0, 0.0, 14.0, 20.0, 1e4], np.float32)
    values, slopes = jax.jit(jax.vmap(jax.value_and_grad(limited_sigmoid)))(jnp.asarray(logits))
    np.testing.assert_allclose(values, reference.sigmoid(np.clip(logits, -15, 15)), rtol=1e-4)
    assert bool(((values > 0) & (values < 1) & (slopes > 0)).all())
