"""Schedule-free optimizers, whose weights are not the parameters.

Gradients are taken at the parameters y; the weights to use are x, the mean of the iterates z:

    y_t = (1 - b1) z_t + b1 x_t,  z_{t+1} = z_t - rate g(y_t),  x_{t+1} = (1 - c) x_t + c z_{t+1},

where c = rate_t^2 / sum_{s <= t} rate_s^2, with rate_t the largest so far: 1 / t for a constant rate.
Optax keeps z in the optimizer's state and finds x from y and z: nothing else may move y.

Defazio et al., "The Road Less Scheduled", NeurIPS 2024, equations 3 to 5 and Algorithm 1.
"""

from typing import Any

import jax
import optax
from optax.contrib import ScheduleFreeState, schedule_free_eval_params

from gan.errors import UsageError


def find_state(opt_state: optax.OptState) -> ScheduleFreeState | None:
    """Finds the state of a schedule-free optimizer in that of an optimizer; None where none is.

    Raises:
      UsageError: where the parameters are not its y: another link of the chain changes its updates,
        or another optimizer uses them in its own way.
    """
    state, others = opt_state, []
    while not isinstance(state, ScheduleFreeState):
        if isinstance(state, optax.ApplyIfFiniteState):
            state = state.inner_state
        elif type(state) is tuple and state:  # a chain's
            *links, state = state
            others += links
        else:
            break
    found = isinstance(state, ScheduleFreeState)
    others.append(state.base_optimizer_state if found else state)
    if any(map(_is_schedule_free, jax.tree.leaves(others, is_leaf=_is_schedule_free))):
        raise UsageError(
            "a schedule-free optimizer must be the last link of a chain, and within no other optimizer "
            "than apply_if_finite: its weights could not be found"
        )
    return state if found else None


def weights(params: Any, opt_state: optax.OptState) -> Any:
    """Returns the weights x to use, a tree like the parameters; of other optimizers, the parameters."""
    state = find_state(opt_state)
    return params if state is None else schedule_free_eval_params(state, params)


def params_at(own: Any, opt_state: optax.OptState) -> Any:
    """Returns the parameters y that have the weights x in a state: the inverse of `weights`."""
    state = find_state(opt_state)
    if state is None:
        return own

    def mix(x: jax.Array, z: jax.Array) -> jax.Array:
        return ((1 - state.b1) * z + state.b1 * x).astype(x.dtype)

    return jax.tree.map(mix, own, state.z)


def _is_schedule_free(state: Any) -> bool:
    return isinstance(state, ScheduleFreeState)
