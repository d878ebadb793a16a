"""What SIGTERM and SIGINT do to a process: drain it at the first, abort it at the second."""

import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from iu_core.errors import ExitCode

log = logging.getLogger(__name__)


def _interrupt(_: str) -> None:
    raise KeyboardInterrupt


def end_undrained(why: str) -> None:
    """Say why and leave with 75 at once: no handler may wait for what hangs."""
    log.error("ended before it was drained: %s", why)
    sys.stderr.flush()
    os._exit(ExitCode.TEMPORARY)


@contextmanager
def stop_on_signals(abort: Callable[[str], None] = _interrupt) -> Iterator[threading.Event]:
    """Yield an event that the first SIGTERM or SIGINT sets; the second calls `abort` with its reason.

    Main thread only. The previous handlers come back at the end.
    """
    stop = threading.Event()
    with _handled(stop, threading.Event(), abort):
        yield stop


@contextmanager
def drain_on_signals(grace_s: float, end: Callable[[str], None] = end_undrained) -> Iterator[threading.Event]:
    """Yield an event that the first SIGTERM or SIGINT sets: the block has `grace_s` seconds to end.

    `end` is called with the reason when it has not, from a thread, or by the second signal. Only for
    work that a kill cannot harm. Main thread only; the previous handlers come back at the end.
    """
    stop, told, over = threading.Event(), threading.Event(), threading.Event()

    def watch() -> None:
        told.wait()
        if not over.wait(grace_s):
            end(f"it took longer than {grace_s:g} s, the grace period")

    threading.Thread(target=watch, name="grace", daemon=True).start()
    try:
        with _handled(stop, told, end):
            yield stop
    finally:
        over.set()
        told.set()


@contextmanager
def _handled(stop: threading.Event, told: threading.Event, abort: Callable[[str], None]) -> Iterator[None]:
    def handle(number: int, _frame: FrameType | None) -> None:
        # Not `stop`: whoever waits for it may have set it, too.
        if told.is_set():
            abort(f"a second signal, {signal.Signals(number).name}")
        told.set()
        stop.set()

    before = {number: signal.signal(number, handle) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
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
