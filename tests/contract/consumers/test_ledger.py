"""What the ledger promises, asked of the one in memory and of PostgreSQL alike.

A scenario knows the port only; behind it, events that an operation wrote and the switches. What this
suite does not prove: locks and their order (`tests/integration/delivery`), a server that goes away
(`tests/integration/consumers`), processes that die (`tests/chaos`).
"""

import base64
import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

import pytest

from consumers.route.batch import Batch, Blame, without_its_event
from consumers.route.decide import Deliver, Plan, Switches, ask_gates
from consumers.route.ledger import Claim, Ledger, Place, Poisoned
from consumers.route.postgres_ledger import PostgresLedger
from consumers.route.reading import Event
from iu_core.bus.ports import Record
from iu_core.database import Role, connect
from iu_core.errors import Fenced, Refused
from iu_core.settings import DatabaseSettings
from tests.integration.sql.sessions import Editor, open_gate, session
from tests.unit.consumers.fakes import CLOSED, OPEN, ROUTE, FakeLedger, poisoned, route

PLACE = Place(ROUTE, "live", "contract.events", "topic-1")
DRY = replace(PLACE, lane="dry_run")
DELIVER = Deliver(route().target)
PLAN = Plan(ask_gates(route(), CLOSED))


# Named here, because services are started for what a collected test names.
pytestmark = pytest.mark.usefixtures("newest_server")


@dataclass
class Subject:
    """A ledger, six events that it can deliver, and what stands behind it."""

    ledger: Ledger
    events: list[Event]
    turn: Callable[[Switches], None]
    turn_route: Callable[[bool, bool], None]
    projected: Callable[[], list[str]]
    decided: Callable[[], list[tuple[str, str | None]]]
    letters: Callable[[], list[tuple[int, bytes | None]]]

    def open(self) -> Claim:
        """Open everything, and claim partition 0."""
        self.turn(OPEN)
        self.turn_route(True, False)
        (claim,) = self.ledger.claim(PLACE, {0: 0}, "one/1")
        return claim


def record_of(offset: int, payload: dict[str, Any]) -> Event:
    value = json.dumps(payload).encode()
    digest = hashlib.sha256(value).hexdigest().encode()
    raw = Record(PLACE.topic, 0, offset, 1_700_000_000_000, b"key", value, (("iu_digest", digest),))
    return Event(raw, UUID(payload["event_ref"]), payload, "fingerprint:00")


def batch(events: list[Event], *, to: int | None = None) -> Batch:
    first, last = events[0].record.offset, events[-1].record.offset
    return Batch(0, first, last + 1 if to is None else to, tuple(events))


def fake() -> Subject:
    ledger = FakeLedger(route=route(enabled=False, mode="plan"), switches=Switches("false", ""))
    events = [record_of(n, {"event_ref": str(UUID(int=n + 1))}) for n in range(6)]

    def turn(switches: Switches) -> None:
        ledger.switches = switches

    def turn_route(enabled: bool, dry_run: bool) -> None:
        ledger.route = route(enabled=enabled, mode="plan" if dry_run else "live")

    ledger.poison[events[5].event_ref] = poisoned("IU020")
    return Subject(
        ledger,
        events,
        turn,
        turn_route,
        lambda: [str(event_ref) for event_ref in ledger.projection],
        lambda: [(row["decision"], row["event_ref"]) for row in ledger.attempts],
        lambda: [(row["offset"], json_bytes(row["value"])) for row in ledger.letters],
    )


def json_bytes(text: str | None) -> bytes | None:
    return None if text is None else base64.b64decode(text)


@pytest.fixture
def postgres(migrated_url: str) -> Iterator[Subject]:
    open_gate(migrated_url)
    editor = Editor(migrated_url)
    root = editor.add(None)
    here, there = editor.add(root), editor.add(root)
    unit = editor.add(here)
    refs = [editor.reparent(unit, there if turn % 2 == 0 else here).event_ref for turn in range(6)]
    editor.session.close()
    ledger = PostgresLedger(
        lambda: connect(migrated_url, Role.CONSUMER, settings=DatabaseSettings(), application_name="contract")
    )
    with session(migrated_url) as admin:
        admin.execute("SELECT set_config('iu.reason', 'a test', false)")

        def rows(query: str) -> list[tuple[Any, ...]]:
            return admin.execute(query.encode()).fetchall()

        def turn(switches: Switches) -> None:
            change = "UPDATE dot_config SET value = %s WHERE key = %s"
            admin.execute(change, (switches.live_routes, "iu_core.delivery_live_routes"))
            admin.execute(change, (switches.delivery_enabled, "iu_core.delivery_enabled"))

        def turn_route(enabled: bool, dry_run: bool) -> None:
            change = "UPDATE iu_outbound_route SET enabled = %s, dry_run = %s WHERE route_code = %s"
            admin.execute(change, (enabled, dry_run, ROUTE))

        written = dict(rows("SELECT event_ref, payload FROM event_outbox"))
        payloads = [written[event_ref] for event_ref in refs]
        payloads[5] = payloads[5] | {"actor": "mallory"}
        yield Subject(
            ledger,
            [record_of(offset, payload) for offset, payload in enumerate(payloads)],
            turn,
            turn_route,
            lambda: [row[0] for row in rows("SELECT event_ref::text FROM iu_tree_change_log ORDER BY id")],
            lambda: [
                (row[0], row[1])
                for row in rows("SELECT decision, event_ref::text FROM iu_route_attempt ORDER BY id")
            ],
            lambda: [
                (row[0], row[1])
                for row in rows('SELECT "offset", value FROM iu_route_dead_letter ORDER BY "offset"')
            ],
        )
    ledger.close()


@pytest.fixture(params=["fake", "postgres"])
def subject(request: pytest.FixtureRequest) -> Subject:
    made: Subject = fake() if request.param == "fake" else request.getfixturevalue("postgres")
    return made


def refs(events: list[Event]) -> list[str]:
    return [str(event.event_ref) for event in events]


def test_looking_tells_route_and_switches_as_stored(subject: Subject) -> None:
    view = subject.ledger.look(ROUTE)
    assert view.switches == Switches("false", "")
    assert view.route == route(enabled=False, mode="plan")
    subject.turn(OPEN)
    subject.turn_route(True, False)
    view = subject.ledger.look(ROUTE)
    assert (view.route, view.switches) == (route(), OPEN)


def test_a_first_claim_starts_at_the_log_start_and_a_later_one_where_the_lane_stands(
    subject: Subject,
) -> None:
    claim = subject.open()
    assert claim == Claim(0, 0, 1)
    subject.ledger.deliver(PLACE, claim, batch(subject.events[:2]), DELIVER)
    assert list(subject.ledger.claim(PLACE, {0: 0, 3: 7}, "two/2")) == [Claim(0, 2, 2), Claim(3, 7, 1)]


def test_a_batch_lands_whole_with_its_decisions_and_its_place(subject: Subject) -> None:
    claim = subject.open()
    subject.ledger.deliver(PLACE, claim, batch(subject.events[:4], to=9), DELIVER)
    assert subject.projected() == refs(subject.events[:4])
    assert subject.decided() == [("sent", event_ref) for event_ref in refs(subject.events[:4])]
    assert subject.ledger.claim(PLACE, {0: 0}, "two/2")[0].next_offset == 9


@pytest.mark.parametrize("switches", [CLOSED, Switches("TRUE", ROUTE), Switches("true", "other")])
def test_a_closed_gate_refuses_even_a_batch_without_events(subject: Subject, switches: Switches) -> None:
    claim = subject.open()
    subject.turn(switches)
    for refused in (batch(subject.events[:2]), Batch(0, 0, 5, ())):
        with pytest.raises(Refused):
            subject.ledger.deliver(PLACE, claim, refused, DELIVER)
    assert (subject.projected(), subject.decided()) == ([], [])
    subject.turn(OPEN)
    subject.ledger.deliver(PLACE, claim, batch(subject.events[:2]), DELIVER)
    assert len(subject.projected()) == 2


def test_a_route_that_left_the_lane_refuses_it(subject: Subject) -> None:
    claim = subject.open()
    subject.turn_route(True, True)
    with pytest.raises(Refused):
        subject.ledger.deliver(PLACE, claim, batch(subject.events[:1]), DELIVER)
    subject.turn_route(False, True)
    with pytest.raises(Refused):
        subject.ledger.deliver(PLACE, claim, batch(subject.events[:1]), DELIVER)
    assert subject.projected() == []


def test_the_dry_run_lane_records_with_closed_gates_and_has_no_effect(subject: Subject) -> None:
    subject.turn_route(True, True)
    (claim,) = subject.ledger.claim(DRY, {0: 0}, "one/1")
    subject.ledger.record(DRY, claim, batch(subject.events[:3]), PLAN)
    assert subject.decided() == [("dry_run", event_ref) for event_ref in refs(subject.events[:3])]
    assert subject.projected() == []


def test_an_older_owner_and_a_batch_done_already_change_nothing(subject: Subject) -> None:
    older = subject.open()
    (newer,) = subject.ledger.claim(PLACE, {0: 0}, "two/2")
    with pytest.raises(Fenced):
        subject.ledger.deliver(PLACE, older, batch(subject.events[:2]), DELIVER)
    assert subject.projected() == []
    subject.ledger.deliver(PLACE, newer, batch(subject.events[:2]), DELIVER)
    with pytest.raises(Fenced):
        subject.ledger.deliver(PLACE, newer, batch(subject.events[:2]), DELIVER)
    assert subject.decided() == [("sent", event_ref) for event_ref in refs(subject.events[:2])]


def test_an_event_at_fault_takes_its_batch_with_it_and_is_kept_whole_alone(subject: Subject) -> None:
    claim = subject.open()
    with pytest.raises(Poisoned) as caught:
        subject.ledger.deliver(PLACE, claim, batch(subject.events), DELIVER)
    assert caught.value.code == "IU020"
    assert (subject.projected(), subject.decided(), subject.letters()) == ([], [], [])
    subject.ledger.deliver(PLACE, claim, batch(subject.events[:5]), DELIVER)
    alone = without_its_event(batch(subject.events[5:]), Blame("IU020", "forged", None))
    subject.ledger.deliver(PLACE, replace(claim, next_offset=5), alone, DELIVER)
    assert subject.decided()[-1] == ("refused", refs(subject.events)[5])
    assert subject.letters() == [(5, subject.events[5].record.value)]
    assert len(subject.projected()) == 5


def test_a_topic_made_again_is_refused_by_its_own_code(subject: Subject) -> None:
    subject.open()
    with pytest.raises(Refused) as caught:
        subject.ledger.claim(replace(PLACE, topic_id="topic-2"), {0: 0}, "two/2")
    assert caught.value.code == "IU030"


def test_a_hold_is_one_episode_until_its_cause_changes(subject: Subject) -> None:
    first = subject.ledger.hold(PLACE, "kill_switch", "closed", "one/1")
    assert subject.ledger.hold(PLACE, "kill_switch", "closed", "two/2") == first
    assert subject.ledger.hold(PLACE, "allowlist", "not listed", "one/1") != first


def test_closing_is_idempotent(subject: Subject) -> None:
    subject.ledger.close()
    subject.ledger.close()
