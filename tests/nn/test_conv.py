"""The convolutions compute what their names say, and their hand-written gradients are right."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
from flax import linen as nn
from jax import lax
from jax.test_util import check_grads
from programs import convolutions

from jaxconvlstm.nn import conv, winograd
from jaxconvlstm.nn.conv import (
    Conv,
    ConvTranspose,
    convolve,
    convolve_strided,
    convolve_transposed,
    depth_to_space,
    same_padding,
    space_to_depth,
)

KERNEL_SIZES = [(1, 1), (2, 2), (3, 3), (4, 4), (5, 5), (3, 1), (2, 5)]
STRIDED = [(2, 2), (4, 2), (6, 2), (4, 4), (8, 4), (12, 4)]  # kernel size and stride
CHANNELS = [(3, 13), (13, 3), (13, 14)]  # few on one side make one product, many on both tiles


def normal(seed: int, *shape: int) -> jax.Array:
    values = np.random.default_rng(seed).normal(size=shape)
    return jnp.asarray(values, jax.dtypes.canonicalize_dtype(np.float64))


def lax_convolve(inputs: jax.Array, kernel: jax.Array, padding: Any) -> jax.Array:
    merged = inputs.reshape((-1, *inputs.shape[-3:]))
    dimensions = ("NHWC", "HWIO", "NHWC")
    outputs = lax.conv_general_dilated(
        merged, kernel, (1, 1), padding, dimension_numbers=dimensions
    )
    return outputs.reshape((*inputs.shape[:-3], *outputs.shape[-3:]))


def lax_convolve_strided(inputs: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    before = (kernel.shape[0] - stride) // 2
    padding = (before, kernel.shape[0] - stride - before)
    return lax.conv_general_dilated(
        inputs,
        kernel,
        (stride, stride),
        (padding, padding),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


@pytest.mark.parametrize("size", KERNEL_SIZES)
def test_convolve_is_the_position_by_position_sum(size: Sequence[int], float64: None) -> None:
    inputs, kernel = normal(0, 2, 6, 7, 3), normal(1, *size, 3, 4)
    expected = reference.convolve(np.asarray(inputs), np.asarray(kernel))
    outputs = convolve(inputs, kernel, same_padding(size))
    np.testing.assert_allclose(outputs, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("leading", [(), (2,), (3, 2), (2, 3, 1)], ids=str)
def test_every_leading_axis_is_convolved_alike(leading: Sequence[int], float64: None) -> None:
    inputs, kernel = normal(0, *leading, 5, 6, 3), normal(1, 3, 3, 3, 4)
    outputs = convolve(inputs, kernel, same_padding((3, 3)))
    assert outputs.shape == (*leading, 5, 6, 4)
    frames = np.asarray(inputs).reshape((-1, 5, 6, 3))
    expected = reference.convolve(frames, np.asarray(kernel)).reshape(outputs.shape)
    np.testing.assert_allclose(outputs, expected, atol=1e-12)


@pytest.mark.parametrize("padding", [((0, 0), (0, 0)), ((2, 1), (0, 2))], ids=str)
@pytest.mark.parametrize("leading", [(), (2,), (3, 2)], ids=str)
def test_gradients_are_those_of_lax(
    leading: Sequence[int], padding: conv.Padding, float64: None
) -> None:
    inputs, kernel = normal(0, *leading, 6, 7, 2), normal(1, 3, 4, 2, 3)

    @partial(jax.jit, static_argnums=0)
    def loss_and_gradients(function: Any, inputs: jax.Array, kernel: jax.Array) -> Any:
        def loss(inputs: jax.Array, kernel: jax.Array) -> jax.Array:
            return jnp.sin(function(inputs, kernel, padding)).sum()

        return jax.value_and_grad(loss, (0, 1))(inputs, kernel)

    ours = loss_and_gradients(convolve, inputs, kernel)
    theirs = loss_and_gradients(lax_convolve, inputs, kernel)
    jax.tree.map(partial(np.testing.assert_allclose, atol=1e-10), ours, theirs)


@pytest.mark.parametrize(("channels", "features"), CHANNELS)
@pytest.mark.parametrize("size", KERNEL_SIZES, ids=str)
def test_a_gpu_and_a_cpu_compute_the_same(
    size: tuple[int, int],
    channels: int,
    features: int,
    float64: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Each has a way of its own; here both run on whatever there is.
    monkeypatch.setattr(winograd, "_KERNEL_WORK", 0)
    padding = same_padding(size)
    kernel = normal(2, *size, channels, features)

    @jax.jit
    def ways(inputs: jax.Array, cotangent: jax.Array) -> list[list[jax.Array]]:
        cpu = [
            winograd.convolve(inputs, kernel, padding),
            winograd.inputs_gradient(cotangent, kernel, padding, frame=(5, 9)),
            winograd.kernel_gradient(inputs, cotangent, size, padding),
        ]
        gpu = [
            conv._library_convolve(inputs, kernel, padding=padding),
            conv._library_inputs_gradient(cotangent, kernel, padding=padding),
            conv._library_kernel_gradient(inputs, cotangent, padding=padding),
        ]
        return [cpu, gpu]

    cpu, gpu = ways(normal(0, 3, 5, 9, channels), normal(1, 3, 5, 9, features))
    jax.tree.map(partial(np.testing.assert_allclose, rtol=0, atol=1e-10), cpu, gpu)


@pytest.mark.parametrize("leading", [(1,), (2, 1)], ids=["4-D", "5-D"])
def test_convolve_has_right_second_derivatives(leading: Sequence[int], float64: None) -> None:
    function = jax.jit(partial(convolve, padding=same_padding((3, 2))))
    arguments = normal(0, *leading, 4, 3, 2), normal(1, 3, 2, 2, 2)
    check_grads(function, arguments, order=2, modes=["rev"], atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("function", [convolve_strided, convolve_transposed])
def test_strided_and_transposed_have_right_second_derivatives(function: Any, float64: None) -> None:
    arguments = normal(0, 1, 4, 4, 2), normal(1, 4, 4, 2, 2)
    strided = jax.jit(partial(function, stride=2))
    check_grads(strided, arguments, order=2, modes=["rev"], atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize(("size", "stride"), STRIDED)
def test_strided_is_lax_with_strides(size: int, stride: int, float64: None) -> None:
    inputs, kernel = normal(0, 2, 2 * stride, 3 * stride, 3), normal(1, size, size, 3, 4)
    outputs = convolve_strided(inputs, kernel, stride)
    by_hand = reference.convolve_strided(np.asarray(inputs), np.asarray(kernel), stride)
    np.testing.assert_allclose(outputs, by_hand, atol=1e-12)
    np.testing.assert_allclose(
        outputs, lax_convolve_strided(inputs, kernel, stride), rtol=0, atol=1e-12
    )


@pytest.mark.parametrize(("size", "stride"), STRIDED)
def test_transposed_scatters_the_kernel(size: int, stride: int, float64: None) -> None:
    inputs, kernel = normal(0, 2, 2, 3, 3), normal(1, size, size, 3, 4)
    outputs = convolve_transposed(inputs, kernel, stride)
    expected = reference.convolve_transposed(np.asarray(inputs), np.asarray(kernel), stride)
    np.testing.assert_allclose(outputs, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("size", "stride"), STRIDED)
def test_transposed_is_the_adjoint_of_strided(size: int, stride: int, float64: None) -> None:
    pictures, maps = normal(0, 2, 2 * stride, 3 * stride, 3), normal(1, 2, 2, 3, 4)
    kernel = normal(2, size, size, 3, 4)
    down = jnp.vdot(convolve_strided(pictures, kernel, stride), maps)
    up = jnp.vdot(pictures, convolve_transposed(maps, kernel.swapaxes(2, 3), stride))
    np.testing.assert_allclose(down, up, rtol=1e-12)


@pytest.mark.parametrize("function", [convolve_strided, convolve_transposed])
def test_strided_and_transposed_take_a_time_axis(function: Any, float64: None) -> None:
    clips, kernel = normal(0, 3, 2, 4, 4, 2), normal(1, 4, 4, 2, 3)
    each = jnp.stack([function(clip, kernel, 2) for clip in clips])
    np.testing.assert_allclose(function(clips, kernel, 2), each, atol=1e-12)


def test_space_to_depth_keeps_a_block_together() -> None:
    picture = jnp.arange(16).reshape((1, 4, 4, 1))
    blocks = space_to_depth(picture, 2)
    np.testing.assert_array_equal(blocks[0, 0, 1], [2, 3, 6, 7])


def test_depth_to_space_undoes_space_to_depth() -> None:
    picture = normal(0, 2, 3, 4, 6, 5)
    np.testing.assert_array_equal(depth_to_space(space_to_depth(picture, 2), 2), picture)


@pytest.mark.parametrize("stride", [2, 4])
def test_untrained_conv_transpose_makes_no_checkerboard(stride: int) -> None:
    layer = ConvTranspose(3, stride=stride)
    constant = jnp.ones((1, 5, 5, 4))
    picture, _ = layer.init_with_output(jax.random.key(0), constant)
    assert picture.shape == (1, 5 * stride, 5 * stride, 3)
    inside = picture[:, stride:-stride, stride:-stride]
    assert jnp.abs(inside).max() > 0.1
    np.testing.assert_allclose(inside, jnp.broadcast_to(inside[:, :1, :1], inside.shape), rtol=1e-5)


@pytest.mark.parametrize("stride", [1, 2, 4])
def test_transposed_without_crop_is_flaxs_without_padding(stride: int, float64: None) -> None:
    ours = ConvTranspose(3, stride, kernel_size=4, crop=False, dtype=jnp.float64)
    theirs = nn.ConvTranspose(3, (4, 4), (stride, stride), padding="VALID", dtype=jnp.float64)
    maps, kernel, bias = normal(0, 2, 2, 5, 4), normal(1, 4, 4, 4, 3), normal(2, 3)

    def results(layer: nn.Module, flip: int) -> Any:  # theirs has the kernel turned around
        def loss(maps: jax.Array, kernel: jax.Array) -> Any:
            params = {"kernel": kernel[::flip, ::flip], "bias": bias}
            outputs = layer.apply({"params": params}, maps)
            return jnp.sin(outputs).sum(), outputs

        return jax.jit(jax.value_and_grad(loss, (0, 1), has_aux=True))(maps, kernel)

    actual, expected = results(ours, 1), results(theirs, -1)
    assert actual[0][1].shape == (2, stride + 4, 4 * stride + 4, 3)
    jax.tree.map(partial(np.testing.assert_allclose, atol=1e-10), actual, expected)


def test_a_transposed_kernel_can_start_as_any_other() -> None:
    layer = ConvTranspose(2, stride=1, kernel_size=4, kernel_init=nn.initializers.ones)
    variables = layer.init(jax.random.key(0), jnp.zeros((1, 3, 3, 5)))
    np.testing.assert_array_equal(variables["params"]["kernel"], np.ones((4, 4, 5, 2)))


def test_conv_halves_the_picture_and_adds_its_bias() -> None:
    layer = Conv(3, (4, 4), stride=2)
    picture = jnp.zeros((2, 6, 8, 1))
    variables = layer.init(jax.random.key(0), picture)
    variables["params"]["bias"] = jnp.arange(3.0)
    expected = jnp.broadcast_to(jnp.arange(3.0), (2, 3, 4, 3))
    np.testing.assert_array_equal(layer.apply(variables, picture), expected)


@pytest.mark.parametrize(
    "layer", [partial(Conv, 3), partial(Conv, 3, (4, 4), 2), partial(ConvTranspose, 3)], ids=str
)
def test_bfloat16_computes_like_float32_with_float32_parameters(layer: Any) -> None:
    picture = normal(0, 2, 6, 6, 4)
    expected, variables = jax.jit(layer().init_with_output)(jax.random.key(0), picture)
    half = layer(dtype=jnp.bfloat16)
    outputs = jax.jit(half.apply)(variables, picture)
    assert outputs.dtype == jnp.bfloat16
    gradients = jax.eval_shape(
        jax.grad(lambda v: half.apply(v, picture).astype(jnp.float32).sum()), variables
    )
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(gradients))
    np.testing.assert_allclose(outputs.astype(jnp.float32), expected, rtol=0.02, atol=0.05)


def test_bfloat16_kernel_gradient_does_not_stall_over_many_steps() -> None:
    # 256 + 1 is 256 in bfloat16: a sum kept in it would never pass 256.
    frames, kernel = jnp.ones((400, 1, 1, 1, 1), jnp.bfloat16), jnp.ones((1, 1, 1, 1), jnp.bfloat16)

    @jax.jit
    @jax.grad
    def gradient_of(kernel: jax.Array) -> jax.Array:
        return convolve(frames, kernel, ((0, 0), (0, 0))).astype(jnp.float32).sum()

    gradient = gradient_of(kernel)
    assert gradient.dtype == jnp.bfloat16
    assert gradient.item() == 400


def test_a_gpu_gets_convolutions_and_a_cpu_products() -> None:
    frames, kernel = normal(0, 2, 5, 5, 3), normal(1, 3, 3, 3, 4)

    def gradients(frames: jax.Array, kernel: jax.Array) -> Any:
        def loss(frames: jax.Array, kernel: jax.Array) -> jax.Array:
            return jnp.sum(convolve(frames, kernel, same_padding((3, 3))) ** 2)

        return jax.grad(loss, (0, 1))(frames, kernel)

    assert convolutions(gradients, frames, kernel, platform="cpu") == []
    assert len(convolutions(gradients, frames, kernel, platform="cuda")) == 3
