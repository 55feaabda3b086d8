"""PyTorch's training steps against ours: from the same point and samples to the same one."""

import importlib
import json
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from gan.config import TrainConfig
from gan.data.dataset import Batch
from gan.dynamics import DYNAMICS
from gan.games.adversarial import AdversarialGame
from gan.games.draw import draw
from gan.losses import LOSSES
from gan.models import DISCRIMINATORS, GENERATORS
from gan.optimizers import OPTIMIZERS
from gan.players import Pair, PlayerState
from gan.regularizers import REGULARIZERS
from gan.schedules import SCHEDULES
from tests.test_pytorch_networks import dcgan_discriminator, dcgan_generator, nchw

pytestmark = pytest.mark.reference

ROLES = ("generator", "discriminator")
SHAPE = (16, 16, 3)
LATENT_DIM = 6
BATCH_SIZE = 4
TINY = {
    "generator": "dcgan(width=2)",
    "discriminator": "dcgan(width=2)",
    "batch_size": BATCH_SIZE,
    "latent_dim": LATENT_DIM,
}


@pytest.fixture
def torch():
    return pytest.importorskip("torch", reason="torch is not installed: see CONTRIBUTING.md")


@pytest.fixture
def training(torch):
    return importlib.import_module("tests.benchmarks.pytorch.training")


@pytest.mark.parametrize(
    "spec",
    [
        "optimistic_adam(0.1)",
        "optimistic_adam(0.1, strength=0.03, b1=0.5, b2=0.9, eps=0.01)",
        "adam(0.1, b1=0.5)",
        "sgd(0.1)",
        "sgd(0.1, momentum=0.9, nesterov=True)",
    ],
)
def test_optimizers(torch, training, spec):
    rng = np.random.default_rng(0)
    start = [rng.normal(size=(3, 2)).astype(np.float32), rng.normal(size=5).astype(np.float32)]
    theirs = [torch.nn.Parameter(torch.tensor(x)) for x in start]
    optimizer = training.OPTIMIZERS.build(spec, params=theirs)
    params, ours = [jnp.array(x) for x in start], OPTIMIZERS.build(spec)
    state = ours.init(params)
    for _ in range(5):
        gradients = [rng.normal(size=x.shape).astype(np.float32) for x in start]
        updates, state = ours.update([jnp.array(x) for x in gradients], state, params)
        params = optax.apply_updates(params, updates)
        for param, gradient in zip(theirs, gradients, strict=True):
            param.grad = torch.tensor(gradient)
        optimizer.step()
        for one, other in zip(params, theirs, strict=True):
            np.testing.assert_allclose(one, other.detach(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("spec", ["linear_schedule(0.2, 0.1, 10)", "cosine_schedule(0.05, 0.2, 7)"])
def test_learning_rates_go_by_the_same_schedules(torch, training, spec):
    ours = SCHEDULES.build(spec)
    theirs = training.Training(
        TrainConfig(**TINY, generator_optimizer=f"adam({spec})", data_augmentation=("flip",)), SHAPE
    )
    for step in range(12):
        theirs.step()
        (group,) = theirs.generator_optimizer.param_groups
        np.testing.assert_allclose(group["lr"], ours(step), rtol=1e-6)


@pytest.mark.parametrize(
    ("dynamics", "loss", "regularizers"),
    [
        ("alternating", "hinge", ("r1(10.0)",)),
        ("alternating(3)", "non_saturating", ("r1(10.0, every=2)",)),
        ("alternating", "relativistic", ("r1", "r2")),
        ("simultaneous", "non_saturating", ("r1(10.0)", "r2")),
        ("simultaneous", "hinge", ()),
        ("simultaneous", "relativistic", ()),
        ("simultaneous", "wasserstein", ("gradient_penalty",)),
        ("simultaneous", "minimax", ()),
        ("simultaneous", "least_squares", ()),
        ("alternating(2)", "hinge", ()),
        ("alternating(reuse_fakes=True)", "hinge", ("r1(10.0)",)),
        ("alternating(reuse_fakes=True)", "non_saturating", ()),
        ("alternating(2, reuse_fakes=True)", "relativistic", ("r1", "r2")),
    ],
)
def test_one_step(torch, training, monkeypatch, dynamics, loss, regularizers):
    of_generator = 6 if dynamics == "alternating(2)" else None  # its own batch size
    ours = DYNAMICS.build(dynamics)
    game = AdversarialGame(
        GENERATORS.build(TINY["generator"], shape=SHAPE, num_classes=1),
        DISCRIMINATORS.build(TINY["discriminator"], shape=SHAPE, num_classes=1),
        LOSSES.build(loss),
        LATENT_DIM,
        SHAPE,
        {spec: REGULARIZERS.build(spec) for spec in regularizers},
        generator_batch_size=of_generator,
    )
    rate = 0.01
    optimizers = Pair(optax.sgd(rate), optax.sgd(rate))
    params = game.init(jax.random.key(0))
    # Larger weights than DCGAN's first ones, as gradients are tiny there.
    start = Pair(*(jax.tree.map(lambda x: 5 * x, params.of(role)[0]) for role in ROLES))
    players = Pair(
        *(
            PlayerState(start.of(r), params.of(r)[1], optimizers.of(r).init(start.of(r)))
            for r in ROLES
        )
    )
    images = jax.random.normal(jax.random.key(1), [ours.num_batches, BATCH_SIZE, *SHAPE])
    labels = jnp.zeros(BATCH_SIZE, jnp.int32)
    batches = [Batch(x, labels, jnp.array(i)) for i, x in enumerate(images)]
    key = jax.random.key(2)
    moved = jax.jit(lambda p, b, k: ours.step(game, optimizers, p, ours.init(p), b, k).players)(
        players, batches, key
    )

    keys = jax.random.split(key, ours.num_batches + 1) if "alternating" in dynamics else [key]
    keys = keys[:-1] if ours.reuses_fakes else keys  # the generator draws none
    sizes = [*(BATCH_SIZE for _ in keys[1:]), of_generator or BATCH_SIZE]
    drawn = (
        torch.tensor(np.asarray(jax.random.normal(jax.random.split(k)[0], [size, LATENT_DIM])))
        for k, size in zip(keys, sizes, strict=True)
    )

    def latents(size):
        values = next(drawn)
        assert len(values) == size
        return values

    reals = (torch.tensor(nchw(x)) for x in images)
    batch = Batch(jnp.zeros([BATCH_SIZE, *SHAPE]), jnp.zeros(BATCH_SIZE, jnp.int32), jnp.array(0))
    penalty_keys = draw(batch, LATENT_DIM, key).keys["penalty"]
    ratio = np.asarray(jax.vmap(jax.random.uniform)(penalty_keys)).reshape(-1, 1, 1, 1)
    monkeypatch.setattr(torch, "rand", lambda *_, **__: torch.tensor(ratio))
    theirs = training.Training(
        TrainConfig(
            **TINY,
            loss=loss,
            dynamics=dynamics,
            regularizers=regularizers,
            generator_optimizer=f"sgd({rate})",
            discriminator_optimizer=f"sgd({rate})",
            averaging=("ema(decay=0.75)",),
            generator_batch_size=of_generator,
        ),
        SHAPE,
    )
    theirs.batch = lambda: next(reals)
    theirs.latents = latents
    put(torch, start, theirs)
    theirs.averages[0] = [x.clone() for x in theirs.averaged]
    before, _ = values(theirs)
    theirs.step()
    after, averages = values(theirs)
    put(torch, Pair(moved.generator.params, moved.discriminator.params), theirs)
    expected, _ = values(theirs)
    for role in ROLES:
        scale = max((x - y).abs().max() for x, y in zip(expected[role], before[role], strict=True))
        assert scale > 1e-5
        for old, new, wanted in zip(before[role], after[role], expected[role], strict=True):
            np.testing.assert_allclose(new - old, wanted - old, rtol=1e-3, atol=1e-4 * scale)
    for old, new, average in zip(before["generator"], after["generator"], averages, strict=False):
        np.testing.assert_allclose(average, 0.75 * old + 0.25 * new, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("variant", ["eager", "channels_last"])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_in_bfloat16_the_layers_compute_and_all_else_stays(torch, training, precision, variant):
    """As in ours: parameters, averages, images, logits and losses are in float32, penalties included."""
    config = TrainConfig(**TINY, precision=precision, regularizers=("r1",), averaging=("ema",))
    theirs, computed = training.Training(config, SHAPE, variant=variant), set()
    layers = [
        module
        for role in ROLES
        for module in getattr(theirs, role).modules()
        if isinstance(module, torch.nn.Conv2d | torch.nn.ConvTranspose2d)
    ]
    for layer in layers:
        layer.register_forward_hook(lambda _, __, output: computed.add(output.dtype))
    start = values(theirs)[0]
    theirs.step()
    assert computed == {getattr(torch, precision)}
    for role in ROLES:
        for after in getattr(theirs, role).parameters():
            assert after.dtype == torch.float32
            assert torch.isfinite(after).all()
        assert any(
            (x != y).any() for x, y in zip(start[role], values(theirs)[0][role], strict=True)
        )
    images = theirs.generate()
    assert {images.dtype, theirs.judge(images).dtype, theirs.averages[0][0].dtype} == {
        torch.float32
    }


def put(torch, params, theirs):
    dcgan_generator(torch, {"params": params.generator}, theirs.generator)
    dcgan_discriminator(torch, {"params": params.discriminator}, theirs.discriminator)


def values(theirs):
    """Copies of both players' parameters, and of the average."""
    players = {
        role: [x.detach().clone() for x in getattr(theirs, role).parameters()] for role in ROLES
    }
    return players, [x.clone() for x in theirs.averages[0]]


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("generator", "dcgan(conditional=True)", "dcgan: unknown argument 'conditional'"),
        ("discriminator", "inception", "unknown PyTorch discriminator 'inception'"),
        ("dynamics", "consensus", "unknown PyTorch dynamics 'consensus'"),
        ("loss", "hing", "did you mean 'hinge'"),
        ("generator_optimizer", "adam('fast')", "learning_rate must be float"),
        ("generator_optimizer", "adam(0.1) | scale(-1.0)", "without '|'"),
        ("averaging", ("uniform",), "unknown PyTorch averaging 'uniform'"),
        ("data_augmentation", ("flip(0.3)",), "data_augmentation is not known"),
        ("generator_batch_size", 8, "with alternating dynamics alone"),
        ("generator_optimizer", "sgd(linear_schedule(0.1, 0.0, 3))", "learning_rate must be float"),
        ("discriminator_augmentation", "ada", "discriminator_augmentation is not known"),
        ("microbatches", 2, "microbatches is not known"),
    ],
)
def test_what_is_not_known(training, key, value, message):
    with pytest.raises(ValueError, match=r"^[^\n]*$") as error:
        training.Training(TrainConfig(**TINY | {key: value}), SHAPE)
    assert message in str(error.value)


def work(*lines):
    """The worker's answers to these lines, and its exit code."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks.pytorch"],
        input="".join(json.dumps(line) + "\n" for line in lines),
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
        cwd=pathlib.Path(__file__).parents[1],
    )
    return [json.loads(line) for line in done.stdout.splitlines()], done.returncode


def test_worker(torch):
    config = TINY | {"shape": SHAPE, "regularizers": ["r1(every=2)"]}
    requests = [{"variant": name, "steps": 2} for name in ("eager", "channels_last")]
    (handshake, *seconds, wrong, memory), code = work(
        config, *requests, {"variant": "eage", "steps": 1}, {"memory": True}
    )
    assert code == 0
    assert handshake["variants"][:2] == ["eager", "channels_last"]
    assert "compile" in handshake["variants"] or handshake["left_out"]["compile"]
    assert handshake["threads"] >= 1
    assert handshake["version"] == torch.__version__
    assert all(0 < answer["seconds"] < 60 for answer in seconds)
    assert "'eage'" in wrong["error"]
    assert memory["peak_memory_bytes"] > 2**20


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"generator": "diffusion"}, "unknown PyTorch generator 'diffusion'"),
        ({"precision": "int8"}, "precision"),
        ({"batchsize": 3}, "unknown key 'batchsize'; did you mean 'batch_size'?"),
    ],
)
def test_worker_refuses(torch, change, message):
    (answer,), code = work(TINY | {"shape": SHAPE} | change)
    assert code == 2
    assert message in answer["error"]
