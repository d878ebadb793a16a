"""The asking end of the supervisor: start processes so that none outlives this one."""

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any, cast

from infra.local.launch import Launch, Started
from iu_core.errors import IUError, Retryable, Terminal

POLL_S = 0.05
STOP_WAIT_S = 60.0
LOG_TAIL_LINES = 12
LOG_TAIL_BYTES = 8192
PACKAGE_ROOT = Path(__file__).resolve().parents[2]


class Supervision:
    """A supervisor process and the pipe to it. Use as a context manager; safe to share between threads.

    `detached`: the services are meant to be left running, so they do not die with the supervisor.
    `inherit`: a file descriptor the supervisor holds open as long as it lives (a lock).
    """

    def __init__(self, *, detached: bool = False, inherit: int | None = None) -> None:
        self._detached = detached
        self._lock = threading.Lock()
        path = os.pathsep.join(filter(None, (str(PACKAGE_ROOT), os.environ.get("PYTHONPATH"))))
        self._process = subprocess.Popen(
            [sys.executable, "-m", "infra.local.supervisor", str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": path},
            cwd="/",
            start_new_session=True,
            pass_fds=() if inherit is None else (inherit,),
        )
        self._requests = cast(IO[bytes], self._process.stdin)
        self._answers = cast(IO[bytes], self._process.stdout)

    @property
    def pid(self) -> int:
        """The process id of the supervisor."""
        return self._process.pid

    def __enter__(self) -> "Supervision":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self, launch: Launch) -> Started:
        """Start one process and return it; it may fail afterwards. Raises `Terminal` if it cannot run."""
        answer = self._ask({"start": launch.to_json(), "detached": self._detached})
        if "error" in answer:
            raise Terminal(f"{launch.name} cannot be started", why=answer["error"])
        return Started(
            launch.name,
            answer["pid"],
            answer["create_time"],
            launch.log,
            launch.stop_signal,
            launch.grace_s,
        )

    def exit_code(self, started: Started) -> int | None:
        """Return the exit code of a process that has ended, else None; negative: minus the signal."""
        code: int | None = self._ask({"poll": started.pid})["exit"]
        return code

    def run(self, launch: Launch, *, timeout_s: float) -> None:
        """Start a process that is meant to end, and wait. Raises `Terminal` with the end of its output."""
        started = self.start(launch)
        deadline = time.monotonic() + timeout_s
        while (code := self.exit_code(started)) is None:
            if time.monotonic() >= deadline:
                raise failed(launch.name, f"has not ended after {timeout_s:.0f} s", launch.log)
            time.sleep(POLL_S)
        if code != 0:
            raise failed(launch.name, f"exit code {code}", launch.log)

    def wait_until(self, started: Started, ready: Callable[[], bool], *, timeout_s: float) -> None:
        """Wait until `ready()`. Raises `Terminal` if the process ends first, or the time is over."""
        deadline = time.monotonic() + timeout_s
        while not ready():
            code = self.exit_code(started)
            if code is not None:
                raise failed(started.name, f"exit code {code}", started.log)
            if time.monotonic() >= deadline:
                raise failed(started.name, f"does not answer after {timeout_s:.0f} s", started.log)
            time.sleep(POLL_S)

    def on_stop(self, argv: Sequence[str], environment: Mapping[str, str], *, timeout_s: float) -> None:
        """Have a command run after the services have ended."""
        self._ask({"on_stop": {"argv": [*argv], "environment": dict(environment), "timeout_s": timeout_s}})

    def remove_at_end(self, directory: Path) -> None:
        """Have a directory removed after the services have ended."""
        self._ask({"remove": str(directory)})

    def keep(self) -> None:
        """Leave everything running; after this the supervisor is gone."""
        self._ask({"keep": True})
        self._process.wait(STOP_WAIT_S)

    def stop(self) -> None:
        """Stop everything, and return when it has ended. Does nothing the second time, or after `keep`."""
        with self._lock:
            with contextlib.suppress(BrokenPipeError):
                self._requests.close()
            try:
                self._process.wait(STOP_WAIT_S)
            except subprocess.TimeoutExpired as error:
                raise Retryable(
                    "the local services have not ended in time",
                    why=f"supervisor {self._process.pid} is still at it after {STOP_WAIT_S:.0f} s",
                    remedy=f"kill {self._process.pid}",
                ) from error
            finally:
                self._answers.close()

    def _ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        with self._lock:
            try:
                self._requests.write(json.dumps(request).encode() + b"\n")
                self._requests.flush()
                line = self._answers.readline()
            except (OSError, ValueError) as error:
                raise _supervisor_gone() from error
        if not line:
            raise _supervisor_gone()
        answer: dict[str, Any] = json.loads(line)
        return answer


def failed(name: str, why: str, log: str) -> Terminal:
    """Return the error for a service that did not come up, with the end of its log."""
    tail = log_tail(Path(log))
    return Terminal(
        f"{name} did not come up",
        why=f"{why}; the end of its log:\n{tail}" if tail else f"{why}; its log is empty",
        remedy=f"read {log}",
    )


def log_tail(log: Path) -> str:
    """Return the last lines of a log, "" if there is none."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - LOG_TAIL_BYTES))
            text = file.read().decode(errors="replace")
    except OSError:
        return ""
    return "\n".join(text.splitlines()[-LOG_TAIL_LINES:])


def _supervisor_gone() -> IUError:
    return Terminal(
        "the supervisor of the local services is gone",
        why="it was stopped or killed, and its services with it",
        remedy="run the command again",
    )
