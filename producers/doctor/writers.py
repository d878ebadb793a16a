"""Family 1: transactions that have written to the outbox and are not over.

The snapshot-diff cursor does not stall on them: what others commit flows on. Only their own
events wait, and the writers of the trees whose head rows they hold. So a foreign transaction,
however long, is no finding. Who has written to the outbox shows in `pg_locks`, which everybody
may read: the table's RowExclusiveLock is held to the end of the transaction.

A prepared transaction has no session that could end: it waits for somebody's COMMIT PREPARED.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from producers.doctor.examination import Examination
from producers.doctor.finding import Finding, Patience, Severity, duration, psql, size

# A session without an xid has written nothing. Blocked sessions are counted from pg_locks, whose
# rows are not hidden, and not from pg_stat_activity.
_WRITERS: Final = """
    SELECT l.pid, x.xid, a.state, a.application_name, a.usename, a.client_addr::text, a.query,
           extract(epoch FROM clock_timestamp() - a.xact_start)::float8,
           (SELECT count(DISTINCT w.pid) FROM pg_locks AS w
             WHERE NOT w.granted AND l.pid = ANY (pg_blocking_pids(w.pid)))
      FROM pg_locks AS l
      JOIN LATERAL (
        SELECT t.transactionid::text AS xid FROM pg_locks AS t
         WHERE t.locktype = 'transactionid' AND t.granted AND t.mode = 'ExclusiveLock' AND t.pid = l.pid
         ORDER BY age(t.transactionid) DESC LIMIT 1
      ) AS x ON true
      LEFT JOIN pg_stat_activity AS a ON a.pid = l.pid
     WHERE l.locktype = 'relation' AND l.granted AND l.mode = 'RowExclusiveLock'
       AND l.relation = to_regclass('public.event_outbox')
       AND l.database = (SELECT d.oid FROM pg_database AS d WHERE d.datname = current_database())
     ORDER BY l.pid
"""
# Its locks have no pid; they are found by the virtual transaction that holds the lock on its xid.
_PREPARED: Final = """
    SELECT p.gid, p.transaction::text, p.owner::text,
           extract(epoch FROM clock_timestamp() - p.prepared)::float8,
           (SELECT count(DISTINCT w.pid) FROM pg_locks AS w
             WHERE NOT w.granted AND w.transactionid = p.transaction)
      FROM pg_prepared_xacts AS p
     WHERE p.database = current_database()
       AND EXISTS (
         SELECT FROM pg_locks AS x JOIN pg_locks AS l USING (virtualtransaction)
          WHERE x.pid IS NULL AND x.locktype = 'transactionid' AND x.transactionid = p.transaction
            AND l.pid IS NULL AND l.locktype = 'relation' AND l.mode = 'RowExclusiveLock'
            AND l.relation = to_regclass('public.event_outbox'))
     ORDER BY p.prepared
"""
_LOGIN: Final = "SELECT session_user::text"
_SLOTS: Final = """
    SELECT s.slot_name::text, s.active, s.wal_status,
           coalesce(pg_wal_lsn_diff(pg_current_wal_lsn(), s.restart_lsn), 0)::bigint
      FROM pg_replication_slots AS s
"""
_QUERY_SHOWN: Final = 200


@dataclass(frozen=True, slots=True)
class Writer:
    """A session that has written to the outbox and not committed. None where the server hides it."""

    pid: int
    xid: str
    state: str | None
    application: str | None
    user: str | None
    client: str | None
    query: str | None
    age_s: float | None
    blocked: int

    @property
    def hidden(self) -> bool:
        """Whether this login may not see what the session does."""
        return self.age_s is None


@dataclass(frozen=True, slots=True)
class Prepared:
    """A prepared transaction that has written to the outbox."""

    gid: str
    xid: str
    owner: str
    age_s: float
    blocked: int


@dataclass(frozen=True, slots=True)
class Slot:
    """A replication slot, and the bytes of write-ahead log that are kept for it."""

    name: str
    active: bool
    wal_status: str | None
    kept_bytes: int


def open_writers(asked: Examination) -> list[Finding]:
    """Find sessions whose events wait for their commit."""
    patience = asked.patience
    writers = [Writer(*row) for row in asked.rows(_WRITERS)]
    if not writers:
        return []
    seen_again: set[tuple[int, str]] = set()
    if any(writer.hidden for writer in writers):
        # Without an age to read, one that outlasts our patience has shown it.
        asked.sleep_s(patience.open_s)
        seen_again = {(row[0], row[1]) for row in asked.rows(_WRITERS)}
    ((login,),) = asked.rows(_LOGIN)
    return judge_writers(writers, seen_again, str(login), patience)


def judge_writers(
    writers: Iterable[Writer], seen_again: set[tuple[int, str]], login: str, patience: Patience
) -> list[Finding]:
    """Return a finding for each writer that is open for too long.

    `seen_again` holds (pid, xid) of those that were there when `patience.open_s` had passed;
    it decides where the age is hidden from `login`.
    """
    return [
        _writer(writer, login, patience)
        for writer in writers
        if (
            (writer.pid, writer.xid) in seen_again
            if writer.age_s is None
            else writer.age_s >= patience.open_s
        )
    ]


def _writer(writer: Writer, login: str, patience: Patience) -> Finding:
    age = f"{patience.open_s:.0f} s or more" if writer.age_s is None else duration(writer.age_s)
    who = f"{writer.application or 'a session'} (backend {writer.pid})"
    evidence = [f"transaction {writer.xid}, user {writer.user or '?'}, client {_client(writer)}"]
    if writer.hidden:
        evidence.append(
            f'its query and exact age are hidden from "{login}"; '
            f'as an administrator: GRANT pg_read_all_stats TO "{login}"'
        )
    else:
        query = " ".join((writer.query or "").split())[:_QUERY_SHOWN]
        evidence.append(f"{writer.state}; last query: {query}")
    if writer.blocked:
        evidence.append(f"{writer.blocked} sessions wait for its locks: writers of the same trees")
    evidence.append("only its own events wait; what other transactions commit is published")
    return Finding(
        Severity.SLOWS,
        f"{who} has written events and not committed them for {age}",
        tuple(evidence),
        f"{psql(f'SELECT pg_terminate_backend({writer.pid})')}   # rolls it back; or let it commit",
    )


def _client(writer: Writer) -> str:
    if writer.hidden:
        return "hidden"
    return writer.client or "a local socket"


def prepared(asked: Examination) -> list[Finding]:
    """Find prepared transactions whose events wait."""
    return judge_prepared([Prepared(*row) for row in asked.rows(_PREPARED)], asked.patience)


def judge_prepared(found: Iterable[Prepared], patience: Patience) -> list[Finding]:
    """Return a finding for each prepared transaction that nobody has ended for too long."""
    return [
        Finding(
            Severity.SLOWS,
            f"the prepared transaction {one.gid!r} holds events back for {duration(one.age_s)}",
            (
                f"transaction {one.xid}, prepared by {one.owner}; it outlives sessions and restarts",
                *([f"{one.blocked} sessions wait for its locks"] if one.blocked else []),
                "only its own events wait; what other transactions commit is published",
            ),
            f"{psql(f'ROLLBACK PREPARED {_literal(one.gid)}')}   # or COMMIT PREPARED, if its partner has",
        )
        for one in found
        if one.age_s >= patience.open_s
    ]


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def slots(asked: Examination) -> list[Finding]:
    """Find replication slots that fill the database's disk, which would stop it; the relay uses none."""
    return judge_slots([Slot(*row) for row in asked.rows(_SLOTS)], asked.patience)


def judge_slots(found: Iterable[Slot], patience: Patience) -> list[Finding]:
    """Return a finding for each slot that nobody reads and for which much is kept."""
    return [
        Finding(
            Severity.WARNS,
            f"the replication slot {slot.name} keeps {size(slot.kept_bytes)} of write-ahead log on disk",
            (f"nobody reads it; wal_status {slot.wal_status}", "the relay uses no slot"),
            f"{psql(f'SELECT pg_drop_replication_slot({_literal(slot.name)})')}   # or start its reader",
        )
        for slot in found
        if not slot.active and slot.kept_bytes >= patience.kept_bytes
    ]
