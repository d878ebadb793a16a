"""Hold episodes: one row per standstill, touched by everybody, ended by progress or another cause."""

from concurrent.futures import ThreadPoolExecutor

from iu_core.database import Role
from tests.integration.delivery.seam import HOLD, ROUTE, Seam
from tests.integration.sql.sessions import await_blocked

EPISODES = "SELECT gate, reason, touches, closed_by FROM iu_route_hold ORDER BY opened_at, episode_id"


def test_an_episode_is_opened_touched_and_closed_by_progress(seam: Seam) -> None:
    seam.go_live()
    worker, other = seam.worker(), seam.worker(partition=1, name="other")
    worker.claim()
    episodes = {worker.hold("kill_switch", "closed"), other.hold("kill_switch", "closed")}
    assert len(episodes) == 1
    assert seam.admin.execute(EPISODES).fetchall() == [("kill_switch", "closed", 2, None)]
    assert seam.value("SELECT owner FROM iu_route_hold") == "other"

    worker.record(advance=0)
    assert seam.admin.execute(EPISODES).fetchall() == [("kill_switch", "closed", 2, None)]
    worker.record(advance=1)
    assert seam.admin.execute(EPISODES).fetchall() == [("kill_switch", "closed", 2, "progress")]
    assert worker.hold("kill_switch", "closed") not in episodes


def test_another_gate_or_reason_begins_another_episode(seam: Seam) -> None:
    worker = seam.worker()
    episodes = [
        worker.hold("kill_switch", "closed"),
        worker.hold("allowlist", "closed"),
        worker.hold("allowlist", "not listed"),
    ]
    assert len(set(episodes)) == 3
    assert seam.admin.execute(EPISODES).fetchall() == [
        ("kill_switch", "closed", 1, "another_reason"),
        ("allowlist", "closed", 1, "another_reason"),
        ("allowlist", "not listed", 1, None),
    ]


def test_lanes_and_routes_hold_by_themselves(seam: Seam) -> None:
    seam.go_live()
    live, dry = seam.worker(), seam.worker(lane="dry_run")
    other = seam.worker(route="structure_reparented")
    assert len({worker.hold("kill_switch", "closed") for worker in (live, dry, other)}) == 3
    live.claim()
    live.record(advance=1)
    open_holds = "SELECT route_code, lane FROM iu_route_hold WHERE closed_at IS NULL ORDER BY 1, 2"
    assert seam.admin.execute(open_holds).fetchall() == [(ROUTE, "dry_run"), ("structure_reparented", "live")]


def test_two_processes_that_find_none_open_share_the_one_that_came_first(seam: Seam) -> None:
    """The second waits at the index for the first, and touches what it finds."""
    one, two = seam.worker(name="one"), seam.worker(name="two")
    with ThreadPoolExecutor() as pool:
        with one.session.transaction():
            first = one.hold("kill_switch", "closed")
            second = pool.submit(two.hold, "kill_switch", "closed")
            await_blocked(seam.admin, two.session, by=one.session)
        assert second.result() == first
    assert seam.admin.execute(EPISODES).fetchall() == [("kill_switch", "closed", 2, None)]


def test_a_hold_is_written_while_a_gate_is_closing(seam: Seam) -> None:
    """It takes no gate lock: a closer that has not committed yet does not keep it waiting."""
    closer, worker = seam.session(Role.GATEKEEPER), seam.worker()
    with closer.transaction():
        closer.execute("UPDATE dot_config SET value = 'false'")
        assert worker.call(HOLD, ROUTE, "live", "kill_switch", "closed", "worker")
