"""Where networks are found by name.

A network is a linen module with the fields `shape` and `num_classes`, which come from the dataset;
its other fields are what a spec may set. A generator maps `(latents [B, Z], labels [B])` to
`[B, *shape]`, a discriminator `(examples [B, *shape], labels [B])` to logits `[B]`; both take
`train` as a keyword. A network whose field `conditional` is false must not look at the labels. A
discriminator with a true attribute `samplewise` must judge each sample by itself; steps of both players
at once then take one pass back through it, instead of two.
"""

from flax import linen as nn

from gan.specs import Registry


def check_size(name: str, value: int, least: int) -> None:
    """Raises ValueError where a network's size is too small to mean anything."""
    if value < least:
        raise ValueError(f"{name} must be at least {least}, given {value}")


GENERATORS: Registry[nn.Module] = Registry("generator", nn.Module, context=("shape", "num_classes"))
DISCRIMINATORS: Registry[nn.Module] = Registry(
    "discriminator", nn.Module, context=("shape", "num_classes")
)
