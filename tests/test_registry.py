import importlib
import re
from dataclasses import dataclass
from typing import Literal

import pytest

from gan.annotations import matches
from gan.augmentation import DATA_AUGMENTATIONS, DISCRIMINATOR_AUGMENTATIONS
from gan.errors import UsageError
from gan.losses import LOSSES
from gan.registry import Registry


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
        (
            "number",
            ["number is no shape by itself, at most an argument of one: it makes float, not Shape"],
        ),
        ("square(1) | square(2)", ["shape is one name, without '|'"]),
    ],
)
def test_errors_say_what_was_given_and_what_is_accepted(shapes, text, words):
    with pytest.raises(UsageError) as error:
        shapes.build(text)
    for word in words:
        assert word in str(error.value)
    assert "\n" not in str(error.value)


@pytest.fixture
def borrowers() -> Registry[Shape]:
    """Shapes whose sizes may be names of another registry, which has a `square` too."""
    sizes: Registry[float] = Registry("size", float)
    registry: Registry[Shape] = Registry("lent shape", Shape, lender=sizes, adapt=abs)

    @sizes.register("minus")
    def minus(size: float, colour: str = "none") -> float:
        return -size if colour == "none" else 0.0

    @sizes.register("square")
    def squared(size: float) -> float:
        return size**2

    @registry.register("square")
    def square(size: float | Shape) -> Shape:
        return Shape("square", size)

    return registry


def test_a_name_is_looked_up_at_the_lender_where_the_registry_does_not_have_it(borrowers):
    assert borrowers.build("square(minus(3))") == Shape("square", 3)  # adapted
    assert borrowers.build("square(minus(square(3)))") == Shape("square", 9)  # the lender's own
    assert borrowers.build("square(square(3))") == Shape("square", Shape("square", 3))
    assert borrowers.build("square(minus(3))", colour="red") == Shape("square", 3)  # no context
    assert borrowers.owner("minus").kind == "size"
    assert borrowers.owner("square") is borrowers.owner("unknown") is borrowers


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("minus(3)", "minus is no lent shape by itself, at most an argument of one"),
        ("square(mynus(3))", "unknown lent shape 'mynus'; did you mean 'minus'?"),
        ("square(minus(zzz))", "unknown size 'zzz'; known: minus, square"),
        ("square(zzz)", "unknown lent shape 'zzz'; known: square"),
    ],
)
def test_messages_about_names_of_the_lender(borrowers, text, words):
    with pytest.raises(UsageError, match=re.escape(words)):
        borrowers.build(text)


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


def test_a_new_file_in_a_folder_of_parts_is_found(tmp_path, monkeypatch):
    package = tmp_path / "folder_of_parts"
    package.mkdir()
    (package / "__init__.py").write_text(
        "from gan.registry import import_all\n\nimport_all(__name__, __path__)\n"
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


def test_a_name_of_another_kind_is_said_to_be_one():
    wrong = (DATA_AUGMENTATIONS, "none", "discriminator augmentation"), (
        DISCRIMINATOR_AUGMENTATIONS, "flip", "data augmentation"
    )  # fmt: skip
    for registry, name, kind in wrong:
        message = f"^unknown {registry.kind} '{name}'; it is of another kind: {kind}$"
        with pytest.raises(UsageError, match=message):
            registry.build(name)
