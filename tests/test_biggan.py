"""BigGAN against its published sizes, against SVDs, and against the same networks in PyTorch."""

import importlib
import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gan.errors import UsageError
from gan.models import DISCRIMINATORS, GENERATORS
from tests.test_pytorch_networks import channels_first, nchw

SHAPE = (16, 16, 3)
LATENTS = jax.random.normal(jax.random.key(2), [3, 6])
IMAGES = jax.random.normal(jax.random.key(3), [3, *SHAPE])
LABELS = jnp.array([1, 0, 3], jnp.int32)


def compiled(function, *args):
    """Compiles without most optimisations, which take far longer here than the program runs."""
    options = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
    return jax.jit(function).lower(*args).compile(compiler_options=options)(*args)


def shapes(registry, spec, size, latent_dim, num_classes=1000):
    module = registry.build(spec, shape=(size, size, 3), num_classes=num_classes)
    x = jnp.zeros([2, latent_dim] if registry is GENERATORS else [2, size, size, 3])
    labels = jnp.zeros(2, jnp.int32)
    tree = jax.eval_shape(lambda: module.init(jax.random.key(0), x, labels, train=True))
    return jax.tree.map(jnp.shape, tree["params"])


def count(*args):
    sizes = jax.tree.leaves(shapes(*args), is_leaf=lambda x: isinstance(x, tuple))
    return sum(math.prod(size) for size in sizes)


@pytest.mark.parametrize(
    ("registry", "size", "latent_dim", "attention", "published"),
    [
        (GENERATORS, 128, 120, 64, 70_433_988),
        (GENERATORS, 256, 140, 128, 82_097_604),
        (GENERATORS, 512, 160, 64, 82_468_068),
        (DISCRIMINATORS, 128, 0, 64, 87_982_370),
        # They have no shortcut where a block halves without more channels; the author's code has one.
        (DISCRIMINATORS, 256, 0, 64, 98_635_298 + 768 * 769),
        (DISCRIMINATORS, 512, 0, 64, 98_801_378 + 768 * 769 + 96 * 97),
    ],
)
def test_it_has_as_many_parameters_as_published(registry, size, latent_dim, attention, published):
    """github.com/google/compare_gan, architectures/resnet_biggan.py, at its head."""
    spec = f"biggan(96, attention={attention}, conditional=True)"
    assert count(registry, spec, size, latent_dim) == published


def test_the_form_for_cifar_has_as_many_parameters_as_was_reported():
    """About 4.3 million: github.com/ajbrock/BigGAN-PyTorch, issue 78."""
    spec = "biggan(conditional=True, embedding=0, hierarchical=False)"
    assert round(count(GENERATORS, spec, 32, 128, 10) / 1e6, 1) == 4.3


@pytest.mark.parametrize(
    ("registry", "size", "expected"),
    [  # G_arch and D_arch of github.com/ajbrock/BigGAN-PyTorch, BigGAN.py
        (GENERATORS, 32, [(4, 4), (4, 4), (4, 4)]),
        (GENERATORS, 64, [(16, 16), (16, 8), (8, 4), (4, 2)]),
        (DISCRIMINATORS, 32, [(0, 4), (4, 4), (4, 4), (4, 4)]),
        (DISCRIMINATORS, 64, [(0, 1), (1, 2), (2, 4), (4, 8), (8, 16)]),
    ],
)
def test_channels_of_the_blocks(registry, size, expected):
    params = shapes(
        registry,
        "biggan(7, hierarchical=False)" if registry is GENERATORS else "biggan(7)",
        size,
        8,
    )
    kernels = [params[f"Conv_{i}"]["kernel"] for i in range(len(params)) if f"Conv_{i}" in params]
    colours = {3: 0}
    wide = [(colours.get(k[2], k[2] // 7), k[3] // 7) for k in kernels if k[0] == 3 and k[3] != 3]
    assert [(one[0], two[1]) for one, two in zip(wide[::2], wide[1::2], strict=True)] == expected
    assert all(one[1] == two[0] == two[1] for one, two in zip(wide[::2], wide[1::2], strict=True))


@pytest.mark.parametrize("size", [8, 28, 48, 256])
def test_sizes_are_made_and_judged(size):
    shape = (size, size, 3)

    def result(registry, spec, x):
        module = registry.build(spec, shape=shape, num_classes=9)
        return jax.eval_shape(
            lambda: module.init_with_output(jax.random.key(0), x, LABELS, train=False)[0]
        )

    spec = "biggan(1, conditional=True)"
    parts = {8: 2, 28: 3, 48: 4, 256: 7}[size]
    images = result(GENERATORS, spec, jnp.zeros([3, 2 * parts]))
    assert images.shape == (3, *shape)
    assert result(DISCRIMINATORS, spec, jnp.zeros(images.shape)).shape == (3,)


@pytest.mark.parametrize(
    ("spec", "size", "words"),
    [
        ("biggan(0)", 32, "width must be at least 1"),
        ("biggan(attention=64)", 32, "attention must be 0 (none), or here 8, 16, 32, given 64"),
        ("biggan(attention=7)", 28, "attention must be 0 (none), or here 14, 28, given 7"),
        ("biggan(initializer='zeros')", 32, "'orthogonal' or 'normal'"),
        ("biggan", 1024, "has no widths for 1024 pixels"),
        ("biggan(embedding=0, conditional=True)", 32, "needs hierarchical=False"),
    ],
)
def test_what_it_cannot_be(spec, size, words):
    with pytest.raises(UsageError, match=re.escape(words)):
        GENERATORS.build(spec, shape=(size, size, 3), num_classes=10)


def test_latents_that_do_not_split_are_refused():
    with pytest.raises(
        UsageError, match=r"into 3 equal parts.*latent_dim = 128 .*; 126 or 129 would"
    ):
        shapes(GENERATORS, "biggan(1)", 16, 128)
    with pytest.raises(UsageError, match="latent_dim = 2 does not divide; 3 would"):
        shapes(GENERATORS, "biggan(1)", 16, 2)
    assert shapes(GENERATORS, "biggan(1, hierarchical=False)", 16, 128)


@pytest.mark.parametrize("initializer", ["orthogonal", "normal"])
def test_first_values(initializer):
    """They are the initialiser's own, and not divided by their spectral norms."""
    spec = f"biggan(8, initializer={initializer!r}, conditional=True, attention=4)"
    module = DISCRIMINATORS.build(spec, shape=(8, 8, 3), num_classes=10)
    images = IMAGES[:, :8, :8]
    variables = compiled(lambda: module.init(jax.random.key(0), images, LABELS, train=True))
    params = variables["params"]
    for layer in (params["Conv_3"], params["SelfAttention_0"]["Conv_3"], params["Dense_0"]):
        kernel = np.asarray(layer["kernel"]).reshape(-1, layer["kernel"].shape[-1])
        if initializer == "orthogonal":
            small = kernel.T @ kernel if kernel.shape[0] > kernel.shape[1] else kernel @ kernel.T
            np.testing.assert_allclose(small, np.eye(len(small)), atol=1e-5)
        else:
            error = 5 * 0.02 / math.sqrt(kernel.size)
            np.testing.assert_allclose([kernel.mean(), kernel.std()], [0, 0.02], atol=error)
    assert params["SelfAttention_0"]["gamma"] == 0


@pytest.mark.parametrize("registry", [GENERATORS, DISCRIMINATORS])
def test_labels_count_if_it_is_conditional(registry):
    module = registry.build("biggan(1, conditional=True)", shape=(8, 8, 3), num_classes=5)
    x = LATENTS if registry is GENERATORS else IMAGES[:, :8, :8]

    def both():
        variables = module.init(jax.random.key(0), x, LABELS, train=True)
        return [module.apply(variables, x, y, train=False) for y in (LABELS, LABELS.at[0].set(2))]

    one, other = compiled(both)
    assert jnp.any(one[0] != other[0])
    np.testing.assert_array_equal(one[1:], other[1:])


# Against PyTorch


@pytest.fixture
def torch():
    return pytest.importorskip("torch", reason="torch is not installed: see CONTRIBUTING.md")


def moved(params):
    """What starts at zero would hide mistakes."""
    leaves, tree = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(1), len(leaves))
    pairs = zip(leaves, keys, strict=True)
    return tree.unflatten([x + 0.3 * jax.random.normal(key, x.shape) for x, key in pairs])


def pair(registry, inputs, *, conditional, **arguments):
    """A network of ours, its variables, and that of tests/benchmarks/pytorch."""
    words = [
        f"{key}={value!r}" for key, value in (arguments | {"conditional": conditional}).items()
    ]
    module = registry.build(f"biggan({', '.join(words)})", shape=SHAPE, num_classes=5)
    variables = compiled(lambda: module.init(jax.random.key(0), inputs, LABELS, train=True))
    variables |= {"params": moved(variables["params"])}
    twins = importlib.import_module("tests.benchmarks.pytorch.biggan")
    kind = twins.Generator if registry is GENERATORS else twins.Discriminator
    other = kind(SHAPE, inputs.shape[-1], **arguments, num_classes=5 if conditional else 0)
    return module, variables, other


def layers_of(other):
    """The layers of PyTorch's network by the names of ours."""
    generator = hasattr(other, "unflatten")
    convs, norms, denses, embeds = [], [], [other.dense], []
    for block in other.blocks:
        if hasattr(block, "theta"):
            continue
        convs += [block.conv1, block.conv2]
        convs += [block.shortcut] if hasattr(block.shortcut, "weight") else []
        for norm in (block.norm1, block.norm2) if generator else ():
            norms.append(norm.norm)
            if hasattr(norm, "scale"):
                tables = not hasattr(norm.scale, "in_features")
                (embeds if tables else denses).extend([norm.scale, norm.bias])
    if generator:
        convs, norms = [*convs, other.conv], [*norms, other.norm]
    shared = other.shared if generator else other.embed
    embeds += [shared] if shared is not None else []
    groups = {"Conv": convs, "BatchNorm": norms, "Dense": denses, "Embed": embeds}
    named = {(f"{kind}_{i}",): x for kind, own in groups.items() for i, x in enumerate(own)}
    attention = [x for x in other.modules() if hasattr(x, "theta")]
    for layer in attention:
        parts = (layer.theta, layer.phi, layer.g, layer.o)
        named |= {("SelfAttention_0", f"Conv_{i}"): x for i, x in enumerate(parts)}
        named |= {("SelfAttention_0", "gamma"): layer}
    return named


def tensors(torch, other):
    """PyTorch's parameters by the paths of ours."""
    found = {}
    for path, layer in layers_of(other).items():
        if path[-1] == "gamma":
            found[path] = layer.gamma
            continue
        normalised = torch.nn.utils.parametrize.is_parametrized(layer)
        weight = layer.parametrizations.weight.original if normalised else layer.weight
        kind = path[-1].partition("_")[0]
        if weight is not None:
            found[*path, {"Embed": "embedding", "BatchNorm": "scale"}.get(kind, "kernel")] = weight
        if getattr(layer, "bias", None) is not None:
            found[*path, "bias"] = layer.bias
    return found


def as_theirs(path, value, *, generator):
    """Our parameter, or a gradient, with the axes of PyTorch's."""
    if generator and path[-2:-1] == ("Dense_0",):
        value = channels_first(value, 4, value.ndim - 1)
    order = {4: (3, 2, 0, 1), 2: (0, 1) if path[-1] == "embedding" else (1, 0)}.get(value.ndim)
    return np.asarray(value if order is None else value.transpose(order))


def flat(tree):
    return {tuple(key.key for key in path): leaf for path, leaf in jax.tree.leaves_with_path(tree)}


def copy(torch, variables, other, *, generator):
    """Our parameters, and the vectors of the power iterations, into PyTorch's network."""
    theirs, ours = tensors(torch, other), flat(variables["params"])
    assert set(theirs) == set(ours)
    for path, value in ours.items():
        value = as_theirs(path, value, generator=generator)
        tables = generator and path[-1] == "embedding" and other.shared is None
        theirs[path].data.copy_(torch.tensor(value - (tables and int(path[-2][6:]) % 2 == 0)))
    layers, vectors = layers_of(other), 0
    for path, u in flat(variables["batch_stats"]).items():
        if path[-1].endswith("/u"):
            name = path[-1].split("/")[0]
            u = channels_first(u, 4, 1) if generator and name == "Dense_0" else u
            layer = layers[*(x for x in path[:-1] if x.startswith("Self")), name]
            layer.parametrizations.weight[0].u.copy_(torch.tensor(np.asarray(u[0])))
            vectors += 1
    assert vectors == sum(torch.nn.utils.parametrize.is_parametrized(x) for x in layers.values())


def close(one, other, name=None):
    one, other = np.asarray(one), np.asarray(other)
    assert np.abs(one).max() > 1e-4, name
    np.testing.assert_allclose(one, other, rtol=2e-3, atol=2e-4 * np.abs(one).max(), err_msg=name)


GENERATOR_FORMS = {
    "shared": {"conditional": True, "attention": 8, "embedding": 4},
    "self-modulated": {"conditional": False},
    "classes": {"conditional": True, "embedding": 0, "hierarchical": False},
}


@pytest.mark.reference
@pytest.mark.parametrize("form", GENERATOR_FORMS)
def test_the_generator_and_its_gradients_are_those_of_pytorch(torch, form):
    module, variables, other = pair(GENERATORS, LATENTS, width=2, **GENERATOR_FORMS[form])
    copy(torch, variables, other, generator=True)
    rest = {"batch_stats": variables["batch_stats"]}

    def loss(params, z):
        y, _ = module.apply({"params": params} | rest, z, LABELS, train=True, mutable=list(rest))
        return jnp.sum(y**2), y

    (gradients, slope), y = compiled(
        jax.grad(loss, (0, 1), has_aux=True), variables["params"], LATENTS
    )
    z = torch.tensor(np.asarray(LATENTS), requires_grad=True)
    labels = torch.tensor(np.asarray(LABELS)) if GENERATOR_FORMS[form]["conditional"] else None
    images = other.train()(z, labels)
    (images**2).sum().backward()
    close(nchw(y), images.detach())
    close(slope, z.grad)
    theirs = tensors(torch, other)
    scale = max(float(jnp.abs(x).max()) for x in jax.tree.leaves(gradients))
    for path, value in flat(gradients).items():
        value, their = as_theirs(path, value, generator=True), theirs[path].grad
        np.testing.assert_allclose(value, their, rtol=2e-3, atol=1e-4 * scale, err_msg=str(path))


@pytest.mark.reference
@pytest.mark.parametrize("conditional", [True, False])
def test_the_discriminator_and_r1_are_those_of_pytorch(torch, conditional):
    """Logits, the loss of real and fake, and gradients of that and of R1: second derivatives."""
    module, variables, other = pair(
        DISCRIMINATORS, IMAGES, width=4, conditional=conditional, attention=8
    )
    copy(torch, variables, other, generator=False)
    rest = {"batch_stats": variables["batch_stats"]}

    def loss(params):
        def logits(x):
            y, _ = module.apply(
                {"params": params} | rest, x, LABELS, train=True, mutable=list(rest)
            )
            return jnp.sum(y), y

        slopes, y = jax.grad(logits, has_aux=True)(IMAGES)
        both = jax.nn.softplus(-y) + jax.nn.softplus(y)
        return jnp.sum(both) + jnp.sum(slopes**2), (y, slopes)

    gradients, (y, slopes) = compiled(jax.grad(loss, has_aux=True), variables["params"])
    x = torch.tensor(nchw(IMAGES), requires_grad=True)
    labels = torch.tensor(np.asarray(LABELS)) if conditional else None
    logits = other.train()(x, labels)
    (their_slopes,) = torch.autograd.grad(logits.sum(), x, create_graph=True)
    both = torch.nn.functional.softplus(-logits) + torch.nn.functional.softplus(logits)
    (both.sum() + (their_slopes**2).sum()).backward()
    close(y, logits.detach())
    close(nchw(slopes), their_slopes.detach())
    theirs = tensors(torch, other)
    for path, value in flat(gradients).items():
        close(as_theirs(path, value, generator=False), theirs[path].grad, str(path))
