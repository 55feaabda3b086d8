import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from gan.optimizers import OPTIMIZERS
from gan.schedules import counted_from
from gan.second_moments import second_moment_of
from tests.every import every_optimizer

SHAPES = {"Dense_0": {"kernel": (3, 28), "bias": (28,)}, "noise": ()}


def draw(seed, scale=1.0):
    rng = np.random.default_rng(seed)
    is_shape = lambda x: isinstance(x, tuple)
    return jax.tree.map(
        lambda shape: jnp.asarray(scale * rng.standard_normal(shape), jnp.float32),
        SHAPES, is_leaf=is_shape,
    )  # fmt: skip


def states(text, gradients):
    """The optimizer's state before the first and after every gradient."""
    optimizer = optax.with_extra_args_support(OPTIMIZERS.build(text))
    params = draw(0)
    found = [optimizer.init(params)]
    for gradient in gradients:
        found.append(optimizer.update(gradient, found[-1], params, value=jnp.ones([]))[1])
    return found


def expected(gradients, b2, eps=1e-8, last=1, eps_root=0.0):
    """By the definition, in float64: of the mean of the last squares with their weights in v."""
    flat = [
        np.concatenate([np.atleast_1d(leaf)[..., ::13].ravel() for leaf in jax.tree.leaves(tree)])
        for tree in gradients
    ]
    squares = np.asarray(flat, np.float64) ** 2
    weights = (1 - b2) * b2 ** np.arange(len(squares))[::-1]
    v_hat = weights @ squares / weights.sum()
    now = weights[-last:] @ squares[-last:] / weights[-last:].sum()
    return np.sqrt(np.mean(now / (np.sqrt(v_hat + eps_root) + eps) ** 2))


GRADIENTS = [draw(seed, scale) for seed, scale in enumerate((1.0, 0.3, 2.0, 5.0), start=1)]


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("adam(1e-3)", {"b2": 0.999}),
        ("adamw(1e-3, b2=0.9, eps=0.5, eps_root=0.2)", {"b2": 0.9, "eps": 0.5, "eps_root": 0.2}),
        ("optimistic_adam(1e-3, b1=0.5, b2=0.0)", {"b2": 0.0}),
        ("clip(1e6) | scale_by_adam(b2=0.95) | scale(-1.0)", {"b2": 0.95}),
        ("apply_if_finite(lamb(1e-3, b2=0.99, eps=1e-6), 3)", {"b2": 0.99, "eps": 1e-6}),
        ("by_path(adam(1e-3, b2=0.9), ('bias', optimistic_adam(1e-2, b2=0.9)))", {"b2": 0.9}),
        ("adam(1e-3, b2=linear_schedule(0.5, 0.9, 8))", {"b2": 0.7}),
    ],
)
@pytest.mark.parametrize("last", [1, 2])
def test_against_the_definition(text, numbers, last):
    moment = second_moment_of(text)
    with counted_from(jnp.int32(4)):
        found = states(text, GRADIENTS)
        rms = moment.preconditioned_rms(found[-1 - last], found[-1])
    np.testing.assert_allclose(rms, expected(GRADIENTS, **numbers, last=last), rtol=2e-4)


def test_parameters_without_a_second_moment_are_not_counted():
    text = "by_path(set_to_zero, ('kernel', adam(1e-3, b2=0.9)))"
    found, moment = states(text, GRADIENTS), second_moment_of(text)
    kernels = [{"kernel": gradient["Dense_0"]["kernel"]} for gradient in GRADIENTS]
    rms = moment.preconditioned_rms(*found[-2:])
    np.testing.assert_allclose(rms, expected(kernels, 0.9), rtol=2e-4)


@pytest.mark.parametrize("name", ["amsgrad", "optimistic_amsgrad"])
def test_amsgrad_divides_by_the_largest(name):
    gradients = [draw(1, 10.0), draw(1, 1.0)]
    text = f"{name}(1e-3, b2=0.9)"
    rms = second_moment_of(text).preconditioned_rms(*states(text, gradients)[-2:])
    np.testing.assert_allclose(rms, 0.1, rtol=2e-4)


def test_of_every_optimizer_it_is_right_or_not_there():
    """Two equal gradients, and one three times as large."""
    gradients = [draw(1), draw(1), draw(1, 3.0)]
    known = 0
    for text in every_optimizer():
        if (moment := second_moment_of(text)) is None:
            continue
        found, known = states(text, gradients), known + 1
        rms = [moment.preconditioned_rms(*pair) for pair in itertools.pairwise(found)]
        expect = [expected(gradients[:n], moment.b2, moment.eps) for n in (1, 2, 3)]
        np.testing.assert_allclose(rms, expect, rtol=3e-4, err_msg=text)
    assert known >= 8


@pytest.mark.parametrize(
    "text",
    [
        "sgd(0.1)", "rmsprop(1e-3)", "adamax(1e-3)", "adabelief(1e-3)", "prodigy",
        "by_path(adam(1e-3, b2=0.9), ('bias', adam(1e-3, b2=0.99)))",
    ],
)  # fmt: skip
def test_left_out_where_it_is_not_known(text):
    assert second_moment_of(text) is None


def test_an_update_that_was_not_made_has_none():
    """As `apply_if_finite` makes none: nothing has come to the second moment."""
    moment = second_moment_of("adam(1e-3)")
    state = states("adam(1e-3)", GRADIENTS)[-1]
    assert moment.preconditioned_rms(state, state) == 0
    zeros = [jax.tree.map(jnp.zeros_like, GRADIENTS[0])] * 2
    assert moment.preconditioned_rms(*states("adam(1e-3)", zeros)[-2:]) == 0
