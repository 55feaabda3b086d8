import pytest
from hypothesis import given
from hypothesis import strategies as st

from gan.errors import UsageError
from gan.specs import Spec, parse

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


@pytest.mark.parametrize("text", ["emnist/letters", "emnist/letters()", " emnist / letters "])
def test_a_variant_of_a_name(text):
    assert parse(text) == (Spec("emnist/letters"),)


def test_a_word_that_python_keeps_for_itself_is_a_name():
    assert parse("raise") == (Spec("raise"),)
