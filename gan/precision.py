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
- tanh at a generator's end: near 1 bfloat16 has steps of 1 / 256, and no slope;
- logits, images, losses and penalties.

bfloat16 has the range of float32, so losses need no scaling; float16 would.
"""

from typing import Any

import jax
import jax.numpy as jnp


def compute_dtype(precision: str) -> Any:
    """Returns the `dtype` of the networks' layers: None for `float32`, in which they infer it."""
    return jnp.bfloat16 if precision == "bfloat16" else None


def at_least_float32(x: jax.Array) -> jax.Array:
    """Returns an array in float32 where it is of a narrower floating type, and else as it is."""
    narrow = jnp.issubdtype(x.dtype, jnp.floating) and x.dtype.itemsize < 4
    return x.astype(jnp.float32) if narrow else x
