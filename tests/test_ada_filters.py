import numpy as np
import pytest

from gan.augmentation import ada_filters as filters


@pytest.mark.parametrize("wavelet", [filters.SYM2, filters.SYM6])
def test_the_wavelets_are_orthogonal_and_keep_as_many_moments_as_they_must(wavelet):
    """Daubechies' conditions, which fix the filter but for a choice of roots."""
    taps = len(wavelet)
    np.testing.assert_allclose(wavelet.sum(), np.sqrt(2), atol=1e-11)
    for shift in range(0, taps, 2):
        product = wavelet[: taps - shift] @ wavelet[shift:]
        np.testing.assert_allclose(product, float(shift == 0), atol=1e-11)
    for moment in range(taps // 2):  # of the high-pass filter
        terms = (-1.0) ** np.arange(taps) * (np.arange(taps) / taps) ** moment * wavelet
        np.testing.assert_allclose(terms.sum(), 0, atol=1e-9)


def test_the_coefficients_of_sym2_are_those_of_pywavelets():
    known = [-0.12940952255092145, 0.22414386804185735, 0.836516303737469, 0.48296291314469025]
    np.testing.assert_allclose(filters.SYM2, known, atol=1e-15)


def test_sym6_is_the_most_symmetric_of_its_kind():
    """Its phase is nearly linear, and its middle at tap 5, to which the half-pixels refer."""
    taps = np.arange(12)
    middle = (taps * filters.SYM6**2).sum()
    np.testing.assert_allclose(middle, 5, atol=0.2)
    np.testing.assert_allclose(taps[np.argmax(filters.SYM6)], 5)


@pytest.mark.parametrize("size", [2, 3, 8])
def test_reflection_without_end(size):
    x = np.arange(size)
    np.testing.assert_array_equal(
        filters.reflected(np.arange(-20, size + 20), size), np.pad(x, 20, mode="reflect")
    )


def upsampled(signal, pad):
    """A reflected signal with a zero after each pixel, convolved: half-pixel 2 n at 5 + 2 (n + pad)."""
    longer = np.pad(signal, pad, mode="reflect")
    zeros = np.zeros(2 * len(longer))
    zeros[::2] = longer
    return np.convolve(zeros, np.sqrt(2) * filters.SYM6)


@pytest.mark.parametrize("size", [2, 5, 8])
def test_upsampling_is_a_convolution_of_the_reflected_signal(size):
    signal = np.random.default_rng(0).normal(size=size)
    period = filters.upsampling(size) @ signal
    pad = 40
    expected = upsampled(signal, pad)[5 + 2 * pad :][: len(period)]
    np.testing.assert_allclose(period, expected, atol=1e-5)
    np.testing.assert_allclose(filters.upsampling(size).sum(1), 1, atol=1e-6)


@pytest.mark.parametrize("size", [2, 5, 8])
def test_downsampling_keeps_every_second_value_of_a_correlation(size):
    fine = np.random.default_rng(0).normal(size=2 * size + 10)
    every = np.correlate(fine, filters.SYM6 / np.sqrt(2), mode="valid")
    np.testing.assert_allclose(filters.downsampling(size) @ fine, every[::2], atol=1e-6)


@pytest.mark.parametrize("size", [2, 5, 8])
def test_up_and_down_is_the_identity(size):
    places = np.arange(-filters.EDGE, 2 * size + filters.EDGE) % (4 * (size - 1))
    both = filters.downsampling(size) @ filters.upsampling(size)[places]
    np.testing.assert_allclose(both, np.eye(size), atol=1e-6)


def response(taps, frequencies):
    """The response of a symmetric filter."""
    places = np.arange(len(taps)) - len(taps) // 2
    return np.cos(np.outer(frequencies, places)) @ taps


def test_the_bands_against_their_frequency_response():
    """|H(w)|^2 / 2 of the low-pass filter at w, 2 w and 4 w, and what it leaves."""
    w = np.linspace(0, np.pi, 50)

    def low(w):
        transform = np.exp(-1j * np.outer(w, np.arange(4))) @ filters.SYM2
        return np.abs(transform) ** 2 / 2

    expected = [
        low(w) * low(2 * w) * low(4 * w),
        low(w) * low(2 * w) * (1 - low(4 * w)),
        low(w) * (1 - low(2 * w)),
        1 - low(w),
    ]
    assert filters.bands().shape == (4, 43)
    for taps, band in zip(filters.bands(), expected, strict=True):
        np.testing.assert_allclose(response(taps, w), band, atol=1e-12)
    np.testing.assert_allclose(filters.bands().sum(0), np.eye(43)[21], atol=1e-12)


@pytest.mark.parametrize("size", [2, 9, 30])
def test_band_matrices_are_convolutions_of_the_reflected_signal(size):
    signal = np.random.default_rng(0).normal(size=size)
    for matrix, taps in zip(filters.band_matrices(size), filters.bands(), strict=True):
        expected = np.convolve(np.pad(signal, 21, mode="reflect"), taps, mode="valid")
        np.testing.assert_allclose(matrix @ signal, expected, atol=1e-5)
