"""Restore drills: whatever was restored, the relay stops or goes on as it should, says why, and
`iu relay rebase` makes one story of database and topic again (guarantee G10).

Real PostgreSQL, real Kafka, the commands as processes. A drill ends with the relay going on, new
events delivered, the chain checker content and `verify` clean.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from iu_core.bus.kafka_admin import KafkaAdmin
from tests.integration.consumers.world import World, made_world, verified
from tests.integration.relay.drill import (
    ROUTE,
    Grove,
    assert_one_story,
    dump,
    editing,
    rebase,
    relays,
    restore,
    world_at,
)

WHY = ("--reason", "a drill")


@pytest.fixture
def world(migrated_url: str, kafka_bootstrap: str, bus_prefix: str) -> Iterator[World]:
    with made_world(migrated_url, kafka_bootstrap, bus_prefix) as made:
        made.go_live(ROUTE)
        yield made


def previewed(world: World) -> Any:
    code, out, said = rebase(world, "--json")
    assert code == 0, said
    return json.loads(out)


def applied(world: World, *words: str) -> Any:
    code, out, said = rebase(world, *words, "--apply", *WHY, "--json")
    assert code == 0, said
    return json.loads(out)


def decisions(world: World, event_refs: list[Any]) -> set[tuple[str, str | None]]:
    return set(
        world.rows("SELECT decision, reason FROM iu_route_attempt WHERE event_ref = ANY (%s)", event_refs)
    )


def goes_on(world: World, grove: Grove) -> None:
    """New events of the tree are published and delivered."""
    with editing(world.url) as editor:
        made = grove.move(editor, 2)
    assert_one_story(world)
    world.consume(ROUTE)
    assert decisions(world, made) == {("sent", None)}
    assert verified(world).findings == ()


@pytest.fixture
def restored(world: World, newest_server: str, tmp_path: Path) -> Iterator[tuple[World, Grove, list[Any]]]:
    """A database restored from a dump under its own name; six events came after the dump.

    They are published and delivered, and the database does not know them any more.
    """
    with editing(world.url) as editor:
        grove = Grove.planted(editor)
        grove.move(editor, 3)
        world.relay()
        file = dump(world.url, tmp_path / "dump.sql")
        ghosts = grove.move(editor, 6)
    world.relay()
    world.consume(ROUTE)
    world.admin.close()
    restore(newest_server, world.url, file)
    with world_at(world.url, world) as again:
        yield again, grove, ghosts


def test_the_relay_stops_and_the_preview_says_what_is_where(
    restored: tuple[World, Grove, list[Any]],
) -> None:
    world, grove, ghosts = restored
    code, said = relays(world)
    assert code == 78, said
    assert "oid of the database" in said
    assert "iu relay rebase" in said
    with editing(world.url) as editor:
        editor.add(None)
    told = previewed(world)
    assert told["ghosts"]["events"] == 6
    assert told["ghosts"]["trees"] == 1
    assert told["ghosts"]["first"]["event_ref"] == str(ghosts[0])
    assert told["ghosts"]["last"]["event_ref"] == str(ghosts[-1])
    assert told["unpublished"]["events"] == 1
    (tree,) = told["trees"]
    assert tree["tree_id"] == str(grove.root)
    assert (tree["last_valid_version"], tree["version"], tree["to_version"]) == (7, 7, 13)
    assert set(told["policies"]) == {"adopt", "abandon", "stop"}
    # The preview is no more than that.
    assert relays(world)[0] == 78
    assert previewed(world) == told


def test_stop_changes_nothing_and_says_what_is_where(restored: tuple[World, Grove, list[Any]]) -> None:
    world, _, _ = restored
    code, out, said = rebase(world, "--policy", "stop", "--apply", *WHY)
    assert code == 78
    assert "6 events of 1 trees" in out
    assert "remedy" in said
    assert relays(world)[0] == 78


def test_adopt_puts_the_events_back_as_they_were(restored: tuple[World, Grove, list[Any]]) -> None:
    """Same events, same versions, same places; consumers meet them a second time and deliver them."""
    world, grove, ghosts = restored
    with editing(world.url) as editor:
        Grove.planted(editor)
    done = applied(world, "--policy", "adopt")
    assert (done["adopted"], done["abandoned"], done["published"]) == (6, 0, 4)
    assert world.one("SELECT version FROM iu_tree WHERE tree_id = %s", grove.root) == 13
    assert world.one(
        "SELECT count(*) FROM iu_structure_operation"
        " WHERE event_ref = ANY (%s) AND arguments ->> 'adopted' = 'a drill'",
        ghosts,
    ) == len(ghosts)
    assert_one_story(world)
    world.consume(ROUTE)
    assert decisions(world, ghosts) == {("sent", None)}
    goes_on(world, grove)


def test_abandon_gives_the_events_up_and_consumers_refuse_them(
    restored: tuple[World, Grove, list[Any]],
) -> None:
    """The tree has moved on since the restore: its versions are taken, and go on behind them."""
    world, grove, ghosts = restored
    with editing(world.url) as editor:
        moved_on = grove.move(editor, 2)
    done = applied(world, "--policy", "abandon")
    assert (done["adopted"], done["abandoned"], done["fences"], done["published"]) == (0, 6, 1, 2)
    assert world.rows("SELECT version, incarnation FROM iu_tree WHERE tree_id = %s", grove.root) == [(9, 2)]
    assert_one_story(world)
    world.consume(ROUTE)
    assert decisions(world, ghosts) == {("refused", "abandoned")}
    assert decisions(world, moved_on) == {("sent", None)}
    letters = world.rows(
        "SELECT reason, sqlstate FROM iu_route_dead_letter WHERE event_ref = ANY (%s)", ghosts
    )
    assert letters == [("abandoned", "IU022")] * len(ghosts)
    goes_on(world, grove)
    assert (
        world.one(
            "SELECT min(aggregate_version) FROM event_outbox WHERE aggregate_id = %s AND incarnation = 2",
            grove.root,
        )
        == 10
    )
    assert previewed(world)["nothing_to_do"]


def test_adopt_refuses_by_name_what_it_cannot_redo(restored: tuple[World, Grove, list[Any]]) -> None:
    """A tree that has moved on; with --abandon-rest its events alone are given up."""
    world, grove, ghosts = restored
    with editing(world.url) as editor:
        grove.move(editor, 1)
    code, _, said = rebase(world, "--policy", "adopt", "--apply", *WHY)
    assert code == 78
    assert str(grove.root) in said
    assert "moved on" in said
    assert "--abandon-rest" in said
    assert relays(world)[0] == 78
    done = applied(world, "--policy", "adopt", "--abandon-rest")
    assert (done["adopted"], done["abandoned"]) == (0, len(ghosts))
    goes_on(world, grove)


def test_a_policy_is_asked_for_and_so_is_a_reason(restored: tuple[World, Grove, list[Any]]) -> None:
    world, _, _ = restored
    assert rebase(world, "--apply", *WHY)[0] == 2
    assert rebase(world, "--policy", "adopt", "--apply")[0] == 2
    assert relays(world)[0] == 78


def test_a_topic_made_again_is_filled_again(world: World) -> None:
    """Nothing is on it, so everything in the outbox is to be published; nobody decides that but a person."""
    with editing(world.url) as editor:
        grove = Grove.planted(editor)
        grove.move(editor, 3)
    world.relay()
    admin = KafkaAdmin(world.settings, "tests")
    admin.delete([world.names.events])
    admin.close()
    code, said = relays(world)
    assert code == 78, said
    assert "--policy republish" in said
    told = previewed(world)
    assert told["made_again"]
    assert told["unpublished"]["events"] == 7
    assert set(told["policies"]) == {"republish", "stop"}
    assert rebase(world, "--policy", "adopt", "--apply", *WHY)[0] == 2
    assert applied(world, "--policy", "republish")["published"] == 7
    assert_one_story(world)
    world.consume(ROUTE)
    goes_on(world, grove)


def test_a_lost_cursor_is_found_again_from_the_topic(world: World) -> None:
    """The events are there, and so is the outbox: what is published shows, and the chain is computed."""
    with editing(world.url) as editor:
        grove = Grove.planted(editor)
    world.relay()
    admin = KafkaAdmin(world.settings, "tests")
    admin.delete([world.names.cursor])
    admin.close()
    code, said = relays(world)
    assert code == 78, said
    assert "iu relay rebase" in said
    with editing(world.url) as editor:
        grove.move(editor, 2)
    assert applied(world)["published"] == 2
    goes_on(world, grove)
