"""The process that starts the services and outlives whoever asked for them, by a moment.

A parent that is killed with SIGKILL cannot clean up. So it starts nothing itself: it asks this
process, in a session of its own, through a pipe. When the pipe ends, for whatever reason, every
service is stopped by pid and the directories given over are removed. There is no instant at which
a service runs and nobody would stop it: the supervisor exists before the first one.

Second guard, for a supervisor that is itself killed: on Linux each service asks the kernel to be
signalled when its parent dies (PR_SET_PDEATHSIG), unless it is to be left running.

One JSON object per line; each request gets one answer:
  {"start": Launch, "detached": bool} → {"pid", "create_time"} | {"error"}
  {"poll": pid}                      → {"exit": code | null}
  {"on_stop": {"argv", "environment", "timeout_s"}} → {}   run after the services have ended
  {"remove": path}                   → {}                  a directory to remove at the very end
  {"keep": true}                     → {}                  forget everything, leave all running, exit
  {"stop": true}, or end of file     → stop everything, exit
"""

import contextlib
import ctypes
import json
import os
import select
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import psutil

from infra.local.launch import Launch, Started
from infra.local.stopping import stop

PARENT_CHECK_S = 1.0
PR_SET_PDEATHSIG = 1


class Supervisor:
    """What is running, and what is owed when it ends."""

    def __init__(self) -> None:
        self._children: dict[int, subprocess.Popen[bytes]] = {}
        self._started: list[Started] = []
        self._on_stop: list[dict[str, Any]] = []
        self._remove: list[str] = []

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """Do one request of the protocol and return its answer."""
        match request:
            case {"start": launch, "detached": bool(detached)}:
                return self._start(Launch.from_json(launch), detached)
            case {"poll": int(pid)}:
                return {"exit": self._children[pid].poll()}
            case {"on_stop": dict(command)}:
                self._on_stop.append(command)
                return {}
            case {"remove": str(path)}:
                self._remove.append(path)
                return {}
        return {"error": f"unknown request {sorted(request)}"}

    def _start(self, launch: Launch, detached: bool) -> dict[str, Any]:
        account = launch.account
        preexec = None if detached else _die_with_parent(signal.Signals[launch.stop_signal])
        try:
            with open(launch.log, "ab") as log:
                child = subprocess.Popen(
                    launch.argv,
                    cwd=launch.cwd,
                    env=dict(launch.environment),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                    # This process has one thread, so that nothing is locked in the fork.
                    preexec_fn=preexec,  # noqa: PLW1509
                    user=account.uid if account else None,
                    group=account.gid if account else None,
                    extra_groups=[] if account else None,
                )
        except (OSError, subprocess.SubprocessError) as error:
            return {"error": str(error)}
        created = psutil.Process(child.pid).create_time()
        self._children[child.pid] = child
        self._started.append(
            Started(launch.name, child.pid, created, launch.log, launch.stop_signal, launch.grace_s)
        )
        return {"pid": child.pid, "create_time": created}

    def end(self) -> None:
        """Stop what runs, then run what was registered, then remove what was given over."""
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        stop(self._started)
        for command in reversed(self._on_stop):
            with contextlib.suppress(OSError, subprocess.SubprocessError):
                subprocess.run(
                    command["argv"],
                    env=command["environment"],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    timeout=command["timeout_s"],
                    check=False,
                )
        for path in self._remove:
            shutil.rmtree(path, ignore_errors=True)


def _die_with_parent(number: signal.Signals) -> Callable[[], None] | None:
    if not sys.platform.startswith("linux"):
        return None
    # Loaded before the fork: between fork and exec only async-signal-safe work is allowed.
    libc = ctypes.CDLL(None)

    def ask_kernel() -> None:
        libc.prctl(PR_SET_PDEATHSIG, number)

    return ask_kernel


def _serve(supervisor: Supervisor, parent: int) -> bool:
    """Answer requests until told to stop; True means "leave everything running"."""
    buffer = b""
    while os.getppid() == parent:
        # The end of the pipe may be held open by a fork of the parent; hence also the look at its pid.
        readable, _, _ = select.select([0], [], [], PARENT_CHECK_S)
        if not readable:
            continue
        chunk = os.read(0, 65536)
        if not chunk:
            return False
        buffer += chunk
        while b"\n" in buffer:
            line, buffer = buffer.split(b"\n", 1)
            request = json.loads(line)
            if "stop" in request:
                return False
            kept = "keep" in request
            _reply({} if kept else supervisor.answer(request))
            if kept:
                return True
    return False


def _reply(answer: dict[str, Any]) -> None:
    with contextlib.suppress(BrokenPipeError):
        os.write(1, json.dumps(answer).encode() + b"\n")


def _leave(number: int, frame: object) -> None:
    raise SystemExit(128 + number)


def main() -> None:
    """Serve until the pipe on standard input ends, then leave nothing behind."""
    signal.signal(signal.SIGTERM, _leave)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    supervisor = Supervisor()
    keep = False
    try:
        keep = _serve(supervisor, int(sys.argv[1]))
    finally:
        if not keep:
            supervisor.end()


if __name__ == "__main__":
    main()
