"""The sizes of a convolution."""

from typing import NamedTuple, TypeAlias

Size: TypeAlias = tuple[int, int]


class Geometry(NamedTuple):
    """Sizes and options of a convolution.

    Attributes:
      image: Size of x, (H, W).
      kernel: Size of w, (h, w).
      stride: Strides along H and W.
      padding: Number of zeros before and after x, along H and W.
      groups: Number of groups into which the channels of x and of y are split; each group of y
        comes from the same group of x.
    """

    image: Size
    kernel: Size
    stride: Size
    padding: tuple[Size, Size]
    groups: int = 1

    @property
    def output(self) -> Size:
        """Size of y, (H', W')."""
        height, width = (
            (size + sum(pad) - kernel) // stride + 1
            for size, kernel, stride, pad in zip(
                self.image, self.kernel, self.stride, self.padding, strict=True
            )
        )
        return height, width

    @property
    def pointwise(self) -> bool:
        """Whether each pixel of y depends on the same pixel of x alone."""
        return self.kernel == self.stride == (1, 1) and self.padding == ((0, 0), (0, 0))

    @property
    def meets(self) -> bool:
        """Whether each element of the kernel meets a pixel of x, and so does each pixel of y.

        Where one of them meets padding alone, oneDNN 3.2 leaves a gradient in bfloat16 as memory was before.
        """
        return all(map(_meets, self.image, self.kernel, self.stride, self.padding, self.output))


def _meets(size: int, kernel: int, stride: int, padding: Size, output: int) -> bool:
    first = -padding[0]
    pixels, taps = range(first, first + output * stride, stride), range(kernel)
    return all(any(0 <= pixel + tap < size for pixel in pixels) for tap in taps) and all(
        any(0 <= pixel + tap < size for tap in taps) for pixel in pixels
    )
