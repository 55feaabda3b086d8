"""Parts of one's own: files and modules that register them, named in `config.parts`.

Such a file is code. One that the user names is executed. One that a saved run names is executed only
where the user has trained with the very same content before, or names it too: the run may come from
a stranger.
"""

import contextlib
import hashlib
import importlib
import importlib.util
import linecache
import pathlib
import sys
import types
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from absl import logging

from gan.errors import Terminated, UsageError, describe, describe_in, nearest
from gan.files import cache_folder, user_path
from gan.registry import REGISTRIES, all_or_nothing, forget, installed_parts
from gan.untrusted import read_plain


@dataclass(frozen=True)
class Source:
    """A file or module with parts, and its content.

    Attributes:
      name: The absolute path of a file, or the dotted name of a module.
      path: The file; of a package, its `__init__.py`.
      sha256: SHA-256 of the content; of a module in a package, of all the package's Python files.
      code: The content of the file.
    """

    name: str
    path: pathlib.Path
    sha256: str
    code: bytes

    def defines(self, origin: str) -> bool:
        """Returns whether the origin of a registered part is this file or within this package."""
        if self.path.name == "__init__.py":
            return self.path.parent in pathlib.Path(origin).parents
        return str(self.path) == origin


_CODE_BYTES = 2**24  # the most of a file
_LOADED: dict[str, Source] = {}  # in this process, by name


def absolute(name: str, folder: pathlib.Path) -> str:
    """Returns a name of `config.parts` so that it means the same in every folder.

    Args:
      name: A path of a `.py` file, relative to the folder, or the name of a module.
      folder: That of the config.

    Raises:
      UsageError: for what cannot be a path.
    """
    if not name.endswith(".py"):
        return name
    try:
        return str((folder / user_path(name)).resolve())
    except (OSError, ValueError, RuntimeError) as error:
        raise UsageError(f"parts: {name!r} is no path: {describe(error)}") from error


def load(names: Iterable[str], given: Iterable[str] = ()) -> tuple[str, ...]:
    """Executes what the user names; what is unchanged since an earlier call is not executed again.

    Args:
      names: A config's.
      given: Those of the command line, relative to the current folder. One with the file name of a
        config's stands for it.

    Returns:
      All names: the config's, or what stands for them, and then the others.

    Raises:
      UsageError: for a source that is not there, or that fails, with its file and line.
    """
    merged = _merge(names, _here(given))
    _execute_all([_find(name) for name in merged])
    return merged


def load_saved(
    names: Iterable[str], digests: Mapping[str, str], given: Iterable[str] = ()
) -> tuple[str, ...]:
    """Executes the sources that a saved run names, as far as the user trusts them.

    Args:
      names: The run's `config.parts`.
      digests: Their SHA-256 when the run was saved, as far as they are known.
      given: Sources that the user names here. One with the file name or the content of a saved one
        stands for it, whatever else has changed.

    Returns:
      All names, as `load` does.

    Raises:
      UsageError: for a source that is missing, that has changed since, or with which the user has
        not trained, and for one that fails.
    """
    own = {name: _find(name) for name in _here(given)}
    renamed = {source.sha256: name for name, source in own.items()}
    names = [renamed.get(digests.get(name, ""), name) for name in names]
    merged = _merge(names, own)
    gone = [name for name in merged if name.endswith(".py") and not pathlib.Path(name).exists()]
    new = [name for name in own if name not in names and merged.index(name) >= len(names)]
    if len(gone) == len(new) == 1:  # renamed, and changed too
        merged = tuple(new[0] if name == gone[0] else name for name in merged if name != new[0])
    _execute_all([own[name] if name in own else _trusted(name, digests) for name in merged])
    for line in changes(digests, {name: source.sha256 for name, source in own.items()}):
        logging.warning("%s, and is used as it is now", line)
    return merged


def _here(names: Iterable[str]) -> list[str]:
    return [absolute(name, pathlib.Path.cwd()) for name in names]


def _merge(names: Iterable[str], given: Iterable[str]) -> tuple[str, ...]:
    """Returns the names, each replaced by a given one of the same file name; then the other given."""
    instead = {pathlib.Path(name).name: name for name in given}
    merged = [instead.pop(pathlib.Path(name).name, name) for name in names]
    return (*merged, *instead.values())


def digests_of(names: Iterable[str]) -> dict[str, str]:
    """Returns the SHA-256 of sources as they were executed in this process.

    Raises:
      UsageError: for one that was not.
    """
    names = list(names)
    for name in names:
        if name not in _LOADED:
            raise UsageError(f"parts: {name} is not loaded: gan.parts.load does that")
    return {name: _LOADED[name].sha256 for name in names}


def remember(names: Iterable[str]) -> None:
    """Notes that the user trains with sources: saved runs that name them can be used from now on."""
    for name in names:
        note = _note(_LOADED[name].sha256)
        try:
            note.parent.mkdir(parents=True, exist_ok=True)
            note.write_text(f"{name}\n")
        except OSError as error:
            logging.warning("%s cannot be written (%s): name %s again", note, error, name)


def undeclared(names: Iterable[str], used: Iterable[tuple[str, str]]) -> list[str]:
    """Describes the parts, by kind and name, that are from none of some sources or packages."""
    sources = [*(_LOADED[name] for name in names), *_installed()]
    return [
        f"{kind} {part!r}, registered by {origin}"
        for kind, part in used
        for origin in [REGISTRIES[kind].origin(part)]
        if not any(source.defines(origin) for source in sources)
    ]


def changes(old: Mapping[str, str], new: Mapping[str, str]) -> list[str]:
    """Describes the sources whose content is not what it was; a file may have another folder now."""
    file_names = [pathlib.Path(name).name for name in old]
    before = {
        pathlib.Path(name).name: sha256
        for name, sha256 in old.items()
        if file_names.count(pathlib.Path(name).name) == 1
    } | dict(old)
    return [
        f"parts: {name} has changed since the run was saved"
        for name, sha256 in new.items()
        if before.get(name, before.get(pathlib.Path(name).name, sha256)) != sha256
    ]


def reason(error: BaseException) -> str | None:
    """Describes an error that came through a loaded source, with its file and line; else None."""
    return describe_in({str(source.path) for source in _LOADED.values()}, error)


def _trusted(name: str, digests: Mapping[str, str]) -> Source:
    """Finds a source of a saved run.

    Raises:
      UsageError: where it has changed since, or the user has not trained with it.
    """
    remedy = f"--parts={name} uses it as it is now, if you trust it"
    source = _find(name, "; --parts=FILE says where it is now")
    if digests.get(name, source.sha256) != source.sha256:
        raise UsageError(f"parts: {name} has changed since the run was saved; {remedy}")
    was_executed = source.sha256 in {other.sha256 for other in _LOADED.values()}
    if not was_executed and not _note(source.sha256).is_file():
        raise UsageError(f"parts: you have not trained with {name} before, as it is now; {remedy}")
    return source


def _installed() -> Iterator[Source]:
    for entry in installed_parts():
        with contextlib.suppress(UsageError):  # it was left out, with a warning
            yield _find(entry.module)


def _note(sha256: str) -> pathlib.Path:
    """Returns the file that exists if the user has trained with this content."""
    return cache_folder("parts", sha256)


def _find(name: str, hint: str = "") -> Source:
    """Reads a source without executing anything.

    Raises:
      UsageError: where there is none.
    """
    path = pathlib.Path(name) if name.endswith(".py") else _module_file(name)
    try:
        code = read_plain(path, _CODE_BYTES)
        digest = hashlib.sha256(code)
        if name != str(path) and (package := _package_of(name, path)) is not None:
            for file in sorted(package.rglob("*.py")):
                digest.update(file.relative_to(package).as_posix().encode())
                digest.update(read_plain(file, _CODE_BYTES))
    except (OSError, ValueError) as error:  # the path itself may be of a stranger's run
        there = (
            {other.name for other in path.parent.glob("*.py")} if path.parent.is_dir() else set()
        )
        hint = hint or nearest(path.name, there - {path.name})
        reason = getattr(error, "strerror", error)
        raise UsageError(f"parts: {str(path)!r} cannot be read: {reason}{hint}") from error
    return Source(name, path, digest.hexdigest(), code)


def _package_of(name: str, path: pathlib.Path) -> pathlib.Path | None:
    """Returns the folder of the outermost package that a module is in; None for one in no package."""
    depth = name.count(".") + (path.name == "__init__.py")
    return path.parents[depth - 1] if depth else None


def _module_file(name: str) -> pathlib.Path:
    """Finds the file of a module without importing the packages that it is in."""
    found, places = None, None
    pieces = name.split(".") if "\0" not in name else [""]
    for place in range(len(pieces) if all(pieces) else 0):
        inner = ".".join(name.split(".")[: place + 1])
        specs = (finder.find_spec(inner, places) for finder in sys.meta_path)
        if (found := next((spec for spec in specs if spec is not None), None)) is None:
            break
        places = found.submodule_search_locations
    if found is None or found.origin is None or not found.origin.endswith(".py"):
        raise UsageError(
            f"parts: {name!r} is neither a .py file nor a module of Python code that can be imported"
        )
    return pathlib.Path(found.origin)


def _execute_all(sources: Iterable[Source]) -> None:
    """Executes sources in their order; those after one that has changed may import it: again too."""
    again = False
    for source in sources:
        again = _execute(source, again) or again


def _execute(source: Source, again: bool) -> bool:
    """Executes a source, all of whose parts are registered, or none.

    Returns:
      Whether it was; what is unchanged is executed again on demand only.
    """
    old = _LOADED.get(source.name)
    if not again:
        for other in _LOADED.values():
            if other.sha256 == source.sha256:  # a copy has the same parts
                _LOADED[source.name] = replace(source, path=other.path)
                return False
    try:
        with all_or_nothing():
            _LOADED[source.name] = source  # so that `reason` knows its file
            _import(source, again=old is not None)
    except Terminated:
        raise
    except (Exception, SystemExit) as error:
        where = reason(error) or f"{source.path}: {describe(error)}"
        missing = error.name if isinstance(error, ModuleNotFoundError) else None
        if missing and (source.path.parent / f"{missing}.py").exists():
            where += f"; name {missing}.py before it in config.parts"
        del _LOADED[source.name]
        if old is not None:
            _LOADED[source.name] = old
        raise UsageError(f"parts: {where}") from error
    return True


def _import(source: Source, again: bool) -> None:
    if not source.name.endswith(".py"):
        if again:
            forget(source.defines)
            importlib.reload(sys.modules[source.name])
        else:
            importlib.import_module(source.name)
        return
    forget(source.defines)
    linecache.checkcache(str(source.path))
    # Two files of one name, in two folders, are two modules.
    module = types.ModuleType(f"{source.path.stem}@{source.sha256[:8]}")
    module.__file__ = str(source.path)
    sys.modules[module.__name__] = module
    # What was read is what is executed: the import system might take it from a `.pyc` beside it.
    exec(compile(source.code, str(source.path), "exec"), module.__dict__)  # noqa: S102
    _name_plainly(module, source.path.stem)


def _name_plainly(module: types.ModuleType, stem: str) -> None:
    """Lets sources that are loaded later import this one as `stem`, if nothing else has the name."""
    if not stem.isidentifier():  # to look for `a.b` would import a package `a`
        return
    taken = sys.modules.get(stem)
    if taken is None and importlib.util.find_spec(stem) is not None:
        return
    if taken is None or "@" in taken.__name__:
        sys.modules[stem] = module
