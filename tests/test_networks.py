import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gan.errors import UsageError
from gan.models import DISCRIMINATORS, GENERATORS


def run(registry, spec, shape, inputs, labels, train=True):
    module = registry.build(spec, shape=shape, num_classes=10)
    variables = module.init(jax.random.key(0), inputs, labels, train=True)
    mutable = [name for name in variables if name != "params"]
    return module.apply(variables, inputs, labels, train=train, mutable=mutable)


LABELS = jnp.array([1, 2, 3], jnp.int32)
LATENTS = jax.random.normal(jax.random.key(1), [3, 16])


@pytest.mark.parametrize("conditional", [False, True])
@pytest.mark.parametrize("shape", [(8, 8, 1), (16, 16, 3), (28, 28, 1), (32, 32, 3), (64, 64, 3)])
def test_dcgan_makes_and_judges_every_size(shape, conditional):
    images, _ = run(GENERATORS, f"dcgan(4, conditional={conditional})", shape, LATENTS, LABELS)
    assert images.shape == (3, *shape)
    assert jnp.abs(images).max() <= 1
    logits, _ = run(DISCRIMINATORS, f"dcgan(4, conditional={conditional})", shape, images, LABELS)
    assert logits.shape == (3,)


@pytest.mark.parametrize("shape", [(2,), (8, 8, 1)])
def test_mlp_makes_and_judges_points_and_images(shape):
    examples, _ = run(GENERATORS, "mlp(width=8, depth=1)", shape, LATENTS, LABELS)
    assert examples.shape == (3, *shape)
    assert run(DISCRIMINATORS, "mlp(width=8, depth=1)", shape, examples, LABELS)[0].shape == (3,)


@pytest.mark.parametrize("name", ["dcgan", "mlp"])
@pytest.mark.parametrize("conditional", [False, True])
def test_only_a_conditional_network_looks_at_the_labels(name, conditional):
    others = (LABELS + 1) % 10
    spec = f"{name}(width=4, conditional={conditional})"
    for registry, inputs in ((GENERATORS, LATENTS), (DISCRIMINATORS, jnp.ones([3, 8, 8, 1]))):
        one, other = (run(registry, spec, (8, 8, 1), inputs, y)[0] for y in (LABELS, others))
        assert bool(jnp.any(one != other)) is conditional


@pytest.mark.parametrize(
    "shape", [(4, 4, 1), (12, 12, 1), (27, 27, 1), (8, 16, 1), (2,), (56, 56, 3)]
)
def test_dcgan_refuses_other_sizes(shape):
    for registry in (GENERATORS, DISCRIMINATORS):
        with pytest.raises(UsageError, match="makes square images of 8, 16, 28, 32, 64"):
            registry.build("dcgan", shape=shape, num_classes=10)


@pytest.mark.parametrize(
    ("spec", "words"),
    [("dcgan(0)", "width must be at least 1"), ("mlp(-1)", "width"), ("mlp(4, -1)", "depth")],
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


def test_a_discriminator_without_batch_norm_judges_each_sample_alone():
    images = jax.random.normal(jax.random.key(2), [3, 16, 16, 1])
    together, _ = run(DISCRIMINATORS, "dcgan(4)", (16, 16, 1), images, LABELS)
    alone, _ = run(DISCRIMINATORS, "dcgan(4)", (16, 16, 1), images[:1], LABELS[:1])
    np.testing.assert_allclose(together[:1], alone, rtol=1e-5)
