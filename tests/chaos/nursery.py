"""The test's side of `failing_relay`: a process that forks relays, and the relays it has forked."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Final

from tests.chaos.failing_relay import Strike
from tests.services import ROOT

_ANSWER_MAX_S: Final = 30.0


class Child:
    """A relay of the nursery, with as much of the face of `subprocess.Popen` as a test needs."""

    def __init__(self, nursery: "Nursery", pid: int, stderr: IO[str]) -> None:
        self.pid = pid
        self.stderr = stderr
        self.returncode: int | None = None
        self._nursery = nursery
        self._ended = threading.Event()

    def poll(self) -> int | None:
        """Return the exit code, None while it runs; negative: minus the signal."""
        return self.returncode

    def wait(self, timeout: float) -> int:
        """Return the exit code once it has ended; raises `subprocess.TimeoutExpired`."""
        if not self._ended.wait(timeout) or self.returncode is None:
            raise subprocess.TimeoutExpired(f"relay {self.pid}", timeout)
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Signal it, unless it has ended; the nursery knows, because it has not been told of another."""
        self._nursery.tell({"signal": [self.pid, number]})

    def kill(self) -> None:
        """SIGKILL it."""
        self.send_signal(signal.SIGKILL)

    def note_end(self, code: int) -> None:
        """Called by the nursery."""
        self.returncode = code
        self._ended.set()


class Nursery:
    """The forking process, seen from the test. Use as a context manager; its children end with it."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.chaos.failing_relay"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=ROOT,
            text=True,
        )
        self._pipes = tempfile.TemporaryDirectory(prefix="iu-nursery-")
        self._lock = threading.Lock()
        self._answered = threading.Condition()
        self._born: list[int] = []
        self._children: dict[int, Child] = {}
        self._codes: dict[int, int] = {}
        self._count = 0
        self._listener = threading.Thread(target=self._listen, name="nursery", daemon=True)
        self._listener.start()

    def __enter__(self) -> "Nursery":
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._process.wait(_ANSWER_MAX_S)
        self._listener.join(_ANSWER_MAX_S)
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._pipes.cleanup()

    def birth(
        self, environment: Mapping[str, str], strike: Strike | None, words: Sequence[str] = ("relay", "run")
    ) -> Child:
        """Fork a relay; returns at once."""
        with self._lock:
            self._count += 1
            pipe = Path(self._pipes.name) / str(self._count)
            os.mkfifo(pipe)
            # Opened for reading before the child opens it for writing, or that would wait for us.
            reading = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
            os.set_blocking(reading, True)
            struck = None if strike is None else [strike.stage, strike.nth, int(strike.number)]
            asked = {"birth": dict(environment), "words": list(words), "strike": struck, "log": str(pipe)}
            with self._answered:
                self.tell(asked)
                assert self._answered.wait_for(lambda: self._born, _ANSWER_MAX_S), "the nursery is gone"
                child = Child(self, self._born.pop(), os.fdopen(reading))
                self._children[child.pid] = child
                if (code := self._codes.pop(child.pid, None)) is not None:
                    child.note_end(code)
            return child

    def tell(self, request: Mapping[str, Any]) -> None:
        """Send one request."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            answer = json.loads(line)
            with self._answered:
                if "born" in answer:
                    self._born.append(answer["born"])
                    self._answered.notify_all()
                elif (child := self._children.pop(answer["ended"], None)) is not None:
                    child.note_end(answer["code"])
                else:
                    self._codes[answer["ended"]] = answer["code"]
