"""Callbacks: what a run calls at a period of its own, with its metrics and its state."""

import abc
import pathlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated

from gan.argument_bounds import AtLeast, BoundedFields
from gan.registry import Registry
from gan.state import GANState


@dataclass(frozen=True)
class CallbackInput:
    """What a callback sees.

    Attributes:
      step: Generator updates so far.
      metrics: The train step's metrics by name, averaged over the steps since the last call; and
        `eval/<score>` where this step was scored.
      state: The run's state. The next step reuses its memory: what is to be kept must be copied.
      workdir: The run's folder.
    """

    step: int
    metrics: Mapping[str, float]
    state: GANState
    workdir: pathlib.Path


@dataclass(frozen=True)
class Callback(BoundedFields, abc.ABC):
    """A function called during training, by the first process alone.

    Where it raises, that is a line in the log and in `history.jsonl`, and the run goes on. A run that
    was killed makes some steps again, and calls again with them.

    Attributes:
      every_steps: It is called at the multiples of so many steps.
    """

    every_steps: Annotated[int, AtLeast(1)] = field(default=100, kw_only=True)

    @abc.abstractmethod
    def __call__(self, run: CallbackInput) -> None:
        """Does what is to be done at a step."""


CALLBACKS: Registry[Callback] = Registry("callback", Callback)
