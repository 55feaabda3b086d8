"""Optimizers by path: each part of a player moves as if its optimizer were alone with it."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import gan
from gan.errors import UsageError
from gan.optimizers import OPTIMIZERS, check_links, rates_of
from gan.schedules import counted_from

RNG = np.random.default_rng(0)
SHAPES = {
    "Dense_0": {"kernel": (3, 2), "bias": (2,)},
    "mapping": {"Dense_0": {"kernel": (2, 2), "bias": (2,)}},
}


def some_tree():
    is_shape = lambda node: isinstance(node, tuple)
    return jax.tree.map(
        lambda shape: jnp.array(RNG.standard_normal(shape)), SHAPES, is_leaf=is_shape
    )


def moved(spec, params, gradients):
    """The parameters after a step for each of the gradients."""
    optimizer = OPTIMIZERS.build(spec)
    state = optimizer.init(params)
    for step, gradient in enumerate(gradients):
        with counted_from(jnp.int32(step)):
            updates, state = optimizer.update(gradient, state, params)
        params = optax.apply_updates(params, updates)
    return params


def test_each_part_moves_by_its_own_optimizer():
    params, gradients = some_tree(), [some_tree() for _ in range(4)]
    rate = "linear_schedule(0.5, 0.0, 4)"
    specs = {
        "others": "adam(0.1)",
        "mapping": f"sgd({rate}, momentum=0.9)",
        "bias": "optimistic_adam(0.2)",
    }
    ours = moved(
        f"by_path({specs['others']}, ('mapping', {specs['mapping']}), ('bias', {specs['bias']}))",
        params, gradients,
    )  # fmt: skip
    alone = {name: moved(spec, params, gradients) for name, spec in specs.items()}
    expected = {
        "Dense_0": {
            "kernel": alone["others"]["Dense_0"]["kernel"],
            "bias": alone["bias"]["Dense_0"]["bias"],
        },
        "mapping": alone["mapping"]["mapping"],  # its biases too: the first that matches
    }
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), ours, expected)


@pytest.mark.parametrize(
    ("pattern", "paths"),
    [
        ("bias", ["Dense_0/bias", "mapping/Dense_0/bias"]),
        ("Dense_*", ["Dense_0/bias", "Dense_0/kernel", "mapping/Dense_0/bias", "mapping/Dense_0/kernel"]),
        ("Dense_0/*", ["Dense_0/bias", "Dense_0/kernel"]),
        ("mapping/*", ["mapping/Dense_0/bias", "mapping/Dense_0/kernel"]),
        ("*/Dense_0/kernel", ["mapping/Dense_0/kernel"]),
        ("[bk]*s", ["Dense_0/bias", "mapping/Dense_0/bias"]),
    ],
)  # fmt: skip
def test_which_parameters_a_pattern_matches(pattern, paths):
    params = some_tree() | {"scale": jnp.ones(1)}
    optimizer = OPTIMIZERS.build(f"by_path(set_to_zero, ({pattern!r}, identity))")
    updates, _ = optimizer.update(params, optimizer.init(params), params)
    found = [
        jax.tree_util.keystr(path, simple=True, separator="/")
        for path, leaf in jax.tree_util.tree_leaves_with_path(updates)
        if leaf.any()
    ]
    assert found == paths


def test_weight_decay_of_all_but_biases():
    """AdamW moves by rate * weight_decay * w besides Adam's step, which is 0 of a gradient of 0."""
    params = some_tree()
    spec = "by_path(adamw(0.1, weight_decay=0.01), ('bias', adamw(0.1, weight_decay=0.0)))"
    after = moved(spec, params, [jax.tree.map(jnp.zeros_like, params)])
    np.testing.assert_allclose(
        after["Dense_0"]["kernel"], (1 - 0.1 * 0.01) * params["Dense_0"]["kernel"], rtol=1e-6
    )
    np.testing.assert_array_equal(after["Dense_0"]["bias"], params["Dense_0"]["bias"])


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("by_path(adam(1.0), ('maping', adam(1.0)))", "no parameter matches 'maping'; did you mean 'mapping'"),
        ("by_path(adam(1.0), ('zzz', adam(1.0)))", "names are Dense_0, bias, kernel, mapping"),
        ("by_path(adam(1.0), ('Dense_0', sgd(1.0)), ('bias', sgd(1.0)))", "all that 'bias' matches is in"),
        ("by_path(adam(1.0), ('*', sgd(1.0)))", "none is left"),
        ("by_path(adam(1.0), bias=sgd(1.0))", r"unknown argument 'bias'; it is by_path\(others, \*parts"),
        ("by_path(adam(1.0), (sgd(1.0), 'bias'))", r"must be a tuple of str.*given \('sgd', 'bias'\)"),
        ("by_path(adam(1.0), ('bias', schedule_free_sgd(1.0)))", "schedule-free optimizer must be the last"),
    ],
)  # fmt: skip
def test_misuse(spec, words):
    with pytest.raises(UsageError, match=words):
        check_links(spec, OPTIMIZERS.build(spec).init(some_tree()))


def test_rates_by_part():
    spec = (
        "clip_by_global_norm(1.0) | by_path(adam(linear_schedule(1.0, 0.0, 10)),"
        "('mapping', optimistic_adam(0.1, strength=0.2)), ('bias', set_to_zero))"
    )
    assert rates_of(spec).at(3) == pytest.approx(
        {"learning_rate": 0.7, "learning_rate/mapping": 0.1, "strength/mapping": 0.2}
    )
    assert rates_of(spec).has_schedule
    twice = "by_path(scale(-1.0), ('bias', sgd(0.1))) | by_path(scale(-1.0), ('bias', sgd(0.2)))"
    assert rates_of(twice).at(0) == {}  # which of them?


CONFIG = {
    "dataset": "gaussians", "generator": "mlp(4, 1)", "discriminator": "mlp(4, 1)", "batch_size": 8, "num_steps": 4, "log_every_steps": 1, "sample_every_steps": 0, "mesh": "data(1)",
    "generator_optimizer": "by_path(adam(1e-3), ('bias', adam(linear_schedule(1e-2, 0.0, 10))))",
}  # fmt: skip


def test_a_run_logs_each_rate_also_after_a_resume(tmp_path):
    gan.train(CONFIG | {"num_steps": 2}, tmp_path / "run")
    run = gan.train(CONFIG, tmp_path / "run")
    last = run.metrics[-1]
    assert last["learning_rate/generator"] == pytest.approx(1e-3)
    assert last["learning_rate/generator/bias"] == pytest.approx(7e-3)
    history = (tmp_path / "run" / "history.jsonl").read_text()
    assert "learning rate of the generator (bias) 0.008" in history


def test_a_pattern_that_matches_nothing_is_refused_before_any_work(tmp_path):
    wrong = CONFIG | {"generator_optimizer": "by_path(adam(1e-3), ('Dense_O', adam(1e-4)))"}
    with pytest.raises(UsageError, match=r"generator_optimizer = .*did you mean 'Dense_"):
        gan.train(wrong, tmp_path / "run")
    assert not (tmp_path / "run").exists()
