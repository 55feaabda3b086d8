"""The Inception network of FID and of the Inception Score, and the resizing of its inputs.

Szegedy et al., "Rethinking the Inception Architecture for Computer Vision", CVPR 2016, in the form
of TensorFlow's graph of 2015-12-05, on which published scores rest. `gan.models.inception_weights`
reads its weights.
"""

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from gan.models.layers import Conv

SIZE = 299
_INIT = nn.initializers.he_normal()
Images: TypeAlias = jax.Array | np.ndarray
Unit: TypeAlias = tuple[str, int, int | tuple[int, int]]  # name, features, kernel


class InceptionOutput(NamedTuple):
    """Features and logits of images.

    Attributes:
      pool: Means over the last feature maps, `[B, 2048]`, nonnegative; used by FID and KID.
      logits: Logits of the classes, `[B, 1008]`.
      logits_unbiased: Logits without the last layer's bias, `[B, 1008]`; used by the Inception
        Score of TensorFlow's original code and of torch-fidelity.
    """

    pool: jax.Array
    logits: jax.Array
    logits_unbiased: jax.Array


class InceptionV3(nn.Module):
    """The network, for inference only.

    Modules are named as in pytorch-fid. Batch normalisation is folded into the convolutions:
    `params` holds a `kernel` and a `bias` for each. Initial kernels are He-normal.
    """

    def __call__(self, x: jax.Array) -> InceptionOutput:
        """Computes features of images.

        Args:
          x: float32 `[B, 299, 299, 3]`, about in [-1, 1], from one of `RESIZES`.

        Raises:
          ValueError: for any other shape.
        """
        if x.shape[1:] != (SIZE, SIZE, 3):
            raise ValueError(f"images must be [B, {SIZE}, {SIZE}, 3], given {list(x.shape)}")
        with jax.default_matmul_precision("highest"):  # accelerators round to fewer bits otherwise
            return self._forward(x)

    @nn.compact
    def _forward(self, x: jax.Array) -> InceptionOutput:
        x = _conv_relu(x, "Conv2d_1a_3x3", 32, 3, stride=2)  # [B, 149, 149, 32]
        x = _conv_relu(x, "Conv2d_2a_3x3", 32, 3, padding="VALID")
        x = _conv_relu(x, "Conv2d_2b_3x3", 64, 3)  # [B, 147, 147, 64]
        x = _downsample(x)
        x = _conv_relu(x, "Conv2d_3b_1x1", 80, 1)
        x = _conv_relu(x, "Conv2d_4a_3x3", 192, 3, padding="VALID")  # [B, 71, 71, 192]
        x = _downsample(x)
        for letter, pool_features in zip("bcd", (32, 64, 64), strict=True):
            block = BlockA(pool_features, name=f"Mixed_5{letter}")
            x = block(x)  # [B, 35, 35, 224 + pool_features]
        x = BlockB(name="Mixed_6a")(x)
        for letter, width in zip("bcde", (128, 160, 160, 192), strict=True):
            x = BlockC(width, name=f"Mixed_6{letter}")(x)  # [B, 17, 17, 768]
        x = BlockD(name="Mixed_7a")(x)  # [B, 8, 8, 1280]
        x = BlockE(_average_pool, name="Mixed_7b")(x)  # [B, 8, 8, 2048]
        # The published graph pools by maximum here, unlike the paper; scores depend on it.
        x = BlockE(_max_pool, name="Mixed_7c")(x)
        pool = x.mean((1, 2))
        return InceptionOutput(pool, *_Classifier(name="fc")(pool))


class BlockA(nn.Module):
    """Convolutions of 1, 3 and 5 pixels side by side, `[B, H, W, C]` to `[B, H, W, C']`."""

    pool_features: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:  # noqa: D102
        return _concatenate(
            _chain(x, ("branch1x1", 64, 1)),
            _chain(x, ("branch5x5_1", 48, 1), ("branch5x5_2", 64, 5)),
            _chain(
                x, ("branch3x3dbl_1", 64, 1), ("branch3x3dbl_2", 96, 3), ("branch3x3dbl_3", 96, 3)
            ),
            _chain(_average_pool(x), ("branch_pool", self.pool_features, 1)),
        )


class BlockB(nn.Module):
    """A reduction of the resolution from 35 to 17 pixels."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:  # noqa: D102
        double = _chain(x, ("branch3x3dbl_1", 64, 1), ("branch3x3dbl_2", 96, 3))
        return _concatenate(
            _conv_relu(x, "branch3x3", 384, 3, stride=2),
            _conv_relu(double, "branch3x3dbl_3", 96, 3, stride=2),
            _downsample(x),
        )


class BlockC(nn.Module):
    """Convolutions of 7 pixels along one axis at a time, with `width` channels between them."""

    width: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:  # noqa: D102
        return _concatenate(
            _chain(x, ("branch1x1", 192, 1)),
            _chain(
                x,
                ("branch7x7_1", self.width, 1),
                ("branch7x7_2", self.width, (1, 7)),
                ("branch7x7_3", 192, (7, 1)),
            ),
            _chain(
                x,
                ("branch7x7dbl_1", self.width, 1),
                ("branch7x7dbl_2", self.width, (7, 1)),
                ("branch7x7dbl_3", self.width, (1, 7)),
                ("branch7x7dbl_4", self.width, (7, 1)),
                ("branch7x7dbl_5", 192, (1, 7)),
            ),
            _chain(_average_pool(x), ("branch_pool", 192, 1)),
        )


class BlockD(nn.Module):
    """A reduction of the resolution from 17 to 8 pixels."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:  # noqa: D102
        three = _chain(x, ("branch3x3_1", 192, 1))
        seven = _chain(
            x,
            ("branch7x7x3_1", 192, 1),
            ("branch7x7x3_2", 192, (1, 7)),
            ("branch7x7x3_3", 192, (7, 1)),
        )
        return _concatenate(
            _conv_relu(three, "branch3x3_2", 320, 3, stride=2),
            _conv_relu(seven, "branch7x7x3_4", 192, 3, stride=2),
            _downsample(x),
        )


class BlockE(nn.Module):
    """The widest block; `pool` keeps the resolution."""

    pool: Callable[[jax.Array], jax.Array]

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:  # noqa: D102
        three = _chain(x, ("branch3x3_1", 384, 1))
        double = _chain(x, ("branch3x3dbl_1", 448, 1), ("branch3x3dbl_2", 384, 3))
        return _concatenate(
            _chain(x, ("branch1x1", 320, 1)),
            _conv_relu(three, "branch3x3_2a", 384, (1, 3)),
            _conv_relu(three, "branch3x3_2b", 384, (3, 1)),
            _conv_relu(double, "branch3x3dbl_3a", 384, (1, 3)),
            _conv_relu(double, "branch3x3dbl_3b", 384, (3, 1)),
            _chain(self.pool(x), ("branch_pool", 192, 1)),
        )


class _Classifier(nn.Module):
    @nn.compact
    def __call__(self, pool: jax.Array) -> tuple[jax.Array, jax.Array]:
        kernel = self.param("kernel", _INIT, (pool.shape[-1], 1008))
        bias = self.param("bias", nn.initializers.zeros, (1008,))
        unbiased = pool @ kernel
        return unbiased + bias, unbiased


def _conv_relu(
    x: jax.Array,
    name: str,
    features: int,
    kernel: int | tuple[int, int],
    stride: int = 1,
    padding: str = "SAME",
) -> jax.Array:
    """Applies a convolution and a ReLU; a strided convolution is not padded."""
    convolution = Conv(
        features,
        (kernel, kernel) if isinstance(kernel, int) else kernel,
        (stride, stride),
        padding if stride == 1 else "VALID",
        kernel_init=_INIT,
        name=name,
    )
    return nn.relu(convolution(x))


def _chain(x: jax.Array, *units: Unit) -> jax.Array:
    for unit in units:
        x = _conv_relu(x, *unit)
    return x


def _concatenate(*branches: jax.Array) -> jax.Array:
    return jnp.concatenate(branches, axis=-1)


def _downsample(x: jax.Array) -> jax.Array:
    return nn.max_pool(x, (3, 3), (2, 2))


def _max_pool(x: jax.Array) -> jax.Array:
    return nn.max_pool(x, (3, 3), padding="SAME")


def _average_pool(x: jax.Array) -> jax.Array:
    """Averages 3x3 pixels, fewer at the border."""
    return nn.avg_pool(x, (3, 3), padding="SAME", count_include_pad=False)


def tf1(images: Images) -> jax.Array:
    """Resizes bilinearly as TensorFlow 1, the original FID code and torch-fidelity do.

    Without half-pixel centres, pixel i is interpolated at i n / 299 of n pixels, so that all images
    shift by a fraction of a pixel.

    Args:
      images: uint8 `[B, H, W, C]`, C = 1 or 3.

    Returns:
      float32 `[B, 299, 299, 3]` in [-1, 1).

    Raises:
      ValueError: for any other type or shape.
    """
    return (_bilinear(images, _corner_points) - 128) / 128


def pytorch(images: Images) -> jax.Array:
    """Resizes bilinearly as PyTorch and pytorch-fid do: half-pixel centres, no antialiasing.

    Arguments and errors are those of `tf1`; values are in [-1, 1].
    """
    return _bilinear(images, _centre_points) / 255 * 2 - 1


def clean(images: Images) -> np.ndarray:
    """Resizes as clean-fid does: Pillow's antialiased bicubic filter, in float.

    Runs on the host and cannot be traced. Arguments and errors are those of `tf1`; values may leave
    [-1, 1) slightly. Reference: Parmar et al., "On Aliased Resizing and Surprising Subtleties in
    GAN Evaluation", CVPR 2022.
    """
    from PIL import Image

    _check(images)
    planes = np.moveaxis(np.asarray(images, np.float32), -1, 1)  # [B, C, H, W]
    batch, channels = planes.shape[:2]
    resized = np.empty((batch, channels, SIZE, SIZE), np.float32)
    for index in np.ndindex(batch, channels):
        plane = Image.fromarray(np.ascontiguousarray(planes[index]))
        resized[index] = np.asarray(plane.resize((SIZE, SIZE), Image.Resampling.BICUBIC))
    coloured = np.broadcast_to(resized, (batch, 3, SIZE, SIZE))
    return np.ascontiguousarray(np.moveaxis(coloured, 1, -1) - 128) / 128


RESIZES: dict[str, Callable[[Images], Images]] = {"tf1": tf1, "pytorch": pytorch, "clean": clean}


def _check(images: Images) -> None:
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] not in (1, 3):
        raise ValueError(
            f"images must be uint8 [B, H, W, 1 or 3], given {images.dtype} {list(images.shape)}"
        )


def _bilinear(images: Images, points: Callable[[int], np.ndarray]) -> jax.Array:
    _check(images)
    x = jnp.asarray(images, jnp.float32)
    for axis in (2, 1):
        x = _interpolate(x, points(x.shape[axis]), axis)
    return jnp.broadcast_to(x, (*x.shape[:3], 3))


def _interpolate(x: jax.Array, points: np.ndarray, axis: int) -> jax.Array:
    """Interpolates linearly between the two pixels around each point of an axis."""
    low = points.astype(np.int32)
    high = np.minimum(low + 1, x.shape[axis] - 1)
    weight = (points - low).reshape([-1 if a == axis else 1 for a in range(x.ndim)])
    below, above = jnp.take(x, low, axis), jnp.take(x, high, axis)
    return below + (above - below) * weight


def _corner_points(size: int) -> np.ndarray:
    return np.arange(SIZE, dtype=np.float32) * np.float32(size / SIZE)


def _centre_points(size: int) -> np.ndarray:
    points = (np.arange(SIZE, dtype=np.float32) + np.float32(0.5)) * np.float32(size / SIZE)
    return np.maximum(points - np.float32(0.5), 0)
