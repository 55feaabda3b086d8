"""The user's own images, good and bad."""

import logging
import os
import zipfile

import numpy as np
import pytest

from gan.data import DATASETS
from gan.data.decoded_cache import decode_once
from gan.errors import UsageError
from tests.pictures import encoded_image, write, zip_of


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
    assert (dataset.num_classes, dataset.class_names) == (2, ("a", "b"))
    assert dataset.load().labels.tolist() == [0, 0, 1]
    assert build(photos).class_names == ()


def test_a_zip_is_the_same_as_its_folder(photos):
    folder, zipped = build(photos, "labels=True"), build(zip_of(photos), "labels=True")
    np.testing.assert_array_equal(folder.load().examples, zipped.load().examples)
    np.testing.assert_array_equal(folder.load().labels, zipped.load().labels)


def test_a_class_whose_files_are_all_broken_is_none(photos):
    write(photos, {"a_broken/1.png": b"none", "a_broken/2.png": b"", "c/1.png": encoded_image()})
    dataset = build(photos, "labels=True")
    assert dataset.class_names == ("a", "b", "c")
    assert dataset.load().labels.tolist() == [0, 0, 1, 2]
    note = "photos: left out: 1 of 6 empty, 1 of 6 not an image"
    assert dataset.notes == build(photos, "labels=True").notes == (note,)


def test_labels_with_gaps_are_numbered_anew(tmp_path):
    files = {f"{i}.png": encoded_image(value=i) for i in (1, 2, 3)}
    table = '{"labels": [["1.png", 10], ["2.png", 7], ["3.png", 8]]}'
    files |= {"2.png": b"broken", "dataset.json": table}
    dataset = build(write(tmp_path / "set", files), "labels=True")
    assert dataset.class_names == ("8", "10")
    assert dataset.load().labels.tolist() == [1, 0]
    (tmp_path / "set" / "dataset.json").write_text(table.replace("8", "12"))
    assert build(tmp_path / "set", "labels=True").class_names == ("10", "12")
    (tmp_path / "set" / "dataset.json").write_text(table.replace("10", "1"))
    other = build(tmp_path / "set", "labels=True")
    assert (other.class_names, other.load().labels.tolist()) == (("1", "8"), [0, 1])


def test_grey_stays_grey(tmp_path):
    (tmp_path / "grey").mkdir()
    (tmp_path / "grey" / "1.png").write_bytes(encoded_image(mode="L"))
    assert build(tmp_path / "grey").shape == (8, 8, 1)
    assert build(tmp_path / "grey", "channels=3").load().examples.shape == (1, 8, 8, 3)


def test_what_is_left_out_is_counted_in_a_note_each_time(photos):
    whole = encoded_image(width=200, height=200, suffix="JPEG")
    short = whole[: len(whole) // 2]
    write(photos, {"a/no.jpg": "no JPEG", "a/short.jpg": short, "a/n.txt": "1", "a/.x.png": ""})
    note = "photos: left out: 1 of 7 .txt, 1 of 7 hidden, 1 of 7 not an image, 1 of 7 truncated"
    dataset = build(photos)
    assert len(dataset.load().labels) == 3
    assert dataset.notes == build(photos).notes == (note,)
    (photos / "a" / "m.txt").write_text("counted, and nothing is decoded again for it")
    assert build(photos).notes == (
        note.replace("of 7", "of 8").replace("1 of 8 .txt", "2 of 8 .txt"),
    )


def test_kinds_beyond_the_commonest_are_counted_together(photos):
    write(photos, {f"a/{i}.x{i}": "1" for i in range(9)})
    (note,) = build(photos).notes
    assert note.endswith(
        "left out: 1 of 12 .x0, 1 of 12 .x1, 1 of 12 .x2, 1 of 12 .x3, 1 of 12 .x4, 1 of 12 .x5, "
        "3 of 12 of other kinds"
    )


def test_it_is_decoded_once_and_again_when_a_file_changed(photos, monkeypatch, caplog):
    logger = logging.getLogger("absl")
    logger.addHandler(caplog.handler)
    caplog.set_level("INFO", "absl")
    first = build(photos).load().examples
    logger.removeHandler(caplog.handler)
    assert f"decoding 3 files of {photos}, once" in caplog.text
    monkeypatch.setattr(
        "gan.data.sources.images._decode", lambda *args: pytest.fail("decoded again")
    )
    np.testing.assert_array_equal(build(photos).load().examples, first)
    path = photos / "a" / "1.png"
    path.rename(photos / "a" / "9.png")
    with pytest.raises(pytest.fail.Exception, match="decoded again"):
        build(photos)
    (photos / "a" / "9.png").rename(path)
    np.testing.assert_array_equal(build(photos).load().examples, first)
    path.write_bytes(encoded_image(value=2))
    with pytest.raises(pytest.fail.Exception, match="decoded again"):
        build(photos)


@pytest.mark.parametrize("argument", ["resize='pad'", "resize='stretch'", "channels=1"])
def test_another_argument_decodes_anew(photos, argument):
    write(photos, {"a/wide.png": np.arange(200, dtype=np.uint8).reshape(10, 20)})
    first, second = build(photos).load().examples, build(photos, argument).load().examples
    assert not np.array_equal(first, second)
    assert len(list(photos.parent.glob(".photos.decoded/*"))) == 2


def test_without_a_resolution_all_must_be_squares_of_one_size(tmp_path):
    root = write(tmp_path / "set", {f"{i}.png": encoded_image(6, 6, i) for i in range(3)})
    spec = f"images({str(root)!r})"
    write(root, {"broken.png": b"none"})
    assert DATASETS.build(spec).shape == (6, 6, 3)
    write(root, {"4.png": encoded_image(7, 7), "5.png": encoded_image(8, 8)})
    words = r"0.png has 6 x 6 pixels and 4.png 7 x 7; resolution=64 makes"
    with pytest.raises(UsageError, match=words):
        DATASETS.build(spec)
    write(root, {"0.png": encoded_image(6, 5)})
    with pytest.raises(UsageError, match=r"0.png has 6 x 5 pixels and is no square; resolution=64"):
        DATASETS.build(spec)


def test_where_nothing_can_be_kept_it_is_decoded_all_the_same(photos, caplog):
    (photos.parent / ".photos.decoded").write_text("in the way")
    caplog.set_level("WARNING")
    assert build(photos).load().examples.mean() > 0
    assert "the images are decoded again next time" in caplog.text


@pytest.mark.parametrize("name", ["examples.npy", "labels.npy", "report.json"])
def test_a_cache_that_is_cut_short_is_made_anew(photos, name):
    (photos / "a" / "n.png").write_text("not an image")
    first = build(photos)
    examples = np.array(first.load().examples)
    (cache,) = photos.parent.glob(f".photos.decoded/*/{name}")
    cache.write_bytes(cache.read_bytes()[:-1])
    again = build(photos)
    np.testing.assert_array_equal(again.load().examples, examples)
    assert again.notes == first.notes != ()
    assert not list(photos.parent.glob(".photos.decoded/.decoding*"))
    assert len(list(photos.parent.glob(".photos.decoded/*"))) == 1


@pytest.mark.parametrize("name", ["examples.npy", "labels.npy", "report.json", "sha256"])
def test_a_cache_with_a_flipped_bit_is_made_anew(photos, name):
    """A bit within the pixels or labels, where the file has the same form as before."""
    (photos / "a" / "n.png").write_text("not an image")
    first = build(photos)
    examples, labels = map(np.array, first.load())
    (cache,) = photos.parent.glob(f".photos.decoded/*/{name}")
    content = bytearray(cache.read_bytes())
    place = content.index(b"1") if name == "report.json" else len(content) - 4  # `1 not an image`
    content[place] ^= 2
    cache.write_bytes(content)
    again = build(photos)
    np.testing.assert_array_equal(again.load().examples, examples)
    np.testing.assert_array_equal(again.load().labels, labels)
    assert again.notes == first.notes


def test_a_cache_of_other_images_in_its_place_is_made_anew(tmp_path):
    """As where a file system has mixed up its blocks: the files themselves are in order."""
    for value in (1, 2):
        decode_once(
            tmp_path / str(value), lambda own=value: [(np.full([2, 2, 1], own, np.uint8), 0)]
        )
    (tmp_path / "1" / "examples.npy").write_bytes((tmp_path / "2" / "examples.npy").read_bytes())
    anew = decode_once(tmp_path / "1", lambda: [(np.full([2, 2, 1], 3, np.uint8), 0)])
    assert anew.examples.examples.max() == 3


def test_a_cache_that_is_not_what_it_says_is_made_anew(tmp_path):
    """Of a stranger: a pipe, which would wait, and a header that claims more than there is memory."""

    def decode():
        return decode_once(tmp_path / "x", lambda: [(np.full([2, 2, 1], 7, np.uint8), 0)])

    decode()
    for name in ("examples.npy", "labels.npy", "sha256"):
        (tmp_path / "x" / name).unlink()
        os.mkfifo(tmp_path / "x" / name)
        assert decode().examples.examples.max() == 7
    for name in ("examples.npy", "labels.npy"):
        with (tmp_path / "x" / name).open("wb") as file:
            header = {"descr": "|u1", "fortran_order": False, "shape": (2**45,)}
            np.lib.format.write_array_header_1_0(file, header)
        assert decode().examples.examples.max() == 7


def test_two_that_decode_at_once_keep_one_another_s_files(photos):
    """What the first has open is not deleted by the second."""
    folder = photos.parent / "cache"

    def decode():
        if not folder.exists():  # the other one, in the middle of the first
            decode_once(folder, lambda: [(np.full([2, 2, 1], 7, np.uint8), 0)])
        yield np.full([2, 2, 1], 9, np.uint8), 0

    assert decode_once(folder, decode).examples.examples.max() == 7
    assert not list(photos.parent.glob(".decoding*"))


def replaced(folder, name, value):
    """Decodes what `replaces` the copies of a name that are there."""
    return decode_once(
        folder / name, lambda: [(np.full([2, 2, 1], value, np.uint8), 0)], replaces="spec-*"
    )


def test_a_copy_of_what_the_files_were_is_deleted_once_nobody_uses_it(tmp_path):
    (tmp_path / "other-1").mkdir()  # another resolution
    old = replaced(tmp_path, "spec-1", 1)
    new = replaced(tmp_path, "spec-2", 2)
    assert (tmp_path / "spec-1").exists()  # `old` maps it
    assert old.examples.examples.max() == 1
    del old, new
    newest = replaced(tmp_path, "spec-3", 3)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other-1", "spec-3"]
    assert newest.examples.examples.max() == 3


def test_a_half_of_a_decoding_that_was_killed_is_deleted_and_one_at_work_is_not(tmp_path):
    (tmp_path / ".decoding.killed" / "spec-1").mkdir(parents=True)
    (tmp_path / ".decoding.file").write_text("not ours")

    def decode():
        replaced(tmp_path, "spec-2", 2)  # as in another process
        yield np.zeros([2, 2, 1], np.uint8), 0

    decode_once(tmp_path / "spec-1", decode)
    there = {path.name for path in tmp_path.iterdir()}
    assert there == {".decoding.file", "spec-1", "spec-2"}


def test_another_spec_of_the_same_folder_keeps_its_copy(photos):
    build(photos)
    build(photos, "resize='pad'")
    build(photos, "resize='pad'", "labels=True")
    (photos / "a" / "1.png").unlink()
    build(photos)
    assert len(list(photos.parent.glob(".photos.decoded/*"))) == 3


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path: path.mkdir(), "contains no images"),
        (lambda path: None, "neither a folder nor a .zip"),
        (
            lambda path: (path.mkdir(), (path / "1.png").write_text("none")),
            "none of 1 images can be read: 1 not an image",
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
