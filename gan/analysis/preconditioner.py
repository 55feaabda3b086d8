"""The vector field as Adam sees it: each part of a gradient is divided by the root of its own v."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.flatten_util import ravel_pytree

from gan.analysis.linear_steps import Momentum
from gan.errors import UsageError
from gan.optimizers import OPTIMIZERS, arguments_of
from gan.players import Pair, PlayerState
from gan.schedules import of_run_step, value_at
from gan.specs import Spec, parse

_PASSED_ON = ("b2", "eps", "eps_root")


@dataclass(frozen=True)
class Adam:
    """The numbers of an Adam at one step.

    Attributes:
      rate: The learning rate.
      momentum: How the divided gradients are averaged.
      others: Arguments that are not at their defaults, as a spec has them: `", b2=0.9"`.
    """

    rate: float
    momentum: Momentum
    others: str


@dataclass(frozen=True)
class Preconditioner:
    """What makes the field of both players' losses the one that their Adams see.

    With r the learning rate of a parameter, and v_hat its second moment without the bias of its start,
    the scale is r / (sqrt(v_hat + eps_root) + eps) / rate, where `rate` is the generator's: a step is
    w <- w - rate scale F(w), but for momentum and optimism. v is frozen.

    Attributes:
      rate: The generator's learning rate.
      scale: `[N]`, the generator's parameters first.
      adams: Those of each player, of its parts if it has several.
      left_out: Links of the players' specs that are not seen here, such as clipping.
    """

    rate: float
    scale: np.ndarray
    adams: Pair[list[Adam]]
    left_out: list[str]


def find_preconditioner(specs: Pair[str], players: Pair[PlayerState], step: int) -> Preconditioner:
    """Finds the preconditioner of two players from the states of their optimizers.

    Args:
      specs: Of the optimizers: `adam`, `nadam` or `optimistic_adam`, as the last link; or a `by_path`
        of these.
      players: With the states of the optimizers.
      step: The step at which schedules are evaluated, the next one.

    Raises:
      UsageError: for another optimizer, one that has made no step yet, and a learning rate of 0.
    """
    scales, adams, left_out = [], [], []
    for role in ("generator", "discriminator"):
        player, links = players.of(role), parse(specs.of(role))
        state = player.opt_state[-1] if len(links) > 1 else player.opt_state
        left_out += [f"{link.name} of the {role}" for link in links[:-1]]
        divisors: Any = None
        found = []
        for spec, own in _parts(links[-1], state):
            adam, divisor = _adam(role, spec, own, step)
            found.append(adam)
            steps = jax.tree.map(lambda x, rate=adam.rate: rate / x, divisor)
            divisors = steps if divisors is None else _merged(divisors, steps)
        adams.append(found)
        scales.append(np.asarray(ravel_pytree(divisors)[0], float))
    rate = adams[0][0].rate
    if not rate:
        raise UsageError(f"the generator's learning rate is 0 at step {step}")
    scale = np.concatenate(scales) / rate
    return Preconditioner(rate, scale, Pair(*adams), left_out)


def _parts(link: Spec, state: Any) -> Iterator[tuple[Spec, Any]]:
    """Yields the spec and the state of each part's optimizer."""
    if link.name != "by_path":
        yield link, state
        return
    others, *parts = link.args
    named = {"others": others} | {f"part_{i}": spec for i, (_, spec) in enumerate(parts)}
    for label, spec in named.items():
        yield spec, state.inner_states[label].inner_state


def _adam(role: str, spec: Spec, state: Any, step: int) -> tuple[Adam, Any]:
    """Returns an Adam's numbers, and sqrt(v_hat + eps_root) + eps for its parameters."""
    states = [own for own in jax.tree.leaves(state, is_leaf=_is_adam) if _is_adam(own)]
    if spec.name not in ("adam", "nadam", "optimistic_adam") or len(states) != 1:
        raise UsageError(f"{spec.name} of the {role} is not adam, nadam or optimistic_adam")
    if not int(states[0].count):
        raise UsageError(f"the {role}'s optimizer has made no step yet")
    arguments = arguments_of(spec)

    def number(name: str, default: float = 0.0) -> float:
        value = arguments.get(name, default)
        return float(value_at(of_run_step(OPTIMIZERS.resolve(value)), step))

    rate, b2 = number("learning_rate"), number("b2")
    strength = arguments.get("strength")
    optimism = 0.0
    if spec.name == "optimistic_adam":
        optimism = 1.0 if strength is None else number("strength") / rate if rate else 0.0
    nesterov = spec.name == "nadam" or bool(arguments.get("nesterov"))
    defaults = {name: own.default for name, own in OPTIMIZERS.parameters(spec.name).items()}
    changed = [name for name in _PASSED_ON if arguments.get(name) != defaults.get(name)]
    others = "".join(f", {name}={number(name)!r}" for name in changed)
    correction = 1 - b2 ** int(states[0].count)
    divisor = jax.tree.map(
        lambda v: jnp.sqrt(v / correction + number("eps_root")) + number("eps"), states[0].nu
    )
    return Adam(rate, Momentum(number("b1"), optimism, nesterov), others), divisor


def _is_adam(state: Any) -> bool:
    return isinstance(state, optax.ScaleByAdamState)


def _is_masked(leaf: Any) -> bool:
    return isinstance(leaf, optax.MaskedNode)


def _merged(some: Any, others: Any) -> Any:
    """Joins two trees, each with `MaskedNode` where the other has its leaves."""
    return jax.tree.map(lambda a, b: b if _is_masked(a) else a, some, others, is_leaf=_is_masked)
