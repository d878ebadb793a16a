"""`iu explain` on every fate an event can have, as a person and as a program asks it."""

import uuid
from typing import Any

import pytest

from tests.conftest import RunIu
from tests.integration.consumers.world import World

ROUTE = "structure_reparented"


def told(iu: RunIu, world: World, event: uuid.UUID) -> dict[str, Any]:
    """Ask in JSON; return the life on the one route, with the rest beside it."""
    ran = iu("explain", str(event), "--json", env=world.environment)
    assert ran.exit_code == 0, ran.stderr
    found: dict[str, Any] = ran.json()
    (route,) = found["routes"]
    assert route["route_code"] == ROUTE
    return found | {"route": route}


def in_words(iu: RunIu, world: World, event: uuid.UUID) -> str:
    ran = iu("explain", str(event), env=world.environment)
    assert ran.exit_code == 0, ran.stderr
    return ran.stdout


def test_an_event_from_its_operation_to_its_effect(world: World, iu: RunIu) -> None:
    (event,) = world.reparents(1)
    operation = world.rows("SELECT id::text, kind, actor, reason FROM iu_structure_operation")[-1]

    life = told(iu, world, event)
    assert (life["route"]["verdict"], life["place"], life["effect_at"]) == ("unpublished", None, None)
    made = life["operation"]
    assert (made["operation_id"], made["kind"], made["actor"], made["reason"]) == operation
    assert life["event"]["aggregate_version"] == 5

    world.relay()
    life = told(iu, world, event)
    assert (life["route"]["verdict"], life["place"]["topic"]) == ("disabled", world.names.events)
    assert f'iu route enable {ROUTE} --reason "..." --apply' in life["route"]["why"]
    partition, offset = life["place"]["partition"], life["place"]["offset"]
    assert partition == life["event"]["bucket"] % 4

    world.turn_routes(ROUTE, enabled=True, dry_run=True)
    world.consume(ROUTE)
    life = told(iu, world, event)
    assert life["route"]["verdict"] == "dry-run"
    (decision,) = life["route"]["decisions"]
    assert (decision["lane"], decision["decision"], decision["gate"]) == ("dry_run", "dry_run", "kill_switch")
    assert "lane decided dry_run (kill_switch" in in_words(iu, world, event)

    world.allow(ROUTE)
    world.turn_routes(ROUTE, enabled=True, dry_run=False)
    world.consume(ROUTE)
    life = told(iu, world, event)
    assert life["route"]["verdict"] == "held"
    assert "iu_core.delivery_enabled is 'false'" in life["route"]["why"]
    assert 'open it with: iu gate open delivery --reason "..." --apply' in life["route"]["why"]

    world.turn_delivery("true")
    world.consume(ROUTE)
    life = told(iu, world, event)
    assert life["route"]["verdict"] == "delivered"
    assert life["effect_at"] is not None
    dry, sent = life["route"]["decisions"]
    assert (dry["decision"], sent["decision"]) == ("dry_run", "sent")
    assert (sent["partition"], sent["offset"]) == (partition, offset)
    # What the switches said at the moment of each decision, who had set them, and why.
    then = {switch["key"]: switch for switch in sent["switches"]}["iu_core.delivery_enabled"]
    assert (then["value"], then["reason"]) == ("true", "a test")
    before = {switch["key"]: switch["value"] for switch in dry["switches"]}
    assert before == {"iu_core.delivery_enabled": "false", "iu_core.delivery_live_routes": ""}
    words = in_words(iu, world, event)
    assert f"{ROUTE}: DELIVERED" in words
    assert f"partition {partition}, offset {offset}" in words
    assert "because    a test" in words


def test_a_dead_lettered_event_says_why_and_where_it_is_kept(world: World, iu: RunIu) -> None:
    events = world.reparents(2)
    world.relay()
    world.go_live(ROUTE)
    world.admin.execute(
        "CREATE FUNCTION poison() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        f" IF NEW.event_ref = '{events[0]}' THEN RAISE numeric_value_out_of_range; END IF;"
        " RETURN NEW; END $$;"
        "CREATE TRIGGER poison BEFORE INSERT ON iu_tree_change_log FOR EACH ROW EXECUTE FUNCTION poison()"
    )
    world.consume(ROUTE)
    life = told(iu, world, events[0])
    (letter,) = life["route"]["dead_letters"]
    assert (life["route"]["verdict"], letter["sqlstate"], letter["state"]) == (
        "dead-lettered", "22003", "dead",
    )  # fmt: skip
    assert letter["value_bytes"] == world.one("SELECT octet_length(value) FROM iu_route_dead_letter")
    assert letter["id"] in life["route"]["why"]
    assert life["effect_at"] is None
    words = in_words(iu, world, events[0])
    assert "DEAD-LETTERED" in words
    assert "[22003]" in words
    assert told(iu, world, events[1])["route"]["verdict"] == "delivered"


def test_an_event_before_the_start_of_the_live_lane_says_so(world: World, iu: RunIu) -> None:
    events = world.reparents(2)
    world.relay()
    world.go_live(ROUTE)
    world.consume(ROUTE)
    world.admin.execute("ALTER TABLE iu_route_attempt DISABLE TRIGGER ALL")
    world.admin.execute("DELETE FROM iu_route_attempt")
    assert told(iu, world, events[0])["route"]["verdict"] == "undecided"
    world.admin.execute("UPDATE iu_route_offset SET start_offset = next_offset")
    assert told(iu, world, events[0])["route"]["verdict"] == "before start"


@pytest.mark.parametrize(
    ("words", "exit_code", "said"),
    [
        (("0192abcd-0000-7000-8000-000000000000",), 1, "no event 0192abcd"),
        (("not-a-uuid",), 2, "is no event reference"),
        ((), 2, "Missing argument"),
    ],
)
def test_a_wrong_question_gets_one_clear_answer(
    world: World, iu: RunIu, words: tuple[str, ...], exit_code: int, said: str
) -> None:
    ran = iu("explain", *words, env=world.environment)
    assert (ran.exit_code, ran.stdout) == (exit_code, "")
    assert said in ran.stderr
    assert "Traceback" not in ran.stderr
