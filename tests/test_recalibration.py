"""Statistics of batch normalisation for averaged weights: against sums by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

import gan
from gan.errors import UsageError
from gan.recalibration import find_momenta, recalibrate
from gan.trainers.sampling import make_sampler

RNG = np.random.default_rng(0)


class First(nn.Module):
    """The spectral normalisation alone."""

    @nn.compact
    def __call__(self, latents, *, train):
        return nn.SpectralNorm(nn.Dense(3))(latents, update_stats=train)


class Toy(nn.Module):
    """Two batch normalisations of unlike momenta, one that is frozen, and a spectral normalisation."""

    @nn.compact
    def __call__(self, latents, labels, *, train):
        x = nn.SpectralNorm(nn.Dense(3))(latents, update_stats=train)
        x = nn.BatchNorm(use_running_average=not train, momentum=0.9)(x)
        x = nn.Dense(2)(nn.tanh(x)) + labels[:, None]
        x = nn.BatchNorm(momentum=0.99)(x, not train)
        return nn.BatchNorm(use_running_average=True)(x)


def toy():
    variables = dict(Toy().init(jax.random.key(0), jnp.zeros([2, 4]), jnp.zeros([2]), train=True))
    params = variables.pop("params")
    marked = jax.tree.map(lambda leaf: leaf + 5, variables)  # what came before must not matter
    return params, marked


def test_the_momenta_are_found_by_path():
    assert find_momenta(Toy(), *toy(), latent_dim=4) == {
        ("BatchNorm_0",): 0.9,
        ("BatchNorm_1",): 0.99,
    }


def test_statistics_are_the_means_over_batches_by_hand():
    (params, variables), latents = toy(), RNG.standard_normal([3, 8, 4])
    labels = RNG.integers(0, 5, [3, 8])
    after = recalibrate(
        Toy(), params, variables, jnp.array(latents, jnp.float32), jnp.array(labels)
    )
    stats, before = after["batch_stats"], variables["batch_stats"]

    carried = before["SpectralNorm_0"]
    means, variances = [], []
    for z, label in zip(latents, labels, strict=True):
        x, updated = First().apply(
            {"params": {"Dense_0": params["Dense_0"]}, "batch_stats": {"SpectralNorm_0": carried}},
            jnp.array(z, jnp.float32), train=True, mutable=["batch_stats"],
        )  # fmt: skip
        carried = updated["batch_stats"]["SpectralNorm_0"]
        x = np.asarray(x, np.float64)
        means.append([x.mean(0)])
        variances.append([x.var(0)])
        norm = params["BatchNorm_0"]
        x = (x - x.mean(0)) / np.sqrt(x.var(0) + 1e-5) * norm["scale"] + norm["bias"]
        x = np.tanh(x) @ params["Dense_1"]["kernel"] + params["Dense_1"]["bias"] + label[:, None]
        means[-1].append(x.mean(0))
        variances[-1].append(x.var(0))
    for place in (0, 1):
        found = stats[f"BatchNorm_{place}"]
        expected = np.mean([mean[place] for mean in means], 0)
        np.testing.assert_allclose(found["mean"], expected, rtol=1e-4, atol=1e-5)
        expected = np.mean([variance[place] for variance in variances], 0)
        np.testing.assert_allclose(found["var"], expected, rtol=1e-4)
    jax.tree.map(np.testing.assert_array_equal, stats["BatchNorm_2"], before["BatchNorm_2"])
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), stats["SpectralNorm_0"], carried
    )


CONFIG = {
    "dataset": "digits", "generator": "dcgan(width=2, conditional=True)",
    "discriminator": "mlp(4, 1, conditional=True)", "batch_size": 8, "latent_dim": 4, "num_steps": 2,
    "sample_every_steps": 0, "mesh": "data(1)",
    "averaging": (
        "ema(0.5, recalibrate_batch_norm=3)", "ema(0.5)", "ema_images(16)",
        "ema(linear_schedule(0.5, 0.9, 9))", "uniform(recalibrate_batch_norm=2)",
    ),
}  # fmt: skip


def test_all_that_draws_from_an_average_recalibrates_it(tmp_path):
    trained, loaded = gan.train(CONFIG, tmp_path / "run"), gan.load(tmp_path / "run")
    for name in loaded.state.averages:
        jax.tree.map(np.testing.assert_array_equal, loaded.weights(name), trained.weights(name))

    name, plain, *_ = CONFIG["averaging"]
    sampler, state = make_sampler(loaded.experiment), loaded.state
    labels = sampler.labels(24).reshape(3, 8)  # in the proportions of the data
    again = sampler.recalibrate(state.averages[name], labels)
    jax.tree.map(np.testing.assert_array_equal, loaded.weights(), again)
    jax.tree.map(np.testing.assert_array_equal, loaded.weights(plain), state.averages[plain])
    jax.tree.map(
        np.testing.assert_array_equal, again["params"], state.averages[plain]["params"]
    )  # the statistics alone are others
    both = [
        run["variables"]["batch_stats"]["BatchNorm_0"]["var"]
        for run in (again, loaded.weights(plain))
    ]
    assert not np.allclose(*both, rtol=1e-2)
    drawn, _ = sampler(again, 4, 0)
    np.testing.assert_array_equal(loaded.sample(4), drawn)
    latents = loaded.latents(4)
    np.testing.assert_array_equal(loaded.generate(latents, sampler.labels(4)), drawn)


def test_a_generator_without_batch_normalisation_is_refused():
    config = CONFIG | {"generator": "mlp(4, 1, conditional=True)"}
    with pytest.raises(UsageError, match=r"averaging = .* generator = 'mlp\(4.* has none"):
        gan.train(config)
