"""The table of dead letters is a copy of the topic: the same whoever fills it, how often, and when.

Real PostgreSQL; the topic is the fake broker, which the bus contract holds to the real one.
`test_unblock.py` fills it from a real broker.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from iu_core.bus.ports import Outgoing, Topic
from iu_core.database import Role
from iu_core.errors import Terminal
from producers.relay.dead_letters import (
    PART_BYTES_MAX,
    DeadLetter,
    Outcome,
    Resolution,
    record_all,
    records,
    resolution_record,
)
from tests.contract.bus.fake_bus import FakeAdmin, FakeBroker, FakePublisher, FakeReader
from tests.integration.sql.sessions import Session, refused, session

NAME = "letters"


@dataclass
class Table:
    """A topic of dead letters, and a database that has a table of them."""

    url: str
    broker: FakeBroker
    publisher: FakePublisher
    relay: Session
    reader: Session

    @property
    def topic(self) -> Topic:
        topic = FakeAdmin(self.broker).describe(NAME)
        assert topic is not None
        return topic

    def write(self, *written: DeadLetter | Resolution, partition: int = 0) -> None:
        """Commit letters and resolutions, each in a transaction of its own and a second later."""
        for each in written:
            self.broker.clock_ms += 1_000
            self.publisher.publish(sent(each, partition))

    def fill(self) -> int:
        return record_all(FakeReader(self.broker), self.relay, self.topic)

    def rows(self, columns: str = "event_ref, state") -> list[tuple[Any, ...]]:
        query = f'SELECT {columns} FROM iu_relay_dead_letter ORDER BY topic_id, partition, "offset"'  # noqa: S608
        return self.reader.execute(query).fetchall()


@pytest.fixture
def table(migrated_url: str) -> Iterator[Table]:
    broker = FakeBroker()
    FakeAdmin(broker).create(NAME, partitions=2, configs={})
    publisher = FakePublisher(broker, "relay")
    publisher.open()
    with session(migrated_url, Role.RELAY) as relay, session(migrated_url, Role.READER) as reader:
        yield Table(migrated_url, broker, publisher, relay, reader)


def letter(number: int = 1, *, policy: str = "block_tree", size: int = 5) -> DeadLetter:
    datum = b"d" * size
    return DeadLetter(
        outbox_id=number,
        event_ref=UUID(int=1_000 + number),
        event_type="structure_reparented",
        schema_version=9,
        tree_id=UUID(int=7),
        aggregate_version=number,
        incarnation=1,
        occurred_at=datetime(2026, 3, 1, tzinfo=UTC),
        datum=datum,
        payload_digest=hashlib.sha256(datum).digest(),
        reason="unknown_type",
        detail="chưa phát hành",
        policy=policy,
    )


def resolution(of: DeadLetter, outcome: Outcome = Outcome.PUBLISHED) -> Resolution:
    return Resolution(of.event_ref, of.tree_id, of.incarnation, outcome, "ada", "vì đã phát hành")


def sent(each: DeadLetter | Resolution, partition: int) -> list[Outgoing]:
    if isinstance(each, DeadLetter):
        return records(each, NAME, partition)
    return [resolution_record(each, NAME, partition)]


def test_a_letter_is_kept_whole(table: Table) -> None:
    """Of three parts here: bytes, words, place and time are those of the topic."""
    written = letter(size=2 * PART_BYTES_MAX + 1)
    table.write(written)
    assert table.fill() == 1
    (row,) = table.rows(
        "outbox_id, event_ref, event_type, schema_version, tree_id, aggregate_version, incarnation,"
        " occurred_at, datum, payload_digest, reason, detail, policy"
    )
    assert DeadLetter(*row) == written
    assert table.rows(
        'topic, topic_id, partition, "offset", last_offset, recorded_at, state, resolved_at'
    ) == [(NAME, table.topic.topic_id, 0, 0, 2, datetime.fromtimestamp(2, UTC), "blocked", None)]


def test_filling_again_changes_nothing_and_going_on_adds_the_rest(table: Table) -> None:
    table.write(letter(1), letter(2))
    table.write(letter(3), partition=1)
    assert table.fill() == 3
    before = table.rows("*")
    assert table.fill() == 0
    assert table.rows("*") == before
    table.write(letter(4), letter(5))
    assert table.fill() == 2
    assert [row[0].int - 1_000 for row in table.rows()] == [1, 2, 4, 5, 3]


def test_the_place_to_go_on_is_the_tables_alone(table: Table) -> None:
    """An emptied table is filled from the start; letters before the last recorded are not read again."""
    table.write(letter(1), letter(2), letter(3))
    table.fill()
    with session(table.url) as admin:
        admin.execute("DELETE FROM iu_relay_dead_letter WHERE event_ref = %s", (letter(1).event_ref,))
    assert table.fill() == 0
    with session(table.url) as admin:
        admin.execute("DELETE FROM iu_relay_dead_letter")
    assert table.fill() == 3


def test_by_policy_skip_nobody_waits(table: Table) -> None:
    table.write(letter(1, policy="skip"), letter(2, policy="halt"))
    table.fill()
    assert [state for _, state in table.rows()] == ["skipped", "blocked"]


@pytest.mark.parametrize("outcome", list(Outcome))
def test_a_resolution_closes_its_letter_and_says_who_and_why(table: Table, outcome: Outcome) -> None:
    table.write(letter(1), letter(2), resolution(letter(1), outcome))
    assert table.fill() == 3
    assert table.rows("state, resolved_at, resolved_by, resolved_reason") == [
        (outcome.value, datetime.fromtimestamp(4, UTC), "ada", "vì đã phát hành"),
        ("blocked", None, None, None),
    ]
    assert table.fill() == 0


def test_the_first_resolution_stands_and_reading_the_letter_again_does_not_undo_it(table: Table) -> None:
    """Also through a process that was stopped before its first statement: it records old news."""
    table.write(letter(1), resolution(letter(1)), resolution(letter(1), Outcome.DISCARDED))
    table.fill()
    (old,) = table.rows('topic, topic_id, partition, "offset", last_offset, recorded_at')
    values = [getattr(letter(1), field) for field in letter(1).__dataclass_fields__ if field != "place"]
    places = ", ".join(["%s"] * 19)
    said = table.relay.execute(f"SELECT fn_iu_relay_dead_letter_record({places})", (*values, *old)).fetchone()
    assert said == (False,)
    assert [state for _, state in table.rows()] == ["published"]


def test_a_row_that_the_relay_met_again_is_open_again(table: Table) -> None:
    """After a change of policy, or on a topic that was made again, whose offsets begin anew."""
    table.write(letter(1), resolution(letter(1)), letter(1))
    table.fill()
    assert table.rows('state, "offset", resolved_at') == [("blocked", 4, None)]
    table.write(resolution(letter(1)))
    table.fill()
    FakeAdmin(table.broker).delete([NAME])
    FakeAdmin(table.broker).create(NAME, partitions=2, configs={})
    table.write(replace(letter(1), reason="oversized"))
    assert table.fill() == 1
    assert table.rows('state, reason, topic_id, "offset"') == [
        ("blocked", "oversized", table.topic.topic_id, 0)
    ]


def test_a_resolution_closes_no_younger_letter(table: Table) -> None:
    table.write(letter(1), resolution(letter(1)), letter(1))
    table.fill()
    said = table.relay.execute(
        "SELECT fn_iu_relay_dead_letter_resolve(%s, 1, 'published', to_timestamp(3), 'ada', 'late')",
        (letter(1).event_ref,),
    ).fetchone()
    assert said == (False,)
    assert [state for _, state in table.rows()] == ["blocked"]


def test_letters_of_two_incarnations_of_a_tree_are_two(table: Table) -> None:
    table.write(letter(1), replace(letter(1), incarnation=2))
    table.fill()
    assert len(table.rows()) == 2


def test_aborted_letters_are_none(table: Table) -> None:
    table.broker.begin("other")
    table.broker.append("other", sent(letter(1), 0))
    table.broker.end("other", "aborted")
    table.write(letter(2))
    assert table.fill() == 1
    assert table.rows()[0][0] == letter(2).event_ref


def test_a_letter_that_is_not_whole_stops_the_filling_and_is_named(table: Table) -> None:
    table.write(letter(1))
    table.publisher.publish(sent(letter(2, size=2 * PART_BYTES_MAX), 0)[:1])
    with pytest.raises(Terminal, match=f"offset 2 of {NAME}, partition 0"):
        table.fill()
    assert len(table.rows()) == 1


def test_the_table_refuses_states_that_contradict_themselves(table: Table) -> None:
    table.write(letter(1))
    table.fill()
    with session(table.url, Role.OWNER) as owner:
        for change in (
            "state = 'published'",
            "state = 'skipped'",
            "policy = 'skip'",
            "policy = 'unheard_of'",
            "resolved_by = 'ada'",
            "last_offset = -1",
        ):
            with pytest.raises(psycopg.errors.CheckViolation):
                owner.execute(f"UPDATE iu_relay_dead_letter SET {change}")  # noqa: S608


def test_an_act_leaves_who_what_and_why(migrated_url: str) -> None:
    with session(migrated_url, Role.OWNER, name="iu relay") as owner:
        query = "SELECT fn_iu_relay_action_record('relay unblock', '{\"tree\": 1}', %s)"
        (number,) = owner.execute(query, ("  approved ",)).fetchone() or (None,)
        (login,) = owner.execute("SELECT session_user").fetchone() or (None,)
        for reason in (None, "", "  "):
            with refused("IU006") as said:
                owner.execute(query, (reason,))
            assert "iu relay unblock" in said.hint
    with session(migrated_url, Role.READER) as reader:
        rows = reader.execute(
            "SELECT id, login, role, application_name, command, detail, reason FROM iu_relay_action"
        ).fetchall()
    assert rows == [(number, login, "iu_owner", "iu relay", "relay unblock", {"tree": 1}, "approved")]


def test_an_event_that_nobody_has_is_not_resolved(table: Table) -> None:
    said = table.relay.execute(
        "SELECT fn_iu_relay_dead_letter_resolve(%s, 1, 'published', now(), 'ada', 'x')", (uuid4(),)
    ).fetchone()
    assert said == (False,)
