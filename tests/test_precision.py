"""Mixed precision: what is in bfloat16, what stays in float32, and how far apart the two are.

The numbers: bfloat16 has 8 significant bits, so that one rounding changes a number by at most
u = 2^-8 = 0.4% of itself. A layer rounds its inputs, its kernel and its output, once forward and once
backward. Independent errors of n roundings add up to sqrt(n) of one; the deepest network here has
about 20 layers one after the other, 120 roundings, hence 11 u = 4.3%; with a factor of 2 for what
normalisations amplify, 8.6%. In a gradient there are kinks as well: about one in 1 / u units is so
near to 0 that its sign changes, and with it its slope, so that the gradient moves by sqrt(u) = 6% of
its norm, or somewhat more where real and fake cancel. The bound is 8.6% + 6%, and half the square of
that for 1 - cosine.
"""

import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

import gan
from gan import precision
from gan.config import SETTINGS, OnResume, TrainConfig, from_mapping
from gan.data import Batch
from gan.dynamics import DYNAMICS
from gan.errors import UsageError
from gan.games import AdversarialGame
from gan.losses import LOSSES
from gan.models import DISCRIMINATORS, GENERATORS, onednn
from gan.models.network import Generator
from gan.players import ROLES, PlayerState, pairwise
from gan.registry import OURS
from gan.regularizers import REGULARIZERS
from gan.trainers.experiment import build

SHAPE, LATENTS = (8, 8, 1), jnp.zeros([3, 6])
LABELS = jnp.array([1, 2, 3], jnp.int32)
SIZES = {
    "r3gan": "width=8, cardinality=2",
    "biggan": "width=2",
    "stylegan2": "channel_base=64, channel_max=8, mapping_layers=2",
}
# Products that are in float32 on purpose, by the scopes that they are in.
FULL = ("_spectral_normalize", "mapping", "affine", "demodulation", "last")
BOUND = 2 * math.sqrt(120) * 2**-8  # 0.086, of values
GRADIENT_BOUND = BOUND + math.sqrt(2**-8)  # 0.148


def specs(registry):
    """Every network of ours, conditional and not, and each of its normalisations."""
    for name in registry:
        if registry.origin(name) != OURS:
            continue
        for conditional in (False, True):
            options = f"{SIZES.get(name, 'width=8')}, conditional={conditional}"
            parameters = registry.parameters(name)
            norms = ["spectral", "batch", "none"] if name == "dcgan" else ["spectral", "none"]
            for norm in norms if "norm" in parameters else [None]:
                yield f"{name}({options}" + (f", norm={norm!r})" if norm else ")")


EVERY = [(registry, spec) for registry in (GENERATORS, DISCRIMINATORS) for spec in specs(registry)]

CONDITIONAL = [pair for pair in EVERY if "conditional=True" in pair[1]]


def make(registry, spec, dtype):
    """Returns a network, its input, and its variables as shapes."""
    module = registry.build(spec, shape=SHAPE, num_classes=10, dtype=dtype)
    x = LATENTS if registry is GENERATORS else jnp.zeros([3, *SHAPE])

    def init():
        return module.init(jax.random.key(0), x, LABELS, train=True)

    return module, x, init


def gradients_of(module):
    """Returns a function of variables and inputs: the gradients of both, and the output and variables."""

    def both(variables, x):
        rest = {name: value for name, value in variables.items() if name != "params"}

        def loss(params, x):
            y, new = module.apply(
                {"params": params, **rest}, x, LABELS, train=True, mutable=list(rest)
            )
            return jnp.sum(jnp.sin(y)), (y, new)

        return jax.grad(loss, (0, 1), has_aux=True)(variables["params"], x)

    return both


def traced(registry, spec, dtype):
    """Traces a pass forward and backward; computes nothing."""
    module, x, init = make(registry, spec, dtype)
    return jax.jit(gradients_of(module)).trace(jax.eval_shape(init), x)


def lowered(program):
    return program.lower(lowering_platforms=("cuda",)).as_text()


@pytest.mark.parametrize(("registry", "spec"), EVERY)
def test_every_network_computes_in_bfloat16_and_keeps_its_sums_in_float32(registry, spec):
    """All products, forward and backward, except a discriminator's last layer and those of `FULL`."""
    program = traced(registry, spec, jnp.bfloat16)
    products = [
        equation
        for equation in precision.equations(program.jaxpr.jaxpr)
        if equation.primitive.name in precision.PRODUCTS
        and not any(scope in str(equation.source_info.name_stack) for scope in FULL)
    ]
    full = [e for e in products if any(x.aval.dtype != jnp.bfloat16 for x in e.invars)]
    # Of the last layer there are three: the logits, and the gradients of its kernel and its input. StyleGAN2's
    # last convolution has no scope: of it each of the three is there, on a CPU and on other devices.
    convolutions = 6 if spec.startswith("stylegan2") else 3
    assert len(full) == (0 if registry is GENERATORS else convolutions)
    assert all(x.aval.dtype == jnp.float32 for e in full for x in e.invars)
    assert len(products) > len(full)
    # Sums over more than a few pixels are in float32 too, those of biases' gradients among them.
    for equation in precision.equations(program.jaxpr.jaxpr):
        if equation.primitive.name == "reduce_sum":
            operand, result = equation.invars[0].aval, equation.outvars[0].aval
            assert operand.dtype == jnp.float32 or operand.size <= 4 * result.size, equation
    for leaf in jax.tree.leaves(program.out_info):  # gradients, logits or images, statistics
        assert leaf.dtype == jnp.float32
    text = lowered(program)
    assert "f64" not in text
    assert "bf16" in text


@pytest.mark.parametrize(("registry", "spec"), CONDITIONAL)
def test_float32_is_the_default_bit_for_bit(registry, spec):
    texts = [lowered(traced(registry, spec, dtype)) for dtype in (None, jnp.float32)]
    assert texts[0] == texts[1]
    assert "bf16" not in texts[0]


def compiled(function, *args):
    """Compiles without most optimisations, which take far longer here than the program runs."""
    options = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
    return jax.jit(function).lower(*args).compile(compiler_options=options)(*args)


def check_rounded(name, exact, rounded):
    """Checks that a gradient is another one to the roundings of bfloat16, and not in float32."""
    exact, rounded = (
        np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)]).astype(np.float64)
        for tree in (exact, rounded)
    )
    error = np.linalg.norm(rounded - exact) / np.linalg.norm(exact)
    cosine = rounded @ exact / np.linalg.norm(rounded) / np.linalg.norm(exact)
    assert 1e-5 < error < GRADIENT_BOUND, name
    assert 1 - cosine < GRADIENT_BOUND**2 / 2, name


@pytest.mark.parametrize(
    ("registry", "spec"),
    [
        pytest.param(*pair, marks=pytest.mark.slow if pair[1][0] in "rb" else ())
        for pair in CONDITIONAL
    ],
)
def test_gradients_of_every_network_are_those_of_float32_to_the_roundings(registry, spec):
    results = []
    rng = np.random.default_rng(0)
    x = jnp.asarray(
        rng.uniform(-1, 1, [3, 6] if registry is GENERATORS else [3, *SHAPE]), jnp.float32
    )
    for dtype in (None, jnp.bfloat16):
        module, _, init = make(registry, spec, dtype)
        variables = compiled(init)
        results.append((variables, *compiled(gradients_of(module), variables, x)))
    (variables, full, (y, statistics)), (others, half, (z, other_statistics)) = results
    for a, b in zip(jax.tree.leaves(variables), jax.tree.leaves(others), strict=True):
        assert a.dtype == b.dtype == jnp.float32
        np.testing.assert_array_equal(a, b)
    for name, exact, rounded in zip(("parameters", "input"), full, half, strict=True):
        check_rounded(name, exact, rounded)
    np.testing.assert_allclose(y, z, atol=BOUND * np.abs(y).max())
    for a, b in zip(*map(jax.tree.leaves, (statistics, other_statistics)), strict=True):
        np.testing.assert_allclose(a, b, atol=BOUND * np.abs(a).max())


@pytest.mark.parametrize("name", ["mlp", "dcgan"])
def test_both_players_gradients_are_those_of_float32_to_the_roundings(name):
    """In a whole step, with R1's second derivatives."""
    rng = np.random.default_rng(0)
    examples = jnp.asarray(rng.uniform(-1, 1, [8, *SHAPE]), jnp.float32)
    batch = Batch(
        examples=examples, labels=jnp.arange(8, dtype=jnp.int32), update=jnp.zeros([], jnp.int32)
    )
    fields, players = [], None
    for dtype in (None, jnp.bfloat16):
        kind = {"shape": SHAPE, "num_classes": 10, "dtype": dtype}
        spec = f"{name}(width=8, conditional=True)"
        networks = GENERATORS.build(spec, **kind), DISCRIMINATORS.build(spec, **kind)
        penalties = {"r1": REGULARIZERS.build("r1(weight=1.0)")}
        game = AdversarialGame(*networks, LOSSES.build("non_saturating"), 6, SHAPE, penalties)
        if players is None:
            players = pairwise(
                lambda own: PlayerState(*own, ()), compiled(game.init, jax.random.key(0))
            )
        fields.append(compiled(game.vector_field, players, batch, jax.random.key(1)))
    full, half = fields
    for role in ROLES:
        check_rounded(role, full.of(role).value, half.of(role).value)
        np.testing.assert_allclose(full.of(role).loss, half.of(role).loss, rtol=BOUND)
        for metric in jax.tree.leaves(half.of(role).metrics):
            assert metric.dtype == jnp.float32


TINY = {
    "dataset": "gaussians", "generator": "mlp(8, 1)", "discriminator": "mlp(8, 1)", "batch_size": 8,
    "latent_dim": 4, "precision": "bfloat16", "mesh": "data(1)",
}  # fmt: skip


def types_of(tree):
    return jax.tree.map(lambda leaf: leaf.dtype, tree)


@pytest.mark.parametrize("dynamics", [name for name in DYNAMICS if DYNAMICS.origin(name) == OURS])
def test_a_step_of_every_dynamics_keeps_its_state_in_float32(dynamics):
    experiment = build(from_mapping(TINY | {"dynamics": dynamics}))
    points = jax.random.normal(jax.random.key(1), [8, 2])
    batch = Batch(examples=points, labels=jnp.zeros(8, jnp.int32), update=jnp.zeros([], jnp.int32))

    def step(state):
        return experiment.dynamics.step(
            experiment.game, experiment.optimizers, state.players, state.dynamics_state,
            [batch] * experiment.dynamics.num_batches, jax.random.key(2),
        )  # fmt: skip

    state = experiment.init()
    assert jnp.bfloat16 in precision.product_types(step, state)
    output = compiled(step, state)
    before = state.players, state.dynamics_state
    after = output.players, output.dynamics_state
    assert types_of(before) == types_of(after)
    assert jnp.bfloat16 not in jax.tree.leaves(types_of((state, output.metrics)))
    assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves((after, output.metrics)))


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("float16", "must be 'float32' or 'bfloat16', given 'float16'; did you mean 'bfloat16'?"),
        ("bf16", "given 'bf16'; did you mean 'bfloat16'?"),
        ("double", "must be 'float32' or 'bfloat16', given 'double'"),
        (16, "must be 'float32' or 'bfloat16', given 16"),
    ],
)
def test_other_precisions_are_refused(value, words):
    with pytest.raises(UsageError, match=re.escape(words)):
        from_mapping({"precision": value})


class Deaf(Generator):
    """Ignores its `dtype`."""

    @nn.compact
    def __call__(self, latents, labels, *, train):
        return nn.Dense(2)(latents)


def test_a_network_that_ignores_the_precision_is_named(monkeypatch):
    monkeypatch.setitem(GENERATORS._makers, "deaf", Deaf)
    line, *_ = build(from_mapping(TINY | {"generator": "deaf"})).find_warnings()
    assert line.startswith("generator = 'deaf' computes in float32, whatever precision =")
    full = TINY | {"generator": "deaf", "precision": "float32"}
    assert build(from_mapping(full)).find_warnings() == []


def test_on_a_cpu_it_is_said_where_a_step_is_no_faster(monkeypatch):
    for why in ("this CPU cannot", None):
        monkeypatch.setattr(onednn, "slow_bfloat16", {1: why}.get)  # of so many devices
        lines = build(from_mapping(TINY)).find_warnings()
        assert lines == ([f"precision = 'bfloat16': {why}"] if why else [])


def test_a_saved_run_remembers_its_precision(tmp_path):
    """It is sampled in it, and goes on in no other; another run may start from its state."""
    assert from_mapping({}).precision == TrainConfig().precision == "float32"  # of older runs
    assert SETTINGS["precision"].on_resume is OnResume.REFUSE
    config = TINY | {"num_steps": 1, "sample_every_steps": 0}
    gan.train(config, tmp_path / "run")
    run = gan.load(tmp_path / "run")
    assert run.experiment.game.generator.dtype == jnp.bfloat16
    assert run.sample(2).dtype == np.float32
    with pytest.raises(UsageError, match="precision was 'bfloat16' and is now 'float32'"):
        gan.train(config | {"precision": "float32", "num_steps": 2}, tmp_path / "run")
    other = gan.train(
        config | {"precision": "float32", "num_steps": 2},
        tmp_path / "other",
        init_from=str(tmp_path / "run"),
    )
    assert (other.step, other.experiment.game.generator.dtype) == (2, None)
