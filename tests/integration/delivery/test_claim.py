"""Claiming: the newest claimant owns a partition, at the place where it stood."""

from concurrent.futures import ThreadPoolExecutor

from iu_core.database import Role
from tests.integration.delivery.seam import CLAIM, ENABLED, LIVE_ROUTES, ROUTE, TOPIC, TOPIC_ID, Seam, attempt
from tests.integration.sql.sessions import await_blocked, refused


def check_a_stale_owner_changes_nothing(seam: Seam) -> None:
    """What a replaced owner delivered goes with its transaction, and its position does not move."""
    first, second = seam.events(2)
    seam.go_live()
    stale, owner = seam.worker(name="stale"), seam.worker(name="owner")
    stale.claim()
    stale.land(first)
    owner.claim()
    with refused("IU031") as said:
        stale.land(second)
    assert "owner owner" in said.detail
    assert (seam.projected(), seam.decisions(), seam.position()) == (1, {"sent": 1}, (2, 1))
    owner.land(second)
    assert (seam.projected(), seam.decisions(), seam.position()) == (2, {"sent": 2}, (2, 2))


def check_a_batch_is_recorded_once(seam: Seam) -> None:
    """A batch recorded from an offset that has passed, or has not been reached, is refused whole."""
    first, second = seam.events(2)
    seam.go_live()
    worker = seam.worker()
    worker.claim()
    worker.land(first)
    for place in (0, 5):
        worker.next = place
        with refused("IU031"):
            worker.land(second)
    assert (seam.projected(), seam.decisions(), seam.position()) == (1, {"sent": 1}, (1, 1))


def check_a_topic_made_again_is_noticed(seam: Seam) -> None:
    """Offsets of a topic of the same name and another id mean nothing: no claim, nothing changed."""
    seam.go_live()
    worker, other = seam.worker(), seam.worker(partition=1)
    worker.claim()
    worker.record(advance=7)
    for claimant in (worker, other):
        with refused("IU030") as said:
            claimant.claim(topic_id="topic-id-2")
    assert TOPIC_ID in said.detail
    assert "topic-id-2" in said.detail
    assert seam.admin.execute(
        "SELECT partition, owner_epoch, next_offset FROM iu_route_offset"
    ).fetchall() == [(0, 1, 7)]


def test_a_stale_owner_changes_nothing(seam: Seam) -> None:
    check_a_stale_owner_changes_nothing(seam)


def test_a_batch_is_recorded_once(seam: Seam) -> None:
    check_a_batch_is_recorded_once(seam)


def test_a_topic_made_again_is_noticed(seam: Seam) -> None:
    check_a_topic_made_again_is_noticed(seam)


def test_the_first_claim_starts_at_the_first_record_and_later_ones_where_it_stood(seam: Seam) -> None:
    seam.go_dry()
    worker = seam.worker(lane="dry_run")
    assert worker.claim(log_start=17)["partitions"] == [
        {"partition": 0, "next_offset": 17, "start_offset": 17, "owner_epoch": 1}
    ]
    worker.record(advance=3)
    assert worker.claim(log_start=19)["partitions"] == [
        {"partition": 0, "next_offset": 20, "start_offset": 17, "owner_epoch": 2}
    ]


def test_a_claim_tells_route_and_switches_as_stored(seam: Seam) -> None:
    seam.switch(ENABLED, "perhaps")
    seam.switch(LIVE_ROUTES, None)
    assert seam.worker().claim() == {
        "route": {
            "route_code": ROUTE,
            "event_type": "structure_child_added",
            "target_kind": "sql_function",
            "target_ref": "fn_iu_structure_consumer",
            "enabled": False,
            "dry_run": True,
        },
        "switches": {"delivery_enabled": "perhaps", "live_routes": None},
        "partitions": [{"partition": 0, "next_offset": 0, "start_offset": 0, "owner_epoch": 1}],
    }


def test_a_look_claims_nothing(seam: Seam) -> None:
    assert seam.worker().look()["partitions"] == []
    unknown = seam.worker(route="unknown")
    assert unknown.look()["route"] is None
    with refused("42501"):
        unknown.claim()
    assert seam.value("SELECT count(*) FROM iu_route_offset") == 0


def test_many_partitions_are_claimed_at_once_and_answered_in_order(seam: Seam) -> None:
    answer = seam.worker().call(CLAIM, ROUTE, "live", TOPIC, TOPIC_ID, [3, 0, 2], [30, 0, 20], "worker")
    assert [(each["partition"], each["next_offset"]) for each in answer["partitions"]] == [
        (0, 0),
        (2, 20),
        (3, 30),
    ]


def test_lanes_and_routes_have_positions_of_their_own(seam: Seam) -> None:
    seam.go_dry()
    dry, live, other = seam.worker(lane="dry_run"), seam.worker(), seam.worker(route="structure_reparented")
    for worker in (dry, live, other):
        worker.claim()
    dry.record(advance=5)
    assert [worker.claim()["partitions"][0]["next_offset"] for worker in (dry, live, other)] == [5, 0, 0]


def test_a_claim_waits_for_the_batch_under_way_and_goes_on_after_it(seam: Seam) -> None:
    """Without the wait the new owner would start before a batch that then commits."""
    (event,) = seam.events(1)
    seam.go_live()
    leaving, coming = seam.worker(name="leaving"), seam.worker(name="coming")
    leaving.claim()
    with ThreadPoolExecutor() as pool, leaving.session.transaction():
        leaving.deliver(event)
        leaving.record([attempt(event, 0)])
        claim = pool.submit(coming.claim)
        await_blocked(seam.admin, coming.session, by=leaving.session)
    assert claim.result()["partitions"][0]["next_offset"] == 1


def test_a_batch_that_waits_for_a_claim_is_fenced(seam: Seam) -> None:
    """The compare-and-set looks at what stands after its wait, not at what stood before."""
    (event,) = seam.events(1)
    seam.go_live()
    leaving, coming = seam.worker(name="leaving"), seam.worker(name="coming")
    leaving.claim()
    with ThreadPoolExecutor() as pool:
        with coming.session.transaction():
            coming.claim()
            landing = pool.submit(leaving.land, event)
            await_blocked(seam.admin, leaving.session, by=coming.session)
        with refused("IU031"):
            landing.result()
    assert (seam.projected(), seam.position()) == (0, (2, 0))


def test_claims_in_opposite_order_queue_up(seam: Seam) -> None:
    """If rows were locked in the order asked for, these two would wait for each other."""
    keeper = seam.session(Role.OWNER)
    one, two = seam.worker(name="one"), seam.worker(name="two")
    arguments = (ROUTE, "live", TOPIC, TOPIC_ID)
    one.call(CLAIM, *arguments, [0, 1], [0, 0], "one")
    with ThreadPoolExecutor() as pool:
        with keeper.transaction():
            keeper.execute("SELECT FROM iu_route_offset WHERE partition = 0 FOR UPDATE")
            first = pool.submit(one.call, CLAIM, *arguments, [0, 1], [0, 0], "one")
            await_blocked(seam.admin, one.session, by=keeper)
            second = pool.submit(two.call, CLAIM, *arguments, [1, 0], [0, 0], "two")
            await_blocked(seam.admin, two.session, by=one.session)
        epochs = [each["owner_epoch"] for done in (first, second) for each in done.result()["partitions"]]
    assert epochs == [2, 2, 3, 3]
