"""Relays for the tests to kill, born by fork from one process that has imported everything once.

`iu relay run` takes more than a second of processor time to start, most of it imports; a torture
run starts hundreds. Here a *nursery* process imports them once and forks a child for each relay.
The child is the command as it is, `iu_core.cli.main.main(["relay", "run"])`, in an environment of its
own. With a `Strike` it sends a signal to itself at the n-th beginning of a stage: SIGKILL is a crash
right there, SIGSTOP makes a zombie of it.

The nursery speaks JSON in lines: {"birth": environment, "words", "strike", "log": a FIFO} → {"born":
pid}; {"signal": [pid, number]}; and unasked {"ended": pid, "code": code}. At the end of its input it
kills every child that is left. The other side of it is `tests.chaos.nursery`.
"""

import ctypes
import json
import os
import signal
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from select import select
from typing import Any, Final, NoReturn

# In the order of a relay's life; `reading` to `published` come round again with each chunk.
STAGES: Final = (
    "locked",
    "fencing",
    "fenced",
    "recovering",
    "comparing",
    "reading",
    "publishing",
    "begun",
    "sending",
    "sent",
    "acknowledged",
    "committed",
    "published",
)
_PR_SET_PDEATHSIG: Final = 1
_REAP_EVERY_S: Final = 0.01


@dataclass(frozen=True, slots=True)
class Strike:
    """Signal `number` at the `nth` beginning of `stage`, counted from 1."""

    stage: str
    nth: int
    number: signal.Signals


class _Observer:
    """Told each stage by the relay; strikes once."""

    def __init__(self, strike: Strike) -> None:
        self._strike = strike
        self._seen = 0

    def __call__(self, stage: str) -> None:
        if stage == self._strike.stage:
            self._seen += 1
            if self._seen == self._strike.nth:
                os.kill(os.getpid(), self._strike.number)


@dataclass
class _Forking:
    """The forking process, from within."""

    children: set[int] = field(default_factory=set)

    def serve(self) -> None:
        """Answer until the end of the input, then kill who is left."""
        buffer = b""
        while True:
            if select([0], [], [], _REAP_EVERY_S)[0]:
                if not (piece := os.read(0, 65_536)):
                    break
                *lines, buffer = (buffer + piece).split(b"\n")
                for line in lines:
                    self._answer(json.loads(line))
            self._reap()
        for pid in self.children:
            os.kill(pid, signal.SIGKILL)
        for pid in self.children:
            os.waitpid(pid, 0)

    def _answer(self, request: dict[str, Any]) -> None:
        if "signal" in request:
            pid, number = request["signal"]
            if pid in self.children:  # not reaped, so the pid is still its
                os.kill(pid, number)
            return
        # Opened here: once the birth is told, its reader must not meet a FIFO without a writer.
        log = os.open(request["log"], os.O_WRONLY)
        if (pid := os.fork()) == 0:
            _live(request, log)
        os.close(log)
        self.children.add(pid)
        _say({"born": pid})

    def _reap(self) -> None:
        for pid in list(self.children):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                self.children.remove(pid)
                _say({"ended": pid, "code": os.waitstatus_to_exitcode(status)})


def _say(answer: Mapping[str, Any]) -> None:
    os.write(1, json.dumps(answer).encode() + b"\n")


def _live(request: dict[str, Any], log: int) -> NoReturn:
    """Be a relay until it ends. Never returns: what follows in the nursery is not the child's."""
    code = 70
    try:
        with suppress(OSError, AttributeError):  # Linux: not to outlive a nursery that is killed
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        os.environ.clear()
        os.environ.update(request["birth"])
        nothing = os.open(os.devnull, os.O_RDWR)
        os.dup2(nothing, 0)
        os.dup2(nothing, 1)
        os.dup2(log, 2)
        os.close(log)
        from iu_core.cli.main import main
        from producers.relay.service import RelayService

        if request["strike"] is not None:
            stage, nth, number = request["strike"]
            # The default of the one parameter that tests die by, wherever the command builds it.
            defaults = RelayService.__init__.__kwdefaults__ or {}
            defaults["observe"] = _Observer(Strike(stage, nth, signal.Signals(number)))
        main(request["words"])
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0
    finally:
        with suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    import iu_core.cli.relay
    import iu_core.telemetry  # noqa: F401 - imported once, for every child

    _Forking().serve()
