"""The interface of a metric of the game: of both players, not of samples."""

import abc
import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias

from jax.sharding import Mesh

from gan.data.dataset import Examples
from gan.games import Game
from gan.metrics.metric import AnyMetric, Need
from gan.players import Pair, PlayerState

Measure: TypeAlias = Callable[[Pair[PlayerState], int], dict[str, float]]
"""From the players, without the states of their optimizers, and the run's step to scores by name."""


@dataclass(frozen=True)
class GameSetting:
    """What is the same for all checkpoints of a run.

    Attributes:
      game: The run's game.
      loss: The spec of its loss.
      batch_size: Real examples in a batch of the run.
      mesh: The devices.
      optimizers: The specs of its optimizers.
    """

    game: Game
    loss: str
    batch_size: int
    mesh: Mesh
    optimizers: Pair[str]


class GameMetric(AnyMetric):
    """A measure of the players of a run, computed only where it is named."""

    needs = Need.PLAYERS
    by_default: ClassVar[bool] = False

    @abc.abstractmethod
    def prepare(self, setting: GameSetting, examples: Examples, seed: int) -> Measure:
        """Makes the measure of a run's checkpoints; what it compiles is compiled once.

        Args:
          setting: What they have in common.
          examples: The real examples.
          seed: Seed of all that is random.
        """

    def warnings(self, scores: Mapping[str, float]) -> list[str]:
        """Returns reasons, each a line, not to rely on the scores."""
        return []


def describe(name: str, metric: GameMetric, setting: GameSetting | None) -> str:
    """Describes how a metric is measured: its spec with all arguments, the loss and the batch size."""
    if setting is None:
        return name
    own: dict[str, Any] = dataclasses.asdict(metric) if dataclasses.is_dataclass(metric) else {}
    arguments = ", ".join(f"{key}={value!r}" for key, value in own.items())
    return f"{name}({arguments}) of {setting.loss}, batches of {setting.batch_size}"
