"""`verify` is clean on a system that works, and finds each planted difference (guarantee G8, and the
parts of G1 to G4 that can be seen afterwards).

Every plant is made behind the system's back, as a superuser with the triggers off, so the test
would pass over a check that looks at the wrong thing.
"""

from collections.abc import Callable

import psycopg
import pytest

from iu_core.bus.kafka_publisher import KafkaPublisher
from iu_core.bus.kafka_reader import KafkaTopicReader
from iu_core.bus.ports import Outgoing
from iu_core.bus.watchdog import Watchdog
from tests.integration.consumers.world import World, verified

LIVE = ("structure_reparented", "structure_piece_split")
TABLES = ("event_outbox", "iu_tree_change_log", "iu_route_attempt", "information_unit")


@pytest.fixture
def delivered(world: World) -> World:
    """A world with events of all six types, two routes delivered, one planned."""
    world.events(60)
    world.relay()
    world.go_live(*LIVE)
    world.consume(*LIVE)
    world.turn_routes("structure_child_added", enabled=True, dry_run=True)
    world.consume("structure_child_added")
    return world


GIVE_UP = """
    INSERT INTO iu_abandoned_event (event_ref, event_type, tree_id, version, incarnation, fenced_by,
                                    topic, partition, "offset", digest, reason)
    SELECT event_ref, event_type, aggregate_id, aggregate_version, incarnation, incarnation + 1,
           'x', 0, 0, payload_digest, 'a plant'
      FROM event_outbox
     WHERE event_ref = (SELECT event_ref FROM iu_tree_change_log ORDER BY id LIMIT 1)
"""


def plant(world: World, statement: str) -> None:
    """Run `statement` with every guard off; it must change something."""
    with psycopg.connect(world.url) as superuser:
        for table in TABLES:
            superuser.execute(f"ALTER TABLE public.{table} DISABLE TRIGGER ALL")
        assert superuser.execute(statement.encode()).rowcount > 0
        for table in TABLES:
            superuser.execute(f"ALTER TABLE public.{table} ENABLE TRIGGER ALL")


def publish_again(world: World, **changed: bytes) -> None:
    """Put a copy of the last record of the fullest partition on the topic, with `changed` headers."""
    topic = world.names.events
    reader = KafkaTopicReader(world.settings, "test-verify")
    publisher = KafkaPublisher(world.settings, f"{world.settings.kafka.prefix}plant", Watchdog(30))
    try:
        ends = reader.end_offsets(topic, committed=True)
        partition = max(ends, key=lambda number: ends[number])
        record = reader.read(topic, partition, 0, ends[partition])[-1]
        headers = tuple((name, changed.get(name, value)) for name, value in record.headers)
        publisher.open()
        publisher.publish([Outgoing(topic, partition, record.key, record.value, headers)])
    finally:
        publisher.close()
        reader.close()


def test_a_system_that_works_is_clean_and_every_event_has_one_state(delivered: World) -> None:
    report = verified(delivered)
    assert report.findings == ()
    counted = dict(delivered.rows("SELECT event_type, count(*) FROM event_outbox GROUP BY 1"))
    for route in report.routes:
        states = (
            route.projected + route.dead + route.parked + route.discarded + route.refused + route.ahead
            + route.before_start + route.unpublished + route.undecided
        )  # fmt: skip
        assert states == counted[route.route_code], route
    by_code = {route.route_code: route for route in report.routes}
    assert {by_code[code].projected == counted[code] for code in LIVE} == {True}
    assert by_code["structure_child_added"].planned == counted["structure_child_added"]
    assert report.published == report.events == sum(counted.values())


def test_what_is_committed_meanwhile_is_unpublished_and_no_difference(delivered: World) -> None:
    delivered.reparents(3)
    report = verified(delivered)
    assert report.findings == ()
    assert sum(route.unpublished for route in report.routes) == report.events - report.published > 0


@pytest.mark.parametrize(
    ("statement", "rule"),
    [
        pytest.param(
            "UPDATE information_unit SET ordinal = ordinal + 1000 WHERE id = (SELECT id FROM information_unit"
            " WHERE parent_id IS NOT NULL ORDER BY id LIMIT 1)",
            "baseline and events give the tree that stands",
            id="unit moved behind the tree's back",
        ),
        pytest.param(
            "UPDATE information_unit SET content = 'other', content_digest = sha256('other') WHERE id ="
            " (SELECT id FROM information_unit WHERE lifecycle <> 'deprecated' ORDER BY id LIMIT 1)",
            "baseline and events give the tree that stands",
            id="text replaced behind the tree's back",
        ),
        pytest.param(
            "UPDATE information_unit SET lifecycle = 'enacted' WHERE lifecycle = 'deprecated'",
            "baseline and events give the tree that stands",
            id="deprecated unit brought back",
        ),
        pytest.param(
            "DELETE FROM event_outbox WHERE id = (SELECT max(id) FROM event_outbox)",
            "every record of the topic is an event of the outbox",
            id="event gone from the outbox",
        ),
        pytest.param(
            "UPDATE event_outbox SET payload = jsonb_set(payload, '{reason}', '\"forged\"') WHERE event_ref ="
            " (SELECT event_ref FROM iu_tree_change_log ORDER BY id LIMIT 1)",
            "a projection row says what its event says",
            id="payload forged",
        ),
        pytest.param(
            "UPDATE event_outbox SET datum = 'other', payload_digest = sha256('other')"
            " WHERE id = (SELECT max(id) FROM event_outbox)",
            "a record holds the bytes that the operation wrote, under its tree's key",
            id="datum and digest forged",
        ),
        pytest.param(
            GIVE_UP,
            "an event that was given up is in no outbox and had no effect",
            id="delivered event given up",
        ),
        pytest.param(
            GIVE_UP,
            "behind each event that was given up stands the fence of its tree, and no other fence is there",
            id="event given up without a fence",
        ),
        pytest.param(
            "DELETE FROM iu_tree_change_log WHERE id = (SELECT max(id) FROM iu_tree_change_log)",
            "every `sent` has its projection row",
            id="projection row lost",
        ),
        pytest.param(
            "DELETE FROM iu_route_attempt"
            " WHERE id = (SELECT max(id) FROM iu_route_attempt WHERE decision = 'sent')",
            "what the live lane has passed has a decision",
            id="decision lost",
        ),
    ],
)  # fmt: skip
def test_a_planted_difference_is_found(delivered: World, statement: str, rule: str) -> None:
    plant(delivered, statement)
    found = [finding.check for finding in verified(delivered).findings]
    assert rule in found


def test_an_event_that_the_relay_passed_over_is_found(delivered: World) -> None:
    """The plant for G1: a row whose transaction the cursor calls published, and the topic has not."""
    delivered.reparents(1)
    plant(
        delivered,
        "UPDATE event_outbox SET xid = (SELECT min(xid::text::bigint) FROM event_outbox)::text::xid8"
        " WHERE id = (SELECT max(id) FROM event_outbox)",
    )
    found = [finding.check for finding in verified(delivered).findings]
    assert "what the relay's cursor calls published is on the topic" in found


@pytest.mark.parametrize(
    ("plant_record", "rule"),
    [
        (publish_again, "no event is on the topic twice"),
        (
            lambda world: publish_again(world, ce_id=b"01a20bd0-95e0-7bfa-9032-403bdd3ee8aa"),
            "every record of the topic is an event of the outbox",
        ),
        (
            lambda world: publish_again(world, ce_id=b"fence", ce_type=b"iu.relay.fence"),
            "behind each event that was given up stands the fence of its tree, and no other fence is there",
        ),
    ],
    ids=["doubled record", "ghost record", "fence of nothing"],
)
def test_a_planted_record_is_found(
    delivered: World, plant_record: Callable[[World], None], rule: str
) -> None:
    plant_record(delivered)
    found = [finding.check for finding in verified(delivered).findings]
    assert rule in found


def test_a_record_out_of_order_is_found(delivered: World) -> None:
    """The plant for G3: two versions of one tree have changed places in the outbox's eyes."""
    plant(
        delivered,
        """UPDATE event_outbox AS e SET aggregate_version = 1000000 + e.aggregate_version
            WHERE e.id = (SELECT min(id) FROM event_outbox)""",
    )
    found = [finding.check for finding in verified(delivered).findings]
    assert "the versions of a tree follow one another on one partition, without a hole" in found
