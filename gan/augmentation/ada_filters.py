"""Filters of ADA, as constant matrices that act on the rows or the columns of an image.

Beyond its borders an image goes on as its own reflection, without end, so that a filter along an axis
is a linear map of that axis. As a product of matrices it is exact and fast, and so are its derivatives.
"""

import functools

import numpy as np

SYM2 = np.array([1, 3, 3, 1]) + np.sqrt(3) * np.array([-1, -1, 1, 1])
SYM2 = SYM2 / np.sqrt(32)
"""The orthogonal wavelet sym2, the same as db2: the low-pass filter."""

SYM6 = np.array([
    0.015404109327027373, 0.0034907120842174702, -0.11799011114819057, -0.048311742585633,
    0.4910559419267466, 0.787641141030194, 0.3379294217276218, -0.07263752278646252,
    -0.021060292512300564, 0.04472490177066578, 0.0017677118642428036, -0.007800708325034148,
])  # fmt: skip
"""The orthogonal wavelet sym6: the low-pass filter, as PyWavelets lists it for decomposition."""

_CENTRE = 5  # of the taps of SYM6: its peak
EDGE = len(SYM6) // 2 - 1
"""Half-pixels that `downsampling` needs before the first pixel and after the last."""


def reflected(places: np.ndarray, size: int) -> np.ndarray:
    """Returns which of the pixels 0 to size - 1 is at each place of the endless reflection."""
    return (size - 1) - np.abs(places % (2 * (size - 1)) - (size - 1))


@functools.cache
def upsampling(size: int) -> np.ndarray:
    """Returns the matrix `[4 (size - 1), size]` from pixels to half-pixels, over one period.

    Pixel n is at half-pixel 2 n; a constant stays as it is.
    """
    pixels = np.arange(2 * (size - 1))
    matrix = np.zeros([2 * len(pixels), size])
    for tap, weight in enumerate(SYM6):
        places = (2 * pixels + tap - _CENTRE) % len(matrix)
        np.add.at(matrix, (places, reflected(pixels, size)), np.sqrt(2) * weight)
    return matrix.astype(np.float32)


@functools.cache
def downsampling(size: int) -> np.ndarray:
    """Returns the matrix `[size, 2 size + 2 EDGE]` from half-pixels, from -EDGE on, to pixels.

    It is the transpose of the upsampling, but for a factor. The wavelet is orthogonal: up and down
    again is the identity.
    """
    pixels = np.arange(size)
    matrix = np.zeros([size, 2 * size + 2 * EDGE])
    for tap, weight in enumerate(SYM6):
        matrix[pixels, 2 * pixels + tap - _CENTRE + EDGE] = weight / np.sqrt(2)
    return matrix.astype(np.float32)


def bands() -> np.ndarray:
    """Returns four symmetric filters `[4, 43]` whose sum is 1, from the lowest frequencies up.

    With L(z) = H(z) H(1/z) / 2 of sym2, and its mirror image L(-z) = 1 - L(z), they are
    L(z) L(z^2) L(z^4), L(-z^4) L(z^2) L(z), L(-z^2) L(z) and L(-z): all below an eighth of the
    highest frequency, then an octave each.
    """
    low = np.convolve(SYM2, SYM2[::-1]) / 2  # [7]
    high = low * (-1.0) ** np.abs(np.arange(-3, 4))
    filters = [
        [low, _stretched(low, 2), _stretched(low, 4)],
        [low, _stretched(low, 2), _stretched(high, 4)],
        [low, _stretched(high, 2)],
        [high],
    ]
    products = [functools.reduce(np.convolve, factors) for factors in filters]
    length = len(products[0])
    return np.stack([np.pad(taps, (length - len(taps)) // 2) for taps in products])


def _stretched(taps: np.ndarray, factor: int) -> np.ndarray:
    """Returns the taps of F(z^factor)."""
    result = np.zeros(factor * (len(taps) - 1) + 1)
    result[::factor] = taps
    return result


@functools.cache
def band_matrices(size: int) -> np.ndarray:
    """Returns the matrices `[4, size, size]` that filter an axis by each of the `bands`."""
    filters, pixels = bands(), np.arange(size)
    matrices = np.zeros([len(filters), size, size])
    for tap in range(filters.shape[1]):
        sources = reflected(pixels + tap - filters.shape[1] // 2, size)
        for matrix, taps in zip(matrices, filters, strict=True):
            np.add.at(matrix, (pixels, sources), taps[tap])
    return matrices.astype(np.float32)
