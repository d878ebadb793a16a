"""Run an unblocking against the real servers: preview it, or do it in the relay's place."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

import psycopg

from iu_core import __version__
from iu_core.bus.kafka_admin import KafkaAdmin
from iu_core.bus.kafka_publisher import KafkaPublisher
from iu_core.bus.kafka_reader import KafkaTopicReader
from iu_core.bus.names import BusNames
from iu_core.bus.ports import Topic
from iu_core.bus.watchdog import Watchdog
from iu_core.database import Connection, Role, connect, translate
from iu_core.errors import Misconfigured
from iu_core.settings import BadRowPolicy, Settings
from producers.relay import recovery, topics
from producers.relay.actions import record_action
from producers.relay.blocked import fill_table, newest_cursors
from producers.relay.cursor import Cursor
from producers.relay.framing import Contracts, Framer
from producers.relay.maintenance import maintained
from producers.relay.outbox import PostgresOutbox
from producers.relay.unblock import ROWS_MAX, Batch, Decision, Event, How, LeftOut, Unblocking, not_blocked
from producers.relay.waiting import PostgresWaitingRows

_APPLICATION: Final = "iu-relay-unblock"
_HAS_LETTER: Final = """
    SELECT EXISTS (SELECT FROM public.iu_relay_dead_letter AS l
                    WHERE l.event_ref = %s AND l.incarnation = %s AND l.state = 'blocked')
"""


@dataclass(frozen=True, slots=True)
class Unblocked:
    """What was done (`applied`), or would be: every event, in the order of publishing.

    `still_waiting` counts the events that wait on behind `blocked_again`.
    """

    tree_id: UUID
    shard: int
    how: How
    from_version: int
    published: tuple[Event, ...]
    left_out: tuple[LeftOut, ...]
    blocked_again: LeftOut | None
    still_waiting: int
    transactions: int
    applied: bool


class UnblockCommand:
    """Lets one tree go on. Build, then `preview` or `apply` once."""

    def __init__(
        self,
        settings: Settings,
        database_url: str,
        contracts: Contracts,
        *,
        tree: UUID,
        how: How,
        reason: str,
        rows_max: int = ROWS_MAX,
    ) -> None:
        self._settings = settings
        self._database_url = database_url
        self._contracts = contracts
        self._tree = tree
        self._how = how
        self._reason = reason
        self._rows_max = min(rows_max, settings.relay.rows_max)
        self._names = BusNames(settings.kafka.prefix)

    def preview(self) -> Unblocked:
        """Return what `apply` would publish. Opens no producer and fences nobody.

        Raises what `apply` raises, but for what only the relay's place can tell.
        """
        with self._opened() as servers:
            cursor = self._newest(servers)
            return self._summary(servers, cursor, list(self._batches(servers, cursor)), applied=False)

    def apply(self) -> Unblocked:
        """Publish what waits; the running relay of the shard steps aside meanwhile.

        Raises `Terminal` if the tree is not blocked or its row is still bad, `Misconfigured` if the
        cursor belongs to another database or topic, `Retryable` if a server is away or the relay
        does not let go, `Fenced` if another process took the shard in the middle.
        """
        settings, watchdog = self._settings, Watchdog(self._settings.relay.watchdog_ms / 1_000)
        with ExitStack() as opened:
            opened.callback(watchdog.close)
            servers = opened.enter_context(self._opened())
            owner = opened.enter_context(self._connect(Role.OWNER))
            # Before the relay is asked to step aside for nothing.
            seen = self._newest(servers)
            next(self._batches(servers, seen))
            shard = seen.layout.shard
            opened.enter_context(
                maintained(settings, self._database_url, [shard], application_name=_APPLICATION)
            )
            transactional_id = self._names.transactional_id(settings.relay.cluster, shard)
            publisher = KafkaPublisher(settings, transactional_id, watchdog)
            opened.callback(publisher.close)
            publisher.open()
            cursor = self._taken_over(servers, shard)
            done: list[Batch] = []
            for batch in self._batches(servers, cursor, by=_login(owner)):
                if not done:
                    self._write_down(owner, cursor)
                publisher.publish(batch.records)
                done.append(batch)
            # Only a copy: killed before this, the next filling finds it on the topic.
            fill_table(servers.admin, servers.reader, servers.relay, self._names.relay_dead_letters)
            return self._summary(servers, cursor, done, applied=True)

    def _newest(self, servers: "_Servers") -> Cursor:
        """Return the cursor that blocks the tree, as an onlooker sees it."""
        for cursor in newest_cursors(servers.admin, servers.reader, self._names.cursor):
            if self._tree in cursor.blocked:
                return cursor
        raise not_blocked(self._tree)

    def _taken_over(self, servers: "_Servers", shard: int) -> Cursor:
        """Return the last cursor of the shard, whose producer is ours now, held against what is there."""
        cursor = recovery.find_cursor(
            servers.reader,
            self._names.cursor,
            shard,
            timeout_s=self._settings.relay.watchdog_ms / 2_000,
        )
        if cursor is None:
            raise not_blocked(self._tree)
        recovery.refuse_sealed(cursor)
        outbox = PostgresOutbox(servers.relay, cursor.layout)
        highest, identity = cursor.highest, outbox.identity()
        event_ref = None if highest is None else outbox.event_ref_of(highest.id)
        recovery.refuse(
            recovery.compare(cursor, identity, event_ref, self._events_topic(servers), cursor.layout)
        )
        return replace(cursor, origin=identity.origin, relay_version=__version__)

    def _batches(self, servers: "_Servers", cursor: Cursor, by: str = "") -> Iterator[Batch]:
        settings = self._settings
        fill_table(servers.admin, servers.reader, servers.relay, self._names.relay_dead_letters)
        framer = Framer(
            self._contracts,
            topic=self._names.events,
            letters_topic=self._names.relay_dead_letters,
            layout=cursor.layout,
            source=f"iu-core/{settings.relay.cluster}",
            record_bytes_max=topics.RECORD_BYTES_MAX,
            policy=self._policy,
        )
        return Unblocking(
            tree=self._tree,
            decision=Decision(self._how, by, self._reason),
            waiting=PostgresWaitingRows(servers.relay),
            framer=framer,
            has_letter=lambda event_ref, incarnation: _has_letter(servers.onlooker, event_ref, incarnation),
            names=self._names,
            now=lambda: datetime.now(UTC),
            rows_max=self._rows_max,
        ).batches(cursor)

    def _policy(self, event_type: str) -> BadRowPolicy:
        """`halt` stops a relay; here the tree is what has to wait."""
        relay = self._settings.relay
        return "skip" if relay.bad_rows_by_type.get(event_type, relay.bad_rows) == "skip" else "block_tree"

    def _events_topic(self, servers: "_Servers") -> Topic:
        if (topic := servers.admin.describe(self._names.events)) is None:
            raise Misconfigured(
                f"the topic {self._names.events} is not there",
                why="a cursor speaks of it",
                remedy="point IU_KAFKA__PREFIX at the right one, or restore it",
            )
        return topic

    def _write_down(self, owner: Connection, cursor: Cursor) -> None:
        detail = {
            "tree_id": str(self._tree),
            "how": self._how.value,
            "shard": cursor.layout.shard,
            "from_version": cursor.blocked[self._tree],
            "cursor_sequence": cursor.sequence,
        }
        record_action(owner, "relay unblock", detail, self._reason)

    def _summary(self, servers: "_Servers", cursor: Cursor, done: list[Batch], *, applied: bool) -> Unblocked:
        again = done[-1].blocked_again
        waiting = 0
        if again is not None:
            rows = PostgresWaitingRows(servers.relay)
            waiting, _ = rows.count(self._tree, again.event.version + 1, cursor.position)
        return Unblocked(
            tree_id=self._tree,
            shard=cursor.layout.shard,
            how=self._how,
            from_version=cursor.blocked[self._tree],
            published=tuple(event for batch in done for event in batch.published),
            left_out=tuple(event for batch in done for event in batch.left_out),
            blocked_again=again,
            still_waiting=waiting,
            transactions=len(done),
            applied=applied,
        )

    def _connect(self, role: Role) -> Connection:
        return connect(
            self._database_url, role, settings=self._settings.database, application_name=_APPLICATION
        )

    @contextmanager
    def _opened(self) -> Iterator["_Servers"]:
        with ExitStack() as opened:
            relay = opened.enter_context(self._connect(Role.RELAY))
            onlooker = opened.enter_context(self._connect(Role.READER))
            admin = KafkaAdmin(self._settings, _APPLICATION)
            opened.callback(admin.close)
            reader = KafkaTopicReader(self._settings, _APPLICATION)
            opened.callback(reader.close)
            yield _Servers(relay, onlooker, admin, reader)


@dataclass(frozen=True, slots=True)
class _Servers:
    relay: Connection
    onlooker: Connection
    admin: KafkaAdmin
    reader: KafkaTopicReader


def _has_letter(connection: Connection, event_ref: UUID, incarnation: int) -> bool:
    try:
        return connection.execute(_HAS_LETTER, (event_ref, incarnation)).fetchone() == (True,)
    except psycopg.Error as error:
        raise translate(error) from error


def _login(connection: Connection) -> str:
    try:
        row = connection.execute("SELECT session_user").fetchone()
    except psycopg.Error as error:
        raise translate(error) from error
    return "" if row is None else str(row[0])
