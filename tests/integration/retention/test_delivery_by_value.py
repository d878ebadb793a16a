"""Once its row is pruned an event is still delivered: by value, held against the digest of its stub."""

import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from psycopg.types.json import Jsonb

from schemas.catalog import Catalog
from tests.integration.delivery.seam import DELIVER, ROUTE, Event, Seam
from tests.integration.retention.yard import Yard
from tests.integration.sql.sessions import fresh_piece, refused

MATCHES = "SELECT fn_iu_payload_matches(%s, %s, %s, %s)"


@pytest.fixture
def seam(yard: Yard) -> Iterator[Seam]:
    """The same database, with the route of the yard's events live."""
    with Seam(yard.url) as seam:
        seam.go_live(ROUTE)
        yield seam


def pruned(yard: Yard) -> Event:
    """Make an event, prune it, and return it as the topic still has it."""
    (row,) = yard.tree(1)
    payload = yard.value("SELECT payload FROM event_outbox WHERE event_ref = %s", row.event_ref)
    assert yard.prune().pruned == 1
    return Event(row.event_ref, payload)


def test_the_payload_that_was_written_is_delivered_once(yard: Yard, seam: Seam) -> None:
    event = pruned(yard)
    worker = seam.worker()
    assert worker.deliver(event) is True
    assert worker.deliver(event) is False
    row = seam.admin.execute(
        "SELECT c.event_type, c.tree_id, c.aggregate_version, c.incarnation, c.payload"
        "  FROM iu_tree_change_log AS c"
    ).fetchall()
    assert row == [(ROUTE, uuid.UUID(event.payload["tree_id"]), 1, 1, event.payload)]


def other_text(payload: dict[str, Any]) -> dict[str, Any]:
    return payload | {"reason": "forged"}


def other_event(payload: dict[str, Any]) -> dict[str, Any]:
    """Fits its contract to the letter, and is another event."""
    return payload | {"event_ref": str(uuid.uuid4())}


def one_field_more(payload: dict[str, Any]) -> dict[str, Any]:
    return payload | {"note": "x"}


def one_field_less(payload: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in payload.items() if name != "actor"}


def other_form(payload: dict[str, Any]) -> Any:
    return [payload]


def none_at_all(payload: dict[str, Any]) -> Any:
    return None


@pytest.mark.parametrize(
    "forge", [other_text, other_event, one_field_more, one_field_less, other_form, none_at_all]
)
def test_another_payload_is_refused(yard: Yard, seam: Seam, forge: Callable[[dict[str, Any]], Any]) -> None:
    """As IU020, terminal, whatever is wrong with it; and no value of it is in what is said."""
    event = pruned(yard)
    forged = forge(event.payload)
    with refused("IU020") as said:
        seam.worker().call(DELIVER, ROUTE, event.ref, None if forged is None else Jsonb(forged))
    assert "iu explain" in said.hint
    assert "forged" not in said.message + said.detail
    assert seam.projected() == 0


def test_a_stub_with_another_digest_refuses_the_true_payload(yard: Yard, seam: Seam) -> None:
    """The digest decides, not that a stub is there."""
    event = pruned(yard)
    yard.admin.execute("ALTER TABLE event_outbox_stub DISABLE TRIGGER ALL")
    yard.admin.execute("UPDATE event_outbox_stub SET payload_digest = sha256('other')")
    with refused("IU020"):
        seam.worker().deliver(event)
    assert seam.projected() == 0


def test_an_event_that_is_neither_kept_nor_pruned_is_unknown(yard: Yard, seam: Seam) -> None:
    event = pruned(yard)
    with refused("IU001"):
        seam.worker().deliver(Event(uuid.uuid4(), event.payload))


def test_a_pruned_event_of_another_type_is_not_the_routes(yard: Yard, seam: Seam) -> None:
    event = pruned(yard)
    other = "structure_reparented"
    seam.open(ROUTE, other)
    with refused("IU020") as said:
        seam.worker(route=other).deliver(event)
    assert ROUTE in said.detail


def test_the_gates_come_before_the_stub(yard: Yard, seam: Seam) -> None:
    event = pruned(yard)
    seam.switch("iu_core.delivery_enabled", "false")
    with refused("42501"):
        seam.worker().deliver(Event(event.ref, {"forged": True}))


def test_every_type_of_event_can_be_compared_with_its_digest(yard: Yard) -> None:
    """With the payload that an operation wrote, for all types there are; and with no other."""
    editor = yard.editor
    root = editor.add(None)
    one, two, three, four = (editor.add(root) for _ in range(4))
    editor.reparent(two, one)
    editor.split(three, [fresh_piece(), fresh_piece()])
    editor.deprecate(editor.merge([two, four]).unit_ids[0])
    editor.replace(one)
    rows = yard.admin.execute(
        "SELECT event_type, schema_version, payload, payload_digest FROM event_outbox"
    ).fetchall()
    released = {(contract.event_type, contract.version) for contract in Catalog.bundled().contracts}
    assert {(row[0], row[1]) for row in rows} == released
    for event_type, version, payload, digest in rows:
        arguments = (event_type, version, Jsonb(payload), digest)
        assert yard.value(MATCHES, *arguments) is True, event_type
        assert yard.value(MATCHES, event_type, version, Jsonb(payload | {"actor": "eve"}), digest) is False
        assert yard.value(MATCHES, event_type, version + 1, Jsonb(payload), digest) is False
        assert yard.value(MATCHES, "unheard_of", version, Jsonb(payload), digest) is False
