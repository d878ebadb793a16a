"""Restore drills: whatever was restored, the relay stops or goes on as it should, says why, and
`iu relay rebase` makes one story of database and topic again (guarantee G10).

Real PostgreSQL, real Kafka, the commands as processes. A drill ends with the relay going on, new
events delivered, the chain checker content and `verify` clean.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple
from uuid import UUID

import psycopg
import pytest

from iu_core.bus.kafka_admin import KafkaAdmin
from iu_core.errors import IUError, Misconfigured, Retryable, Usage
from producers.relay.cursor import Origin
from producers.relay.rebase_plan import Policy
from producers.relay.rebase_steps import Rebase
from producers.relay.status import ask
from tests.conftest import RunIu
from tests.integration.consumers.world import World, made_world, verified
from tests.integration.relay.drill import (
    ROUTE,
    Grove,
    assert_one_story,
    dump,
    editing,
    iu_environment,
    previewed,
    rebased,
    relays,
    restore,
    world_at,
)
from tests.integration.relay.held_topic import chain_faults


class Restored(NamedTuple):
    """A world whose database was restored; `ghosts` are on the topic and not in it."""

    world: World
    grove: Grove
    ghosts: Sequence[UUID]


@pytest.fixture
def world(migrated_url: str, kafka_bootstrap: str, bus_prefix: str) -> Iterator[World]:
    with made_world(migrated_url, kafka_bootstrap, bus_prefix) as made:
        made.go_live(ROUTE)
        yield made


def stops(world: World) -> IUError:
    """Return what the relay refuses to start with; it must be exit code 78."""
    error = relays(world)
    assert isinstance(error, Misconfigured), error
    return error


def decisions(world: World, event_refs: Sequence[UUID]) -> set[tuple[str, str | None]]:
    return set(
        world.rows(
            "SELECT decision, reason FROM iu_route_attempt WHERE event_ref = ANY (%s)", list(event_refs)
        )
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
def restored(world: World, newest_server: str, tmp_path: Path) -> Iterator[Restored]:
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
        yield Restored(again, grove, ghosts)


def test_the_relay_stops_and_the_preview_says_what_is_where(restored: Restored, iu: RunIu) -> None:
    """The commands themselves, as an operator meets them; nothing is changed by looking or by `stop`."""
    world, grove, ghosts = restored
    environment = iu_environment(world)
    stopped = iu("relay", "run", "--until-idle", env=environment)
    assert stopped.exit_code == 78, stopped.stderr
    assert "oid of the database" in stopped.stderr
    assert "iu relay rebase" in stopped.stderr
    with editing(world.url) as editor:
        editor.add(None)
    told = iu("relay", "rebase", "--json", env=environment).json()
    assert told["ghosts"]["events"] == 6
    assert told["ghosts"]["first"]["event_ref"] == str(ghosts[0])
    assert told["ghosts"]["last"]["event_ref"] == str(ghosts[-1])
    assert told["unpublished"]["events"] == 1
    (tree,) = told["trees"]
    assert tree["tree_id"] == str(grove.root)
    assert (tree["last_valid_version"], tree["version"], tree["to_version"]) == (7, 7, 13)
    assert set(told["policies"]) == {"adopt", "abandon", "stop"}
    stop = iu("relay", "rebase", "--policy", "stop", "--apply", "--reason", "a drill", env=environment)
    assert stop.exit_code == 78
    assert "6 events of 1 trees" in stop.stdout
    assert "remedy" in stop.stderr
    assert iu("relay", "rebase", "--policy", "adopt", "--apply", env=environment).exit_code == 2
    assert iu("relay", "rebase", "--json", env=environment).json() == told
    done = iu(
        "relay", "rebase", "--policy", "adopt", "--apply", "--reason", "a drill", "--json", env=environment
    )
    assert done.json()["adopted"] == 6
    assert iu("relay", "run", "--until-idle", env=environment).exit_code == 0


def test_adopt_puts_the_events_back_as_they_were(restored: Restored) -> None:
    """Same events, same versions, same places; consumers meet them a second time and deliver them."""
    world, grove, ghosts = restored
    with editing(world.url) as editor:
        Grove.planted(editor)
    done = rebased(world, Policy.ADOPT)
    assert (done.adopted, done.abandoned, done.published) == (6, 0, 4)
    assert world.one("SELECT version FROM iu_tree WHERE tree_id = %s", grove.root) == 13
    noted = "SELECT count(*) FROM iu_structure_operation WHERE arguments ->> 'adopted' = 'a drill'"
    assert world.one(noted) == len(ghosts)
    assert_one_story(world)
    world.consume(ROUTE)
    assert decisions(world, ghosts) == {("sent", None)}
    goes_on(world, grove)


def test_abandon_gives_the_events_up_and_consumers_refuse_them(restored: Restored) -> None:
    """The tree has moved on since the restore: its versions are taken, and go on behind them."""
    world, grove, ghosts = restored
    with editing(world.url) as editor:
        moved_on = grove.move(editor, 2)
    done = rebased(world, Policy.ABANDON)
    assert (done.adopted, done.abandoned, done.fences, done.published) == (0, 6, 1, 2)
    head = world.rows("SELECT version, incarnation FROM iu_tree WHERE tree_id = %s", grove.root)
    assert head == [(9, 2)]
    assert_one_story(world)
    world.consume(ROUTE)
    assert decisions(world, ghosts) == {("refused", "abandoned")}
    assert decisions(world, moved_on) == {("sent", None)}
    letters = "SELECT reason, sqlstate FROM iu_route_dead_letter WHERE event_ref = ANY (%s)"
    assert world.rows(letters, list(ghosts)) == [("abandoned", "IU022")] * len(ghosts)
    goes_on(world, grove)
    began = "SELECT min(aggregate_version) FROM event_outbox WHERE aggregate_id = %s AND incarnation = 2"
    assert world.one(began, grove.root) == 10
    assert previewed(world).nothing_to_do


def test_adopt_refuses_by_name_what_it_cannot_redo(restored: Restored) -> None:
    """A tree that has moved on; with --abandon-rest its events alone are given up."""
    world, grove, ghosts = restored
    with editing(world.url) as editor:
        grove.move(editor, 1)
    with pytest.raises(Misconfigured) as refused:
        rebased(world, Policy.ADOPT)
    assert str(grove.root) in (refused.value.why or "")
    assert "moved on" in (refused.value.why or "")
    assert "--abandon-rest" in (refused.value.remedy or "")
    with pytest.raises(Usage):
        rebased(world)
    stops(world)
    done = rebased(world, Policy.ADOPT, abandon_rest=True)
    assert (done.adopted, done.abandoned) == (0, len(ghosts))
    goes_on(world, grove)


UNDO = (
    "DELETE FROM iu_structure_operation WHERE event_ref = ANY (%(ghosts)s)",
    "DELETE FROM event_outbox WHERE event_ref = ANY (%(ghosts)s)",
    "UPDATE iu_tree SET version = 4 WHERE tree_id = %(root)s",
    "UPDATE information_unit SET parent_id = %(here)s, ordinal = 0 WHERE id = %(unit)s",
    "SELECT setval('event_outbox_id_seq', 4)",
)


@pytest.mark.parametrize("sealed", [True, False])
def test_without_the_seal_adopted_events_would_be_published_again(
    world: World, sealed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A restore that leaves every id as it was, as to a point in time; killed after the database's part.

    The row of the highest id is there again, so nothing else than the seal keeps a relay from going
    on with the snapshot of another history.
    """
    with editing(world.url) as editor:
        grove = Grove.planted(editor)
        ghosts = grove.move(editor, 3)
    world.relay()
    with psycopg.connect(world.url) as superuser:
        superuser.execute("SET session_replication_role = replica")
        for table in ("iu_structure_operation", "event_outbox"):
            superuser.execute(f"ALTER TABLE {table} DISABLE TRIGGER ALL")
        for statement in UNDO:
            bound = {"ghosts": ghosts, "root": grove.root, "here": grove.here, "unit": grove.unit}
            superuser.execute(statement.encode(), bound)
        for table in ("iu_structure_operation", "event_outbox"):
            superuser.execute(f"ALTER TABLE {table} ENABLE ALWAYS TRIGGER trg_{table}_append_only")
    assert "no such row" in (stops(world).why or "")

    def killed(*_: object) -> None:
        raise Retryable("killed")

    with monkeypatch.context() as patch:
        patch.setattr(Rebase, "_rehighest", killed)
        if not sealed:
            patch.setattr("producers.relay.rebase_steps.SEALED", unsealed(world))
        with pytest.raises(Retryable, match="killed"):
            rebased(world, Policy.ADOPT)
    if sealed:
        assert "a rebase is under way" in (stops(world).why or "")
        rebased(world, Policy.ADOPT)
        assert_one_story(world)
    else:
        assert relays(world) is None
        faults = {fault.split(":")[0] for fault in chain_faults(world.url, world.settings)}
        assert "repeated" in faults


def unsealed(world: World) -> Origin:
    """Return the origin that the cursor has: a seal that seals nothing."""
    cursor = ask(world.settings, world.url).shards[0].cursor
    assert cursor is not None
    return cursor.origin


STEPS = ("_sealed", "_decide", "_rehighest", "_fence_trees", "_publish_missing", "_open")


@pytest.mark.parametrize("policy", [Policy.ADOPT, Policy.ABANDON])
def test_a_rebase_that_is_interrupted_is_run_again(
    restored: Restored, policy: Policy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed before each step in turn, and each time no relay starts; the last run ends it."""
    world, grove, _ = restored
    with editing(world.url) as editor:
        Grove.planted(editor)

    def killed(*_: object, **__: object) -> None:
        raise Retryable("killed")

    for step in STEPS:
        with monkeypatch.context() as patch:
            patch.setattr(Rebase, step, killed)
            with pytest.raises(Retryable, match="killed"):
                rebased(world, policy)
        stops(world)
    with editing(world.url) as editor:
        Grove.planted(editor)
    rebased(world, policy)
    goes_on(world, grove)


def test_a_topic_made_again_is_filled_again(world: World) -> None:
    """Nothing is on it, so everything in the outbox is to be published; nobody decides that but a person."""
    with editing(world.url) as editor:
        grove = Grove.planted(editor)
        grove.move(editor, 3)
    world.relay()
    admin = KafkaAdmin(world.settings, "tests")
    admin.delete([world.names.events])
    admin.close()
    assert "--policy republish" in (stops(world).remedy or "")
    told = previewed(world)
    assert told.made_again
    assert told.compared.unpublished == 7
    assert set(told.policies) == {Policy.REPUBLISH, Policy.STOP}
    with pytest.raises(Usage):
        rebased(world, Policy.ADOPT)
    assert rebased(world, Policy.REPUBLISH).published == 7
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
    assert "iu relay rebase" in (stops(world).remedy or "")
    with editing(world.url) as editor:
        grove.move(editor, 2)
    assert rebased(world).published == 2
    goes_on(world, grove)
