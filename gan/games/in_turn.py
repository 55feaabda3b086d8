"""Both players' gradients of the same fake examples, of one player after the other has moved."""

from collections.abc import Callable
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp

from gan.errors import UsageError
from gan.games.microbatches import Evaluation
from gan.players import Pair, Params, PlayerState, Role, Variables

Generate: TypeAlias = Callable[[PlayerState], tuple[jax.Array, Variables]]
LossOfFake: TypeAlias = Callable[[Role, Pair[PlayerState], jax.Array], tuple[jax.Array, Any]]


def evaluate_in_turn(
    generate: Generate, loss_of_fake: LossOfFake, players: Pair[PlayerState]
) -> tuple[Evaluation, Callable[[Pair[PlayerState]], Evaluation]]:
    """Evaluates the discriminator and then the generator, with one forward pass of the generator.

    XLA would not find by itself that two passes are the same one: it does for plain layers, and does
    not for batch normalisation.

    Args:
      generate: From the generator to fake examples `[B, *shape]`, and to its variables after it.
      loss_of_fake: From a player, the point and the fake examples to that player's loss; and to the
        discriminator's variables after it, metrics and means.
      players: The point.

    Returns:
      What was found of the discriminator, and the function from the point to which it has moved to
      what is found of the generator there.
    """

    def generate_at(params: Params) -> tuple[jax.Array, Variables]:
        return generate(players.generator.at(params))

    def discriminator_loss(params: Params) -> tuple[jax.Array, Any]:
        point = players.put("discriminator", players.discriminator.at(params))
        return loss_of_fake("discriminator", point, fake)

    def then(moved: Pair[PlayerState]) -> Evaluation:
        def generator_loss(params: Params, fake: jax.Array) -> tuple[jax.Array, Any]:
            point = moved.put("generator", moved.generator.at(params))
            return loss_of_fake("generator", point, fake)

        # The loss depends on the parameters through the fake examples; penalties on them besides.
        (loss, (_, *aux)), (besides, wrt_fake) = jax.value_and_grad(
            generator_loss, (0, 1), has_aux=True
        )(moved.generator.params, fake)
        value = jax.tree.map(jnp.add, besides, *generator_vjp(wrt_fake))
        return Evaluation(value, loss, generator_variables, *aux)

    fake, generator_vjp, generator_variables = jax.vjp(
        generate_at, players.generator.params, has_aux=True
    )
    (loss, aux), value = jax.value_and_grad(discriminator_loss, has_aux=True)(
        players.discriminator.params
    )
    return Evaluation(value, loss, *aux), then


def check_reuse(microbatches: int, generator_batch_size: int | None, batch_size: int) -> None:
    """Checks that the generator's step can take the discriminator's fakes again.

    Raises:
      UsageError: where it cannot.
    """
    if microbatches > 1:
        raise UsageError(
            f"the generator's pass is kept for the whole batch: microbatches must be 1, given "
            f"{microbatches}"
        )
    if generator_batch_size not in (None, batch_size):
        raise UsageError(
            f"the generator is given the discriminator's fakes: generator_batch_size must be None "
            f"or {batch_size}, given {generator_batch_size}"
        )
