"""The owner's functions of 016: an event is put back only where it fits, and given up for good.

The restore is made by hand: a tree's last events are taken out behind its back, in a transaction
that is rolled back at the end.
"""

import json
import uuid
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest

from iu_core.database import Role
from tests.integration.sql.sessions import Editor, Session, event_of, fresh_code, open_gate, refused, session

ADOPT = "SELECT fn_iu_rebase_adopt(%s, %s::jsonb, %s, '{}', 'a test')"
ABANDON = "SELECT fn_iu_rebase_abandon(%s, %s, 'events', %s::jsonb, 'a test')"
UNITS = "SELECT id, parent_id, ordinal, lifecycle FROM information_unit WHERE tree_id = %s ORDER BY id"


class Lost(NamedTuple):
    """A tree at version 5 that has lost versions 6 and 7, and how its units stood with them."""

    root: uuid.UUID
    unit: uuid.UUID
    events: list[Any]
    stood: list[tuple[Any, ...]]


@pytest.fixture
def owner(migrated_url: str) -> Iterator[Session]:
    with session(migrated_url) as admin:
        yield admin


@pytest.fixture
def lost(migrated_url: str, owner: Session) -> Lost:
    open_gate(migrated_url)
    editor = Editor(migrated_url)
    root = editor.add(None)
    parent, first, second = editor.add(root), editor.add(root), editor.add(root)
    editor.reparent(first, root, 0)
    refs = [editor.reparent(second, root, 0).event_ref, editor.deprecate(first).event_ref]
    editor.session.close()
    assert parent
    events = [event_of(owner, ref) for ref in refs]
    stood = owner.execute(UNITS, (root,)).fetchall()
    owner.execute("SET session_replication_role = replica")
    for table in ("event_outbox", "iu_structure_operation"):
        owner.execute(f"ALTER TABLE {table} DISABLE TRIGGER trg_{table}_append_only".encode())
        owner.execute(f"DELETE FROM {table} WHERE event_ref = ANY (%s)".encode(), (refs,))  # noqa: S608
        owner.execute(f"ALTER TABLE {table} ENABLE ALWAYS TRIGGER trg_{table}_append_only".encode())
    owner.execute("SET session_replication_role = origin")
    owner.execute("UPDATE iu_tree SET version = 5 WHERE tree_id = %s", (root,))
    owner.execute("UPDATE information_unit SET lifecycle = 'enacted' WHERE id = %s", (first,))
    # As after version 5: first 0, parent 1, second 2.
    with owner.transaction():
        owner.execute("SET CONSTRAINTS ALL DEFERRED")
        for ordinal, unit in enumerate((first, parent, second)):
            owner.execute("UPDATE information_unit SET ordinal = %s WHERE id = %s", (ordinal, unit))
    return Lost(root, second, events, stood)


def adopt(owner: Session, event: Any, **changes: object) -> None:
    payload = json.dumps(event.payload | changes)
    owner.execute(ADOPT, (event.event_type, payload, event.payload_digest))


def given(event: Any, **changes: object) -> str:
    known = {
        "event_ref": str(event.event_ref),
        "event_type": event.event_type,
        "version": event.aggregate_version,
        "incarnation": event.incarnation,
        "partition": 0,
        "offset": event.id,
        "digest": event.payload_digest.hex(),
    }
    return json.dumps([known | changes])


def test_adopted_events_give_the_tree_and_the_rows_that_were(owner: Session, lost: Lost) -> None:
    for event in lost.events:
        adopt(owner, event)
    assert owner.execute(UNITS, (lost.root,)).fetchall() == lost.stood
    for event in lost.events:
        again = event_of(owner, event.event_ref)
        for column in ("payload", "datum", "payload_digest", "occurred_at", "bucket", "incarnation"):
            assert getattr(again, column) == getattr(event, column), column
    operations = owner.execute(
        "SELECT actor, reason, kind, arguments ->> 'adopted' FROM iu_structure_operation"
        " WHERE event_ref = ANY (%s) ORDER BY aggregate_version",
        ([event.event_ref for event in lost.events],),
    ).fetchall()
    assert operations == [
        ("ada", "a test", "reparent", "a test"),
        ("ada", "a test", "deprecate_piece", "a test"),
    ]


def test_an_event_out_of_its_place_is_not_adopted(owner: Session, lost: Lost) -> None:
    first, second = lost.events
    with refused("IU008", "the one after the next"):
        adopt(owner, second)
    owner.execute("UPDATE information_unit SET ordinal = 9 WHERE id = %s", (lost.unit,))
    with refused("IU008", "its unit stands elsewhere"):
        adopt(owner, first)
    owner.execute("UPDATE iu_tree SET incarnation = 2 WHERE tree_id = %s", (lost.root,))
    with refused("IU008", "another incarnation"):
        adopt(owner, first)


def test_an_event_with_another_digest_or_without_its_text_is_not_adopted(owner: Session, lost: Lost) -> None:
    with refused("IU020"):
        adopt(owner, lost.events[0], reason="forged")
    with refused("IU023") as said:
        owner.execute(ADOPT, ("structure_piece_split", "{}", b""))
    assert "abandon" in said.hint


def test_a_tree_given_up_goes_on_in_an_incarnation_never_seen(owner: Session, lost: Lost) -> None:
    event = lost.events[0]
    assert owner.execute(ABANDON, (lost.root, 4, given(event))).fetchone() == (5,)
    assert owner.execute(
        "SELECT version, incarnation FROM iu_tree WHERE tree_id = %s", (lost.root,)
    ).fetchone() == (5, 5)
    # Again, as after a kill: nothing changes.
    assert owner.execute(ABANDON, (lost.root, 4, given(event))).fetchone() == (5,)
    assert owner.execute("SELECT fenced_by FROM iu_abandoned_event").fetchall() == [(5,)]
    with refused("IU040"):
        owner.execute("DELETE FROM iu_abandoned_event")
    with refused("IU022") as said:
        owner.execute("SELECT fn_iu_route_event(%s, '{}')", (event.event_ref,))
    assert said.message == "abandoned"


def test_a_tree_made_again_begins_after_its_abandoned_events(
    migrated_url: str, owner: Session, lost: Lost
) -> None:
    """It was made after the backup; without the trigger its version 1 would be published a second time."""
    tree = uuid.uuid4()
    event = lost.events[0]
    assert owner.execute(ABANDON, (tree, 1, given(event, version=1))).fetchone() == (2,)
    editor = Editor(migrated_url)
    assert editor.add(None, fresh_code(), unit_id=tree) == tree
    editor.session.close()
    made = owner.execute(
        "SELECT incarnation, aggregate_version FROM event_outbox WHERE aggregate_id = %s", (tree,)
    )
    assert made.fetchall() == [(2, 1)]


@pytest.mark.parametrize("role", [Role.RELAY, Role.CONSUMER, Role.EDITOR, Role.GATEKEEPER, Role.READER])
def test_nobody_but_the_owner_may_put_back_or_give_up(migrated_url: str, role: Role) -> None:
    for call in (
        "fn_iu_rebase_adopt('x', '{}', '', '{}', 'a test')",
        "fn_iu_rebase_abandon(gen_random_uuid(), 1, 'x', '[]', 'a test')",
        "fn_iu_route_event(gen_random_uuid(), '{}')",
    ):
        with session(migrated_url, role) as asking, pytest.raises(Exception, match="permission denied"):
            asking.execute(f"SELECT {call}".encode())
