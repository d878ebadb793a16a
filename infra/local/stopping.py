"""Is that process still the one we started, and how is it ended within a bound."""

import contextlib
import os
import signal
import time
from collections.abc import Sequence

import psutil

from infra.local.launch import Started

# A clock set by NTP after boot shifts what psutil computes as the time of creation; a pid does not
# come round again in so short a time.
CREATE_TIME_TOLERANCE_S = 5.0
KILL_WAIT_S = 5.0


def is_running(started: Started) -> bool:
    """Tell whether `started` still runs: same pid, same time of creation, and not a zombie."""
    try:
        process = psutil.Process(started.pid)
        if abs(process.create_time() - started.create_time) > CREATE_TIME_TOLERANCE_S:
            return False
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False


def stop(processes: Sequence[Started]) -> tuple[str, ...]:
    """Ask every process to stop, last started first; kill what has not ended when its grace is over.

    Returns the names that had to be killed. Processes that are gone, or whose pid now belongs to
    somebody else, are left alone. Bounded by the longest grace plus `KILL_WAIT_S`.
    """
    running = [started for started in reversed(processes) if is_running(started)]
    for started in running:
        _send(started, signal.Signals[started.stop_signal])
    begin = time.monotonic()
    killed = []
    for started in running:
        if not _ended(started, begin + started.grace_s):
            _send(started, signal.SIGKILL)
            killed.append(started)
    for started in killed:
        _ended(started, time.monotonic() + KILL_WAIT_S)
    return tuple(started.name for started in killed)


def _send(started: Started, number: signal.Signals) -> None:
    """Signal the process; SIGKILL goes to its whole group, because nothing else will stop its children."""
    with contextlib.suppress(ProcessLookupError):
        if number is signal.SIGKILL and os.getpgid(started.pid) == started.pid:
            os.killpg(started.pid, number)
        else:
            os.kill(started.pid, number)


def _ended(started: Started, deadline: float) -> bool:
    while is_running(started):
        if time.monotonic() >= deadline:
            return False
        _reap(started.pid)
        time.sleep(0.02)
    _reap(started.pid)
    return True


def _reap(pid: int) -> None:
    # Only the parent (the supervisor) can; for everybody else there is nothing to collect.
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)
