"""The SQL of the windows says what the pure cursor says, on a real server, by both plans.

One thread steps several sessions through a seeded history (early xids, savepoints, rollbacks,
commits out of order) and polls in between, so each run interleaves the same way.
"""

import random
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID

import psycopg
import pytest

from iu_core.database import Role
from iu_core.errors import Misconfigured, Refused
from producers.relay.cursor import Layout
from producers.relay.outbox import Backlog, OutboxRow, Plan, PostgresOutbox
from producers.relay.snapshot import Position, Snapshot
from tests.integration.sql.sessions import Editor, open_gate, session

STEPS = 250
ROWS_MAX = 4
LAYOUT = Layout(partitions=4)
MANY_ROWS = """
    INSERT INTO event_outbox (event_ref, event_type, schema_version, aggregate_id, aggregate_version,
                              bucket, incarnation, payload, datum, payload_digest)
    SELECT gen_random_uuid(), 'structure_reparented', 1, tree, 1,
           get_byte(sha256(uuid_send(tree)), 0), 1, '{}', 'x', sha256('x')
      FROM (SELECT gen_random_uuid() AS tree FROM generate_series(1, %s)) AS trees
"""


@pytest.fixture
def outbox(migrated_url_each: str) -> Iterator[PostgresOutbox]:
    open_gate(migrated_url_each)
    made = PostgresOutbox(session(migrated_url_each, Role.RELAY, name="relay"), LAYOUT)
    yield made
    made.close()


class Writer:
    """One session with a tree of its own; `step` begins, writes, or ends its transaction."""

    def __init__(self, url: str, opened: ExitStack) -> None:
        self._editor = Editor(url)
        opened.callback(self._editor.session.close)
        self._root = self._editor.add(None)

    def step(self, chance: random.Random) -> None:
        connection = self._editor.session
        if connection.info.transaction_status == psycopg.pq.TransactionStatus.IDLE:
            connection.execute("BEGIN")
            if chance.random() < 0.5:
                connection.execute("SELECT pg_current_xact_id()")
        elif chance.random() < 0.6:
            with connection.transaction(force_rollback=chance.random() < 0.2):
                self._editor.add(self._root)
        else:
            connection.execute("COMMIT" if chance.random() < 0.8 else "ROLLBACK")

    def finish(self) -> None:
        self._editor.session.execute("ROLLBACK")


def committed(url: str) -> list[tuple[int, int]]:
    """Return (xid, id) of every visible row, in order of id."""
    with session(url) as onlooker:
        rows = onlooker.execute("SELECT xid::text, id FROM event_outbox ORDER BY id").fetchall()
    return [(int(xid), row_id) for xid, row_id in rows]


def chunk(outbox: PostgresOutbox, url: str, position: Position) -> list[OutboxRow]:
    """Return the next chunk after checking that both plans and the model agree on it."""
    tail = list(outbox.rows(position, Plan.TAIL, ROWS_MAX))
    awaited = [row_id for xid, row_id in committed(url) if position.awaits(xid, row_id)]
    assert [row.id for row in tail] == awaited[:ROWS_MAX]
    assert list(outbox.rows(position, Plan.SCAN, ROWS_MAX)) == tail
    extent = outbox.extent(position)
    assert (extent.rows, extent.first_id, extent.last_id) == (
        len(awaited),
        min(awaited, default=0),
        max(awaited, default=0),
    )
    return tail


def pending(url: str, position: Position) -> int:
    window = position.window
    return sum(
        not position.settled.sees(xid)
        and not (window is not None and window.sees(xid) and row_id <= position.last_id)
        for xid, row_id in committed(url)
    )


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_windows_on_a_real_server_hold_what_the_model_says_each_row_once(
    migrated_url_each: str, outbox: PostgresOutbox, seed: int
) -> None:
    chance, published, position = random.Random(seed), list[int](), Position()
    with ExitStack() as opened:
        writers = [Writer(migrated_url_each, opened) for _ in range(5)]
        for step in range(STEPS):
            chance.choice(writers).step(chance)
            if step == STEPS - 50:
                for writer in writers:
                    writer.finish()
            if chance.random() < 0.4 or step >= STEPS - 50:
                position = position if position.window else position.opened(outbox.snapshot()[0])
                rows = chunk(outbox, migrated_url_each, position)
                position = position.advanced(rows[-1].id) if rows else position
                waiting = pending(migrated_url_each, position)
                assert outbox.pending(position).events == waiting
                assert outbox.backlog(position, 10_000).events == waiting
                position = position.closed() if len(rows) < ROWS_MAX else position
                published += [row.id for row in rows]
        for writer in writers:
            writer.finish()
    assert len(published) > 40
    assert len(published) == len(set(published))


def test_a_row_is_read_whole(migrated_url_each: str, outbox: PostgresOutbox) -> None:
    editor = Editor(migrated_url_each)
    editor.session.execute("SELECT set_config('iu.traceparent', '00-ab-cd-01', false)")
    editor.add(None)
    editor.session.close()
    (row,) = outbox.rows(Position().opened(outbox.snapshot()[0]), Plan.TAIL, 10)
    with session(migrated_url_each) as onlooker:
        stored = onlooker.execute(
            "SELECT id, event_ref, event_type, schema_version, aggregate_id, aggregate_version, incarnation,"
            " bucket, datum, payload_digest, occurred_at FROM event_outbox"
        ).fetchone()
    assert stored is not None
    ref, tree, occurred_at = stored[1], stored[4], stored[10]
    assert (row.id, row.event_type, row.schema_version) == (stored[0], stored[2], stored[3])
    assert (row.event_ref, row.ref_text) == (ref.bytes, str(ref).encode())
    assert (row.tree_id, row.tree_text) == (tree, str(tree).encode())
    assert (row.tree_version, row.incarnation, row.bucket) == stored[5:8]
    assert (row.datum, row.payload_digest) == stored[8:10]
    assert datetime.fromtimestamp(row.occurred_us / 1_000_000, UTC) == occurred_at
    assert row.occurred_us % 1_000_000 == occurred_at.microsecond
    assert row.traceparent == b"00-ab-cd-01"
    assert isinstance(row.datum, bytes)


def test_the_shards_divide_the_rows_between_them(migrated_url_each: str, outbox: PostgresOutbox) -> None:
    editor = Editor(migrated_url_each)
    for _ in range(30):
        editor.add(None)
    editor.session.close()
    position = Position().opened(outbox.snapshot()[0])
    whole = [row.id for row in outbox.rows(position, Plan.SCAN, 100)]
    parts: list[int] = []
    for shard in range(3):
        layout = replace(LAYOUT, shards=3, shard=shard)
        part = PostgresOutbox(session(migrated_url_each, Role.RELAY), layout)
        rows = part.rows(position, Plan.TAIL, 100)
        assert {layout.partition_of(row.bucket) for row in rows} <= set(layout.owned())
        parts += [row.id for row in rows]
        part.close()
    assert sorted(parts) == whole
    assert len(whole) == 30


def test_rows_below_the_floor_are_settled(migrated_url_each: str, outbox: PostgresOutbox) -> None:
    editor = Editor(migrated_url_each)
    for _ in range(5):
        editor.add(None)
    editor.session.close()
    position = Position(floor_id=3).opened(outbox.snapshot()[0])
    for plan in Plan:
        assert [row.id for row in outbox.rows(position, plan, 10)] == [4, 5]
    assert outbox.pending(Position(floor_id=3)).events == 2
    assert outbox.backlog(Position(floor_id=3), 10).events == 2


def test_a_backlog_has_the_age_of_its_oldest_event_and_is_counted_up_to_a_limit(
    migrated_url_each: str, outbox: PostgresOutbox
) -> None:
    assert outbox.backlog(Position(), 10) == Backlog(0, 0.0)
    with session(migrated_url_each) as owner:
        owner.execute(MANY_ROWS, (6,))
        owner.execute("ALTER TABLE event_outbox ALTER occurred_at SET DEFAULT now() - interval '1 hour'")
        owner.execute(MANY_ROWS, (1,))
        owner.execute("ALTER TABLE event_outbox ALTER occurred_at SET DEFAULT now()")
        owner.execute(MANY_ROWS, (13,))
    whole, part = outbox.backlog(Position(), 100), outbox.backlog(Position(), 8)
    assert (whole.events, part.events) == (20, 8)
    assert 3_600 <= whole.oldest_age_s < 3_700


def test_the_database_says_who_it_is(migrated_url_each: str, outbox: PostgresOutbox) -> None:
    editor = Editor(migrated_url_each)
    editor.add(None)
    editor.session.close()
    found = outbox.identity()
    with session(migrated_url_each) as onlooker:
        expected = onlooker.execute(
            "SELECT (SELECT system_identifier::text FROM pg_control_system()),"
            " (SELECT timeline_id FROM pg_control_checkpoint()),"
            " (SELECT oid::bigint FROM pg_database WHERE datname = current_database()),"
            " 'event_outbox'::regclass::oid::bigint, (SELECT max(id) FROM event_outbox)"
        ).fetchone()
    origin = found.origin
    told = (origin.system_identifier, origin.timeline, origin.database_oid, origin.outbox_oid, found.last_id)
    assert told == expected
    assert found.snapshot.xmax >= found.snapshot.xmin > 0
    with session(migrated_url_each) as onlooker:
        refs = onlooker.execute("SELECT id, event_ref FROM event_outbox").fetchall()
    assert refs == [(1, outbox.event_ref_of(1))]
    assert outbox.event_ref_of(2) is None


def test_a_database_without_an_outbox_is_told_apart(migrated_url_each: str) -> None:
    with session(migrated_url_each) as admin:
        admin.execute("ALTER TABLE event_outbox RENAME TO event_outbox_away")
    bare = PostgresOutbox(session(migrated_url_each, Role.RELAY), LAYOUT)
    with pytest.raises(Misconfigured) as raised:
        bare.identity()
    assert raised.value.remedy == "iu db up"
    bare.close()


def test_the_relay_reads_the_outbox_and_nothing_else(migrated_url_each: str, outbox: PostgresOutbox) -> None:
    """G11. Whatever table or sequence of ours is added later is covered, because all are tried.

    The three functions copy its own topic of dead letters into a table that it may not touch.
    """
    with session(migrated_url_each) as admin:
        readable = admin.execute(
            "SELECT c.relname FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace"
            " WHERE n.nspname = 'public' AND c.relkind IN ('r', 'v', 'm', 'S', 'p')"
            " AND has_table_privilege('iu_relay', c.oid, 'SELECT') ORDER BY 1"
        ).fetchall()
        writable = admin.execute(
            "SELECT c.relname FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace"
            " WHERE n.nspname = 'public' AND c.relkind IN ('r', 'v', 'm', 'p')"
            " AND has_table_privilege('iu_relay', c.oid, 'INSERT, UPDATE, DELETE, TRUNCATE')"
        ).fetchall()
        callable_ = admin.execute(
            "SELECT p.proname FROM pg_proc AS p JOIN pg_namespace AS n ON n.oid = p.pronamespace"
            " WHERE n.nspname = 'public' AND has_function_privilege('iu_relay', p.oid, 'EXECUTE')"
            " ORDER BY 1"
        ).fetchall()
    assert readable == [("event_outbox",), ("event_outbox_id_seq",)]
    assert writable == []
    assert callable_ == [
        ("fn_iu_relay_dead_letter_ends",),
        ("fn_iu_relay_dead_letter_record",),
        ("fn_iu_relay_dead_letter_resolve",),
    ]


def test_a_relay_that_lost_its_rights_says_so(migrated_url_each: str, outbox: PostgresOutbox) -> None:
    with session(migrated_url_each) as admin:
        admin.execute("REVOKE SELECT ON event_outbox FROM iu_relay")
    with pytest.raises((Misconfigured, Refused)) as raised:
        outbox.rows(Position().opened(Snapshot.parse("100:100:")), Plan.TAIL, 1)
    assert "iu db up" in (raised.value.remedy or "")


def test_the_tail_query_touches_the_new_rows_only(migrated_url_each: str, outbox: PostgresOutbox) -> None:
    """20 new rows in 30,000: index lookups, whatever the planner knows; no walk of the table."""
    with session(migrated_url_each) as owner:
        owner.execute(MANY_ROWS, (30_000,))
        owner.execute("VACUUM ANALYZE event_outbox")
    settled = Position().opened(outbox.snapshot()[0]).closed()
    editor = Editor(migrated_url_each)
    late = [UUID(str(editor.add(None))) for _ in range(20)]
    position = settled.opened(outbox.snapshot()[0])
    before = reads(outbox)
    assert [row.tree_id for row in outbox.rows(position, Plan.TAIL, 2_000)] == late
    scans, entries = (now - then for now, then in zip(reads(outbox), before, strict=True))
    assert scans == 0
    assert 20 <= entries <= 100
    editor.session.close()


def test_a_chunk_of_the_first_backlog_touches_its_own_rows_only(
    migrated_url_each: str, outbox: PostgresOutbox
) -> None:
    """500 rows of 30,000, in order of the primary key: no sort of all the others for each chunk."""
    with session(migrated_url_each) as owner:
        owner.execute(MANY_ROWS, (30_000,))
        owner.execute("VACUUM ANALYZE event_outbox")
    position = Position().opened(outbox.snapshot()[0])
    before = reads(outbox)
    rows = outbox.rows(position, Plan.SCAN, 500)
    scans, entries = (now - then for now, then in zip(reads(outbox), before, strict=True))
    assert [row.id for row in rows] == sorted(row.id for row in rows)
    assert (len(rows), scans) == (500, 0)
    assert 500 <= entries <= 600


def reads(outbox: PostgresOutbox) -> tuple[int, int]:
    """Return sequential scans of the outbox so far, and index entries read, the session's own included."""
    connection = outbox._connection
    connection.execute("SELECT pg_stat_force_next_flush()")
    connection.execute("SELECT pg_stat_clear_snapshot()")
    row = connection.execute(
        "SELECT seq_scan, (SELECT sum(idx_tup_read) FROM pg_stat_user_indexes WHERE relname = 'event_outbox')"
        " FROM pg_stat_user_tables WHERE relname = 'event_outbox'"
    ).fetchone()
    assert row is not None
    return int(row[0]), int(row[1])
