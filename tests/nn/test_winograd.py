"""Convolution by fewer products is convolution, to within the rounding of a plain sum."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
from jax import lax

from jaxconvlstm.nn import blocking, winograd
from jaxconvlstm.nn.conv import same_padding

TAPS = [1, 2, 3, 4, 5, 6, 7]
PADDINGS = [((0, 0), (0, 0)), ((2, 1), (0, 2)), ((1, 1), (2, 2))]


def normal(seed: int, *shape: int) -> jax.Array:
    values = np.random.default_rng(seed).normal(size=shape)
    return jnp.asarray(values, jax.dtypes.canonicalize_dtype(np.float64))


def plain(inputs: jax.Array, kernel: jax.Array, padding: Any) -> jax.Array:
    return lax.conv_general_dilated(
        inputs, kernel, (1, 1), padding, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def assert_plain(inputs: jax.Array, kernel: jax.Array, padding: Any) -> None:
    """Outputs and both gradients are those of the plain convolution."""
    outputs, backward = jax.vjp(lambda x, w: plain(x, w, padding), inputs, kernel)
    cotangent = normal(2, *outputs.shape)
    expected = outputs, *backward(cotangent)
    actual = (
        winograd.convolve(inputs, kernel, padding),
        winograd.inputs_gradient(cotangent, kernel, padding, inputs.shape[1:3]),
        winograd.kernel_gradient(inputs, cotangent, kernel.shape[:2], padding),
    )
    for ours, theirs in zip(actual, expected):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-11)


@pytest.mark.parametrize("tile", [2, 4])
@pytest.mark.parametrize("taps", [2, 3, 4, 5])
def test_the_matrices_filter_a_tile(taps: int, tile: int) -> None:
    a, b, g = winograd.matrices(tile, taps)
    generator = np.random.default_rng(0)
    seen, kernel = generator.normal(size=tile + taps - 1), generator.normal(size=taps)
    pixels = a.T @ ((g @ kernel) * (b @ seen))
    np.testing.assert_allclose(pixels, np.correlate(seen, kernel, "valid"), atol=1e-13)


@pytest.fixture(params=["tiles", "one product"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways, whichever would take less work."""
    work = 0 if request.param == "tiles" else 10**9
    monkeypatch.setattr(winograd, "_KERNEL_WORK", work)


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("width", [1, 2, 3, 4, 5, 8, 11])
@pytest.mark.parametrize("taps", [1, 2, 3, 5, 9])
def test_rows_of_any_length_are_convolved(taps: int, width: int, float64: None) -> None:
    inputs, kernel = normal(0, 2, 4, width, 13), normal(1, 3, taps, 13, 14)
    outputs = winograd.convolve(inputs, kernel, same_padding((3, taps)))
    expected = reference.convolve(np.asarray(inputs), np.asarray(kernel))
    np.testing.assert_allclose(outputs, expected, rtol=0, atol=1e-11)


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("padding", PADDINGS, ids=str)
@pytest.mark.parametrize(("channels", "features"), [(3, 13), (13, 3), (2, 2), (13, 14)])
def test_gradients_are_those_of_the_plain_convolution(
    channels: int, features: int, padding: Any, float64: None
) -> None:
    inputs, kernel = normal(0, 2, 6, 7, channels), normal(1, 3, 4, channels, features)
    assert_plain(inputs, kernel, padding)


def test_little_work_is_chosen() -> None:
    assert winograd._tile(64, 5, (1, 64, 64)) == 4
    assert winograd._tile(64, 3, (16, 16, 2)) == 2
    assert winograd._tile(64, 3, (1, 4, 4)) == 0  # fewer pixels than it takes to read the kernel
    assert winograd._tile(3, 5, (1, 64, 64)) == 0
    assert winograd._tile(64, 1, (1, 64, 64)) == 0


@pytest.mark.parametrize("taps", TAPS)
def test_float32_rounds_hardly_more_than_a_plain_sum(taps: int) -> None:
    size, channels, features = (taps, taps), 64, 48
    generator = np.random.default_rng(taps)
    inputs = generator.normal(size=(1, 16, 16, channels))
    kernel = generator.normal(size=(*size, channels, features)) / (taps * channels**0.5)
    cotangent = generator.normal(size=(1, 16, 16, features)) / features**0.5
    padding = same_padding(size)

    def results(convolution: Any, dtype: Any) -> list[np.ndarray]:
        arrays = (jnp.asarray(array, dtype) for array in (inputs, kernel, cotangent))
        return [np.asarray(result, np.float64) for result in jax.jit(convolution)(*arrays)]

    def by_products(inputs: jax.Array, kernel: jax.Array, cotangent: jax.Array) -> Any:
        return (
            winograd.convolve(inputs, kernel, padding),
            winograd.inputs_gradient(cotangent, kernel, padding, (16, 16)),
            winograd.kernel_gradient(inputs, cotangent, size, padding),
        )

    def plainly(inputs: jax.Array, kernel: jax.Array, cotangent: jax.Array) -> Any:
        outputs, backward = jax.vjp(lambda x, w: plain(x, w, padding), inputs, kernel)
        return outputs, *backward(cotangent)

    with jax.enable_x64(True):
        exact = results(plainly, jnp.float64)
    for ours, theirs, truth in zip(
        results(by_products, jnp.float32), results(plainly, jnp.float32), exact
    ):
        error, usual = (np.sqrt(np.mean((array - truth) ** 2)) for array in (ours, theirs))
        assert error < 6 * usual
        np.testing.assert_allclose(ours, truth, rtol=0, atol=1e-5 * np.abs(truth).max())


@pytest.mark.parametrize("pixels", [1, 12, 30, 100, 150, 10**6])
@pytest.mark.parametrize("padding", PADDINGS, ids=str)
def test_pieces_make_up_the_whole(
    pixels: int, padding: Any, float64: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocking, "PIXELS", pixels)
    monkeypatch.setattr(winograd, "_KERNEL_WORK", 0)  # tiles, however little work there is
    inputs, kernel = normal(0, 5, 7, 5, 13), normal(1, 3, 3, 13, 14)
    assert_plain(inputs, kernel, padding)


def test_pieces_are_whole_maps_or_rows_of_one() -> None:
    maps = blocking.Blocks.of((6, 16, 64), 3)
    assert (maps.images, maps.rows, maps.image_blocks, maps.row_blocks) == (3, 16, 2, 1)
    rows = blocking.Blocks.of((2, 100, 128), 5)
    assert (rows.images, rows.rows, rows.image_blocks, rows.row_blocks) == (1, 25, 2, 4)
    assert rows.rows * 128 <= blocking.PIXELS
    prime = blocking.Blocks.of((17, 16, 16), 3)
    assert (prime.images, prime.rows, prime.image_blocks, prime.row_blocks) == (9, 16, 2, 1)
