"""Consumers as processes that a test kills, stops and wakes."""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests.conftest import iu_environment
from tests.integration.consumers.world import World


@dataclass
class ConsumerProcess:
    """`iu consumer run` over and over: whoever dies is started again, as a supervisor would."""

    world: World
    name: str
    routes: Sequence[str]
    log: Path
    starts: int = 0
    stopped: list["subprocess.Popen[bytes]"] = field(default_factory=list)
    process: "subprocess.Popen[bytes] | None" = None

    def start(self) -> None:
        """Start it; it goes by the same member name each time, as a StatefulSet's pod does."""
        environment = iu_environment(self.log.parent, self.world.environment)
        environment["IU_CONSUMER__INSTANCE"] = self.name
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "iu_core", "consumer", "run", *self.routes],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
                start_new_session=True,
            )
        self.starts += 1

    def kill(self) -> None:
        """SIGKILL it, and start it again."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(timeout=10)
        self.start()

    def freeze(self) -> None:
        """SIGSTOP it and start a successor of the same name; `wake` brings the zombie back."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)
        self.stopped.append(self.process)
        self.start()

    def wake(self) -> None:
        """SIGCONT every zombie. It has to find out by itself that it is one."""
        for zombie in self.stopped:
            with suppress(ProcessLookupError):
                zombie.send_signal(signal.SIGCONT)

    def restart_if_dead(self) -> int | None:
        """Start it again if it ended by itself; return what it ended with."""
        assert self.process is not None
        code = self.process.poll()
        if code is not None:
            self.start()
        return code

    def end(self) -> None:
        """SIGTERM, and SIGKILL if that is not enough; zombies too."""
        self.wake()
        everyone = [*self.stopped, *([self.process] if self.process is not None else [])]
        for process in everyone:
            with suppress(ProcessLookupError):
                process.terminate()
        for process in everyone:
            try:
                process.wait(timeout=15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(timeout=5)

    def said(self) -> str:
        """Return the end of its log."""
        return self.log.read_text(errors="replace")[-4_000:] if self.log.exists() else ""


def full() -> bool:
    """Return whether the long counts were asked for."""
    return os.environ.get("IU_TEST_CHAOS") == "full"
