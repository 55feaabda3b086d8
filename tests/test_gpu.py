"""What a GPU would be given to compile: the programs of train steps, for which no GPU is needed."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental import io_callback

from gan.augmentation import DISCRIMINATOR_AUGMENTATIONS
from gan.config import TrainConfig
from gan.dynamics import DYNAMICS
from gan.models import DISCRIMINATORS, GENERATORS
from gan.registry import OURS
from gan.regularizers import REGULARIZERS
from gan.trainers.experiment import build
from gan.trainers.train_step import make_train_step
from tests.every import TINY_NETWORKS

# The calls that JAX itself may make. XLA chooses cuDNN and cuBLAS later, when it compiles.
JAXS_OWN = {"Sharding", "cu_threefry2x32_ffi"}
TO_THE_HOST = {"infeed", "outfeed", "send", "recv"}
NETWORKS = sorted(
    name
    for name in {*GENERATORS} & {*DISCRIMINATORS}
    if {GENERATORS.origin(name), DISCRIMINATORS.origin(name)} == {OURS}
)
AUGMENTATIONS = {*DISCRIMINATOR_AUGMENTATIONS} - {"none"}


def surprises(text):
    """Finds what is unwelcome in a program: float64, transfers to the host, calls that are not JAX's."""
    operations = set(re.findall(r"\bstablehlo\.(\w+)", text))
    calls = set(re.findall(r'\bcustom_call @"?([^"(\s]+)', text))
    float64 = {"f64"} if re.search(r"[x<]f64\b", text) else set()
    return float64 | (operations & TO_THE_HOST) | (calls - JAXS_OWN)


def step_for_cuda(**changes):
    """Returns the text of a train step that is lowered for CUDA; compiles nothing."""
    small = {"dataset": "noise(8)", "batch_size": 8, "latent_dim": 6, "averaging": ("ema",)}
    experiment = build(TrainConfig(**small | changes))
    data = experiment.make_loader(experiment.load_examples()).at(0, 0).data
    step = make_train_step(experiment)
    with jax.set_mesh(step.mesh):
        program = step.jitted.trace(experiment.state_target(), data, 1)
    return program.lower(lowering_platforms=("cuda",)).as_text()


@pytest.mark.parametrize(
    ("function", "found"),
    [
        (lambda x: io_callback(print, None, x), "callback"),
        (lambda x: jax.pure_callback(np.sin, x, x), "callback"),
        (lambda x: jax.debug.print("{}", x), "callback"),
        (lambda x: jnp.linalg.eigh(jnp.outer(x, x)), "lapack"),
        (lambda x: jnp.sum(x * np.arange(3.0)), "f64"),
    ],
)
def test_what_is_unwelcome_is_found(function, found):
    """In toy programs for a CPU, since JAX lowers no callback for a device that is not there."""
    with jax.enable_x64(found == "f64"):
        text = jax.jit(function).lower(jnp.ones(3, jnp.float32)).as_text()
    assert found in str(surprises(text))
    for name in TO_THE_HOST:
        assert surprises(f'"stablehlo.{name}"(%0, %1)') == {name}


def test_no_callback_is_lowered_for_a_gpu_without_one():
    with pytest.raises(ValueError, match="different from the lowering platform cuda"):
        jax.jit(lambda x: io_callback(print, None, x)).trace(1.0).lower(
            lowering_platforms=("cuda",)
        )


def marked(*values, slow):
    return pytest.param(*values, marks=pytest.mark.slow if slow else ())


@pytest.mark.parametrize(
    ("network", "precision"),
    [
        marked(name, precision, slow=precision == "float32" and name not in ("mlp", "dcgan"))
        for name in NETWORKS
        for precision in ("float32", "bfloat16")
    ],
)
def test_the_step_of_every_network_lowers_for_a_gpu(network, precision):
    spec = TINY_NETWORKS[network].replace(")", ", conditional=True)")
    text = step_for_cuda(
        generator=spec,
        discriminator=spec,
        precision=precision,
        regularizers=("r1(every=16)",),
        mesh="data(1)",
    )
    assert not surprises(text)
    assert ("bf16" in text) == (precision == "bfloat16")


@pytest.mark.parametrize("dynamics", DYNAMICS)
def test_the_step_of_every_dynamics_lowers_for_several_gpus(dynamics):
    text = step_for_cuda(
        generator="mlp(4, 1)", discriminator="mlp(4, 1)", dynamics=dynamics, mesh="data(8)"
    )
    assert not surprises(text)


@pytest.mark.parametrize(
    ("augmentation", "regularizers"),
    [
        ("none", tuple(REGULARIZERS)),
        *(marked(name, ("r1",), slow=name == "ada") for name in sorted(AUGMENTATIONS)),
    ],
)
def test_every_augmentation_and_regularizer_lowers_for_a_gpu(augmentation, regularizers):
    text = step_for_cuda(
        generator="mlp(4, 1)",
        discriminator="mlp(4, 1)",
        discriminator_augmentation=augmentation,
        regularizers=regularizers,
        mesh="data(1)",
    )
    assert not surprises(text)
