"""Convolution by fewer products is convolution, to within the rounding of a plain sum."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
from numerics import assert_trees_close, normal

from jaxconvlstm.nn import blocking, convolution, winograd
from jaxconvlstm.nn.convolution import same_padding

WIDTHS = [1, 2, 3, 4, 5, 8, 11]


def plain(inputs: jax.Array, kernel: jax.Array, cotangent: jax.Array, padding: Any) -> Any:
    """Output and both gradients of the library's convolution."""
    outputs, backward = jax.vjp(
        partial(convolution._by_library, role="outputs", padding=padding, size=None), inputs, kernel
    )
    return outputs, *backward(cotangent)


def by_products(inputs: jax.Array, kernel: jax.Array, cotangent: jax.Array, padding: Any) -> Any:
    """Those of few products."""
    return (
        winograd.convolve(inputs, kernel, padding),
        winograd.inputs_gradient(cotangent, kernel, padding, inputs.shape[1:3]),
        winograd.kernel_gradient(inputs, cotangent, kernel.shape[:2], padding),
    )


def test_the_matrices_filter_a_tile() -> None:
    generator = np.random.default_rng(0)
    for taps in (2, 3, 4, 5):
        for tile in (2, 4):
            a, b, g = winograd.matrices(tile, taps)
            seen, kernel = generator.normal(size=tile + taps - 1), generator.normal(size=taps)
            pixels = a.T @ ((g @ kernel) * (b @ seen))
            np.testing.assert_allclose(pixels, np.correlate(seen, kernel, "valid"), atol=1e-13)


@pytest.mark.parametrize(
    ("work", "taps"), [(0, 2), (0, 3), (0, 5), (10**9, 1), (10**9, 3), (10**9, 9)]
)
def test_rows_of_any_length_are_convolved_in_tiles_or_one_product(
    taps: int, work: int, float64: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tiles where reading the kernel costs nothing, one product where it costs too much."""
    monkeypatch.setattr(winograd, "_KERNEL_WORK", work)
    rows, kernel = [normal(0, 2, 4, width, 13) for width in WIDTHS], normal(1, 3, taps, 13, 14)
    convolve_all = jax.jit(
        lambda rows, kernel: [winograd.convolve(x, kernel, same_padding((3, taps))) for x in rows]
    )
    for inputs, outputs in zip(rows, convolve_all(rows, kernel)):
        expected = reference.convolve(np.asarray(inputs), np.asarray(kernel))
        np.testing.assert_allclose(outputs, expected, rtol=0, atol=1e-11)


def test_little_work_is_chosen() -> None:
    assert winograd._tile(64, 5, (1, 64, 64)) == 4
    assert winograd._tile(64, 3, (16, 16, 2)) == 2
    assert winograd._tile(64, 3, (1, 4, 4)) == 0  # fewer pixels than it takes to read the kernel
    assert winograd._tile(3, 5, (1, 64, 64)) == 0
    assert winograd._tile(64, 1, (1, 64, 64)) == 0


@pytest.mark.parametrize("taps", [1, 2, 3, 4, 5, 6, 7])
def test_float32_rounds_hardly_more_than_a_plain_sum(taps: int) -> None:
    size, channels, features = (3, taps), 64, 48
    generator = np.random.default_rng(taps)
    arrays = (
        generator.normal(size=(1, 16, 16, channels)),
        generator.normal(size=(*size, channels, features)) / (3 * taps * channels) ** 0.5,
        generator.normal(size=(1, 16, 16, features)) / features**0.5,
    )
    ways = jax.jit(lambda *arrays: [f(*arrays, same_padding(size)) for f in (by_products, plain)])
    with jax.enable_x64(True):
        exact = jax.jit(lambda *arrays: plain(*arrays, same_padding(size)))(*arrays)
    narrow = (jnp.asarray(array, jnp.float32) for array in arrays)
    for ours, theirs, truth in zip(*jax.device_get(ways(*narrow)), map(np.asarray, exact)):
        error, usual = (np.sqrt(np.mean((array - truth) ** 2)) for array in (ours, theirs))
        assert error < 6 * usual
        np.testing.assert_allclose(ours, truth, rtol=0, atol=1e-5 * np.abs(truth).max())


@pytest.mark.parametrize("pixels", [1, 12, 30, 100, 150, 10**6])
def test_blocks_make_up_the_whole(
    pixels: int, float64: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocking, "PIXELS", pixels)
    monkeypatch.setattr(winograd, "_KERNEL_WORK", 0)  # tiles, however little work there is
    padding = (((2, 1), (0, 2)), ((0, 0), (0, 0)))[pixels == 30]
    inputs, kernel = normal(0, 5, 7, 5, 13), normal(1, 3, 3, 13, 14)
    height, width = winograd.output_size((7, 5), (3, 3), padding)
    both = jax.jit(lambda *arrays: [f(*arrays, padding) for f in (by_products, plain)])
    assert_trees_close(*both(inputs, kernel, normal(2, 5, height, width, 14)), 1e-11)


def test_a_block_is_whole_maps_or_rows_of_one() -> None:
    maps = blocking.Blocks.of((6, 16, 64), 3)
    assert (maps.images, maps.rows, maps.image_blocks, maps.row_blocks) == (3, 16, 2, 1)
    rows = blocking.Blocks.of((2, 100, 128), 5)
    assert (rows.images, rows.rows, rows.image_blocks, rows.row_blocks) == (1, 25, 2, 4)
    assert rows.rows * 128 <= blocking.PIXELS
    prime = blocking.Blocks.of((17, 16, 16), 3)
    assert (prime.images, prime.rows, prime.image_blocks, prime.row_blocks) == (9, 16, 2, 1)
