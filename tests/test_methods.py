"""Methods of a comparison by their lines."""

import pytest

from gan.config import TrainConfig
from gan.errors import UsageError
from gan.trainers.comparison.methods import default_methods, is_usual, parse_methods

BASE = TrainConfig(generator="mlp(4, 1)", discriminator="mlp(4, 1)")


def test_a_line_becomes_config_keys():
    (method,) = parse_methods(
        ["mine: dynamics=alternating(2); optimizer=optimistic_adam({lr}, b1=0); num_steps=30"]
    )
    config = method.config(BASE, 5e-4)
    assert (method.name, method.has_rate, config.num_steps) == ("mine", True, 30)
    assert config.dynamics == "alternating(2)"
    assert config.generator_optimizer == "optimistic_adam(0.0005, b1=0)"
    assert config.discriminator_optimizer == config.generator_optimizer
    assert config.loss == BASE.loss
    (fixed,) = parse_methods(["a: generator_optimizer=adam(1e-3); averaging=('ema(decay=0.9)',)"])
    assert not fixed.has_rate
    assert fixed.config(BASE, None).averaging == ("ema(decay=0.9)",)


def test_the_default_ones_are_all_combinations_and_each_has_a_folder_of_its_own():
    methods = parse_methods(["default"])
    assert methods == list(default_methods().values())
    configs = [method.config(BASE, 1e-3) for method in methods]
    combinations = {(config.dynamics, config.generator_optimizer) for config in configs}
    assert len(combinations) == len(methods) == len({method.folder for method in methods})
    for optimizer in ("adam", "optimistic_adam"):
        for b1 in (0.5, 0.0):
            for dynamics in ("simultaneous", "alternating"):
                spec = f"{optimizer}(0.001, b1={b1})"
                assert (dynamics, spec) in combinations
                assert (f"lookahead({dynamics})", spec) in combinations
    for dynamics in ("extragradient", "past_extragradient", "lookahead(extragradient)"):
        assert (dynamics, "adam(0.001, b1=0.0)") in combinations
    assert sum(map(is_usual, configs)) == 4


def test_default_ones_by_name_beside_others():
    names = [own.name for own in parse_methods(["alternating adam b1=0.5", "mine: loss=hinge"])]
    assert names == ["alternating adam b1=0.5", "mine"]
    assert len(parse_methods(["default", "mine: loss=hinge"])) == len(default_methods()) + 1


@pytest.mark.parametrize(
    ("texts", "words"),
    [
        (["dynamics=alternating"], "'NAME: KEY=VALUE; KEY=VALUE'"),
        (["alternating adam b1=.5"], "did you mean 'alternating adam b1=0.5'"),
        ([": loss=hinge"], "'NAME: KEY=VALUE; KEY=VALUE'"),
        (["...: loss=hinge"], "'NAME: KEY=VALUE; KEY=VALUE'"),
        (["a: dynamcs=sga"], "'dynamcs' is no config key; did you mean 'dynamics'"),
        (["a: optimiser=adam({lr})"], "did you mean 'optimizer'"),
        (["a: loss"], "KEY=VALUE is accepted, given 'loss'"),
        (["a: loss="], "KEY=VALUE is accepted, given 'loss='"),
        (["a: loss=hinge; loss=minimax"], "loss is set twice"),
        (["a: optimizer=adam({lr}); generator_optimizer=sgd(1e-3)"], "is set twice"),
        (["a: batch_size=32"], "'batch_size' is the same for all methods"),
        (["a: seed=3"], "'seed' is the same for all methods"),
        (["a: dataset=mnist"], "'dataset' is the same for all methods"),
        (["a: eval_num_images=50"], "'eval_num_images' is the same for all methods"),
        (["a: loss=hinge", "a: loss=minimax"], "'a': there is one of this name already"),
        (["a b: loss=hinge", "A  b: loss=minimax"], "'A  b': there is one of this name already, 'a b'"),
        (["default", "alternating adam b1=0.5"], "one of this name already"),
    ],
)  # fmt: skip
def test_what_is_no_method(texts, words):
    with pytest.raises(UsageError) as error:
        parse_methods(texts)
    assert words in str(error.value)
    assert str(error.value).startswith("--method ")
    assert "\n" not in str(error.value)


def test_a_value_that_a_key_cannot_have_names_the_method():
    (method,) = parse_methods(["a: latent_dim=many"])
    with pytest.raises(UsageError, match="--method 'a': config: latent_dim must be int"):
        method.config(BASE, None)
