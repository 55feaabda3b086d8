import importlib
import importlib.util
import os
import pathlib
import socket
import sys
from collections.abc import Callable, Iterator
from types import ModuleType
from unittest import mock

import jax
import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent

jax.config.update("jax_num_cpu_devices", 8)


def pytest_configure(config: pytest.Config) -> None:
    """Gives tests, and the programs they start, one cache of compiled code."""
    cache = ROOT / ".pytest_cache" / "jax"
    os.environ["JAX_COMPILATION_CACHE_DIR"] = str(cache)
    jax.config.update("jax_compilation_cache_dir", str(cache))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Adds an option for a quick look at every test."""
    words = "of a test with several parameters, run only the first that is not slow"
    parser.addoption("--first-of-each", action="store_true", help=words)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keeps tests that need torch out of the other tests' processes; keeps the first of each if asked to."""
    for item in items:
        if "torch_fidelity" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.reference)
    if config.getoption("first_of_each"):
        quick = [item for item in items if item.get_closest_marker("slow") is None]
        first = {item.nodeid.partition("[")[0]: item for item in reversed(quick)}
        config.hook.pytest_deselected(items=[i for i in items if i not in first.values()])
        items[:] = reversed(first.values())


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
