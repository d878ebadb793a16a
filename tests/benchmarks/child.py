"""A process of the bench's own: started with what it needs, waited for with what it used."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from infra.local.supervision import PACKAGE_ROOT
from iu_core.errors import Terminal
from tests.benchmarks.measuring import peak_rss_bytes

_STOP_S = 20.0
_MORTAL = Path(__file__).with_name("mortal.py")


@dataclass(frozen=True, slots=True)
class Ended:
    """How a process ended: exit code, CPU-seconds, largest resident memory seen, in bytes."""

    code: int
    cpu_s: float
    rss_bytes: int


class Child:
    """`python -m <words>` in the root of the project; standard error goes to `log`.

    Killed when the block is left, and also when this process is killed.
    """

    def __init__(self, words: Sequence[str], *, environment: Mapping[str, str], log: Path) -> None:
        self._words = words
        self._log = log
        kept = {name: value for name, value in os.environ.items() if not name.startswith("IU_")}
        with log.open("ab") as errors:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", str(_MORTAL), sys.executable, "-m", *words],
                cwd=PACKAGE_ROOT,
                env={**kept, "PYTHONPATH": str(PACKAGE_ROOT), **environment},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
        self._ended: Ended | None = None
        self._rss_bytes = 0

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def __enter__(self) -> "Child":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.ended() is None:
            self._process.kill()
            self._reap(0)
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()

    def ended(self) -> Ended | None:
        """Return how it ended, None while it runs. To be asked often: its peak memory is noted then."""
        if self._ended is None:
            self._rss_bytes = max(self._rss_bytes, peak_rss_bytes(self.pid))
            self._reap(os.WNOHANG)
        return self._ended

    def say(self, line: str) -> None:
        """Write a line to its standard input."""
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def hear(self) -> str:
        """Return the next line of its standard output; raises `Terminal` if it ends instead."""
        assert self._process.stdout is not None
        line: str = self._process.stdout.readline()
        if not line:
            raise self.failed("it ended without an answer")
        return line.rstrip("\n")

    def ask(self, line: str) -> str:
        """Say `line` and return the next line it says."""
        self.say(line)
        return self.hear()

    def finish_input(self) -> None:
        """End its standard input."""
        assert self._process.stdin is not None
        self._process.stdin.close()

    def answer(self) -> Any:
        """Return its whole output as JSON, once it has ended well."""
        assert self._process.stdout is not None
        said = self._process.stdout.read()
        ended = self.wait()
        if ended.code != 0:
            raise self.failed(f"exit code {ended.code}")
        return json.loads(said)

    def terminate(self, *, within_s: float = _STOP_S) -> Ended:
        """Send SIGTERM and wait; raises `Terminal` if it does not end in time."""
        if self.ended() is None:
            self._process.send_signal(signal.SIGTERM)
        return self.wait(within_s=within_s)

    def wait(self, *, within_s: float = 600.0) -> Ended:
        """Wait for its end; raises `Terminal` if that does not come."""
        give_up_at = time.monotonic() + within_s
        while (ended := self.ended()) is None:
            if time.monotonic() > give_up_at:
                raise self.failed(f"it still runs after {within_s:.0f} s")
            time.sleep(0.01)
        return ended

    def failed(self, why: str) -> Terminal:
        """Return the error for a child that did not do its work, with the end of what it said."""
        tail = "\n".join(self._log.read_text(errors="replace").splitlines()[-12:])
        return Terminal(
            f"{' '.join(self._words[:4])} failed", why=f"{why}; {tail}", remedy=f"read {self._log}"
        )

    def _reap(self, options: int) -> None:
        pid, status, used = os.wait4(self.pid, options)
        if pid == 0:
            return
        code = self._process.returncode = os.waitstatus_to_exitcode(status)
        # Not ru_maxrss: that of a new process begins with what its parent has.
        self._ended = Ended(code, used.ru_utime + used.ru_stime, self._rss_bytes)
