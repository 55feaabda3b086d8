"""What all regularizers have in common, and what the adversarial game makes of them."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from gan.data.dataset import Batch
from gan.errors import UsageError
from gan.games import AdversarialGame
from gan.losses import LOSSES
from gan.models import DISCRIMINATORS, GENERATORS
from gan.players import Pair, PlayerState, pairwise, training_state
from gan.regularizers import REGULARIZERS
from gan.schedules import counted_from
from tests.penalties import seen

SHAPE = (8, 8, 1)
REAL = jnp.array([[1.0, 2.0], [0.5, -1.0], [0.0, 3.0]])
ALWAYS = {"lecam": "lecam(start_step=0)", "path_length": "path_length(every=1)"}


def critic(x):
    return x[:, 0] ** 2 + 3 * x[:, 1]


QUICKLY = {"xla_backend_optimization_level": 0}  # halves the compilation


def game_of(*specs, microbatches=1):
    """Returns a game of tiny networks that do not mix samples, with penalties."""
    data = {"shape": SHAPE, "num_classes": 3}
    return AdversarialGame(
        GENERATORS.build("mlp(6, 1, conditional=True)", **data),
        DISCRIMINATORS.build("mlp(6, 1, conditional=True)", **data),
        LOSSES.build("non_saturating"),
        latent_dim=3,
        shape=SHAPE,
        regularizers={spec.split("(")[0]: REGULARIZERS.build(spec) for spec in specs},
        microbatches=microbatches,
    )


def point_of(game, update=3):
    """Returns players, a batch and a key."""
    players = pairwise(lambda pair: PlayerState(*pair, ()), game.init(jax.random.key(0)))
    examples = jax.random.uniform(jax.random.key(3), [4, *SHAPE], minval=-1)
    batch = Batch(examples, jnp.arange(4, dtype=jnp.int32) % 3, jnp.asarray(update))
    return players, batch, jax.random.key(1)


@functools.cache
def compiled(*specs, microbatches):
    game = game_of(*specs, microbatches=microbatches)
    return game, jax.jit(game.vector_field, compiler_options=QUICKLY)


def field_of(*specs, microbatches=1, update=3):
    game, vector_field = compiled(*specs, microbatches=microbatches)
    return vector_field(*point_of(game, update))


def states_of(pair):
    return pairwise(lambda own: training_state(own.variables), pair)


def assert_close(ours, theirs):
    assert jax.tree.structure(ours) == jax.tree.structure(theirs)
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_lazy_regularization_keeps_the_mean():
    lazy = REGULARIZERS.build("r1(every=4)")
    once = REGULARIZERS.build("r1").penalty(seen(critic, REAL), {})[0]
    values = [lazy.apply(seen(critic, REAL), {}, jnp.asarray(i), 3.0)[0] for i in range(8)]
    np.testing.assert_allclose(values, np.array([12 * once, 0, 0, 0] * 2), rtol=1e-6)


ALL = tuple(ALWAYS.get(name, name) for name in REGULARIZERS)


def test_one_pass_gives_what_each_player_s_own_pass_gives():
    game = game_of(*ALL)
    for role in ("generator", "discriminator"):
        gradient = jax.jit(game.gradient, static_argnums=0, compiler_options=QUICKLY)
        assert_close(field_of(*ALL).of(role), gradient(role, *point_of(game)))


def test_penalties_are_added_to_their_player_s_loss():
    expected = {
        "generator": {"path_length/generator", "zcr/generator"},
        "discriminator": {
            "bcr", "dragan", "gradient_penalty", "lecam", "r1", "r2", "zcr",
        },
    }  # fmt: skip
    for role, names in expected.items():
        own = field_of(*ALL).of(role)
        penalties = {name: own.metrics[f"penalty/{name}"] for name in names}
        assert {f"penalty/{name}" for name in names} == {n for n in own.metrics if "penalty/" in n}
        assert all(penalties.values())
        plain = field_of().of(role).loss
        np.testing.assert_allclose(own.loss, plain + sum(penalties.values()), rtol=1e-5)


@pytest.mark.parametrize("name", ["zcr", "bcr"])  # of others, a perceptron's second derivative is 0
def test_the_discriminators_penalties_depend_on_the_generator(name):
    """Its examples move as it does, which a dynamics that differentiates the vector field has to see."""
    game = game_of(name)
    players, batch, key = point_of(game)
    params, unravel = ravel_pytree(players.generator.params)

    def penalty(flat):
        point = players.replace(generator=players.generator.replace(params=unravel(flat)))
        return game.loss("discriminator", point, batch, key)[1][1][f"penalty/{name}"]

    gradient = jax.grad(penalty)(params)
    way = 3e-3 * gradient / jnp.linalg.norm(gradient)
    difference = penalty(params + way) - penalty(params - way)
    np.testing.assert_allclose(difference, 2 * gradient @ way, rtol=0.05)
    assert difference > 0


def test_microbatches_are_the_whole_batch_for_penalties_that_are_means_over_samples():
    means = {name for name in REGULARIZERS if not REGULARIZERS.build(name).over_batch}
    assert means == {"r1", "r2", "gradient_penalty", "bcr", "zcr"}
    specs = ("r1(approximate=True)", "bcr", "zcr")
    assert_close(field_of(*specs, microbatches=2), field_of(*specs))


def test_states_are_exact_whatever_the_microbatches():
    specs = (ALWAYS["lecam"], "path_length(every=1, batch_shrink=1)")
    whole, parts = (field_of(*specs, microbatches=count) for count in (1, 2))
    assert_close(states_of(parts), states_of(whole))


def test_each_player_s_state_travels_in_its_variables():
    specs = ("lecam(start_step=0, every=2)", "path_length(every=2)")
    before = states_of(point_of(game_of(*specs))[0])
    assert before == Pair(
        generator={"path_length": {"length": 0}},
        discriminator={"lecam": {"real": 0, "fake": 0, "seen": 0}},
    )
    between, after = field_of(*specs, update=1), field_of(*specs, update=2)
    assert states_of(between) == before
    for name, average in states_of(after).discriminator["lecam"].items():
        metrics = after.discriminator.metrics | {"logits/seen": 1}
        np.testing.assert_allclose(average, metrics[f"logits/{name}"])
    assert states_of(after).generator["path_length"]["length"] > 0


def test_a_weight_may_be_a_schedule_of_the_run_s_step():
    rising = "linear_schedule(0.0, 1.0, 10)"
    scheduled = f"zcr(weight={rising}, generator_weight={rising.replace('10', '5')})"
    with counted_from(jnp.asarray(3)):
        field = field_of(scheduled, update=12)  # that of an `alternating(4)`
    plain = field_of("zcr(weight=1.0, generator_weight=1.0)")
    for role, name, weight in (("discriminator", "zcr", 0.3), ("generator", "zcr/generator", 0.6)):
        ours, one = (each.of(role).metrics[f"penalty/{name}"] for each in (field, plain))
        np.testing.assert_allclose(ours, weight * one, rtol=1e-5)


def test_misuse():
    with pytest.raises(UsageError, match="every must be at least 1, given 0"):
        REGULARIZERS.build("r1(every=0)")
    with pytest.raises(UsageError, match="decay must be in"):
        REGULARIZERS.build("lecam(decay=1.0)")
