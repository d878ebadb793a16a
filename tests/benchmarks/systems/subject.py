"""What a drain is asked of, whoever does it."""

from dataclasses import dataclass
from typing import Protocol

from tests.benchmarks.loads import Load
from tests.benchmarks.results import Run


@dataclass(frozen=True, slots=True)
class Backlog:
    """A filled outbox: the database it is in, what is in it, and the WAL its writing took."""

    url: str
    load: Load
    wal_bytes: float


class Subject(Protocol):
    """Something that takes an outbox to Kafka, or a part of that way."""

    @property
    def name(self) -> str:
        """What it is called in the tables."""

    def missing(self) -> str | None:
        """Return why it cannot be measured here and now, None if it can."""

    def drain(self, backlog: Backlog, part: str) -> Run:
        """Publish the whole backlog to a topic nobody has used, and return what that took."""
