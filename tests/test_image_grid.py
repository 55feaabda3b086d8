import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageFont

from gan.image_grid import grid_labels, image_grid, scatter, write_png


def test_a_grid_holds_each_image_in_its_place():
    images = np.arange(6, dtype=np.uint8).reshape(6, 1, 1, 1) * np.ones([1, 128, 128, 3], np.uint8)
    grid = image_grid(images)
    assert grid.shape == (2 * 129 + 1, 3 * 129 + 1, 3)
    for i in range(6):
        top, left = (i // 3) * 129 + 1, (i % 3) * 129 + 1
        assert (grid[top : top + 128, left : left + 128] == i).all()
    assert (grid[0] == 255).all()


def test_small_images_are_enlarged_and_the_grid_is_square():
    grid = image_grid(np.zeros([64, 8, 8, 1], np.uint8))
    assert 500 < grid.shape[0] == grid.shape[1] < 600


def numbered(count, size=48, channels=1):
    """Image i is of the shade i, which is no shade of a caption's background."""
    shades = np.arange(count, dtype=np.uint8).reshape(count, 1, 1, 1)
    return shades * np.ones([1, size, size, channels], np.uint8)


def table(grid, size):
    """Reads which image is in each place of a grid of large images; None is an empty place."""
    cells = grid[1 + 13 :: size + 1 + 13, 1 :: size + 1, 0].tolist()
    return [[None if shade == 255 else shade for shade in row] for row in cells]


def strip_is_blank(grid, row, column, size):
    top, left = row * (size + 14) + 1, column * (size + 1) + 1
    return bool((grid[top : top + 13, left : left + size] == 255).all())


def test_few_classes_begin_rows_of_their_own():
    captions = ["a"] * 3 + ["b"] * 5 + ["c"] * 4
    for channels in (1, 3):
        grid = image_grid(numbered(12, 512, channels), captions)
        assert table(grid, 512) == [
            [0, 1, 2, None], [3, 4, 5, 6], [7, None, None, None], [8, 9, 10, 11],
        ]  # fmt: skip
        shown = [
            [not strip_is_blank(grid, row, column, 512) for column in (0, 1)] for row in range(4)
        ]
        assert shown == [[True, False]] * 4, "a caption stands at the beginning of its rows"


def test_many_classes_flow_in_one_square():
    """And so do few of one image each, which would be a tower."""
    for count, wide in [(5, 3), (12, 4), (13, 4), (37, 7)]:
        grid = image_grid(numbered(count, 512), [f"class {i}" for i in range(count)])
        rows = table(grid, 512)
        assert {len(row) for row in rows} == {wide}
        assert [shade for row in rows for shade in row][:count] == list(range(count))
        assert not any(strip_is_blank(grid, *divmod(i, wide), 512) for i in range(count))


def test_a_caption_extends_over_those_that_would_repeat_it_and_no_further():
    name = "a name of some length" * 4
    alone = image_grid(numbered(16, 64), [name] * 8 + ["b"] * 8)
    pair = image_grid(numbered(16, 64), [name, "b"] * 8)
    scale, gap = 2, 1
    cell = 64 * scale + gap
    strip = np.s_[gap : gap + 13]
    assert (alone[strip, cell : 2 * cell] < 128).any(), "it goes on above the next image"
    assert (pair[strip, gap + 64 * scale : gap + cell] == 255).all(), "the gap to the next is free"
    width = gap + np.flatnonzero((pair[strip, gap:cell, 0] < 128).any(axis=0)).max()
    assert cell - 14 < width <= cell, "nearly all of the width is used"
    np.testing.assert_array_equal(pair[strip, gap : gap + 60], alone[strip, gap : gap + 60])


@pytest.mark.parametrize("old_font", [False, True])
@given(text=st.text(st.characters(exclude_categories=())))
def test_any_text_is_a_caption(old_font, text):
    """Also in the font that Pillow has without FreeType, and before 10.1."""
    with pytest.MonkeyPatch.context() as patch:
        if old_font:
            patch.setattr(ImageFont, "load_default", ImageFont.load_default_imagefont)
        plain, named = (image_grid(numbered(1, 8), [caption]) for caption in ("", text))
    assert plain.shape == named.shape
    np.testing.assert_array_equal(plain[14 + 32 :], named[14 + 32 :])


def test_letters_with_accents_are_read():
    draw = [image_grid(numbered(1), [text]) for text in ("Zürich, forêt", "Zurich, foret", "?")]
    np.testing.assert_array_equal(draw[0], draw[1])
    assert (draw[0] != draw[2]).any()


@pytest.mark.parametrize(
    ("count", "size", "each"),
    [
        (1, 8, 64), (2, 8, 32), (3, 28, 16), (5, 28, 8), (8, 256, 8), (9, 32, 9), (12, 128, 12),
        (10, 256, 6), (1, 512, 16), (3, 512, 4), (10, 512, 1), (1, 4_096, 1), (13, 32, 1),
    ],
)  # fmt: skip
def test_a_grid_of_few_classes_has_as_many_of_each(count, size, each):
    classes = np.arange(count) * 3 + 2
    labels = grid_labels(classes[::-1].tolist(), size)
    assert labels.dtype == np.int32
    np.testing.assert_array_equal(labels, classes.repeat(each))


def test_a_grid_of_many_classes_has_one_of_each_evenly_spread():
    np.testing.assert_array_equal(grid_labels(range(256), 32), range(256))
    np.testing.assert_array_equal(grid_labels(range(1_024), 32), range(0, 1_024, 4))
    np.testing.assert_array_equal(grid_labels(range(1_024), 256), range(0, 1_024, 16))


@pytest.mark.parametrize("size", [1, 8, 28, 32, 100, 256, 512, 1_024, 3_000])
@pytest.mark.parametrize("count", [1, 2, 3, 7, 9, 10, 12, 13, 37, 100, 1_000])
def test_a_grid_is_of_bounded_size(count, size):
    labels = grid_labels(range(count), size)
    shape = (len(labels), size, size, 1)
    images = np.broadcast_to(np.zeros([1, 1, 1, 1], np.uint8), shape)
    height, width, _ = image_grid(images, [f"n{label:08d}" for label in labels]).shape
    assert max(height, width) <= max(2_500, size + 15)
    assert min(height, width) >= 512 // 2
    assert height / width < 2.2


def test_points_are_seen():
    empty = scatter(np.array([[9.0, 9.0]]), np.array([[1.0, 1.0]]))
    full = scatter(np.random.default_rng(0).standard_normal([500, 2]) / 2, np.array([[1.0, 1.0]]))
    assert full.shape[-1] == 3
    assert full.dtype == np.uint8
    assert (full != empty).any(-1).mean() > 0.02


def test_png_round_trip(tmp_path):
    for channels in (1, 3):
        image = np.random.default_rng(0).integers(256, size=[5, 4, channels], dtype=np.uint8)
        path = tmp_path / "new" / f"{channels}.png"
        write_png(path, image)
        with Image.open(path) as written:
            np.testing.assert_array_equal(np.asarray(written).reshape(image.shape), image)
    assert {file.suffix for file in (tmp_path / "new").iterdir()} == {".png"}
