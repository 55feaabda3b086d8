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


def halvings(shape: tuple[int, ...]) -> int:
    """How often an image can be halved, down to 4x4 (7x7 for 28).

    Raises:
      ValueError: where an example of this shape is no image of such a size.
    """
    sizes = {28: 2} | {4 * 2**i: i for i in range(1, 9)}
    if len(shape) != 3 or shape[0] != shape[1] or shape[0] not in sizes:
        accepted = ", ".join(map(str, sorted(sizes)))
        data = " x ".join(map(str, shape))
        raise ValueError(f"makes square images of {accepted} pixels; one example here is {data}")
    return sizes[shape[0]]


GENERATORS: Registry[nn.Module] = Registry("generator", nn.Module, context=("shape", "num_classes"))
DISCRIMINATORS: Registry[nn.Module] = Registry(
    "discriminator", nn.Module, context=("shape", "num_classes")
)
