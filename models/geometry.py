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
