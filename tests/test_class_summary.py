"""The words for the classes of a dataset."""

import pytest

from gan.data.class_summary import describe_classes


def numbers(count):
    return tuple(map(str, range(count)))


@pytest.mark.parametrize(
    ("names", "counts", "lines"),
    [
        (["cat", "dog"], [2_000, 10], ["2 classes: cat (2,000), dog (10)"]),
        (["0"], [7], ["1 class: 0 (7)"]),
        (["a", "b", "c"], [1, 0, 2], ["3 classes: a (1), b (0), c (2)", "1 of 3 classes has no example: b"]),
        (numbers(13), [5] * 13, ["13 classes: 0, 1, 2, ..., 12; 5 examples of each"]),
        (
            numbers(37), [0, *[4_800] * 25, 1, *[0] * 10],
            [
                "37 classes: 0, 1, 2, ..., 36; 0 to 4,800 examples of each",
                "11 of 37 classes have no example: 0, 27..36",
            ],
        ),
    ],
)  # fmt: skip
def test_classes_in_words(names, counts, lines):
    assert describe_classes(names, counts) == lines


def test_classes_without_examples_are_named_briefly():
    """Two neighbours are two names, three are a range, and after 12 of these it is enough."""
    few = describe_classes(numbers(20), [i not in (1, 2, 5, 6, 7) for i in range(20)])
    assert few[1].endswith("have no example: 1, 2, 5..7")
    many = describe_classes(numbers(1_000), [i % 2 for i in range(1_000)])
    shown = ", ".join(str(2 * i) for i in range(12))
    assert many[1] == f"500 of 1,000 classes have no example: {shown}, ..."
