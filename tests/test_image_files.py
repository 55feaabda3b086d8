"""Which files of a folder or zip are pictures, and of which class."""

import json
import os
import pathlib
import re
import socket
import stat
import tempfile
import zipfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gan.data import DATASETS, check_examples
from gan.data.image_files import find_pictures, natural_order
from gan.errors import UsageError
from tests.pictures import encoded_image, write, zip_of

PICTURE = encoded_image()


@pytest.fixture(params=[lambda folder: folder, zip_of], ids=["folder", "zip"])
def packed(request):
    """A folder as it is, or the same as a zip."""
    return request.param


def find(root):
    """The classes, the class of each picture, and what is left out."""
    found = find_pictures(root, labels=True)
    names = {file.name: found.classes[i] for file, i in zip(found.files, found.labels, strict=True)}
    return found.classes, names, dict(found.left_out)


def test_what_is_hidden_or_left_by_a_system_is_no_class(tmp_path, packed):
    files = {f"{kind}/{i}.png": PICTURE for kind in ("cat", "dog") for i in range(2)}
    odd = {
        ".ipynb_checkpoints/0.png": PICTURE, "cat/._0.png": b"Mac OS X", ".hidden.png": PICTURE,
        "cat/.cache/0.png": PICTURE, "__MACOSX/cat/0.png": PICTURE, "Thumbs.db": b"1",
        "@eaDir/0.png": PICTURE, "dog/desktop.ini": b"1", "dog/notes.TXT": b"1", "README": b"1",
        "dog/2.png": b"",
    }  # fmt: skip
    classes, names, left_out = find(packed(write(tmp_path / "pets", files | odd)))
    assert classes == ("cat", "dog")
    assert list(names) == sorted(files)
    assert left_out == {
        "hidden": 4,
        "of the system": 4,
        ".txt": 1,
        "without a suffix": 1,
        "empty": 1,
    }


@pytest.mark.parametrize(
    ("paths", "classes"),
    [
        (["pets/cat/1.png", "pets/dog/1.png"], ("cat", "dog")),
        (["a/pets/cat/1.png", "a/pets/dog/x/1.png", "README.txt"], ("cat", "dog")),
        (["cat/1.png", "cat/2.png"], ("cat",)),
        (["pets/cat/1.png"], ("cat",)),
        (["pets/cat/1.png", "pets/1.png"], ("pets",)),
        (["pets/cat/1.png", "other/1.png"], ("other", "pets")),
        (["1/a.png", "10/a.png", "2/a.png"], ("1", "2", "10")),
        (
            ["img10/a.png", "img2/a.png", "img1/a.png", "img/a.png"],
            ("img", "img1", "img2", "img10"),
        ),
        ([f"{'9' * 200}/a.png", "01/a.png", "1/a.png"], ("01", "1", "9" * 200)),
    ],
)
def test_the_classes_of_folders(tmp_path, packed, paths, classes):
    root = packed(write(tmp_path / "set", dict.fromkeys(paths, PICTURE)))
    assert find(root)[0] == classes
    assert find_pictures(root, labels=False).classes == ()


def test_the_order_of_files_is_that_of_their_paths_part_by_part(tmp_path, packed):
    paths = ["1/b.png", "10/a.png", "1/a.png", "1-/a.png", "2/a.png", "1/a/z.png", "1/a-b.png"]
    root = packed(write(tmp_path / "set", dict.fromkeys(paths, PICTURE)))
    expected = sorted(map(pathlib.PurePosixPath, paths))
    assert list(find(root)[1]) == list(map(str, expected))


def test_labels_of_stylegan_s_description(tmp_path, packed):
    table = [["00000/a.png", 7], ["00001/a.png", 3], ["00001/b.png", 7], ["00001/gone.png", 10]]
    pictures = {f"set/{path}": PICTURE for path, _ in table[:3]} | {"set/00001/new.png": PICTURE}
    files = pictures | {"set/dataset.json": json.dumps({"labels": table})}
    root = packed(write(tmp_path / "set", files))
    classes, names, left_out = find(root)
    assert classes == ("3", "7")
    assert names == {f"set/{path}": str(label) for path, label in table[:3]}
    assert left_out == {"not in dataset.json": 1}
    assert find_pictures(root, labels=True).unused_labels == 1
    assert find_pictures(root, labels=False).left_out == {}


@pytest.mark.parametrize("prefix", ["", "set/"])
def test_a_description_of_pictures_that_are_in_no_folder(tmp_path, packed, prefix):
    content = json.dumps({"labels": {"a.png": 10, "b.png": 9}})
    files = {f"{prefix}{name}": PICTURE for name in ("a.png", "b.png")}
    root = packed(write(tmp_path / "set", files | {f"{prefix}dataset.json": content}))
    assert find(root)[:2] == (("9", "10"), {f"{prefix}a.png": "10", f"{prefix}b.png": "9"})


@pytest.mark.parametrize("content", ['{"labels": null}', "{}", '{"images": []}'])
def test_a_description_without_labels_leaves_them_to_folders(tmp_path, packed, content):
    files = {"cat/1.png": PICTURE, "dog/1.png": PICTURE, "dataset.json": content}
    assert find(packed(write(tmp_path / "set", files)))[0] == ("cat", "dog")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "is not JSON"),
        ("", "is not JSON"),
        ("\ud800".encode("utf-8", "surrogatepass"), "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ("[1]", "is a list; accepted is"),
        ('{"labels": 3}', "of another form"),
        ('{"labels": [["cat/1.png"]]}', "of another form"),
        ('{"labels": [["cat/1.png", -1]]}', "the label of cat/1.png is -1"),
        ('{"labels": [["cat/1.png", 1.0]]}', r"the label of cat/1.png is 1\.0"),
        ('{"labels": [["cat/1.png", true]]}', "the label of cat/1.png is True"),
        ('{"labels": [["cat/1.png", [0, 1]]]}', r"the label of cat/1.png is \[0, 1\]"),
        ('{"labels": {}}', "contains no images .*left out: 1 of 1 not in dataset.json"),
    ],
)
def test_misuse_of_a_description(tmp_path, packed, content, words):
    root = packed(write(tmp_path / "set", {"cat/1.png": PICTURE, "dataset.json": content}))
    with pytest.raises(UsageError, match=words):
        find(root)
    assert len(find_pictures(root, labels=False).files) == 1


def test_a_picture_in_no_folder_has_no_class(tmp_path, packed):
    root = packed(write(tmp_path / "set", {"cat/1.png": PICTURE, "loose.png": PICTURE}))
    with pytest.raises(UsageError, match=r"every image must be in a folder; loose\.png is not"):
        find(root)


def test_links_are_followed_and_no_folder_is_read_twice(tmp_path):
    root = write(tmp_path / "set", {"cat/1.png": PICTURE})
    write(tmp_path / "elsewhere", {"1.png": PICTURE, "deeper/2.png": PICTURE})
    (root / "a_first").symlink_to(root / "cat")  # the folder itself is read, not its link
    (root / "dog").symlink_to(tmp_path / "elsewhere")
    (root / "dog2").symlink_to(tmp_path / "elsewhere")
    (root / "cat" / "loop").symlink_to(root)
    (root / "cat" / "2.png").symlink_to(tmp_path / "elsewhere" / "1.png")
    (root / "cat" / "3.png").symlink_to("nowhere.png")
    (root / "cat" / "4.png").symlink_to("4.png")
    (root / ".git").symlink_to(tmp_path / "elsewhere")
    classes, names, left_out = find(root)
    assert classes == ("cat", "dog")
    assert list(names) == ["cat/1.png", "cat/2.png", "dog/1.png", "dog/deeper/2.png"]
    assert left_out == {
        "linked to a folder that was read": 3, "with a broken link": 2, "hidden": 1,
    }  # fmt: skip


def test_what_is_no_file_is_not_opened(tmp_path):
    root = write(tmp_path / "set", {"cat/1.png": PICTURE})
    os.mkfifo(root / "cat" / "2.png")
    (root / "cat" / "3.png").mkdir()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(root / "cat" / "4.png"))
        assert find(root)[1:] == ({"cat/1.png": "cat"}, {"not a regular file": 2})


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_what_may_not_be_read_is_counted(tmp_path):
    root = write(tmp_path / "set", {"cat/1.png": PICTURE, "dog/1.png": PICTURE})
    (root / "dog").chmod(0)
    assert find(root)[1:] == ({"cat/1.png": "cat"}, {"unreadable": 1})
    (root / "dog").chmod(0o700)


def test_a_folder_that_cannot_be_listed_is_counted(tmp_path, monkeypatch):
    root = write(tmp_path / "set", {"cat/1.png": PICTURE, "dog/1.png": PICTURE})
    scan = os.scandir

    def refuse(path):
        if str(path).endswith("dog"):
            raise PermissionError(13, "Permission denied")
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    assert find(root)[1:] == ({"cat/1.png": "cat"}, {"unreadable": 1})


def test_odd_entries_of_a_zip(tmp_path):
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        archive.writestr("cat/1.png", PICTURE)
        archive.writestr("dog/", b"")
        link = zipfile.ZipInfo("dog/link.png")
        link.create_system, link.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "../../etc/passwd")
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("cat/1.png", encoded_image(value=7))
    assert find(tmp_path / "set.zip") == (
        ("cat",), {"cat/1.png": "cat"}, {"linked": 1, "replaced in the zip": 1},
    )  # fmt: skip
    dataset = DATASETS.build(f"images({str(tmp_path / 'set.zip')!r}, resolution=1)")
    assert dataset.load().examples[0, 0, 0, 0] == 7


def test_what_is_encrypted_is_counted(tmp_path):
    root = zip_of(write(tmp_path / "set", {"a/1.png": PICTURE, "b/2.png": PICTURE}))
    content = bytearray(root.read_bytes())
    entry = content.index(b"PK\1\2")  # of b/2.png, which was packed first
    content[entry + 8] |= 1
    root.write_bytes(content)
    assert find(root)[2] in ({"encrypted": 1}, {"encrypted": 1, "empty": 0})


def test_names_in_natural_order():
    names = ["b", "a10", "a2", "", "10", "9", "a02", "1.10", "1.9", "²"]
    expected = ["", "1.9", "1.10", "9", "10", "a02", "a2", "a10", "b", "²"]
    assert sorted(names, key=natural_order) == expected


JPEG = encoded_image(width=64, height=64, suffix="JPEG")
CONTENTS = st.sampled_from([
    b"", b"\0\5\x16\7", PICTURE, PICTURE[:-20], PICTURE[:40], JPEG, JPEG[: len(JPEG) // 2],
    encoded_image(mode="L", value=9), encoded_image(suffix="GIF"), encoded_image(suffix="TIFF")[:60],
    PICTURE[:16] + b"\x7f\xff\xff\xff\x7f\xff\xff\xff" + PICTURE[24:], b"<svg/>", b'{"labels": null}',
])  # fmt: skip
PARTS = st.one_of(
    st.sampled_from([
        "cat", "dog", "1", "10", "2", ".git", "__MACOSX", "x.png", "a\nb", "\udcff", "._1.png", "@eaDir",
    ]),
    st.text("aZ1. ~#%é漢\\", min_size=1, max_size=6).filter(lambda text: text.strip(".")),
)  # fmt: skip
NAMES = st.sampled_from([
    "1.png", "2.PNG", "3.jpg", "4.gif", "5.tif", "6.bmp", "7.webp", "8.txt", "dataset.json", "9", ".png",
    "Thumbs.db", "10.avif", "\udcfe.png",
])  # fmt: skip
TREES = st.dictionaries(
    st.tuples(st.lists(PARTS, max_size=3).map(tuple), NAMES), CONTENTS, max_size=12
)


@settings(max_examples=150, deadline=None)
@given(tree=TREES, zipped=st.booleans(), labels=st.booleans())
def test_every_file_is_an_example_or_counted_whatever_the_files_are(tree, zipped, labels):
    with tempfile.TemporaryDirectory() as scratch:
        root = pathlib.Path(scratch) / "set"
        root.mkdir()
        count = 0
        for (folders, name), content in tree.items():
            path = root.joinpath(*folders, name)
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
            except OSError:  # a file is where a folder should be
                continue
            count += 1
        if zipped:
            root = _zip_of_odd_names(root)
        spec = f"images({str(root)!r}, resolution=4, labels={labels})"
        try:
            dataset = DATASETS.build(spec)
        except UsageError:
            return
        examples = dataset.load()
        check_examples(dataset, examples)
        assert set(examples.labels) == set(range(dataset.num_classes))
        assert len(dataset.class_names) == (dataset.num_classes if labels else 0)
        assert all(name.isprintable() for name in (*dataset.class_names, *dataset.notes))
        described = _is_described(tree, find_pictures(root, labels))
        left_out = _number_left_out(dataset.notes)
        assert left_out + len(examples.labels) == count - described
        assert DATASETS.build(spec).notes == dataset.notes  # from the cache


def _zip_of_odd_names(folder):
    """Packs a folder; names that are no text, which a zip cannot hold, are written otherwise."""
    path = folder.with_name("set.zip")
    with zipfile.ZipFile(path, "w") as archive:
        for file in folder.rglob("*"):
            name = file.relative_to(folder).as_posix().encode("utf-8", "replace").decode()
            if file.is_file():
                archive.writestr(name, file.read_bytes())
    return path


def _is_described(tree, pictures):
    """Whether one of the files is the dataset.json at the root, which is neither."""
    folders = {name for name, _ in tree}
    shared = os.path.commonprefix([file.parts[:-1] for file in pictures.files])  # noqa: RUF071
    places = [(tuple(shared[:depth]), "dataset.json") for depth in range(len(shared) + 1)]
    return any(place in tree for place in places) and bool(folders)


def _number_left_out(notes):
    if not notes or "left out" not in notes[0]:
        return 0
    left_out = notes[0].split("left out: ")[1].partition(";")[0]
    return sum(
        int(count.replace(",", "")) for count in re.findall(r"([\d,]+) of [\d,]+ ", left_out)
    )
