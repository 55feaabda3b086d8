import os

import pytest

from gan import user_cache
from gan.errors import UsageError


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """A cache of three megabytes; of `real`, `old` was not used for longest."""
    monkeypatch.setenv("GAN_CACHE_DIR", str(tmp_path / "cache"))
    for age, name in enumerate(("real/new", "compiled/host/middle", "real/old", "parts/trusted")):
        path = tmp_path / "cache" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes(10**6))
        os.utime(path, (1e9 - age, 1e9 - age))
    return tmp_path / "cache"


def there(cache):
    return {path.name for path in cache.rglob("*") if path.is_file()}


def test_what_it_holds(cache):
    assert [(kind.name, kind.files, kind.size) for kind in user_cache.kinds()] == [
        ("compiled", 1, 10**6), ("parts", 1, 10**6), ("real", 2, 2 * 10**6)
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("limit", "kept"),
    [
        ("10", {"new", "middle", "old", "trusted"}),
        ("0.0025", {"new", "middle", "trusted"}),
        ("0.001", {"new", "trusted"}),
        ("0", {"trusted"}),
    ],
)
def test_what_was_not_used_for_longest_goes_first(cache, monkeypatch, limit, kept):
    monkeypatch.setenv("GAN_CACHE_LIMIT", limit)
    user_cache.trim()
    assert there(cache) == kept


def test_what_was_read_lately_was_used(cache, monkeypatch):
    os.utime(cache / "real" / "old", (2e9, 1e9 - 2))
    monkeypatch.setenv("GAN_CACHE_LIMIT", "0.001")
    user_cache.trim()
    assert there(cache) == {"old", "trusted"}


def test_emptying(cache):
    user_cache.empty(["compiled"])
    assert there(cache) == {"new", "old", "trusted"}
    user_cache.empty()
    assert there(cache) == {"trusted"}
    user_cache.empty(["parts"])
    assert there(cache) == set()
    user_cache.empty()


def test_misuse(cache, monkeypatch):
    with pytest.raises(UsageError, match="no 'reel'; did you mean 'real'"):
        user_cache.empty(["reel"])
    for value in ("ten", "-1", "nan"):
        monkeypatch.setenv("GAN_CACHE_LIMIT", value)
        with pytest.raises(UsageError, match=f"GAN_CACHE_LIMIT={value}: a number of GB"):
            user_cache.trim()


def test_other_things_in_the_folder_are_left_alone(cache, monkeypatch):
    """`GAN_CACHE_DIR` may be a folder in which the user has more than our cache."""
    (cache / "thesis").mkdir()
    (cache / "thesis" / "chapter").write_text("mine")
    (cache / "letter").write_text("mine")
    monkeypatch.setenv("GAN_CACHE_LIMIT", "0")
    user_cache.trim()
    user_cache.empty()
    assert there(cache) == {"trusted", "chapter", "letter"}
    with pytest.raises(UsageError, match="no 'thesis'"):
        user_cache.empty(["thesis"])
