"""A watchdog for calls into a library that may wait for ever.

kafka-python 3.0.12 waits without limit in `commit_transaction`, `abort_transaction` and, with
the broker gone, in places of its consumer. A thread cannot be interrupted in Python, so the
only bound is the process: when a guarded block outlives its limit, the process ends with
`TEMPORARY` and its supervisor starts it again. Everything here is built so that this is safe.

One daemon thread looks at one number; arming costs an assignment, so it can guard every call.
"""

import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from iu_core.errors import ExitCode

_NEVER: Final = float("inf")


def end_process(doing: str, limit_s: float) -> None:
    """Say why on stderr and leave at once: no handler may wait for what hangs."""
    logging.getLogger(__name__).error(
        "watchdog: %s took longer than %.1f s; ending this process", doing, limit_s
    )
    sys.stderr.flush()
    os._exit(ExitCode.TEMPORARY)


class Watchdog:
    """Guards one block at a time of one thread; `limit_s` in seconds.

    `expire(doing, limit_s)` is called once, from the watching thread, when a block outlives it.
    """

    def __init__(self, limit_s: float, expire: Callable[[str, float], None] = end_process) -> None:
        self._limit_s = limit_s
        self._expire = expire
        self._deadline = _NEVER
        self._doing = ""
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)
        self._thread.start()

    @contextmanager
    def guard(self, doing: str) -> Iterator[None]:
        """Bound the block by the limit. A block inside it starts the limit anew, for itself and the rest."""
        outer, self._doing = self._doing, doing
        nested = self._deadline != _NEVER
        self._deadline = time.monotonic() + self._limit_s
        try:
            yield
        finally:
            self._doing = outer
            self._deadline = time.monotonic() + self._limit_s if nested else _NEVER

    def close(self) -> None:
        """Stop watching. Idempotent."""
        self._stopped.set()
        self._thread.join(timeout=1)

    def _watch(self) -> None:
        # A SIGSTOPped process finds its deadline passed when it wakes. One more tick lets a
        # call that has its answer already return, and a fenced zombie say 76 instead of 75.
        tick_s = min(self._limit_s / 10, 0.5)
        late = False
        while not self._stopped.wait(tick_s):
            if time.monotonic() < self._deadline:
                late = False
            elif late:
                self._deadline = _NEVER
                self._expire(self._doing, self._limit_s)
            else:
                late = True
