import pytest
from hypothesis import given
from hypothesis import strategies as st

from gan.errors import UsageError
from gan.specs import Spec, map_numbers, numbers_by_name, parse, to_text
from tests.every import every_optimizer

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
    st.integers(-(2**31) + 1, 2**31 - 1),
    st.floats(allow_nan=False, allow_infinity=False, width=32),
    st.booleans(),
    st.none(),
    st.text(max_size=8),
    st.tuples(st.integers(0, 9), st.text(max_size=3)),
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


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("lookahead(" * 10_000 + ")" * 10_000, "it has 110,000 characters, 10,000 are accepted"),
        ("sgd(" + "x" * 1_000_000 + ")", "it has 1,000,005 characters"),
        ("lookahead(" * 50 + ")" * 50, "at most 20 within one another"),
        ("lookahead(" * 900 + ")" * 900, "is not a spec"),
        ("sgd(" + "-" * 9_000 + "1)", "is not a spec|too deep"),
        ("sgd(" + "+".join("1" * 4_000) + ")", "is not a spec|too deep"),
        ("|".join("a" * 4_000), "100 links at most|is not a spec"),
        ("a" + ".b" * 4_000, "is not a spec|too deep"),
        ("sgd(" + "1" * 10_000 + ")", "is not a spec"),
        ("sgd(" + "1" * 4_000 + ")", "integers must be below 2147483648"),
        ("sgd(-2147483648)", "integers must be below 2147483648, given 2147483648"),
        ("sgd(1e400)", "numbers must be at most 3.4e\\+38, given 1e309"),
        ("sgd(-1e39)", "numbers must be at most"),
        ("sgd((1, [1e400]))", "numbers must be at most"),
        (", ".join("a" * 3_000), "each is in quotes"),
    ],
)
def test_what_is_too_large_is_refused_in_a_short_line(text, words):
    with pytest.raises(UsageError, match=words) as error:
        parse(text)
    assert len(str(error.value)) < 1_000
    assert "\n" not in str(error.value)


def test_several_in_one_text_are_refused_with_how_to_write_them():
    with pytest.raises(UsageError) as error:
        parse("r1(0.5), r2(weight=0.5)")
    assert str(error.value).endswith("in quotes: ('r1(0.5)', 'r2(weight=0.5)')")


def test_twenty_specs_within_one_another():
    assert parse("lookahead(" * 19 + "a" + ")" * 19)[0].name == "lookahead"


@pytest.mark.parametrize("spec", every_optimizer())
def test_what_is_written_is_what_was_parsed(spec):
    assert parse(to_text(parse(spec))) == parse(spec)


def test_numbers_in_a_spec_by_name():
    chain = parse("a(1, 2.5, b=(c(-3), 'x'), d=True) | e")
    found: list[float] = []
    named = map_numbers(chain, lambda number: found.append(number) or Spec(f"n{len(found)}"))
    assert found == [1, 2.5, -3]
    assert to_text(named) == "a(n1, n2, b=(c(n3), 'x', ), d=True) | e"
    with numbers_by_name({"n1": 1, "n2": 2.5, "n3": -3}):
        assert parse(to_text(named)) == chain
    assert parse(to_text(named)) == named
