"""Bounds of optax's arguments refuse what makes no sense, and nothing that does."""

import inspect
import re

import pytest

from gan.annotations import hints_of
from gan.argument_bounds import bounds_of
from gan.errors import UsageError
from gan.optimizers import OPTIMIZERS
from gan.schedules import SCHEDULES
from tests.every import every_optimizer

BUILT = [
    "adam(0.0)", "adam(0.1, b1=-0.5)", "sgd(0.1, momentum=-0.5)", "scale(-0.1)", "trace(-0.9)",
    "sm3(0.1)", "scale_by_sm3(b2=1.0)", "optimistic_adam_v2(0.1, beta=1.0)",
    "scale_by_optimistic_gradient(-0.1)", "sgd(linear_schedule(0.1, 0.0, 0))", "adam(1)",
    "sgd(exponential_decay(0.1, 10, 1.5))", "add_decayed_weights(0.0)", "schedule_free_sgd(b1=1.0)",
    "adadelta", "adafactor(momentum=None)", "sgd(warmup_cosine_decay_schedule(0, 0.1, 0, 10))",
    "lion(0.1, weight_decay=0)", "prodigy(betas=(0.9, 0.99))",
]  # fmt: skip
REFUSED = {
    "adam(-0.1)": "learning_rate must be at least 0, given -0.1",
    "adam(0.1, b1=2)": r"b1 must be in \(-1, 1\), given 2",
    "adam(0.1, b2=1.0)": r"b2 must be in \[0, 1\), given 1.0",
    "optimistic_adam(-0.1)": "learning_rate must be at least 0",
    "optimistic_adam(0.1, b1=2)": r"b1 must be in \(-1, 1\), given 2",
    "adam(0.1, eps=-1e-8)": "eps must be at least 0",
    "adamw(0.1, weight_decay=-1)": "weight_decay must be at least 0",
    "adamw(0.1, weight_decay=1e400)": "numbers must be at most",
    "sgd(0.1, momentum=1.0)": r"momentum must be in \(-1, 1\)",
    "rmsprop(0.1, decay=1.5)": r"decay must be in \[0, 1\)",
    "sgd(cosine_decay_schedule(0.1, -5))": "decay_steps must be at least 1",
    "sgd(linear_schedule(0.1, 0, -5))": "transition_steps must be at least 0",
    "schedule_free_sgd(b1=2.0)": r"b1 must be in \(0, 1\]",
    "clip_by_global_norm(-1.0)": "max_norm must be at least 0",
    "clip_weights(-1.0)": "max_abs must be at least 0",
    "prodigy(betas=(2.0, 0.9))": r"betas must be in \[0, 1\)",
    "muon(0.1, ns_steps=1_000_000)": r"ns_steps must be in \[1, 100\]",
    "amsgrad('0.1')": "learning_rate must be float",
}


@pytest.mark.parametrize("text", BUILT)
def test_what_optax_means_is_built(text):
    OPTIMIZERS.build(text)


@pytest.mark.parametrize(("text", "words"), REFUSED.items())
def test_what_no_optimizer_means_is_refused(text, words):
    with pytest.raises(UsageError, match=words):
        OPTIMIZERS.build(text)


def test_every_default_meets_its_bounds_and_every_rate_has_one():
    for name in (*OPTIMIZERS, *SCHEDULES):
        owner = OPTIMIZERS.owner(name)
        hints = hints_of(owner.maker(name))
        for key, parameter in owner.parameters(name).items():
            bounds = bounds_of(hints.get(key))
            if isinstance(parameter.default, int | float):
                assert all(bound.admits(parameter.default) for bound in bounds), (name, key)
            if re.search("learning_rate|^eps(_root)?$|weight_decay(_rate)?$|^b1$", key):
                assert bounds, (name, key)
            if parameter.default is inspect.Parameter.empty and key == "learning_rate":
                assert f"{key} at least 0" in OPTIMIZERS.bounds(name)


def test_every_optimizer_is_still_built():
    assert len(every_optimizer()) == len(list(OPTIMIZERS)) + len(list(SCHEDULES))
