"""Schedules of b1 and b2: against the recursion in NumPy, and against constants."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import gan
from gan.errors import UsageError
from gan.optimizers import OPTIMIZERS, trace_update
from gan.scheduled import ScheduledState
from gan.schedules import counted_from

GRADIENTS = np.random.default_rng(0).standard_normal([8, 3])


def moved(optimizer, gradients, steps=None):
    """The parameters after each update, from 1; `steps` are those of the run."""
    params = jnp.ones_like(gradients[0])
    update = optax.with_extra_args_support(optimizer).update
    state, path = optimizer.init(params), []
    for count, gradient in enumerate(gradients):
        with counted_from(None if steps is None else jnp.int32(steps[count])):
            updates, state = update(gradient, state, params, value=jnp.ones([]))
        params = optax.apply_updates(params, updates)
        path.append(params)
    return np.array(path)


def adam_by_hand(b1s, b2s, rate=0.1, eps=1e-8):
    """PyTorch's Adam with `betas` set before each step: Kingma and Ba, 2015, Algorithm 1."""
    w, m, v, path = np.ones(3), np.zeros(3), np.zeros(3), []
    for t, (g, b1, b2) in enumerate(zip(GRADIENTS, b1s, b2s, strict=True), start=1):
        m = b1 * m + (1 - b1) * g
        v = b2 * v + (1 - b2) * g**2
        w = w - rate * (m / (1 - b1**t)) / (np.sqrt(v / (1 - b2**t)) + eps)
        path.append(w)
    return np.array(path)


@pytest.mark.parametrize("name", ["adam", "optimistic_adam"])
def test_adam_with_scheduled_moments_is_the_recursion(x64, name):
    strength = ", strength=0.0" if name == "optimistic_adam" else ""
    optimizer = OPTIMIZERS.build(
        f"{name}(0.1, b1=linear_schedule(0.5, 0.1, 8), b2=linear_schedule(0.9, 0.99, 8){strength})"
    )
    steps = np.arange(8)
    expected = adam_by_hand(0.5 - 0.4 * steps / 8, 0.9 + 0.09 * steps / 8)
    np.testing.assert_allclose(moved(optimizer, jnp.asarray(GRADIENTS)), expected, rtol=1e-6)


def test_the_numbers_are_those_of_the_runs_step(x64):
    """Whatever the optimizer's own count: it is called twice a step here."""
    optimizer = OPTIMIZERS.build("adam(0.1, b1=0, b2=linear_schedule(0.9, 0.99, 8))")
    steps = np.arange(8) // 2 + 3
    expected = adam_by_hand(np.zeros(8), 0.9 + 0.09 * steps / 8)
    np.testing.assert_allclose(moved(optimizer, jnp.asarray(GRADIENTS), steps), expected, rtol=1e-6)


def scheduled_makers():
    for name in OPTIMIZERS:
        parameters = OPTIMIZERS.parameters(name)
        known = [key for key in ("b1", "b2") if key in parameters]
        if known and not name.startswith("schedule_free"):
            needed = parameters.get("learning_rate")
            rate = needed is not None and needed.default is inspect.Parameter.empty
            yield name, "learning_rate=0.1" * rate, known


@pytest.mark.parametrize(("name", "rate", "known"), scheduled_makers())
def test_a_constant_schedule_is_the_constant(name, rate, known):
    words = [rate] * bool(rate)
    plain = OPTIMIZERS.build(f"{name}({', '.join([*words, *(f'{key}=0.75' for key in known)])})")
    spec = f"{name}({', '.join([*words, *(f'{key}=constant_schedule(0.75)' for key in known)])})"
    optimizer, gradients = OPTIMIZERS.build(spec), jnp.asarray(GRADIENTS[:2], jnp.float32)
    try:
        trace_update(optimizer, gradients[0])
    except jax.errors.TracerBoolConversionError:
        assert name == "scale_by_sm3"  # it branches on the value; a config with it is refused
        return
    assert isinstance(optimizer.init(gradients[0]), ScheduledState)
    np.testing.assert_allclose(moved(optimizer, gradients), moved(plain, gradients), rtol=1e-5)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("adam(0.1, b2=linear_schedule(1.5, 0.9, 8))", r"b2 must be in \[0, 1\), given 1.5, its value at step 0"),
        ("optimistic_adam(0.1, b1=linear_schedule(-2, 0, 8))", r"b1 must be in \(-1, 1\), given -2.0"),
        ("adam(0.1, b1='fast')", "b1 must be float or a schedule"),
        ("schedule_free_adamw(0.1, b2=linear_schedule(0.9, 0.99, 8))", "b2 must be float, given 'linear"),
        ("schedule_free_sgd(0.1, b1=linear_schedule(0.9, 0.99, 8))", "b1 must be float, given 'linear"),
    ],
)  # fmt: skip
def test_misuse(spec, words):
    with pytest.raises(UsageError, match=words):
        OPTIMIZERS.build(spec)


def test_an_optimizer_that_cannot_take_one_is_refused_in_a_line():
    config = {
        "dataset": "gaussians", "generator": "mlp(4, 1)", "discriminator": "mlp(4, 1)",
        "generator_optimizer": "scale_by_sm3(b2=linear_schedule(0.9, 0.5, 8)) | scale(-0.1)", "num_steps": 1,
    }  # fmt: skip
    with pytest.raises(UsageError, match="generator_optimizer = 'scale_by_sm3"):
        gan.train(config)
