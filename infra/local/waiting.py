"""A bounded wait."""

import time
from collections.abc import Callable

POLL_S = 0.05


def wait_until(ready: Callable[[], bool], *, timeout_s: float) -> bool:
    """Ask `ready` until it says yes; False if it has not after `timeout_s` seconds."""
    deadline = time.monotonic() + timeout_s
    while not ready():
        if time.monotonic() >= deadline:
            return False
        time.sleep(POLL_S)
    return True
