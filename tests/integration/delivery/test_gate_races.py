"""A close is prompt, and final: once its statement has returned, no projection row commits.

The same three promises for every statement that closes something, on dot_config as on
iu_outbound_route: deliveries that come later queue behind it, it is not starved by workers
running free, and a close that goes past the trigger still waits. Without the advisory lock
in fn_iu_delivery_gate the first two fail, without FOR SHARE the third, without the queue
trigger the second. Nothing sleeps to let another happen: pg_blocking_pids() tells who waits.
"""

# ruff: noqa: S608 -- every statement here is built from constants

import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import psycopg
import pytest
from psycopg.errors import InsufficientPrivilege

from tests.integration.delivery.seam import DEADLINE_S, ENABLED, LIVE_ROUTES, ROUTE, Event, Seam, Worker
from tests.integration.sql.sessions import Session

WORKERS = 4
EVENTS_EACH = 120
# As long as a batch takes, and never twice alike: four workers must not pause in step.
BATCH = "0.02 + 0.06 * random()"

SWITCHES = {
    "kill switch": f"UPDATE dot_config SET value = 'false' WHERE key = '{ENABLED}'",
    "kill switch removed": f"DELETE FROM dot_config WHERE key = '{ENABLED}'",
    "allowlist": f"UPDATE dot_config SET value = '' WHERE key = '{LIVE_ROUTES}'",
    "allowlist removed": f"DELETE FROM dot_config WHERE key = '{LIVE_ROUTES}'",
}
ROUTES = {
    "disable": f"UPDATE iu_outbound_route SET enabled = false WHERE route_code = '{ROUTE}'",
    "dry-run": f"UPDATE iu_outbound_route SET dry_run = true WHERE route_code = '{ROUTE}'",
    "target": f"UPDATE iu_outbound_route SET target_kind = 'http' WHERE route_code = '{ROUTE}'",
    "unregister": f"DELETE FROM iu_outbound_route WHERE route_code = '{ROUTE}'",
}
CLOSES = SWITCHES | ROUTES
REFUSALS = (InsufficientPrivilege, psycopg.errors.FeatureNotSupported)


def staff(seam: Seam, count: int, *, events_each: int = 1) -> list[tuple[Worker, list[Event]]]:
    """Return `count` live workers, each with its own partition claimed and its own events."""
    seam.go_live()
    events = seam.events(count * events_each)
    staffed = []
    for number in range(count):
        worker = seam.worker(partition=number, name=f"worker {number}")
        worker.claim()
        staffed.append((worker, events[number * events_each : (number + 1) * events_each]))
    return staffed


def await_waiting(observer: Session, waiter: Session, waiting: Future[Any], *, by: Session) -> None:
    """Return once `waiter` waits for a lock that `by` holds or asked for earlier; fail if it is done."""
    give_up_at = time.monotonic() + DEADLINE_S
    pids = (by.info.backend_pid, waiter.info.backend_pid)
    while observer.execute("SELECT %s = ANY (pg_blocking_pids(%s))", pids).fetchone() != (True,):
        assert not waiting.done(), "went on without waiting"
        assert time.monotonic() < give_up_at, "never waited"


def check_later_deliveries_queue_behind_a_close(seam: Seam, close: str) -> None:
    """One delivery is under way, a close waits for it, the next deliveries wait for the close."""
    (first, (event,)), *later = staff(seam, 1 + WORKERS)
    closer = seam.session(name="closer")
    with ThreadPoolExecutor() as pool:
        with first.session.transaction():
            first.deliver(event)
            closing = pool.submit(closer.execute, close)
            await_waiting(seam.admin, closer, closing, by=first.session)
            landings = [pool.submit(worker.land, *events) for worker, events in later]
            for (worker, _), landing in zip(later, landings, strict=True):
                await_waiting(seam.admin, worker.session, landing, by=closer)
        assert closing.result().rowcount == 1
        assert [type(landing.exception()) in REFUSALS for landing in landings] == [True] * WORKERS
    assert seam.projected() == 1


def check_no_row_lands_after_a_close_under_load(seam: Seam, close: str) -> None:
    """Four workers land batches without a pause; the close gets through, and nothing after it."""
    staffed = staff(seam, WORKERS, events_each=EVENTS_EACH)
    closer = seam.session(name="closer")

    def land_until_refused(worker: Worker, events: Sequence[Event]) -> None:
        for event in events:
            worker.land(event, pause=BATCH)

    with ThreadPoolExecutor() as pool:
        runs = [pool.submit(land_until_refused, worker, events) for worker, events in staffed]
        give_up_at = time.monotonic() + DEADLINE_S
        while seam.value("SELECT count(DISTINCT partition) FROM iu_route_attempt") < WORKERS:
            assert time.monotonic() < give_up_at, "not every worker has landed a batch"
        issued = time.monotonic()
        closer.execute(close)
        took_s = time.monotonic() - issued
        landed_at_return = seam.projected()
        assert [type(run.exception()) in REFUSALS for run in runs] == [True] * WORKERS
    assert seam.projected() == landed_at_return
    assert seam.decisions() == {"sent": landed_at_return}
    assert took_s < 1


def check_a_close_past_the_trigger_still_waits(seam: Seam, close: str) -> None:
    """The row locks hold what the advisory lock cannot: whoever switches the triggers off."""
    ((worker, (event,)),) = staff(seam, 1)
    closer = seam.session(name="closer")
    for table in ("dot_config", "iu_outbound_route"):
        seam.admin.execute(f"ALTER TABLE {table} DISABLE TRIGGER ALL")
    with ThreadPoolExecutor() as pool:
        with worker.session.transaction():
            worker.deliver(event)
            closing = pool.submit(closer.execute, close)
            await_waiting(seam.admin, closer, closing, by=worker.session)
        assert closing.result().rowcount == 1
    assert seam.projected() == 1


def check_a_batch_without_delivery_waits_too(seam: Seam, close: str) -> None:
    """Recording takes the locks by itself: a batch of dead letters cannot pass a close either."""
    (first, _), (second, _) = staff(seam, 2)
    closer = seam.session(name="closer")
    with ThreadPoolExecutor() as pool:
        with first.session.transaction():
            first.record(advance=1)
            closing = pool.submit(closer.execute, close)
            await_waiting(seam.admin, closer, closing, by=first.session)
            recording = pool.submit(second.record, advance=1)
            await_waiting(seam.admin, second.session, recording, by=closer)
        assert closing.result().rowcount == 1
        assert type(recording.exception()) in REFUSALS
    assert (seam.position(0), seam.position(1)) == ((1, 1), (1, 0))


@pytest.mark.parametrize("close", CLOSES)
def test_later_deliveries_queue_behind_a_close(seam: Seam, close: str) -> None:
    check_later_deliveries_queue_behind_a_close(seam, CLOSES[close])


@pytest.mark.parametrize("close", ["kill switch", "allowlist", "disable", "dry-run"])
def test_no_row_lands_after_a_close_under_load(seam: Seam, close: str) -> None:
    check_no_row_lands_after_a_close_under_load(seam, CLOSES[close])


@pytest.mark.parametrize("close", CLOSES)
def test_a_close_past_the_trigger_still_waits(seam: Seam, close: str) -> None:
    check_a_close_past_the_trigger_still_waits(seam, CLOSES[close])


@pytest.mark.parametrize("close", ["kill switch", "disable"])
def test_a_batch_without_delivery_waits_too(seam: Seam, close: str) -> None:
    check_a_batch_without_delivery_waits_too(seam, CLOSES[close])


@pytest.mark.parametrize("close", ["kill switch", "disable"])
def test_a_close_in_replica_mode_queues_like_any_other(seam: Seam, close: str) -> None:
    """ENABLE ALWAYS: a plain trigger would sleep, and the close be starved."""
    ((worker, (event,)),) = staff(seam, 1)
    closer = seam.session(name="closer")
    closer.execute("SET session_replication_role = replica")
    with ThreadPoolExecutor() as pool:
        with worker.session.transaction():
            worker.deliver(event)
            closing = pool.submit(closer.execute, CLOSES[close])
            await_waiting(seam.admin, closer, closing, by=worker.session)
            waits_for = "SELECT locktype FROM pg_locks WHERE pid = %s AND NOT granted"
            assert seam.value(waits_for, closer.info.backend_pid) == "advisory"
        assert closing.result().rowcount == 1


def test_gates_opened_and_closed_under_load_lose_and_double_nothing(seam: Seam) -> None:
    """Workers that go on after every refusal land each event once; no change meets a deadlock."""
    staffed = staff(seam, WORKERS, events_each=40)
    keeper, registrar = seam.session(name="keeper"), seam.session(name="registrar")

    def land_all(worker: Worker, events: Sequence[Event]) -> int:
        refusals, give_up_at = 0, time.monotonic() + 4 * DEADLINE_S
        for event in events:
            while True:
                assert time.monotonic() < give_up_at
                try:
                    worker.land(event, pause="0.01 * random()")
                    break
                except InsufficientPrivilege:
                    refusals += 1
        return refusals

    def flap(session: Session, close: str, reopen: str) -> None:
        for _ in range(15):
            session.execute(close)
            session.execute(reopen)

    with ThreadPoolExecutor() as pool:
        runs = [pool.submit(land_all, worker, events) for worker, events in staffed]
        reopen = f"UPDATE dot_config SET value = 'true' WHERE key = '{ENABLED}'"
        flaps = [
            pool.submit(flap, keeper, CLOSES["kill switch"], reopen),
            pool.submit(
                flap,
                registrar,
                CLOSES["dry-run"],
                ROUTES["dry-run"].replace("dry_run = true", "dry_run = false"),
            ),
        ]
        for flapping in flaps:
            flapping.result()
        refusals = sum(run.result() for run in runs)
    assert (seam.projected(), seam.decisions()) == (160, {"sent": 160})
    assert refusals > 0
