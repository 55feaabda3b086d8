"""What a run does about a step in which something is not finite.

Under any policy a step whose losses, gradients or variables are not finite is not made: both players,
their optimizers and the averages stay as they were, and only the step's number goes on. An update
that is not finite though its gradient is (a learning rate of 1e38) shows when it is made: `skip`
then ends the run. The gradients are those of a step's last evaluation.
"""

from dataclasses import dataclass

from gan.specs import Registry


class OnNonfinite:
    """A policy; the training loop carries it out."""


ON_NONFINITE: Registry[OnNonfinite] = Registry("policy", OnNonfinite)


@ON_NONFINITE.register("raise")
@dataclass(frozen=True)
class Raise(OnNonfinite):
    """The run ends with an error, and its checkpoints stay as they are."""


@ON_NONFINITE.register("skip")
@dataclass(frozen=True)
class Skip(OnNonfinite):
    """The run goes on with the next batch.

    Attributes:
      in_a_row: After so many steps that could not be made, one after the other, it ends.
    """

    in_a_row: int = 100

    def __post_init__(self) -> None:
        if self.in_a_row < 1:
            raise ValueError(f"in_a_row must be at least 1, given {self.in_a_row}")


@ON_NONFINITE.register("rollback")
@dataclass(frozen=True)
class Rollback(OnNonfinite):
    """The run goes back to its newest periodic checkpoint, and on with other batches and noise.

    Attributes:
      times: How often in the life of a run; then it ends with an error.
    """

    times: int = 3

    def __post_init__(self) -> None:
        if self.times < 1:
            raise ValueError(f"times must be at least 1, given {self.times}")
