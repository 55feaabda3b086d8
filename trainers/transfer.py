"""From the state of a run under one config to that under another."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import jax

from gan.averaging import Uniform
from gan.config import TrainConfig
from gan.errors import UsageError
from gan.players import ROLES, PlayerState
from gan.state import GANState
from gan.trainers.experiment import Experiment

ON_OPTIMIZER_CHANGE = ("refuse", "reset", "keep_moments")
OPTIMIZER_KEYS = {"generator_optimizer", "discriminator_optimizer", "dynamics"}


def difference(old: TrainConfig, new: TrainConfig) -> dict[str, str]:
    """The keys in which two configs differ, each with a line that says how."""
    return {
        name: f"{name} was {before!r} and is now {now!r}"
        for name in sorted(vars(new))
        if (before := getattr(old, name)) != (now := getattr(new, name))
    }


def transfer(
    state: GANState, old: Experiment, new: Experiment, on_optimizer_change: str
) -> tuple[GANState, list[str]]:
    """The state with which a changed experiment goes on.

    Parameters, variables and averages of the same name go over. Where a player's optimizer or the
    dynamics is another, its state starts anew (`reset`), or keeps all that has the same name and
    shapes on both sides (`keep_moments`).

    Args:
      state: Of the old experiment.
      old: Its parts.
      new: The parts to go on with.
      on_optimizer_change: One of `ON_OPTIMIZER_CHANGE`.

    Returns:
      The state, and a line for each part that changed, saying what became of its state.

    Raises:
      UsageError: where a network has other parameters, or a change is refused.
    """
    changed = difference(old.config, new.config)
    refused = [changed[key] for key in sorted(OPTIMIZER_KEYS & changed.keys())]
    if refused and on_optimizer_change == "refuse":
        raise UsageError(
            f"{'; '.join(refused)}. --on_optimizer_change=reset starts that state anew, "
            f"--on_optimizer_change=keep_moments keeps what both have"
        )
    _check_networks(old, new)
    lines, players = [], state.players
    for role in ROLES:
        if f"{role}_optimizer" in changed:
            player: PlayerState = players.of(role)
            fresh = jax.jit(new.optimizers.of(role).init)(player.params)
            opt_state, line = _moved(player.opt_state, fresh, on_optimizer_change)
            players = players.put(role, player.replace(opt_state=opt_state))  # type: ignore[attr-defined]
            lines.append(f"{role}: its optimizer's state {line}")
    dynamics = state.dynamics
    if "dynamics" in changed:
        fresh = jax.jit(new.dynamics.init)(players)
        dynamics, line = _moved(state.dynamics, fresh, on_optimizer_change)
        lines.append(f"dynamics: its memory {line}")
    averages = {}
    for name, averaging in new.averaging.items():
        averages[name] = state.averages.get(name) or averaging.init(players.generator)
        if name not in state.averages:
            if isinstance(averaging, Uniform) and averaging.start_step < int(state.step):
                raise UsageError(
                    f"averaging = {new.config.averaging}: the iterates before step {state.step} "
                    f"are not there; uniform(start_step={state.step}) is the mean from then on"
                )
            lines.append(f"averaging: {name} starts from the last iterate")
    return GANState(state.step, players, dynamics, averages, state.rollbacks), lines


def _check_networks(old: Experiment, new: Experiment) -> None:
    """Raises UsageError where the players' parameters or variables have other names or shapes."""
    key = jax.random.key(0)
    before, now = (jax.eval_shape(part.game.init, key) for part in (old, new))
    for role in ROLES:
        there, wanted = (
            {
                jax.tree_util.keystr(path, simple=True, separator="."): tuple(leaf.shape)
                for path, leaf in jax.tree_util.tree_leaves_with_path(networks.of(role))
            }
            for networks in (before, now)
        )
        for name in sorted(there.keys() | wanted.keys()):
            if there.get(name) != wanted.get(name):
                raise UsageError(
                    f"{role} = {getattr(new.config, role)!r}: its {name} would be "
                    f"{wanted.get(name, 'missing')}, and is {there.get(name, 'missing')} "
                    f"with {getattr(old.config, role)!r}"
                )


class _Field(NamedTuple):
    kind: str
    name: str
    value: Any


def _moved(old: Any, fresh: Any, on_optimizer_change: str) -> tuple[Any, str]:
    """A fresh state with what it keeps of an old one, and that in words."""
    if on_optimizer_change == "reset":
        return fresh, "starts anew"
    left = list(_fields(old))
    kept: list[str] = []
    anew: list[str] = []

    def take(field: _Field) -> Any:
        if not jax.tree.leaves(field.value):
            return field.value
        fits = [
            other
            for other in left
            if other.name == field.name and _shapes(other.value) == _shapes(field.value)
        ]
        if not fits:
            anew.append(field.name)
            return field.value
        same_kind = [other for other in fits if other.kind == field.kind]
        taken = (same_kind or fits)[0]
        left[:] = [other for other in left if other is not taken]
        kept.append(field.name)
        return taken.value

    state = _rebuild(fresh, take)
    words = [
        f"{verb} {', '.join(dict.fromkeys(names))}"
        for verb, names in (("keeps", kept), ("starts anew with", anew))
        if names
    ]
    return state, "; ".join(words) or "has nothing to keep"


def _fields(tree: Any) -> Iterator[_Field]:
    """The named values of an optimizer's state or a dynamics' memory, through all that wraps them."""
    found: list[_Field] = []
    _rebuild(tree, lambda field: found.append(field) or field.value)  # type: ignore[func-returns-value]
    yield from found


def _rebuild(tree: Any, take: Any) -> Any:
    """The same tree with `take(field)` in the place of each named value."""
    if _is_named(tree):
        return tree._replace(
            **{
                name: _rebuild(value, take)
                if _has_named(value)
                else take(_Field(type(tree).__name__, name, value))
                for name, value in zip(tree._fields, tree, strict=True)
            }
        )
    if isinstance(tree, tuple | list):
        return type(tree)(_rebuild(item, take) for item in tree)
    if isinstance(tree, dict):
        return {name: _rebuild(item, take) for name, item in tree.items()}
    return tree


def _is_named(value: Any) -> bool:
    return isinstance(value, tuple) and hasattr(value, "_fields")


def _has_named(value: Any) -> bool:
    return any(map(_is_named, jax.tree.leaves(value, is_leaf=_is_named)))


def _shapes(value: Any) -> Any:
    return jax.tree.map(lambda leaf: (leaf.shape, str(leaf.dtype)), value), jax.tree.structure(
        value
    )
