import jax.numpy as jnp
import numpy as np
import optax

from gan.optimizers import OPTIMIZERS
from gan.players import Gradient, Pair, PlayerState, pairwise, update


def test_pairs():
    pair = Pair(generator=1, discriminator=10)
    assert (pair.of("generator"), pair.of("discriminator")) == (1, 10)
    assert pair.put("discriminator", 5) == Pair(generator=1, discriminator=5)
    assert pairwise(lambda a, b: a + b, pair, pair) == Pair(generator=2, discriminator=20)


def test_update_steps_from_start_with_the_players_own_state():
    optimizer = optax.sgd(0.1, momentum=0.5)
    start = PlayerState(jnp.array([1.0]), {}, optimizer.init(jnp.array([1.0])))
    gradient = Gradient(jnp.array([2.0]), jnp.array(0.0), {"seen": jnp.array(1)}, {})
    half = update(optimizer, start, gradient)
    np.testing.assert_allclose(half.params, [0.8])
    assert half.variables == gradient.variables
    full = update(optimizer, half, gradient, start)  # from 1.0, with half's momentum
    np.testing.assert_allclose(full.params, [1.0 - 0.1 * (2.0 + 0.5 * 2.0)])


def test_the_loss_reaches_optimizers_that_ask_for_it():
    """Polyak's step size is loss / |gradient|^2."""
    optimizer = optax.polyak_sgd(max_learning_rate=10.0)
    player = PlayerState(jnp.array([1.0]), {}, optimizer.init(jnp.array([1.0])))
    moved = update(optimizer, player, Gradient(jnp.array([2.0]), jnp.array(3.0), {}, {}))
    np.testing.assert_allclose(moved.params, [1 - 3 / 4 * 2])


def test_a_step_from_start_is_clipped_at_start():
    """What a chain ends with (a box of weights) must hold for where the step goes from."""
    optimizer = OPTIMIZERS.build("sgd(1.0) | clip_weights(1.0)")
    start = PlayerState(jnp.array([1.0]), {}, optimizer.init(jnp.array([1.0])))
    ahead = start.replace(params=jnp.array([0.5]))
    moved = update(optimizer, ahead, Gradient(jnp.array([-3.0]), jnp.array(0.0), {}, {}), start)
    np.testing.assert_allclose(moved.params, [1.0])
