"""What a route consumer may ask of the database, as values and a protocol; nothing here connects.

Every call is one transaction. Faults cross this port as five kinds, and which is which is
decided by SQLSTATE at the adapter: `Retryable` (try again, nothing happened), `Refused` (a gate:
hold), `Fenced` (somebody else owns the partition), `Poisoned` (an event of this batch is at
fault), any other `Terminal` (our fault: stop). After each of them the transaction is undone.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

from consumers.route.batch import Batch
from consumers.route.decide import Deliver, Plan, Route, Switches
from iu_core.bus.names import Lane
from iu_core.errors import Terminal


class Poisoned(Terminal):
    """The database blames an event of the batch: class 22, 23 or IU0xx."""


@dataclass(frozen=True, slots=True)
class View:
    """Route and switches as stored at one moment; `route` is None if it is not registered."""

    route: Route | None
    switches: Switches


@dataclass(frozen=True, slots=True)
class Place:
    """One lane of one route in one incarnation of one topic: where positions are counted."""

    route_code: str
    lane: Lane
    topic: str
    topic_id: str


@dataclass(frozen=True, slots=True)
class Claim:
    """A partition that is ours until somebody else claims it."""

    partition: int
    next_offset: int
    owner_epoch: int


class Ledger(Protocol):
    """The database as one consumer process sees it. Every call blocks, bounded."""

    def look(self, route_code: str) -> View:
        """Return the route and the switches as they stand. Changes nothing."""

    def claim(self, place: Place, log_starts: Mapping[int, int], owner: str) -> Sequence[Claim]:
        """Become the owner of the partitions that `log_starts` names, each with its first offset.

        A partition never claimed before starts there. Raises `Refused` with code IU030 if the
        topic is not the one that the positions were counted in.
        """

    def deliver(self, place: Place, claim: Claim, batch: Batch, decision: Deliver) -> None:
        """Deliver the batch's events and record it, in one transaction, if the gates say so."""

    def record(self, place: Place, claim: Claim, batch: Batch, decision: Plan) -> None:
        """Record what was decided on the batch, without any effect."""

    def hold(self, place: Place, gate: str, reason: str, owner: str) -> UUID:
        """Open or touch the one hold episode of the lane and return its id. Idempotent."""

    def close(self) -> None:
        """Disconnect. Idempotent, never raises."""
