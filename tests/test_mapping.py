"""How the game plays a generator with a mapping network, and with noise of its own."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from gan.data.dataset import Batch
from gan.games.adversarial import AdversarialGame
from gan.games.draw import draw
from gan.losses import LOSSES
from gan.models.network import Discriminator, Generator
from gan.players import Pair, PlayerState
from gan.regularizers import REGULARIZERS

SIZE, LAYERS = 8, 3


class NoisyGenerator(Generator):
    """Points [B, 2] that are the sum over three layers of A w_l, w = z B, plus noise."""

    stochastic = True
    per_sample = True

    def setup(self):
        self.mapping = nn.Dense(4, use_bias=False)
        self.layers = nn.Dense(2, use_bias=False)

    def map_latents(self, latents, labels, *, train, keys=None, truncation=1.0):
        w = truncation * self.mapping(latents)
        return jnp.broadcast_to(w[:, None], [len(w), LAYERS, 4])

    def synthesize(self, w, *, train, keys=None):
        points = self.layers(w).sum(1)
        if keys is None:
            return points
        return points + jax.vmap(lambda key: jax.random.normal(key, [2]))(keys)

    def __call__(self, latents, labels, *, train, keys=None, truncation=1.0):
        w = self.map_latents(latents, labels, train=train, keys=keys, truncation=truncation)
        return self.synthesize(w, train=train, keys=keys)


class LinearDiscriminator(Discriminator):
    per_sample = True

    @nn.compact
    def __call__(self, examples, labels, *, train):
        return nn.Dense(1)(nn.leaky_relu(nn.Dense(5)(examples)))[:, 0]


def play(microbatches=1, regularizers=()):
    parts = {text.split("(")[0]: REGULARIZERS.build(text) for text in regularizers}
    game = AdversarialGame(
        NoisyGenerator((2,), 1), LinearDiscriminator((2,), 1), LOSSES.build("non_saturating"),
        3, (2,), parts, microbatches=microbatches,
    )  # fmt: skip
    made = game.init(jax.random.key(0))
    players = Pair(*(PlayerState(*made.of(role), ()) for role in ("generator", "discriminator")))
    points = jax.random.normal(jax.random.key(1), [SIZE, 2])
    return game, players, Batch(points, jnp.zeros([SIZE], jnp.int32), jnp.asarray(0))


KEY = jax.random.key(2)


def test_each_example_has_noise_of_its_own_and_the_same_in_a_part_of_the_batch():
    """The mean fake logit of a linear D is known from the samples' keys."""
    game, players, batch = play()
    drawn = draw(batch, 3, KEY)
    noise = np.stack([jax.random.normal(key, [2]) for key in drawn.keys["generator"]])
    assert len(np.unique(noise)) == 2 * SIZE
    own = {"params": players.generator.params}
    fake = game.generator.apply(own, drawn.latents, drawn.labels, train=True) + noise
    judge = {"params": players.discriminator.params}
    expected = game.discriminator.apply(judge, fake, drawn.labels, train=True).mean()
    for count in (1, 2, 4):
        game, _, _ = play(count)
        gradient = game.gradient("discriminator", players, batch, KEY)
        np.testing.assert_allclose(gradient.metrics["logits/fake"], expected, rtol=1e-5)


def test_both_players_at_once_are_both_alone():
    game, players, batch = play(regularizers=["path_length(every=1)"])
    together = game.vector_field(players, batch, KEY)
    for role in ("generator", "discriminator"):
        alone = game.gradient(role, players, batch, KEY)
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6),
            together.of(role).value,
            alone.value,
        )


def test_the_path_length_is_that_of_w():
    """Each layer's slope is A y; with every second example, the root of its mean square is |A y|."""
    game, players, batch = play(regularizers=["path_length(weight=1, every=1, decay=0.25)"])
    drawn = draw(batch, 3, KEY)
    slopes = np.asarray(players.generator.params["layers"]["kernel"])  # [4, 2]
    noise = [jax.random.normal(key, [2]) for key in drawn.keys["penalty"][::2]]
    lengths = np.array([np.linalg.norm(slopes @ y) for y in noise])
    expected = np.mean((lengths - 0.25 * lengths.mean()) ** 2)
    gradient = game.gradient("generator", players, batch, KEY)
    found = gradient.metrics["penalty/path_length/generator"]
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_samples_have_no_noise_and_can_be_truncated():
    game, players, _ = play()
    latents, labels = jnp.ones([2, 3]), jnp.zeros([2], jnp.int32)
    params = players.generator.params
    whole = game.sample(params, {}, latents, labels)
    np.testing.assert_array_equal(whole, game.sample(params, {}, latents, labels, 1.0))
    np.testing.assert_allclose(game.sample(params, {}, latents, labels, 0.5), whole / 2, rtol=1e-6)
