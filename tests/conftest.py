import os
import pathlib
import socket
from collections.abc import Callable

import jax
import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent

jax.config.update("jax_num_cpu_devices", 8)


def pytest_configure(config: pytest.Config) -> None:
    """Tests, and the programs they start, share one cache of compiled code."""
    cache = ROOT / ".pytest_cache" / "jax"
    os.environ["JAX_COMPILATION_CACHE_DIR"] = str(cache)
    jax.config.update("jax_compilation_cache_dir", str(cache))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)


@pytest.fixture
def x64():
    """Double precision, for what is held to a closed form."""
    with jax.enable_x64(True):
        yield


@pytest.fixture
def root() -> pathlib.Path:
    """The checkout."""
    return ROOT


@pytest.fixture
def free_port() -> Callable[[], int]:
    """Gives a port on which nobody listens."""

    def port() -> int:
        with socket.socket() as listener:
            listener.bind(("localhost", 0))
            return int(listener.getsockname()[1])

    return port
