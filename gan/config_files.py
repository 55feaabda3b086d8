"""Config files: a Python file with `get_config()`, or the `config.json` of a run."""

import contextlib
import dataclasses
import importlib.util
import os
import pathlib
import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from gan import parts
from gan.config import TrainConfig, from_mapping, parse_value, with_new_names
from gan.errors import Terminated, UsageError, describe, describe_in, nearest
from gan.files import user_path
from gan.run_folder import check_plain
from gan.untrusted import read_json


def load(
    path: str | os.PathLike[str],
    overrides: Mapping[str, str] | None = None,
    given: Iterable[str] = (),
) -> TrainConfig:
    """Reads a config file, applies what the command line changes, and loads the parts it names.

    Args:
      path: A Python file with `get_config()`, which returns a mapping such as a ConfigDict, or the
        `config.json` of a run, whose parts are loaded as far as the user trusts them.
      overrides: New values by key, as text.
      given: Files and modules with parts that the user names here; see `gan.parts.load`.

    Raises:
      UsageError: where the file, an override or a part is not what it should be.
    """
    path = user_path(path)
    _check_exists(path)
    folder, is_saved = path.parent, path.suffix == ".json"
    with _neighbours(folder):
        values = with_new_names(_read_json(path) if is_saved else _run_python(path))
    changes = with_new_names(
        {name: parse_value(name, text) for name, text in (overrides or {}).items()}
    )
    if "parts" in changes:  # the user's own words, where the command is typed
        folder, is_saved = pathlib.Path.cwd(), False
    return with_parts(from_mapping(values | changes), folder, given, is_saved)


def of_run(workdir: str | os.PathLike[str]) -> pathlib.Path:
    """Returns the path of the config of the run in a folder.

    Raises:
      UsageError: where there is none, or the folder is not as a run leaves it.
    """
    check_plain(user_path(workdir))
    path = user_path(workdir) / "config.json"
    if not path.is_file():
        raise UsageError(f"--workdir={workdir} holds no run to go on with: a --config is needed")
    return path


def with_parts(
    config: TrainConfig, folder: pathlib.Path, given: Iterable[str] = (), is_saved: bool = False
) -> TrainConfig:
    """Loads the parts that a config names, and returns it with their full names.

    Args:
      config: The config.
      folder: The folder to which paths in it are relative; given ones are to the current folder.
      given: Files and modules that the user names besides.
      is_saved: Whether the config is a saved run's, and may come from a stranger.

    Raises:
      UsageError: see `gan.parts`.
    """
    names = [parts.absolute(name, folder) for name in config.parts]
    loaded = parts.load_saved(names, {}, given) if is_saved else parts.load(names, given)
    return dataclasses.replace(config, parts=loaded)


def _check_exists(path: pathlib.Path) -> None:
    try:
        exists = path.is_file()
    except OSError as error:
        raise UsageError(f"config file {path}: {error.strerror}") from error
    if not exists:
        folder = path.parent
        there = sorted(other.name for other in folder.glob("*.py")) if folder.is_dir() else []
        raise UsageError(f"config file {path} does not exist{nearest(path.name, there)}")


def _read_json(path: pathlib.Path) -> Mapping[str, Any]:
    try:
        values = read_json(path)
    except (ValueError, OSError) as error:
        raise UsageError(f"config file {path}: {error}") from error
    if not isinstance(values, dict):
        raise UsageError(f"config file {path}: a JSON object is accepted")
    return values


def _run_python(path: pathlib.Path) -> Mapping[str, Any]:
    spec = importlib.util.spec_from_file_location(f"_config_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise UsageError(f"config file {path}: a Python file or a config.json is accepted")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        if not callable(getattr(module, "get_config", None)):
            raise UsageError(f"config file {path} has no get_config()")
        config = module.get_config()
    except (UsageError, KeyboardInterrupt, Terminated):
        raise
    except BaseException as error:  # whatever a user's own file may raise, as by `sys.exit`
        files = {str(own) for own in path.absolute().parent.glob("*.py")}
        where = describe_in(files, error) or f"{path}: {describe(error)}"
        raise UsageError(f"config file {where}") from error
    if isinstance(config, Mapping):
        return config
    if hasattr(config, "items"):
        return dict(config.items())
    raise UsageError(
        f"config file {path}: get_config() must return a ConfigDict, not {type(config).__name__}"
    )


@contextlib.contextmanager
def _neighbours(folder: pathlib.Path) -> Iterator[None]:
    """Lets a config file import the files beside it; nothing is left of them, or beside them."""
    before, path = set(sys.modules), str(folder.resolve())
    writes_bytecode, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    sys.path.insert(0, path)
    try:
        yield
    finally:
        sys.path.remove(path)
        sys.dont_write_bytecode = writes_bytecode
        for name in set(sys.modules) - before:  # another folder may have files of these names
            file = getattr(sys.modules[name], "__file__", None)
            if file is not None and os.path.dirname(file) == path:
                del sys.modules[name]
