"""A game that is played by any dynamics, for tests: the points that both players come through."""

import jax
import jax.numpy as jnp
import numpy as np

from gan.players import Pair, PlayerState, pairwise


def setup(game, optimizer, x, y):
    optimizers = Pair(generator=optimizer, discriminator=optimizer)
    params = Pair(generator=jnp.asarray(x), discriminator=jnp.asarray(y))
    return optimizers, pairwise(lambda o, p: PlayerState(p, {}, o.init(p)), optimizers, params)


def play(dynamics, optimizer, game, x, y, num_steps):
    """The points after each step, the start first: [num_steps + 1, 2 d]."""
    optimizers, players = setup(game, optimizer, x, y)
    batches = [None] * dynamics.num_batches

    def step(carry, _):
        moved = dynamics.step(game, optimizers, *carry, batches, jax.random.key(0))
        params = moved.players.generator.params, moved.players.discriminator.params
        return (moved.players, moved.dynamics_state), jnp.concatenate(params)

    _, path = jax.lax.scan(step, (players, dynamics.init(players)), None, num_steps)
    return np.vstack([np.concatenate([x, y]), path])
