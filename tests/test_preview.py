"""A first look at a dataset, in words and in a picture."""

import dataclasses

import numpy as np
from PIL import Image

from gan.data import preview
from gan.data.dataset import Dataset, Examples
from gan.image_grid import image_grid


def sorted_by_class():
    """Images of shades that tell them apart; class 1 of four has none, class 3 only two."""
    labels = np.repeat(np.array([0, 2, 3], np.int32), [100, 100, 2])
    images = np.arange(202, dtype=np.uint8).reshape(-1, 1, 1, 1) * np.ones([1, 8, 8, 1], np.uint8)
    examples = Examples(images, labels)
    names = ("ant", "bee", "cat", "dog")
    return Dataset("pets", (8, 8, 1), 4, lambda: examples, class_names=names), examples


def test_classes_take_turns_and_have_their_names(tmp_path):
    dataset, examples = sorted_by_class()
    preview.preview(dataset, examples, str(tmp_path / "look.png"))
    # 16 of each class, where there are so many, at equal distances
    spread = [0, 6, 12, 18, 25, 31, 37, 43, 50, 56, 62, 68, 75, 81, 87, 93]
    places = [0, 100, 200, 6, 106, 201]
    for i in spread[2:]:
        places += [i, 100 + i]
    names = [dataset.names[examples.labels[place]] for place in places]
    with Image.open(tmp_path / "look.png") as picture:
        expected = image_grid(examples.examples[places], names)[..., 0]
        np.testing.assert_array_equal(np.asarray(picture), expected)


def test_the_words_end_with_the_classes():
    dataset, examples = sorted_by_class()
    assert preview.summary(dataset, examples).splitlines() == [
        "pets: 202 examples of 8 x 8 x 1",
        "  uint8, from 0 to 201, mean 100.5",
        "  4 classes: ant (100), bee (0), cat (100), dog (2)",
        "  1 of 4 classes has no example: bee",
    ]
    unnamed = dataclasses.replace(dataset, class_names=())
    assert "  4 classes: 0 (100), 1 (0)" in preview.summary(unnamed, examples)
