"""What the adversarial game makes of the discriminator's output: logits, losses and metrics."""

from typing import Any, NamedTuple

import jax

from gan.errors import UsageError
from gan.games.draw import Draw
from gan.games.networks import check_shape
from gan.losses import Loss
from gan.players import Role


class Logits(NamedTuple):
    """What the discriminator says of a batch.

    Attributes:
      real: Logits of the real examples, `[B]`.
      fake: Logits of the fake ones, `[B]`.
      real_classes: Logits of the classes of the real examples, `[B, classes]`; None where the loss
        does not ask for them.
      fake_classes: Those of the fake ones.
    """

    real: jax.Array
    fake: jax.Array
    real_classes: Any = None
    fake_classes: Any = None


def split_output(losses: Loss, output: Any, drawn: Draw) -> tuple[jax.Array, jax.Array | None]:
    """Returns the discriminator's logits, and those of the classes where the loss asks for them."""
    classes = None
    if losses.classes is not None:
        if not isinstance(output, tuple) or len(output) != 2:
            raise UsageError(
                "the loss asks for logits of the classes: the discriminator must return "
                "(logits [B], class logits [B, classes])"
            )
        output, classes = output
    check_shape("discriminator", output, drawn.labels.shape)
    return output, classes


def loss_of_logits(role: Role, losses: Loss, logits: Logits, drawn: Draw) -> jax.Array:
    """Computes a player's loss without its penalties, a scalar."""
    real, fake, classes = logits.real, logits.fake, losses.classes
    if role == "generator":
        loss = losses.generator(real, fake)
        if classes is not None:
            loss += classes.generator(logits.fake_classes, drawn.labels)
        return loss
    if (noise := losses.label_noise) is not None:
        real, fake = noise.swap(real, fake, drawn.keys["loss"], drawn.step)
    loss = losses.discriminator(real, fake)
    if classes is not None:
        loss += classes.discriminator(logits.real_classes, logits.fake_classes, drawn.labels)
    return loss


def logit_metrics(losses: Loss, logits: Logits, drawn: Draw) -> dict[str, jax.Array]:
    """Returns what is logged of the logits, by name."""
    metrics = {"logits/real": logits.real.mean(), "logits/fake": logits.fake.mean()}
    if (classes := losses.classes) is not None:
        metrics |= classes.metrics(logits.real_classes, logits.fake_classes, drawn.labels)
    return metrics
