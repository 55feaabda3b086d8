"""Alternating extrapolation: each player steps against where the other one is heading."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from gan.argument_bounds import AtLeast
from gan.dynamics.dynamics import (
    DYNAMICS,
    Dynamics,
    LinearMap,
    LinearOptimizer,
    StepOutput,
    extrapolate,
)
from gan.games.game import Game
from gan.players import Pair, Params, PlayerState, update


class AlexGDAState(NamedTuple):
    """The `dynamics_state` of `AlexGDA`.

    Attributes:
      ahead: The generator's parameters, extrapolated along its last step.
    """

    ahead: Params


@DYNAMICS.register("alex_gda")
@dataclass(frozen=True)
class AlexGDA(Dynamics):
    """The players step in turn, each against an extrapolation of the other's last step.

    d_{t+1} = d_t - eta F_d(g~_t, d_t),      d~ = d_t + gamma (d_{t+1} - d_t),
    g_{t+1} = g_t - eta F_g(g_t, d~),    g~_{t+1} = g_t + delta (g_{t+1} - g_t),

    each F on the step's batch with fresh latents; g~_0 = g_0. A player's own parameters are never
    extrapolated in its gradient. gamma = delta = 1 is `alternating`; 0 and 1 is `simultaneous`.

    On a bilinear game with the singular value sigma, and s = eta sigma, the factors of a step are the
    roots of (z - 1)^2 (z + gamma delta s^2) + s^2 ((gamma + delta) (z - 1) + 1). For gamma = 1 they are
    within the unit circle exactly if delta > 1 and (2 delta - 1) s^2 < 4; where s is small, the largest
    is about 1 - (gamma + delta - 2) s^2 / 2, and extragradient's, with twice the gradients, 1 - s^2 / 2.

    Attributes:
      gamma: How far the generator looks along the discriminator's step, 0 or more; 1 is its end.
      delta: How far the discriminator looks along the generator's last step, 0 or more.

    Lee, Cho and Yun, "Fundamental Benefit of Alternating Updates in Minimax Optimization", ICML 2024
    (Alex-GDA, where the minimizing player is first; arXiv 2402.10475). That the discriminator is
    first, and that an extrapolation is along the whole of an optimizer's step, is as in their code
    for WGAN-GP (github.com/HanseulJo/Alex-GDA, `gan/run.py`), which gives both gradients the same
    latents. Its figures have gamma = 1 with delta = 1.2 on CIFAR-10, 2 on LSUN and 4 on MNIST.
    """

    gamma: Annotated[float, AtLeast(0)] = 1.0
    delta: Annotated[float, AtLeast(0)] = 1.2
    updates_in_sequence: ClassVar[bool] = True

    @property
    def gradients_per_step(self) -> int:  # noqa: D102
        return 2

    def init(self, players: Pair[PlayerState]) -> AlexGDAState:
        """Starts from a copy of the generator's parameters, since the state may be donated."""
        return AlexGDAState(jax.tree.map(jnp.copy, players.generator.params))

    def step(  # noqa: D102
        self,
        game: Game,
        optimizers: Pair[optax.GradientTransformation],
        players: Pair[PlayerState],
        dynamics_state: Any,
        batches: Sequence[Any],
        key: jax.Array,
    ) -> StepOutput:
        keys = jax.random.split(key)
        generator, discriminator = players.generator, players.discriminator

        point = players.put("generator", generator.at(dynamics_state.ahead))
        gradient = game.gradient("discriminator", point, batches[0], keys[0])
        moved = update(optimizers.discriminator, discriminator, gradient)
        metrics = gradient.metrics

        ahead = extrapolate(discriminator.params, moved.params, self.gamma)
        point = players.put("discriminator", moved.at(ahead))
        gradient = game.gradient("generator", point, batches[0], keys[1])
        after = Pair(update(optimizers.generator, generator, gradient), moved)

        ahead = extrapolate(generator.params, after.generator.params, self.delta)
        return StepOutput(after, AlexGDAState(ahead), metrics | gradient.metrics)

    def linear_map(self, jacobian: np.ndarray, optimizer: LinearOptimizer) -> LinearMap | None:
        """Returns the map of (g, d, g~), for plain SGD."""
        if not optimizer.is_plain:
            return None
        size = len(jacobian) // 2
        g, d, seen = np.split(np.eye(3 * size), 3)  # each the rows that pick a part of the state
        of_g, of_d = np.split(-optimizer.rate * jacobian, 2)
        d_step = of_d @ np.vstack([seen, d])
        g_step = of_g @ np.vstack([g, d + self.gamma * d_step])
        return LinearMap(np.vstack([g + g_step, d + d_step, g + self.delta * g_step]))
