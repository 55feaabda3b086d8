"""What `--vary` says."""

import pytest

from gan.config import from_mapping
from gan.errors import UsageError
from gan.trainers.population.vary import Axis, grid, parse_axis, set_place

CONFIG = from_mapping(
    {
        "generator_optimizer": "clip_by_global_norm(1.0) | adam(cosine_decay_schedule(2e-4, 500), b1=0.5)",
        "discriminator_optimizer": "optimistic_adam(2e-4, b1=0.5)",
        "regularizers": ("r1", "r2(0.5, every=4)"),
        "dynamics": "lookahead(alternating(2), alpha=0.5)",
    }
)


@pytest.mark.parametrize(
    ("place", "value", "expected"),
    [
        ("discriminator_optimizer.learning_rate", "1e-3", "optimistic_adam(0.001, b1=0.5)"),
        ("discriminator_optimizer.b1", "0.1", "optimistic_adam(0.0002, b1=0.1)"),
        ("discriminator_optimizer.strength", "1e-3", "optimistic_adam(0.0002, b1=0.5, strength=0.001)"),
        ("discriminator_optimizer.learning_rate", "constant_schedule(0.5)", "optimistic_adam(constant_schedule(0.5), b1=0.5)"),
        ("generator_optimizer.max_norm", "2.0", "clip_by_global_norm(2.0) | adam(cosine_decay_schedule(0.0002, 500), b1=0.5)"),
        ("generator_optimizer.adam.learning_rate.init_value", "1.0", "clip_by_global_norm(1.0) | adam(cosine_decay_schedule(1.0, 500), b1=0.5)"),
        ("generator_optimizer.decay_steps", "7", "clip_by_global_norm(1.0) | adam(cosine_decay_schedule(0.0002, 7), b1=0.5)"),
        ("regularizers.r1.weight", "2", ("r1(weight=2)", "r2(0.5, every=4)")),
        ("regularizers.r2.weight", "2", ("r1", "r2(2, every=4)")),
        ("dynamics.inner.discriminator_steps", "3", "lookahead(alternating(3), alpha=0.5)"),
        ("dynamics.alternating.discriminator_steps", "3", "lookahead(alternating(3), alpha=0.5)"),
        ("dynamics", "simultaneous", "simultaneous"),
        ("batch_size", "8", 8),
    ],
)  # fmt: skip
def test_a_place_is_set_and_nothing_else(place, value, expected):
    key = place.partition(".")[0]
    changed = set_place(CONFIG, place, value)
    assert getattr(changed, key) == expected
    assert from_mapping({**vars(changed), key: getattr(CONFIG, key)}) == CONFIG


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ("generator_optimizer.learning_rat", "did you mean 'learning_rate'"),
        ("generator_optimize.b1", "unknown key 'generator_optimize'; did you mean 'generator_optimizer'"),
        ("regularizers.weight", "has 2 of that name: put the name of the part before it"),
        ("regularizers.lecam.weight", "has no lecam.weight"),
        ("batch_size.b1", "batch_size has no arguments"),
        ("seed", "--seeds says how many"),
        ("dynamics.inner.inner.alpha", "has no inner.inner.alpha"),
    ],
)  # fmt: skip
def test_a_place_that_is_not_there(place, words):
    with pytest.raises(UsageError, match=words):
        set_place(CONFIG, place, "1")


def test_axes():
    assert parse_axis("a.b=1e-4,2") == Axis(("a.b",), ("1e-4", "2"))
    assert parse_axis("a.b, c.d=f(1, x=2),g") == Axis(("a.b", "c.d"), ("f(1, x=2)", "g"))
    for text in ("a.b", "a.b=", "=1", "a.b=1,,2", "a.b=(", "a.b=1 2", ""):
        with pytest.raises(UsageError, match=r"KEY.ARGUMENT=VALUE"):
            parse_axis(text)


def test_a_grid_is_every_combination_in_a_folder_of_its_own():
    tied = parse_axis("generator_optimizer.b1,discriminator_optimizer.b1=0.0,0.9")
    found = grid(CONFIG, [tied, parse_axis("dynamics=simultaneous,alternating(2)")], 2)
    assert list(found) == [
        f"b1={b1}_dynamics={dynamics}_seed={seed}"
        for b1 in ("0.0", "0.9")
        for dynamics in ("simultaneous", "alternating-2-")
        for seed in (0, 1)
    ]
    varied, config = found["b1=0.9_dynamics=alternating-2-_seed=1"]
    assert varied == {
        "generator_optimizer.b1": "0.9",
        "dynamics": "alternating(2)",
        "seed": "1",
    }
    assert config.discriminator_optimizer == "optimistic_adam(0.0002, b1=0.9)"
    assert (config.dynamics, config.seed, config.population) == ("alternating(2)", 1, 1)
    with pytest.raises(UsageError, match="the same run is there twice"):
        grid(CONFIG, [parse_axis("batch_size=8,8")])
    with pytest.raises(UsageError, match="at most 10,000 runs"):
        grid(CONFIG, [parse_axis("batch_size=8,9")], 5_001)
