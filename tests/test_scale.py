"""Raw values to the network's scale and back: without loss, per channel, around what is missing."""

import itertools
import json

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from jaxconvlstm.errors import DataError
from jaxconvlstm.scale import Values

numbers = st.floats(-1e6, 1e6, width=32)


def test_every_integer_comes_back_exactly() -> None:
    for dtype, log in itertools.product(["uint8", "int8", "uint16", "int16"], [False, True]):
        limits = np.iinfo(dtype)
        every = np.arange(limits.min, limits.max + 1).astype(dtype)
        values = Values(limits.min, limits.max, dtype, log=log)
        back = values.inverse(values.scale(every))
        assert back.dtype == dtype
        np.testing.assert_array_equal(back, every)


@given(
    arrays.arrays(np.float32, (3, 4, 5, 2), elements=numbers),
    st.tuples(numbers, st.floats(1e-2, 1e6)),
    st.booleans(),
    st.tuples(st.floats(-2, 2), st.floats(0.01, 10)),
)
def test_floats_come_back(pixels, ends, log, normal) -> None:
    low, width = ends
    mean, std = (normal[0], 0.0), (normal[1], 1.0)
    values = Values(low, low + width, "float32", log=log, mean=mean, std=std)
    back = values.inverse(values.scale(pixels))
    size = np.abs(pixels).max() + abs(low) + width
    share = abs(values.to_unit(values.scale(pixels))).max()
    # Float32 holds 24 bits of the largest number on the way; the exponential magnifies its own.
    tolerance = 2e-6 * size * (1 + 10 * normal[1]) * (1 + (share * 20 if log else 0))
    np.testing.assert_allclose(back, pixels, atol=float(tolerance))


def test_low_and_high_become_zero_and_one() -> None:
    for log in (False, True):
        values = Values(-30.0, 70.0, "float32", log=log)
        np.testing.assert_allclose(values.scale(np.array([-30.0, 70.0])), [0, 1], atol=1e-6)
    # Halfway on the logarithm of 1 + distance: sqrt(1 + 100) - 1 above the lowest.
    assert values.scale(np.array(-30 + 101**0.5 - 1)) == pytest.approx(0.5, abs=1e-6)


def test_the_device_scales_like_numpy() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2, 3, 4, 5, 3)).astype(np.uint8)
    values = Values(0, 255, "uint8", 255, log=True, mean=(0.1, 0.2, 0.3), std=(1.0, 2.0, 3.0))
    expected = values.scale(pixels)
    found = jax.jit(values.scale)(pixels)
    np.testing.assert_allclose(found, expected, atol=2e-6)
    np.testing.assert_array_equal(jax.jit(values.valid)(pixels), values.valid(pixels))
    np.testing.assert_allclose(
        jax.jit(values.to_unit)(expected), values.to_unit(expected), atol=1e-6
    )


def test_missing_values_and_nan_become_zero_and_are_not_valid() -> None:
    pixels = np.array([[1.0, np.nan], [np.inf, -9999.0]], np.float32)[..., None]
    values = Values(0, 2, "float32", -9999.0, nan=True, mean=(0.5,), std=(0.1,))
    for scale, valid in ((values.scale, values.valid), map(jax.jit, (values.scale, values.valid))):
        np.testing.assert_array_equal(valid(pixels)[..., 0], [[1, 0], [0, 0]])
        np.testing.assert_allclose(scale(pixels)[..., 0], [[0, 0], [0, 0]], atol=1e-6)
    assert Values(0, 2, "float32").valid(pixels)[0, 1, 0] == 0


def test_a_prediction_never_is_the_code_for_missing() -> None:
    values = Values(0, 255, "uint8", 255)
    assert values.inverse(np.array([1.0, 2.0, 0.5])).tolist() == [254, 254, 128]


def test_to_and_from_json() -> None:
    values = Values(0, 4, "int16", -1, True, True, (0.5, 0.25), (1.0, 2.0), "mm/h")
    assert Values.from_json(json.loads(json.dumps(values.to_json()))) == values
    assert values.describe() == "0 to 4 mm/h"


def test_text_is_no_number() -> None:
    with pytest.raises(DataError, match="expected numbers"):
        Values.for_dtype("U3")
