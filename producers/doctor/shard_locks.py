"""Family 4: who holds each shard, and whether they do anything.

A relay holds (18773, 1000 + shard) in a session that it pings; a command that acts in its
place holds (18773, 2000 + shard). Nobody, somebody who does not ping, and somebody who pings
but does not publish are three different things to do something about.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from iu_core.errors import Retryable
from producers.doctor.examination import Examination
from producers.doctor.finding import Finding, Patience, Severity, duration, psql
from producers.relay.lock import IDLE_TIMEOUT_MS, LOCK_BASE, LOCK_CLASS, MAINTENANCE_BASE
from producers.relay.outbox import Pending

_HOLDERS: Final = """
    SELECT l.objid::bigint, l.pid, a.application_name, a.usename, a.client_addr::text,
           extract(epoch FROM clock_timestamp() - a.state_change)::float8
      FROM pg_locks AS l
      LEFT JOIN pg_stat_activity AS a ON a.pid = l.pid
     WHERE l.locktype = 'advisory' AND l.granted AND l.mode = 'ExclusiveLock'
       AND l.database = (SELECT d.oid FROM pg_database AS d WHERE d.datname = current_database())
       AND l.classid = %s::bigint::oid AND l.objsubid = 2
       AND l.objid::bigint BETWEEN %s AND %s
"""


@dataclass(frozen=True, slots=True)
class Holder:
    """A session that holds the lock numbered `lock`. `silent_s`: since its last sign; None if hidden."""

    lock: int
    pid: int
    application: str | None
    user: str | None
    client: str | None
    silent_s: float | None

    def __str__(self) -> str:
        return f"{self.application or 'a session'} (backend {self.pid})"


@dataclass(frozen=True, slots=True)
class Waiting:
    """What waits in the outbox of a shard; `age_s` of the oldest event, by the database's clock.

    `events` is None while the broker, which has the cursor, cannot say.
    """

    events: int | None
    age_s: float | None


def holders(asked: Examination) -> list[Finding]:
    """Find shards that nobody relays, that a frozen session holds, or that a command keeps.

    With the broker away the locks of the first shard are still told: there always is one.
    """
    found = _holders(asked)
    try:
        waiting = {layout.shard: _waiting(asked, asked.pending(layout)) for layout in asked.layouts}
    except Retryable:
        waiting = {0: Waiting(None, None)}
    return [finding for shard, what in waiting.items() for finding in judge(shard, found, what)]


def _holders(asked: Examination) -> list[Holder]:
    bounds = (LOCK_CLASS, LOCK_BASE, MAINTENANCE_BASE + 999)
    return [Holder(*row) for row in asked.rows(_HOLDERS, bounds)]


def _waiting(asked: Examination, pending: Pending) -> Waiting:
    if pending.oldest_at is None:
        return Waiting(pending.events, None)
    now_s = datetime.now(UTC).timestamp() + asked.database_clock().ahead_s
    return Waiting(pending.events, max(0.0, now_s - pending.oldest_at.timestamp()))


def judge(shard: int, found: Iterable[Holder], waiting: Waiting) -> list[Finding]:
    """Return what is wrong with the locks of one shard."""
    by_lock = {holder.lock: holder for holder in found}
    relay, command = by_lock.get(LOCK_BASE + shard), by_lock.get(MAINTENANCE_BASE + shard)
    if command is not None:
        return [_maintained(shard, command)]
    if relay is None:
        return [_nobody(shard, waiting)]
    return [_frozen(shard, relay)] if _is_silent(relay) else []


def _is_silent(holder: Holder) -> bool:
    return holder.silent_s is not None and holder.silent_s > IDLE_TIMEOUT_MS / 1_000


def _who(holder: Holder) -> str:
    return f"user {holder.user or '?'}, client {holder.client or 'a local socket'}"


def _nobody(shard: int, waiting: Waiting) -> Finding:
    age = "" if waiting.age_s is None else f", the oldest for {duration(waiting.age_s)}"
    return Finding(
        Severity.WARNS if waiting.events == 0 else Severity.STOPS,
        f"nobody relays shard {shard}",
        (
            f"{'?' if waiting.events is None else waiting.events} events wait{age}",
            f"the lock ({LOCK_CLASS}, {LOCK_BASE + shard}) is free",
        ),
        "iu relay run",
    )


def _frozen(shard: int, holder: Holder) -> Finding:
    return Finding(
        Severity.STOPS,
        f"{holder} holds shard {shard} and gives no sign of life for {duration(holder.silent_s or 0)}",
        (
            _who(holder),
            f"a relay pings its session several times a second and loses it after {IDLE_TIMEOUT_MS} ms: "
            "this is no relay, or a server that does not end idle sessions",
        ),
        f"{psql(f'SELECT pg_terminate_backend({holder.pid})')}   # a standby takes over at once",
    )


def _maintained(shard: int, holder: Holder) -> Finding:
    silent = _is_silent(holder)
    sign = "hidden" if holder.silent_s is None else f"{duration(holder.silent_s)} ago"
    return Finding(
        Severity.STOPS,
        f"{holder} keeps shard {shard} for maintenance; the relay stands by",
        (
            _who(holder),
            f"last sign of life {sign}",
            f"the lock ({LOCK_CLASS}, {MAINTENANCE_BASE + shard}) is held",
        ),
        f"{psql(f'SELECT pg_terminate_backend({holder.pid})')}   # "
        + ("it seems frozen" if silent else "only if that command hangs; it ends by itself"),
    )


def progress(asked: Examination) -> list[Finding]:
    """Find shards whose relay holds the lock and publishes nothing, although something waits."""
    found = []
    held = {holder.lock: holder for holder in _holders(asked)}
    for layout in asked.layouts:
        relay = held.get(LOCK_BASE + layout.shard)
        waiting = _waiting(asked, asked.pending(layout))
        if relay is None or (waiting.age_s or 0) < asked.patience.open_s:
            continue
        before = asked.cursors().get(layout.shard)
        asked.sleep_s(asked.patience.sample_s)
        after = asked.cursors().get(layout.shard)
        still = [None if cursor is None else cursor.sequence for cursor in (before, after)]
        found += judge_progress(layout.shard, relay, waiting, still[0], still[1], asked.patience)
    return found


def judge_progress(
    shard: int, relay: Holder, waiting: Waiting, before: int | None, after: int | None, patience: Patience
) -> list[Finding]:
    """Return a finding if the cursor's sequence is the same after `patience.sample_s` seconds."""
    if before != after or not waiting.events or (waiting.age_s or 0) < patience.open_s:
        return []
    return [
        Finding(
            Severity.STOPS,
            f"{relay} holds shard {shard} and publishes nothing",
            (
                f"{waiting.events} events wait, the oldest for {duration(waiting.age_s or 0)}",
                f"its cursor stayed at transaction {after if after is not None else 'none'} "
                f"for {duration(patience.sample_s)}",
            ),
            f"{psql(f'SELECT pg_terminate_backend({relay.pid})')}   "
            "# it starts over, or a standby takes over; its log says why",
        )
    ]
