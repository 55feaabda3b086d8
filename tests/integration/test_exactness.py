"""N + stop + N steps are 2 N steps: for every part that a config can name."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gan.checkpoints import Checkpoints
from gan.checkpoints.trees import digest
from gan.config import TrainConfig
from gan.dynamics import DYNAMICS
from gan.models import DISCRIMINATORS, GENERATORS
from gan.trainers.experiment import build
from gan.trainers.train_step import make_train_step
from tests.every import every_optimizer

STEPS = 5
CONFIG = TrainConfig(
    dataset="gaussians",
    generator="mlp(4, 1)",
    discriminator="mlp(4, 1)",
    generator_optimizer="optimistic_adam(1e-3)",
    discriminator_optimizer="optimistic_adam(1e-3)",
    averaging=(
        "ema(decay=0.9)",
        "uniform",
        "ema(linear_schedule(0.5, 0.9, 9))",
        "ema_images(cosine_schedule(0.0, 64.0, 4))",
    ),
    batch_size=8,
    latent_dim=4,
)
ONE, EIGHT = "data(1)", "data(8)"
BOTH = pytest.mark.parametrize("mesh", [ONE, EIGHT], ids=["1 device", "8 devices"])


class Half:
    """The compiled step of a config, and its data."""

    def __init__(self, config):
        self.experiment = build(config)
        self.data = self.experiment.make_loader(self.experiment.load_examples()).at(0, 0).data
        self.step = make_train_step(self.experiment)

    def start(self):
        return self.experiment.init_on_mesh()

    def go_on(self, state, steps=STEPS):
        state, _, found = self.step(state, self.data, steps)
        assert not found.skipped.any()
        return state

    def saved(self, state, folder):
        with Checkpoints(folder) as checkpoints:
            checkpoints.save(int(state.step), state, {}, {})

    def restored(self, folder):
        with Checkpoints(folder) as checkpoints:
            return checkpoints.restore(checkpoints.newest(), self.experiment.state_target())


def check(tmp_path, config):
    """Bit by bit, on the config's own devices."""
    half = Half(config)
    whole = digest(half.go_on(half.start(), 2 * STEPS))
    half.saved(half.go_on(half.start()), tmp_path)
    assert digest(half.go_on(half.restored(tmp_path))) == whole


@BOTH
@pytest.mark.parametrize("dynamics", [*DYNAMICS, "lookahead(past_extragradient, steps=2)"])
def test_every_dynamics(tmp_path, dynamics, mesh):
    check(tmp_path, dataclasses.replace(CONFIG, dynamics=dynamics, mesh=mesh))


@BOTH
@pytest.mark.parametrize(
    ("generator", "discriminator"),
    [
        ("dcgan(4)", "dcgan(4)"),
        ("dcgan(4, batch_norm=False)", "dcgan(4, norm='batch')"),
        ("dcgan(4)", "dcgan(4, norm='spectral')"),
        ("mlp(4, 2, conditional=True)", "mlp(4, 2, conditional=True)"),
        ("resnet(4, conditional=True)", "resnet(4, conditional=True)"),
        ("r3gan(8, cardinality=2, conditional=True)", "r3gan(8, cardinality=2, conditional=True)"),
        pytest.param(
            "biggan(2, attention=8, conditional=True)",
            "biggan(1, conditional=True)",
            marks=pytest.mark.slow,
        ),
        pytest.param(*["stylegan2(64, 8, 1, conditional=True)"] * 2, marks=pytest.mark.slow),
    ],
)
def test_every_network(tmp_path, generator, discriminator, mesh):
    config = dataclasses.replace(
        CONFIG, dataset="digits", generator=generator, discriminator=discriminator, mesh=mesh
    )
    check(tmp_path, config)


def test_no_network_is_left_out():
    names = {"biggan", "dcgan", "mlp", "r3gan", "resnet", "stylegan2"}
    assert set(GENERATORS) == names == set(DISCRIMINATORS)


@BOTH
@pytest.mark.parametrize("regularizer", ["r1(every=2)", "r2(every=3)", "gradient_penalty"])
def test_lazy_regularizers(tmp_path, regularizer, mesh):
    check(tmp_path, dataclasses.replace(CONFIG, regularizers=(regularizer,), mesh=mesh))


@BOTH
def test_what_remembers_from_step_to_step(tmp_path, mesh):
    """States of regularizers, of both players, over microbatches."""
    config = dataclasses.replace(
        CONFIG,
        regularizers=("lecam(start_step=1)", "path_length(every=2, batch_shrink=1)"),
        mesh=mesh,
        batch_size=16,
        microbatches=2,
    )
    check(tmp_path, config)


@pytest.mark.parametrize("mesh", [ONE, pytest.param(EIGHT, marks=pytest.mark.slow)])
def test_adaptive_augmentation(tmp_path, mesh):
    """Its strength moves after every second batch here, also across the stop at step 5."""
    config = dataclasses.replace(
        CONFIG,
        dataset="digits",
        discriminator_augmentation="ada(target=-1.0, interval=2, kimg=0.01)",
        mesh=mesh,
    )
    check(tmp_path, config)
    with Checkpoints(tmp_path) as checkpoints:
        state = checkpoints.restore(checkpoints.newest(), Half(config).experiment.state_target())
    ada = state.players.discriminator.variables["training_state"]["augmentation"]
    assert float(ada["strength"]) > 0
    assert int(ada["batches"]) == STEPS % 2


OPTIMIZERS = every_optimizer()
# Each of the two players has its own: two are checked in one compiled program.
_HALF = (len(OPTIMIZERS) + 1) // 2
PAIRS = list(zip(OPTIMIZERS[:_HALF], OPTIMIZERS[-_HALF:], strict=True))


@pytest.mark.slow
@BOTH
@pytest.mark.parametrize(("generators", "discriminators"), PAIRS)
def test_every_optimizer(tmp_path, generators, discriminators, mesh):
    config = dataclasses.replace(
        CONFIG,
        generator_optimizer=short(generators),
        discriminator_optimizer=short(discriminators),
        mesh=mesh,
    )
    check(tmp_path, config)


def short(optimizer):
    """The optimizer with short steps: the long ones of two `scale_by_...` lead to infinity."""
    last = optimizer.startswith("schedule_free")  # nothing may come after it
    return f"scale(0.01) | {optimizer}" if last else f"{optimizer} | scale(0.01)"


def test_no_optimizer_is_left_out():
    assert {optimizer for pair in PAIRS for optimizer in pair} == set(OPTIMIZERS)


@pytest.mark.parametrize(
    "optimizer", ["noisy_sgd(0.01, key=1)", "schedule_free_adamw(0.01)", "muon(0.01)"]
)
def test_some_optimizers(tmp_path, optimizer):
    check(tmp_path, dataclasses.replace(CONFIG, generator_optimizer=optimizer, mesh=ONE))


@pytest.mark.parametrize("meshes", [(EIGHT, ONE), (ONE, EIGHT)], ids=["8 to 1", "1 to 8"])
@pytest.mark.parametrize("dynamics", DYNAMICS)
def test_from_one_number_of_devices_to_another(tmp_path, dynamics, meshes):
    """Sums are then taken in another order: equal within rounding, and the same batches."""
    before, after = (
        Half(dataclasses.replace(CONFIG, dynamics=dynamics, mesh=mesh)) for mesh in meshes
    )
    before.saved(before.go_on(before.start()), tmp_path)
    end, whole = after.go_on(after.restored(tmp_path)), after.go_on(after.start(), 2 * STEPS)

    def close(one, other):
        assert one.dtype == other.dtype
        if jnp.issubdtype(one.dtype, jnp.integer):
            np.testing.assert_array_equal(one, other)
        else:
            np.testing.assert_allclose(one, other, rtol=1e-3, atol=2e-5)

    jax.tree.map(close, end, whole)
