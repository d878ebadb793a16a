"""`iu relay prune` as an operator meets it, on a real database and a real broker: what goes, what
stays and why, and that everything else goes on as before.
"""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from datetime import timedelta
from functools import partial

import psycopg
import pytest
from psycopg import sql

from consumers.verify.trees import fold_tree
from iu_core.bus.kafka_publisher import KafkaPublisher
from iu_core.bus.ports import Outgoing
from iu_core.bus.watchdog import Watchdog
from iu_core.database import Role
from producers.relay import cursor as cursors
from producers.relay.prune import Pruned, preview, prune, read_bound
from producers.relay.status import ask
from tests.conftest import Ran, RunIu
from tests.integration.consumers.world import SIX, World, session_of, verified

AT_ONCE = ("relay", "prune", "--older-than", "0s", "--json")
APPLY = (*AT_ONCE, "--apply", "--reason", "a test")


def settle(world: World, events: int = 40) -> int:
    """Make events of all types, publish and deliver them; return how many there are."""
    world.events(events)
    world.relay()
    world.go_live(*SIX)
    world.consume()
    return int(world.one("SELECT count(*) FROM event_outbox"))


def run(iu: RunIu, world: World, *words: str) -> Ran:
    return iu(*words, env=world.environment)


def plant(world: World, *statements: str) -> None:
    """Run statements with every guard off; each must change something."""
    tables = ("event_outbox", "event_outbox_stub", "iu_tree_change_log", "information_unit")
    with psycopg.connect(world.url) as superuser:
        for state in ("DISABLE", "ENABLE"):
            for table in tables:
                superuser.execute(
                    sql.SQL("ALTER TABLE {} {} TRIGGER ALL").format(sql.Identifier(table), sql.SQL(state))
                )
            if state == "DISABLE":
                for statement in statements:
                    assert superuser.execute(statement.encode()).rowcount > 0, statement


def test_old_events_go_and_everything_goes_on(world: World, iu: RunIu) -> None:
    """Preview, a bounded run, the rest, and again; then new events, and a rebuild by value."""
    events = settle(world)
    foreseen = run(iu, world, *AT_ONCE)
    assert foreseen.exit_code == 0, foreseen.stderr
    told = foreseen.json()["preview"]
    assert sum(each["rows"] for each in told["going"]) == events - 1
    assert {each["event_type"] for each in told["going"]} == set(SIX)
    assert [(each["reason"], each["rows"]) for each in told["held"]] == [("newest_published", 1)]
    assert len(told["lacking_baseline"]) == 3
    assert world.one("SELECT count(*) FROM event_outbox") == events, "a preview changes nothing"

    some = run(iu, world, *APPLY, "--limit", "10")
    assert (some.exit_code, some.json()["done"]["rows"]) == (0, 10), some.stderr
    assert some.json()["done"]["baselines"] == 3
    assert '"reason": "a test"' in some.stderr
    rest = run(iu, world, *APPLY)
    assert (rest.exit_code, rest.json()["done"]["rows"]) == (0, events - 11), rest.stderr
    assert str(world.one("SELECT event_ref FROM event_outbox")) == told["held"][0]["example"]
    report = verified(world)
    assert report.findings == ()
    assert (report.events, report.pruned, report.published) == (events, events - 1, events)
    assert sum(route.projected for route in report.routes) == events

    again = run(iu, world, *APPLY)
    assert again.exit_code == 1
    assert "by it the relay knows its database" in again.stderr

    gone = world.one(
        "SELECT event_ref FROM event_outbox_stub WHERE event_type = 'structure_reparented' LIMIT 1"
    )
    life = run(iu, world, "explain", str(gone), "--json").json()
    assert life["event"]["pruned_at"] is not None
    assert (life["routes"][0]["verdict"], life["place"]["topic"]) == ("delivered", world.names.events)
    assert "pruned" in run(iu, world, "explain", str(gone)).stdout

    world.reparents(3)
    world.relay()
    world.consume()
    assert verified(world).findings == ()

    before = world.rows("SELECT event_ref, event_type, payload FROM iu_tree_change_log ORDER BY 1")
    world.admin.execute("TRUNCATE iu_tree_change_log")
    world.admin.execute("UPDATE iu_route_offset SET next_offset = start_offset")
    world.consume()
    after = world.rows("SELECT event_ref, event_type, payload FROM iu_tree_change_log ORDER BY 1")
    assert after == before
    assert verified(world).findings == ()


def test_a_run_that_is_killed_leaves_a_state_that_is_clean_and_the_next_goes_on(world: World) -> None:
    events = settle(world)

    def die(done: Pruned) -> None:
        if done.batches == 2:
            raise KeyboardInterrupt

    bound, cursor = read_bound(world.settings, world.url), ask(world.settings, world.url).shards[0].cursor
    assert cursor is not None
    assert cursor.highest is not None
    assert (bound.before_xid, bound.newest_ids) == (cursor.position.settled.xmin, (cursor.highest.id,))
    with session_of(world, Role.OWNER) as owner:
        found = preview(owner, bound, timedelta(0))
        go = partial(
            prune, owner, found, limit=None, fold=partial(fold_tree, owner), actor="ada", reason="a test",
            batch_rows=7,
        )  # fmt: skip
        with pytest.raises(KeyboardInterrupt):
            go(progress=die)
        assert world.one("SELECT count(*) FROM event_outbox_stub") == 14
        assert verified(world).findings == ()
        assert go().rows == events - 15
    assert verified(world).findings == ()


def undecided(world: World, stack: ExitStack) -> None:
    world.events(20)
    world.relay()


def one_route_of_six(world: World, stack: ExitStack) -> None:
    """One route has decided all of its own, but the first events of every tree are another's."""
    undecided(world, stack)
    world.go_live("structure_piece_split")
    world.consume("structure_piece_split")


def unsettled(world: World, stack: ExitStack) -> None:
    """A transaction from before all events is still open somewhere."""
    old = stack.enter_context(session_of(world))
    stack.enter_context(old.transaction())
    old.execute("SELECT pg_current_xact_id()")
    settle(world, 20)


def unpublished(world: World, stack: ExitStack) -> None:
    world.events(20)


@pytest.mark.parametrize(
    ("arrange", "exit_code", "said"),
    [
        (unpublished, 1, "the relay has no cursor"),
        (undecided, 77, "has no final decision on it"),
        (one_route_of_six, 77, "has no final decision on it"),
        (unsettled, 1, "not every shard of the relay is through"),
    ],
)
def test_what_holds_every_row_is_said(
    world: World, iu: RunIu, arrange: Callable[[World, ExitStack], None], exit_code: int, said: str
) -> None:
    with ExitStack() as stack:
        arrange(world, stack)
        expect_refusal(world, iu, APPLY, exit_code, said)


def expect_refusal(world: World, iu: RunIu, words: tuple[str, ...], exit_code: int, said: str) -> None:
    before = world.one("SELECT count(*) FROM event_outbox")
    ran = run(iu, world, *(word for word in words if word != "--json"))
    assert (ran.exit_code, said in ran.stderr) == (exit_code, True), ran.stderr
    assert "remedy" in ran.stderr
    assert world.one("SELECT count(*) FROM event_outbox") == before
    assert world.one("SELECT count(*) FROM event_outbox_stub") == 0


def test_what_holds_delivered_rows_is_said(world: World, iu: RunIu) -> None:
    """One world, one obstacle after the other: age, a damaged tree, blocked trees, a restore."""
    settle(world, 20)
    retention = ("relay", "prune", "--apply", "--reason", "x")
    expect_refusal(world, iu, retention, 1, "younger than the retention")

    plant(world, "UPDATE information_unit SET ordinal = ordinal + 1000 WHERE parent_id IS NOT NULL")
    expect_refusal(world, iu, APPLY, 1, "could get no baseline")

    block_every_tree(world)
    expect_refusal(world, iu, APPLY, 1, "waits for a dead letter")

    newest = "(SELECT max(id) FROM event_outbox)"
    plant(world, f"UPDATE event_outbox SET event_ref = gen_random_uuid() WHERE id = {newest}")  # noqa: S608
    expect_refusal(world, iu, APPLY, 78, "event of outbox row")


def block_every_tree(world: World) -> None:
    """Let the cursor say that every tree waits for a dead letter."""
    cursor = ask(world.settings, world.url).shards[0].cursor
    assert cursor is not None
    trees = [tree for (tree,) in world.rows("SELECT tree_id FROM iu_tree")]
    told = replace(cursor, blocked=dict.fromkeys(trees, 999))
    publisher = KafkaPublisher(world.settings, f"{world.settings.kafka.prefix}plant", Watchdog(30))
    try:
        publisher.open()
        value, key = cursors.encode(told), cursors.key(cursor.layout)
        publisher.publish([Outgoing(world.names.cursor, 0, key, value)])
    finally:
        publisher.close()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--apply",), "needs a reason"),
        (("--older-than", "soon"), "is no length of time"),
        (("--limit", "0"), "--limit"),
    ],
)
def test_wrong_words_are_refused(iu: RunIu, words: tuple[str, ...], said: str) -> None:
    ran = iu("relay", "prune", *words)
    assert (ran.exit_code, said in ran.stderr, ran.stdout) == (2, True, "")


PLANTS = (
    (
        "UPDATE iu_tree_change_log SET payload = jsonb_set(payload, '{reason}', '\"forged\"')"
        " WHERE aggregate_version = 1",
        "a projection row says what its event says",
    ),
    (
        "UPDATE event_outbox_stub SET payload_digest = sha256('other') WHERE aggregate_version = 2",
        "a record holds the bytes that the operation wrote, under its tree's key",
    ),
    (
        "INSERT INTO event_outbox_stub SELECT event_ref, event_type, schema_version, aggregate_id,"
        " aggregate_version, incarnation, payload_digest, occurred_at FROM event_outbox",
        "an event is in the outbox or pruned, not both",
    ),
    (
        "UPDATE event_outbox_stub SET aggregate_version = 1000 WHERE aggregate_version = 3",
        "what was pruned of a tree are its first versions, without a hole",
    ),
    (
        "DELETE FROM event_outbox_stub WHERE aggregate_version = 4",
        "every record of the topic is an event of the outbox",
    ),
    (
        "UPDATE event_outbox_stub SET event_ref = gen_random_uuid() WHERE aggregate_version = 5",
        "what the relay's cursor calls published is on the topic",
    ),
    (
        "UPDATE information_unit SET lifecycle = 'enacted' WHERE lifecycle = 'deprecated'",
        "baseline and events give the tree that stands",
    ),
)


def test_verify_finds_what_is_planted_after_pruning(world: World, iu: RunIu) -> None:
    """One plant after the other; each breaks a rule that held until then."""
    settle(world, 20)
    assert run(iu, world, *APPLY).exit_code == 0
    broken: set[str] = set()
    for statement, rule in PLANTS:
        assert rule not in broken
        plant(world, statement)
        broken = {finding.check for finding in verified(world).findings}
        assert rule in broken, statement
