import dataclasses

import jax
import numpy as np
import optax
import pytest

from gan.config import TrainConfig, difference
from gan.errors import UsageError
from gan.trainers.experiment import build
from gan.trainers.state_transfer import transfer
from gan.trainers.train_step import make_train_step

CONFIG = TrainConfig(
    generator="mlp(4, 1)",
    discriminator="mlp(4, 1)",
    batch_size=8,
    mesh="data(1)",
    generator_optimizer="adam(1e-3)",
    discriminator_optimizer="adam(1e-3)",
)


@pytest.fixture(scope="module")
def trained():
    """An experiment and its state after three steps."""
    experiment = build(CONFIG)
    data = experiment.make_loader(experiment.load_examples()).at(0, 0).data
    state, _, _ = make_train_step(experiment)(experiment.init_on_mesh(), data, 3)
    return experiment, state


def moved(trained, policy, **changes):
    experiment, state = trained
    return transfer(state, experiment, build(dataclasses.replace(CONFIG, **changes)), policy)


def find(tree, kind):
    """The first state of a kind in an optimizer's."""
    is_kind = lambda node: isinstance(node, kind)
    return next(filter(is_kind, jax.tree.leaves(tree, is_leaf=is_kind)))


def assert_equal(one, other):
    jax.tree.map(np.testing.assert_array_equal, one, other)


def test_difference_says_how():
    other = dataclasses.replace(CONFIG, seed=4, loss="hinge")
    assert difference(CONFIG, other) == {
        "loss": "loss was 'non_saturating' and is now 'hinge'",
        "seed": "seed was 0 and is now 4",
    }


def test_nothing_changes_where_nothing_changed(trained):
    state, lines = moved(trained, "refuse", num_steps=5)
    assert lines == []
    assert_equal(state, trained[1])


@pytest.mark.parametrize(
    "change", [{"generator_optimizer": "sgd(0.1)"}, {"dynamics": "extragradient"}]
)
def test_a_change_is_refused_with_what_would_go(trained, change):
    ((key, value),) = change.items()
    words = f"{key} was .* and is now '{value.partition('(')[0]}.*reset.*keep_moments"
    with pytest.raises(UsageError, match=words):
        moved(trained, "refuse", **change)


def test_reset_starts_one_players_optimizer_anew_and_leaves_the_rest(trained):
    before = trained[1]
    state, lines = moved(trained, "reset", generator_optimizer="adam(1e-4)")
    assert lines == ["generator: its optimizer's state starts anew"]
    adam = find(state.players.generator.opt_state, optax.ScaleByAdamState)
    assert not any(leaf.any() for leaf in jax.tree.leaves(adam))
    assert_equal(state.players.generator.params, before.players.generator.params)
    assert_equal(state.players.discriminator, before.players.discriminator)
    assert int(state.step) == 3


@pytest.mark.parametrize(
    ("optimizer", "line"),
    [
        ("adam(1e-4)", "keeps count, mu, nu"),
        (
            "clip_by_global_norm(1.0) | adam(cosine_decay_schedule(1e-3, 100))",
            "keeps count, mu, nu; starts anew with count",
        ),
        ("optimistic_adam(1e-3)", "keeps count, mu, nu; starts anew with step, previous"),
        (
            "optimistic_amsgrad(1e-3)",
            "keeps count, mu, nu; starts anew with nu_max, step, previous",
        ),
        ("amsgrad(1e-3)", "keeps count, mu, nu; starts anew with nu_max"),
        ("sgd(1e-3)", "has nothing to keep"),
        ("sgd(1e-3, momentum=0.9)", "starts anew with trace"),
    ],
)
def test_keep_moments_keeps_what_both_have(trained, optimizer, line):
    old = find(trained[1].players.generator.opt_state, optax.ScaleByAdamState)
    state, lines = moved(trained, "keep_moments", generator_optimizer=optimizer)
    assert lines == [f"generator: its optimizer's state {line}"]
    opt_state = state.players.generator.opt_state
    target = build(dataclasses.replace(CONFIG, generator_optimizer=optimizer)).state_target()
    assert jax.tree.structure(opt_state) == jax.tree.structure(target.players.generator.opt_state)
    if "mu" in line:
        moments = [leaf for leaf in jax.tree.leaves(opt_state) if leaf.shape]
        for leaf in jax.tree.leaves((old.mu, old.nu)):
            assert any(np.array_equal(leaf, other) for other in moments)


PLAIN, BY_PATH = "adam(1e-3)", "by_path(adam(1e-3), ('bias', adam(1e-4)))"
OTHERS_ONLY = "by_path(adam(1e-3), ('bias', sgd(1e-4, momentum=0.9)))"
KEPT = "keeps count, mu, nu"


@pytest.mark.parametrize(
    ("before", "after", "line"),
    [
        (PLAIN, BY_PATH, KEPT),
        (BY_PATH, PLAIN, KEPT),
        (BY_PATH, BY_PATH.replace("1e-4", "1e-5"), KEPT),
        (BY_PATH, "by_path(adam(1e-3), ('Dense_1', adam(1e-4)))", KEPT),
        (PLAIN, OTHERS_ONLY, f"{KEPT}; starts anew with trace"),
        (OTHERS_ONLY, BY_PATH, f"{KEPT}; starts anew with count, mu, nu"),
        (OTHERS_ONLY, PLAIN, "starts anew with count, mu, nu"),  # half of the moments are not there
        (BY_PATH, "schedule_free_sgd(0.1)", "has nothing to keep"),
    ],
)
def test_keep_moments_with_optimizers_by_path(before, after, line):
    """Each parameter keeps its own moments, in whatever part it is; no count goes without them."""
    old, new = (
        build(dataclasses.replace(CONFIG, dataset="gaussians", generator_optimizer=spec))
        for spec in (before, after)
    )
    state = jax.jit(old.init)()
    marked = state.players.generator.replace(
        opt_state=jax.tree.map(lambda leaf: leaf + 7, state.players.generator.opt_state)
    )
    state = state.replace(players=state.players.put("generator", marked))
    moved, lines = transfer(state, old, new, "keep_moments")
    assert lines[0].startswith(f"generator: its optimizer's state {line}")
    assert jax.tree.structure(moved) == jax.tree.structure(new.state_target())
    leaves = [int(leaf.ravel()[0]) for leaf in jax.tree.leaves(moved.players.generator.opt_state)]
    if line == KEPT:
        assert set(leaves) == {7}
    if line.startswith("starts anew with count"):
        assert set(leaves) == {0}


def test_the_state_of_another_dynamics(trained):
    state, lines = moved(trained, "keep_moments", dynamics="lookahead(steps=5)")
    assert lines == ["dynamics: its state starts anew with slow, step"]
    assert_equal(state.dynamics_state.slow.generator, trained[1].players.generator.params)
    lookahead = build(dataclasses.replace(CONFIG, dynamics="lookahead(steps=5)"))
    longer = build(dataclasses.replace(CONFIG, dynamics="lookahead(steps=7)"))
    dynamics_state = state.dynamics_state._replace(step=state.dynamics_state.step + 4)
    state, lines = transfer(
        state.replace(dynamics_state=dynamics_state), lookahead, longer, "keep_moments"
    )
    assert lines == ["dynamics: its state keeps slow, step"]
    assert int(state.dynamics_state.step) == 4


def test_an_average_that_was_not_there_starts_from_the_last_iterate(trained):
    state, lines = moved(trained, "refuse", averaging=("ema(decay=0.999)", "uniform(3)"))
    assert lines == ["averaging: uniform starts from the last iterate"]
    assert_equal(state.averages["uniform"]["params"], trained[1].players.generator.params)
    assert_equal(state.averages["ema"], trained[1].averages["ema"])
    with pytest.raises(UsageError, match=r"uniform\(start_step=3\) is the mean from then on"):
        moved(trained, "refuse", averaging=("ema(decay=0.999)", "uniform"))


def test_several_averages_of_one_kind_find_their_own(trained):
    """Each by its whole spec; an average of other settings starts anew."""
    two = ("ema(decay=0.999)", "ema(decay=0.9)")
    state, lines = moved(trained, "refuse", averaging=two)
    assert lines == ["averaging: ema(decay=0.9) starts from the last iterate"]
    assert list(build(dataclasses.replace(CONFIG, averaging=two)).averaging) == list(two)
    assert_equal(state.averages["ema(decay=0.999)"], trained[1].averages["ema"])
    old = build(dataclasses.replace(CONFIG, averaging=two))
    swapped = build(dataclasses.replace(CONFIG, averaging=two[::-1]))
    again, lines = transfer(state, old, swapped, "refuse")
    assert lines == []
    assert_equal(again.averages, state.averages)
    with pytest.raises(UsageError, match="the same average is there twice"):
        build(dataclasses.replace(CONFIG, averaging=("ema(0.9)", "ema(decay=0.9)")))


def test_another_network_is_refused_with_the_first_difference(trained):
    with pytest.raises(
        UsageError, match=r"generator = 'mlp\(5, 1\)'.*Dense_0\.bias.*\(5,\)"
    ) as error:
        moved(trained, "reset", generator="mlp(5, 1)")
    assert "\n" not in str(error.value)


def test_regularizers_and_augmentations_come_stay_and_go():
    """As in fine-tuning with an adaptive augmentation: what both have goes on from where it was."""
    with_both = dataclasses.replace(
        CONFIG,
        regularizers=("lecam(start_step=0)",),
        discriminator_augmentation="ada(target=-1.0, interval=1, kimg=0.1)",
    )
    old = build(with_both)
    data = old.make_loader(old.load_examples()).at(0, 0).data
    state, _, _ = make_train_step(old)(old.init_on_mesh(), data, 3)
    remembered = state.players.discriminator.variables["training_state"]
    assert float(remembered["augmentation"]["strength"]) > 0

    stays = build(dataclasses.replace(with_both, regularizers=("path_length(batch_shrink=1)",)))
    after, lines = transfer(state, old, stays, "refuse")
    assert lines == ["generator: the state of path_length starts anew"]
    kept = after.players.discriminator.variables["training_state"]
    assert_equal(kept, {"augmentation": remembered["augmentation"]})
    assert float(after.players.generator.variables["training_state"]["path_length"]["length"]) == 0

    goes = build(CONFIG)
    after, lines = transfer(state, old, goes, "refuse")
    assert lines == []
    assert after.players.discriminator.variables == {}
    assert_equal(after.players.discriminator.params, state.players.discriminator.params)
    assert_equal(after.averages, state.averages)
