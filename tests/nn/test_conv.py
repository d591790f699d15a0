"""The convolutions compute what their names say, and their hand-written gradients are right."""

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
from numerics import assert_trees_close, convolutions, cosines, normal, program, with_gradients

from jaxconvlstm import Conv, ConvTranspose
from jaxconvlstm.nn import convolution, winograd
from jaxconvlstm.nn.conv import (
    convolve_strided,
    convolve_transposed,
    depth_to_space,
    space_to_depth,
)
from jaxconvlstm.nn.convolution import convolve, same_padding

STRIDED = [(2, 2), (4, 2), (6, 2), (4, 4), (8, 4), (12, 4)]  # kernel size and stride
UNEVEN = ((2, 1), (0, 2))
# Kernel size, channels, features and padding. Few channels on one side make one matrix product,
# many on both sides tiles.
CONVOLUTIONS: list[tuple[tuple[int, int], int, int, Any]] = [
    *((size, 13, 14, None) for size in ((1, 1), (2, 2), (3, 3), (4, 4), (5, 5), (3, 1), (2, 5))),
    *(((3, 4), *channels, UNEVEN) for channels in ((3, 13), (13, 3), (2, 2), (13, 14))),
    ((3, 4), 13, 14, ((0, 0), (0, 0))),
    ((3, 4), 3, 13, ((1, 1), (2, 2))),
    ((5, 5), 13, 3, None),
]


def plain(inputs: jax.Array, kernel: jax.Array, padding: Any, strides: Any = (1, 1)) -> jax.Array:
    return lax.conv_general_dilated(
        inputs, kernel, strides, padding, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


@pytest.mark.parametrize(("size", "channels", "features", "padding"), CONVOLUTIONS, ids=str)
def test_the_ways_of_a_cpu_and_a_gpu_are_lax_with_its_gradients(
    size: tuple[int, int],
    channels: int,
    features: int,
    padding: Any,
    float64: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each has a way of its own; here both run on whatever there is."""
    monkeypatch.setattr(winograd, "_KERNEL_WORK", 0)  # tiles, however little work there is
    same, padding = padding is None, padding or same_padding(size)
    by_library = partial(convolution._by_library, padding=padding, size=None)

    @jax.jit
    def ways(inputs: jax.Array, kernel: jax.Array, cotangent: jax.Array) -> list[Any]:
        outputs, backward = jax.vjp(partial(plain, padding=padding), inputs, kernel)
        public, public_backward = jax.vjp(lambda x, w: convolve(x, w, padding), inputs, kernel)
        return [
            (outputs, *backward(cotangent)),
            (public, *public_backward(cotangent)),
            (
                by_library(inputs, kernel, role="outputs"),
                by_library(cotangent, kernel, role="inputs"),
                by_library(inputs, cotangent, role="kernel"),
            ),
        ]

    inputs, kernel = normal(0, 3, 5, 9, channels), normal(1, *size, channels, features)
    shape = jax.eval_shape(partial(plain, padding=padding), inputs, kernel).shape
    expected, cpu, gpu = ways(inputs, kernel, normal(2, *shape))
    assert_trees_close(cpu, expected, 1e-11)
    assert_trees_close(gpu, expected, 1e-11)
    if same:
        by_hand = reference.convolve(np.asarray(inputs), np.asarray(kernel))
        np.testing.assert_allclose(cpu[0], by_hand, rtol=0, atol=1e-11)


def test_every_leading_axis_is_convolved_alike_with_gradients(float64: None) -> None:
    inputs, kernel = normal(0, 6, 5, 6, 3), normal(1, 3, 3, 3, 4)
    shapes = [(6, 5, 6), (3, 2, 5, 6), (2, 3, 1, 5, 6)]

    def all_ways(inputs: jax.Array, kernel: jax.Array) -> jax.Array:
        padding = same_padding((3, 3))
        ways = [convolve(inputs.reshape((*shape, 3)), kernel, padding) for shape in shapes]
        assert [way.shape for way in ways] == [(*shape, 4) for shape in shapes]
        one = convolve(inputs[0], kernel, padding)[None]
        return jnp.concatenate([*(way.reshape((6, 5, 6, 4)) for way in ways), one])

    outputs, gradients = with_gradients(all_ways)(cosines(19, 5, 6, 4), inputs, kernel)
    each = reference.convolve(np.asarray(inputs), np.asarray(kernel))
    np.testing.assert_allclose(outputs, np.concatenate([each] * 3 + [each[:1]]), atol=1e-12)
    padding = same_padding((3, 3))
    four_times = with_gradients(lambda x, w: plain(jnp.concatenate([x] * 3 + [x[:1]]), w, padding))
    assert_trees_close(gradients, four_times(cosines(19, 5, 6, 4), inputs, kernel)[1], 1e-10)


def test_convolutions_of_all_kinds_have_right_second_derivatives(float64: None) -> None:
    @jax.jit
    def all_kinds(inputs: jax.Array, *kernels: jax.Array) -> jax.Array:
        maps = jnp.sin(convolve(inputs, kernels[0], same_padding((3, 2))))
        maps = jnp.sin(convolve_strided(maps, kernels[1], 2))
        return convolve_transposed(maps, kernels[2], 2)

    kernels = normal(1, 3, 2, 2, 2), normal(2, 4, 4, 2, 2), normal(3, 4, 4, 2, 2)
    arguments = normal(0, 2, 1, 4, 4, 2), *(0.3 * kernel for kernel in kernels)
    check_grads(all_kinds, arguments, order=2, modes=["rev"], atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize(("size", "stride"), STRIDED)
def test_strided_and_transposed_follow_their_formulas_at_each_time(
    size: int, stride: int, float64: None
) -> None:
    """So the one is the adjoint of the other, with the channel axes of the kernel swapped."""
    pictures, maps = normal(0, 2, 2, 2 * stride, 3 * stride, 3), normal(1, 2, 2, 2, 3, 4)
    kernel = normal(2, size, size, 3, 4)

    @jax.jit
    def both(pictures: jax.Array, maps: jax.Array, kernel: jax.Array) -> tuple[Any, ...]:
        down = convolve_strided(pictures, kernel, stride)
        up = convolve_transposed(maps, kernel.swapaxes(2, 3), stride)
        padding = (size - stride) // 2, size - stride - (size - stride) // 2
        return down, up, plain(pictures[0], kernel, (padding, padding), (stride, stride))

    down, up, library = both(pictures, maps, kernel)
    pictures, maps, kernel = map(np.asarray, (pictures, maps, kernel))
    np.testing.assert_allclose(down[0], library, rtol=0, atol=1e-12)
    for time in range(2):
        expected = reference.convolve_strided(pictures[time], kernel, stride)
        np.testing.assert_allclose(down[time], expected, rtol=0, atol=1e-12)
        expected = reference.convolve_transposed(maps[time], kernel.swapaxes(2, 3), stride)
        np.testing.assert_allclose(up[time], expected, rtol=0, atol=1e-12)
    np.testing.assert_allclose(np.vdot(down, maps), np.vdot(pictures, up), rtol=1e-12)


def test_space_to_depth_keeps_a_block_together_and_depth_to_space_undoes_it() -> None:
    blocks = space_to_depth(jnp.arange(16).reshape((1, 4, 4, 1)), 2)
    np.testing.assert_array_equal(blocks[0, 0, 1], [2, 3, 6, 7])
    picture = normal(0, 2, 3, 4, 6, 5)
    np.testing.assert_array_equal(depth_to_space(space_to_depth(picture, 2), 2), picture)


@pytest.mark.parametrize("stride", [2, 4])
def test_untrained_conv_transpose_makes_no_checkerboard(stride: int) -> None:
    layer = ConvTranspose(3, stride=stride)
    constant = jnp.ones((1, 5, 5, 4))
    picture = np.asarray(jax.jit(layer.init_with_output)(jax.random.key(0), constant)[0])
    assert picture.shape == (1, 5 * stride, 5 * stride, 3)
    inside = picture[:, stride:-stride, stride:-stride]
    assert np.abs(inside).max() > 0.1
    np.testing.assert_allclose(inside, np.broadcast_to(inside[:, :1, :1], inside.shape), rtol=1e-5)


@pytest.mark.parametrize("stride", [1, 2, 4])
def test_transposed_without_crop_is_flaxs_without_padding(stride: int, float64: None) -> None:
    ours = ConvTranspose(3, stride, kernel_size=4, crop=False, dtype=jnp.float64)
    theirs = nn.ConvTranspose(3, (4, 4), (stride, stride), padding="VALID", dtype=jnp.float64)
    bias = normal(2, 3)

    def results(layer: nn.Module, flip: int) -> Any:  # theirs has the kernel turned around
        def run(maps: jax.Array, kernel: jax.Array) -> Any:
            params = {"kernel": kernel[::flip, ::flip], "bias": bias}
            return layer.apply({"params": params}, maps)

        weights = cosines(2, stride + 4, 4 * stride + 4, 3)
        return with_gradients(run)(weights, normal(0, 2, 2, 5, 4), normal(1, 4, 4, 4, 3))

    assert_trees_close(results(ours, 1), results(theirs, -1), 1e-10)


def test_conv_halves_the_picture_and_adds_its_bias() -> None:
    layer, picture = Conv(3, (4, 4), stride=2), jnp.zeros((2, 6, 8, 1))
    variables = {"params": {"kernel": jnp.ones((4, 4, 1, 3)), "bias": jnp.arange(3.0)}}
    outputs = jax.jit(layer.apply)(variables, picture)
    np.testing.assert_array_equal(outputs, np.broadcast_to(np.arange(3.0), (2, 3, 4, 3)))


def test_a_transposed_kernel_can_start_as_any_other() -> None:
    layer = ConvTranspose(2, stride=1, kernel_size=4, kernel_init=nn.initializers.ones)
    variables = jax.jit(layer.init)(jax.random.key(0), jnp.zeros((1, 3, 3, 5)))
    np.testing.assert_array_equal(variables["params"]["kernel"], np.ones((4, 4, 5, 2)))


def test_bfloat16_computes_like_float32_with_float32_parameters() -> None:
    kinds = [partial(Conv, 3), partial(Conv, 3, (4, 4), 2), partial(ConvTranspose, 3)]
    picture = normal(0, 2, 6, 6, 4)

    @jax.jit
    def both(picture: jax.Array) -> Any:
        found = []
        for kind in kinds:
            expected, variables = kind().init_with_output(jax.random.key(0), picture)
            half = kind(dtype=jnp.bfloat16)
            gradients = jax.grad(
                lambda v, half=half: half.apply(v, picture).astype(jnp.float32).sum()
            )
            found.append((half.apply(variables, picture), expected, gradients(variables)))
        return found

    for outputs, expected, gradients in both(picture):
        assert outputs.dtype == jnp.bfloat16
        assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(gradients))
        np.testing.assert_allclose(np.asarray(outputs, np.float32), expected, rtol=0.02, atol=0.05)


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
    def loss(frames: jax.Array, kernel: jax.Array) -> jax.Array:
        return jnp.sum(convolve(frames, kernel, same_padding((3, 3))) ** 2)

    arguments = normal(0, 2, 5, 5, 3), normal(1, 3, 3, 3, 4)
    found = {
        platform: convolutions(program(jax.grad(loss, (0, 1)), *arguments, platform=platform))
        for platform in ("cpu", "cuda")
    }
    assert found["cpu"] == [] and len(found["cuda"]) == 3
