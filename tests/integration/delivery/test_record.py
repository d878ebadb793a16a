"""Recording: position, decisions and dead letters together, and never more than happened."""

import base64
import json
from typing import Any

import pytest

from tests.integration.delivery.seam import ROUTE, TOPIC, Seam, Worker, attempt, letter
from tests.integration.sql.sessions import refused


def check_sent_needs_the_projection_row(seam: Seam) -> None:
    """A process cannot claim an effect that it did not have."""
    (event,) = seam.events(1)
    seam.go_live()
    worker = seam.worker()
    worker.claim()
    with refused("IU032") as said:
        worker.record([attempt(event, 0)])
    assert str(event.ref) in said.detail
    with refused("IU032"):
        worker.record([attempt(None, 0)])
    assert (seam.decisions(), seam.position()) == ({}, (1, 0))


def check_one_sent_per_route_and_event(seam: Seam) -> None:
    """An event read again after a seek, or standing twice in the topic, is counted and not written."""
    (event,) = seam.events(1)
    seam.go_live()
    worker, elsewhere = seam.worker(), seam.worker(partition=1)
    worker.claim()
    worker.land(event, event)
    seam.admin.execute("UPDATE iu_route_offset SET next_offset = 0")
    worker.claim()
    worker.land(event)
    elsewhere.claim()
    elsewhere.land(event)
    assert (seam.projected(), seam.decisions()) == (1, {"sent": 1})
    repeats = "SELECT partition, repeats FROM iu_route_offset ORDER BY partition"
    assert seam.admin.execute(repeats).fetchall() == [(0, 2), (1, 1)]


def check_what_is_passed_over_is_kept(seam: Seam) -> None:
    """failed and refused need their dead letter, a dead letter its decision; or nothing is recorded."""
    seam.go_live()
    worker = seam.worker()
    worker.claim()
    for decision in ("failed", "refused"):
        with refused("IU032", decision) as said:
            worker.record([attempt(None, 0, decision)])
        assert "0" in said.detail
    with refused("IU032"):
        worker.record([], [letter(0)], advance=1)
    assert (seam.decisions(), seam.position()) == ({}, (1, 0))


def check_a_batch_lands_whole(seam: Seam) -> None:
    """Effect, decisions, place and dead letters, of which not one byte is missing."""
    sent, failing = seam.events(2)
    seam.go_live()
    worker = seam.worker()
    worker.claim(log_start=10)
    raw = b"\x00\xff not a record"
    with worker.session.transaction():
        worker.deliver(sent)
        worker.record(
            [
                attempt(sent, 10),
                attempt(failing, 12, "refused", reason="digest differs", detail={"expected": "00"}),
                attempt(None, 13, "failed", reason="undecodable"),
            ],
            [
                letter(12, "digest differs", event_ref=str(failing.ref), sqlstate="IU020", detail="why"),
                letter(
                    13,
                    timestamp_ms=1_700_000_000_123,
                    key=base64.b64encode(b"key").decode(),
                    value=base64.b64encode(raw).decode(),
                    headers=[["ce_id", "eA=="], ["ce_id", "eQ=="]],
                    schema="c301…",
                    detail={"at": 2},
                ),
            ],
            advance=5,
            last=sent.ref,
        )
    assert seam.admin.execute(
        'SELECT "offset", decision, final, event_ref, reason, owner_epoch, topic'
        " FROM iu_route_attempt ORDER BY id"
    ).fetchall() == [
        (10, "sent", True, sent.ref, None, 1, TOPIC),
        (12, "refused", True, failing.ref, "digest differs", 1, TOPIC),
        (13, "failed", False, None, "undecodable", 1, TOPIC),
    ]
    first, second = seam.admin.execute(
        """SELECT event_ref, state, key, value, headers, extract(epoch FROM record_at)::text, sqlstate,
                  reason, detail
             FROM iu_route_dead_letter ORDER BY "offset" """
    ).fetchall()
    assert first == (failing.ref, "dead", None, None, [], None, "IU020", "digest differs", "why")
    assert second == (
        *(None, "dead", b"key", raw, [["ce_id", "eA=="], ["ce_id", "eQ=="]]),
        *("1700000000.123000", None, "undecodable", {"at": 2}),
    )
    assert seam.position() == (1, 15)
    assert seam.value("SELECT last_event_ref FROM iu_route_offset") == sent.ref


def test_sent_needs_the_projection_row(seam: Seam) -> None:
    check_sent_needs_the_projection_row(seam)


def test_one_sent_per_route_and_event(seam: Seam) -> None:
    check_one_sent_per_route_and_event(seam)


def test_what_is_passed_over_is_kept(seam: Seam) -> None:
    check_what_is_passed_over_is_kept(seam)


def test_sent_is_not_believed_for_an_event_of_another_route(seam: Seam) -> None:
    """Its projection row is there, but this route cannot have made it."""
    (event,) = seam.events(1)
    seam.open(ROUTE, "structure_reparented")
    seam.worker().deliver(event)
    seam.set_route("structure_reparented", enabled=True, dry_run=False)
    other = seam.worker(route="structure_reparented")
    other.claim()
    with refused("IU032"):
        other.record([attempt(event, 0)])


def test_a_batch_lands_whole(seam: Seam) -> None:
    check_a_batch_lands_whole(seam)


def test_records_of_other_routes_are_passed_over_without_a_row(seam: Seam) -> None:
    seam.go_live()
    worker = seam.worker()
    worker.claim()
    worker.record(advance=1000)
    assert (seam.decisions(), seam.position()) == ({}, (1, 1000))


def wrong_decisions() -> list[tuple[str, str, dict[str, Any]]]:
    """Return (lane, what is wrong, the one attempt) of batches that cover offsets 0 up to 2."""
    return [
        ("live", "dry_run in the live lane", {"decision": "dry_run"}),
        ("dry_run", "sent in the dry-run lane", {"decision": "sent"}),
        ("live", "an unknown decision", {"decision": "held"}),
        ("live", "no decision", {"decision": None}),
        ("live", "an offset after the batch", {"offset": 2, "decision": "sent"}),
        ("live", "an offset before the batch", {"offset": -1, "decision": "sent"}),
        ("live", "no offset", {"offset": None, "decision": "sent"}),
    ]


@pytest.mark.parametrize(
    ("lane", "what", "wrong"), wrong_decisions(), ids=[case[1] for case in wrong_decisions()]
)
def test_a_decision_that_makes_no_sense_is_an_alarm(
    seam: Seam, lane: str, what: str, wrong: dict[str, Any]
) -> None:
    (event,) = seam.events(1)
    seam.go_live() if lane == "live" else seam.go_dry()
    worker = seam.worker(lane=lane)
    worker.claim()
    with refused("IU032", what):
        worker.record([attempt(event, 0) | wrong], advance=2)
    assert (seam.decisions(), seam.position(lane=lane)) == ({}, (1, 0))


def test_one_record_has_one_decision(seam: Seam) -> None:
    (event,) = seam.events(1)
    seam.go_live()
    worker = seam.worker()
    worker.claim()
    with refused("IU032") as said, worker.session.transaction():
        worker.deliver(event)
        worker.record([attempt(event, 0), attempt(event, 0, "failed")], [letter(0)])
    assert "sent and failed" in said.detail


def test_a_position_never_moves_back(seam: Seam) -> None:
    seam.go_live()
    worker = seam.worker()
    worker.claim(log_start=5)
    with refused("IU031"):
        worker.record(advance=-1)
    worker.record(advance=0)
    assert seam.position() == (1, 5)


def test_a_letter_that_comes_again_does_not_undo_what_was_decided_about_it(seam: Seam) -> None:
    seam.go_live()
    worker = seam.worker()
    for _ in range(2):
        worker.claim()
        worker.record([attempt(None, 0, "failed")], [letter(0)])
        seam.admin.execute("UPDATE iu_route_dead_letter SET state = 'discarded'")
        seam.admin.execute("UPDATE iu_route_offset SET next_offset = 0")
    assert seam.admin.execute("SELECT state FROM iu_route_dead_letter").fetchall() == [("discarded",)]


LANES: list[tuple[str, dict[str, bool], bool]] = [
    ("live", {"enabled": True, "dry_run": False}, True),
    ("live", {"enabled": True, "dry_run": True}, False),
    ("live", {"enabled": False, "dry_run": False}, False),
    ("live", {"enabled": False, "dry_run": True}, False),
    ("dry_run", {"enabled": True, "dry_run": True}, True),
    ("dry_run", {"enabled": True, "dry_run": False}, False),
    ("dry_run", {"enabled": False, "dry_run": True}, False),
]


@pytest.mark.parametrize(("lane", "route", "runs"), LANES)
def test_a_lane_moves_only_while_the_route_runs_in_it(
    seam: Seam, lane: str, route: dict[str, bool], runs: bool
) -> None:
    seam.open(ROUTE)
    seam.set_route(ROUTE, **route)
    worker = seam.worker(lane=lane)
    worker.claim()
    if runs:
        worker.record(advance=1)
    else:
        with refused("42501", f"{lane} {route}") as said:
            worker.record(advance=1)
        assert f"iu route {'enable' if lane == 'live' else 'dry-run'} {ROUTE}" in said.hint
    assert seam.position(lane=lane)[1] == int(runs)


def test_the_dry_run_lane_asks_no_gate(seam: Seam) -> None:
    """It delivers nothing; what the gates would answer is what it is for."""
    (event,) = seam.events(1)
    seam.go_dry()
    seam.admin.execute("DELETE FROM dot_config")
    worker = seam.worker(lane="dry_run")
    worker.claim()
    worker.record([attempt(event, 0, "dry_run", gate="kill_switch", reason="closed")])
    rows = seam.admin.execute("SELECT decision, final, gate, lane FROM iu_route_attempt").fetchall()
    assert rows == [("dry_run", False, "kill_switch", "dry_run")]


def test_a_partition_that_was_never_claimed_is_nobodys_to_record(seam: Seam) -> None:
    seam.go_live()
    with refused("IU031") as said:
        seam.worker().record(advance=1)
    assert "epoch none" in said.detail


def test_a_batch_of_five_hundred_is_one_call(seam: Seam) -> None:
    seam.go_live()
    worker: Worker = seam.worker()
    worker.claim()
    worker.land(*seam.events(500))
    assert (seam.projected(), seam.decisions(), seam.position()) == (500, {"sent": 500}, (1, 500))
    plans = seam.value("SELECT count(DISTINCT owner_epoch) FROM iu_route_attempt")
    assert plans == 1
    assert json.dumps(seam.value("SELECT payload FROM iu_tree_change_log LIMIT 1"))
