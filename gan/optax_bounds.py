"""Bounds of the numbers that optax's makers take, whose annotations have none.

They are by the name of the argument, which means the same in all of optax but for what is said here.
"""

import functools
import inspect
from collections.abc import Callable
from typing import Annotated, Any

from gan.annotations import hints_of
from gan.argument_bounds import Above, AtLeast, Bound, Within

DECAY = Within(0, 1, open_end=True)
"""Of a mean of squares and the like."""

MOMENTUM = Within(-1, 1, open_end=True, open_start=True)
"""Negative momentum is that of Gidel et al., AISTATS 2019."""

_BOUNDS: dict[str, Bound] = {
    **dict.fromkeys(("b1", "adam_b1", "momentum", "beta"), MOMENTUM),
    **dict.fromkeys(("b2", "b3", "beta3", "adam_b2", "decay", "rho"), DECAY),
    **dict.fromkeys(("learning_rate", "adam_learning_rate", "max_learning_rate"), AtLeast(0)),
    **dict.fromkeys(("eps", "eps_root", "adam_eps_root", "reps_rel", "atol", "rtol"), AtLeast(0)),
    **dict.fromkeys(("weight_decay", "weight_decay_rate", "adam_weight_decay"), AtLeast(0)),
    **dict.fromkeys(("clipping", "clipping_threshold", "max_delta", "max_norm"), AtLeast(0)),
    **dict.fromkeys(("threshold", "min_norm", "min_scale", "trust_coefficient"), AtLeast(0)),
    **dict.fromkeys(("min_step_size", "max_step_size", "eta", "gamma", "decay_rate"), AtLeast(0)),
    **dict.fromkeys(("initial_accumulator_value", "initial_scale", "s_init"), AtLeast(0)),
    **dict.fromkeys(("estim_lr0", "estim_lr_coef", "transition_begin"), AtLeast(0)),
    **dict.fromkeys(("transition_steps", "warmup_steps", "patience", "cooldown"), AtLeast(0)),
    "max_consecutive_errors": AtLeast(0),
    **dict.fromkeys(("decay_steps", "k", "rank", "update_proj_gap"), AtLeast(1)),
    **dict.fromkeys(("accumulation_size", "min_dim_size_to_factor", "eta_plus"), AtLeast(1)),
    **dict.fromkeys(("memory_size", "ns_steps", "num_betas"), Within(1, 100)),
    **dict.fromkeys(("pct_start", "pct_final"), Within(0, 1)),
    **dict.fromkeys(("div_factor", "final_div_factor"), Above(0)),
    "eta_minus": Within(0, 1, open_end=True, open_start=True),
}
_OTHER = {"trace": {"decay": MOMENTUM}}
_UNKNOWN = float | Callable[..., Any] | None  # where optax's annotation cannot be read


def with_bounds(name: str, maker: Callable[..., Any], hints: dict[str, Any]) -> Callable[..., Any]:
    """Returns a maker of optax with bounds in its annotations.

    A bound that the maker's own default does not meet is not meant there.

    Args:
      name: The maker's name.
      maker: The maker.
      hints: Other annotations of some of its arguments.
    """
    known, bounds = hints_of(maker), _BOUNDS | _OTHER.get(name, {})

    @functools.wraps(maker)
    def bounded(*args: Any, **kwargs: Any) -> Any:
        return maker(*args, **kwargs)

    added: dict[str, Any] = {}
    for key, parameter in inspect.signature(maker).parameters.items():
        default = parameter.default
        if key == "betas":
            added[key] = tuple[Annotated[float, DECAY], float]
        elif key in bounds and not (isinstance(default, float) and not bounds[key].admits(default)):
            added[key] = Annotated[known.get(key, _UNKNOWN), bounds[key]]
    bounded.__annotations__ = known | added | hints
    return bounded
