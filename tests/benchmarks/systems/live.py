"""What the open loop is asked of: somebody who takes events to Kafka as they are committed."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Protocol

from tests.benchmarks.child import Child
from tests.benchmarks.systems.relay import HEADER, NAME, Relay


@dataclass(frozen=True, slots=True)
class Running:
    """A subject at work: the topic it fills, the header with the event's id, the root of its processes."""

    topic: str
    header: str
    pid: int


class Live(Protocol):
    """A subject that can be started and stopped, and goes on where it stood."""

    @property
    def name(self) -> str:
        """What it is called in the tables."""

    def running(self) -> AbstractContextManager[Running]:
        """Start it; stop it at the end of the block."""


class LiveRelay:
    """`iu relay run` on one database, under one prefix for all its windows."""

    name = NAME

    def __init__(self, relay: Relay, url: str) -> None:
        self._relay = relay
        self._url = url
        self._prefix = relay.world.fresh_prefix("live")
        self._topic = relay.world.make_events_topic(relay.world.settings(url, self._prefix))

    @contextmanager
    def running(self) -> Iterator[Running]:
        """Start the process; SIGTERM at the end, which has to end it well."""
        environment = self._relay.environment(self._url, self._prefix)
        log = self._relay.world.log("relay")
        with Child(("iu_core", "relay", "run"), environment=environment, log=log) as child:
            yield Running(self._topic, HEADER, child.pid)
            if (ended := child.terminate()).code != 0:
                raise child.failed(f"exit code {ended.code} after SIGTERM")
