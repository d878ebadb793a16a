"""Relays as processes: start, follow their log, stop, freeze, wake, kill."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import IO, Any, Protocol

DEADLINE_S = 30.0  # when a test gives up, not a measure of speed

COMMAND = (sys.executable, "-m", "iu_core", "relay")


def relay_environment(url: str, bootstrap: str, prefix: str, **settings: str) -> dict[str, str]:
    """Return the environment of a relay; `settings` are further IU_ names, lower case."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("IU_")}
    ours = {"IU_DATABASE_URL": url, "IU_KAFKA_BOOTSTRAP_SERVERS": bootstrap, "IU_KAFKA__PREFIX": prefix}
    return inherited | ours | {f"IU_{name.upper()}": value for name, value in settings.items()}


def run_relay(environment: Mapping[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    """Run `iu relay <words>` to its end."""
    return subprocess.run(
        [*COMMAND, *words],
        env=environment,
        capture_output=True,
        text=True,
        timeout=2 * DEADLINE_S,
    )


def drain(environment: Mapping[str, str]) -> dict[str, int]:
    """Publish what is committed; return what the relay says it did."""
    done = run_relay(environment, "run", "--until-idle", "--json")
    assert done.returncode == 0, done.stderr
    counts: dict[str, int] = json.loads(done.stdout)
    return counts


class Process(Protocol):
    """As much of `subprocess.Popen` as is needed of a relay."""

    pid: int

    @property
    def stderr(self) -> IO[str] | None: ...
    def poll(self) -> int | None: ...
    def wait(self, timeout: float, /) -> int: ...
    def send_signal(self, number: int, /) -> None: ...
    def kill(self) -> None: ...


def started(environment: Mapping[str, str], *words: str) -> Process:
    """Start `iu relay run <words>`."""
    return subprocess.Popen(
        [*COMMAND, "run", *words],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


class RelayProcess:
    """A running `iu relay run`; its log lines are collected while it runs."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._lines: list[dict[str, Any]] = []
        self._news = threading.Condition()
        self._follower = threading.Thread(target=self._follow, daemon=True)
        self._follower.start()

    def _follow(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            with self._news:
                self._lines.append(json.loads(line) if line.startswith("{") else {"event": line.rstrip()})
                self._news.notify_all()

    @property
    def log(self) -> str:
        """Everything it has said so far."""
        return "\n".join(map(str, self._lines))

    def await_event(self, event: str) -> dict[str, Any]:
        """Return the first log line of this event, once it is there."""

        def said() -> dict[str, Any] | None:
            return next((line for line in self._lines if line["event"] == event), None)

        with self._news:
            assert self._news.wait_for(said, DEADLINE_S), f"never said {event!r}:\n{self.log}"
            found = said()
        assert found is not None
        return found

    def has_said(self, event: str) -> bool:
        """Return whether it has logged this event."""
        with self._news:
            return any(line["event"] == event for line in self._lines)

    def all_of(self, event: str) -> list[dict[str, Any]]:
        """Return every log line of this event so far."""
        with self._news:
            return [line for line in self._lines if line["event"] == event]

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def poll(self) -> int | None:
        """Return the exit code, None while it runs."""
        return self._process.poll()

    def send(self, number: signal.Signals) -> None:
        """Send a signal."""
        self._process.send_signal(number)

    def wait(self) -> int:
        """Return the exit code, once it has ended and all it said is read."""
        code = self._process.wait(DEADLINE_S)
        self._follower.join(DEADLINE_S)
        if self._process.stderr is not None:
            self._process.stderr.close()
        return code

    def end(self) -> None:
        """Kill it if it still runs, frozen or not."""
        if self._process.poll() is None:
            self._process.kill()
        self.wait()


@contextmanager
def running_relay(environment: Mapping[str, str], *words: str) -> Iterator[RelayProcess]:
    """A relay that has been started and is ended with the block."""
    relay = RelayProcess(started(environment, *words))
    try:
        yield relay
    finally:
        relay.end()


def await_that(condition: Any, what: str) -> None:
    """Return once `condition()` holds; fail at the deadline."""
    give_up_at = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < give_up_at, f"never came true: {what}"
        time.sleep(0.02)
