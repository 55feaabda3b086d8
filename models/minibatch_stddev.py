"""Minibatch standard deviation: how much the images of a batch differ, as channels of their own.

Karras et al., "Progressive Growing of GANs", ICLR 2018; in groups, as in StyleGAN's code.
"""

import jax
import jax.numpy as jnp

from gan.errors import UsageError

EPSILON = 1e-8
"""Added to a variance; that of the authors' code."""


def append_minibatch_stddev(x: jax.Array, group_size: int, num_channels: int = 1) -> jax.Array:
    """Appends standard deviations over groups of images, `[B, H, W, C]` to `[B, H, W, C + num_channels]`.

    Of B images every (B / group_size)-th is in the same group, as in
    github.com/NVlabs/stylegan2-ada-pytorch, training/networks.py. Each new channel is the mean, over pixels and over
    its share of the channels, of the standard deviation within the group: one number for all pixels.

    Args:
      x: Features of the images, at least float32.
      group_size: Images of a group; where the batch has fewer, it is one group.
      num_channels: F; the channels are split into so many shares.

    Raises:
      UsageError: where the groups do not divide the batch, or F does not divide C.
    """
    batch, height, width, channels = x.shape
    size = min(group_size, batch)
    if batch % size:
        raise UsageError(
            f"minibatch standard deviation: groups of {group_size} do not divide a batch, or a part of it, "
            f"of {batch} examples"
        )
    if channels % num_channels:
        raise UsageError(
            f"minibatch standard deviation: {num_channels} channels do not divide the {channels} of "
            f"the features"
        )
    groups = x.reshape(size, batch // size, height, width, num_channels, channels // num_channels)
    deviation = jnp.sqrt(groups.var(0) + EPSILON).mean((1, 2, 4))  # [B / size, F]
    deviation = jnp.tile(deviation, (size, 1))[:, None, None]  # [B, 1, 1, F]
    return jnp.concatenate([x, jnp.broadcast_to(deviation, (*x.shape[:3], num_channels))], -1)
