"""Adam's second moments, and how large a gradient is when it is measured by them."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from gan.optimizers import OPTIMIZERS, arguments_of
from gan.schedules import ScalarOrSchedule, of_run_step, value_at
from gan.specs import is_named_number, specs_in

# Those that divide by sqrt(v_hat + eps_root) + eps, with v a mean of squared gradients in their state.
_ADAM = {
    *("adam", "adamw", "lamb", "scale_by_adam", "optimistic_adam"),
    *("optimistic_adam_v2", "amsgrad", "scale_by_amsgrad", "optimistic_amsgrad"),
}
_STRIDE = 13  # along each tensor's last axis: it must not cost the step more than it tells
_STATES = (optax.ScaleByAdamState, optax.ScaleByAmsgradState)


class SecondMoment(NamedTuple):
    """The numbers by which an optimizer makes its second moment, and divides by its root."""

    b2: ScalarOrSchedule
    eps: float
    eps_root: float

    def preconditioned_rms(self, before: optax.OptState, after: optax.OptState) -> jax.Array:
        """Returns the root of the mean over the parameters of (g / (sqrt(v_hat + eps_root) + eps))^2.

        It is 1 while gradients are as large as they were in the last 1 / (1 - b2) updates. g^2 is what
        has come to v, v_new - b2 v_old over 1 - b2: the square of the gradient as the optimizer gets it,
        behind `clip_by_global_norm` and the like. Of a step with n updates, such as extragradient's, it is
        their mean with the weights that they have in v. Parameters without a second moment are not
        counted, and of the others every 13th along the last axis is.

        It is RMS_t of Wortsman et al., "Stable and low-precision training for large-scale
        vision-language models", NeurIPS 2023, section 3.4, over all tensors.

        Args:
          before: The optimizer's state before the step.
          after: Its state after it.
        """
        total, size = jnp.zeros([]), 0
        # Behind a barrier: in one fusion with the update, the update might be rounded in another way.
        before, after = jax.lax.optimization_barrier((_states(before), _states(after)))
        for old, new in zip(before, after, strict=True):
            b2 = value_at(self.b2, old.count)
            kept, kept_since_start = (
                jnp.power(b2, n.astype(jnp.float32)) for n in (new.count - old.count, new.count)
            )
            largest = getattr(new, "nu_max", None)
            trees = (old.nu, new.nu, new.nu if largest is None else largest)
            for leaves in zip(*map(jax.tree.leaves, trees), strict=True):
                v_old, v_new, v = (jnp.atleast_1d(leaf)[..., ::_STRIDE] for leaf in leaves)
                v = v / (1 - kept_since_start) if largest is None else v
                came = jnp.maximum(v_new - kept * v_old, 0) / (1 - kept)
                square = came / (jnp.sqrt(v + self.eps_root) + self.eps) ** 2
                total += jnp.sum(jnp.where((v_new > 0) & (kept < 1), square, 0))
                size += v.size
        return jnp.sqrt(total / max(size, 1))


def second_moment_of(text: str) -> SecondMoment | None:
    """Finds the second moment in the spec of an optimizer: also in a link, and in the parts of `by_path`.

    Returns:
      None where the optimizer has none as Adam makes it, or several that differ in these numbers.
    """
    found: list[tuple[Any, ...]] = []
    for spec in specs_in(text):
        if OPTIMIZERS.owner(spec.name) is not OPTIMIZERS:
            continue
        if "b2" not in OPTIMIZERS.parameters(spec.name):
            continue
        if spec.name not in _ADAM:
            return None
        given = arguments_of(spec)
        found.append((given["b2"], given["eps"], given.get("eps_root", 0.0)))
    if not found or any(_differ(found[0], other) for other in found[1:]):
        return None
    b2, eps, eps_root = found[0]
    return SecondMoment(of_run_step(OPTIMIZERS.resolve(b2)), eps, eps_root)


def _differ(some: tuple[Any, ...], others: tuple[Any, ...]) -> bool:
    """Returns whether numbers are not known to be the same; what is traced has no value yet."""
    pairs = zip(some, others, strict=True)
    return any(
        a is not b and (is_named_number(a) or is_named_number(b) or a != b) for a, b in pairs
    )


def _states(opt_state: optax.OptState) -> list[optax.OptState]:
    leaves = jax.tree.leaves(opt_state, is_leaf=lambda node: isinstance(node, _STATES))
    return [leaf for leaf in leaves if isinstance(leaf, _STATES)]
