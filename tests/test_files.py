import os
import pathlib
import zipfile

import numpy as np
import pytest

from gan.errors import UsageError
from gan.files import (
    _temporary_cache,
    append_line,
    cache_folder,
    read_arrays,
    replacing,
    user_path,
    write_arrays,
    write_json,
)
from gan.untrusted import parse_json


def test_a_line_does_not_go_on_in_one_that_a_crash_has_cut_short(tmp_path):
    path = tmp_path / "lines.jsonl"
    append_line(path, "first")
    append_line(path, "second")
    assert path.read_text() == "first\nsecond\n"
    path.write_text("first\nsec")
    append_line(path, "third")
    assert path.read_text() == "first\nsec\nthird\n"


def test_a_file_appears_whole_or_not_at_all(tmp_path):
    path = tmp_path / "new" / "file.txt"
    with replacing(path) as beside:
        beside.write_text("first")
        assert not path.exists()
    assert path.read_text() == "first"
    with pytest.raises(RuntimeError, match="half"), replacing(path) as beside:
        beside.write_text("sec")
        raise RuntimeError("half-written")
    assert path.read_text() == "first"
    assert list(path.parent.iterdir()) == [path]


def test_arrays_come_back_as_they_were(tmp_path):
    path = tmp_path / "cache" / "arrays.npz"
    assert read_arrays(path) is None
    arrays = {"a": np.arange(6).reshape(2, 3), "nested/b": np.float64(0.5)}
    write_arrays(path, arrays)
    found = read_arrays(path)
    assert found.keys() == arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name], array)
    path.with_name("other.npz").write_bytes(path.read_bytes())
    assert read_arrays(path.with_name("other.npz")) is None  # content of another name
    path.write_bytes(path.read_bytes()[:-30])
    assert read_arrays(path) is None


def test_what_cannot_be_kept_is_a_warning(tmp_path, caplog):
    (tmp_path / "file").touch()
    write_arrays(tmp_path / "file" / "arrays.npz", {"a": np.zeros(1)})
    assert "cannot be written" in caplog.text


def test_the_cache_is_where_the_user_says(monkeypatch):
    monkeypatch.setenv("GAN_CACHE_DIR", "/own")
    assert cache_folder("real") == pathlib.Path("/own/real")
    monkeypatch.delenv("GAN_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    assert cache_folder("a", "b") == pathlib.Path("/xdg/flax-gan/a/b")


def test_the_home_folder_of_a_path(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    assert user_path("~/runs") == pathlib.Path("/home/me/runs")
    assert user_path("runs/~") == pathlib.Path("runs/~")
    monkeypatch.setenv("GAN_CACHE_DIR", "~/cache")
    assert cache_folder("real") == pathlib.Path("/home/me/cache/real")
    with pytest.raises(UsageError, match="character 0"):
        user_path("a\0b")


def test_a_user_without_a_home(monkeypatch, tmp_path):
    def nobody(uid):
        raise KeyError(uid)

    for name in ("HOME", "GAN_CACHE_DIR", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("pwd.getpwuid", nobody)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(UsageError, match="without ~, or set HOME"):
        user_path("~/runs")
    _temporary_cache.cache_clear()
    own = tmp_path / f"flax-gan-{os.getuid()}"
    assert cache_folder("real") == own / "real"
    own.chmod(0o777)  # somebody else may have put notes of trusted code into it
    _temporary_cache.cache_clear()
    assert cache_folder() != own
    _temporary_cache.cache_clear()


def test_arrays_that_are_not_what_they_say_are_made_again(tmp_path):
    path = tmp_path / "arrays.npz"
    os.mkfifo(path)
    assert read_arrays(path) is None  # and it does not wait
    path.unlink()
    with zipfile.ZipFile(path, "w") as archive, archive.open("a.npy", "w") as file:
        header = {"descr": "|u1", "fortran_order": False, "shape": (2**45,)}
        np.lib.format.write_array_header_1_0(file, header)
    assert read_arrays(path) is None


def test_json_has_null_for_what_is_not_finite(tmp_path):
    content = {"a": [1, float("nan"), (0.5, float("inf"))], "b": {"c": -float("inf"), "d": "NaN"}}
    write_json(tmp_path / "x.json", content)
    expected = {"a": [1, None, [0.5, None]], "b": {"c": None, "d": "NaN"}}
    assert parse_json((tmp_path / "x.json").read_text()) == expected
