import pathlib

import numpy as np
import pytest

from gan.files import cache_folder, read_arrays, replacing, write_arrays


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
