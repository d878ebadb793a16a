"""After a restore: make database, topic and cursor one story again, by the policy of an operator.

What is on the topic and not in the database (ghosts) is put back (`adopt`) or given up
(`abandon`); what is in the database and not on the topic is published; then every row up to the
highest id is settled by its id, because xids of another history say nothing here, and the
snapshot taken under the lock settles the rest: the diff applies above it.

Kafka and PostgreSQL cannot commit together, so the order is what makes it safe:

  1. seal      cursors with an origin that no database has: no relay starts from here on
  2. decide    one transaction of the database: gate and outbox locked, ghosts put back or given
               up, last id and snapshot taken
  3. publish   fences, then the rows that are missing; each Kafka transaction with cursors that
               are still sealed
  4. open      cursors with the new origin, floor and snapshot, in one Kafka transaction

Killed anywhere after 1 nothing relays, and `iu relay rebase` begins again: what is published
is found on the topic, what is decided in the database. Writers wait during 2 only; what they
commit later has an id above the floor and is not visible in the snapshot.

Every shard is held (`maintenance`) and fenced: one publisher then writes for all of them.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Final

import psycopg

from iu_core.bus.kafka_admin import KafkaAdmin
from iu_core.bus.kafka_publisher import KafkaPublisher
from iu_core.bus.kafka_reader import KafkaTopicReader
from iu_core.bus.names import BusNames
from iu_core.bus.ports import TopicReader
from iu_core.bus.watchdog import Watchdog
from iu_core.database import Connection, Role, connect, translate
from iu_core.errors import Retryable
from iu_core.settings import Settings
from producers.relay import ghosts, recovery, topics
from producers.relay.cursor import Cursor, Layout
from producers.relay.framing import Contracts, Framer
from producers.relay.maintenance import maintained
from producers.relay.outbox import PostgresOutbox
from producers.relay.rebase_plan import Done, Policy, Preview, policies, require_fits
from producers.relay.rebase_steps import SEALED, Rebase, blocked_trees
from schemas.catalog import Catalog

_NAME: Final = "iu-relay-rebase"


def preview(
    settings: Settings,
    database_url: str,
    catalog: Catalog,
    progress: Callable[[str], None] = lambda line: None,
) -> Preview:
    """Compare, and say what could be done. Changes nothing, fences nobody.

    Raises `Retryable` if the broker or the database is away, `Misconfigured` on a standby.
    """
    with ExitStack() as opened, _translated():
        desk = _Desk(settings, database_url, catalog, opened)
        with connect(
            database_url, Role.RELAY, settings=settings.database, application_name=_NAME
        ) as connection:
            found, layout = desk.cursors(fenced=False)
            differences = desk.differences(connection, found, layout)
        session = desk.session(Role.READER)
        return desk.compared(session, found, layout, differences, progress)


def rebase(
    settings: Settings,
    database_url: str,
    contracts: Contracts,
    catalog: Catalog,
    *,
    policy: Policy | None,
    abandon_rest: bool,
    reason: str,
    progress: Callable[[str], None] = lambda line: None,
) -> Done:
    """Hold every shard and rebase; `policy` may be None where there are no ghosts.

    `abandon_rest`: with `adopt`, the ghosts of the trees that cannot be adopted are given up.
    Raises `Misconfigured` when the policy is `stop` or does not fit, `Usage` when one is needed,
    `Retryable` when something is away or in use: then the same call goes on where this one ended.
    """
    with ExitStack() as opened, _translated():
        desk = _Desk(settings, database_url, catalog, opened)
        _, layout = desk.cursors(fenced=False)
        opened.enter_context(maintained(settings, database_url, range(layout.shards), application_name=_NAME))
        publisher = desk.fence(layout)
        found, fenced_layout = desk.cursors(fenced=True)
        if replace(fenced_layout, shard=0) != replace(layout, shard=0):
            raise Retryable("the layout of the shards has just changed", remedy="try again")
        session = desk.session(Role.OWNER)
        outbox = PostgresOutbox(session, layout)
        differences = desk.differences(session, found, layout)
        told = desk.compared(session, found, layout, differences, progress)
        require_fits(told, policy, abandon_rest=abandon_rest)
        if told.nothing_to_do:
            return Done(policy, 0, 0, 0, 0, 0, 0, layout.shards)
        topic = topics.ensure(desk.admin, desk.names, replace(layout, shard=0))
        source = f"iu-core/{settings.relay.cluster}"
        framer = Framer(
            contracts,
            topic=topic.name,
            letters_topic=desk.names.relay_dead_letters,
            layout=replace(layout, shard=0),
            source=source,
            record_bytes_max=topics.RECORD_BYTES_MAX,
            policy=lambda event_type: settings.relay.bad_rows_by_type.get(
                event_type, settings.relay.bad_rows
            ),
        )
        work = Rebase(
            session,
            outbox,
            publisher,
            framer,
            topic,
            found,
            layout,
            cursor_topic=desk.names.cursor,
            source=source,
            rows_max=settings.relay.rows_max,
        )
        return work.run(told, policy, abandon_rest=abandon_rest, reason=reason, progress=progress)


class _Desk:
    """What both preview and rebase look at: broker, database, cursors."""

    def __init__(self, settings: Settings, database_url: str, catalog: Catalog, opened: ExitStack) -> None:
        self.settings = settings
        self.names = BusNames(settings.kafka.prefix)
        self.admin = KafkaAdmin(settings, _NAME)
        opened.callback(self.admin.close)
        self.reader = KafkaTopicReader(settings, _NAME, read_timeout_s=30)
        opened.callback(self.reader.close)
        self._database_url = database_url
        self._catalog = catalog
        self._opened = opened

    def session(self, role: Role) -> Connection:
        """Open a session without bound on its statements: a comparison may take minutes."""
        session = connect(self._database_url, role, settings=self.settings.database, application_name=_NAME)
        self._opened.callback(session.close)
        session.execute("SET statement_timeout = 0")
        session.execute("SET idle_in_transaction_session_timeout = 0")
        return session

    def fence(self, layout: Layout) -> KafkaPublisher:
        """Open the publisher of every shard; return that of the first."""
        watchdog = Watchdog(self.settings.relay.watchdog_ms / 1_000)
        self._opened.callback(watchdog.close)
        opened: list[KafkaPublisher] = []
        for shard in range(layout.shards):
            name = self.names.transactional_id(self.settings.relay.cluster, shard)
            publisher = KafkaPublisher(self.settings, name, watchdog)
            self._opened.callback(publisher.close)
            publisher.open()
            opened.append(publisher)
        return opened[0]

    def cursors(self, *, fenced: bool) -> tuple[dict[int, Cursor], Layout]:
        """Return the last cursor of each shard that has one, and the layout: theirs, else the settings'."""
        of_settings = Layout(partitions=self.settings.kafka.partitions, shards=self.settings.relay.shards)
        if self.admin.describe(self.names.cursor) is None:
            return {}, of_settings
        seen = recovery.last_cursors(self.reader, self.names.cursor)
        layout = recovery.in_force(seen) or of_settings
        found = {shard: self._cursor(shard, seen, fenced=fenced) for shard in range(layout.shards)}
        return {shard: cursor for shard, cursor in found.items() if cursor is not None}, layout

    def _cursor(self, shard: int, seen: Mapping[int, Cursor], *, fenced: bool) -> Cursor | None:
        if not fenced:
            return seen.get(shard)
        timeout_s = self.settings.relay.watchdog_ms / 2_000
        return recovery.find_cursor(self.reader, self.names.cursor, shard, timeout_s=timeout_s)

    def differences(
        self, connection: Connection, found: Mapping[int, Cursor], layout: Layout
    ) -> tuple[str, ...]:
        """Return why a relay would not start, each reason once."""
        topic = self.admin.describe(self.names.events)
        if topic is None:
            return (f"{self.names.events} is not there",)
        if not found:
            holds = recovery.holds_events(self.reader, self.names.events, replace(layout, shards=1))
            return (f"{self.names.events} holds events, and there is no cursor",) if holds else ()
        outbox = PostgresOutbox(connection, layout)
        identity = outbox.identity()
        said: list[str] = []
        for shard, cursor in sorted(found.items()):
            if cursor.origin == SEALED:
                said.append("a rebase was begun and not finished")
                continue
            event_ref = None if cursor.highest is None else outbox.event_ref_of(cursor.highest.id)
            here = replace(cursor.layout, shard=shard)
            said += map(str, recovery.compare(cursor, identity, event_ref, topic, here))
        return tuple(dict.fromkeys(said))

    def compared(
        self,
        session: Connection,
        found: Mapping[int, Cursor],
        layout: Layout,
        differences: tuple[str, ...],
        progress: Callable[[str], None],
    ) -> Preview:
        """Hold the topic against the outbox."""
        topic = self.admin.describe(self.names.events)
        ends = {} if topic is None else settled_ends(self.reader, self.names.events)
        made_again = topic is None or any(each.topic_id != topic.topic_id for each in found.values())
        compared = ghosts.compare(
            session, self.reader, self.names.events, ends, blocked_trees(found), self._catalog, progress
        )
        return Preview(
            topic=self.names.events,
            shards=layout.shards,
            made_again=bool(found) and made_again,
            differences=differences,
            compared=compared,
            policies=policies(compared, made_again=bool(found) and made_again),
        )


def settled_ends(
    reader: TopicReader,
    topic: str,
    *,
    timeout_s: float = 10.0,
    clock_s: Callable[[], float] = time.monotonic,
    sleep_s: Callable[[float], None] = time.sleep,
) -> Mapping[int, int]:
    """Return the committed end of each partition, once nothing is on its way to it.

    Raises `Retryable` if a transaction stays open for `timeout_s` seconds.
    """
    asked = reader.end_offsets(topic, committed=False)
    give_up_at = clock_s() + timeout_s
    while True:
        ends = reader.end_offsets(topic, committed=True)
        if all(ends[partition] >= end for partition, end in asked.items()):
            return asked
        if clock_s() > give_up_at:
            raise Retryable(
                f"a transaction stays open on {topic}",
                why=f"read_committed ends at {dict(ends)}, read_uncommitted at {dict(asked)}",
                remedy="try again after its time-out; the broker ends it then",
            )
        sleep_s(0.05)


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except psycopg.Error as error:
        raise translate(error) from error
