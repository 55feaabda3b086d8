"""Random wrong values for every argument of every part: one line for people, or a part; no hang."""

import contextlib
import inspect
import signal

import pytest

import gan.trainers.experiment  # noqa: F401 - registers all parts
from gan.config import TrainConfig, from_mapping
from gan.errors import UsageError
from gan.registry import REGISTRIES
from gan.trainers.experiment import build
from tests.every import _ARGUMENTS

WRONG = [
    "0", "-1", "-0.5", "1.5", "1000000000000", "2147483647", "-2147483647", "1e400", "-1e400", "1e-300",
    "3e38", "nan", "''", f"'{'x' * 5_000}'", "'1'", "True", "None", "[]", "{}", "(1, 2)", "(None,)",
    "{'a': 1}", "digits", "adam", "1j", "b'x'", "...",
]  # fmt: skip
FEW = ["0", "-1", "2147483647", "1e-300", "3e38", "''", "None", "[]"]
CONTEXT = {"shape": (8, 8, 1), "num_classes": 10}
KEYS = {"generator": "generator", "discriminator": "discriminator", "dynamics": "dynamics"}


@contextlib.contextmanager
def at_most(seconds):
    """Raises TimeoutError in what takes longer."""

    def late(*_):
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


pytestmark = pytest.mark.filterwarnings("ignore:Specifying a key")  # optax's own


def specs(kind, name, values):
    """Yields specs of a part with a wrong value for each argument, by position and by name."""
    parameters = REGISTRIES[kind].parameters(name)
    for wrong in parameters.values():
        others = [
            f"{key}={_ARGUMENTS.get(key, '1')}"
            for key, parameter in parameters.items()
            if parameter.default is inspect.Parameter.empty and key != wrong.name
            and parameter.kind is not parameter.VAR_POSITIONAL
        ]  # fmt: skip
        star = wrong.kind is wrong.VAR_POSITIONAL
        for value in values:
            given = [value] if star else [*others, f"{wrong.name}={value}"]
            yield f"{name}({', '.join(given)})"


def check(text, make):
    """Returns None where a spec makes a part, or the line with which it is refused."""
    try:
        with at_most(10):
            make(text)
    except UsageError as error:
        assert str(error), text
        assert "\n" not in str(error), text
        assert len(str(error)) < 1_500 + 2 * len(text), text
        return str(error)
    except BaseException as error:  # noqa: BLE001
        pytest.fail(f"{text[:200]}: {type(error).__name__}: {error}")
    return None


PARTS = [
    (kind, name)
    for kind, registry in REGISTRIES.items()
    for name in registry
    if registry.parameters(name)
]


@pytest.mark.parametrize(("kind", "name"), PARTS)
def test_a_wrong_value_of_any_argument_is_refused_in_a_line(kind, name):
    registry = REGISTRIES[kind]
    context = CONTEXT if kind in ("generator", "discriminator") else {}
    texts = list(specs(kind, name, WRONG))
    refused = [check(text, lambda text: registry.build(text, **context)) for text in texts]
    assert any(refused)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for kind, name in PARTS if kind == "optimizer"])
def test_an_optimizer_that_is_built_can_be_traced_or_is_refused(name):
    def make(text):
        build(
            TrainConfig(
                dataset="gaussians", generator="mlp(4, 1)", discriminator="mlp(4, 1)",
                generator_optimizer=text,
            )
        )  # fmt: skip

    for text in specs("optimizer", name, FEW):
        check(text, make)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "name"),
    [(kind, name) for kind, name in PARTS if kind in ("generator", "discriminator", "dynamics")],
)
def test_a_run_with_wrong_values_of_its_networks_is_built_or_refused(kind, name):
    for text in specs(kind, name, WRONG):
        check(text, lambda text: build(TrainConfig(**{KEYS[kind]: text})))


@pytest.mark.parametrize("key", TrainConfig.__dataclass_fields__)
@pytest.mark.parametrize(
    "value",
    [0, -1, 10**12, 10**10_000, 1e400, float("nan"), "", "x" * 100_000, "1", True, None, [], {}, [None],
     object(), b"x", "(" * 10_000, "0" * 5_000],
    ids=lambda value: repr(type(value)),
)  # fmt: skip
def test_a_wrong_value_of_any_key_is_refused_in_a_line(key, value):
    check(
        str(value)[:100_000] if isinstance(value, str) else key,
        lambda _: build(from_mapping({key: value})),
    )


def test_an_alarm_ends_what_hangs():
    with pytest.raises(TimeoutError), at_most(0.1):
        while True:
            pass
