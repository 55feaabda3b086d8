"""Runs a script as if some packages were not installed.

python tests/without.py tensorflow,tensorboard scripts/train.py --config ...
"""

import runpy
import sys
from importlib.machinery import ModuleSpec, PathFinder
from typing import Any


class Finder(PathFinder):
    """Finds modules where Python does, except for those that are said to be missing."""

    missing: tuple[str, ...] = ()

    @classmethod
    def find_spec(cls, fullname: str, *args: Any, **kwargs: Any) -> ModuleSpec | None:
        if fullname.partition(".")[0] in cls.missing:
            return None
        return super().find_spec(fullname, *args, **kwargs)


if __name__ == "__main__":
    _, names, *sys.argv = sys.argv
    Finder.missing = tuple(names.split(","))
    sys.meta_path[sys.meta_path.index(PathFinder)] = Finder
    runpy.run_path(sys.argv[0], run_name="__main__")
