"""One membership in the group of a route's lane: poll, claim, settle, and never lose the place.

The place is what the database says (`Claim.next_offset`); the client's fetch position runs ahead
of it between a poll and its commit. Whatever goes wrong in between leaves the partition *astray*,
and an astray partition is fetched again from its claim before anything else happens to it.

Faults of ledger and member pass through; what they mean for the route is `worker`'s to say.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

from consumers.route.batch import Batch, Blame, halves, plan, without_its_event
from consumers.route.decide import Deliver, Plan
from consumers.route.ledger import Claim, Ledger, Place, Poisoned
from consumers.route.progress import Progress
from consumers.route.reading import Blocked, Reader
from iu_core.bus.ports import GroupMember, Record
from iu_core.errors import Fenced, Retryable
from iu_core.telemetry import get_logger

log = get_logger(__name__)

# A statement that ran into its time-out is tried this often before its events are looked at singly.
TIMEOUTS_MAX: Final = 3
_STATEMENT_TIMEOUT: Final = "57014"


class LaneRun:
    """A member with its claims; one thread at a time. Counts what it settles in `progress`."""

    def __init__(
        self,
        *,
        place: Place,
        member: GroupMember,
        ledger: Ledger,
        reader: Reader,
        owner: str,
        rows_max: int,
        progress: Progress,
    ) -> None:
        self.place = place
        self._member = member
        self._ledger = ledger
        self._reader = reader
        self._owner = owner
        self._rows_max = rows_max
        self._progress = progress
        self._claims: dict[int, Claim] = {}
        self._fetched: dict[int, Sequence[Record]] = {}
        self._astray: set[int] = set()
        self._doubtful: dict[int, int] = {}
        self._timeouts = 0
        self._silent = False

    def poll(self, timeout_ms: int) -> bool:
        """Fetch; return whether there is something to settle. Keeps the membership."""
        self._rewind()
        fetched = self._member.poll(timeout_ms, self._rows_max)
        held = self._member.assigned() - self._member.taken()
        self._claims = {number: claim for number, claim in self._claims.items() if number in held}
        self._astray &= self._claims.keys()
        self._fetched = {number: records for number, records in fetched.items() if number in self._claims}
        return bool(self._fetched)

    def unclaimed(self) -> frozenset[int]:
        """Return the partitions that are assigned to us and not claimed yet."""
        return self._member.assigned() - self._claims.keys()

    def claim(self, log_starts: Mapping[int, int]) -> None:
        """Claim the partitions that `log_starts` names with their first offsets, and go to their place.

        After a claim was lost, the broker is asked first: a member that was stopped for a while
        would otherwise take partitions away from the one that has them now.
        """
        doubtful = {number: offset for number, offset in self._doubtful.items() if number in log_starts}
        if doubtful:
            self._member.confirm(doubtful)
        claims = self._ledger.claim(self.place, log_starts, self._owner)
        for claim in claims:
            self._claims[claim.partition] = claim
            self._doubtful.pop(claim.partition, None)
            self._astray.add(claim.partition)
        log.info(
            "claimed",
            route=self.place.route_code,
            lane=self.place.lane,
            offsets={claim.partition: claim.next_offset for claim in claims},
        )
        self._rewind()

    def settle(self, decision: Deliver | Plan) -> Blocked | None:
        """Decide on everything fetched, a transaction per partition; return what stands in the way.

        What a fault leaves undone is fetched again.
        """
        fetched, self._fetched = self._fetched, {}
        self._astray |= fetched.keys()
        for partition, records in fetched.items():
            claim = self._claims[partition]
            fresh = [record for record in records if record.offset >= claim.next_offset]
            planned = plan(partition, claim.next_offset, fresh, map(self._reader.read, fresh))
            try:
                self._write_all(planned.batch, decision)
            except Fenced as error:
                self._lose(partition, error)
                continue
            if planned.blocked is not None:
                return planned.blocked
            self._astray.discard(partition)
        return None

    def pass_markers(self, decision: Deliver | Plan) -> None:
        """Move the places over offsets that hold no record: the ends and leftovers of transactions."""
        for partition, claim in list(self._claims.items()):
            if partition in self._astray:
                continue
            position = self._member.position(partition)
            if position is not None and position > claim.next_offset:
                try:
                    self._write(Batch(partition, claim.next_offset, position, ()), decision)
                except Fenced as error:
                    self._lose(partition, error)

    def put_back(self) -> None:
        """Give back what was fetched: it will be fetched again."""
        self._astray |= self._fetched.keys()
        self._fetched = {}

    def silence(self) -> None:
        """Fetch nothing for now; keep the membership."""
        self._silent = True
        self._rewind()
        self._member.pause(self._member.assigned())

    def listen(self) -> None:
        """Fetch again."""
        if self._silent:
            self._silent = False
            self._member.resume(frozenset(self._claims))

    def at_end(self, ends: Mapping[int, int]) -> bool:
        """Return whether everything before `ends` is settled on the partitions that are ours."""
        if not self._member.joined() or self.unclaimed() or self._fetched or self._astray:
            return False
        return all((self._member.position(number) or 0) >= ends.get(number, 0) for number in self._claims)

    def close(self) -> None:
        """Leave the group."""
        self._member.close()

    def _write_all(self, batch: Batch, decision: Deliver | Plan) -> None:
        """Write `batch`, in parts if the database blames an event; at most 2 n + 1 transactions."""
        parts = [batch] if batch.next_offset > batch.from_offset else []
        while parts:
            part = parts.pop()
            try:
                self._write(part, decision)
            except Poisoned as error:
                parts += self._parted(part, error)
            except Retryable as error:
                self._timeouts += error.code == _STATEMENT_TIMEOUT
                if error.code != _STATEMENT_TIMEOUT or self._timeouts < TIMEOUTS_MAX or not part.events:
                    raise
                parts += self._parted(part, error)

    def _parted(self, batch: Batch, error: Poisoned | Retryable) -> list[Batch]:
        """Return the parts to write instead, the last one first."""
        match len(batch.events):
            case 0:
                raise error  # the database does not even take our record of it: our fault
            case 1:
                blame = Blame(error.code, error.what, error.why)
                log.warning(
                    "dead letter",
                    route=self.place.route_code,
                    event_ref=str(batch.events[0].event_ref),
                    sqlstate=error.code,
                    reason=error.what,
                )
                return [without_its_event(batch, blame)]
            case _:
                left, right = halves(batch)
                return [right, left]

    def _write(self, batch: Batch, decision: Deliver | Plan) -> None:
        """Write `batch` in one transaction; after that, and only then, the place has moved."""
        claim = self._claims[batch.partition]
        match decision:
            case Deliver():
                self._ledger.deliver(self.place, claim, batch, decision)
            case Plan():
                self._ledger.record(self.place, claim, batch, decision)
        self._claims[batch.partition] = replace(claim, next_offset=batch.next_offset)
        self._timeouts = 0
        self._progress.count(batch, decision)
        self._member.commit({batch.partition: batch.next_offset})

    def _lose(self, partition: int, error: Fenced) -> None:
        """Give up a partition that somebody else has claimed; it may be claimed again if it stays ours."""
        log.warning("lost a partition", route=self.place.route_code, partition=partition, why=error.why)
        claim = self._claims.pop(partition)
        self._doubtful[partition] = claim.next_offset
        self._astray.discard(partition)
        self._member.pause(frozenset({partition}))

    def _rewind(self) -> None:
        """Let every astray partition be fetched from its claim."""
        for partition in sorted(self._astray):
            claim = self._claims.get(partition)
            try:
                if claim is not None:
                    self._member.seek(partition, claim.next_offset)
            except Retryable:
                # A rebalance took it; the next poll tells. Whoever has it now claims it anew.
                self._claims.pop(partition, None)
            self._astray.discard(partition)
        if self._silent:
            self._member.pause(self._member.assigned())
