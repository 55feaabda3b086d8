"""Shares of the suite: all of them together are all tests."""

import pathlib
from types import SimpleNamespace

import pytest

from tests import conftest


class Item(SimpleNamespace):
    """What is asked of a pytest item."""

    def get_closest_marker(self, name):
        return name if name in self.marks else None

    def add_marker(self, marker):
        self.marks = {*self.marks, marker.name}


def chosen(items, share):
    left = list(items)
    hook = SimpleNamespace(pytest_deselected=lambda items: None)
    config = SimpleNamespace(option=SimpleNamespace(share=share), hook=hook)
    conftest.pytest_collection_modifyitems(config, left)
    return {item.nodeid for item in left}


@pytest.fixture
def items():
    unit, started = pathlib.Path("tests/test_a.py"), conftest.INTEGRATION / "test_b.py"
    names = [("test_a.py::test_one", unit, set())]
    names += [(f"test_a.py::test_many[{i}]", unit, set()) for i in range(40)]
    names += [(f"test_a.py::test_slow[{i}]", unit, {"slow"}) for i in range(40)]
    names += [(f"test_b.py::test_started[{i}]", started, set()) for i in range(40)]
    names += [("test_b.py::test_recipe[digits]", started, {"results"})]
    return [Item(nodeid=name, path=path, marks=marks) for name, path, marks in names]


def test_the_shares_together_are_all_tests(items):
    shares = [chosen(items, f"{k}/{conftest.SHARES}") for k in range(conftest.SHARES)]
    assert set.union(*shares) == chosen(items, "all") == {item.nodeid for item in items}
    assert max(map(len, shares)) < len(items) / 2
    always = {"test_a.py::test_one", "test_a.py::test_many[0]", "test_b.py::test_recipe[digits]"}
    assert set.intersection(*shares) == always == chosen(items, "first")
