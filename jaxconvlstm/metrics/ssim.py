"""Structural similarity of two pictures (Wang et al. 2004), window by window.

The score and the loss made of it differ in how they average this map; see `frame_scores`, `losses`.
"""

import functools
from collections.abc import Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Shaped

# Wang et al. (2004), sections III-B and III-C.
GAUSSIAN_SIZE = 11
GAUSSIAN_SIGMA = 1.5
K1, K2 = 0.01, 0.03

Frames = Float[Array, "*batch height width channels"]
Windows = Float[Array, "*batch rows columns channels"]


def gaussian_window(height: int, width: int) -> tuple[float, ...]:
    """Gaussian weights of sum 1 along one axis: 11, or the largest odd number that fits.

    Args:
      height, width: size of the frame that the window has to lie in.

    Returns:
      Weights as Python floats, which a traced program holds as constants.
    """
    size = min(GAUSSIAN_SIZE, height, width)
    size -= 1 - size % 2  # odd, so that a window has a pixel in its middle
    weights = np.exp(-0.5 * ((np.arange(size) - size // 2) / GAUSSIAN_SIGMA) ** 2)
    return tuple((weights / weights.sum()).tolist())


def uniform_window(size: int) -> tuple[float, ...]:
    """Equal weights of sum 1 along one axis."""
    return (1 / size,) * size


def similarity_map(
    a: Frames,
    b: Frames,
    window: Sequence[float],
    *,
    data_range: float = 1.0,
    sample_covariance: bool = False,
) -> Windows:
    """Compute the SSIM of every window inside the frame; Wang et al. (2004), equation 13.

    With means, variances and covariance weighted by the window, `C1 = (0.01 L)**2` and
    `C2 = (0.03 L)**2`, `L` the data range:

        (2 mean_a mean_b + C1) (2 cov + C2) / ((mean_a**2 + mean_b**2 + C1) (var_a + var_b + C2))

    Its gradient is finite everywhere, on constant frames too.

    Args:
      a: `[..., height, width, channels]`, float32 or wider; each channel is judged by itself.
      b: likewise.
      window: weights along one axis, of sum 1; see `gaussian_window`, `uniform_window`.
      data_range: the `L` above.
      sample_covariance: divide (co)variances by the number of pixels less one, as scikit-image
        does by default; without, by the number.

    Returns:
      `[..., height - size + 1, width - size + 1, channels]`, from -1 to 1, higher is more alike.
    """
    pixels = len(window) ** 2
    correction = pixels / (pixels - 1) if sample_covariance else 1.0

    def mean(values: Array) -> Array:
        # The window is separable: one axis after the other, 2 * size terms in place of size**2.
        # Shifted sums: a convolution of one channel is several times slower on a CPU.
        for axis in (-3, -2):
            weighted = (
                w * shifted for w, shifted in zip(window, _shifted(values, len(window), axis))
            )
            values = functools.reduce(jnp.add, weighted)
        return values

    mean_a, mean_b = mean(a), mean(b)
    # E[x**2] - E[x]**2 may round below 0, which would let the denominator vanish.
    variance_a = jnp.maximum(mean(a * a) - mean_a * mean_a, 0) * correction
    variance_b = jnp.maximum(mean(b * b) - mean_b * mean_b, 0) * correction
    covariance = (mean(a * b) - mean_a * mean_b) * correction
    c1, c2 = (K1 * data_range) ** 2, (K2 * data_range) ** 2
    luminance = (2 * mean_a * mean_b + c1) / (mean_a * mean_a + mean_b * mean_b + c1)
    return luminance * (2 * covariance + c2) / (variance_a + variance_b + c2)


def smallest_in_window(
    weight: Shaped[Array, "*batch height width channels"], size: int
) -> Shaped[Array, "*batch rows columns channels"]:
    """Find the smallest weight in every window of `size` x `size`.

    It is 0 where a single pixel is missing; of booleans, it is true where all are.

    Args:
      weight: `[..., height, width, channels]`, any dtype.
      size: side of the window in pixels.

    Returns:
      `[..., height - size + 1, width - size + 1, channels]`, the same dtype.
    """
    for axis in (-3, -2):
        weight = functools.reduce(jnp.minimum, _shifted(weight, size, axis))
    return weight


def _shifted(values: Array, size: int, axis: int) -> Iterator[Array]:
    """Shift `values` by 0 to `size - 1` places along `axis`, cropped to where all of them are."""
    length = values.shape[axis] - size + 1
    for first in range(size):
        yield jax.lax.slice_in_dim(values, first, first + length, axis=axis)
