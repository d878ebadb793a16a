"""What the processes of the bench used of the machine, and what all others used meanwhile.

A tree of processes is counted with the children that its members have waited for, so that the
sum over a tree only grows, also when one of its processes ends.
"""

import os
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

_KERNEL_THREADS = 2


@dataclass(frozen=True, slots=True)
class Usage:
    """CPU-seconds at one moment: of each group, of the whole bench, of the whole machine."""

    at_s: float
    groups: Mapping[str, float]
    bench_s: float
    machine_s: float


@dataclass(slots=True)
class Used:
    """What a block used: CPU-seconds by group, wall time, foreign CPU in cores."""

    groups: dict[str, float] = field(default_factory=dict)
    wall_s: float = 0.0
    foreign_cores: float = 0.0


@contextmanager
def measured(groups: Mapping[str, int]) -> Iterator[Used]:
    """Fill in, at the end of the block, what it used. `groups`: name → pid of the root of a tree."""
    used = Used()
    before = usage(groups)
    try:
        yield used
    finally:
        after = usage(groups)
        used.wall_s = after.at_s - before.at_s
        used.groups = {name: after.groups[name] - before.groups[name] for name in groups}
        foreign_s = (after.machine_s - before.machine_s) - (after.bench_s - before.bench_s)
        used.foreign_cores = max(0.0, foreign_s / used.wall_s)


def usage(groups: Mapping[str, int]) -> Usage:
    """Read the counters now."""
    return Usage(
        at_s=time.monotonic(),
        groups={name: tree_cpu_s(pid) for name, pid in groups.items()},
        bench_s=tree_cpu_s(os.getpid()),
        machine_s=_machine_cpu_s(),
    )


def tree_cpu_s(pid: int) -> float:
    """Return the CPU-seconds of a process, its descendants, and those they have waited for."""
    return sum(_cpu_s(process) for process in _tree(pid))


def tree_rss_bytes(pid: int) -> int:
    """Return the resident memory of a process and its descendants; shared pages count once each."""
    total = 0
    for process in _tree(pid):
        with suppress(psutil.Error):
            total += int(process.memory_info().rss)
    return total


def peak_rss_bytes(pid: int) -> int:
    """Return the largest resident memory one process ever had, 0 if it has ended. Linux only."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    found = re.search(r"^VmHWM:\s+(\d+) kB", status, re.MULTILINE)
    return int(found[1]) * 1024 if found else 0


def _tree(pid: int) -> Iterable[psutil.Process]:
    try:
        root = psutil.Process(pid)
        return [root, *root.children(recursive=True)]
    except psutil.Error:
        return []


def _cpu_s(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except psutil.Error:
        return 0.0
    return float(times.user + times.system + times.children_user + times.children_system)


def _machine_cpu_s() -> float:
    """Busy time of the machine without kernel threads, which write for everybody.

    Time stolen by the hypervisor counts: it is somebody else's, and it is missing here.
    Interrupts do not: those of the loopback are the bench's own.
    """
    times = psutil.cpu_times()
    busy = times.user + times.nice + times.system + getattr(times, "steal", 0.0)
    return float(busy) - tree_cpu_s(_KERNEL_THREADS)
