"""LeCam: the discriminator's logits close to what they have been for the other kind of examples."""

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import jax
import jax.numpy as jnp
from jax.nn import relu

from gan.argument_bounds import AtLeast, Within
from gan.regularizers.regularizer import REGULARIZERS, PenaltyInputs, Regularizer, Weight


@REGULARIZERS.register("lecam")
@dataclass(frozen=True)
class LeCam(Regularizer):
    """The penalty weight * (E relu(D(x) - f)^2 + E relu(r - D(G(z)))^2).

    r and f are moving averages of the logits of real and of fake examples; they are constants to the
    gradient, and already contain the batch's own means.

    Attributes:
      weight: Factor of the penalty, or a schedule of it. It suits logits of about 1, as hinge's; the
        authors take 0.3 for BigGAN with hinge, and 1e-6 for StyleGAN2 with the logistic loss.
      every: Applied at every n-th update, times n.
      decay: Of the averages.
      start_step: Generator updates before the averages start to remember; up to then they are the
        newest means, and the penalty is 0.

    Tseng et al., "Regularizing Generative Adversarial Networks under Limited Data", CVPR 2021, section
    3.2. The paper's equation is without relu: it also pulls a real example's logit up to f, and a
    fake one's down to r, where these have changed places. This is the form of the authors' code
    (github.com/google/lecam-gan, `losses.py`), by which their results were made, and so are the
    defaults (`biggan_cifar`).
    """

    weight: Weight = 0.3
    decay: Annotated[float, Within(0, 1, open_end=True)] = 0.9
    start_step: Annotated[int, AtLeast(0)] = 1000

    of_logits: ClassVar[bool] = True
    over_batch: ClassVar[bool] = True

    def init(self) -> Any:
        """Returns averages of nothing yet, which the first means replace."""
        return {"real": jnp.zeros([]), "fake": jnp.zeros([]), "seen": jnp.zeros([])}

    def penalty(self, inputs: PenaltyInputs, state: Any) -> tuple[jax.Array, Any]:  # noqa: D102
        real, fake = inputs.real_logits, inputs.fake_logits
        assert real is not None and fake is not None  # as it is `of_logits`
        waiting = inputs.step <= self.start_step
        decay = jnp.where(waiting | (state["seen"] == 0), 0.0, self.decay)
        means = {"real": real.mean(), "fake": fake.mean(), "decay": decay}
        means = jax.lax.stop_gradient(means)
        anchors = self.update(state, means)
        penalty = (relu(real - anchors["fake"]) ** 2).mean()
        penalty += (relu(anchors["real"] - fake) ** 2).mean()
        return jnp.where(waiting, 0.0, penalty), means

    def update(self, state: Any, means: Any) -> Any:  # noqa: D102
        decay = means["decay"]
        moved = {name: decay * state[name] + (1 - decay) * means[name] for name in ("real", "fake")}
        return moved | {"seen": jnp.ones([])}
