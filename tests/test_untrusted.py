"""What others may have made: pipes, devices, bombs, holes, and JSON of any kind."""

import functools
import io
import json
import os
import struct
import time
import zipfile

import numpy as np
import pytest

from gan.data import DATASETS
from gan.data.image_files import find_pictures
from gan.errors import UsageError
from gan.models import inception_weights
from gan.untrusted import open_plain, parse_json, read_json, read_lines, read_npz


@pytest.fixture(autouse=True)
def soon():
    """Fails where something waits, or reads what never ends."""
    tight()
    begin = time.monotonic()
    yield
    assert time.monotonic() - begin < 5


@functools.cache
def tight() -> bytes:
    """300 MiB in a thousandth of that, once."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        with archive.open("images.npy", "w") as stream:
            for _ in range(300):
                stream.write(bytes(2**20))
        archive.writestr("a.png", png())
    return file.getvalue()


def hole(path, size):
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.truncate(size)
    return path


def pipe(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    os.mkfifo(path)
    return path


def test_what_is_no_plain_file_is_not_read(tmp_path):
    (tmp_path / "link").symlink_to(__file__)
    for path in (pipe(tmp_path / "pipe"), tmp_path, "/dev/zero"):
        with pytest.raises(OSError, match="it is not a regular file"):
            open_plain(path)
    with pytest.raises(OSError, match="symbolic links"):
        open_plain(tmp_path / "link", follow=False)
    with open_plain(tmp_path / "link") as file:
        assert file.read(3) == b'"""'


def test_what_is_too_large_is_not_read(tmp_path):
    with pytest.raises(OSError, match="has 5,000,000,000 bytes, and at most 67,108,864 are read"):
        read_json(hole(tmp_path / "a.json", 5 * 10**9))
    with pytest.raises(OSError, match="are a hole"):
        open_plain(hole(tmp_path / "weights", 10**12))
    with pytest.raises(OSError, match="at most"):
        read_lines(hole(tmp_path / "metrics.jsonl", 5 * 10**9))
    assert read_lines(tmp_path / "nothing") == []


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        "[" * 40 + "]" * 40,
        '{"a":' * 100_000,
        "1" * 5_000,
        "-99999999999999999999",
        "{",
        "\xff",
    ],
)
def test_json_that_would_trip_who_reads_it(text):
    with pytest.raises(ValueError, match=r"deep|large|line 1|exceeds"):
        parse_json(text)


def test_json_that_is_as_one_expects():
    content = {"a": [1, -(2**63), 2**64 - 1, 1e300, None, {"b": "ü"}]}
    assert parse_json(json.dumps(content)) == content


# Archives


def npy(shape, dtype="|u1", data=b""):
    """An array's file that claims a shape."""
    header = f"{{'descr': {dtype!r}, 'fortran_order': False, 'shape': {shape!r}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + data


def archive(path, members, compression=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", compression) as file:
        for name, content in members.items():
            with file.open(name, "w", force_zip64=True) as stream:
                for block in [content] if isinstance(content, bytes) else content:
                    stream.write(block)
    return path


def overstate(path, size):
    """Writes another unpacked size of the only member into a zip's directory."""
    content = bytearray(path.read_bytes())
    at = content.rindex(b"PK\x01\x02")
    content[at + 24 : at + 28] = struct.pack("<I", size)
    path.write_bytes(content)
    return path


BOMBS = {
    "a claim of 10**15 elements": lambda path: archive(path, {"images.npy": npy((10**15,))}),
    "a claim of texts without letters": lambda path: archive(path, {"images.npy": npy((10**15,), "<U0")}),
    "objects": lambda path: archive(path, {"images.npy": npy((1,), "|O", b"x" * 8)}),
    "1000 to 1": lambda path: path.write_bytes(tight()),
    "an overstated size": lambda path: overstate(archive(path, {"images.npy": npy((9, 8, 8))}), 2**32 - 2),
    "an understated size": lambda path: overstate(
        archive(path, {"images.npy": npy((9, 8, 8), data=bytes(576))}), 100
    ),
    "a deep header": lambda path: archive(path, {"images.npy": npy("(" * 9000)}),
    "a pipe": pipe,
    "a hole": lambda path: hole(path, 10**12),
    "no zip": lambda path: path.write_bytes(npy((1,), data=b"x")),
}  # fmt: skip


@pytest.mark.parametrize("kind", BOMBS)
def test_arrays_that_are_not_what_they_say(tmp_path, kind):
    path = tmp_path / "a.npz"
    BOMBS[kind](path)
    with pytest.raises(UsageError, match=r"a\.npz is not an \.npz of plain arrays") as error:
        DATASETS.build(f"npz({str(path)!r})")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("kind", ["a claim of 10**15 elements", "1000 to 1", "a hole"])
@pytest.mark.parametrize("suffix", [".npz", ".pth"])
def test_weights_that_are_not_what_they_say(tmp_path, monkeypatch, kind, suffix):
    path = tmp_path / f"weights{suffix}"
    monkeypatch.setattr(inception_weights, "_shapes", lambda: {"images": (10**15,)})
    BOMBS[kind](path)
    with pytest.raises(UsageError, match=r"weights\.(npz|pth) ") as error:
        if suffix == ".npz":
            inception_weights.load(path)
        else:
            inception_weights.convert(path, tmp_path / "out.npz", sha256=None)
    assert "\n" not in str(error.value)


def test_a_label_beyond_sense(tmp_path):
    np.savez(tmp_path / "a.npz", images=np.zeros([2, 8, 8], np.uint8), labels=[0, 10**15])
    with pytest.raises(UsageError, match="it has 1,000,000,000,000,001 classes"):
        DATASETS.build(f"npz({str(tmp_path / 'a.npz')!r})")


def test_what_numpy_writes_is_read(tmp_path):
    arrays = {"a": np.arange(6).reshape(2, 3), "b": np.array(["ü"]), "c": np.zeros([0, 3]),
              "d": np.float32(2), "f": np.asfortranarray(np.arange(6.0).reshape(2, 3)), "z": np.zeros(10**6)}  # fmt: skip
    for save in (np.savez, np.savez_compressed):
        save(tmp_path / "a.npz", **arrays)
        found = read_npz(tmp_path / "a.npz")
        assert found.keys() == arrays.keys()
        for name, array in arrays.items():
            np.testing.assert_array_equal(found[name], array)
        assert list(read_npz(tmp_path / "a.npz", ["b", "x"])) == ["b"]


def png():
    from PIL import Image

    file = io.BytesIO()
    Image.new("L", (8, 8)).save(file, "PNG")
    return file.getvalue()


def test_a_bomb_among_pictures_is_left_out(tmp_path):
    path = tmp_path / "a.zip"
    path.write_bytes(tight().replace(b"images.npy", b"images.png"))
    pictures = find_pictures(path, labels=False)
    assert [file.name for file in pictures.files] == ["a.png"]
    assert pictures.left_out == {"unpacking to far more": 1}
    folder = tmp_path / "folder"
    hole(folder / "b.png", 10**12)
    pipe(folder / "c.png")
    (folder / "a.png").write_bytes(png())
    assert find_pictures(folder, labels=False).left_out == {"too large": 1, "not a regular file": 1}


@pytest.mark.parametrize("kind", ["a pipe", "a hole"])
def test_what_is_no_zip_of_pictures(tmp_path, kind):
    BOMBS[kind](tmp_path / "a.zip")
    with pytest.raises(UsageError, match="is not a zip file"):
        find_pictures(tmp_path / "a.zip", labels=False)


@pytest.mark.parametrize("content", ["[" * 10**6, '{"labels": [["a.png", 1e999]]}', "1" * 10**4])
def test_labels_that_are_none(tmp_path, content):
    (tmp_path / "a.png").write_bytes(png())
    (tmp_path / "dataset.json").write_text(content)
    with pytest.raises(UsageError, match=r"dataset\.json"):
        find_pictures(tmp_path, labels=True)


def test_labels_that_have_no_end(tmp_path):
    (tmp_path / "a.png").write_bytes(png())
    hole(tmp_path / "dataset.json", 10**9)
    with pytest.raises(UsageError, match="more than 67,108,864 bytes"):
        find_pictures(tmp_path, labels=True)
    (tmp_path / "dataset.json").unlink()
    pipe(tmp_path / "dataset.json")
    with pytest.raises(UsageError, match="is not JSON that can be read"):
        find_pictures(tmp_path, labels=True)


def test_a_zip_member_without_a_name(tmp_path):
    """Found by `test_fuzzing.py`."""
    path = archive(tmp_path / "a.zip", {"b.png": png(), "a.png": png()})
    content = path.read_bytes()
    path.write_bytes(content.replace(b"b.png", b"\0.png"))
    assert [file.name for file in find_pictures(path, labels=False).files] == ["a.png"]


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("a claim of 10**15 elements", "says it has 1,000,000,000,000,000 bytes, and has 0"),
        ("a claim of texts without letters", "no numbers or texts"),
        ("1000 to 1", "unpacks to 314,572,800 bytes"),
        ("an overstated size", "bytes, far too many|do not fit|says it has|unpacks to"),
        ("a pipe", "it is not a regular file"),
        ("a hole", "are a hole"),
    ],
)
def test_why_arrays_are_refused(tmp_path, kind, words):
    BOMBS[kind](tmp_path / "a.npz")
    with pytest.raises((OSError, ValueError), match=words):
        read_npz(tmp_path / "a.npz")
