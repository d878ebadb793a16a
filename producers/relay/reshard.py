"""Change the number of shards while writers go on: `iu relay reshard`.

Publishing rests for as long as this takes; writers never notice. The steps, and what holds if
this process dies after each:

  take the shards   from running relays, which stand by (`maintenance`)
  grow the topic    by the partitions of new shards: no cursor speaks of them yet
  claim             open every old shard's producer, which fences whoever still publishes
  drain             take one snapshot, publish in each shard exactly up to it: an ordinary relay's work
  seal              say so in each shard's cursor, through its own producer. Whoever took a shard
                    over since the claim has fenced that producer, so the seal fails, and all can
                    be begun again. From here on the relays of a sealed shard refuse to start
  install           all new cursors, and one for each shard that is no more, in ONE transaction

So there is no moment at which a partition has two owners, or none that remembers where it is.
To go on after a death is to begin again: the same steps, from a newer snapshot, pass over
whatever is sealed already.

The install goes through shard 0's producer. A second reshard claims that one, too, before it
reads anything, so of two only one can install.
"""

import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final

from iu_core import __version__
from iu_core.bus.kafka_admin import KafkaAdmin
from iu_core.bus.names import BusNames
from iu_core.bus.ports import Outgoing
from iu_core.bus.watchdog import Watchdog
from iu_core.errors import Fenced, Misconfigured, Retryable, Usage
from iu_core.settings import Settings
from iu_core.telemetry import get_logger
from producers.relay import cursor as cursors
from producers.relay import recovery
from producers.relay.cursor import Cursor, Layout
from producers.relay.framing import Contracts
from producers.relay.maintenance import maintained
from producers.relay.outbox import PostgresOutbox
from producers.relay.relayout import relaid
from producers.relay.shard import Shard
from producers.relay.snapshot import BEGINNING, Snapshot
from producers.relay.status import RelayStatus, ask

log = get_logger(__name__)

_NAME: Final = "iu-relay-reshard"


@dataclass(frozen=True, slots=True)
class Plan:
    """Where the shards stand and the layout they are to have. `unfinished`: an earlier reshard died."""

    status: RelayStatus
    after: Layout
    unfinished: bool

    @property
    def before(self) -> Layout:
        """The layout in force."""
        return self.status.layout

    @property
    def changes(self) -> bool:
        """Whether there is anything to do."""
        return self.unfinished or self.before.shards != self.after.shards

    def in_words(self) -> list[str]:
        """Return the lines of the preview."""
        before, after = self.before, self.after
        lines = [
            f"layout     {before.shards} shards (epoch {before.epoch}) → {after.shards} shards "
            f"(epoch {after.epoch}), over {before.partitions} partitions"
        ]
        if not self.changes:
            return [f"layout     {before.shards} shards (epoch {before.epoch}): nothing to change"]
        if self.unfinished:
            lines.append("unfinished a reshard was begun and has not ended; this one takes its place")
        for shard in range(max(before.shards, after.shards)):
            lines.append(f"shard {shard}    {_owned(before, shard)} → {_owned(after, shard)}")
        for status in self.status.shards:
            holder = "nobody" if status.holder is None else str(status.holder)
            blocked = len(status.cursor.blocked) if status.cursor else 0
            lines.append(
                f"shard {status.shard}    relayed by {holder}; {status.pending.events} events wait, "
                f"{blocked} trees are blocked"
            )
        lines.append("meanwhile  writers go on; nothing is published until it is done")
        if self.status.configured_shards != after.shards:
            lines.append(f"then       set IU_RELAY__SHARDS={after.shards} and start: iu relay run")
        return lines


def _owned(layout: Layout, shard: int) -> str:
    owned = replace(layout, shard=shard).owned() if shard < layout.shards else ()
    return f"partitions {', '.join(map(str, owned))}" if owned else "none"


@dataclass(frozen=True, slots=True)
class Resharded:
    """What was done: events published on the way, and seconds during which no relay could publish."""

    before: Layout
    after: Layout
    settled: Snapshot
    published: int
    rested_s: float


def plan(settings: Settings, database_url: str, shards: int) -> Plan:
    """Return what a reshard to `shards` would do; changes nothing.

    Raises `Usage` for a number of shards that cannot be, `Misconfigured` if nothing was ever
    relayed here or the cursors do not fit what is there.
    """
    status = ask(settings, database_url)
    if status.cursor_partitions == 0:
        raise Misconfigured(
            "there is no cursor topic",
            why="no relay has run here, so there is no layout to change",
            remedy=f"set IU_RELAY__SHARDS={shards} and start: iu relay run",
        )
    before = status.layout
    if not 1 <= shards <= before.partitions:
        raise Usage(
            f"{shards} shards cannot share {before.partitions} partitions",
            why="each shard owns at least one partition",
            remedy=f"give --to a number from 1 to {before.partitions}",
        )
    return Plan(
        status,
        replace(before, shards=shards, epoch=before.epoch + 1),
        unfinished=any(shard.cursor is not None and shard.cursor.sealed for shard in status.shards),
    )


def apply(
    settings: Settings,
    database_url: str,
    contracts: Contracts,
    wanted: Plan,
    *,
    observe: Callable[[str], None] = lambda _stage: None,
) -> Resharded:
    """Carry `wanted` out. `observe` is told the name of each stage as it begins; tests die there.

    Raises `Fenced` if a relay took a shard over meanwhile, `Retryable` if a service is away, a
    relay does not let go or the layout has changed since the plan was made, `Terminal` if a row
    cannot be published. After each of these running it again is safe.
    """
    before, after = wanted.before, wanted.after
    names = BusNames(settings.kafka.prefix)
    with ExitStack() as opened:
        observe("taking")
        everyone = range(max(before.shards, after.shards))
        opened.enter_context(maintained(settings, database_url, everyone, application_name=_NAME))
        began_s = time.monotonic()
        observe("growing")
        admin = KafkaAdmin(settings, _NAME)
        opened.callback(admin.close)
        admin.grow(names.cursor, partitions=after.shards)
        watchdog = Watchdog(settings.relay.watchdog_ms / 1_000)
        opened.callback(watchdog.close)
        observe("claiming")
        claims: list[_Claim] = []
        for number in range(before.shards):
            layout = replace(before, shard=number)
            shard = Shard(settings, database_url, contracts, layout, watchdog, name=_NAME)
            opened.callback(shard.close)
            with watchdog.guard("taking the shards over"):
                claims.append(_Claim(shard))
        _require_same_layout(claims, before)
        # As of the newest row, but older than no shard's own: each has to get from there to here.
        positions = [claim.cursor.position for claim in claims]
        furthest = max(
            (position.window or position.settled for position in positions), key=lambda seen: seen.xmax
        )
        snapshot, lsn = claims[0].shard.outbox.snapshot(furthest)
        observe("draining")
        published = sum(claim.drain(snapshot, lsn) for claim in claims)
        for claim in claims:
            observe("sealing")
            claim.seal()
        observe("installing")
        partitions = len(claims[0].shard.reader.start_offsets(names.cursor))
        new = relaid([claim.cursor for claim in claims], after.shards, partitions, datetime.now(UTC))
        claims[0].publish(new)
        observe("installed")
        log.info("resharded", before=before.shards, after=after.shards, epoch=new[0].layout.epoch)
        return Resharded(before, after, snapshot, published, round(time.monotonic() - began_s, 3))


def _require_same_layout(claims: list["_Claim"], planned: Layout) -> None:
    """Raise `Retryable` if somebody else has resharded between the plan and the claim."""
    if any(claim.cursor.layout.epoch != planned.epoch for claim in claims):
        raise Retryable(
            "somebody else has resharded meanwhile",
            why=f"layout epoch {planned.epoch} is not in force any more",
            remedy="look again, without --apply",
        )


class _PinnedOutbox(PostgresOutbox):
    """An outbox in which no time passes after `pinned` is set, so that no later window opens."""

    pinned: tuple[Snapshot, str] | None = None

    def snapshot(self, settled: Snapshot = BEGINNING) -> tuple[Snapshot, str]:
        """Return the snapshot it is pinned to."""
        return super().snapshot(settled) if self.pinned is None else self.pinned


class _Claim:
    """An old shard whose producer is ours. `cursor` is the last committed one."""

    def __init__(self, shard: Shard) -> None:
        self.shard = shard
        self._outbox = _PinnedOutbox(shard.connection, shard.layout)
        self._relay = shard.relay(self._outbox)
        self.cursor = self._relay.start(resharding=True)
        self._origin = self.cursor.origin

    def drain(self, snapshot: Snapshot, lsn: str) -> int:
        """Publish all that `snapshot` sees, and nothing else; return how many events that were."""
        self._outbox.pinned, self._origin = (snapshot, lsn), replace(self._origin, lsn=lsn)
        published = 0
        while self._relay.position.window is not None or self._relay.position.settled != snapshot:
            published += self._relay.step().published
        shard = self.shard
        last = recovery.find_cursor(
            shard.reader, shard.names.cursor, shard.layout.shard, timeout_s=shard.recovery_timeout_s
        )
        # Without one nothing was ever published; windows without rows write no cursor.
        self.cursor = replace(last or self.cursor, position=self._relay.position)
        log.info("drained", shard=shard.layout.shard, published=published)
        return published

    def seal(self) -> None:
        """Commit that the shard rests here. Raises `Fenced` if somebody else has it by now."""
        sealed = replace(
            self.cursor,
            sequence=self.cursor.sequence + 1,
            origin=self._origin,
            relay_version=__version__,
            at=datetime.now(UTC),
            sealed=True,
        )
        self.publish([sealed])
        self.cursor = sealed
        log.info("sealed", shard=self.shard.layout.shard, sequence=sealed.sequence)

    def publish(self, written: list[Cursor]) -> None:
        """Commit cursors, each to the partition of its shard, in one transaction."""
        records = [
            Outgoing(
                topic=self.shard.names.cursor,
                partition=cursor.layout.shard,
                key=cursors.key(cursor.layout),
                value=cursors.encode(cursor),
            )
            for cursor in written
        ]
        try:
            self.shard.publisher.publish(records)
        except Fenced as error:
            raise Fenced(
                f"another process has taken over shard {self.shard.layout.shard} meanwhile",
                why=error.why,
                remedy="nothing is lost: run the same command again",
                code=error.code,
            ) from error
