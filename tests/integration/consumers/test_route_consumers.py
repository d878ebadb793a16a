"""The whole way from operation to projection, through a real relay, broker, worker and database.

What is held here is each row of design/30's table that a user meets: idle, dry-run, hold,
delivery, refusal, failure, and that the route goes on by itself when the cause is gone.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest

from consumers.route.service import ConsumerService
from iu_core.database import Role
from tests.integration.consumers.world import SIX, World, effects, session_of

ROUTE = "structure_reparented"
HOLDS = "SELECT lane, gate, reason, closed_by FROM iu_route_hold WHERE route_code = %s ORDER BY opened_at"
TARGET = "UPDATE iu_outbound_route SET target_kind = '{}' WHERE route_code = 'structure_reparented'"
LETTERS = "SELECT count(*) FROM iu_route_dead_letter"


@contextmanager
def running(world: World, *routes: str) -> Iterator[ConsumerService]:
    """Run consumers until the block ends."""
    service = ConsumerService(world.settings, world.url, routes)
    stop, faults = threading.Event(), list[BaseException]()

    def run() -> None:
        try:
            service.run(stop)
        except BaseException as fault:  # handed on below
            faults.append(fault)

    thread = threading.Thread(target=run, name="consumers")
    thread.start()
    try:
        yield service
    finally:
        stop.set()
        thread.join(timeout=30)
    assert not thread.is_alive()
    assert not faults, faults


def test_d7_with_the_real_worker_44_held_then_44_delivered(world: World) -> None:
    """The twin of sandbox D7: 44 events, gates closed, decided in dry-run, then delivered once each."""
    events = world.reparents(44)
    world.relay()
    # As registered, the system is inert.
    assert {done.state for done in world.consume().values()} == {"idle"}
    assert world.one("SELECT count(*) FROM iu_route_attempt") == 0

    world.turn_routes(ROUTE, enabled=True, dry_run=True)
    assert world.consume(ROUTE)[ROUTE].planned == 44
    assert world.decisions(ROUTE) == [(event, "dry_run", "dry_run", "kill_switch") for event in events]
    assert world.one("SELECT count(*) FROM iu_tree_change_log") == 0

    world.allow(ROUTE)
    world.turn_routes(ROUTE, enabled=True, dry_run=False)
    for _ in range(2):
        held = world.consume(ROUTE)[ROUTE]
        assert (held.state, held.delivered) == ("held", 0)
    assert world.rows(HOLDS, ROUTE) == [("live", "kill_switch", "iu_core.delivery_enabled is 'false'", None)]
    assert effects(world)["sent"] == 0

    world.turn_delivery("true")
    assert world.consume(ROUTE)[ROUTE].delivered == 44
    assert world.consume(ROUTE)[ROUTE].delivered == 0
    assert set(effects(world, [ROUTE]).values()) == {44}
    assert [event for event, lane, *_ in world.decisions(ROUTE) if lane == "live"] == events
    assert world.rows(HOLDS, ROUTE)[0][3] == "progress"
    assert world.one(LETTERS) == 0


def test_all_six_routes_in_one_process_deliver_each_event_once(world: World) -> None:
    world.events(60)
    world.relay()
    world.go_live(*SIX)
    done = world.consume()
    assert {state.state for state in done.values()} == {"live"}
    assert min(state.delivered for state in done.values()) > 0
    figures = effects(world)
    assert figures["events"] > 60
    assert len(set(figures.values())) == 1, figures
    stray = "SELECT count(*) FROM iu_route_attempt AS a JOIN event_outbox AS e USING (event_ref)"
    assert world.one(f"{stray} WHERE e.event_type <> a.route_code") == 0
    behind = "SELECT count(*) FROM iu_route_offset WHERE lane = 'live' AND last_event_ref IS NULL"
    assert world.one(f"{behind} AND next_offset < start_offset") == 0


def test_a_running_worker_follows_its_route_from_idle_to_dry_run_to_live_and_back(world: World) -> None:
    world.reparents(3)
    world.relay()
    with running(world, ROUTE):
        world.turn_routes(ROUTE, enabled=True, dry_run=True)
        world.await_that("count(*) = 3 FROM iu_route_attempt WHERE decision = 'dry_run'")
        world.go_live(ROUTE)
        world.await_that("count(*) = 3 FROM iu_route_attempt WHERE decision = 'sent'")
        world.turn_routes(ROUTE, enabled=False, dry_run=True)
        world.reparents(2)
        world.relay()
        world.turn_routes(ROUTE, enabled=True, dry_run=True)
        world.await_that("count(*) = 5 FROM iu_route_attempt WHERE decision = 'dry_run'")
        world.turn_routes(ROUTE, enabled=True, dry_run=False)
        world.await_that("count(*) = 5 FROM iu_tree_change_log")
    assert set(effects(world, [ROUTE]).values()) == {5}


@pytest.mark.parametrize(
    ("close", "reopen", "gate"),
    [
        ("UPDATE dot_config SET value = 'off' WHERE key = 'iu_core.delivery_enabled'",
         "UPDATE dot_config SET value = 'true' WHERE key = 'iu_core.delivery_enabled'", "kill_switch"),
        ("DELETE FROM dot_config WHERE key = 'iu_core.delivery_enabled'",
         "INSERT INTO dot_config VALUES ('iu_core.delivery_enabled', 'true')", "kill_switch"),
        ("UPDATE dot_config SET value = 'Structure_reparented' WHERE key = 'iu_core.delivery_live_routes'",
         "UPDATE dot_config SET value = 'structure_reparented' WHERE key = 'iu_core.delivery_live_routes'",
         "allowlist"),
        (TARGET.format("http"), TARGET.format("sql_function"), "target"),
    ],
)  # fmt: skip
def test_a_closed_gate_holds_and_the_route_goes_on_by_itself(
    world: World, close: str, reopen: str, gate: str
) -> None:
    world.go_live(ROUTE)
    with running(world, ROUTE):
        world.reparents(1)
        world.relay()
        world.await_that("count(*) = 1 FROM iu_tree_change_log")
        world.admin.execute(close.encode())
        world.reparents(2)
        world.relay()
        world.await_that("count(*) = 1 FROM iu_route_hold WHERE closed_at IS NULL AND gate = %s", gate)
        assert world.one("SELECT count(*) FROM iu_route_attempt") == 1
        world.admin.execute(reopen.encode())
        world.await_that("count(*) = 3 FROM iu_tree_change_log")
    assert world.one("SELECT count(*) FROM iu_route_hold") == 1
    assert world.one("SELECT closed_by FROM iu_route_hold") == "progress"
    assert world.one(LETTERS) == 0


def test_a_missing_grant_holds_and_is_no_fault_of_the_event(world: World) -> None:
    """Mutation that turns this red: treat 42501 as the event's own fault (class 42 → dead letter)."""
    world.reparents(3)
    world.relay()
    world.go_live(ROUTE)
    deliver = "EXECUTE ON FUNCTION fn_iu_route_deliver(text, uuid, jsonb)"
    world.admin.execute(f"REVOKE {deliver} FROM iu_consumer".encode())
    with running(world, ROUTE):
        world.await_that("count(*) = 1 FROM iu_route_hold WHERE closed_at IS NULL AND gate = 'refused'")
        assert world.one("SELECT count(*) FROM iu_route_attempt") == 0
        world.admin.execute(f"GRANT {deliver} TO iu_consumer".encode())
        world.await_that("count(*) = 3 FROM iu_tree_change_log")
    assert world.one(LETTERS) == 0


def test_an_event_that_the_database_refuses_is_kept_and_its_neighbours_land(world: World) -> None:
    events = world.reparents(9)
    world.relay()
    world.go_live(ROUTE)
    world.admin.execute(
        "CREATE FUNCTION poison() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        f" IF NEW.event_ref IN ('{events[3]}', '{events[8]}') THEN"
        " RAISE numeric_value_out_of_range USING DETAIL = 'poisoned'; END IF; RETURN NEW; END $$;"
        "CREATE TRIGGER poison BEFORE INSERT ON iu_tree_change_log FOR EACH ROW EXECUTE FUNCTION poison()"
    )
    done = world.consume(ROUTE)[ROUTE]
    assert (done.delivered, done.dead) == (7, 2)
    assert [row[2] for row in world.decisions(ROUTE)] == ["sent"] * 3 + ["failed"] + ["sent"] * 4 + ["failed"]
    letters = world.rows(
        "SELECT d.event_ref, d.sqlstate, d.state, d.lane, e.datum = substr(d.value, 11), d.key, d.schema,"
        " jsonb_array_length(d.headers) > 7, d.tree_id = e.aggregate_id, d.detail ->> 'text'"
        ' FROM iu_route_dead_letter AS d JOIN event_outbox AS e USING (event_ref) ORDER BY d."offset"'
    )
    assert [letter[:5] for letter in letters] == [
        (events[3], "22003", "dead", "live", True),
        (events[8], "22003", "dead", "live", True),
    ]
    for *_, key, schema, headers, tree, detail in letters:
        assert key
        assert schema.startswith("fingerprint:")
        assert (headers, tree, detail) == (True, True, "poisoned")


def test_our_own_fault_stops_the_process_and_blames_no_event(world: World) -> None:
    world.reparents(3)
    world.relay()
    world.go_live(ROUTE)
    world.admin.execute("ALTER TABLE iu_tree_change_log RENAME COLUMN delivered_at TO delivered_on")
    world.admin.execute("ALTER TABLE iu_tree_change_log RENAME COLUMN event_ref TO reference")
    with pytest.raises(Exception, match="event_ref") as caught:
        world.consume(ROUTE)
    assert getattr(caught.value, "code", None) == "42703"
    assert world.one("SELECT count(*) FROM iu_route_attempt") == 0
    assert world.one(LETTERS) == 0


def test_a_worker_that_lost_its_partition_to_a_newer_owner_changes_nothing_and_goes_on(world: World) -> None:
    world.reparents(2)
    world.relay()
    world.go_live(ROUTE)
    with running(world, ROUTE):
        world.await_that("count(*) = 2 FROM iu_tree_change_log")
        world.admin.execute("UPDATE iu_route_offset SET owner_epoch = owner_epoch + 1, owner = 'a thief'")
        world.reparents(2)
        world.relay()
        world.await_that("count(*) = 4 FROM iu_tree_change_log")
    assert set(effects(world, [ROUTE]).values()) == {4}
    assert world.one("SELECT count(*) FROM iu_route_offset WHERE owner = 'a thief' AND next_offset > 5") == 0


def test_a_rewound_database_rewinds_the_worker_and_repeats_are_counted_not_written(world: World) -> None:
    world.reparents(5)
    world.relay()
    world.go_live(ROUTE)
    assert world.consume(ROUTE)[ROUTE].delivered == 5
    world.admin.execute("UPDATE iu_route_offset SET next_offset = start_offset")
    world.consume(ROUTE)
    assert set(effects(world, [ROUTE]).values()) == {5}
    assert world.one("SELECT sum(repeats) FROM iu_route_offset") == 5


def test_a_topic_that_was_made_again_holds(world: World) -> None:
    world.reparents(2)
    world.relay()
    world.go_live(ROUTE)
    assert world.consume(ROUTE)[ROUTE].delivered == 2
    world.admin.execute("UPDATE iu_route_offset SET topic_id = 'another'")
    held = world.consume(ROUTE)[ROUTE]
    assert held.state == "held"
    assert world.one("SELECT gate FROM iu_route_hold WHERE closed_at IS NULL") == "topic"


def test_a_session_of_a_worker_can_touch_no_table(world: World) -> None:
    with session_of(world, Role.CONSUMER) as consumer:
        for table in (
            "iu_route_attempt",
            "iu_route_offset",
            "iu_tree_change_log",
            "dot_config",
            "event_outbox",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                consumer.execute(f"TABLE {table}".encode())
