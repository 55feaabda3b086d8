"""What a step of a dynamics costs, as it says itself."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gan.dynamics import DYNAMICS
from gan.games import Game
from gan.optimizers import OPTIMIZERS
from gan.players import Gradient
from tests.playing import setup


class Counting(Game):
    """Has A (x + y) and -A^T (x + y) as gradients, and counts the products that a step computes.

    A gradient is one, and so is its derivative along a vector. Each depends on both players, so that
    none can be taken out of a loop.
    """

    MATRIX = np.array([[1.0, 2.0], [3.0, 5.0]])

    def __init__(self):
        self.count = 0

    def init(self, key):
        raise NotImplementedError

    def loss(self, role, players, batch, key):
        raise AssertionError("gradients are all that a dynamics asks for")

    def gradient(self, role, players, batch, key):
        both = players.generator.params + players.discriminator.params
        if role == "generator":
            value = self._product(self.MATRIX, both)
        else:
            value = -self._product(self.MATRIX.T, both)
        return Gradient(value=value, loss=jnp.zeros([]), variables={}, metrics={})

    def _product(self, matrix, vector):
        def multiply(matrix, vector):
            self.count += 1
            return np.asarray(matrix @ np.asarray(vector), vector.dtype)

        def call(matrix, vector):  # is left out of a compiled step that does not need it
            return jax.pure_callback(lambda v: multiply(matrix, v), vector, vector)

        return jax.custom_derivatives.linear_call(
            lambda _, v: call(matrix, v), lambda _, v: call(matrix.T, v), (), vector
        )


COUNTED = [
    "alternating(3)",
    "alternating(2, reuse_fakes=True)",
    "lookahead(extragradient)",
    "lookahead(alternating(2))",
    "extragradient(same_batch=True)",
    "rk(2, penalty=0.1)",
]


@pytest.mark.parametrize("spec", [*DYNAMICS, *COUNTED])
def test_a_step_computes_as_many_gradients_as_it_says(x64, spec):
    rule, game = DYNAMICS.build(spec), Counting()
    optimizers, players = setup(game, OPTIMIZERS.build("sgd(0.1)"), np.ones(2), np.ones(2))
    batches = list(jnp.arange(rule.num_batches))

    def step(players, dynamics_state):
        return rule.step(game, optimizers, players, dynamics_state, batches, jax.random.key(0))

    jax.block_until_ready(jax.jit(step)(players, rule.init(players)).players)
    assert game.count == rule.gradients_per_step
