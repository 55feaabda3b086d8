"""Optimizers by name: all of optax, and the optimistic ones as the paper defines them."""

import inspect
from collections.abc import Callable
from typing import Any, Literal, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import optax
import optax.contrib

from gan.specs import Registry

ScalarOrSchedule: TypeAlias = float | Callable[..., Any]
FirstStep: TypeAlias = Literal["optimistic", "plain"]

OPTIMIZERS: Registry[optax.GradientTransformation] = Registry(
    "optimizer", optax.GradientTransformation, chain=optax.chain
)

# What a game has no use for, or a line of text cannot say.
_LEFT_OUT = {
    # a line search needs one objective to go down; in a game each step moves the other's
    *("lbfgs", "scale_by_backtracking_linesearch", "scale_by_zoom_linesearch"),
    # arguments that are functions or trees
    *("conditionally_mask", "conditionally_transform", "inject_hyperparams", "masked"),
    *("inject_stateful_hyperparams", "measure_with_ema", "multi_transform", "named_chain"),
    *("partition", "selective_transform", "snapshot", "stateless", "stateless_with_tree_map"),
    *("freeze", "microbatch", "with_extra_args_support", "value_and_grad_from_state"),
    # the loss as a function, a class of parameters of its own, or a loop of its own
    *("lookahead", "sam", "sophia"),
    # parameters that are matrices only, gradients of single examples, complex numbers
    *("scale_by_muon", "differentially_private_aggregate", "dpsgd", "split_real_and_imaginary"),
}


def _register_optax() -> None:
    products = {optax.GradientTransformation, optax.GradientTransformationExtraArgs, optax.Schedule}
    for module in (optax, optax.contrib):
        for name, maker in inspect.getmembers(module, inspect.isfunction):
            makes = inspect.signature(maker).return_annotation
            if makes in products and name not in _LEFT_OUT and not name.startswith("_"):
                OPTIMIZERS.register(name)(maker)


_register_optax()


class OptimisticState(NamedTuple):
    """The state of `scale_by_optimistic_gradient`."""

    step: jax.Array
    previous: optax.Updates


@OPTIMIZERS.register("scale_by_optimistic_gradient")
def scale_by_optimistic_gradient(
    alpha: ScalarOrSchedule = 1.0,
    beta: ScalarOrSchedule = 1.0,
    first_step: FirstStep = "optimistic",
) -> optax.GradientTransformation:
    """Turns the directions r_t into (alpha_t + beta_t) r_t - beta_t r_{t-1}.

    Unlike optax's transformation of this name it takes schedules, and starts from r_0 = 0 as the
    paper does.

    Args:
      alpha: How far to go.
      beta: How far to correct for the last step, the strength; 0 is no optimism.
      first_step: `"optimistic"` starts from r_0 = 0, so that the first output is
        (alpha + beta) r_1; `"plain"` from r_0 = r_1, which makes it alpha r_1.

    Reference: Daskalakis et al., "Training GANs with Optimism", ICLR 2018, equation 6.
    """
    if first_step not in ("optimistic", "plain"):
        raise ValueError(f"first_step must be 'optimistic' or 'plain', given {first_step!r}")
    if isinstance(beta, int | float) and beta < 0:
        raise ValueError(f"strength must be 0 or more, given {beta}")

    def init(params: optax.Params) -> OptimisticState:
        return OptimisticState(jnp.zeros([], jnp.int32), optax.tree.zeros_like(params))

    def update(
        updates: optax.Updates, state: OptimisticState, params: optax.Params | None = None
    ) -> tuple[optax.Updates, OptimisticState]:
        now, back = _value(alpha, state.step), _value(beta, state.step)
        start_plain = (first_step == "plain") & (state.step == 0)

        def optimistic(new: jax.Array, old: jax.Array) -> jax.Array:
            old = jnp.where(start_plain, new, old)
            return ((now + back) * new - back * old).astype(new.dtype)

        directions = jax.tree.map(optimistic, updates, state.previous)
        return directions, OptimisticState(optax.safe_increment(state.step), updates)

    return optax.GradientTransformation(init, update)


@OPTIMIZERS.register("optimistic_adam")
def optimistic_adam(
    learning_rate: ScalarOrSchedule,
    strength: ScalarOrSchedule | None = None,
    *,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
    nesterov: bool = False,
    first_step: FirstStep = "optimistic",
) -> optax.GradientTransformation:
    """Optimistic Adam: Adam's direction r_t, then optimism on it.

    theta_t = theta_{t-1} - (learning_rate + strength) r_t + strength r_{t-1},
    r_t = m_hat_t / (sqrt(v_hat_t) + eps).

    Args:
      learning_rate: Step size, or a schedule of it.
      strength: How strongly to correct for the last step, a number of its own that the learning
        rate does not scale; None is the learning rate itself, step by step: the paper's
        theta_t = theta_{t-1} - 2 eta r_t + eta r_{t-1}.
      b1: Decay of the first moment.
      b2: Decay of the second moment.
      eps: Added to the root of the second moment.
      nesterov: Whether r_t looks ahead as in Nadam; the paper's does not.
      first_step: See `scale_by_optimistic_gradient`.

    >>> optimizer = optimistic_adam(0.1)
    >>> updates, _ = optimizer.update(jnp.array([3.0]), optimizer.init(jnp.zeros(1)))
    >>> print(updates)  # Adam's first direction is 1, and the first step 2 * 0.1 * 1
    [-0.2]

    Reference: Daskalakis et al., "Training GANs with Optimism", ICLR 2018, Algorithm 1.
    """
    return optax.chain(
        optax.scale_by_adam(b1=b1, b2=b2, eps=eps, nesterov=nesterov),
        _optimism(learning_rate, strength, first_step),
    )


@OPTIMIZERS.register("optimistic_sgd")
def optimistic_sgd(
    learning_rate: ScalarOrSchedule,
    strength: ScalarOrSchedule | None = None,
    *,
    first_step: FirstStep = "optimistic",
) -> optax.GradientTransformation:
    """Optimistic gradient descent: theta - (learning_rate + strength) g_t + strength g_{t-1}.

    Args and reference: as `optimistic_adam`, with the gradient as the direction (OGDA).
    """
    return _optimism(learning_rate, strength, first_step)


def _optimism(
    learning_rate: ScalarOrSchedule, strength: ScalarOrSchedule | None, first_step: FirstStep
) -> optax.GradientTransformation:
    return optax.chain(
        scale_by_optimistic_gradient(
            learning_rate, learning_rate if strength is None else strength, first_step
        ),
        optax.scale(-1.0),
    )


@OPTIMIZERS.register("clip_weights")
def clip_weights(max_abs: float) -> optax.GradientTransformation:
    """Ends a chain such that every parameter stays within [-max_abs, max_abs] after the step.

    Arjovsky et al., "Wasserstein GAN", ICML 2017, Algorithm 1, line 7.
    """

    def update(updates: optax.Updates, params: optax.Params | None) -> optax.Updates:
        def clip(update: jax.Array, param: jax.Array) -> jax.Array:
            return jnp.clip(param + update, -max_abs, max_abs) - param

        return jax.tree.map(clip, updates, params)

    return optax.stateless(update)


def _value(number: ScalarOrSchedule, count: jax.Array) -> Any:
    return number(count) if callable(number) else number
