import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gan.dynamics import DYNAMICS
from gan.errors import UsageError
from gan.games import BilinearGame, Game
from gan.players import Pair, PlayerState, pairwise


def play(dynamics, optimizer, sigma, start, num_steps):
    """The path of (x, y) on a bilinear game, [num_steps + 1, 2]."""
    game = BilinearGame((sigma,))
    optimizers = Pair(generator=optimizer, discriminator=optimizer)
    params = Pair(generator=jnp.array([start[0]]), discriminator=jnp.array([start[1]]))
    players = pairwise(lambda o, p: PlayerState(p, {}, o.init(p)), optimizers, params)
    batches = [None] * dynamics.num_batches

    def step(carry, _):
        moved = dynamics.step(game, optimizers, *carry, batches, jax.random.key(0))
        point = jnp.concatenate(
            [moved.players.generator.params, moved.players.discriminator.params]
        )
        return (moved.players, moved.memory), point

    _, path = jax.lax.scan(step, (players, dynamics.init(players)), None, num_steps)
    return np.vstack([start, path])


point = st.tuples(st.floats(0.1, 2), st.floats(-2, -0.1))


@settings(deadline=None, max_examples=20)
@given(start=point, eta=st.floats(0.01, 0.9), sigma=st.floats(0.1, 2.0))
def test_simultaneous_descent_grows_at_the_known_rate(start, eta, sigma):
    """Each step multiplies the distance by exactly sqrt(1 + s^2), s = eta sigma."""
    with jax.enable_x64(True):
        path = play(DYNAMICS.build("simultaneous"), optax.sgd(eta), sigma, start, 12)
        distance = np.linalg.norm(path, axis=1)
        rate = np.sqrt(1 + (eta * sigma) ** 2)
        np.testing.assert_allclose(distance[1:] / distance[:-1], rate, rtol=1e-10)


@settings(deadline=None, max_examples=20)
@given(start=point, eta=st.floats(0.01, 0.9), sigma=st.floats(0.1, 2.0))
def test_alternating_descent_keeps_its_invariant(start, eta, sigma):
    """x^2 + y^2 + s x y for y <- y + s x, then x <- x - s y; with x first the sign is a minus."""
    with jax.enable_x64(True):
        x, y = play(DYNAMICS.build("alternating"), optax.sgd(eta), sigma, start, 30).T
        s = eta * sigma
        invariant = x**2 + y**2 + s * x * y
        np.testing.assert_allclose(invariant, invariant[0], rtol=1e-9, atol=1e-9)


def test_alternating_is_the_discriminator_first_and_the_generator_against_the_new_one(x64):
    path = play(DYNAMICS.build("alternating"), optax.sgd(0.1), 1.0, (1.0, 2.0), 1)
    y = 2.0 + 0.1 * 1.0
    np.testing.assert_allclose(path[1], [1.0 - 0.1 * y, y])


class Recording(Game):
    """Writes down who is asked for a gradient, with which batch and key."""

    def __init__(self):
        self.calls = []

    def init(self, key):
        raise NotImplementedError

    def loss(self, role, players, batch, key):
        self.calls.append((role, batch, tuple(np.asarray(jax.random.key_data(key)))))
        return jnp.sum(players.of(role).params ** 2), ({}, {})


def test_discriminator_steps_see_fresh_batches_and_keys():
    game = Recording()
    optimizer = optax.sgd(0.1)
    player = PlayerState(jnp.ones(1), {}, optimizer.init(jnp.ones(1)))
    pair = Pair(generator=player, discriminator=player)
    dynamics = DYNAMICS.build("alternating(discriminator_steps=3)")
    assert dynamics.num_batches == 3
    dynamics.step(
        game, Pair(generator=optimizer, discriminator=optimizer), pair, (), [0, 1, 2],
        jax.random.key(0),
    )  # fmt: skip
    roles = [(role, batch) for role, batch, _ in game.calls]
    assert roles == [("discriminator", i) for i in range(3)] + [("generator", 2)]
    assert len({key for _, _, key in game.calls}) == 4


def test_both_gradients_of_a_simultaneous_step_share_batch_and_key():
    game = Recording()
    optimizer = optax.sgd(0.1)
    player = PlayerState(jnp.ones(1), {}, optimizer.init(jnp.ones(1)))
    pair = Pair(generator=player, discriminator=player)
    optimizers = Pair(generator=optimizer, discriminator=optimizer)
    DYNAMICS.build("simultaneous").step(game, optimizers, pair, (), [7], jax.random.key(0))
    (_, batch_g, key_g), (_, batch_d, key_d) = game.calls
    assert (batch_g, key_g) == (batch_d, key_d)


@pytest.mark.parametrize("spec", ["alternating(0)", "alternating(discriminator_steps=-1)"])
def test_misuse(spec):
    with pytest.raises(UsageError, match="discriminator_steps must be at least 1, given"):
        DYNAMICS.build(spec)
