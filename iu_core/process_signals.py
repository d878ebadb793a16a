"""What SIGTERM and SIGINT do to a process: drain it at the first, abort it at the second."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def stop_on_signals() -> Iterator[threading.Event]:
    """Yield an event that the first SIGTERM or SIGINT sets; the second raises KeyboardInterrupt.

    Main thread only. The previous handlers come back at the end.
    """
    stop, told = threading.Event(), threading.Event()

    def handle(_signum: int, _frame: FrameType | None) -> None:
        # Not `stop`: whoever waits for it may have set it, too.
        if told.is_set():
            raise KeyboardInterrupt
        told.set()
        stop.set()

    before = {number: signal.signal(number, handle) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def sigterm_interrupts() -> Iterator[None]:
    """Let SIGTERM raise KeyboardInterrupt, as Ctrl-C does, so that what was made is removed again.

    Main thread only. The previous handler comes back at the end.
    """
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
