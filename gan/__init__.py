"""GANs as two-player games, on JAX and Flax; docs/python.md shows how to use it from Python."""

import importlib
import pathlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# In a checkout gan.models, gan.trainers and gan.configs lie beside this folder. An editable install
# links to single files; modules are looked for in the checkout itself, so that new files are found.
_here = pathlib.Path(__file__).resolve().parent
if not (_here / "models").is_dir():
    __path__[:] = [str(_here), str(_here.parent)]

if TYPE_CHECKING:
    from gan.analysis.trajectories import play as play
    from gan.cli import log_to_terminal as log_to_terminal
    from gan.config import TrainConfig as TrainConfig
    from gan.errors import RunError as RunError
    from gan.errors import UsageError as UsageError
    from gan.games.custom import make_game as make_game
    from gan.trainers.run import Run as Run
    from gan.trainers.run import load as load
    from gan.trainers.run import train as train

__all__ = [
    "Run", "RunError", "TrainConfig", "UsageError", "load", "log_to_terminal", "make_game", "play",
    "train",
]  # fmt: skip

_HOMES = {  # imported at first use: `import gan` alone is fast
    "Run": "gan.trainers.run",
    "RunError": "gan.errors",
    "TrainConfig": "gan.config",
    "UsageError": "gan.errors",
    "load": "gan.trainers.run",
    "log_to_terminal": "gan.cli",
    "make_game": "gan.games.custom",
    "play": "gan.analysis.trajectories",
    "train": "gan.trainers.run",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'gan' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
