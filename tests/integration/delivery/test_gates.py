"""Delivery asks three gates, and each denies what it cannot read; an event lands once and unforged.

`check_…` functions are promises; test_planted_faults.py breaks the database and expects them red.
"""

import uuid
from dataclasses import replace

import psycopg
import pytest

from tests.integration.delivery.seam import ENABLED, LIVE_ROUTES, ROUTE, Event, Seam
from tests.integration.sql.sessions import refused

CLOSED = [None, "", "false", "TRUE", "True", " true", "true ", "t", "1", "yes", "true\n"]
NOT_LISTED = [
    None,
    "",
    ",",
    "structure_reparented",
    ROUTE.upper(),
    f"{ROUTE}_2",
    f"x{ROUTE}",
    f"{ROUTE};structure_reparented",
    f"\t{ROUTE}",
    "*",
]
LISTED = [ROUTE, f" {ROUTE} ", f"structure_reparented, {ROUTE}", f",{ROUTE},,"]


def check_every_gate_denies_what_is_missing(seam: Seam) -> None:
    """Without the key of a switch, or the route, nothing is delivered: 42501, and no row."""
    (event,) = seam.events(1)
    seam.go_live()
    worker = seam.worker()
    for key, value in ((ENABLED, "true"), (LIVE_ROUTES, ROUTE)):
        seam.switch(key, None)
        with refused("42501", f"{key} is missing"):
            worker.deliver(event)
        seam.switch(key, value)
    seam.open(ROUTE, "nobody")
    worker.route = "nobody"
    with refused("42501", "the route is not registered"):
        worker.deliver(event)
    assert seam.projected() == 0


def check_nothing_moves_in_the_live_lane_while_a_gate_is_closed(seam: Seam) -> None:
    """A hold does not advance: not over an event, and not over a record that cannot be read."""
    seam.go_live()
    worker = seam.worker()
    worker.claim()
    for key, value in ((ENABLED, "false"), (LIVE_ROUTES, ""), (ENABLED, None), (LIVE_ROUTES, None)):
        seam.open(ROUTE)
        seam.switch(key, value)
        with refused("42501", f"{key} is {value!r}"):
            worker.record(advance=3)
    seam.open(ROUTE)
    seam.set_route(target_kind="http")
    with refused("0A000"):
        worker.record(advance=3)
    assert seam.position() == (1, 0)


def check_an_event_has_one_row_however_often_it_is_delivered(seam: Seam) -> None:
    """The second delivery says that it had no effect."""
    first, second = seam.events(2)
    seam.open(ROUTE)
    worker, other = seam.worker(), seam.worker(name="other")
    assert [worker.deliver(event) for event in (first, second, first)] == [True, True, False]
    assert other.deliver(first) is False
    assert seam.projected() == 2


def check_a_forged_payload_is_refused(seam: Seam) -> None:
    """The payload is the one the operation wrote, or nothing lands; a forged value is not repeated."""
    (event,) = seam.events(1)
    seam.open(ROUTE)
    worker = seam.worker()
    forgeries = [
        event.payload | {"actor": "mallory"},
        {key: value for key, value in event.payload.items() if key != "reason"},
        event.payload | {"extra": 1},
        {},
        [event.payload],
        None,
    ]
    for payload in forgeries:
        with refused("IU020", str(payload)) as said:
            worker.deliver(replace(event, payload=payload))  # type: ignore[arg-type]
        assert "mallory" not in said.message + said.detail + said.hint
    assert seam.projected() == 0


def test_every_gate_denies_what_is_missing(seam: Seam) -> None:
    check_every_gate_denies_what_is_missing(seam)


def test_nothing_moves_in_the_live_lane_while_a_gate_is_closed(seam: Seam) -> None:
    check_nothing_moves_in_the_live_lane_while_a_gate_is_closed(seam)


def test_an_event_has_one_row_however_often_it_is_delivered(seam: Seam) -> None:
    check_an_event_has_one_row_however_often_it_is_delivered(seam)


def test_a_forged_payload_is_refused(seam: Seam) -> None:
    check_a_forged_payload_is_refused(seam)


def test_only_the_word_true_opens_the_kill_switch(seam: Seam) -> None:
    """And fn_iu_delivery_enabled, which people look at, reads every value as the gate does."""
    (event,) = seam.events(1)
    seam.open(ROUTE)
    worker = seam.worker()
    for value in CLOSED:
        seam.switch(ENABLED, value)
        with refused("42501", repr(value)) as said:
            worker.deliver(event)
        assert said.message == "delivery is closed by the kill switch"
        assert "iu gate open" in said.hint
        assert seam.value("SELECT fn_iu_delivery_enabled()") is False
    seam.switch(ENABLED, "true")
    assert seam.value("SELECT fn_iu_delivery_enabled()") is True
    assert worker.deliver(event)


def test_the_allowlist_is_trimmed_of_blanks_and_exact(seam: Seam) -> None:
    event, *more = seam.events(1 + len(LISTED))
    seam.switch(ENABLED, "true")
    worker = seam.worker()
    for value in NOT_LISTED:
        seam.switch(LIVE_ROUTES, value)
        with refused("42501", repr(value)) as said:
            worker.deliver(event)
        assert f"iu gate allow {ROUTE}" in said.hint
    for value, listed in zip(LISTED, more, strict=True):
        seam.switch(LIVE_ROUTES, value)
        assert worker.deliver(listed), value


@pytest.mark.parametrize("code", ["", None, "a,b", " "])
def test_a_list_names_no_route_that_is_none(seam: Seam, code: str | None) -> None:
    """An empty entry between commas allows nothing, and a code with a comma is no code."""
    seam.open("a,b", "", " ", ROUTE)
    assert seam.value("SELECT fn_iu_route_listed(%s, %s)", f"a,b,, ,{ROUTE}", code) in (False, None)


def test_any_target_but_the_internal_consumer_is_unsupported(seam: Seam) -> None:
    (event,) = seam.events(1)
    seam.open(ROUTE)
    worker = seam.worker()
    targets = [
        ("http", "fn_iu_structure_consumer"),
        ("sql_function", "pg_sleep"),
        ("sql_function", "fn_iu_structure_consumer "),
        ("sql_function", "public.fn_iu_structure_consumer"),
        ("kafka_topic", "t"),
    ]
    for kind, ref in targets:
        seam.set_route(target_kind=kind, target_ref=ref)
        with refused("0A000", f"{kind} {ref}") as said:
            worker.deliver(event)
        assert kind in said.detail
    assert seam.projected() == 0


def test_gates_come_before_the_event_is_looked_at(seam: Seam) -> None:
    """A closed gate holds; if a missing event answered first, its batch would be dead-lettered."""
    nothing = Event(uuid.uuid4(), {})
    worker = seam.worker()
    with refused("42501"):
        worker.deliver(nothing)
    seam.open(ROUTE)
    seam.set_route(target_kind="http")
    with refused("0A000"):
        worker.deliver(nothing)
    seam.set_route(target_kind="sql_function")
    with refused("IU001") as said:
        worker.deliver(nothing)
    assert str(nothing.ref) in said.message


def test_an_event_of_another_type_is_not_the_routes_to_deliver(seam: Seam) -> None:
    (event,) = seam.events(1)
    seam.open("structure_reparented")
    with refused("IU020") as said:
        seam.worker(route="structure_reparented").deliver(event)
    assert "structure_child_added" in said.detail
    assert "structure_reparented" in said.detail


def test_what_lands_is_what_the_outbox_has(seam: Seam) -> None:
    (event,) = seam.events(1)
    seam.open(ROUTE)
    seam.worker().deliver(event)
    landed = seam.admin.execute(
        "SELECT event_ref, event_type, tree_id, aggregate_version, incarnation, payload"
        " FROM iu_tree_change_log"
    ).fetchall()
    written = seam.admin.execute(
        "SELECT event_ref, event_type, aggregate_id, aggregate_version, incarnation, payload"
        " FROM event_outbox"
    ).fetchall()
    assert landed == written


def test_two_routes_of_one_event_type_share_one_row(seam: Seam) -> None:
    (event,) = seam.events(1)
    seam.admin.execute(
        "INSERT INTO iu_outbound_route (route_code, event_type, target_kind, target_ref)"
        " VALUES ('second', 'structure_child_added', 'sql_function', 'fn_iu_structure_consumer')"
    )
    seam.open(ROUTE, "second")
    assert seam.worker().deliver(event)
    assert not seam.worker(route="second").deliver(event)
    assert seam.projected() == 1


def test_a_route_in_dry_run_can_be_rehearsed_and_leaves_nothing(seam: Seam) -> None:
    """Delivery itself does not ask enabled or dry_run: the real function runs and is rolled back."""
    (event,) = seam.events(1)
    seam.open(ROUTE)
    seam.go_dry()
    worker = seam.worker(lane="dry_run")
    with worker.session.transaction(force_rollback=True):
        assert worker.deliver(event)
    assert seam.projected() == 0


def test_a_code_taken_off_the_list_stops_its_live_route(seam: Seam) -> None:
    """The route stays live in the registry and moves nothing; it may only change to a safe state."""
    first, second = seam.events(2)
    seam.go_live()
    worker = seam.worker()
    worker.claim()
    worker.land(first)
    seam.switch(LIVE_ROUTES, "structure_reparented")
    with refused("42501"):
        worker.land(second)
    seen = worker.look()
    assert (seen["route"]["enabled"], seen["route"]["dry_run"]) == (True, False)
    assert seen["switches"]["live_routes"] == "structure_reparented"
    with refused("42501"):
        seam.set_route(description="still live")
    seam.set_route(enabled=False)
    assert (seam.projected(), seam.position()[1]) == (1, 1)


def test_a_snapshot_older_than_the_close_cannot_deliver(seam: Seam) -> None:
    """REPEATABLE READ would still see the gate open: the row lock finds that it has changed."""
    (event,) = seam.events(1)
    seam.open(ROUTE)
    worker = seam.worker()
    worker.session.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
    with worker.session.transaction(force_rollback=True):
        worker.session.execute("SELECT 1")
        seam.switch(ENABLED, "false")
        with pytest.raises(psycopg.errors.SerializationFailure):
            worker.deliver(event)
    assert seam.projected() == 0
