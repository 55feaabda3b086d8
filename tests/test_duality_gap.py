import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gan.config import TrainConfig
from gan.data.dataset import Batch, Examples
from gan.errors import UsageError
from gan.games import AdversarialGame
from gan.games.quadratic import QuadraticGame
from gan.losses import LOSSES
from gan.metrics import METRICS
from gan.metrics.duality_gap import DualityGap, _split, _value_of_guessing
from gan.metrics.game_metric import GameSetting
from gan.optimizers import constraints_of
from gan.players import Pair, PlayerState, pairwise
from gan.sharding import MESHES
from gan.trainers.evaluation.evaluate import _players
from gan.trainers.experiment import build
from tests.every import TINY_NETWORKS

NO_EXAMPLES = Examples(np.zeros([20, 1], np.float32), np.zeros(20, np.int32))
MU, SIGMA = np.array([0.5, 1.0]), np.array([1.0, -2.0])


def quadratic(metric, x, y):
    sgd = Pair("sgd(0.1)", "sgd(0.1)")
    game = QuadraticGame(tuple(MU), tuple(SIGMA))
    setting = GameSetting(game, "none", 4, MESHES.build("data(1)"), sgd)
    players = Pair(*(PlayerState(jnp.asarray(own, jnp.float32), {}, ()) for own in (x, y)))
    return metric.prepare(setting, NO_EXAMPLES, 0)(players, 0)


def value(x, y):
    return np.sum(MU / 2 * (x**2 - y**2) + SIGMA * x * y)


X, Y = np.array([1.0, -0.5]), np.array([0.3, 2.0])


def test_the_gap_of_regularised_quadratics_in_closed_form():
    """max over y is at sigma x / mu, min over x at -sigma y / mu."""
    found = quadratic(DualityGap(100, "sgd(0.5)", 1), X, Y)
    expected = np.sum((MU / 2 + SIGMA**2 / (2 * MU)) * (X**2 + Y**2))
    np.testing.assert_allclose(found["duality_gap"], expected, rtol=1e-5)
    gain = np.sum((MU / 2 + SIGMA**2 / (2 * MU)) * X**2) - value(X, Y)
    np.testing.assert_allclose(found["discriminator_gain"], gain, rtol=1e-5)


@pytest.mark.parametrize("steps", [1, 3])
def test_after_few_steps(steps):
    """Gradient descent on a quadratic comes nearer by 1 - rate mu a step."""
    found = quadratic(DualityGap(steps, "sgd(0.2)", 1), X, Y)
    left = (1 - 0.2 * MU) ** steps
    y_best, x_best = SIGMA * X / MU, -SIGMA * Y / MU
    y, x = y_best + left * (Y - y_best), x_best + left * (X - x_best)
    np.testing.assert_allclose(found["duality_gap"], value(X, y) - value(x, Y), rtol=1e-5)
    parts = found["discriminator_gain"] + found["generator_gain"]
    np.testing.assert_allclose(parts, found["duality_gap"], rtol=1e-5)


def test_at_the_solution_it_is_0_and_below_0_where_the_steps_lead_away():
    zeros = quadratic(DualityGap(3, "sgd(0.5)", 1), 0 * X, 0 * Y)
    assert zeros["duality_gap"] == 0
    assert quadratic(DualityGap(5, "sgd(9.0)", 1), X, Y)["duality_gap"] < 0


def test_schedules_of_its_optimizer_count_its_own_updates():
    """At step 0 of the run and at step 900 alike."""
    rates = "sgd(piecewise_constant_schedule(0.2, {1: 0.0}))"
    found = quadratic(DualityGap(5, rates, 1), X, Y)
    once = quadratic(DualityGap(1, "sgd(0.2)", 1), X, Y)
    assert found == pytest.approx(once, nan_ok=True)


class Scaled(nn.Module):
    """Standard normal points where the scale is 1, and one point where it is 0."""

    conditional = False

    @nn.compact
    def __call__(self, latents, labels, *, train):
        scale, bias = self.param("scale", nn.ones, [2]), self.param("bias", nn.zeros, [2])
        return latents * scale + bias


class Judge(nn.Module):
    conditional = False

    @nn.compact
    def __call__(self, examples, labels, *, train):
        x = nn.tanh(nn.Dense(32, bias_init=nn.initializers.normal(1.0))(examples))
        return nn.Dense(1, name="last")(x)[:, 0]


def test_a_planted_collapse_is_seen():
    """Against the discriminator of an equilibrium; and the less of the spread is left, the larger it is."""
    game = AdversarialGame(Scaled(), Judge(), LOSSES.build("non_saturating"), 2, (2,))
    params = pairwise(lambda made: made[0], game.init(jax.random.key(0)))
    params.discriminator["last"]["kernel"] *= 0.0  # says 0 of everything, as at an equilibrium
    points = np.random.default_rng(0).standard_normal([4_000, 2]).astype(np.float32)
    examples = Examples(points, np.zeros(4_000, np.int32))
    optimizers = Pair("sgd(0.1)", "sgd(0.1)")
    setting = GameSetting(game, "", 128, MESHES.build("data(1)"), optimizers)
    measure = DualityGap(50, "adam(0.05)", 16).prepare(setting, examples, 0)
    found = []
    for scale in (1.0, 0.6, 0.3, 0.0):
        generator = params.generator | {"scale": jnp.full([2], scale)}
        players = Pair(PlayerState(generator, {}, ()), PlayerState(params.discriminator, {}, ()))
        found.append(measure(players, 0))
    assert abs(found[0]["duality_gap"]) < 0.03  # at most the noise of 2,048 points
    gains = [scores["discriminator_gain"] for scores in found]
    assert np.all(np.diff(gains) > 0.05)
    assert 0.5 < gains[-1] < 2 * np.log(2)  # the most that M can rise above -2 log 2
    advantages = [scores["discriminator_advantage"] for scores in found]
    np.testing.assert_allclose(advantages, gains, atol=1e-5)  # it started from guessing


@pytest.mark.parametrize(
    ("loss", "most"),
    [
        ("non_saturating", -2 * np.log(2)), ("relativistic", -np.log(2)), ("hinge", -2.0),
        ("wasserstein", 0.0), ("least_squares", -0.25), ("least_squares(smoothing=0.2)", -0.16),
    ],
)  # fmt: skip
def test_the_most_of_m_where_nobody_can_tell(loss, most):
    game = AdversarialGame(Scaled(), Judge(), LOSSES.build(loss), 2, (2,))
    assert _value_of_guessing(game) == pytest.approx(most, abs=1e-5)


def test_a_generator_whose_gradient_has_vanished_is_no_equilibrium():
    """A gap of 0 is not believed where the discriminator tells all fakes."""
    warn = DualityGap().warnings
    (line,) = warn({"duality_gap": 0.0, "discriminator_advantage": 1.38})
    assert "is estimated as 0, and is at least 1.38" in line
    assert warn({"duality_gap": 0.0, "discriminator_advantage": -0.001}) == []
    assert warn({"duality_gap": 2.0, "discriminator_advantage": 1.0}) == []


def experiment(loss="non_saturating", network="mlp(4, 1)", mesh="data(1)", **keys):
    return build(
        TrainConfig(
            dataset="digits",
            generator=network, discriminator=network, loss=loss, mesh=mesh,
            batch_size=8, latent_dim=4, **keys,
        )
    )  # fmt: skip


def measured(own, metric):
    state = own.init_on_mesh()
    players = _players(state, {"params": state.players.generator.params,
                               "variables": state.players.generator.variables})  # fmt: skip
    before = jax.device_get(state.players)
    measure = metric.prepare(own.game_setting, own.load_examples(), 3)
    scores = measure(players, 7)
    assert measure(players, 7) == scores  # no chance in it
    jax.tree.map(np.testing.assert_array_equal, before, jax.device_get(state.players))
    assert all(map(np.isfinite, scores.values()))
    return scores


@pytest.mark.parametrize("loss", LOSSES)
def test_m_is_minus_the_discriminators_loss_without_what_is_added(loss):
    conditional = "mlp(4, 1, conditional=True)"
    own = experiment(
        loss, conditional, regularizers=("r1(2.0)", "lecam(start_step=0)"),
        discriminator_augmentation="diffaugment('translation')",
    )  # fmt: skip
    players, key = own.init().players, jax.random.key(1)
    examples = jax.random.normal(key, [8, 8, 8, 1])
    batch = Batch(examples, jnp.arange(8) % own.dataset.num_classes, jnp.int32(2))
    whole, (_, metrics) = own.game.loss("discriminator", players, batch, key)
    added = [value for name, value in metrics.items() if name.startswith(("penalty", "class_loss"))]
    assert float(sum(added)) != 0
    expected = sum(added) - whole
    np.testing.assert_allclose(own.game.value(players, batch, key), expected, atol=1e-5)


@pytest.mark.parametrize(
    "network",
    [
        name if name == "mlp" else pytest.param(name, marks=pytest.mark.slow)
        for name in TINY_NETWORKS
    ],
)
def test_every_network(network):
    measured(experiment(network=TINY_NETWORKS[network]), DualityGap(2, "adam(1e-3)", 2))


def test_many_devices_and_what_a_run_adds_to_its_game():
    keys = {
        "regularizers": ("r1(1.0, every=2)", "lecam(start_step=0)"),
        "discriminator_augmentation": "diffaugment('translation')",
        "loss": "top_k(label_noise(hinge, 0.1))",
    }
    one = measured(experiment(**keys), DualityGap(3, "adam(1e-2)", 2))
    eight = measured(experiment(**keys, mesh="data(8)"), DualityGap(3, "adam(1e-2)", 2))
    assert one == pytest.approx(eight, abs=1e-4)


def test_constraints_of_the_runs_optimizers_are_kept():
    """With weights that are clipped at 0 a discriminator cannot gain."""
    clipped = {"discriminator_optimizer": "rmsprop(1e-3) | clip_weights(0.0)"}
    scores = measured(experiment("wasserstein", **clipped), DualityGap(2, "adam(1e-2)", 2))
    free = measured(experiment("wasserstein"), DualityGap(2, "adam(1e-2)", 2))
    assert free["discriminator_gain"] > 0.01
    assert scores["generator_gain"] == free["generator_gain"]
    assert scores["discriminator_gain"] < free["discriminator_gain"] - 0.01
    assert [len(constraints_of(text)) for text in ("adam(1e-3)", "sgd(1.0) | clip_weights(1.0)")] == [
        0, 1,
    ]  # fmt: skip
    with pytest.raises(UsageError, match="clip_weights is within another optimizer"):
        constraints_of("by_path(sgd(0.1) , ('bias', clip_weights(1.0)))")


def test_m_is_of_examples_that_the_updates_have_not_seen():
    examples = Examples(np.arange(50, dtype=np.float32)[:, None], np.arange(50, dtype=np.int32))
    for num_held_out, expected in ((10, 10), (1_000, 25)):
        to_learn, held_out = _split(examples, 12, num_held_out, seed=1)
        assert not {*to_learn.labels} & {*held_out.labels}
        assert (len(to_learn.labels), len(held_out.labels)) == (12, expected)
        np.testing.assert_array_equal(held_out.examples[:, 0], held_out.labels)
        assert list(held_out.labels) != sorted(held_out.labels)  # a file may be sorted by class


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("duality_gap(steps=0)", "duality_gap: steps must be at least 1, given 0"),
        ("duality_gap(num_batches=0)", "duality_gap: num_batches must be at least 1, given 0"),
        (
            "duality_gap(optimizer='adm(1e-3)')",
            "duality_gap: optimizer: unknown optimizer 'adm'; did",
        ),
        ("duality_gap(k=3)", "duality_gap: unknown argument 'k'; it is duality_gap(steps=200, opt"),
    ],
)
def test_misuse(text, message):
    with pytest.raises(UsageError) as error:
        METRICS.build(text)
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)
