import inspect
import math
import re
from dataclasses import dataclass
from typing import Annotated

import pytest
from hypothesis import given
from hypothesis import strategies as st

import gan.trainers.experiment  # noqa: F401 - registers all parts
from gan.annotations import hints_of
from gan.argument_bounds import Above, AtLeast, BoundedFields, Within, bounds_of, broken_bound
from gan.errors import UsageError
from gan.registry import REGISTRIES, Registry


@given(st.floats(), st.floats(allow_nan=False), st.floats(allow_nan=False))
def test_a_bound_is_its_inequality(value, low, high):
    assert AtLeast(low).admits(value) == (value >= low)
    assert Above(low).admits(value) == (value > low)
    assert Within(low, high).admits(value) == (low <= value <= high)
    assert Within(low, high, open_end=True).admits(value) == (low <= value < high)


def test_nan_is_within_no_bound():
    for bound in (AtLeast(-math.inf), Above(-math.inf), Within(-math.inf, math.inf)):
        assert not bound.admits(math.nan)


@pytest.mark.parametrize(
    ("hint", "good", "bad"),
    [
        (Annotated[int, AtLeast(1)], 1, 0),
        (Annotated[float, Above(0)] | None, None, 0.0),
        (Annotated[float, Within(0, 1, open_end=True)], 0.0, 1.0),
        (tuple[Annotated[float, AtLeast(0)], ...], (0.0, 2.0), (1.0, -1.0)),
    ],
)
def test_bounds_within_other_annotations(hint, good, bad):
    assert len(bounds_of(hint)) == 1
    assert broken_bound(good, hint) is None
    assert broken_bound(bad, hint) == bounds_of(hint)[0]


def test_a_dataclass_that_is_built_directly_is_checked_too():
    @dataclass
    class Part(BoundedFields):
        steps: Annotated[int, AtLeast(1)] = 5

    assert Part(1).steps == 1
    with pytest.raises(ValueError, match="steps must be at least 1, given 0"):
        Part(0)


def broken_values(bound):
    match bound:
        case AtLeast(least):
            return [least - 1, math.nan]
        case Above(limit):
            return [limit, math.nan]
        case Within(least, most, open_end):
            return [least - 1, most if open_end else most + 1, math.nan]


EVERY = [
    (kind, name, parameter, bound)
    for kind, registry in REGISTRIES.items()
    for name in registry
    for parameter in registry.parameters(name)
    for bound in bounds_of(hints_of(registry.maker(name)).get(parameter))
]


def test_many_parts_have_bounds():
    assert len(EVERY) > 30
    assert {kind for kind, *_ in EVERY} >= {"dynamics", "averaging", "regularizer", "generator"}


@pytest.mark.parametrize(("kind", "name", "parameter", "bound"), EVERY)
def test_every_bound_of_every_part_is_checked_and_listed(kind, name, parameter, bound):
    registry = REGISTRIES[kind]
    assert f"{parameter} {bound}" in registry.bounds(name)
    required = [
        key
        for key, value in registry.parameters(name).items()
        if value.default is value.empty and key != parameter
    ]
    if required:
        pytest.skip(f"needs {required}")
    for value in broken_values(bound):
        if not isinstance(value, float) or not math.isnan(value):
            with pytest.raises(UsageError, match=f"{parameter} must be ") as error:
                registry.build(f"{name}({parameter}={value})")
            assert "\n" not in str(error.value)


CLASSES = [case for case in EVERY if inspect.isclass(REGISTRIES[case[0]].maker(case[1]))]


@pytest.mark.parametrize(("kind", "name", "parameter", "bound"), CLASSES)
def test_every_class_checks_its_bounds_without_a_spec_too(kind, name, parameter, bound):
    network = kind in ("generator", "discriminator")
    context = {"shape": (8, 8, 1), "num_classes": 10} if network else {}
    needed = {"best": {"metric": "fid"}, "ema_images": {"batch_size": 8}}
    for value in broken_values(bound):
        with pytest.raises(ValueError, match=f"{parameter} must be {re.escape(str(bound))}"):
            REGISTRIES[kind].maker(name)(**context, **needed.get(name, {}), **{parameter: value})


def test_a_registry_knows_the_bounds_of_what_is_registered_from_outside():
    things: Registry[float] = Registry("thing of this test", float)
    try:

        @things.register("half")
        def half(of: Annotated[float, AtLeast(2)] = 4.0) -> float:
            return of / 2

        assert things.build("half(2)") == 1
        with pytest.raises(UsageError, match="half: of must be at least 2, given 1"):
            things.build("half(of=1)")
        assert things.bounds("half") == "of at least 2"
    finally:
        del REGISTRIES["thing of this test"]
