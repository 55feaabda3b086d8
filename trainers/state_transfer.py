"""From the state of a run under one config to that under another."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
import optax

from gan import schedule_free
from gan.checkpoints.trees import named_leaves
from gan.config import SETTINGS, OnResume, difference
from gan.errors import UsageError
from gan.players import (
    ROLES,
    Pair,
    PlayerState,
    Role,
    network_variables,
    training_state,
    with_training_state,
)
from gan.state import GANState
from gan.trainers.experiment import Experiment

ON_OPTIMIZER_CHANGE = ("refuse", "reset", "keep_moments")
ON_SHAPE_MISMATCH = ("refuse", "reset")

_ARGUMENTS = {("ScheduleFreeState", "b1")}  # in a state, where no other state has an argument


def transfer(
    state: GANState,
    old: Experiment,
    new: Experiment,
    on_optimizer_change: str,
    on_shape_mismatch: str = "refuse",
) -> tuple[GANState, list[str]]:
    """Returns the state with which a changed experiment goes on.

    Weights, variables and averages are kept; so are the states of regularizers and augmentations that
    both have. Where a player's optimizer or the dynamics is another, its state starts anew (`reset`),
    or keeps all that has the same name and shapes on both sides (`keep_moments`).

    Args:
      state: The old experiment's.
      old: Its parts.
      new: The parts to go on with.
      on_optimizer_change: One of `ON_OPTIMIZER_CHANGE`.
      on_shape_mismatch: `refuse` networks whose parameters have other names or shapes, or `reset` those
        parameters.

    Returns:
      The state, and a line for each part that changed, saying what became of its state.

    Raises:
      UsageError: where a network has other parameters, or a change is refused.
    """
    changed = difference(old.config, new.config)
    refused = [
        line for key, line in changed.items() if SETTINGS[key].on_resume is OnResume.TRANSFER
    ]
    if refused and on_optimizer_change == "refuse":
        raise UsageError(
            f"{'; '.join(refused)}. --on_optimizer_change=reset starts that state anew, "
            f"--on_optimizer_change=keep_moments keeps what both have"
        )
    state, lines = _transfer_training_state(state, new)
    if on_shape_mismatch == "refuse":
        _check_networks(old, new)
    else:
        state, more = _reset_mismatches(state, new)
        lines += more
    players = state.players
    for role in ROLES:
        if f"{role}_optimizer" in changed:
            player, line = _transfer_player(players.of(role), new, role, on_optimizer_change)
            players = players.put(role, player)
            lines.append(f"{role}: its optimizer's state {line}")
    dynamics_state = state.dynamics_state
    if "dynamics" in changed:
        fresh = jax.jit(new.dynamics.init)(players)
        dynamics_state, line = _carry_over(state.dynamics_state, fresh, on_optimizer_change)
        lines.append(f"dynamics: its state {line}")
    averages, more = _transfer_averages(state, old, new, players)
    return GANState(state.step, players, dynamics_state, averages, state.rollbacks), lines + more


def _transfer_training_state(state: GANState, new: Experiment) -> tuple[GANState, list[str]]:
    """Returns a state in which regularizers and augmentation go on from where they were.

    Those that the old experiment did not have, or that had a state of other shapes, start anew.
    """
    players, lines = state.players, []
    for role in ROLES:
        player = players.of(role)
        old, states = training_state(player.variables), new.game.init_training_state(role)
        for name, fresh in states.items():
            if name in old and _shapes(old[name]) == _shapes(fresh):
                states[name] = old[name]
            else:
                lines.append(f"{role}: the state of {name} starts anew")
        variables = with_training_state(player.variables, states)
        moved = PlayerState(player.params, variables, player.opt_state)
        players = players.put(role, moved)
    return dataclasses.replace(state, players=players), lines


def _transfer_player(
    player: PlayerState, new: Experiment, role: Role, on_optimizer_change: str
) -> tuple[PlayerState, str]:
    """Returns a player with the new optimizer's state and the old weights, and a text about it."""
    fresh = jax.jit(new.optimizers.of(role).init)(player.weights)
    opt_state, line = _carry_over(player.opt_state, fresh, on_optimizer_change)
    params = schedule_free.params_at(player.weights, opt_state)
    return PlayerState(params, player.variables, opt_state), line


def _reset_mismatches(state: GANState, new: Experiment) -> tuple[GANState, list[str]]:
    """Returns a state whose arrays have the new experiment's names and shapes, and lines about it.

    Weights and variables that fit are kept, and others are as at the start of a run. A player with
    any of these has a new optimizer's state, and then the dynamics' state is new; so are the
    averages, where that player is the generator.
    """
    fresh, lines, players = new.init_on_mesh(), [], state.players
    for role in ROLES:
        params, variables, anew = _take_fitting(players.of(role), fresh.players.of(role))
        if anew is None:
            continue
        opt_state = jax.jit(new.optimizers.of(role).init)(params)
        players = players.put(role, PlayerState(params, variables, opt_state))
        names = ", ".join(anew) or "nothing else"
        lines.append(f"{role}: its optimizer's state starts anew, and so do {names}")
    if not lines:
        return state, []
    averages, dynamics_state = state.averages, jax.jit(new.dynamics.init)(players)
    if jax.tree.leaves(dynamics_state):
        lines.append("dynamics: its state starts anew")
    if players.generator is not state.players.generator and new.averaging:
        averages = {name: own.init(players.generator) for name, own in new.averaging.items()}
        verb = "starts" if len(averages) == 1 else "start"
        lines.append(f"averaging: {', '.join(averages)} {verb} from the generator as it now is")
    return GANState(state.step, players, dynamics_state, averages, state.rollbacks), lines


def _take_fitting(own: PlayerState, fresh: PlayerState) -> tuple[Any, Any, list[str] | None]:
    """Returns weights and variables as in `fresh`, with the values of all in `own` that fit.

    The third value has the names of those that do not; None where all is as it was.
    """
    there = dict(named_leaves({"params": own.weights, "variables": own.variables}))
    anew: list[str] = []

    def take(path: Any, leaf: Any) -> Any:
        name = jax.tree_util.keystr(path, simple=True, separator=".")
        if name in there and there[name].shape == leaf.shape:
            return there[name]
        anew.append(name.partition(".")[2])
        return leaf

    wanted = {"params": fresh.params, "variables": fresh.variables}
    taken = jax.tree_util.tree_map_with_path(take, wanted)
    as_before = not anew and len(jax.tree.leaves(taken)) == len(there)
    return taken["params"], taken["variables"], None if as_before else anew


def _transfer_averages(
    state: GANState, old: Experiment, new: Experiment, players: Pair[PlayerState]
) -> tuple[dict[str, Any], list[str]]:
    """Returns the new experiment's averages, and a line for each that starts anew.

    An average goes on from the old one that is the same, else from the old one of its name.
    """
    averages, lines, step = {}, [], int(state.step)
    for name, averaging in new.averaging.items():
        same = [other for other, before in old.averaging.items() if before == averaging]
        if found := [other for other in (*same, name) if other in state.averages]:
            averages[name] = state.averages[found[0]]
            continue
        try:
            averaging.check_late_start(step)
        except ValueError as error:
            raise UsageError(f"averaging = {new.config.averaging}: {error}") from error
        averages[name] = averaging.init(players.generator)
        lines.append(f"averaging: {name} starts from the last iterate")
    return averages, lines


def _check_networks(old: Experiment, new: Experiment) -> None:
    """Raises UsageError where the players' parameters or variables have other names or shapes."""
    key = jax.random.key(0)
    before, now = (jax.eval_shape(part.game.init, key) for part in (old, new))
    for role in ROLES:
        old_shapes, new_shapes = (
            {
                name: tuple(leaf.shape)
                for name, leaf in named_leaves((params, network_variables(variables)))
            }
            for params, variables in (before.of(role), now.of(role))
        )
        for name in sorted(old_shapes.keys() | new_shapes.keys()):
            if old_shapes.get(name) != new_shapes.get(name):
                raise UsageError(
                    f"{role} = {getattr(new.config, role)!r}: its {name} would be "
                    f"{new_shapes.get(name, 'missing')}, and is {old_shapes.get(name, 'missing')} "
                    f"with {getattr(old.config, role)!r}; with --init_from, --on_shape_mismatch=reset "
                    f"starts such arrays anew"
                )


class _Field(NamedTuple):
    """A named value in a state; `kind` is the type of the named tuple that it is in."""

    kind: str
    name: str
    value: Any


def _carry_over(old: Any, fresh: Any, on_optimizer_change: str) -> tuple[Any, str]:
    """Returns a fresh state with what it keeps of an old one, and a text that says what that is."""
    if on_optimizer_change == "reset":
        return fresh, "starts anew"
    if _has_parts(old) or _has_parts(fresh):
        return _carry_over_parts(old, fresh)
    left = _fields(old)
    kept: list[str] = []
    anew: list[str] = []

    def take(field: _Field) -> Any:
        if not jax.tree.leaves(field.value) or (field.kind, field.name) in _ARGUMENTS:
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
        left[:] = [other for other in left if other is not taken]  # arrays: `remove` needs ==
        kept.append(field.name)
        return taken.value

    return _rebuild(fresh, take), _what_became(kept, anew)


def _what_became(kept: list[str], anew: list[str]) -> str:
    texts = [
        f"{verb} {', '.join(dict.fromkeys(names))}"
        for verb, names in (("keeps", kept), ("starts anew with", anew))
        if names
    ]
    return "; ".join(texts) or "has nothing to keep"


def _carry_over_parts(old: Any, fresh: Any) -> tuple[Any, str]:
    """Does the same where either is the state of optimizers `by_path`: by the path of each parameter.

    A named tuple, such as Adam's count and moments, is kept as a whole or starts anew as a whole: where
    some of its parameters were with an optimizer that has no such tuple, their moments are missing.
    """
    before: list[Any] = []
    _rebuild_whole(old, lambda state: before.append(state) or state)  # type: ignore[func-returns-value]
    left = list(before)
    kept: list[str] = []
    anew: list[str] = []

    def take(state: Any) -> Any:
        names = [name for name in state._fields if jax.tree.leaves(getattr(state, name))]
        same = [other for other in left if _shapes(other) == _shapes(state)]
        left[:] = [other for other in left if not same or other is not same[0]]
        found = same[0] if same else _merged(state, before)
        (anew if found is None else kept).extend(names)
        return state if found is None else found

    return _rebuild_whole(fresh, take), _what_became(kept, anew)


def _merged(state: Any, before: Sequence[Any]) -> Any | None:
    """Returns a named tuple with the values of others of its kind at each path.

    It is None where one has no value, or two: counts of parts that are not equally old.
    """
    known: dict[Any, list[Any]] = {}
    for other in before:
        if type(other) is type(state):
            for path, leaf in jax.tree_util.tree_leaves_with_path(other):
                known.setdefault(path, []).append(leaf)

    def take(path: Any, leaf: Any) -> Any:
        first, *others = known[path]
        if _shapes(first) != _shapes(leaf) or not all(np.array_equal(first, own) for own in others):
            raise KeyError(path)
        return first

    try:
        return jax.tree_util.tree_map_with_path(take, state)
    except KeyError:
        return None


def _rebuild_whole(tree: Any, take: Callable[[Any], Any]) -> Any:
    """Returns a tree with `take(state)` in the place of each named tuple that has no other within."""
    if _is_named(tree):
        if not any(map(_has_named, tree)):
            return take(tree)
        return tree._replace(
            **{
                name: _rebuild_whole(value, take)
                for name, value in zip(tree._fields, tree, strict=True)
            }
        )
    if isinstance(tree, tuple | list):
        return type(tree)(_rebuild_whole(item, take) for item in tree)
    if isinstance(tree, dict):
        return {name: _rebuild_whole(item, take) for name, item in tree.items()}
    return tree


def _has_parts(state: Any) -> bool:
    """Returns whether a state is, or has within it, that of optimizers by path."""
    is_one = lambda node: isinstance(node, optax.transforms.PartitionState)
    return any(map(is_one, jax.tree.leaves(state, is_leaf=is_one)))


def _fields(tree: Any) -> list[_Field]:
    """Returns the named values of an optimizer's or dynamics' state, through all that wraps them."""
    found: list[_Field] = []

    def collect(field: _Field) -> Any:
        found.append(field)
        return field.value

    _rebuild(tree, collect)
    return found


def _rebuild(tree: Any, take: Callable[[_Field], Any]) -> Any:
    """Returns a tree with `take(field)` in the place of each named value."""
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
    """Returns whether a value is a named tuple; the mark of a parameter of another part is none."""
    named = isinstance(value, tuple) and hasattr(value, "_fields")
    return named and not isinstance(value, optax.MaskedNode)


def _has_named(value: Any) -> bool:
    return any(map(_is_named, jax.tree.leaves(value, is_leaf=_is_named)))


def _shapes(value: Any) -> Any:
    shapes = jax.tree.map(lambda leaf: (leaf.shape, str(leaf.dtype)), value)
    return shapes, jax.tree.structure(value)
