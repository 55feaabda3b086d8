"""Advice on dynamics, optimizer and learning rate, from the leading eigenvalues of a vector field.

It is that of linear theory: players near a solution, without noise, with Adam's v frozen, and of the
eigenvalues that were found. Where a step is a polynomial in J, each eigenvalue moves by a multiplier of
its own, and the largest of their moduli, the spectral radius, is by how much a step shrinks or enlarges
the distance in the long run.
"""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from gan.analysis.linear_steps import PLAIN, Momentum, StepMap
from gan.dynamics import DYNAMICS
from gan.errors import UsageError

NEUTRAL = 1e-9
"""A multiplier of up to 1 + NEUTRAL counts as stable."""

_RATES = np.logspace(-3, 1, 121)  # in units of 1 / max |lambda|


@dataclass(frozen=True)
class Method:
    """A dynamics and an optimizer of both players.

    Attributes:
      dynamics: Spec of the dynamics.
      momentum: The optimizer, but for its learning rate.
    """

    dynamics: str
    momentum: Momentum = PLAIN


@dataclass(frozen=True)
class Advice:
    """What linear theory says of a method.

    Attributes:
      method: The method.
      radius: The spectral radius of a step at the run's learning rate.
      best_rate: The learning rate with the smallest spectral radius.
      best_radius: That radius.
      largest_stable_rate: The largest learning rate, up to 10 / max |lambda|, at which no eigenvalue's
        multiplier is above 1; None where there is none. Smaller ones need not be stable too.
    """

    method: Method
    radius: float
    best_rate: float
    best_radius: float
    largest_stable_rate: float | None


def polynomial_dynamics(own: str = "") -> list[str]:
    """Returns every registered dynamics that can be built without arguments, and one's own, if polynomial.

    Args:
      own: The spec of a run's dynamics.
    """
    names = list(dict.fromkeys([*([own] if own else []), *DYNAMICS]))
    return [name for name in names if _is_polynomial(name)]


@functools.cache
def _is_polynomial(spec: str) -> bool:
    try:
        return _step_map(spec, False).is_polynomial()
    except UsageError:  # it needs arguments
        return False


@functools.cache
def _step_map(spec: str, nesterov: bool) -> StepMap:
    """Builds a dynamics' map; it is compiled once for all checkpoints."""
    return StepMap(DYNAMICS.build(spec), nesterov)


def methods_of(own: Method, adam: bool) -> list[Method]:
    """Returns the methods to compare: each dynamics with and without momentum, optimism and both.

    Args:
      own: The run's own.
      adam: Whether b1 is also that of common Adams; without it, momentum is only the run's own.
    """
    decays = sorted({own.momentum.b1, 0.0, *((0.5, 0.9) if adam else ())})
    momenta = [Momentum(b1, optimism) for b1 in decays for optimism in (0.0, 1.0)]
    return [
        Method(dynamics, momentum)
        for dynamics in polynomial_dynamics(own.dynamics)
        for momentum in dict.fromkeys([own.momentum, *momenta])
    ]


def advise(
    values: np.ndarray, rate: float, methods: Sequence[Method]
) -> tuple[list[Advice], np.ndarray]:
    """Computes what linear theory says of methods.

    Eigenvalues that no method has stable at any learning rate are left out. They are the negative ones:
    there a player goes downhill, away from a point that is no solution.

    Args:
      values: Eigenvalues of the field `[E]`, of a complex pair one or both.
      rate: The run's learning rate.
      methods: Methods whose dynamics are polynomial.

    Returns:
      The advice, the smallest best radius first, and which eigenvalues were left out, bool `[E]`.
    """
    largest = np.abs(values).max(initial=0)
    if not largest or not methods:
        return [], np.zeros(len(values), bool)
    rates = np.append(_RATES / largest, rate)

    def multipliers(method: Method, rates: np.ndarray) -> np.ndarray:
        steps = _step_map(method.dynamics, method.momentum.nesterov)
        return steps.multipliers(values, rates, method.momentum)

    tables = [multipliers(method, rates) for method in methods]  # of [R, E]
    stable = [(table <= 1 + NEUTRAL).any(0) for table in tables]
    left_out = ~np.any(stable, axis=0)
    if left_out.all():
        return [], left_out
    found = []
    for method, table in zip(methods, tables, strict=True):

        def radii(rates: np.ndarray, method: Method = method) -> np.ndarray:
            return np.asarray(multipliers(method, rates)[:, ~left_out].max(1))

        *coarse, own = table[:, ~left_out].max(1)
        best, radius = _minimum(radii, rates[:-1], np.array(coarse))
        stable_rate = _last_stable(radii, rates[:-1], np.array(coarse))
        found.append(Advice(method, float(own), best, radius, stable_rate))
    return sorted(found, key=lambda advice: advice.best_radius), left_out


Radii = Callable[[np.ndarray], np.ndarray]


def _minimum(radii: Radii, rates: np.ndarray, coarse: np.ndarray) -> tuple[float, float]:
    """Returns the rate of the smallest radius, and that radius, by a finer grid about the coarse one's."""
    place = int(np.argmin(coarse))
    ends = rates[max(place - 1, 0)], rates[min(place + 1, len(rates) - 1)]
    fine = np.geomspace(*ends, len(rates) + 1)  # as many as before: it is compiled once
    found = radii(fine)
    best = int(np.argmin(found))
    return float(fine[best]), float(found[best])


def _last_stable(radii: Radii, rates: np.ndarray, coarse: np.ndarray) -> float | None:
    """Returns the largest stable rate, by two finer grids beyond the coarse one's."""
    for _ in range(3):
        stable = np.flatnonzero(coarse <= 1 + NEUTRAL)
        if not len(stable):
            return None
        last = int(stable[-1])
        if last == len(rates) - 1:
            break
        ends = rates[last], rates[last + 1]
        rates = np.geomspace(*ends, len(_RATES) + 1)
        coarse = radii(rates)
    return float(rates[last])
