"""Prune the outbox: rows that everybody is through with leave it, each replaced by its stub.

What may go is decided in the database, by `fn_iu_outbox_judge`; the deed is `fn_iu_outbox_prune`,
one bounded transaction a call. This module brings what the database cannot know: the relay's
cursors of all shards. They must be of this very database and topic, or their transaction numbers
mean nothing here and rows that were never published would go.

The bound is read once, before the first row goes. Cursors only move forward, so an old bound
keeps more than it must: a run of any length is safe beside running relays. A run that is killed
has lost nothing but the batch at hand; the next one finds what is left.

Source: design/20, "Retention".
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, TypeAlias
from uuid import UUID

import psycopg
import structlog

from iu_core.bus.kafka_admin import KafkaAdmin
from iu_core.bus.kafka_reader import KafkaTopicReader
from iu_core.bus.names import BusNames
from iu_core.bus.ports import BusAdmin, TopicReader
from iu_core.database import Connection, Role, connect, translate
from iu_core.errors import Misconfigured, Refused, Retryable, Terminal
from iu_core.settings import Settings
from producers.relay import prune_queries, recovery
from producers.relay.actions import record_action
from producers.relay.cursor import Cursor
from producers.relay.outbox import PostgresOutbox

log = structlog.get_logger(__name__)

BATCH_ROWS: Final = 2_000
_FOLDS_MAX: Final = 5

FoldTree: TypeAlias = Callable[[UUID], tuple[int, bytes]]
"""Gives version and baseline digest of a tree, folded from its baseline and its events."""


@dataclass(frozen=True, slots=True)
class Bound:
    """Up to where all shards of the relay are through, as their cursors say.

    Rows of transactions below `before_xid` are published, but for those of `blocked_trees`.
    `held_back_by` is the shard whose cursor gives the bound, written at `written_at`.
    """

    before_xid: int
    newest_ids: tuple[int, ...]
    blocked_trees: tuple[UUID, ...]
    held_back_by: int
    written_at: datetime


@dataclass(frozen=True, slots=True)
class Going:
    """The rows of one event type that may go, and when the oldest and the newest occurred."""

    event_type: str
    rows: int
    oldest_at: datetime
    newest_at: datetime


@dataclass(frozen=True, slots=True)
class Held:
    """How many rows stay for one reason, and the first of them."""

    reason: str
    rows: int
    example: UUID

    @property
    def in_words(self) -> str:
        """What the reason means."""
        return _REASONS[self.reason]


@dataclass(frozen=True, slots=True)
class Preview:
    """What would go and what stays.

    `lacking_baseline`: trees that get a baseline first, because rows of theirs may go.
    """

    bound: Bound
    older_than_s: float
    going: tuple[Going, ...]
    held: tuple[Held, ...]
    lacking_baseline: tuple[UUID, ...]

    @property
    def rows(self) -> int:
        """How many rows may go."""
        return sum(each.rows for each in self.going)


@dataclass(frozen=True, slots=True)
class Pruned:
    """What a run did: rows gone in so many transactions, baselines taken.

    `left_out`: which trees could get no baseline, so that their rows stay, and why, in words.
    """

    rows: int
    batches: int
    baselines: int
    left_out: tuple[str, ...]


_REASONS: Final = {
    "newest_published": "the newest published row of a shard stays: by it the relay knows its database",
    "unsettled": "not every shard of the relay is through with its transaction",
    "blocked": "its tree waits for a dead letter of the relay",
    "too_young": "it is younger than the retention",
    "undecided": "a registered route of its type has no final decision on it",
    "no_baseline": "its tree could not be rebuilt without it",
    "behind": "an earlier event of its tree stays",
}
_REMEDIES: Final = {
    "newest_published": "nothing: it may go when a newer one is published",
    "unsettled": "start or look at the relay (iu relay status), then at what holds its snapshot back",
    "blocked": "resolve the dead letter, then prune again",
    "too_young": "wait, or give a shorter --older-than",
    "undecided": "iu explain EVENT says which; open the route, discard its dead letter, or unregister it",
    "no_baseline": "iu verify says why no baseline can be taken",
    "behind": "resolve what holds the earlier event",
}


def read_bound(settings: Settings, database_url: str) -> Bound:
    """Read the cursors of all shards, and hold them against database and topic.

    Raises `Terminal` where a shard has no cursor, `Misconfigured` where a cursor is of another
    database or topic, `Retryable` if the broker or the database is away or a reshard is under way.
    """
    names, name = BusNames(settings.kafka.prefix), "iu-relay-prune"
    with ExitStack() as opened:
        admin = KafkaAdmin(settings, name)
        opened.callback(admin.close)
        reader = KafkaTopicReader(settings, name)
        opened.callback(reader.close)
        cursors = read_cursors(reader, admin, names)
        topic = admin.describe(names.events)
        if topic is None:
            raise Misconfigured(
                f"there is no topic {names.events}",
                why="the relay's cursor says that events were published to it",
                remedy="point IU_KAFKA__PREFIX at the right one, or restore it",
            )
        connection = connect(database_url, Role.RELAY, settings=settings.database, application_name=name)
        outbox = PostgresOutbox(connection, cursors[0].layout)
        opened.callback(outbox.close)
        identity = outbox.identity()
        for cursor in cursors:
            event_ref = None if cursor.highest is None else outbox.event_ref_of(cursor.highest.id)
            recovery.refuse(recovery.compare(cursor, identity, event_ref, topic, cursor.layout))
    return bound_of(cursors)


def read_cursors(reader: TopicReader, admin: BusAdmin, names: BusNames) -> tuple[Cursor, ...]:
    """Return the cursor of every shard of the newest layout, by shard.

    Raises `Terminal` if a shard has none: then nobody knows what it has published.
    """
    written = recovery.last_cursors(reader, names.cursor) if admin.describe(names.cursor) else {}
    layout = recovery.in_force(written)
    if layout is None:
        raise Terminal(
            "the relay has no cursor, so nothing may be pruned",
            why=f"{names.cursor} holds none: nothing was published yet, or it is another prefix",
            remedy="iu relay run, or point IU_KAFKA__PREFIX at the right topics",
        )
    by_shard = {shard: cursor for shard, cursor in written.items() if cursor.layout.epoch == layout.epoch}
    missing = sorted(set(range(layout.shards)) - by_shard.keys())
    if missing:
        raise Terminal(
            f"shards {missing} of the relay have no cursor, so nothing may be pruned",
            why="nobody knows what they have published",
            remedy="iu relay run publishes their first events",
        )
    for cursor in by_shard.values():
        recovery.refuse_sealed(cursor)
    return tuple(by_shard[shard] for shard in range(layout.shards))


def bound_of(cursors: Sequence[Cursor]) -> Bound:
    """Return up to where every one of `cursors` is through.

    S1 and not the window's S2: rows of a window in progress may not be published yet.
    """
    slowest = min(cursors, key=lambda cursor: cursor.position.settled.xmin)
    return Bound(
        before_xid=slowest.position.settled.xmin,
        newest_ids=tuple(cursor.highest.id for cursor in cursors if cursor.highest is not None),
        blocked_trees=tuple(sorted({tree for cursor in cursors for tree in cursor.blocked})),
        held_back_by=slowest.layout.shard,
        written_at=slowest.at,
    )


def preview(connection: Connection, bound: Bound, older_than: timedelta) -> Preview:
    """Judge every row of the outbox; changes nothing. `connection`: role iu_owner, autocommit."""
    with _translated(), connection.transaction():
        # It looks at every row of the outbox, as long as that takes.
        connection.execute("SET TRANSACTION READ ONLY")
        connection.execute("SET LOCAL statement_timeout = 0")
        rows = connection.execute(prune_queries.FORESEEN.encode(), _parameters(bound, older_than)).fetchall()
    going: list[Going] = []
    held: dict[str, list[tuple[int, int, UUID]]] = {}
    lacking: set[UUID] = set()
    for reason, event_type, count, oldest_at, newest_at, first, first_id, trees in rows:
        if reason is None:
            going.append(Going(event_type, count, oldest_at, newest_at))
            lacking.update(trees or ())
        else:
            held.setdefault(reason, []).append((first_id, count, first))
    stays = [Held(reason, sum(count for _, count, _ in each), min(each)[2]) for reason, each in held.items()]
    return Preview(
        bound=bound,
        older_than_s=older_than.total_seconds(),
        going=tuple(going),
        held=tuple(sorted(stays, key=lambda each: -each.rows)),
        lacking_baseline=tuple(sorted(lacking)),
    )


def refuse_if_nothing_goes(found: Preview) -> None:
    """Raise if the outbox holds rows and every one of them stays.

    `Refused` if most of them wait for a route's decision: default deny holds them. Else `Terminal`.
    """
    if found.rows or not found.held:
        return
    most = max(found.held, key=lambda held: held.rows)
    kind = Refused if most.reason == "undecided" else Terminal
    raise kind(
        "nothing of the outbox may be pruned",
        why="; ".join(f"{held.rows} rows: {held.in_words} (event {held.example})" for held in found.held),
        remedy=_REMEDIES[most.reason],
    )


def prune(
    connection: Connection,
    found: Preview,
    *,
    limit: int | None,
    fold: FoldTree,
    actor: str,
    reason: str,
    progress: Callable[[Pruned], None] = lambda done: None,
    batch_rows: int = BATCH_ROWS,
) -> Pruned:
    """Take the baselines that are lacking, then let rows go, a transaction at a time.

    `limit` bounds the rows of the run. Raises `Retryable` if the database goes away: what is
    done is done, and the same call goes on from there.
    """
    detail = {"rows_at_most": limit or found.rows, "older_than_s": found.older_than_s, "actor": actor}
    record_action(connection, "relay prune", detail, reason)
    done = _take_baselines(connection, found.lacking_baseline, fold, actor, reason)
    older_than = timedelta(seconds=found.older_than_s)
    after_id = 0
    while limit is None or done.rows < limit:
        most = batch_rows if limit is None else min(batch_rows, limit - done.rows)
        bound = _parameters(found.bound, older_than) | {
            "after_id": after_id,
            "window": batch_rows,
            "most": most,
        }
        with _translated(), connection.transaction():
            examined, pruned, last_id = _one(connection, prune_queries.PRUNE, bound)
        if not examined:
            break
        after_id = last_id
        done = Pruned(done.rows + pruned, done.batches + 1, done.baselines, done.left_out)
        progress(done)
    log.info(
        "outbox pruned",
        rows=done.rows,
        baselines=done.baselines,
        before_xid=found.bound.before_xid,
        older_than_s=found.older_than_s,
        actor=actor,
        reason=reason,
    )
    return done


def _take_baselines(
    connection: Connection, trees: Iterable[UUID], fold: FoldTree, actor: str, reason: str
) -> Pruned:
    """Write a baseline of each tree at its current version, if it stands as its events say."""
    taken, left_out = 0, []
    for tree_id in trees:
        try:
            for _ in range(_FOLDS_MAX):
                version, digest = fold(tree_id)
                bound = {"tree": tree_id, "version": version, "digest": digest, "actor": actor}
                with _translated(), connection.transaction():
                    (written,) = _one(
                        connection, prune_queries.BASELINE, bound | {"reason": f"prune: {reason}"}
                    )
                if written:
                    taken += 1
                    break
            else:
                left_out.append(f"tree {tree_id} changed {_FOLDS_MAX} times while it was folded; prune again")
        except Terminal as error:
            left_out.append(f"{error}: {error.remedy}")
    return Pruned(0, 0, taken, tuple(left_out))


def _parameters(bound: Bound, older_than: timedelta) -> dict[str, Any]:
    return {
        "before": str(bound.before_xid),
        "newest": list(bound.newest_ids),
        "blocked": list(bound.blocked_trees),
        "older_than": older_than,
    }


def _one(connection: Connection, query: str, bound: dict[str, Any]) -> tuple[Any, ...]:
    row = connection.execute(query.encode(), bound).fetchone()
    if row is None:
        raise Retryable("the database returned nothing where one row is certain")
    return row


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except psycopg.Error as error:
        raise translate(error) from error
