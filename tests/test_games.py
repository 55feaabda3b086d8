import dataclasses
import itertools
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn
from jax.nn import softplus

from gan.augmentation import DiscriminatorAugmentation
from gan.data.dataset import Batch
from gan.dynamics import DYNAMICS
from gan.errors import UsageError
from gan.games import GAMES, AdversarialGame, Game
from gan.games.draw import draw
from gan.losses import LOSSES
from gan.models import DISCRIMINATORS, GENERATORS
from gan.players import Pair, PlayerState, pairwise
from gan.regularizers import REGULARIZERS, Regularizer
from gan.schedules import counted_from

PLAIN = [name for name in LOSSES if LOSSES.build(name).classes is None]
DATA = {"shape": (8, 8, 1), "num_classes": 3}


def make_game(
    loss="non_saturating", regularizers=(), network="mlp(8, 1)", conditional=False, **kwargs
):
    losses = LOSSES.build(loss)
    return AdversarialGame(
        GENERATORS.build(network, **DATA, conditional=conditional),
        DISCRIMINATORS.build(network, **DATA, class_logits=losses.classes is not None),
        losses, 5, DATA["shape"], {name: REGULARIZERS.build(name) for name in regularizers}, **kwargs,
    )  # fmt: skip


def players_of(networks):
    return pairwise(lambda pair: PlayerState(*pair, ()), networks)


def test_bilinear_field_is_the_matrix(x64):
    game = GAMES.build("bilinear((1.0, 3.0))")
    x, y = jnp.array([2.0, -1.0]), jnp.array([0.5, 4.0])
    players = Pair(generator=PlayerState(x, {}, ()), discriminator=PlayerState(y, {}, ()))
    field = game.vector_field(players, None, jax.random.key(0))
    np.testing.assert_allclose(field.generator.value, [0.5, 12.0])  # A y
    np.testing.assert_allclose(field.discriminator.value, [-2.0, 3.0])  # -A^T x
    np.testing.assert_allclose(field.generator.loss, 1.0 - 12.0)


@pytest.fixture
def game():
    data = {"shape": (8, 8, 1), "num_classes": 3}
    return AdversarialGame(
        GENERATORS.build("dcgan(width=4)", **data),
        DISCRIMINATORS.build("dcgan(width=4)", **data),
        LOSSES.build("non_saturating"),
        latent_dim=5,
        shape=(8, 8, 1),
    )


@pytest.fixture
def batch():
    examples = jax.random.uniform(jax.random.key(3), [6, 8, 8, 1], minval=-1)
    return Batch(examples, jnp.arange(6, dtype=jnp.int32) % 3, jnp.array(0))


def test_each_player_gets_the_gradient_of_its_own_loss(game, batch):
    """Against finite differences along a random direction."""
    key = jax.random.key(1)
    players = players_of(game.init(jax.random.key(0)))
    field = jax.jit(game.vector_field)(players, batch, key)
    for role in ("generator", "discriminator"):
        params = players.of(role).params
        leaves, tree = jax.tree.flatten(params)
        direction = tree.unflatten(
            [jax.random.normal(jax.random.key(i), leaf.shape) for i, leaf in enumerate(leaves)]
        )

        def loss(t, role=role, params=params, direction=direction):
            moved = jax.tree.map(lambda p, d: p + t * d, params, direction)
            point = players.put(role, players.of(role).replace(params=moved))
            return game.loss(role, point, batch, key)[0]

        numeric = (loss(1e-3) - loss(-1e-3)) / 2e-3
        products = jax.tree.map(lambda g, d: jnp.sum(g * d), field.of(role).value, direction)
        np.testing.assert_allclose(sum(jax.tree.leaves(products)), numeric, rtol=2e-2, atol=1e-3)


def same_field(game, players, batch, key):
    """Whether one pass gives what each player's own pass gives."""
    field = jax.jit(game.vector_field)(players, batch, key)
    for role in ("generator", "discriminator"):
        alone = jax.jit(game.gradient, static_argnums=0)(role, players, batch, key)
        assert jax.tree.structure(field.of(role)) == jax.tree.structure(alone)
        scale = max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(alone.value))
        for ours, theirs in zip(
            jax.tree.leaves(field.of(role)), jax.tree.leaves(alone), strict=True
        ):
            np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5 * scale)


@pytest.mark.parametrize(
    ("discriminator", "loss"),
    [
        *itertools.product(["dcgan(4)", "dcgan(4, norm='spectral')", "mlp(8, 2)"], PLAIN),
        ("dcgan(4, norm='batch')", "relativistic"),
        ("resnet(4)", "hinge"),
        ("r3gan(8, cardinality=2)", "relativistic"),
        pytest.param("biggan(1, attention=4)", "hinge", marks=pytest.mark.slow),
    ],
)
def test_the_field_is_each_players_gradient(batch, discriminator, loss):
    data = {"shape": (8, 8, 1), "num_classes": 3}
    game = AdversarialGame(
        GENERATORS.build("dcgan(width=4)", **data),
        DISCRIMINATORS.build(discriminator, **data),
        LOSSES.build(loss),
        latent_dim=5,
        shape=(8, 8, 1),
        regularizers={name: REGULARIZERS.build(name) for name in ("r1", "gradient_penalty")},
    )
    same_field(game, players_of(game.init(jax.random.key(0))), batch, jax.random.key(1))


class Shifted(nn.Module):
    """A discriminator whose logits reach far and wide."""

    scale: float
    per_sample = True

    @nn.compact
    def __call__(self, examples, labels, *, train):
        flat = examples.reshape(len(examples), -1)
        return self.scale * nn.Dense(1)(nn.tanh(nn.Dense(8)(flat)))[:, 0] - 0.5 * self.scale


@pytest.mark.parametrize("scale", [0.0, 1.0, 5.0, 1e3])
@pytest.mark.parametrize("loss", PLAIN)
def test_where_a_derivative_is_zero_nothing_is_lost(batch, loss, scale):
    """Beyond hinge's margin, and where a sigmoid is 0 in float32."""
    generator = GENERATORS.build("mlp(8, 1)", shape=(8, 8, 1), num_classes=3)
    game = AdversarialGame(
        generator, Shifted(scale), LOSSES.build(loss), latent_dim=5, shape=(8, 8, 1)
    )
    players = players_of(game.init(jax.random.key(0)))
    same_field(game, players, batch, jax.random.key(1))


def test_one_pass_goes_back_through_the_discriminator_once(batch):
    """The second is there for what cannot be scaled, and is not made otherwise."""
    generator = GENERATORS.build("mlp(8, 1)", shape=(8, 8, 1), num_classes=3)
    passes = []

    class Counting(Shifted):
        @nn.compact
        def __call__(self, examples, labels, *, train):
            @jax.custom_vjp
            def watch(x):
                return x

            def count(_, dx):
                jax.debug.callback(lambda _: passes.append(1), dx[0, 0, 0, 0])
                return (dx,)

            watch.defvjp(lambda x: (x, None), count)
            return super().__call__(watch(examples), labels, train=train)

    for scale, expected in ((1.0, 1), (1e3, 2)):
        game = AdversarialGame(
            generator, Counting(scale), LOSSES.build("hinge"), latent_dim=5, shape=(8, 8, 1)
        )
        players = players_of(game.init(jax.random.key(0)))
        passes.clear()
        jax.block_until_ready(jax.jit(game.vector_field)(players, batch, jax.random.key(1)))
        jax.effects_barrier()
        assert len(passes) == expected, scale


def test_variables_belong_to_their_player(game, batch):
    """A generator's step moves its batch statistics, a discriminator's step leaves them."""
    players, key = players_of(game.init(jax.random.key(0))), jax.random.key(1)
    after = game.gradient("generator", players, batch, key).variables
    before = players.generator.variables
    changed = jax.tree.map(lambda a, b: bool(jnp.any(a != b)), before, after)
    assert all(jax.tree.leaves(changed))
    assert game.gradient("discriminator", players, batch, key).variables == {}


class Constant(nn.Module):
    """Makes images of one value."""

    @nn.compact
    def __call__(self, latents, labels, *, train):
        value = self.param("value", nn.initializers.constant(0.25), ())
        return jnp.full([len(latents), 8, 8, 1], 1.0) * value


class Mean(nn.Module):
    """Logits are the mean pixel."""

    per_sample = True

    @nn.compact
    def __call__(self, examples, labels, *, train):
        return examples.mean((1, 2, 3)) * self.param("scale", nn.initializers.ones, ())


@dataclasses.dataclass(frozen=True)
class Twice(DiscriminatorAugmentation):
    """Doubles images, and remembers the mean sign."""

    def init(self):
        return {"sign": jnp.zeros([])}

    def __call__(self, images, state, keys):
        return 2 * images

    def update(self, state, mean_sign, num_images):
        return {"sign": mean_sign}


def test_the_discriminator_sees_real_and_fake_augmented(batch):
    """In one pass and in each player's own; the generator learns through the augmentation."""
    game = AdversarialGame(
        Constant(), Mean(), LOSSES.build("non_saturating"), 2, (8, 8, 1), augmentation=Twice()
    )
    players, key = players_of(game.init(jax.random.key(0))), jax.random.key(0)
    field = game.vector_field(players, batch, key)
    same_field(game, players, batch, key)
    metrics, real = field.discriminator.metrics, float(batch.examples.mean())
    np.testing.assert_allclose(metrics["logits/real"], 2 * real, rtol=1e-4)
    np.testing.assert_allclose(metrics["logits/fake"], 2 * 0.25, rtol=1e-6)
    # d/dv softplus(-2 v) at v = 0.25
    slope = -2 / (1 + np.exp(2 * 0.25))
    np.testing.assert_allclose(field.generator.value["value"], slope, rtol=1e-5)
    remembered = field.discriminator.variables["training_state"]["augmentation"]
    signs = np.sign(np.asarray(batch.examples).mean((1, 2, 3)))
    np.testing.assert_allclose(remembered["sign"], signs.mean(), rtol=1e-6)


@dataclasses.dataclass(frozen=True)
class Difference(Regularizer):
    """How far `logits_of_real` is from `critic(real)`."""

    def penalty(self, inputs, state):
        return jnp.abs(inputs.critic(inputs.real) - inputs.logits_of_real()).max(), {}


@pytest.mark.parametrize("network", ["mlp(8, 1)", "dcgan(4, norm='spectral')"])
def test_the_logits_of_real_examples_are_the_critics(batch, network):
    """Spectral vectors move from the fake to the real examples: there the loss's pass has others."""
    game = AdversarialGame(
        GENERATORS.build("mlp(8, 1)", **DATA), DISCRIMINATORS.build(network, **DATA),
        LOSSES.build("hinge"), 5, DATA["shape"], {"difference": Difference()},
    )  # fmt: skip
    players = players_of(game.init(jax.random.key(0)))
    metrics = game.gradient("discriminator", players, batch, jax.random.key(1)).metrics
    assert float(metrics["penalty/difference"]) <= 1e-6


@pytest.mark.parametrize(("step", "applied"), [(3, False), (4, True), (5, False)])
def test_a_lazy_penalty_on_the_generator_counts_its_own_updates(batch, step, applied):
    """Of three updates of the discriminator a step, the last batch is that of update 3 step + 2."""
    game = make_game(regularizers=("path_length",))  # every 4th
    players = players_of(game.init(jax.random.key(0)))
    last = batch.replace(update=jnp.array(3 * step + 2))
    with counted_from(jnp.array(step)):
        own = game.gradient("generator", players, last, jax.random.key(1))
    assert (float(own.metrics["penalty/path_length/generator"]) > 0) == applied
    length = own.variables["training_state"]["path_length"]["length"]
    assert (float(length) > 0) == applied


def test_the_discriminator_sees_real_and_fake_in_their_places(batch):
    game = AdversarialGame(Constant(), Mean(), LOSSES.build("wasserstein"), 2, (8, 8, 1))
    field = game.vector_field(players_of(game.init(jax.random.key(0))), batch, jax.random.key(0))
    real = float(batch.examples.mean())
    metrics = field.discriminator.metrics
    np.testing.assert_allclose(metrics["logits/real"], real, rtol=1e-4)
    np.testing.assert_allclose(metrics["logits/fake"], 0.25, rtol=1e-6)
    np.testing.assert_allclose(metrics["loss/discriminator"], 0.25 - real, rtol=1e-4)
    np.testing.assert_allclose(field.generator.metrics["loss/generator"], -0.25, rtol=1e-6)


def close(ours, theirs, rtol=1e-4):
    """Whether two trees are the same to rounding."""
    scale = max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(theirs))
    for one, other in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(one, other, rtol=rtol, atol=1e-5 * scale)


@pytest.mark.parametrize("loss", ["acgan(hinge)", "relativistic", "label_noise(hinge, 0.5)"])
def test_microbatches_are_the_whole_batch(batch, loss):
    regularizers = ("r1", "r2", "gradient_penalty")
    whole, parts = (
        make_game(loss, regularizers, conditional="acgan" in loss, microbatches=count)
        for count in (1, 3)
    )
    players, key = players_of(whole.init(jax.random.key(0))), jax.random.key(1)
    close(*(jax.jit(game.vector_field)(players, batch, key) for game in (parts, whole)))
    for role in ("generator", "discriminator"):
        gradients = [
            jax.jit(game.gradient, static_argnums=0)(role, players, batch, key)
            for game in (parts, whole)
        ]
        close(*gradients)


def test_statistics_go_from_one_microbatch_to_the_next(batch):
    """As if each were a batch: with momentum 0.9, three halves the weight of what was before."""
    game = make_game(network="dcgan(width=4)", microbatches=3)
    players, key = players_of(game.init(jax.random.key(0))), jax.random.key(1)
    after = jax.jit(game.gradient, static_argnums=0)("generator", players, batch, key).variables
    variances = [leaf["var"] for leaf in after["batch_stats"].values()]
    # They start at 1; those of the first activations are far smaller, as weights are at the start.
    np.testing.assert_allclose(variances[-1], 0.9**3, atol=0.02)


def test_the_generator_has_a_batch_of_its_own_size(batch):
    """The same as a game on that batch, for each size; the discriminator's is untouched."""
    parts = {"loss": "acgan(relativistic)", "conditional": True}  # labels and real examples count
    plain = make_game(**parts)
    players, key = players_of(plain.init(jax.random.key(0))), jax.random.key(1)
    field = plain.vector_field(players, batch, key)
    for size in (2, 12):
        own = make_game(**parts, generator_batch_size=size).vector_field(players, batch, key)
        close(own.discriminator.value, field.discriminator.value)
        rows = np.arange(size) % 6
        other = Batch(batch.examples[rows], batch.labels[rows], batch.update)
        close(own.generator, plain.gradient("generator", players, other, key))


REUSE = DYNAMICS.build("alternating(reuse_fakes=True)")


def compiled_step(rule, game, players, batch, optimizer):
    """The compiled step of a dynamics in which both players have this optimizer."""
    optimizers = Pair(optimizer, optimizer)
    players = pairwise(lambda p: p.replace(opt_state=optimizer.init(p.params)), players)

    def step(players, batches, key):
        return rule.step(game, optimizers, players, (), batches, key).players

    batches = [batch] * rule.num_batches
    return jax.jit(step).lower(players, batches, jax.random.key(1)).compile(), players, batches


def test_the_generator_is_judged_again_for_the_same_fakes(batch):
    """Written out with plain gradients: real and fake see the statistics of their own batch."""
    rate, key = 0.5, jax.random.key(1)
    generator = GENERATORS.build("dcgan(4)", **DATA)
    discriminator = DISCRIMINATORS.build("dcgan(4, norm='batch')", **DATA)
    game = AdversarialGame(generator, discriminator, LOSSES.build("relativistic"), 5, DATA["shape"])
    players = players_of(game.init(jax.random.key(0)))
    players = pairwise(lambda p: p.at(jax.tree.map(lambda x: 3 * x, p.params)), players)
    latents = draw(batch, 5, jax.random.split(key)[0]).latents
    own, other = players.generator, players.discriminator

    def generate(params):
        options = {"train": True, "mutable": ["batch_stats"]}
        return generator.apply({"params": params, **own.variables}, latents, None, **options)

    def judge(params, examples):
        options = {"train": True, "mutable": ["batch_stats"]}
        variables = {"params": params, **other.variables}
        return discriminator.apply(variables, examples, None, **options)[0]

    def advantage(own, other):
        return judge(other, batch.examples) - judge(other, generate(own)[0])

    by = jax.grad(lambda theirs: softplus(-advantage(own.params, theirs)).mean())(other.params)
    judges = jax.tree.map(lambda p, g: p - rate * g, other.params, by)
    by = jax.grad(lambda ours: softplus(advantage(ours, judges)).mean())(own.params)
    expected = Pair(jax.tree.map(lambda p, g: p - rate * g, own.params, by), judges)

    step, *inputs = compiled_step(REUSE, game, players, batch, optax.sgd(rate))
    moved = step(*inputs, key)
    for role in ("generator", "discriminator"):
        before = players.of(role).params
        close(
            *(
                jax.tree.map(jnp.subtract, p, before)
                for p in (moved.of(role).params, expected.of(role))
            )
        )
    close(moved.generator.variables, generate(own.params)[1])  # once


@dataclasses.dataclass(frozen=True)
class Shaken(Twice):
    """Depends on its state and on the keys."""

    def __call__(self, images, state, keys):
        noise = jax.vmap(lambda key: jax.random.normal(key, images.shape[1:]))(keys)
        return (2 + state["sign"]) * images + 0.1 * noise


class Noised(nn.Module):
    """A generator with noise of each sample's own key."""

    stochastic = True

    @nn.compact
    def __call__(self, latents, labels, *, train, keys=None):
        noise = jax.vmap(lambda key: jax.random.normal(key, [64]))(keys) if keys is not None else 0
        return nn.tanh(nn.Dense(64)(latents) + noise).reshape(-1, 8, 8, 1)


@pytest.mark.parametrize(
    ("generator", "discriminator", "loss", "regularizers"),
    [
        ("mlp(8, 1, conditional=True)", "mlp(8, 1)", "acgan(relativistic)", ("r1", "lecam(start_step=0)")),
        ("mlp(8, 1)", "mlp(8, 1)", "top_k(label_noise(hinge, 0.5), 0.5)", ("path_length(every=1)", "zcr", "bcr")),
        ("dcgan(4)", "dcgan(4, norm='spectral')", "hinge", ("gradient_penalty",)),
        (None, "mlp(8, 1)", "hinge", ("zcr",)),
    ],
)  # fmt: skip
def test_one_pass_in_turn_is_each_players_own_pass(
    batch, generator, discriminator, loss, regularizers
):
    """What `Game` does by default, from the same key: each gradient, metric and variable."""
    losses = LOSSES.build(loss)
    game = AdversarialGame(
        GENERATORS.build(generator, **DATA) if generator else Noised(),
        DISCRIMINATORS.build(discriminator, **DATA, class_logits=losses.classes is not None),
        losses, 5, DATA["shape"], {name: REGULARIZERS.build(name) for name in regularizers}, Shaken(),
    )  # fmt: skip
    players = players_of(game.init(jax.random.key(0)))

    def in_turn(kind, players):
        first, then = kind.gradients_in_turn(game, players, batch, jax.random.key(1))
        moved = players.discriminator.replace(variables=first.variables)
        params = jax.tree.map(lambda p, g: p - 0.1 * g, moved.params, first.value)
        return Pair(then(moved.at(params)), first)

    together, apart = (
        jax.jit(in_turn, static_argnums=0)(kind, players) for kind in (AdversarialGame, Game)
    )
    for role in ("generator", "discriminator"):
        close(together.of(role), apart.of(role))
        assert jax.tree.structure(together.of(role)) == jax.tree.structure(apart.of(role))


class Normalised(nn.Module):
    """Two matrices with batch normalisation in between."""

    @nn.compact
    def __call__(self, latents, labels, *, train):
        hidden = nn.BatchNorm(not train)(nn.Dense(16, use_bias=False)(latents))
        return nn.tanh(nn.Dense(64)(nn.tanh(hidden))).reshape(-1, 8, 8, 1)


@pytest.mark.parametrize(("steps", "reuse", "passes"), [(1, True, 1), (1, False, 2), (3, True, 2)])
def test_reused_fakes_are_made_once(batch, steps, reuse, passes):
    """Products in the compiled program: 2 a pass forward, 3 backward; those of a loop are there once."""
    game = AdversarialGame(Normalised(), Mean(), LOSSES.build("hinge"), 5, DATA["shape"])
    players = players_of(game.init(jax.random.key(0)))
    rule = DYNAMICS.build(f"alternating({steps}, reuse_fakes={reuse})")
    program, *_ = compiled_step(rule, game, players, batch, optax.sgd(0.1))
    assert len(re.findall(r" dot\(", program.as_text())) == 2 * passes + 3


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"microbatches": 2}, "microbatches must be 1, given 2"),
        ({"generator_batch_size": 12}, "generator_batch_size must be None or 6, given 12"),
    ],
)
def test_fakes_that_cannot_be_reused(batch, options, words):
    game = make_game(**options)
    players = players_of(game.init(jax.random.key(0)))
    with pytest.raises(UsageError, match=words):
        game.gradients_in_turn(players, batch, jax.random.key(1))


@pytest.mark.parametrize(
    "network", ["mlp(8, 1)", "dcgan(4)", "resnet(4)", "r3gan(8, cardinality=2)"]
)
def test_every_discriminator_can_judge_classes(batch, network):
    game = make_game("acgan(hinge)", network=network, conditional=True)
    players = players_of(game.init(jax.random.key(0)))
    field = jax.jit(game.vector_field)(players, batch, jax.random.key(1))
    metrics = field.discriminator.metrics
    assert {0, 1 / 6, 2 / 6, 0.5, 4 / 6, 5 / 6, 1} >= {
        round(float(metrics["class_accuracy/real"]) * 6) / 6
    }
    layer = field.discriminator.value["class_logits_layer"]
    assert layer["kernel"].shape[-1] == 3
    assert float(jnp.abs(layer["kernel"]).max()) > 0
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(field))


def test_a_discriminator_that_says_no_classes_is_refused(batch):
    game = AdversarialGame(
        GENERATORS.build("mlp(8, 1)", **DATA), Shifted(1.0), LOSSES.build("acgan"), 5, DATA["shape"]
    )
    players = players_of(game.init(jax.random.key(0)))
    with pytest.raises(UsageError, match=r"must return .logits .B., class logits"):
        game.vector_field(players, batch, jax.random.key(1))


@pytest.mark.parametrize("loss", ["acgan", "label_noise(hinge)"])
def test_a_game_without_classes_or_keys_refuses_losses_that_need_them(loss):
    with pytest.raises(UsageError, match="there are no classes here, and no noise"):
        GAMES.build(f"dirac({loss!r})")
