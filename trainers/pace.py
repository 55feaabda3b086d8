"""How many steps a call makes: about a second of them, so that a signal is soon obeyed."""

import time

from gan.sharding import agree
from gan.trainers.train_step import MAX_STEPS

_SECONDS = 1.0


class Pace:
    """Learns from each call how long the next may be.

    The steps are the same however they are cut into calls, and a call costs about a millisecond
    beyond them. All processes take the first one's number.
    """

    def __init__(self) -> None:
        self._steps = 1
        self._begin = 0.0

    def steps(self, at_most: int) -> int:
        """How many steps the next call makes; its time starts now."""
        self._begin = time.monotonic()
        return agree(min(self._steps, at_most))

    def made(self, steps: int) -> None:
        """The call that was begun is over."""
        fitting = int(steps * _SECONDS / max(time.monotonic() - self._begin, 1e-6))
        self._steps = max(1, min(fitting, 4 * steps, MAX_STEPS))
