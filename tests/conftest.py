import importlib
import importlib.util
import os
import pathlib
import re
import socket
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator
from types import ModuleType
from unittest import mock

import jax
import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
INTEGRATION = ROOT / "tests" / "integration"

jax.config.update("jax_num_cpu_devices", 8)


SHARES = 4
"""The whole suite takes long: a quarter of it is run at a time, CI takes them in turn."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Adds an option for how much of the suite is run."""
    words = (
        f"K/N: of the whole suite, each N-th test from K on, and the first of each test's parameters (0/{SHARES}, "
        f"unless files are named); first: the latter alone; all"
    )
    parser.addoption("--share", metavar="K/N", help=words)


def pytest_configure(config: pytest.Config) -> None:
    """Gives tests, and the programs they start, one cache of compiled code."""
    cache = ROOT / ".pytest_cache" / "jax"
    os.environ["JAX_COMPILATION_CACHE_DIR"] = str(cache)
    jax.config.update("jax_compilation_cache_dir", str(cache))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
    if config.option.share is None:  # workers are given what is decided here
        whole = config.args_source is pytest.Config.ArgsSource.TESTPATHS
        config.option.share = f"0/{SHARES}" if whole else "all"
    if not re.fullmatch(r"all|first|\d+/[1-9]\d*", config.option.share):
        raise pytest.UsageError(
            f"--share={config.option.share!r}: all, first, or K/N such as 0/{SHARES} is accepted"
        )


def pytest_report_header(config: pytest.Config) -> str:
    """Says which share of the tests is run."""
    return f"share of the tests: {config.option.share} (--share=all runs all)"


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keeps tests that need torch out of the other tests' processes; takes a share of the tests."""
    for item in items:
        if "torch_fidelity" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.reference)
    if (share := config.option.share) != "all":
        chosen = {item.nodeid for item in _firsts(items)}
        if share != "first":
            place, count = map(int, share.split("/"))
            chosen |= {i.nodeid for i in items if zlib.crc32(i.nodeid.encode()) % count == place}
        chosen |= {item.nodeid for item in items if item.get_closest_marker("results")}
        config.hook.pytest_deselected(items=[i for i in items if i.nodeid not in chosen])
        items[:] = [item for item in items if item.nodeid in chosen]


def _firsts(items: list[pytest.Item]) -> Iterable[pytest.Item]:
    """Returns the first of each test's parameters; none of those that start programs, which take long."""
    first: dict[str, pytest.Item] = {}
    for item in items:
        if item.get_closest_marker("slow") is None and INTEGRATION not in item.path.parents:
            first.setdefault(item.nodeid.partition("[")[0], item)
    return first.values()


@pytest.fixture(scope="module", autouse=True)
def compiled_programs(request: pytest.FixtureRequest) -> Iterator[None]:
    """Compiles a file's programs with little optimization, and drops them at its end.

    Most run once and briefly. Scripts that are started as programs, and files marked `optimized`, have what
    a user has. Each program has memory maps, of which a process has 65,530 at most.
    """
    optimized = request.node.get_closest_marker("optimized") is not None
    jax.config.update("jax_disable_most_optimizations", not optimized)
    yield
    jax.clear_caches()


@pytest.fixture
def x64():
    """Computes in double precision, for comparisons with a closed form."""
    with jax.enable_x64(True):
        yield


@pytest.fixture
def root() -> pathlib.Path:
    """Returns the folder of the checkout."""
    return ROOT


@pytest.fixture(scope="session")
def tensorflow() -> None:
    """Skips where TensorFlow is not installed: TFDS prepares datasets with it, and CLU imports it."""
    if importlib.util.find_spec("tensorflow") is None:
        pytest.skip("TensorFlow is not installed")


@pytest.fixture
def free_port() -> Callable[[], int]:
    """Returns a function that finds a port on which nobody listens."""

    def port() -> int:
        with socket.socket() as listener:
            listener.bind(("localhost", 0))
            return int(listener.getsockname()[1])

    return port


@pytest.fixture(scope="session")
def torch_fidelity() -> Callable[[str], ModuleType]:
    """Imports a module of torch-fidelity, a reference for scores; skips where it is not installed.

    CONTRIBUTING.md says how to install it. It imports torchvision, but does not use it here.
    """
    pytest.importorskip("torch", reason="torch is not installed: see CONTRIBUTING.md")
    below = (".datasets", ".io", ".models", ".transforms", ".transforms.functional", ".utils")
    mocks = {f"torchvision{name}": mock.MagicMock() for name in ("", *below)}

    def load(name: str) -> ModuleType:
        if importlib.util.find_spec("torch_fidelity") is None:
            pytest.skip("torch-fidelity is not installed: see CONTRIBUTING.md")
        with mock.patch.dict(sys.modules, mocks):
            return importlib.import_module(f"torch_fidelity.{name}")

    return load
