import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gan.models import DISCRIMINATORS, GENERATORS
from gan.regularizers import REGULARIZERS
from tests.penalties import seen

REAL, FAKE = np.random.default_rng(0).normal(size=[2, 4, 8, 16, 2]).astype(np.float32)
SLOPE = np.random.default_rng(1).normal(size=[8, 16, 2]).astype(np.float32)


def critic(x):
    return jnp.tanh(jnp.sum(x * SLOPE, (1, 2, 3)) / 10)


def changed(image, flip, down, right):
    """Returns the image flipped or not, then shifted, in plain NumPy."""
    image = image[:, ::-1] if flip else image
    padded = np.pad(image, [(1, 1), (2, 2), (0, 0)], mode="reflect")
    return padded[1 + down : 9 + down, 2 + right : 18 + right]


def test_bcr_with_its_draws():
    def distance(images, which):
        moved = []
        for number, image in enumerate(images):
            key = jax.random.split(jax.random.key(number))[which]
            flip, down, right = jax.random.split(key, 3)
            moved.append(
                changed(
                    image,
                    bool(jax.random.bernoulli(flip)),
                    int(jax.random.randint(down, [], -1, 2)),
                    int(jax.random.randint(right, [], -2, 3)),
                )
            )
        return np.mean((np.asarray(critic(np.stack(moved))) - np.asarray(critic(images))) ** 2)

    for ratio in (0.0, 0.5):
        bcr = REGULARIZERS.build(f"bcr(fake_ratio={ratio})")
        value, _ = bcr.penalty(seen(critic, jnp.asarray(REAL), jnp.asarray(FAKE)), {})
        expected = distance(REAL, 0) + ratio * distance(FAKE, 1)
        np.testing.assert_allclose(value, expected, rtol=1e-5)
        assert bcr.weight == 10


@pytest.mark.parametrize("flip", [True, False])
def test_all_flips_and_shifts_by_an_eighth_are_made_and_no_others(flip):
    image = REAL[0]
    keys = jax.random.split(jax.random.key(0), 400)
    change = REGULARIZERS.build(f"bcr(flip={flip})")._change
    found = {x.tobytes() for x in np.asarray(jax.jit(jax.vmap(change, (None, 0)))(image, keys))}
    choices = itertools.product([False, True] if flip else [False], range(-1, 2), range(-2, 3))
    assert found == {changed(image, *choice).tobytes() for choice in choices}


def test_bcr_is_for_images():
    data = {"shape": (2,), "num_classes": 3}
    networks = GENERATORS.build("mlp", **data), DISCRIMINATORS.build("mlp", **data)
    with pytest.raises(ValueError, match=r"shifts images, and an example has shape \[2\]"):
        REGULARIZERS.build("bcr").check_networks(*networks)


def test_zcr_of_linear_networks():
    rng = np.random.default_rng(2)
    latents, to_points, slope = rng.normal(size=[4, 3]), rng.normal(size=[3, 5]), rng.normal(size=5)
    noise = np.stack([jax.random.normal(jax.random.key(i), [3]) for i in range(4)])
    zcr = REGULARIZERS.build("zcr(sigma=0.2)")

    def of(role):
        fake = jnp.asarray(latents @ to_points)
        inputs = seen(lambda x: x @ slope, fake, fake, role=role, latents=jnp.asarray(latents),
                      generate=lambda z: z @ to_points)  # fmt: skip
        return zcr.penalty(inputs, {})[0]

    moves = 0.2 * noise @ to_points
    np.testing.assert_allclose(of("discriminator"), np.mean((moves @ slope) ** 2), rtol=1e-3)
    np.testing.assert_allclose(of("generator"), -np.mean(moves**2), rtol=1e-3)
    assert (zcr.weight_of("discriminator"), zcr.weight_of("generator")) == (5, 0.5)
