"""Optimizers by name: those of optax, and the optimistic ones as their paper defines them."""

import functools
import inspect
from collections.abc import Iterator
from types import MappingProxyType
from typing import Annotated, Any, Literal, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import optax
import optax.contrib

from gan import schedule_free
from gan.argument_bounds import AtLeast, Within, broken_bound
from gan.by_path import by_path
from gan.errors import UsageError
from gan.optax_bounds import DECAY, MOMENTUM, with_bounds
from gan.registry import Registry
from gan.scheduled import takes_schedules, with_scheduled_moments
from gan.schedules import (
    SCHEDULES,
    ScalarOrSchedule,
    Schedule,
    StepSchedule,
    of_run_step,
    value_at,
)
from gan.specs import Spec, names_in, parse

Rate: TypeAlias = Annotated[float, AtLeast(0)] | Schedule
Strength: TypeAlias = Annotated[float, AtLeast(0)] | Schedule
FirstStep: TypeAlias = Literal["optimistic", "plain"]

OPTIMIZERS: Registry[optax.GradientTransformation] = Registry(
    "optimizer",
    optax.GradientTransformation,
    chain=optax.chain,
    lender=SCHEDULES,
    adapt=of_run_step,
)

# Those that are of no use in a game, or that a line of text cannot ask for.
_LEFT_OUT = {
    # a line search needs one objective to descend; in a game each step moves the other player's
    *("lbfgs", "scale_by_backtracking_linesearch", "scale_by_zoom_linesearch"),
    # arguments that are functions or trees
    *("conditionally_mask", "conditionally_transform", "inject_hyperparams", "masked"),
    *("inject_stateful_hyperparams", "measure_with_ema", "multi_transform", "named_chain"),
    *("partition", "selective_transform", "snapshot", "stateless", "stateless_with_tree_map"),
    *("freeze", "microbatch", "with_extra_args_support", "value_and_grad_from_state"),
    # need the loss as a function, their own class of parameters, or their own loop
    *("lookahead", "sam", "sophia"),
    # need parameters that are all matrices, gradients of single examples, or complex numbers
    *("scale_by_muon", "differentially_private_aggregate", "dpsgd", "split_real_and_imaginary"),
}


_SCHEDULE_FREE: dict[str, Any] = {
    "b1": Annotated[
        float, Within(0, 1, open_start=True)
    ],  # its weights are those of a division by b1
    # It would count the optimizer's calls; a schedule as the learning rate counts the run's steps.
    "warmup_steps": None,
    "b2": Annotated[float, DECAY],
    "learning_rate": Rate,
}


def _register_optax() -> None:
    products = {optax.GradientTransformation, optax.GradientTransformationExtraArgs}
    for module in (optax, optax.contrib):
        for name, maker in inspect.getmembers(module, inspect.isfunction):
            makes = inspect.signature(maker).return_annotation
            if makes in products and name not in _LEFT_OUT and not name.startswith("_"):
                if name.startswith("schedule_free"):  # its state depends on b1
                    OPTIMIZERS.register(name)(with_bounds(name, maker, _SCHEDULE_FREE))
                else:
                    bounded = with_bounds(name, maker, {})
                    OPTIMIZERS.register(name)(with_scheduled_moments(bounded))


_register_optax()


class OptimisticState(NamedTuple):
    """The state of `scale_by_optimistic_gradient`.

    Attributes:
      step: Updates so far, an int32 scalar.
      previous: The direction of the last update, r_{t-1}.
    """

    step: jax.Array
    previous: optax.Updates


@OPTIMIZERS.register("scale_by_optimistic_gradient")
def scale_by_optimistic_gradient(
    alpha: ScalarOrSchedule = 1.0,
    beta: Strength = 1.0,
    first_step: FirstStep = "optimistic",
) -> optax.GradientTransformation:
    """Turns the directions r_t into (alpha_t + beta_t) r_t - beta_t r_{t-1}.

    Unlike optax's transformation of this name, it takes schedules, and starts from r_0 = 0 as in
    the paper.

    Args:
      alpha: Scale of the direction.
      beta: Strength, the scale of the correction for the last step; 0 is no optimism.
      first_step: `"optimistic"` starts from r_0 = 0, so that the first output is
        (alpha + beta) r_1; `"plain"` starts from r_0 = r_1, so that it is alpha r_1.

    Reference: Daskalakis et al., "Training GANs with Optimism", ICLR 2018, equation 6.
    """
    if first_step not in ("optimistic", "plain"):
        raise ValueError(f"first_step must be 'optimistic' or 'plain', given {first_step!r}")
    if (bound := broken_bound(beta, Strength)) is not None:
        raise ValueError(f"strength must be {bound}, given {beta}")

    def init(params: optax.Params) -> OptimisticState:
        return OptimisticState(jnp.zeros([], jnp.int32), optax.tree.zeros_like(params))

    def update(
        updates: optax.Updates, state: OptimisticState, params: optax.Params | None = None
    ) -> tuple[optax.Updates, OptimisticState]:
        now, back = value_at(alpha, state.step), value_at(beta, state.step)
        start_plain = (first_step == "plain") & (state.step == 0)

        def optimistic(new: jax.Array, old: jax.Array) -> jax.Array:
            old = jnp.where(start_plain, new, old)
            return ((now + back) * new - back * old).astype(new.dtype)

        directions = jax.tree.map(optimistic, updates, state.previous)
        return directions, OptimisticState(optax.safe_increment(state.step), updates)

    return optax.GradientTransformation(init, update)


@OPTIMIZERS.register("optimistic_adam")
@functools.partial(takes_schedules, names=("b1", "b2"))
def optimistic_adam(
    learning_rate: Rate,
    strength: Strength | None = None,
    *,
    b1: Annotated[float, MOMENTUM] | Schedule = 0.9,
    b2: Annotated[float, DECAY] | Schedule = 0.999,
    eps: Annotated[float, AtLeast(0)] = 1e-8,
    nesterov: bool = False,
    first_step: FirstStep = "optimistic",
) -> optax.GradientTransformation:
    """Builds Optimistic Adam: optimism applied to Adam's direction r_t.

    theta_t = theta_{t-1} - (learning_rate + strength) r_t + strength r_{t-1},
    r_t = m_hat_t / (sqrt(v_hat_t) + eps).

    Args:
      learning_rate: Step size, or a schedule of it.
      strength: Scale of the correction for the last step, or a schedule of it; the learning rate
        does not scale it. None takes the learning rate of each step, which is the paper's
        theta_t = theta_{t-1} - 2 eta r_t + eta r_{t-1}.
      b1: Decay of the first moment, or a schedule of it.
      b2: Decay of the second moment, or a schedule of it.
      eps: Number added to the root of the second moment.
      nesterov: Whether r_t looks ahead as in Nadam, which the paper's does not.
      first_step: See `scale_by_optimistic_gradient`.

    >>> optimizer = optimistic_adam(0.1)
    >>> updates, _ = optimizer.update(jnp.array([3.0]), optimizer.init(jnp.zeros(1)))
    >>> print(updates.round(3))  # Adam's first direction is 1, and the first step 2 * 0.1 * 1
    [-0.2]

    Reference: Daskalakis et al., "Training GANs with Optimism", ICLR 2018, Algorithm 1.
    """
    return optax.chain(
        optax.scale_by_adam(b1=b1, b2=b2, eps=eps, nesterov=nesterov),
        _optimism(learning_rate, strength, first_step),
    )


@OPTIMIZERS.register("optimistic_amsgrad")
@functools.partial(takes_schedules, names=("b1", "b2"))
def optimistic_amsgrad(
    learning_rate: Rate,
    strength: Strength | None = None,
    *,
    b1: Annotated[float, MOMENTUM] | Schedule = 0.9,
    b2: Annotated[float, DECAY] | Schedule = 0.999,
    eps: Annotated[float, AtLeast(0)] = 1e-8,
    bias_correction: bool = True,
    first_step: FirstStep = "optimistic",
) -> optax.GradientTransformation:
    """Builds Optimistic AMSGrad: optimism applied to AMSGrad's direction r_t.

    theta_t = theta_{t-1} - (learning_rate + strength) r_t + strength r_{t-1},
    r_t = m_hat_t / (sqrt(max(v_hat_1, ..., v_hat_t)) + eps).

    `bias_correction` says whether m and v are corrected for their start, v before the maximum is taken;
    the papers do not. The other arguments are those of `optimistic_adam`.

    Without the correction it is Algorithm 2 of Wang et al. with the last gradient as the guess of the
    next, but for v: theirs is of the errors of the guesses, (g_t - g_{t-1})^2, and here it is of g_t^2,
    as in Optimistic Adam.

    Reference: Wang et al., "An Optimistic Acceleration of AMSGrad for Nonconvex Optimization", ACML
    2021, Algorithm 2.
    """
    corrected = {"bias_correction_mu": bias_correction, "bias_correction_nu": bias_correction}
    return optax.chain(
        optax.scale_by_amsgrad(b1=b1, b2=b2, eps=eps, **corrected),
        _optimism(learning_rate, strength, first_step),
    )


@OPTIMIZERS.register("optimistic_sgd")
def optimistic_sgd(
    learning_rate: Rate,
    strength: Strength | None = None,
    *,
    first_step: FirstStep = "optimistic",
) -> optax.GradientTransformation:
    """Builds optimistic gradient descent (OGDA), with the gradient g_t as the direction.

    theta_t = theta_{t-1} - (learning_rate + strength) g_t + strength g_{t-1}. Arguments and
    reference are those of `optimistic_adam`.
    """
    return _optimism(learning_rate, strength, first_step)


def _optimism(
    learning_rate: ScalarOrSchedule, strength: Strength | None, first_step: FirstStep
) -> optax.GradientTransformation:
    return optax.chain(
        scale_by_optimistic_gradient(
            learning_rate, learning_rate if strength is None else strength, first_step
        ),
        optax.scale(-1.0),
    )


@OPTIMIZERS.register("clip_weights")
def clip_weights(max_abs: Annotated[float, AtLeast(0)]) -> optax.GradientTransformation:
    """Keeps every parameter in [-max_abs, max_abs] after the step, at the end of a chain.

    Arjovsky et al., "Wasserstein GAN", ICML 2017, Algorithm 1, line 7.
    """

    def update(updates: optax.Updates, params: optax.Params | None) -> optax.Updates:
        def clip(update: jax.Array, param: jax.Array) -> jax.Array:
            return jnp.clip(param + update, -max_abs, max_abs) - param

        return jax.tree.map(clip, updates, params)

    return optax.stateless(update)


OPTIMIZERS.register("by_path")(by_path)

# Those that set the parameters, rather than step from where they are, or that reshape them: the
# weights of a schedule-free optimizer are not those parameters.
_NOT_SCHEDULE_FREE = {
    *("clip_weights", "keep_params_nonnegative", "cocob", "scale_by_cocob", "madgrad"),
    *("scale_by_madgrad", "mechanize", "flatten"),
}


_CONSTRAINTS = {"clip_weights", "keep_params_nonnegative"}


def constraints_of(text: str) -> list[optax.GradientTransformation]:
    """Builds those links of a spec alone that keep parameters in a set.

    Raises:
      UsageError: where one is within another optimizer.
    """
    links = [link for link in parse(text) if link.name in _CONSTRAINTS]
    if inner := sorted(names_in(text) & _CONSTRAINTS - {link.name for link in links}):
        raise UsageError(
            f"{inner[0]} is within another optimizer in {text!r}, and not a link of it"
        )
    return [OPTIMIZERS.resolve(link) for link in links]


def trace_update(optimizer: optax.GradientTransformation, params: optax.Params) -> optax.OptState:
    """Traces an optimizer's first update, with the parameters as gradient; returns its state's shapes.

    Raises:
      Exception: any that the optimizer raises, such as where it needs more than a gradient.
    """
    optimizer = optax.with_extra_args_support(optimizer)

    def first(params: optax.Params) -> optax.OptState:
        return optimizer.update(params, optimizer.init(params), params, value=jnp.zeros([]))[1]

    return jax.eval_shape(first, params)


def check_links(text: str, opt_state: optax.OptState) -> None:
    """Checks that a schedule-free optimizer's weights are what the rest of its spec promises.

    Args:
      text: The spec.
      opt_state: The state of what it built.

    Raises:
      UsageError: where they are not: see also `gan.schedule_free.find_state`.
    """
    wrong = sorted(names_in(text) & _NOT_SCHEDULE_FREE)
    if schedule_free.find_state(opt_state) is not None and wrong:
        raise UsageError(
            f"{wrong[0]} acts on parameters, and the weights of a schedule-free optimizer are others"
        )


_SIZES = ("learning_rate", "strength")


class Rates(NamedTuple):
    """What an optimizer's spec says of the size of its steps, each a number or a schedule.

    Attributes:
      learning_rate: The learning rate, or None where it has none, or several.
      strength: The strength of optimism, where it has one.
      parts: Those of the parts of a player that have an optimizer of their own, by the pattern in
        `by_path`; the others are of all other parameters.
    """

    learning_rate: ScalarOrSchedule | None
    strength: ScalarOrSchedule | None
    parts: "dict[str, Rates]" = MappingProxyType({})  # type: ignore[assignment]

    def _numbers(self) -> dict[str, ScalarOrSchedule]:
        numbers = {"learning_rate": self.learning_rate, "strength": self.strength}
        for pattern, rates in self.parts.items():
            numbers |= {f"{name}/{pattern}": value for name, value in rates._numbers().items()}
        return {name: value for name, value in numbers.items() if value is not None}

    def at(self, step: int) -> dict[str, float]:
        """Returns the numbers that there are, for the step that follows `step` steps.

        They are by name: `learning_rate`, `strength`, and of a part `learning_rate/<pattern>`.
        """
        return {name: float(value_at(value, step)) for name, value in self._numbers().items()}

    @property
    def has_schedule(self) -> bool:
        """Whether any of them changes."""
        return any(isinstance(value, StepSchedule) for value in self._numbers().values())


def rates_of(text: str) -> Rates:
    """Finds learning rate and strength in the spec of an optimizer, also one within another's."""
    calls: dict[str, list[dict[str, Any]]] = {}
    links = parse(text)
    for link in links:
        for pattern, spec in link.args[1:] if link.name == "by_path" else ():
            calls.setdefault(pattern, []).extend(_arguments(spec))
    parts = {pattern: _rates(found) for pattern, found in calls.items()}
    return _rates([call for link in links for call in _arguments(link)])._replace(parts=parts)


def _rates(found: list[dict[str, Any]]) -> Rates:
    """Returns the rates of an optimizer from the arguments of all that it is made of."""
    rates = [call["learning_rate"] for call in found if "learning_rate" in call]
    strengths = [call["strength"] for call in found if call.get("strength") is not None]
    optimistic = [call["learning_rate"] for call in found if "strength" in call]
    return Rates(
        rates[0] if len(rates) == 1 else None,
        (strengths or optimistic)[0] if len(optimistic) == 1 else None,
    )


def arguments_of(spec: Spec) -> dict[str, Any]:
    """Returns the arguments of an optimizer's spec by name, those with a default too, unresolved."""
    parameters = OPTIMIZERS.parameters(spec.name)
    bound = inspect.Signature(list(parameters.values())).bind(*spec.args, **dict(spec.kwargs))
    bound.apply_defaults()
    return bound.arguments


def _arguments(spec: Spec) -> Iterator[dict[str, Any]]:
    """Yields the arguments of each optimizer in a link, by name, those with a default too."""
    if OPTIMIZERS.owner(spec.name) is not OPTIMIZERS:
        return
    arguments = arguments_of(spec)
    for value in arguments.values():
        for nested in value if isinstance(value, tuple) else (value,):
            if isinstance(nested, Spec):
                yield from _arguments(nested)
    sizes = {name: arguments[name] for name in _SIZES if name in arguments}
    yield {name: of_run_step(OPTIMIZERS.resolve(value)) for name, value in sizes.items()}
