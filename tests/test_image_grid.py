import numpy as np
from PIL import Image

from gan.image_grid import image_grid, scatter, write_png


def test_a_grid_holds_each_image_in_its_place():
    images = np.arange(6, dtype=np.uint8).reshape(6, 1, 1, 1) * np.ones([1, 128, 128, 3], np.uint8)
    grid = image_grid(images, columns=3)
    assert grid.shape == (2 * 129 + 1, 3 * 129 + 1, 3)
    for i in range(6):
        top, left = (i // 3) * 129 + 1, (i % 3) * 129 + 1
        assert (grid[top : top + 128, left : left + 128] == i).all()
    assert (grid[0] == 255).all()


def test_small_images_are_enlarged_and_the_grid_is_square():
    grid = image_grid(np.zeros([64, 8, 8, 1], np.uint8))
    assert 500 < grid.shape[0] == grid.shape[1] < 600


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
