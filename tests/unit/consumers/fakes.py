"""A database, a topic and a group in memory, for the worker; clock and faults are the test's.

`FakeLedger` keeps the rules of sql/functions/delivery/fn_iu_route_*: gates asked inside, the
compare-and-set, decision and letter together, one `sent` per event. What it cannot show: locks, and
what happens between two statements of a transaction (there are none here).
"""

import uuid
from collections import deque
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import UUID

from consumers.route.batch import Batch, Row, attempts, dead_letters
from consumers.route.decide import (
    SUPPORTED_TARGET,
    Deliver,
    Hold,
    Mode,
    Plan,
    Route,
    Switches,
    ask_gates,
)
from consumers.route.ledger import Claim, Place, Poisoned, View
from iu_core.bus.names import Lane
from iu_core.bus.ports import Record, Topic
from iu_core.errors import Fenced, IUError, Refused, Retryable

ROUTE = "structure_reparented"
OPEN = Switches("true", ROUTE)
CLOSED = Switches("false", ROUTE)
TOPIC = Topic("iu.structure.events", "topic-1", 2)


def route(*, enabled: bool = True, mode: Mode = "live") -> Route:
    return Route(ROUTE, ROUTE, SUPPORTED_TARGET, enabled, mode)


@dataclass
class Position:
    next_offset: int
    topic_id: str
    owner_epoch: int = 0


@dataclass
class FakeLedger:
    """`Ledger` in memory. `faults` are raised by the next calls, one each; `poison` blames events."""

    route: Route | None = field(default_factory=route)
    switches: Switches = OPEN
    poison: dict[UUID, IUError] = field(default_factory=dict)
    faults: deque[IUError] = field(default_factory=deque)
    positions: dict[tuple[Lane, int], Position] = field(default_factory=dict)
    projection: list[UUID] = field(default_factory=list)
    attempts: list[Row] = field(default_factory=list)
    letters: list[Row] = field(default_factory=list)
    holds: list[tuple[str, str, UUID]] = field(default_factory=list)
    touches: int = 0
    transactions: int = 0
    closed: bool = False

    def look(self, route_code: str) -> View:
        self._fail()
        return View(self.route, self.switches)

    def claim(self, place: Place, log_starts: Mapping[int, int], owner: str) -> Sequence[Claim]:
        self._fail()
        if any(position.topic_id != place.topic_id for position in self.positions.values()):
            raise Refused("the topic is not the one", code="IU030")
        claims = []
        for partition, start in sorted(log_starts.items()):
            position = self.positions.setdefault((place.lane, partition), Position(start, place.topic_id))
            position.owner_epoch += 1
            claims.append(Claim(partition, position.next_offset, position.owner_epoch))
        return claims

    def deliver(self, place: Place, claim: Claim, batch: Batch, decision: Deliver) -> None:
        self._fail()
        delivered = [*self.projection]
        for event in batch.events:
            self._ask_gates()
            if event.event_ref in self.poison:
                raise self.poison[event.event_ref]
            if event.event_ref not in delivered:
                delivered.append(event.event_ref)
        self._record(place, claim, batch, decision, delivered)
        self.projection = delivered

    def record(self, place: Place, claim: Claim, batch: Batch, decision: Plan) -> None:
        self._fail()
        self._record(place, claim, batch, decision, self.projection)

    def hold(self, place: Place, gate: str, reason: str, owner: str) -> UUID:
        self._fail()
        self.touches += 1
        if not self.holds or self.holds[-1][:2] != (gate, reason):
            self.holds.append((gate, reason, uuid.uuid4()))
        return self.holds[-1][2]

    def close(self) -> None:
        self.closed = True

    def decisions(self, decision: str) -> list[str]:
        """Return the events with this decision, in order."""
        return [row["event_ref"] for row in self.attempts if row["decision"] == decision]

    def _fail(self) -> None:
        if self.faults:
            raise self.faults.popleft()

    def _ask_gates(self) -> None:
        if self.route is None or isinstance(ask_gates(self.route, self.switches), Hold):
            raise Refused("a gate is closed", code="42501")

    def _record(
        self, place: Place, claim: Claim, batch: Batch, decision: Deliver | Plan, projected: Sequence[UUID]
    ) -> None:
        if self.route is None or not self.route.enabled:
            raise Refused("the route does not run", code="42501")
        if (place.lane == "live") != (self.route.mode == "live"):
            raise Refused("the route does not run in this lane", code="42501")
        if place.lane == "live":
            self._ask_gates()
        position = self.positions[place.lane, batch.partition]
        if (position.owner_epoch, position.next_offset) != (claim.owner_epoch, batch.from_offset):
            raise Fenced("partition is not this owner's to record", code="IU031")
        rows, letters = deepcopy(attempts(batch, decision)), deepcopy(dead_letters(batch))
        undelivered = {row["offset"] for row in rows if row["decision"] in ("failed", "refused")}
        assert undelivered == {letter["offset"] for letter in letters}
        assert all(batch.from_offset <= row["offset"] < batch.next_offset for row in rows)
        assert {UUID(row["event_ref"]) for row in rows if row["decision"] == "sent"} <= set(projected)
        known = set(self.decisions("sent"))
        self.attempts += [
            row | {"lane": place.lane}
            for row in rows
            if row["decision"] != "sent" or row["event_ref"] not in known
        ]
        self.letters += letters
        position.next_offset = batch.next_offset
        self.transactions += 1


@dataclass
class FakeTopics:
    """`Topics` over the logs of a `FakeGroup`."""

    group: "FakeGroup"
    topic: Topic | None = TOPIC

    def describe(self) -> Topic | None:
        return self.topic

    def starts(self) -> Mapping[int, int]:
        return dict.fromkeys(self.group.logs, 0)

    def ends(self) -> Mapping[int, int]:
        return {partition: self.group.end(partition) for partition in self.group.logs}


@dataclass
class FakeGroup:
    """The logs of a topic, by partition; `markers` are offsets that hold no record."""

    logs: dict[int, list[Record]] = field(default_factory=lambda: {0: [], 1: []})
    markers: set[tuple[int, int]] = field(default_factory=set)
    members: "list[FakeMember]" = field(default_factory=list)

    def end(self, partition: int) -> int:
        offsets = [record.offset for record in self.logs[partition]]
        offsets += [offset for number, offset in self.markers if number == partition]
        return max(offsets, default=-1) + 1

    def put(self, *records: Record) -> None:
        for record in records:
            self.logs[record.partition].append(record)

    def join(self, lane: Lane) -> "FakeMember":
        self.members.append(FakeMember(self, lane))
        return self.members[-1]


@dataclass
class FakeMember:
    """`GroupMember` that gets all partitions at its first poll; `faults` are raised by the next polls."""

    group: FakeGroup
    lane: Lane
    faults: deque[Exception] = field(default_factory=deque)
    confirm_faults: deque[Exception] = field(default_factory=deque)
    confirmed: int = 0
    positions: dict[int, int | None] = field(default_factory=dict)
    paused: set[int] = field(default_factory=set)
    committed: dict[int, int] = field(default_factory=dict)
    polls: int = 0
    closed: bool = False

    def poll(self, timeout_ms: int, records_max: int) -> Mapping[int, Sequence[Record]]:
        assert not self.closed
        self.polls += 1
        if self.faults:
            raise self.faults.popleft()
        if self.polls == 1:
            self.positions = dict.fromkeys(self.group.logs)
            return {}
        fetched: dict[int, list[Record]] = {}
        for partition, position in self.positions.items():
            if position is None or partition in self.paused:
                continue
            log = [record for record in self.group.logs[partition] if record.offset >= position]
            if taken := log[: records_max - sum(map(len, fetched.values()))]:
                fetched[partition] = taken
            if len(taken) == len(log):
                self.positions[partition] = max(position, self.group.end(partition))
            elif taken:
                self.positions[partition] = taken[-1].offset + 1
        return fetched

    def joined(self) -> bool:
        return bool(self.polls)

    def assigned(self) -> frozenset[int]:
        return frozenset(self.positions)

    def taken(self) -> frozenset[int]:
        return frozenset(number for number, position in self.positions.items() if position is None)

    def seek(self, partition: int, offset: int) -> None:
        if partition not in self.positions:
            raise Retryable("not assigned")
        self.positions[partition] = offset
        self.paused.discard(partition)

    def position(self, partition: int) -> int | None:
        return self.positions.get(partition)

    def pause(self, partitions: frozenset[int]) -> None:
        self.paused |= partitions & self.assigned()

    def resume(self, partitions: frozenset[int]) -> None:
        self.paused -= partitions

    def commit(self, offsets: Mapping[int, int]) -> None:
        self.committed |= offsets

    def confirm(self, offsets: Mapping[int, int]) -> None:
        self.confirmed += 1
        if self.confirm_faults:
            raise self.confirm_faults.popleft()

    def close(self) -> None:
        self.closed = True

    def lose(self, partition: int) -> None:
        """Let a rebalance take `partition` away."""
        del self.positions[partition]

    def gain(self, partition: int) -> None:
        """Let a rebalance bring `partition`."""
        self.positions[partition] = None


@dataclass
class FakeClock:
    """Time that passes only when told to."""

    now_s: float = 0.0

    def __call__(self) -> float:
        return self.now_s

    def wait(self, seconds: float) -> bool:
        self.now_s += seconds
        return False


def poisoned(sqlstate: str = "23514") -> Poisoned:
    return Poisoned("a check is violated", why="row 1", code=sqlstate)


def changed(view: Route, **changes: Any) -> Route:
    return replace(view, **changes)
