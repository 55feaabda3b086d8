import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gan.errors import UsageError
from gan.models import DISCRIMINATORS, GENERATORS
from gan.models.network import num_downsamplings


def run(registry, spec, shape, inputs, labels, train=True):
    module = registry.build(spec, shape=shape, num_classes=10)
    variables = module.init(jax.random.key(0), inputs, labels, train=True)
    mutable = [name for name in variables if name != "params"]
    return module.apply(variables, inputs, labels, train=train, mutable=mutable)


LABELS = jnp.array([1, 2, 3], jnp.int32)
LATENTS = jax.random.normal(jax.random.key(1), [3, 16])


@pytest.mark.parametrize("conditional", [False, True])
@pytest.mark.parametrize(
    "shape",
    [(8, 8, 1), (12, 12, 1), (16, 16, 3), (20, 20, 3), (28, 28, 1), (36, 36, 3), (64, 64, 3)],
)
def test_dcgan_makes_and_judges_every_size(shape, conditional):
    images, _ = run(GENERATORS, f"dcgan(4, conditional={conditional})", shape, LATENTS, LABELS)
    assert images.shape == (3, *shape)
    assert jnp.abs(images).max() <= 1
    logits, _ = run(DISCRIMINATORS, f"dcgan(4, conditional={conditional})", shape, images, LABELS)
    assert logits.shape == (3,)


@pytest.mark.parametrize("name", ["resnet", "r3gan"])
@pytest.mark.parametrize("size", [8, 12, 16, 20, 28, 36, 40, 44, 48, 56, 60, 64, 72, 96, 128])
def test_residual_networks_make_and_judge_every_size(name, size):
    spec, shape = f"{name}(width=16, conditional=True)", (size, size, 3)
    images = jax.eval_shape(lambda z: run(GENERATORS, spec, shape, z, LABELS)[0], LATENTS)
    assert images.shape == (3, *shape)
    logits = jax.eval_shape(lambda x: run(DISCRIMINATORS, spec, shape, x, LABELS)[0], images)
    assert logits.shape == (3,)


@pytest.mark.parametrize("shape", [(2,), (8, 8, 1)])
def test_mlp_makes_and_judges_points_and_images(shape):
    examples, _ = run(GENERATORS, "mlp(width=8, depth=1)", shape, LATENTS, LABELS)
    assert examples.shape == (3, *shape)
    assert run(DISCRIMINATORS, "mlp(width=8, depth=1)", shape, examples, LABELS)[0].shape == (3,)


@pytest.mark.parametrize(
    ("side", "down_to", "halvings"),
    [
        (28, 7, [14, 7]),
        (28, 4, [14, 7, 4]),
        (28, 3, [14, 7, 4, 2]),
        (36, 7, [18, 9, 5]),
        (48, 4, [24, 12, 6, 3]),
        (32, 4, [16, 8, 4]),
        (8, 7, [4]),
        (8, 1, [4, 2, 1]),
    ],
)
def test_dcgan_halves_down_to_a_side_and_odd_ones_upwards(side, down_to, halvings):
    def sides(registry, inputs):
        """Returns the output, and the side of what each layer before it makes."""
        network = registry.build(
            f"dcgan(4, down_to={down_to})", shape=(side, side, 3), num_classes=10
        )
        init = partial(
            network.init_with_output, train=True, mutable=True, capture_intermediates=True
        )
        output, variables = jax.eval_shape(init, jax.random.key(0), inputs, LABELS)
        made = variables["intermediates"].items()
        kind = "BatchNorm" if registry is GENERATORS else "Conv"
        return output, [layer["__call__"][0].shape[1] for name, layer in made if kind in name]

    images, growing = sides(GENERATORS, LATENTS)
    assert images.shape == (len(LATENTS), side, side, 3)
    assert growing == halvings[::-1]
    logits, shrinking = sides(DISCRIMINATORS, images)
    assert logits.shape == (len(LATENTS),)
    assert shrinking == halvings


@pytest.mark.parametrize("name", ["dcgan", "mlp", "resnet", "r3gan"])
@pytest.mark.parametrize("conditional", [False, True])
def test_only_a_conditional_network_looks_at_the_labels(name, conditional):
    others = (LABELS + 1) % 10
    spec = f"{name}(width=8, conditional={conditional})"
    for registry, inputs in ((GENERATORS, LATENTS), (DISCRIMINATORS, jnp.ones([3, 8, 8, 1]))):
        module = registry.build(spec, shape=(8, 8, 1), num_classes=10)
        variables = module.init(jax.random.key(0), inputs, LABELS, train=True)
        # At first the scales of a conditional batch normalisation are the same for all classes.
        moved = jax.tree.map(
            lambda x: x + 0.1 * jax.random.normal(jax.random.key(x.size), x.shape), variables
        )
        one, other = (module.apply(moved, inputs, y, train=False) for y in (LABELS, others))
        assert bool(jnp.any(one != other)) is conditional


@pytest.mark.parametrize(
    ("shape", "near"),
    [
        ((4, 4, 1), "from 8 to 1024 pixels; one example here is 4 x 4 x 1"),
        ((2048, 2048, 3), "from 8 to 1024"),
        ((10, 10, 1), "of 8 or 12 pixels"),
        ((27, 27, 1), "of 24 or 28 pixels"),
        ((62, 62, 1), "of 60 or 64 pixels"),
        ((100, 100, 3), "of 96 or 104 pixels"),
        ((8, 16, 1), "square images from 8 to 1024"),
        ((2,), "square images from 8 to 1024"),
    ],
)
@pytest.mark.parametrize("name", ["dcgan", "resnet", "r3gan", "biggan"])
def test_other_sizes_are_refused(name, shape, near):
    for registry in (GENERATORS, DISCRIMINATORS):
        with pytest.raises(UsageError, match=near):
            registry.build(name, shape=shape, num_classes=10)


def test_every_multiple_of_four_is_halved_to_a_base():
    for side in range(16, 61, 4):
        base = side >> num_downsamplings((side, side, 3))
        assert 4 <= base <= 15
        assert base % 2 or base < 8
        assert base << num_downsamplings((side, side, 3)) == side


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("dcgan(0)", "width must be at least 1"),
        ("mlp(-1)", "width"),
        ("mlp(4, -1)", "depth"),
        ("resnet(0)", "width must be at least 1"),
        ("r3gan(0)", "width must be at least 1"),
        ("r3gan(blocks=0)", "blocks must be in .1, 32., given 0"),
        ("r3gan(cardinality=0)", "cardinality must be at least 1"),
        ("r3gan(expansion=0)", "expansion must be at least 1"),
        ("r3gan(12, cardinality=16)", r"cardinality must divide width \* expansion = 24, given 16"),
    ],
)
def test_sizes_that_mean_nothing(spec, words):
    for registry in (GENERATORS, DISCRIMINATORS):
        with pytest.raises(UsageError, match=words):
            registry.build(spec, shape=(8, 8, 1), num_classes=10)


def test_discriminator_norms_have_their_variables():
    images = jax.random.normal(jax.random.key(2), [3, 16, 16, 1])
    for norm, expected in (
        ("none", set()),
        ("batch", {"batch_stats"}),
        ("spectral", {"batch_stats"}),
    ):
        _, variables = run(DISCRIMINATORS, f"dcgan(4, norm={norm!r})", (16, 16, 1), images, LABELS)
        assert set(variables) == expected


def test_spectral_norm_bounds_the_lipschitz_constant():
    """After enough power iterations no kernel, as a matrix, stretches by more than 1."""
    module = DISCRIMINATORS.build("dcgan(4, norm='spectral')", shape=(8, 8, 1), num_classes=10)
    images = jax.random.normal(jax.random.key(2), [3, 8, 8, 1])
    variables = module.init(jax.random.key(0), images, LABELS, train=True)
    variables["params"]["Dense_0"]["kernel"] *= 100.0
    for _ in range(60):
        _, new = module.apply(variables, images, LABELS, train=True, mutable=["batch_stats"])
        variables = {**variables, **new}
    kernel = np.asarray(variables["params"]["Dense_0"]["kernel"])
    sigma = [
        v
        for k, v in jax.tree_util.tree_leaves_with_path(new)
        if "Dense_0" in str(k) and "sigma" in str(k)
    ]
    np.testing.assert_allclose(sigma[0], np.linalg.norm(kernel, 2), rtol=1e-3)


@pytest.mark.parametrize("conditional", [False, True])
def test_spectral_norm_of_a_resnet_is_of_every_layer(conditional):
    module = DISCRIMINATORS.build(
        f"resnet(4, conditional={conditional})", shape=(8, 8, 1), num_classes=10
    )
    images = jnp.ones([3, 8, 8, 1])
    shapes = jax.eval_shape(lambda: module.init(jax.random.key(0), images, LABELS, train=True))
    names = [jax.tree_util.keystr(path) for path, _ in jax.tree.leaves_with_path(shapes)]
    matrices = [name for name in names if name.endswith(("['kernel']", "['embedding']"))]
    assert len(matrices) == sum("sigma" in name for name in names) == 8 + conditional


@pytest.mark.parametrize(
    "spec", ["dcgan(4)", "mlp(4)", "resnet(4, attention=8)", "r3gan(8, cardinality=2)"]
)
def test_a_discriminator_without_batch_norm_judges_each_sample_alone(spec):
    shape = (16, 16, 1)
    images = jax.random.normal(jax.random.key(2), [3, *shape])
    together, _ = run(DISCRIMINATORS, spec, shape, images, LABELS)
    alone, _ = run(DISCRIMINATORS, spec, shape, images[:1], LABELS[:1])
    np.testing.assert_allclose(together[:1], alone, rtol=1e-4)
    assert DISCRIMINATORS.build(spec, shape=shape, num_classes=10).per_sample


def test_first_values_of_a_resnet():
    """Glorot's, with a gain of sqrt(2) in the residual branch; classes do not differ yet."""
    module = GENERATORS.build("resnet(16)", shape=(8, 8, 1), num_classes=10)
    variables = module.init(jax.random.key(0), LATENTS, LABELS, train=True)
    for name, limit in (("Conv_0", (2 * 6 / 288) ** 0.5), ("Conv_2", (6 / 32) ** 0.5)):
        largest = jnp.abs(variables["params"][name]["kernel"]).max()
        assert 0.95 * limit < largest <= limit
    one, other = (
        run(GENERATORS, f"resnet(16, conditional={conditional})", (8, 8, 1), LATENTS, LABELS)[0]
        for conditional in (False, True)
    )
    np.testing.assert_allclose(one, other, atol=1e-5)


def count(registry, width, size):
    """Parameters of a network with two blocks a stage, in groups of 16 channels."""
    module = registry.build(
        f"r3gan({width}, blocks=2, cardinality={width // 8})", shape=(size, size, 3), num_classes=1
    )
    inputs = jnp.ones([1, 64]) if registry is GENERATORS else jnp.ones([1, size, size, 3])
    labels = jnp.zeros(1, jnp.int32)
    shapes = jax.eval_shape(lambda: module.init(jax.random.key(0), inputs, labels, train=True))
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(shapes))


@pytest.mark.parametrize(
    ("registry", "published"), [(GENERATORS, 23.058), (DISCRIMINATORS, 23.010)]
)
def test_r3gan_has_as_many_parameters_as_published(registry, published):
    """Table 2 of the paper, Config E, for 256x256: its stages narrow from 768 to 96 channels."""
    total = count(registry, 768, 32)  # four stages
    total += sum(count(registry, width, 16) - count(registry, width, 8) for width in (384, 192, 96))
    total += 768 * 384 + 384 * 192 + 192 * 96  # 1x1 convolutions where the width changes
    total -= 3 * (768 - 96)  # colours are those of 96 channels
    assert round(total / 1e6, 3) == published


@pytest.mark.parametrize("registry", [GENERATORS, DISCRIMINATORS])
def test_residual_branches_of_r3gan_start_at_zero(registry):
    """Whatever their first two layers are, at first they change nothing."""
    shape = (8, 8, 1)
    inputs = LATENTS if registry is GENERATORS else jnp.ones([3, *shape])
    module = registry.build("r3gan(32, blocks=2)", shape=shape, num_classes=10)
    params = module.init(jax.random.key(0), inputs, LABELS, train=True)["params"]
    inner = {name: layer for name, layer in params.items() if name != "basis" and "bias" in layer}
    assert len(inner) == 8  # two stages, two blocks, two layers
    other = params | jax.tree.map(lambda x: x + 1, inner)
    one, two = (module.apply({"params": p}, inputs, LABELS, train=True) for p in (params, other))
    np.testing.assert_array_equal(one, two)
    assert jnp.any(one != 0)
    # Those begin with He et al.'s variance for a slope of 0.2, and Fixup's for four blocks.
    for layer in inner.values():
        kernel = layer["kernel"]
        variance = kernel.var() * math.prod(kernel.shape[:-1])
        np.testing.assert_allclose(variance, 2 / 1.04 * 4**-0.5, rtol=0.2)
