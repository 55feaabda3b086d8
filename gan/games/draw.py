"""One batch of the adversarial game, with all that is random about it, sample by sample."""

import jax
import jax.numpy as jnp
from flax import struct

from gan.data.dataset import Batch
from gan.schedules import run_step
from gan.sharding import split_batch


@struct.dataclass
class Draw:
    """B samples of each kind; the first axis of every array but the numbers is theirs.

    Attributes:
      examples: Real examples `[B, *shape]`.
      labels: int32 `[B]`, of the real and of the fake examples.
      latents: float32 `[B, Z]`.
      keys: Random keys `[B]` by what they are for: `real` and `fake` for augmentations, `loss`,
        `penalty`, `generator` for what is random in it besides the latents.
      update: Number of the discriminator's update, an int32 scalar from 0.
      step: Generator updates before this one, an int32 scalar.
    """

    examples: jax.Array
    labels: jax.Array
    latents: jax.Array
    keys: dict[str, jax.Array]
    update: jax.Array
    step: jax.Array

    def parts(self, count: int) -> "Draw":
        """Returns the draw cut into equal parts, `[count, B / count, ...]`.

        Each part has every `count`-th sample, so that a batch that is split over devices need not move.
        """

        def cut(x: jax.Array) -> jax.Array:
            if x.ndim == 0:
                return jnp.broadcast_to(x, [count])
            return x.reshape(len(x) // count, count, *x.shape[1:]).swapaxes(0, 1)

        return jax.tree.map(cut, self)


def draw(batch: Batch, latent_dim: int, key: jax.Array, size: int | None = None) -> Draw:
    """Draws latents and keys for a batch of real examples.

    Args:
      batch: The real examples.
      latent_dim: Z.
      key: What is drawn is a function of it.
      size: B, where it is not that of the batch: its examples are then taken again from the start,
        or not all.
    """
    examples, labels = batch.examples, batch.labels
    if size is not None and size != len(labels):
        rows = jnp.arange(size) % len(labels)
        examples, labels = split_batch(examples[rows]), split_batch(labels[rows])
    latents_key, rest = jax.random.split(key)
    latents = jax.random.normal(latents_key, [len(labels), latent_dim])
    names = ("real", "fake", "loss", "penalty", "generator")
    keys = {
        name: jax.random.split(jax.random.fold_in(rest, number), len(labels))
        for number, name in enumerate(names)
    }
    return Draw(examples, labels, split_batch(latents), keys, batch.update, run_step(batch.update))
