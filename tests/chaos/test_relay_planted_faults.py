"""The tests of the tests: each fault that would break a guarantee turns the chain checker red.

Real PostgreSQL, real Kafka, one thread, named steps: the interleaving that tells the faulty
relay from ours is played out once with the fault and once without. Without, nothing is found.

  fault                                       breaks   the checker says
  read `id > last`                            G1       lost
  cursor committed after, before the events   G2       repeated, lost
  tree head not locked; locked after the id   G3       disordered
  window cut and ordered by xid               G3       disordered
  every process with an id of its own         G9       repeated, sequence
  cursor held against nothing, topic          G10      lost, disordered, chain
  cursor held against nothing, database       G10      ghost
  no cursor taken for a first start           G10      repeated, disordered, chain

Two more show when a relay recovers from a crash: `test_relay_planted_recovery_faults.py`.
A restore of the whole cluster, after which transaction numbers are given out a second time, is played
in the model: `tests/unit/relay/test_restored_database.py`.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import UTC, datetime
from uuid import UUID, uuid4

import pytest
from psycopg import sql

from iu_core.bus.kafka_admin import KafkaAdmin
from iu_core.bus.kafka_publisher import KafkaPublisher
from iu_core.bus.kafka_reader import KafkaTopicReader
from iu_core.bus.names import BusNames
from iu_core.bus.ports import Outgoing, RecordSection, TransactionalPublisher
from iu_core.bus.watchdog import Watchdog
from iu_core.database import Role
from iu_core.errors import Fenced, Misconfigured, Retryable
from iu_core.settings import Settings
from producers.relay import recovery, topics
from producers.relay.contracts import BundledContracts
from producers.relay.cursor import Layout
from producers.relay.framing import Framer
from producers.relay.outbox import OutboxRow, Plan, PostgresOutbox
from producers.relay.relay import Relay
from producers.relay.sizing import TransactionSizer
from producers.relay.snapshot import Position
from schemas.catalog import Catalog
from tests.integration.relay.held_topic import bus_settings, chain_faults
from tests.integration.sql.sessions import Editor, Session, await_blocked, open_gate, session

LAYOUT = Layout(partitions=2)
EVERYTHING = Position().opened
APPEND = """
    INSERT INTO event_outbox (id, event_ref, event_type, schema_version, aggregate_id, aggregate_version,
                              bucket, incarnation, payload, datum, payload_digest)
    OVERRIDING SYSTEM VALUE
    SELECT coalesce(%(id)s, nextval('event_outbox_id_seq')), ref, 'structure_reparented', 1, %(tree)s,
           %(version)s, get_byte(sha256(uuid_send(%(tree)s)), 0), 1, '{}', datum, sha256(datum)
      FROM gen_random_uuid() AS ref,
           LATERAL (SELECT uuid_send(ref) || %(time)s || uuid_send(%(tree)s)) AS made (datum)
"""
# Avro of an instant, between the event_ref and the tree with which every datum begins.
SOME_TIME = b"\x80\x80\xb0\xa8\xe3\x8a\xc6\x06"


class Stage:
    """Real servers, and relays on them whose parts may be exchanged for faulty ones."""

    def __init__(self, url: str, settings: Settings, opened: ExitStack) -> None:
        self.url = url
        self.settings = settings
        self.names = BusNames(settings.kafka.prefix)
        self._opened = opened
        self._watchdog = Watchdog(30)
        opened.callback(self._watchdog.close)
        self._admin = KafkaAdmin(settings, "tests")
        opened.callback(self._admin.close)
        opened.callback(lambda: self.lose(*self.names.relay_topics))

    def lose(self, *topics: str) -> None:
        """Delete topics."""
        self._admin.delete(list(topics))

    def editor(self) -> Editor:
        editor = Editor(self.url)
        self._opened.callback(editor.session.close)
        return editor

    def session(self) -> Session:
        return self._opened.enter_context(session(self.url))

    def publisher(
        self, transactional_id: str = "relay", observe: Callable[[str], None] = lambda _stage: None
    ) -> KafkaPublisher:
        name = f"{self.settings.kafka.prefix}{transactional_id}"
        publisher = KafkaPublisher(self.settings, name, self._watchdog, observe=observe)
        self._opened.callback(publisher.close)
        return publisher

    def relay(
        self,
        *,
        outbox: type[PostgresOutbox] = PostgresOutbox,
        publisher: TransactionalPublisher | None = None,
        layout: Layout = LAYOUT,
        recovery_timeout_s: float = 10,
    ) -> Relay:
        """Return a started relay."""
        reading = outbox(session(self.url, Role.RELAY), layout)
        self._opened.callback(reading.close)
        reader = KafkaTopicReader(self.settings, "tests")
        self._opened.callback(reader.close)
        topic = topics.ensure(self._admin, self.names, layout)
        relay = Relay(
            outbox=reading,
            publisher=publisher or self.publisher(),
            reader=reader,
            framer=Framer(
                BundledContracts(Catalog.bundled(), BusNames().events),
                topic=topic.name,
                letters_topic=self.names.relay_dead_letters,
                layout=layout,
                source="tests",
                record_bytes_max=topics.RECORD_BYTES_MAX,
            ),
            names=self.names,
            topic=topic,
            layout=layout,
            sizer=TransactionSizer(target_s=1, rows_max=100),
            recovery_timeout_s=recovery_timeout_s,
            relay_version="tests",
            now=lambda: datetime.now(UTC),
            read_ahead=False,
        )
        relay.start()
        return relay

    def faults(self) -> set[str]:
        """Return the kinds of faults found."""
        return {fault.split(":")[0] for fault in chain_faults(self.url, self.settings)}


@pytest.fixture
def stage(migrated_url: str, kafka_bootstrap: str, bus_prefix: str) -> Iterator[Stage]:
    open_gate(migrated_url)
    with ExitStack() as opened:
        settings = bus_settings(kafka_bootstrap, bus_prefix)
        settings = settings.model_copy(
            update={"kafka": settings.kafka.model_copy(update={"partitions": LAYOUT.partitions})}
        )
        yield Stage(migrated_url, settings, opened)


def drain(relay: Relay) -> None:
    for _ in range(100):
        if relay.step().drained:
            return
    raise AssertionError("the relay never came to an end")


class ReadsById(PostgresOutbox):
    """Planted: every visible row with an id above the last one published."""

    last = 0

    def rows(self, position: Position, plan: Plan, rows_max: int) -> Sequence[OutboxRow]:
        everything = EVERYTHING(self.snapshot()[0])
        rows = [row for row in super().rows(everything, plan, 10_000) if row.id > self.last]
        self.last = max((row.id for row in rows), default=self.last)
        return rows


class ReadsBelowXmin(PostgresOutbox):
    """Planted: what is below xmin, in the order of the transactions' numbers."""

    done: frozenset[int] = frozenset()

    def rows(self, position: Position, plan: Plan, rows_max: int) -> Sequence[OutboxRow]:
        snapshot = self.snapshot()[0]
        xids: dict[int, int] = dict(
            self._connection.execute("SELECT id, xid::text::bigint FROM event_outbox").fetchall()
        )
        seen = super().rows(EVERYTHING(snapshot), plan, 10_000)
        rows = [row for row in seen if xids[row.id] < snapshot.xmin and row.id not in self.done]
        self.done |= {row.id for row in rows}
        return _renumbered(sorted(rows, key=lambda row: (xids[row.id], row.id)))


def _renumbered(rows: list[OutboxRow]) -> list[OutboxRow]:
    """The relay refuses ids that do not ascend; what is planted here is the order, not the ids."""
    ids = sorted(row.id for row in rows)
    return [row._replace(id=number) for number, row in zip(ids, rows, strict=True)]


@pytest.mark.parametrize(("outbox", "faults"), [(PostgresOutbox, set()), (ReadsById, {"lost"})])
def test_g1_a_row_that_commits_behind_a_larger_id(
    stage: Stage, outbox: type[PostgresOutbox], faults: set[str]
) -> None:
    relay, late, quick = stage.relay(outbox=outbox), stage.editor(), stage.editor()
    with late.session.transaction():
        late.add(None)
        quick.add(None)
        drain(relay)
    drain(relay)
    assert stage.faults() == faults


@pytest.mark.parametrize(("outbox", "faults"), [(PostgresOutbox, set()), (ReadsBelowXmin, {"disordered"})])
def test_g3_a_small_xid_that_gets_the_trees_lock_second(
    stage: Stage, outbox: type[PostgresOutbox], faults: set[str]
) -> None:
    editor = stage.editor()
    root = editor.add(None)
    relay, early, quick = stage.relay(outbox=outbox), stage.editor(), stage.editor()
    drain(relay)
    with early.session.transaction():
        early.session.execute("SELECT pg_current_xact_id()")
        quick.add(root)
        early.add(root)
    drain(relay)
    assert stage.faults() == faults


def test_g3_a_tree_whose_head_is_locked_first_keeps_its_order(stage: Stage) -> None:
    """The second writer of a tree waits, so nothing of it can be visible before the first."""
    first, second, observer = stage.editor(), stage.editor(), stage.session()
    root, relay = first.add(None), stage.relay()
    with ThreadPoolExecutor() as pool:
        with first.session.transaction():
            first.add(root)
            waiting = pool.submit(second.add, root)
            await_blocked(observer, second.session, by=first.session)
            drain(relay)
        waiting.result(timeout=10)
    drain(relay)
    assert stage.faults() == set()


def test_g3_a_head_that_is_not_locked_is_caught(stage: Stage) -> None:
    """Planted: version 2 is committed, and read, while version 1 is still on its way."""
    first, second, tree, relay = stage.session(), stage.session(), uuid4(), stage.relay()
    with first.transaction():
        append(first, tree, 1)
        append(second, tree, 2)
        drain(relay)
    drain(relay)
    assert stage.faults() == {"disordered"}


def test_g3_a_head_locked_after_the_id_was_taken_is_caught(stage: Stage) -> None:
    """Planted: the later writer took its id before it waited for the lock."""
    first, tree, relay = stage.session(), uuid4(), stage.relay()
    taken = first.execute("SELECT nextval('event_outbox_id_seq')").fetchone()
    assert taken is not None
    append(first, tree, 1)
    append(first, tree, 2, row_id=taken[0])
    drain(relay)
    assert stage.faults() == {"disordered"}


def append(writer: Session, tree: UUID, version: int, row_id: int | None = None) -> None:
    """Write an outbox row past the operations, which would lock the tree's head first."""
    writer.execute(APPEND, {"id": row_id, "tree": tree, "version": version, "time": SOME_TIME})


class CursorApart:
    """Planted: the cursor in a transaction of its own; `dies` ends the process between the two."""

    def __init__(self, inner: TransactionalPublisher, *, cursor_first: bool) -> None:
        self._inner = inner
        self._cursor_first = cursor_first
        self.dies = False

    def open(self) -> None:
        self._inner.open()

    def publish(self, records: Sequence[Outgoing | RecordSection]) -> None:
        parts = [list(records[:-1]), list(records[-1:])]
        first, second = reversed(parts) if self._cursor_first else parts
        self._inner.publish(first)
        if self.dies:
            raise Retryable("killed between two transactions")
        self._inner.publish(second)

    def close(self) -> None:
        self._inner.close()


@pytest.mark.parametrize(("cursor_first", "fault"), [(False, "repeated"), (True, "lost")])
def test_g2_a_cursor_outside_the_transaction_is_caught(stage: Stage, cursor_first: bool, fault: str) -> None:
    editor, publisher = stage.editor(), CursorApart(stage.publisher(), cursor_first=cursor_first)
    relay = stage.relay(publisher=publisher)
    editor.add(None)
    drain(relay)
    editor.add(None)
    publisher.dies = True
    with pytest.raises(Retryable):
        drain(relay)
    drain(stage.relay())
    assert fault in stage.faults()


def dies_before_commit(stage: str) -> None:
    """An observer that ends a publisher when everything is sent and nothing is committed."""
    if stage == "acknowledged":
        raise KeyboardInterrupt


def test_g2_a_relay_killed_between_send_and_commit_leaves_nothing_behind(stage: Stage) -> None:
    editor = stage.editor()
    relay = stage.relay(publisher=stage.publisher(observe=dies_before_commit))
    editor.add(None)
    with pytest.raises(KeyboardInterrupt):
        drain(relay)
    drain(stage.relay())
    assert stage.faults() == set()


def test_g9_a_woken_zombie_is_fenced(stage: Stage) -> None:
    editor, zombie = stage.editor(), stage.relay()
    successor = stage.relay()
    editor.add(None)
    drain(successor)
    with pytest.raises(Fenced):
        drain(zombie)
    assert stage.faults() == set()


def test_g9_a_zombie_that_nothing_fences_is_caught(stage: Stage) -> None:
    """Planted: a transactional id per process, which the next process does not take over."""
    editor, zombie = stage.editor(), stage.relay(publisher=stage.publisher("process-1"))
    successor = stage.relay(publisher=stage.publisher("process-2"))
    editor.add(None)
    drain(successor)
    drain(zombie)
    assert stage.faults() == {"repeated", "sequence", "disordered", "chain"}


def forget(*anything: object) -> list[recovery.Finding]:
    """Planted: `recovery.compare` finds no difference, whatever the cursor says."""
    return []


def test_g10_a_topic_made_again_stops_the_relay(stage: Stage) -> None:
    made_again(stage)
    with pytest.raises(Misconfigured, match="topic id"):
        stage.relay()


def test_g10_a_topic_made_again_that_nobody_notices_is_caught(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Planted: what stood on the topic is taken for published, and is nowhere."""
    made_again(stage)
    monkeypatch.setattr(recovery, "compare", forget)
    drain(stage.relay())
    assert stage.faults() == {"lost", "disordered", "chain"}


def made_again(stage: Stage) -> None:
    """Publish one version of a tree, lose the topic, write the next version."""
    editor = stage.editor()
    root = editor.add(None)
    drain(stage.relay())
    stage.lose(stage.names.events)
    editor.add(root)


@pytest.fixture
def restored(stage: Stage) -> Iterator[Stage]:
    """One version of a tree is in the backup, the next was only published; a third is written since."""
    server, name = stage.url.rsplit("/", 1)
    backup = f"{name}_restored"
    with ExitStack() as opened:
        editor = Editor(stage.url)
        root = editor.add(None)
        editor.session.close()
        postgres = opened.enter_context(session(f"{server}/postgres"))
        postgres.execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(*map(sql.Identifier, (backup, name)))
        )
        opened.callback(
            postgres.execute, sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(backup))
        )
        stage.editor().add(root)
        drain(stage.relay())
        made = Stage(f"{server}/{backup}", stage.settings, opened)
        made.editor().add(root)
        yield made


def test_g10_a_restored_database_stops_the_relay(restored: Stage) -> None:
    with pytest.raises(Misconfigured, match="event of outbox row"):
        restored.relay()


def test_g10_a_restored_database_that_nobody_notices_is_caught(
    restored: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Planted: consumers were told a version that the database does not have, and are told it again."""
    monkeypatch.setattr(recovery, "compare", forget)
    drain(restored.relay())
    assert restored.faults() == {"ghost"}


def test_g10_a_lost_cursor_stops_the_relay(stage: Stage) -> None:
    stage.editor().add(None)
    drain(stage.relay())
    stage.lose(stage.names.cursor)
    with pytest.raises(Misconfigured, match="holds no cursor"):
        stage.relay()


def test_g10_a_lost_cursor_that_is_taken_for_a_first_start_is_caught(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Planted: without a cursor, whether the topic holds events is not asked."""
    stage.editor().add(None)
    drain(stage.relay())
    stage.lose(stage.names.cursor)
    monkeypatch.setattr(recovery, "holds_events", lambda *anything: False)
    drain(stage.relay())
    assert stage.faults() == {"repeated", "disordered", "chain"}
