import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gan.augmentation import DISCRIMINATOR_AUGMENTATIONS
from gan.augmentation.ada import _draws
from gan.augmentation.ada_color import filter_bands, recolour
from gan.augmentation.ada_geometry import resample
from gan.errors import UsageError
from gan.schedules import counted_from

OPS = ("xflip", "rotate90", "xint", "scale", "rotate", "aniso", "xfrac", "brightness", "contrast",
       "lumaflip", "hue", "saturation", "filter", "noise", "cutout")  # fmt: skip
P = jnp.float32(1.0)
KEYS = jax.random.split(jax.random.key(0), 4_000)
GEOMETRY, COLOUR, BANDS, NOISE, HOLE = jax.jit(lambda keys: _draws(keys, 8, 5, 4, 1, 1))(KEYS)


def ada(**arguments):
    text = ", ".join(f"{name}={value}" for name, value in arguments.items())
    return DISCRIMINATOR_AUGMENTATIONS.build(f"ada({text})")


def only(*names, **arguments):
    """ADA with some of its changes alone."""
    return ada(**{name: int(name in names) for name in OPS}, **arguments)


def images(*shape):
    return jax.random.uniform(jax.random.key(1), shape, minval=-1, maxval=1)


def test_the_path_of_p_against_the_formula():
    """After every 3 batches of 50 images p moves by 150 / 2,000, by the sign of mean - target."""
    augmentation, rng = ada(target=0.5, interval=3, kimg=2), np.random.default_rng(0)
    update = jax.jit(augmentation.update, static_argnums=2)
    state = augmentation.init()
    assert augmentation.metrics(state) == {"augmentation/strength": 0, "augmentation/sign": 0}
    signs = np.concatenate([rng.uniform(low, low + 0.6, 15) for low in (-0.4, 0.4, -0.2, 0.3)])
    p, path, expected = 0.0, [], []
    for number, sign in enumerate(signs.astype(np.float32), start=1):
        state = update(state, sign, 50)
        path.append(augmentation.metrics(state)["augmentation/strength"])
        if number % 3 == 0:
            p = max(p + np.sign(signs[number - 3 : number].mean() - 0.5) * 150 / 2_000, 0.0)
        expected.append(p)
        assert augmentation.metrics(state)["augmentation/sign"] == sign
    np.testing.assert_allclose(path, expected, atol=1e-6)
    assert expected[14] == 0  # not below
    assert max(expected) > 0.3


def test_p_has_no_upper_end():
    augmentation = ada(interval=1, kimg=1)
    state = augmentation.init()
    for _ in range(3):
        state = augmentation.update(state, jnp.float32(1.0), 800)
    np.testing.assert_allclose(state["strength"], 2.4, rtol=1e-6)
    assert (augmentation.update(state, jnp.float32(0.6), 800))["strength"] == state["strength"]


def test_a_fixed_p_has_no_state():
    fixed, adapted, x = only("brightness", p=0.3), only("brightness"), images(4, 8, 8, 3)
    assert fixed.init() == {} == fixed.update({}, jnp.float32(1.0), 8) == fixed.metrics({})
    assert not fixed.reads_signs
    assert adapted.reads_signs
    state = adapted.init() | {"strength": jnp.float32(0.3)}
    same = jax.jit(lambda x, keys: (fixed(x, {}, keys), adapted(x, state, keys)))(x, KEYS[:4])
    np.testing.assert_allclose(*same, atol=1e-6)


def test_p_by_a_schedule_is_that_of_the_runs_step():
    """R3GAN's path, half a cosine, in plain Python; and the images are those of a p that stays there."""
    scheduled, x = only("brightness", p="cosine_schedule(0.0, 0.55, 40)"), images(4, 8, 8, 3)
    assert scheduled.init() == {}
    assert not scheduled.reads_signs

    @jax.jit
    def at(step):
        with counted_from(step):
            return scheduled(x, {}, KEYS[:4]), scheduled.metrics({})["augmentation/strength"]

    for step in (0, 10, 25, 90):
        p = 0.55 * (1 - math.cos(math.pi * min(step / 40, 1.0))) / 2
        changed, strength = at(jnp.int32(step))
        np.testing.assert_allclose(strength, p, atol=1e-6)
        np.testing.assert_allclose(changed, only("brightness", p=p)(x, {}, KEYS[:4]), atol=1e-6)
    assert (changed != x).any()


def test_at_p_0_the_images_are_as_they_were():
    x, augmentation = images(2, 8, 8, 3), only("brightness")
    change = jax.jit(augmentation)
    np.testing.assert_array_equal(change(x, augmentation.init(), KEYS[:2]), x)
    p = {"strength": jnp.float32(0.999)}
    assert (change(x, augmentation.init() | p, KEYS[:2]) != x).all()
    # The changes themselves do nothing then, but for rounding, as in the authors' code.
    every = ada(filter=1, cutout=1)
    unchanged = jax.jit(every._change)(x, 0 * P, KEYS[:2])
    np.testing.assert_allclose(unchanged, x, atol=1e-5)


def drawn(method, draws, *arguments):
    """What a method makes of many draws."""
    made = jax.jit(jax.vmap(lambda draws: method(draws, *arguments)))(draws)
    return jax.tree.map(np.asarray, made)


def test_draws_are_uniform_and_normal_and_independent():
    draws = jax.tree.map(lambda x: np.asarray(x).reshape(4_000, -1), GEOMETRY)
    deciles = np.arange(0, 1, 0.1)[:, None]
    for values in (draws.chance, draws.uniform):
        assert values.min() >= 0
        assert values.max() < 1
        found = np.sort(values, 0)[::400]
        np.testing.assert_allclose(found, np.broadcast_to(deciles, found.shape), atol=0.04)
    np.testing.assert_allclose(draws.normal.mean(0), 0, atol=0.06)
    np.testing.assert_allclose(draws.normal.std(0), 1, atol=0.05)
    correlation = np.corrcoef(np.concatenate(list(draws), 1).T)
    np.testing.assert_allclose(correlation, np.eye(len(correlation)), atol=0.08)


def test_how_geometry_is_drawn():
    """Of 4,000 images of 20 x 40 pixels, with the distributions of appendix B."""
    draws = drawn(ada()._geometry, GEOMETRY, P, (20, 40))
    for values, share in ((draws.flip, [0.5, 0.5]), (draws.turns, [0.25] * 4)):
        np.testing.assert_allclose(np.bincount(values.astype(int)) / 4_000, share, atol=0.03)
    for axis, most in ((0, 5), (1, 2)):  # an eighth: round(U(-5, 5)) and round(U(-2.5, 2.5))
        shifts = draws.shift[:, axis]
        np.testing.assert_array_equal(shifts, np.round(shifts))
        assert (shifts.min(), shifts.max()) == (-most, most)
        np.testing.assert_allclose((shifts == 0).mean(), 1 / (40, 20)[axis] * 4, atol=0.03)
    for values in (draws.scale, draws.stretch):
        np.testing.assert_allclose(np.log2(values).std(), 0.2, atol=0.01)
        np.testing.assert_allclose(np.log2(values).mean(), 0.0, atol=0.01)
    for values in (draws.rotation, draws.rotation_after):  # U(-pi, pi)
        np.testing.assert_allclose(np.abs(values).mean(), np.pi / 2, atol=0.06)
        assert 3.1 < values.max() <= np.pi
        assert -np.pi <= values.min() < -3.1
    np.testing.assert_allclose(draws.move.std(0), [5.0, 2.5], rtol=0.05)


def test_how_colours_are_drawn():
    draws = drawn(ada()._colour, COLOUR, P)
    np.testing.assert_allclose(draws.brightness.std(), 0.2, rtol=0.05)
    np.testing.assert_allclose(np.log2(draws.contrast).std(), 0.5, rtol=0.05)
    np.testing.assert_allclose(draws.flip.mean(), 0.5, atol=0.03)
    np.testing.assert_allclose(np.abs(draws.hue).mean(), np.pi / 2, atol=0.06)
    np.testing.assert_allclose(np.log2(draws.saturation).std(), 1.0, rtol=0.05)


@pytest.mark.parametrize("p", [0.3, 1.5])
def test_each_change_is_made_with_its_probability(p):
    """min(multiplier p, 1); of the rotations, one of the two with that of `rotate`."""
    geometry = drawn(ada(scale=0.5)._geometry, GEOMETRY, jnp.float32(p), (20, 40))
    full = min(p, 1.0)
    for share, probability in (
        ((geometry.flip != 0).mean(), full / 2),
        ((geometry.turns != 0).mean(), full * 3 / 4),
        ((geometry.scale != 1).mean(), min(p / 2, 1.0)),
        ((geometry.stretch != 1).mean(), full),
        ((geometry.move != 0).all(1).mean(), full),
        ((geometry.rotation != 0).mean(), 1 - np.sqrt(1 - full)),
        (((geometry.rotation != 0) | (geometry.rotation_after != 0)).mean(), full),
    ):
        np.testing.assert_allclose(share, probability, atol=0.03)
    colour = drawn(ada(hue=0)._colour, COLOUR, jnp.float32(p))
    for values, neutral, probability in (
        (colour.brightness, 0, full), (colour.contrast, 1, full), (colour.flip, 0, full / 2),
        (colour.hue, 0, 0), (colour.saturation, 1, full),
    ):  # fmt: skip
        np.testing.assert_allclose((values != neutral).mean(), probability, atol=0.03)


def test_how_corruptions_are_drawn():
    augmentation = ada(noise=1, noise_std=0.3, cutout=0.5, filter=1)
    blank = jnp.zeros([8, 8, 1])
    add = jax.jit(jax.vmap(augmentation._with_noise, (None, 0, 0, None)))
    deviation = np.asarray(add(blank, KEYS, NOISE, P)).std(axis=(1, 2, 3))
    np.testing.assert_allclose(deviation.mean(), 0.3 * np.sqrt(2 / np.pi), rtol=0.05)  # E |normal|
    cut = jax.jit(jax.vmap(augmentation._without, (None, 0, None)))
    holes = np.asarray(cut(blank + 1, HOLE, P)) == 0
    assert holes.sum(axis=(1, 2, 3)).max() == 16
    np.testing.assert_allclose(holes.any(axis=(1, 2, 3)).mean(), 0.5, atol=0.03)
    power = np.array([10, 1, 1, 1]) / 13
    # To first order in the logarithm of a factor t, its power being e: t / (1 + e (t - 1)).
    gains = drawn(ada(filter=1, filter_std=0.01)._gains, BANDS, P)
    deviation = 0.01 * np.log(2) * np.sqrt((1 - power) ** 2 + (power**2).sum() - power**2)
    np.testing.assert_allclose(gains.std(0), deviation, rtol=0.1)


@pytest.mark.parametrize("name", OPS)
def test_each_change_alone_is_made_and_is_differentiable(name):
    augmentation, channels = only(name, p=1), 1 if name in ("noise", "cutout", "xint") else 3
    x = jax.ShapeDtypeStruct((4, 8, 10, channels), jnp.float32)
    program = str(jax.make_jaxpr(lambda x: augmentation(x, {}, KEYS[:4]))(x))
    assert ("scatter" in program, "gather" in program) == (False, name in OPS[:7])
    gradient = jax.eval_shape(jax.grad(lambda x: augmentation(x, {}, KEYS[:4]).sum()), x)
    assert gradient.shape == x.shape


def test_all_together_in_order():
    """Geometry, colour, filter, noise, cutout: by the parts, which are tested by themselves."""
    augmentation, x = ada(p=1, filter=1, noise=1, cutout=1), images(3, 8, 10, 3)

    @jax.jit
    def both(x, keys):
        geometry, colour, bands, noise, hole = _draws(keys, 8, 5, 4, 1, 1)
        y = resample(
            x, jax.vmap(lambda d: augmentation._geometry(d, P, (8, 10)).inverse())(geometry)
        )
        y = recolour(y, *jax.vmap(lambda d: augmentation._colour(d, P).affine())(colour))
        y = filter_bands(y, jax.vmap(lambda d: augmentation._gains(d, P))(bands))
        y = jax.vmap(augmentation._with_noise, (0, 0, 0, None))(y, keys, noise, P)
        return augmentation(x, {}, keys), jax.vmap(augmentation._without, (0, 0, None))(y, hole, P)

    np.testing.assert_allclose(*both(x, KEYS[:3]), atol=1e-4)


def test_misuse():
    for text, message in (
        (
            "ada(p=0.3, target=0.5)",
            "p stays as it is given: target, interval and kimg are of no use",
        ),
        ("ada(p=2.0)", r"p must be in \[0, 1\], given 2"),
        ("ada(kimg=0)", "kimg must be above 0"),
        ("ada(imgfilter=1)", "unknown argument 'imgfilter'; did you mean 'filter'"),
    ):
        with pytest.raises(UsageError, match=message):
            DISCRIMINATOR_AUGMENTATIONS.build(text)
    for shape, message in (
        ((8, 8, 4), "images with 1 or 3 channels, and an example has 4"),
        ((1, 8, 3), "of 2 x 2 pixels or more"),
        ((2,), "of images, and"),
    ):
        with pytest.raises(ValueError, match=message):
            ada().check_shape(shape)
