"""A watchdog for calls into a library that may wait for ever.

kafka-python 3.0.12 waits without limit in `commit_transaction`, `abort_transaction` and, with
the broker gone, in places of its consumer. A thread cannot be interrupted in Python, so the
only bound is the process: when a guarded block outlives its limit, the process ends with
`TEMPORARY` and its supervisor starts it again. Everything here is built so that this is safe.

One daemon thread looks at one number; arming costs an assignment, so it can guard every call.

What it has seen also answers the liveness probe (`stalled`): a worker that gives no sign outside
of every guard hangs where nobody thought that anything could.
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
    """Guards one block at a time of one thread; `limit_s` in seconds, of blocks that name no other.

    `expire(doing, limit_s)` is called once, from the watching thread, when a block outlives it.
    """

    def __init__(self, limit_s: float, expire: Callable[[str, float], None] = end_process) -> None:
        self._limit_s = limit_s
        self._expire = expire
        self._deadline = _NEVER
        self._deadline_limit_s = limit_s
        self._doing = ""
        self._sign_at_s = time.monotonic()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)
        self._thread.start()

    @contextmanager
    def guard(self, doing: str, limit_s: float | None = None) -> Iterator[None]:
        """Bound the block. A block inside it starts the limits anew, for itself and the rest."""
        outer, outer_limit_s, nested = self._doing, self._deadline_limit_s, self._deadline != _NEVER
        self._arm(doing, self._limit_s if limit_s is None else limit_s)
        try:
            yield
        finally:
            if nested:
                self._arm(outer, outer_limit_s)
            else:
                self._deadline, self._sign_at_s = _NEVER, time.monotonic()

    @property
    def stalled(self) -> bool:
        """Whether the thread hangs: its block has outlived its limit, or it was in none for as long."""
        deadline_s = self._deadline
        unguarded_until_s = self._sign_at_s + self._limit_s
        return time.monotonic() > (unguarded_until_s if deadline_s == _NEVER else deadline_s)

    def _arm(self, doing: str, limit_s: float) -> None:
        self._doing, self._deadline_limit_s = doing, limit_s
        self._deadline = time.monotonic() + limit_s

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
                self._expire(self._doing, self._deadline_limit_s)
            else:
                late = True
