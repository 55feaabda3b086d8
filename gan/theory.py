"""How fast the players approach the solution of a linear game, in closed form.

Where the vector field is F(w) = J w, each rule below turns an eigenvector of J into a scalar
recurrence, and the distance to the solution shrinks (or grows) by the modulus of its largest root.
"""

from collections.abc import Callable

import numpy as np

from gan.dynamics import (
    SGA,
    Alternating,
    Consensus,
    Dynamics,
    Extragradient,
    Lookahead,
    PastExtragradient,
    Simultaneous,
)
from gan.specs import parse


def contraction(dynamics: Dynamics, optimizer: str, eigenvalue: complex) -> float | None:
    """The factor by which one step multiplies the distance to the solution, in the long run.

    Args:
      dynamics: How the players move.
      optimizer: Spec of both players' optimizer.
      eigenvalue: Of the vector field's Jacobian J, which is taken as normal (J J^T = J^T J) by
        `consensus` and `sga`, and as purely imaginary by `alternating`.

    Returns:
      Below 1 where the players converge; None where no closed form is known here.
    """
    spec, *rest = parse(optimizer)
    second = "momentum" if spec.name == "sgd" else "strength"
    arguments = dict(zip(("learning_rate", second), spec.args, strict=False)) | dict(spec.kwargs)
    if rest or not all(isinstance(value, int | float) for value in arguments.values()):
        return None
    if spec.name == "sgd" and set(arguments) <= {"learning_rate", "momentum"}:
        momentum = arguments.get("momentum", 0.0)
        return _of_sgd(dynamics, arguments["learning_rate"], momentum, eigenvalue)
    if spec.name == "optimistic_sgd" and isinstance(dynamics, Simultaneous):
        rate = arguments["learning_rate"]
        return _optimistic(rate, arguments.get("strength", rate), eigenvalue)
    return None


def _of_sgd(dynamics: Dynamics, rate: float, momentum: float, value: complex) -> float | None:
    if isinstance(dynamics, Alternating) and dynamics.discriminator_steps == 1 and value.real == 0:
        # (z - 1)^2 (z - beta)^2 + s^2 z^3 = 0: Gidel et al., AISTATS 2019, "Negative Momentum".
        square = np.polymul([1, -2, 1], [1, -2 * momentum, momentum**2])
        return _largest_root(np.polyadd(square, [(rate * abs(value)) ** 2, 0, 0, 0]))
    if momentum:
        return None
    if isinstance(dynamics, PastExtragradient):
        return _optimistic(rate, rate, value)  # its half steps are those of optimistic SGD
    multiplier = _multiplier(dynamics, rate)
    return None if multiplier is None else abs(multiplier(value))


def _multiplier(dynamics: Dynamics, rate: float) -> Callable[[complex], complex] | None:
    """What one step without memory multiplies an eigenvector by; for lookahead, per inner step."""
    if isinstance(dynamics, Simultaneous):
        return lambda value: 1 - rate * value
    if isinstance(dynamics, Extragradient):
        return lambda value: 1 - rate * value + (rate * value) ** 2
    if isinstance(dynamics, Consensus):
        return lambda value: 1 - rate * (value + dynamics.gamma * abs(value) ** 2)
    if isinstance(dynamics, SGA):
        turned = dynamics.weight * -1j
        return lambda value: 1 - rate * value * (1 + turned * value.imag)
    if isinstance(dynamics, Lookahead):
        inner, steps, alpha = _multiplier(dynamics.inner, rate), dynamics.steps, dynamics.alpha
        if inner is not None:
            return lambda value: (1 - alpha + alpha * inner(value) ** steps) ** (1 / steps)
    return None


def _optimistic(rate: float, strength: float, value: complex) -> float:
    """w_{t+1} = w_t - (rate + strength) F(w_t) + strength F(w_{t-1})."""
    return _largest_root(np.array([1, (rate + strength) * value - 1, -strength * value]))


def _largest_root(polynomial: np.ndarray) -> float:
    return float(np.abs(np.roots(polynomial)).max())
