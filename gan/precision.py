"""The precision of a run: what of it is computed in bfloat16.

With `precision = "bfloat16"` (Micikevicius et al., "Mixed Precision Training", ICLR 2018; Kalamkar et
al., "A Study of BFLOAT16 for Deep Learning Training", 2019) the layers of both networks take inputs and
kernels in bfloat16, and give outputs in bfloat16; what they sum within, they sum in float32. All else
is float32:

- parameters, and hence gradients, optimizers and averages of the generator;
- statistics of batch normalisation, and vectors and values of spectral normalisation;
- biases while they are added, so that their gradients are summed over a batch's pixels in float32;
- a discriminator from its features on: a logit is a sum of features, and a loss may take the
  difference of two large logits;
- a mapping network, the styles and scales that are made of its output, and sums of images over resolutions;
- tanh at a generator's end: near 1 bfloat16 has steps of 1 / 256, and no slope;
- logits, images, losses and penalties.

bfloat16 has the range of float32, so losses need no scaling; float16 would.
"""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, Jaxpr

PRODUCTS = ("dot_general", "conv_general_dilated", "onednn_convolution")


def compute_dtype(precision: str) -> Any:
    """Returns the `dtype` of the networks' layers: None for `float32`, in which they infer it."""
    return jnp.bfloat16 if precision == "bfloat16" else None


def at_least_float32(x: jax.Array) -> jax.Array:
    """Returns an array in float32 where it is of a narrower floating type, and else as it is."""
    narrow = jnp.issubdtype(x.dtype, jnp.floating) and x.dtype.itemsize < 4
    return x.astype(jnp.float32) if narrow else x


def product_types(function: Callable[..., Any], *args: Any) -> list[jnp.dtype]:
    """Returns the type of the operands of each product and convolution that a function makes.

    Nothing is computed. Where a convolution is lowered in one way on CPUs and in another on other devices,
    both are there. Operands of two types count as the wider one.

    Args:
      function: A function of arrays.
      *args: Its arguments, or their shapes and types.
    """
    jaxpr = jax.make_jaxpr(function)(*args).jaxpr
    return [
        jnp.result_type(*(operand.aval.dtype for operand in equation.invars))
        for equation in equations(jaxpr)
        if equation.primitive.name in PRODUCTS
    ]


def equations(jaxpr: Jaxpr) -> Iterator[Any]:
    """Yields the equations of a jaxpr, and of all those within it."""
    for equation in jaxpr.eqns:
        yield equation
        for inner in jax.tree.leaves(
            list(equation.params.values()), is_leaf=lambda x: isinstance(x, Jaxpr | ClosedJaxpr)
        ):
            if isinstance(inner, Jaxpr | ClosedJaxpr):
                yield from equations(inner.jaxpr if isinstance(inner, ClosedJaxpr) else inner)
