import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from gan.models.layers import Conv, ConvTranspose


@pytest.mark.parametrize("groups", [1, 3])
@pytest.mark.parametrize("padding", ["SAME", "VALID", ((1, 1), (1, 1)), ((0, 2), (1, 0))])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kernel", [(4, 4), (3, 5)])
def test_conv_takes_linens_parameters(kernel, stride, padding, groups):
    strides = (stride, stride)
    options = {"strides": strides, "padding": padding, "feature_group_count": groups}
    theirs = nn.Conv(6, kernel, **options)
    x = jax.random.normal(jax.random.key(0), [2, 10, 8, 3])
    variables = theirs.init(jax.random.key(1), x)
    ours = Conv(6, kernel, **options)
    assert jax.tree.map(jnp.shape, ours.init(jax.random.key(1), x)) == jax.tree.map(
        jnp.shape, variables
    )
    np.testing.assert_allclose(
        ours.apply(variables, x), theirs.apply(variables, x), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("kernel", [(4, 4), (3, 5), (6, 3)])
def test_conv_transpose_takes_linens_parameters(kernel, stride):
    strides = (stride, stride)
    theirs = nn.ConvTranspose(6, kernel, strides=strides)
    x = jax.random.normal(jax.random.key(0), [2, 5, 4, 3])
    variables = theirs.init(jax.random.key(1), x)
    ours = ConvTranspose(6, kernel, strides)
    assert jax.tree.map(jnp.shape, ours.init(jax.random.key(1), x)) == jax.tree.map(
        jnp.shape, variables
    )
    np.testing.assert_allclose(
        ours.apply(variables, x), theirs.apply(variables, x), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("kernel", [(1, 1), (3, 3), (5, 3)])
@pytest.mark.parametrize("resample", ["double", "mean"])
def test_resampling_is_a_part_of_the_convolution(resample, kernel):
    """The same parameters as a plain one between doubled pixels or before the mean; no new ones."""
    x = jax.random.normal(jax.random.key(0), [2, 6, 4, 3])
    ours, plain = Conv(5, kernel, resample=resample), Conv(5, kernel)
    variables = ours.init(jax.random.key(1), x)
    if resample == "double":
        expected = plain.apply(variables, x.repeat(2, 1).repeat(2, 2))
    else:
        expected = plain.apply(variables, x).reshape(2, 3, 2, 2, 2, 5).mean((2, 4))
    np.testing.assert_allclose(ours.apply(variables, x), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        (Conv(4, (4, 4), resample="mean"), "odd kernel"),
        (Conv(4, (3, 3), (2, 2), resample="double"), "stride 1"),
        (Conv(4, (3, 3), feature_group_count=2), "must divide the 3 channels of the input"),
    ],
)
def test_what_a_conv_cannot_do_is_said(layer, words):
    with pytest.raises(ValueError, match=words):
        layer.init(jax.random.key(0), jnp.ones([1, 4, 4, 3]))


@pytest.mark.parametrize("ours", [Conv, ConvTranspose])
def test_bfloat16_is_linens_to_its_rounding(ours):
    theirs = {Conv: nn.Conv, ConvTranspose: nn.ConvTranspose}[ours]
    x = jax.random.normal(jax.random.key(0), [4, 8, 8, 6])
    options = {"strides": (2, 2), "dtype": jnp.bfloat16}
    variables = theirs(5, (4, 4), **options).init(jax.random.key(1), x)

    def result_and_gradient(layer, options=options):
        def loss(variables):
            y = layer(5, (4, 4), **options).apply(variables, x)
            return jnp.sum(y.astype(jnp.float32) ** 2), y

        return jax.grad(loss, has_aux=True)(variables)

    (gradient, y), (expected_gradient, expected) = map(result_and_gradient, (ours, theirs))
    assert y.dtype == expected.dtype == jnp.bfloat16
    # Linen sums the gradient of a bias in bfloat16, and is off by a tenth here; ours is in float32.
    (full, _) = result_and_gradient(theirs, {"strides": (2, 2)})
    expected_gradient["params"]["bias"] = full["params"]["bias"]
    # bfloat16 keeps 8 bits: 2^-8 = 0.004, a little more after sums.
    for a, b in zip(
        jax.tree.leaves((gradient, y)), jax.tree.leaves((expected_gradient, expected)), strict=True
    ):
        assert a.dtype == b.dtype
        a, b = np.asarray(a, np.float32), np.asarray(b, np.float32)
        np.testing.assert_allclose(a, b, rtol=0.02, atol=0.02 * np.abs(b).max())
