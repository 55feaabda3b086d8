"""Losses, regularizers and augmentations with every dynamics and network: they compose.

The losses that are formulas alone go with all in tests/test_games.py and tests/test_train_step.py.
"""

import itertools

import jax
import numpy as np
import pytest

from gan.augmentation import DISCRIMINATOR_AUGMENTATIONS
from gan.config import TrainConfig
from gan.dynamics import DYNAMICS
from gan.losses import LOSSES
from gan.models import DISCRIMINATORS, GENERATORS
from gan.regularizers import REGULARIZERS
from gan.trainers.experiment import build
from gan.trainers.experiment_checks import check_step
from gan.trainers.train_step import make_train_step, scalars
from tests.every import TINY_NETWORKS

ONCE = "piecewise_constant_schedule(1.0, {1: 0.0})"  # 1 at the first step, then 0
WEIGHTED = tuple(
    f"{name}(weight=0.1, every=1)" for name in REGULARIZERS if name not in ("r1", "bcr")
)
REUSE = "alternating(reuse_fakes=True)"
RULES = (*DYNAMICS, REUSE)
FEW = ("simultaneous", "alternating")  # the others compile long
EVERY_DYNAMICS = [
    pytest.param(name, marks=() if name in FEW else pytest.mark.slow) for name in RULES
]
NETWORKS = sorted({*GENERATORS} & {*DISCRIMINATORS})


def every_composition():
    """Yields every network with every loss and every dynamics; with which the other two go, varies."""
    for row, network in enumerate(NETWORKS):
        dynamics = itertools.islice(itertools.cycle(RULES), row, None)
        for column, (loss, rule) in enumerate(zip(LOSSES, dynamics, strict=False)):
            devices = 8 if (row + column) % 2 else 1
            yield network, loss, rule, devices, "bfloat16" if column % 2 else "float32"


def steps(count, **changes):
    """Makes single steps; returns the last state and the metrics of each."""
    parts = {
        "generator": "mlp(4, 1)", "discriminator": "mlp(4, 1)", "batch_size": 8, "latent_dim": 4,
        "mesh": "data(1)", "averaging": (),
    }  # fmt: skip
    experiment = build(TrainConfig(**(parts | changes)))
    data = experiment.make_loader(experiment.load_examples()).at(0, 0).data
    state, logged = experiment.init_on_mesh(), []
    train_step = make_train_step(experiment)
    for _ in range(count):
        state, metrics, not_finite = train_step(state, data, 1)
        assert not any(map(bool, not_finite.causes.values())), not_finite.causes
        logged.append(scalars(metrics))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state.players))
    return state, logged


@pytest.mark.parametrize("dynamics", EVERY_DYNAMICS)
def test_all_regularizers_with_every_dynamics_and_weights_by_the_runs_step(dynamics):
    _, logged = steps(
        3,
        dynamics=dynamics,
        loss="top_k(label_noise(relativistic, 0.2), 0.5)",
        regularizers=(*WEIGHTED, "bcr", f"r1(weight={ONCE})"),
        discriminator_augmentation="diffaugment",
    )
    assert logged[0]["penalty/r1"] > 0
    assert [values["penalty/r1"] for values in logged[1:]] == [0, 0]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("network", "precision"), [*((name, "float32") for name in NETWORKS), ("dcgan", "bfloat16")]
)
def test_all_regularizers_with_every_network_and_precision(network, precision):
    generator = "dcgan(4, batch_norm=False)" if network == "dcgan" else TINY_NETWORKS[network]
    per_sample = GENERATORS.build(generator, shape=(8, 8, 1), num_classes=10).per_sample
    regularizers = WEIGHTED if per_sample else ("r1", "zcr", "lecam(start_step=0)")
    steps(
        1,
        generator=generator.replace(")", ", conditional=True)"),
        discriminator=TINY_NETWORKS[network],
        loss="acgan(hinge)",
        regularizers=regularizers,
        precision=precision,
    )


@pytest.mark.parametrize("dynamics", EVERY_DYNAMICS)
@pytest.mark.parametrize("loss", ["acgan", "label_noise", "top_k"])
def test_the_losses_that_are_more_than_formulas_with_every_dynamics(loss, dynamics):
    conditional = ", conditional=True" if LOSSES.build(loss).classes is not None else ""
    steps(
        1,
        generator=f"mlp(4, 0{conditional})",
        discriminator="mlp(4, 0)",
        loss=loss,
        dynamics=dynamics,
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("network", "loss", "dynamics", "devices", "precision"), every_composition()
)
def test_every_network_with_every_loss_and_dynamics(network, loss, dynamics, devices, precision):
    spec = TINY_NETWORKS[network].replace(")", ", conditional=True)")
    steps(
        1,
        generator=spec,
        discriminator=spec,
        loss=loss,
        dynamics=dynamics,
        mesh=f"data({devices})",
        precision=precision,
        batch_size=16,
    )


@pytest.mark.slow
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("network", NETWORKS)
def test_every_network_and_loss_can_reuse_fakes(network, loss):
    """Traces a step, and compares the state's shapes and types with those before."""
    spec = TINY_NETWORKS[network].replace(")", ", conditional=True)")
    check_step(
        build(
            TrainConfig(
                generator=spec, discriminator=spec, loss=loss, dynamics=REUSE, batch_size=16,
                latent_dim=4, mesh="data(1)", averaging=(),
            )
        )
    )  # fmt: skip


@pytest.mark.parametrize("augmentation", sorted({*DISCRIMINATOR_AUGMENTATIONS} - {"none"}))
@pytest.mark.slow
@pytest.mark.parametrize("dynamics", RULES)
def test_every_augmentation_with_every_dynamics(augmentation, dynamics):
    steps(
        1, discriminator_augmentation=augmentation, dynamics=dynamics, regularizers=("r1(every=2)",)
    )
