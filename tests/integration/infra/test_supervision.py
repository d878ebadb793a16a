"""Nothing that was started outlives who asked for it, however they end. Checked by pid.

Taking the end-of-file branch out of `supervisor._serve` turns the first test red; taking the look at
the parent's pid out, the second; taking PR_SET_PDEATHSIG out, the third.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from infra.local.launch import Launch
from infra.local.supervision import Supervision
from infra.local.waiting import wait_until
from iu_core.errors import Terminal
from tests.services import ROOT

PARENT = """
import json, os, sys, time
from pathlib import Path
from infra.local.launch import Launch
from infra.local.supervision import Supervision

directory, mode = sys.argv[1:]
sleep = (sys.executable, "-c", "import time; time.sleep(600)")
with Supervision() as supervision:
    supervision.remove_at_end(Path(directory) / "data")
    started = [supervision.start(Launch(f"s{n}", sleep, "/", directory + "/log")).pid for n in range(2)]
    forked = os.fork() if mode == "fork" else None
    if forked == 0:
        time.sleep(600)
    print(json.dumps({"supervisor": supervision.pid, "services": started, "fork": forked}), flush=True)
    time.sleep(600)
"""


@contextmanager
def _parent(tmp_path: Path, mode: str = "plain") -> Iterator[tuple[subprocess.Popen[str], dict[str, Any]]]:
    (tmp_path / "data").mkdir()
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(tmp_path), mode],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert parent.stdout is not None
    pids: dict[str, Any] = {}
    try:
        with parent.stdout:
            pids = json.loads(parent.stdout.readline())
            assert all(map(psutil.pid_exists, pids["services"]))
            yield parent, pids
    finally:
        for pid in (parent.pid, pids.get("fork")):
            if pid and psutil.pid_exists(pid):
                os.kill(pid, signal.SIGKILL)
        parent.wait(10)


def _gone(pids: list[int]) -> bool:
    return not any(psutil.pid_exists(pid) and _runs(pid) for pid in pids)


def _runs(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def test_a_parent_killed_leaves_nothing_running(tmp_path: Path) -> None:
    with _parent(tmp_path) as (parent, pids):
        os.kill(parent.pid, signal.SIGKILL)
        assert wait_until(lambda: _gone([*pids["services"], pids["supervisor"]]), timeout_s=10)
    assert not (tmp_path / "data").exists()


def test_a_fork_that_holds_the_pipe_open_does_not_keep_the_services(tmp_path: Path) -> None:
    """The pipe does not end with its parent; the supervisor sees that its parent is another."""
    with _parent(tmp_path, "fork") as (parent, pids):
        os.kill(parent.pid, signal.SIGKILL)
        assert wait_until(lambda: _gone([*pids["services"], pids["supervisor"]]), timeout_s=10)
        assert _runs(pids["fork"])


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the second guard is the Linux kernel's")
def test_a_supervisor_killed_takes_the_services_with_it(tmp_path: Path) -> None:
    with _parent(tmp_path) as (_, pids):
        os.kill(pids["supervisor"], signal.SIGKILL)
        assert wait_until(lambda: _gone(pids["services"]), timeout_s=10)


def test_an_interrupt_at_the_terminal_reaches_only_the_parent(tmp_path: Path) -> None:
    """Ctrl-C goes to the group of the terminal: the parent must be able to drain before they stop."""
    with _parent(tmp_path) as (parent, pids):
        groups = {os.getpgid(pid) for pid in (*pids["services"], pids["supervisor"])}
        assert os.getpgid(parent.pid) not in groups
        os.kill(parent.pid, signal.SIGINT)
        assert wait_until(lambda: _gone([*pids["services"], pids["supervisor"]]), timeout_s=10)


def _sleeper(tmp_path: Path, name: str = "sleeper", code: str = "import time; time.sleep(600)") -> Launch:
    return Launch(name, (sys.executable, "-c", code), str(tmp_path), str(tmp_path / f"{name}.log"))


def test_what_is_kept_stays_when_the_supervisor_has_gone(tmp_path: Path) -> None:
    with Supervision(detached=True) as supervision:
        started = supervision.start(_sleeper(tmp_path))
        supervision.keep()
        assert not _runs(supervision.pid)
    try:
        time.sleep(0.3)  # as long as the others took to be stopped
        assert _runs(started.pid)
    finally:
        os.kill(started.pid, signal.SIGKILL)


def test_detached_but_never_kept_is_stopped_all_the_same(tmp_path: Path) -> None:
    """`iu services up` that fails half-way leaves nothing."""
    with Supervision(detached=True) as supervision:
        started = supervision.start(_sleeper(tmp_path))
    assert not _runs(started.pid)


def test_a_service_that_ends_early_is_told_with_the_end_of_its_log(tmp_path: Path) -> None:
    code = "import sys; print('FATAL: no space left'); sys.exit(3)"
    with Supervision() as supervision:
        started = supervision.start(_sleeper(tmp_path, "broken", code))
        with pytest.raises(Terminal) as raised:
            supervision.wait_until(started, lambda: False, timeout_s=20)
    assert "exit code 3" in (raised.value.why or "")
    assert "FATAL: no space left" in (raised.value.why or "")
    assert str(tmp_path / "broken.log") in (raised.value.remedy or "")


def test_a_service_that_never_answers_is_given_up(tmp_path: Path) -> None:
    with Supervision() as supervision:
        started = supervision.start(_sleeper(tmp_path))
        with pytest.raises(Terminal, match="did not come up") as raised:
            supervision.wait_until(started, lambda: False, timeout_s=0.3)
    assert "does not answer" in (raised.value.why or "")
    assert not _runs(started.pid)


def test_a_program_that_is_not_there_is_named(tmp_path: Path) -> None:
    launch = Launch("nothing", ("no-such-program-here",), str(tmp_path), str(tmp_path / "log"))
    with Supervision() as supervision, pytest.raises(Terminal, match="nothing cannot be started") as raised:
        supervision.start(launch)
    assert "no-such-program-here" in (raised.value.why or "")


def test_a_supervisor_that_has_gone_is_said_to_have(tmp_path: Path) -> None:
    with Supervision() as supervision:
        os.kill(supervision.pid, signal.SIGKILL)
        with pytest.raises(Terminal, match="supervisor of the local services is gone"):
            supervision.start(_sleeper(tmp_path))
