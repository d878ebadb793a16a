"""Consumers killed and frozen during a live drain while switches close and open: G4, G5, G6, G9.

Four processes serve two routes as one group each; a writer and a relay feed them all the while.
Again and again one is killed (SIGKILL), or frozen (SIGSTOP) and replaced by a successor of its
name, and woken later as a zombie. Meanwhile somebody closes the kill switch or the allowlist by
plain UPDATE and opens it again.

Each close counts the projection inside its own transaction: whatever lands after that count has
passed a gate that was closed. At the end everything has landed, once. Seeded, bounded, printed;
`IU_TEST_CHAOS=full` runs the long counts. Planted
faults: tests/unit/consumers/test_planted_faults.py, tests/integration/delivery/test_planted_faults.py.
"""

import os
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from producers.relay.contracts import BundledContracts
from producers.relay.service import RelayService
from schemas.catalog import Catalog
from tests.chaos.consumer_process import ConsumerProcess, full
from tests.conftest import RunIu
from tests.integration.consumers.world import (
    TURN_ALLOWLIST,
    TURN_DELIVERY,
    World,
    effects,
    made_world,
)
from tests.integration.sql.sessions import Editor, session

ROUTES = ("structure_child_added", "structure_reparented")
WORKERS = 4
KILLS = 200 if full() else 20
FREEZE_EVERY = 4
SEED = int(os.environ.get("IU_TEST_SEED", "1"))
CLOSE_MAX_S = 1.0
BURST = """
    SELECT count(*) FROM generate_series(1, 20) AS turn, LATERAL fn_iu_structure_op_reparent(
      %s, CASE turn %% 2 WHEN 0 THEN %s::uuid ELSE %s::uuid END, NULL, 'ada', 'a burst')
"""
CLOSED_S = 0.25
DRAIN_MAX_S = 120

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(1_800 if full() else 280)]


@dataclass
class Drill:
    """What the closes took, in seconds, and the rows that landed after one had returned."""

    took_s: list[float] = field(default_factory=list)
    landed_after: list[str] = field(default_factory=list)


@contextmanager
def in_background(work: Callable[[threading.Event], None]) -> Iterator[None]:
    """Run `work` in a thread until the block ends; its fault is the test's."""
    stop, faults = threading.Event(), list[BaseException]()

    def run() -> None:
        try:
            work(stop)
        except BaseException as fault:  # handed on below
            faults.append(fault)

    thread = threading.Thread(target=run, name=work.__name__, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(timeout=60)
    assert not thread.is_alive(), f"{work.__name__} hangs"
    assert not faults, faults


@pytest.fixture
def world(migrated_url: str, kafka_bootstrap: str, bus_prefix: str) -> Iterator[World]:
    # Small batches: many transactions, so that a kill finds one at every point of its life.
    with made_world(migrated_url, kafka_bootstrap, bus_prefix, batch_rows_max=10) as made:
        yield made


def writing(world: World, trees: int = 40) -> Callable[[threading.Event], None]:
    def write(stop: threading.Event) -> None:
        editor, chance = Editor(world.url), random.Random(SEED)
        roots = [editor.add(None) for _ in range(trees)]
        places = [(editor.add(root), editor.add(root), editor.add(root)) for root in roots]
        while not stop.wait(0.01):
            index = chance.randrange(trees)
            here, there, unit = places[index]
            if chance.random() < 0.5:
                editor.add(roots[index])
            else:
                editor.session.execute(BURST, (unit, here, there))
        editor.session.close()

    return write


def relaying(world: World) -> Callable[[threading.Event], None]:
    def relay(stop: threading.Event) -> None:
        contracts = BundledContracts(Catalog.bundled(), "iu.structure.events")
        RelayService(world.settings, world.url, contracts).run(stop)

    return relay


def closing(world: World, drill: Drill) -> Callable[[threading.Event], None]:
    count = "SELECT count(*), coalesce(max(id), 0) FROM iu_tree_change_log"
    ways = ((TURN_DELIVERY, "false", "true"), (TURN_ALLOWLIST, "", ",".join(ROUTES)))

    def close_and_open(stop: threading.Event) -> None:
        turn = 0
        with session(world.url, None, name="the closer") as closer:
            closer.execute("SELECT set_config('iu.reason', 'a drill', false)")
            while not stop.wait(0.4):
                statement, shut, opened = ways[turn % len(ways)]
                turn += 1
                started = time.monotonic()
                with closer.transaction():
                    closer.execute(statement, (shut,))
                    seen = closer.execute(count).fetchone()
                drill.took_s.append(time.monotonic() - started)
                stop.wait(CLOSED_S)
                later = closer.execute(count).fetchone()
                if later != seen:
                    drill.landed_after.append(f"close {turn}: {seen} became {later}")
                closer.execute(statement, (opened,))

    return close_and_open


def strike(workers: list[ConsumerProcess]) -> tuple[int, Counter[int]]:
    """Kill or freeze a worker again and again; return how many zombies woke, and who ended how."""
    chance, ended, zombies = random.Random(SEED), Counter[int](), 0
    for number in range(KILLS):
        time.sleep(0.4 + 0.6 * chance.random())
        for worker in workers:
            if (code := worker.restart_if_dead()) is not None:
                ended[code] += 1
        victim = chance.choice(workers)
        if number % FREEZE_EVERY == FREEZE_EVERY - 1:
            victim.freeze()
        else:
            victim.kill()
        if number % FREEZE_EVERY == 1:
            for worker in workers:
                zombies += len(worker.stopped)
                worker.wake()
    return zombies, ended


def everything_sent(world: World) -> bool:
    figures = effects(world, ROUTES)
    return figures["events"] > 0 and len(set(figures.values())) == 1


def test_twenty_kills_under_a_closing_gate_lose_nothing_and_repeat_nothing(
    world: World, tmp_path: Path, iu: RunIu
) -> None:
    world.go_live(*ROUTES)
    drill = Drill()
    with ExitStack() as opened:
        opened.enter_context(in_background(relaying(world)))
        workers = [
            ConsumerProcess(world, f"worker-{number}", ROUTES, tmp_path / f"worker-{number}.log")
            for number in range(WORKERS)
        ]
        with in_background(writing(world)):
            for worker in workers:
                opened.callback(worker.end)
                worker.start()
            # Each has a share in each group: from here on every strike hits an owner.
            world.await_that(
                "count(DISTINCT (route_code, split_part(owner, '/', 1))) = %s FROM iu_route_offset",
                WORKERS * len(ROUTES),
                within_s=60,
            )
            with in_background(closing(world, drill)):
                zombies, ended = strike(workers)
            sent_under_fire = effects(world, ROUTES)["sent"]
        # The relay goes on in the background; what it has not published yet, it will.
        give_up_at = time.monotonic() + DRAIN_MAX_S
        while not everything_sent(world):
            assert time.monotonic() < give_up_at, (effects(world, ROUTES), workers[0].said())
            for worker in workers:
                worker.restart_if_dead()
            time.sleep(0.2)
        fates = Counter(zombie.poll() for worker in workers for zombie in worker.stopped)
    figures = effects(world, ROUTES)
    print(  # noqa: T201 - the figures of the run
        f"seed {SEED}: {KILLS} strikes, {zombies} zombies woken, their exit codes {dict(fates)};"
        f" ended by themselves {dict(ended)};"
        f" {len(drill.took_s)} closes, the longest {1_000 * max(drill.took_s):.0f} ms;"
        f" {sent_under_fire} sent under fire; {figures}"
    )
    assert sent_under_fire > KILLS
    assert zombies > 0
    assert len(drill.took_s) >= KILLS // 4
    assert drill.landed_after == []
    assert max(drill.took_s) < CLOSE_MAX_S
    assert world.one("SELECT count(*) FROM iu_route_dead_letter") == 0
    assert world.one("SELECT count(*) FROM iu_route_attempt WHERE decision <> 'sent'") == 0
    assert ended.keys() <= {75, 76}, {worker.name: worker.said() for worker in workers}
    verified = iu("verify", "--json", env=world.environment)
    assert verified.exit_code == 0, verified.stderr
