"""Policies for a step in which something is not finite.

Under any policy a step whose losses, gradients or variables are not finite is not made: both players,
their optimizers and the averages stay as they were, and only the step's number goes on. An update
that is not finite although its gradient is (a learning rate of 1e38) is seen only after it was made;
under `raise` and `skip` it ends the run. The gradients are those of a step's last evaluation.
"""

import abc
from dataclasses import dataclass
from typing import Annotated

from gan.argument_bounds import AtLeast, BoundedFields
from gan.registry import Registry

_OVERFLOW = (
    "the update overflowed, though its gradient did not: a smaller learning rate, or "
    "on_nonfinite = 'rollback', which goes back and on with other batches"
)


class OnNonfinite(BoundedFields, abc.ABC):
    """A policy, which the training loop carries out."""

    @property
    def max_rollbacks(self) -> int:
        """How often in its life a run may go back to an older state."""
        return 0

    @abc.abstractmethod
    def reason_to_end(self, in_a_row: int, update_overflowed: bool) -> str | None:
        """Returns why the run ends after a step that is not finite, or None where it goes on.

        Args:
          in_a_row: How many steps in a row, up to the last one, could not be made.
          update_overflowed: Whether an update was made that was not finite.
        """


ON_NONFINITE: Registry[OnNonfinite] = Registry("policy", OnNonfinite)


@ON_NONFINITE.register("raise")
@dataclass(frozen=True)
class Raise(OnNonfinite):
    """The run ends with an error; its checkpoints stay as they are."""

    def reason_to_end(self, in_a_row: int, update_overflowed: bool) -> str | None:  # noqa: D102
        if update_overflowed:
            return _OVERFLOW
        return (
            "on_nonfinite = 'skip' leaves such steps out, 'rollback' goes back and on with other "
            "batches"
        )


@ON_NONFINITE.register("skip")
@dataclass(frozen=True)
class Skip(OnNonfinite):
    """The run goes on with the next batch.

    Attributes:
      in_a_row: The run ends after so many such steps, one after the other.
    """

    in_a_row: Annotated[int, AtLeast(1)] = 100

    def reason_to_end(self, in_a_row: int, update_overflowed: bool) -> str | None:  # noqa: D102
        if update_overflowed:
            return _OVERFLOW
        if in_a_row >= self.in_a_row:
            return f"on_nonfinite = 'skip' ends the run after {self.in_a_row} such steps in a row"
        return None


@ON_NONFINITE.register("rollback")
@dataclass(frozen=True)
class Rollback(OnNonfinite):
    """The run goes back to its newest periodic checkpoint, and on with other batches and noise.

    Attributes:
      times: How often in the life of a run; then it ends with an error.
    """

    times: Annotated[int, AtLeast(1)] = 3

    @property
    def max_rollbacks(self) -> int:  # noqa: D102
        return self.times

    def reason_to_end(self, in_a_row: int, update_overflowed: bool) -> str | None:  # noqa: D102
        return None
