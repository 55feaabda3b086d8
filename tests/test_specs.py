import importlib
from dataclasses import dataclass
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gan.errors import UsageError
from gan.losses import LOSSES
from gan.specs import Registry, Spec, matches, parse

names = st.from_regex(r"[a-z][a-z_0-9]{0,8}", fullmatch=True).filter(
    lambda name: (
        name not in ("if", "in", "is", "as", "or", "and", "def", "del", "for", "not", "try")
        and name not in ("from", "pass", "with", "elif", "else", "while", "yield", "break", "class")
        and name
        not in ("raise", "async", "await", "import", "lambda", "assert", "global", "except")
        and name not in ("return", "finally", "nonlocal", "continue")
    )
)
literals = st.one_of(
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.booleans(),
    st.none(),
    st.text(max_size=8),
    st.tuples(st.integers(), st.text(max_size=3)),
)
specs = st.recursive(
    st.builds(Spec, names),
    lambda inner: st.builds(
        Spec,
        names,
        st.lists(literals | inner, max_size=3).map(tuple),
        st.dictionaries(names, literals | inner, max_size=3).map(lambda d: tuple(d.items())),
    ),
    max_leaves=5,
)


def unparse(value: object) -> str:
    if isinstance(value, Spec):
        args = [unparse(arg) for arg in value.args]
        args += [f"{name}={unparse(arg)}" for name, arg in value.kwargs]
        return f"{value.name}({', '.join(args)})"
    return repr(value)


@given(st.lists(specs, min_size=1, max_size=4))
def test_parse_reads_what_was_written(chain):
    assert parse(" | ".join(map(unparse, chain))) == tuple(chain)


@pytest.mark.parametrize(
    "text",
    ["", "adam(", "1e-4", "adam(1e-4) + sgd(1)", "adam(x.y)", "adam(**{})", "f()()", "a.b(1)",
     "adam(__import__('os').system('true'))", "adam([i for i in (1, 2)])", "adam(lambda: 1)"],
)  # fmt: skip
def test_what_is_no_spec_is_refused(text):
    with pytest.raises(UsageError):
        parse(text)


@dataclass(frozen=True)
class Shape:
    kind: str
    size: float = 1.0
    inner: object = None


@pytest.fixture
def shapes() -> Registry[Shape]:
    registry: Registry[Shape] = Registry("shape", Shape, context=("colour",))

    @registry.register("square")
    def square(size: float, name: str = "x", *, colour: str = "red") -> Shape:
        if size < 0:
            raise ValueError(f"size must be 0 or more, given {size}")
        return Shape(f"{colour} square", size)

    @registry.register("frame")
    def frame(inner: Shape, layout: Literal["wide", "tall"] = "wide") -> Shape:
        return Shape(f"{layout} frame", inner=inner)

    @registry.register("number")
    def number() -> float:
        return 1.0

    return registry


def test_build_passes_arguments_context_and_nested_specs(shapes):
    assert shapes.build("square(2)") == Shape("red square", 2)
    assert shapes.build("square(size=2)", colour="blue") == Shape("blue square", 2)
    assert shapes.build("frame(square(3), layout='tall')", colour="blue") == Shape(
        "tall frame", inner=Shape("blue square", 3)
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("sqare(1)", ["unknown shape 'sqare'", "did you mean 'square'?"]),
        ("zzz", ["unknown shape 'zzz'", "frame, number, square"]),
        ("square(1, sise=2)", ["unknown argument 'sise'", "did you mean 'size'?"]),
        ("square()", ["missing", "'size'", "square(size, name='x')"]),
        ("square(1, 'a', 'b')", ["too many", "square(size, name='x')"]),
        ("square('big')", ["size must be float", "'big'"]),
        ("square(True)", ["size must be float", "True"]),
        ("square(-1)", ["size must be 0 or more, given -1"]),
        ("square(1, colour='red')", ["unknown argument 'colour'"]),
        ("frame(square(1), layout='round')", ["'wide' or 'tall'", "'round'"]),
        ("frame(3)", ["inner must be Shape", "3"]),
        ("square(1, name=big)", ["name must be in quotes: name='big'"]),
        ("square(size=1, size=2)", ["'size' is given twice"]),
        ("frame(number)", ["inner must be Shape", "'number'"]),
        ("number", ["number is an argument of shapes, not one by itself"]),
        ("square(1) | square(2)", ["shape is one name, without '|'"]),
    ],
)
def test_errors_say_what_was_given_and_what_is_accepted(shapes, text, words):
    with pytest.raises(UsageError) as error:
        shapes.build(text)
    for word in words:
        assert word in str(error.value)
    assert "\n" not in str(error.value)


def test_usage_shows_the_signature(shapes):
    assert shapes.usage("square") == "square(size, name='x')"
    assert shapes.usage("number") == "number"


@pytest.mark.parametrize(
    ("value", "hint", "fits"),
    [
        (1, float, True), (1.5, int, False), (True, int, False), (None, int | None, True),
        ("a", Literal["a", "b"], True), ("c", Literal["a", "b"], False),
        (("a", "b"), tuple[str, ...], True), (("a", 1), tuple[str, ...], False),
        ((1, 2), tuple[int, int], True), ((1, 2, 3), tuple[int, int], False), ("a", tuple, False),
    ],
)  # fmt: skip
def test_matches(value, hint, fits):
    assert matches(value, hint) is fits


@pytest.mark.parametrize("text", ["emnist/letters", "emnist/letters()", " emnist / letters "])
def test_a_variant_of_a_name(text):
    assert parse(text) == (Spec("emnist/letters"),)


def test_a_word_that_python_keeps_for_itself_is_a_name():
    assert parse("raise") == (Spec("raise"),)


def test_a_new_file_in_a_folder_of_parts_is_found(tmp_path, monkeypatch):
    package = tmp_path / "folder_of_parts"
    package.mkdir()
    (package / "__init__.py").write_text(
        "from gan.specs import import_all\n\nimport_all(__name__, __path__)\n"
    )
    (package / "new_loss.py").write_text(
        "from gan.losses import LOSSES, hinge\n\nLOSSES.register('of_a_new_file')(hinge)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    importlib.import_module("folder_of_parts")
    try:
        assert "of_a_new_file" in LOSSES
    finally:
        del LOSSES._makers["of_a_new_file"]
