"""Normalisations that several networks share.

They are functions, called within a network's `__call__`: the layers that they make are then layers of
the network itself, by the names that they would have there.
"""

from collections.abc import Callable
from typing import Any, TypeAlias

import jax
from flax import linen as nn

from gan.precision import at_least_float32

Apply: TypeAlias = Callable[[nn.Module, jax.Array], jax.Array]
"""Applies a layer to its input."""


def applying(*, spectral: bool, train: bool) -> Apply:
    """Returns a function that applies a layer, with spectral normalisation or without.

    With it every matrix of the layer, kernel or embedding, is divided by its largest singular value,
    which is found by one step of a power iteration at each use in training. A kernel `[h, w, C, C']`
    counts as a matrix `[h w C, C']`; biases stay as they are. Vectors and values are float32. Parameters
    start as the initialiser makes them; linen's own would start divided by their norms, which is the same
    function, but an optimizer's steps turn it faster or slower.

    Miyato et al., "Spectral Normalization for Generative Adversarial Networks", ICLR 2018.

    Args:
      spectral: Whether layers are normalised.
      train: Whether the power iterations go on.
    """
    if not spectral:
        return lambda layer, x: layer(x)

    def apply(layer: nn.Module, x: jax.Array) -> jax.Array:
        normalised = nn.SpectralNorm(layer)
        if not layer.is_initializing():
            return normalised(x, update_stats=train)
        layer(x)
        first = dict(layer.variables["params"])
        y = normalised(x, update_stats=train)
        for name, value in first.items():
            layer.put_variable("params", name, value)
        return y

    return apply


def conditional_batch_norm(
    x: jax.Array, scale: jax.Array, bias: jax.Array, *, train: bool, dtype: Any = None
) -> jax.Array:
    """Normalises each channel over the batch; each example then has its own scales and biases.

    Dumoulin et al., "A Learned Representation For Artistic Style", ICLR 2017; de Vries et al., NIPS 2017.

    Args:
      x: `[B, H, W, C]`.
      scale: `[B, C]`, such as that of `class_affine` or `projected_affine`.
      bias: `[B, C]`.
      train: Whether the batch's own statistics are used, and averaged.
      dtype: Type of the computation.
    """
    x = nn.BatchNorm(not train, momentum=0.9, use_scale=False, use_bias=False, dtype=dtype)(x)
    return (x * scale[:, None, None] + bias[:, None, None]).astype(x.dtype)


def class_affine(
    labels: jax.Array,
    num_classes: int,
    features: int,
    scale_init: nn.initializers.Initializer = nn.initializers.ones,
    bias_init: nn.initializers.Initializer = nn.initializers.zeros,
) -> tuple[jax.Array, jax.Array]:
    """Returns scales and biases `[B, features]`, those of the label's class, `[B]`: two tables.

    Miyato and Koyama, "cGANs with Projection Discriminator", ICLR 2018.
    """
    scale, bias = (
        nn.Embed(num_classes, features, embedding_init=init)(labels)
        for init in (scale_init, bias_init)
    )
    return scale, bias


def projected_affine(
    vector: jax.Array, make_dense: Callable[[], nn.Module], apply: Apply
) -> tuple[jax.Array, jax.Array]:
    """Returns scales and biases `[B, C]`: 1 and 0 plus linear maps of a vector `[B, V]`.

    Brock et al., "Large Scale GAN Training for High Fidelity Natural Image Synthesis", ICLR 2019,
    appendix B. They are in float32, so that their gradients are summed over pixels in it.

    Args:
      vector: `[B, V]`.
      make_dense: Makes a dense layer of C features, without a bias.
      apply: Applies it.
    """
    scale, bias = (at_least_float32(apply(make_dense(), vector)) for _ in range(2))
    return 1 + scale, bias
