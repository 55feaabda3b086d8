"""SIGTERM, SIGINT (Ctrl-C) and SIGHUP as a request: finish the call, save, leave.

A thread of its own watches for them, so that it notices them while the main thread is inside XLA:

- before the first step there is nothing to save, and the program ends at once;
- then the loop learns of it from `Stop.agreed`, saves, and ends by `Stopped`; if that takes longer
  than `PATIENCE` seconds, the program ends without it;
- a second SIGINT ends the program at once.

The exit code is 128 + the signal's number, as shells have it: 130 for SIGINT, 143 for SIGTERM, 129
for SIGHUP, which comes when the terminal goes away. Under `nohup` SIGHUP is ignored, here too.

On a cluster SIGTERM is a notice of preemption, which JAX receives; it makes all processes agree on
the call after which they save. Ctrl-C and SIGHUP then send such a notice.

JAX is imported late: the watch begins before the slow imports.
"""

import contextlib
import os
import signal
import socket
import sys
import threading
from types import FrameType, TracebackType
from typing import NoReturn, Self

from gan.errors import Stopped

PATIENCE = 60.0


class Stop:
    """Watches for the signals within a `with` block, in the main thread.

    Args:
      distributed: Whether `jax.distributed` is used.

    Attributes:
      requested: The signal for which the run has to stop, or None.
      can_save: Whether there are steps to save; set by the loop.
    """

    def __init__(self, distributed: bool = False) -> None:
        self.requested: signal.Signals | None = None
        self.can_save = False
        self._distributed = distributed
        self._noticed = False
        self._calls = 0
        self._signals = [signal.SIGINT] if distributed else [signal.SIGINT, signal.SIGTERM]
        if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
            self._signals.append(signal.SIGHUP)

    def __enter__(self) -> Self:
        self._reader, self._writer = socket.socketpair()
        self._writer.setblocking(False)
        self._old_fd = signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        self._old = {number: signal.signal(number, _heard) for number in self._signals}
        threading.Thread(target=self._watch, name="signals", daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        signal.set_wakeup_fd(self._old_fd)
        for number, handler in self._old.items():
            signal.signal(number, handler)
        self._writer.close()  # ends the thread

    def agreed(self) -> bool:
        """Returns whether to stop after this call; every process has to ask after every call."""
        if self._distributed and self.requested is None:
            from jax.experimental import multihost_utils

            self._calls += 1  # JAX requires numbers without gaps
            if multihost_utils.reached_preemption_sync_point(self._calls):
                self._request(signal.SIGTERM)
        return self.requested is not None

    @property
    def name(self) -> str:
        """Name of the signal for which the run has to stop, such as `SIGTERM`."""
        assert self.requested is not None
        return self.requested.name

    def leave(self, message: str) -> NoReturn:
        """Raises Stopped for the signal that was requested."""
        assert self.requested is not None
        raise Stopped(self.requested, message)

    def _watch(self) -> None:
        while heard := self._reader.recv(1):
            if heard[0] in self._signals:
                self._hear(signal.Signals(heard[0]))
        self._reader.close()

    def _hear(self, number: signal.Signals) -> None:
        if not self.can_save:
            _leave(number, "before the first step; nothing is lost")
        if not self._noticed:
            self._noticed = True
            if self._distributed:
                os.kill(os.getpid(), signal.SIGTERM)
            else:
                self._request(number)
        elif number == signal.SIGINT:
            _leave(number, "at once; what came after the last checkpoint is lost")

    def _request(self, number: signal.Signals) -> None:
        self._noticed = True
        late = (number, f"without saving: {PATIENCE:.0f} s were not enough")
        timer = threading.Timer(PATIENCE, _leave, late)
        timer.daemon = True
        timer.start()
        _say(f"{number.name}: finishing the call, then saving; Ctrl-C leaves at once")
        self.requested = number


def _heard(number: int, frame: FrameType | None) -> None:
    """Does nothing: Python requires a handler, and the thread does the work."""


def _say(text: str) -> None:
    with contextlib.suppress(OSError):  # nobody reads it any more: `... 2>&1 | tee log`, Ctrl-C
        sys.stderr.write(text + "\n")
        sys.stderr.flush()


def _leave(number: signal.Signals, how: str) -> NoReturn:
    """Ends the program from any thread, waiting for no other."""
    _say(f"{os.path.basename(sys.argv[0])}: stopped by {number.name} {how}")
    os._exit(128 + number)
