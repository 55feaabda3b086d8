"""The user's own images, good and bad."""

import io
import logging
import zipfile

import numpy as np
import pytest
from PIL import Image

from gan.data import DATASETS
from gan.data.center_crop import center_crop
from gan.data.decoded_cache import decode_once
from gan.errors import UsageError


def encoded_image(width=12, height=10, value=200, mode="RGB", suffix="PNG"):
    content = io.BytesIO()
    colour = value if mode == "L" else (value, 0, 0)
    Image.new(mode, (width, height), colour).save(content, suffix)
    return content.getvalue()


@pytest.fixture
def photos(tmp_path):
    """Three colour images in two folders."""
    for name, value, suffix in (
        ("a/1.png", 10, "PNG"),
        ("a/2.jpg", 100, "JPEG"),
        ("b/3.webp", 250, "WEBP"),
    ):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded_image(value=value, suffix=suffix))
    return tmp_path / "photos"


def build(path, *args):
    return DATASETS.build(f"images({', '.join([repr(str(path)), '8', *args])})")


def test_a_folder_is_read_cropped_and_resized(photos):
    dataset = build(photos)
    examples, labels = dataset.load()
    assert dataset.shape == (8, 8, 3)
    assert (examples.shape, examples.dtype) == ((3, 8, 8, 3), np.uint8)
    np.testing.assert_allclose(examples[..., 0].mean(axis=(1, 2)), [10, 100, 250], atol=5)
    assert labels.tolist() == [0, 0, 0]


def test_folders_are_classes_when_asked(photos):
    dataset = build(photos, "labels=True")
    assert dataset.num_classes == 2
    assert dataset.load().labels.tolist() == [0, 0, 1]
    (photos / "loose.png").write_bytes(encoded_image())
    with pytest.raises(UsageError, match=r"every image must be in a folder; loose\.png is not"):
        build(photos, "labels=True")


def test_a_zip_is_the_same_as_its_folder(photos, tmp_path):
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as archive:
        for path in sorted(photos.rglob("*.*")):
            archive.write(path, path.relative_to(photos).as_posix())
    folder, zipped = build(photos, "labels=True"), build(tmp_path / "photos.zip", "labels=True")
    np.testing.assert_array_equal(folder.load().examples, zipped.load().examples)
    np.testing.assert_array_equal(folder.load().labels, zipped.load().labels)


def test_grey_stays_grey(tmp_path):
    (tmp_path / "grey").mkdir()
    (tmp_path / "grey" / "1.png").write_bytes(encoded_image(mode="L"))
    assert build(tmp_path / "grey").shape == (8, 8, 1)
    assert build(tmp_path / "grey", "channels=3").load().examples.shape == (1, 8, 8, 3)


def test_what_is_no_image_is_skipped_and_counted(photos, caplog):
    (photos / "a" / "broken.jpg").write_text("no JPEG")
    whole = encoded_image(width=200, height=200, suffix="JPEG")
    (photos / "a" / "short.jpg").write_bytes(whole[: len(whole) // 2])
    (photos / "a" / "notes.txt").write_text("not looked at")
    logger = logging.getLogger("absl")
    logger.addHandler(caplog.handler)
    assert len(build(photos).load().labels) == 3
    logger.removeHandler(caplog.handler)
    assert "1 of 5 files are skipped: not an image" in caplog.text
    assert "1 of 5 files are skipped: truncated" in caplog.text


def test_it_is_decoded_once_and_again_when_a_file_changed(photos, monkeypatch):
    first = build(photos).load().examples
    monkeypatch.setattr(
        "gan.data.sources.images._decode", lambda *args: pytest.fail("decoded again")
    )
    np.testing.assert_array_equal(build(photos).load().examples, first)
    (photos / "a" / "new.png").write_bytes(encoded_image(value=1))
    with pytest.raises(pytest.fail.Exception, match="decoded again"):
        build(photos).load()


def test_where_nothing_can_be_kept_it_is_decoded_all_the_same(photos, caplog):
    (photos.parent / ".photos.decoded").write_text("in the way")
    caplog.set_level("WARNING")
    assert build(photos).load().examples.mean() > 0
    assert "the images are decoded again next time" in caplog.text


def test_a_cache_that_is_cut_short_is_made_anew(photos):
    first = np.array(build(photos).load().examples)
    (cache,) = photos.parent.glob(".photos.decoded/*/examples.npy")
    cache.write_bytes(cache.read_bytes()[:-1])
    np.testing.assert_array_equal(build(photos).load().examples, first)
    assert not list(photos.parent.glob(".photos.decoded/.decoding*"))


def test_two_that_decode_at_once_keep_one_another_s_files(photos):
    """What the first has open is not deleted by the second."""
    folder = photos.parent / "cache"

    def decode():
        if not folder.exists():  # the other one, in the middle of the first
            decode_once(folder, (2, 2, 1), lambda: [(np.full([2, 2, 1], 7, np.uint8), 0)])
        yield np.full([2, 2, 1], 9, np.uint8), 0

    examples = decode_once(folder, (2, 2, 1), decode)
    assert examples.examples.max() == 7
    assert not list(photos.parent.glob(".decoding*"))


def test_sixteen_bits_of_grey_become_eight(tmp_path):
    """Pillow itself would make all but the darkest white."""
    (tmp_path / "photos").mkdir()
    ramp = np.linspace(0, 65_535, 64).astype(np.uint16).reshape(8, 8)
    Image.fromarray(ramp).save(tmp_path / "photos" / "ramp.png")
    loaded = DATASETS.build(f"images({str(tmp_path / 'photos')!r}, resolution=8)").load()
    np.testing.assert_array_equal(loaded.examples[0, :, :, 0], ramp >> 8)


def test_center_crop_is_the_centre_and_keeps_its_mean():
    image = np.zeros([10, 30, 1], np.uint8)
    image[:, 10:20] = 255
    np.testing.assert_array_equal(center_crop(image, 5), np.full([5, 5, 1], 255))
    noise = np.random.default_rng(0).integers(0, 256, [64, 64, 3]).astype(np.uint8)
    small = center_crop(noise, 8)
    assert abs(small.mean() - noise.mean()) < 2
    assert small.std() < noise.std() / 3  # antialiased: each pixel is a mean of many


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path: path.mkdir(), "contains no images"),
        (lambda path: None, "neither a folder nor a .zip"),
        (
            lambda path: (path.mkdir(), (path / "1.png").write_text("none")),
            "none of 1 images can",
        ),
    ],
)
def test_misuse_of_a_folder(tmp_path, make, words):
    make(tmp_path / "x")
    with pytest.raises(UsageError, match=words):
        build(tmp_path / "x")


def test_misuse_of_a_zip(tmp_path):
    path = tmp_path / "x.zip"
    path.write_text("none")
    with pytest.raises(UsageError, match="is not a zip"):
        build(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("../climbs.png", encoded_image())
    with pytest.raises(UsageError, match="leads out of the archive"):
        build(path)
