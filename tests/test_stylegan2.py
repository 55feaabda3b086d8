"""The networks of StyleGAN2; tests/test_pytorch_stylegan2.py compares them with PyTorch's."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gan.errors import UsageError
from gan.models import DISCRIMINATORS, GENERATORS

SHAPE = (8, 8, 3)
LABELS = jnp.array([1, 2, 3, 1], jnp.int32)
LATENTS = jax.random.normal(jax.random.key(1), [4, 6])
IMAGES = jax.random.normal(jax.random.key(2), [4, *SHAPE])
KEYS = jax.random.split(jax.random.key(3), 4)
TINY = "channel_base=64, channel_max=8, mapping_layers=2"


def build(registry, options="", shape=SHAPE):
    return registry.build(f"stylegan2({TINY}{options})", shape=shape, num_classes=5)


def random_variables(module, inputs):
    """Variables that are nowhere zero but in the mean of w; to draw the first ones takes longer to compile."""
    made = jax.eval_shape(lambda: module.init(jax.random.key(0), inputs, LABELS, train=True))
    rng = np.random.default_rng(0)
    drawn = jax.tree.map(lambda x: jnp.asarray(rng.normal(size=x.shape), x.dtype), made)
    return drawn | ({"w_mean": {"value": jnp.zeros(7)}} if "w_mean" in drawn else {})


def compiled(function, *args):
    """Compiles without most optimisations, which take far longer here than the program runs."""
    options = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
    return jax.jit(function).lower(*args).compile(compiler_options=options)


@pytest.fixture(scope="module")
def generator():
    module = build(GENERATORS, ", w_dim=7, conditional=True, style_mixing=1.0")
    return module, random_variables(module, LATENTS)


def shapes(registry, spec, side, latent_dim=512):
    module = registry.build(spec, shape=(side, side, 3), num_classes=10)
    x = jnp.ones([1, latent_dim]) if registry is GENERATORS else jnp.ones([1, side, side, 3])
    labels = jnp.zeros(1, jnp.int32)
    return jax.eval_shape(lambda: module.init(jax.random.key(0), x, labels, train=True))


@pytest.mark.parametrize(
    ("side", "options", "generator", "discriminator"),
    [
        # Counted with the authors' networks (stylegan2-ada-pytorch, training/networks.py), made as its train.py makes
        # those of --cfg=paper256, of --cfg=cifar --cond=1 and of --cfg=stylegan2 at 1024x1024.
        (256, ("channel_base=16384", "channel_base=16384"), 24_767_458, 24_001_089),
        (
            32,
            (
                "mapping_layers=2, conditional=True",
                "architecture='orig', stddev_group=32, conditional=True",
            ),
            20_215_315,
            23_089_664,
        ),
        (1024, ("", ""), 30_370_060, 29_012_513),
    ],
)
def test_as_many_parameters_as_the_authors(side, options, generator, discriminator):
    for registry, arguments, expected in zip(
        (GENERATORS, DISCRIMINATORS), options, (generator, discriminator), strict=True
    ):
        params = shapes(registry, f"stylegan2({arguments})", side)["params"]
        assert sum(math.prod(x.shape) for x in jax.tree.leaves(params)) == expected


def test_layers_of_the_cifar_generator():
    """4x4 to 32x32 pixels with 512 channels, w for eight layers."""
    variables = shapes(GENERATORS, "stylegan2(mapping_layers=2, conditional=True)", 32)
    params, noise = variables["params"], variables["noise"]["synthesis"]
    assert params["mapping"]["layer_0"]["kernel"].shape == (1024, 512)
    assert params["mapping"]["embedding"]["kernel"].shape == (10, 512)
    synthesis = params["synthesis"]
    assert synthesis["constant"].shape == (4, 4, 512)
    sides = [4, 8, 8, 16, 16, 32, 32]
    for number, side in enumerate(sides):
        assert noise[f"conv_{number}"]["noise"]["image"].shape == (side, side, 1)
        assert synthesis[f"conv_{number}"]["modulated"]["kernel"].shape == (3, 3, 512, 512)
    assert sum(name.startswith("conv_") for name in synthesis) == len(sides)
    assert synthesis["to_image_3"]["kernel"].shape == (1, 1, 512, 3)
    module = GENERATORS.build("stylegan2", shape=(32, 32, 3), num_classes=10)
    assert module.num_layers == 8


@pytest.mark.parametrize("size", [8, 12, 28, 64])
def test_every_size(size):
    shape = (size, size, 3)
    module = build(GENERATORS, ", w_dim=7", shape)

    def images():
        variables = module.init(jax.random.key(0), LATENTS, LABELS, train=True)
        return module.apply(variables, LATENTS, LABELS, train=False, keys=KEYS)

    made = jax.eval_shape(images)
    assert made.shape == (4, *shape)
    for architecture in ("resnet", "orig"):
        judge = build(DISCRIMINATORS, f", architecture={architecture!r}", shape)
        logits = jax.eval_shape(
            lambda x, judge=judge: judge.init_with_output(jax.random.key(0), x, LABELS, train=True),
            made,
        )[0]
        assert logits.shape == (4,)


def test_the_generator_is_the_composition_of_its_two_halves(generator):
    module, variables = generator
    assert module.stochastic
    assert module.per_sample

    def both(keys):
        options = {"train": True, "keys": keys}
        whole, _ = module.apply(variables, LATENTS, LABELS, **options, mutable=["w_mean"])
        ws, _ = module.apply(
            variables, LATENTS, LABELS, **options, method="map_latents", mutable=["w_mean"]
        )
        return whole, ws, module.apply(variables, ws, **options, method="synthesize")

    whole, ws, parts = compiled(both, KEYS)(KEYS)
    np.testing.assert_allclose(whole, parts, rtol=1e-5, atol=1e-5)
    assert ws.shape == (4, module.num_layers, 7)


def test_what_is_random_about_an_example_comes_from_its_own_key(generator):
    module, variables = generator

    def apply(latents, labels, keys):
        return module.apply(variables, latents, labels, train=True, keys=keys, mutable=["w_mean"])[
            0
        ]

    make = compiled(apply, LATENTS, LABELS, KEYS)
    every = make(LATENTS, LABELS, KEYS)
    order = jnp.array([2, 0, 3, 1])
    np.testing.assert_allclose(
        make(LATENTS[order], LABELS[order], KEYS[order]), every[order], rtol=1e-4, atol=1e-4
    )
    others = make(LATENTS, LABELS, KEYS.at[1].set(KEYS[0]))
    np.testing.assert_allclose(others[2:], every[2:], rtol=1e-5, atol=1e-5)
    assert jnp.abs(others[1] - every[1]).max() > 0.01


def test_styles_are_mixed_from_a_layer_on(generator):
    """With probability 1, the first layer keeps its w, the last gets that of the other latents."""
    module, variables = generator
    keys = jax.random.split(jax.random.key(5), 300)
    latents, labels = jnp.repeat(LATENTS[:1], 300, 0), jnp.repeat(LABELS[:1], 300, 0)

    def ws(mixing, train, keys):
        return module.clone(style_mixing=mixing).apply(
            variables, latents, labels, train=train, keys=keys, method="map_latents",
            mutable=["w_mean"],
        )[0]  # fmt: skip

    w = np.asarray(ws(0.0, True, keys))
    assert (w == w[:1, :1]).all()
    for plain in (ws(1.0, True, None), ws(1.0, False, keys)):
        np.testing.assert_array_equal(plain, w)
    mixed = np.asarray((ws(1.0, True, keys) != w).any(-1))  # [300, L]
    assert (mixed == np.maximum.accumulate(mixed, 1)).all()
    counts = np.bincount(mixed.sum(1), minlength=module.num_layers + 1)
    assert counts[0] == counts[-1] == 0
    np.testing.assert_allclose(counts[1:-1], 100, atol=35)  # of 4 layers, 1 to 3 alike
    half = np.asarray((ws(0.5, True, keys) != w).any((-1, -2)))
    assert 110 < half.sum() < 190


def test_truncation_goes_to_the_tracked_mean(generator):
    module, variables = generator
    beta = module.mean_decay

    def ws(truncation, variables):
        return module.apply(
            variables, LATENTS, LABELS, train=False, truncation=truncation, method="map_latents"
        )

    w = ws(1.0, variables)
    _, new = module.apply(
        variables, LATENTS, LABELS, train=True, keys=KEYS, method="map_latents", mutable=["w_mean"]
    )
    mean = (1 - beta) * w[:, 0].mean(0)  # from 0, and of the examples' own w, not of those mixed in
    np.testing.assert_allclose(new["w_mean"]["value"], mean, rtol=1e-4)
    moved = variables | new
    np.testing.assert_allclose(ws(0.3, moved), mean + 0.3 * (w - mean), rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(ws(1.0, moved), w)
    np.testing.assert_allclose(
        ws(jnp.float32(0.0), moved), jnp.broadcast_to(mean, w.shape), rtol=1e-4, atol=1e-6
    )


def test_latents_count_by_their_direction_alone(generator):
    module, variables = generator
    one, other = (
        module.apply(variables, scale * LATENTS, LABELS, train=False, method="map_latents")
        for scale in (1, 3)
    )
    np.testing.assert_allclose(one, other, rtol=1e-4)


@pytest.mark.parametrize("conditional", [False, True])
def test_only_a_conditional_network_looks_at_the_labels(conditional):
    others = (LABELS + 1) % 5
    for registry, inputs in ((GENERATORS, LATENTS), (DISCRIMINATORS, IMAGES)):
        module = build(registry, f", conditional={conditional}")
        variables = random_variables(module, inputs)

        def apply(labels, module=module, variables=variables, inputs=inputs):
            return module.apply(variables, inputs, labels, train=False)

        apply = compiled(apply, LABELS)
        one, other = apply(LABELS), apply(others)
        assert bool(jnp.any(one != other)) is conditional


def test_the_deviation_of_a_group_reaches_its_logits():
    """Of four images in groups of two, the third is in the group of the first."""
    module = build(DISCRIMINATORS, ", stddev_group=2")
    variables = random_variables(module, IMAGES)
    judge = compiled(lambda x: module.apply(variables, x, LABELS, train=True), IMAGES)
    changed = judge(IMAGES.at[2].set(0)) != judge(IMAGES)
    assert changed.tolist() == [True, False, True, False]
    assert not module.per_sample
    assert build(DISCRIMINATORS, ", stddev_channels=0").per_sample
    with pytest.raises(UsageError, match="groups of 3 do not divide a batch"):
        jax.eval_shape(
            lambda: module.clone(stddev_group=3).apply(variables, IMAGES, LABELS, train=True)
        )


def test_logits_of_the_classes():
    module = DISCRIMINATORS.build(
        f"stylegan2({TINY})", shape=SHAPE, num_classes=5, class_logits=True
    )
    (logits, classes), _ = jax.eval_shape(
        lambda: module.init_with_output(jax.random.key(0), IMAGES, LABELS, train=True)
    )
    assert (logits.shape, classes.shape) == ((4,), (4, 5))


@pytest.mark.parametrize(
    ("registry", "options", "words"),
    [
        (
            GENERATORS,
            "channel_base=4",
            "channel_base must be at least 8, the pixels of a side, given 4",
        ),
        (DISCRIMINATORS, "channel_base=4", "channel_base must be at least 8"),
        (GENERATORS, "mapping_layers=0", "mapping_layers must be in .1, 256., given 0"),
        (GENERATORS, "style_mixing=1.5", "style_mixing must be in .0, 1., given 1.5"),
        (DISCRIMINATORS, "architecture='skip'", "architecture"),
        (DISCRIMINATORS, "channel_max=8, stddev_channels=3", "stddev_channels must divide the 8"),
    ],
)
def test_sizes_that_mean_nothing(registry, options, words):
    with pytest.raises(UsageError, match=words):
        registry.build(f"stylegan2({options})", shape=SHAPE, num_classes=5)


def test_other_shapes_are_refused():
    for registry in (GENERATORS, DISCRIMINATORS):
        with pytest.raises(UsageError, match="makes square images"):
            registry.build("stylegan2", shape=(2,), num_classes=5)
