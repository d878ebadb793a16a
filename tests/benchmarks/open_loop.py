"""Events at an even pace: how long until a reader sees them, at what cost, and does a writer notice?

A round is a sequence of windows: writers alone, with the relay, writers alone again, with the relay
while a foreign transaction stays open, then each peer. A subject keeps its position from window to
window, so it first takes what was written in the meantime; a beacon event tells when it has caught up.
"""

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Final

import psycopg

from iu_core.errors import Terminal
from tests.benchmarks.blocking import Waits, watched
from tests.benchmarks.child import Child
from tests.benchmarks.loads import wal_bytes
from tests.benchmarks.measuring import measured, tree_rss_bytes
from tests.benchmarks.progress import say
from tests.benchmarks.results import Results, Run, percentile
from tests.benchmarks.systems.live import Live, Running
from tests.benchmarks.world import PARTITIONS, World
from tests.benchmarks.writer_process import APPEND, reason

BEFORE: Final = "writers alone, before"
AFTER: Final = "writers alone, after"
WITH_OPEN: Final = ", a transaction open"
# The writer's start, and what is left out at the beginning of a window.
_START_S: Final = 1.5
_WARM_UP_S: Final = 1.0
# Of a tree that no writer touches.
_HELD_TREE: Final = "held open"


@dataclass(frozen=True, slots=True)
class Pace:
    """One window: `rate` events a second for `seconds`, over `trees` trees of the database `url`."""

    url: str
    trees: int
    rate: int
    seconds: float

    @property
    def events(self) -> int:
        """Events of a window, the warm-up included."""
        return round(self.rate * (self.seconds + _WARM_UP_S))


@dataclass(frozen=True, slots=True)
class Written:
    """An event as its writer saw it; nanoseconds of the monotonic clock."""

    event_ref: str
    due_ns: int
    started_ns: int
    committed_ns: int


def window(world: World, part: str, name: str, pace: Pace, live: Live | None) -> Run:
    """Measure one window with `live` at work, None: with nobody."""
    with ExitStack() as opened:
        running = None if live is None else opened.enter_context(live.running())
        reader = None if running is None else opened.enter_context(_reader(world, pace, running))
        groups = world.groups | ({} if running is None else {"own": running.pid})
        start_ns = time.monotonic_ns() + round(_START_S * 1e9)
        waits = opened.enter_context(watched(pace.url))
        wal_before, dead_before = _wal_bytes(pace.url), _dead_tuples(pace.url)
        writer = opened.enter_context(_writer(world, pace, start_ns))
        _sleep_until(start_ns + round(_WARM_UP_S * 1e9))
        with measured(groups) as used:
            _sleep_until(start_ns + round((_WARM_UP_S + pace.seconds) * 1e9))
        rss_bytes = 0 if running is None else tree_rss_bytes(running.pid)
        written = [Written(*event) for event in writer.answer()["events"]]
        wal = _wal_bytes(pace.url) - wal_before
        counted = [event for event in written if event.due_ns >= start_ns + round(_WARM_UP_S * 1e9)]
        figures = _of_writers(counted, waits) | {
            "wal_mb_per_million": wal / len(written),
            "dead_tuples": max(0.0, _dead_tuples(pace.url) - dead_before),
        }
        faults: tuple[str, ...] = ()
        if reader is not None:
            seen, faults = _read_out(reader, written)
            figures |= _of_reader(counted, seen)
            per_100k = 1e5 / len(counted)
            figures |= {
                "own_cpu_s_per_100k": used.groups["own"] * per_100k,
                "all_cpu_s_per_100k": sum(used.groups.values()) * per_100k,
                "own_rss_mb": rss_bytes / 1e6,
            }
    return Run(part, name, figures, used.foreign_cores, faults)


def rounds(
    world: World, results: Results, part: str, pace: Pace, ours: Live | None, peers: Sequence[Live], runs: int
) -> None:
    """Add `runs` rounds to `results`; without `ours` only the peers are measured."""
    for number in range(1, runs + 1):
        for name, live, held in _windows(ours, peers):
            with transaction_held_open(pace.url) if held else nullcontext():
                run = window(world, part, name, pace, live)
            results.runs.append(run)
            say(f"{part}: {number}/{runs} {_in_words(run)}")


def _windows(ours: Live | None, peers: Sequence[Live]) -> Iterator[tuple[str, Live | None, bool]]:
    """Yield name, subject, and whether a foreign transaction is open meanwhile."""
    if ours is not None:
        yield BEFORE, None, False
        yield ours.name, ours, False
        yield AFTER, None, False
        yield ours.name + WITH_OPEN, ours, True
    for peer in peers:
        yield peer.name, peer, False


def _in_words(run: Run) -> str:
    shown = {
        "commit": ("commit_p50_ms", "commit_p99_ms"),
        "visible": ("visible_p50_ms", "visible_p99_ms", "visible_max_ms"),
    }
    texts = [
        f"{what} {'/'.join(f'{run.figures[name]:.1f}' for name in names)} ms"
        for what, names in shown.items()
        if names[0] in run.figures
    ]
    foreign = f" ({run.foreign_cores:.2f} foreign cores)" if not run.quiet else ""
    faults = f" FAULTS: {', '.join(run.faults)}" if run.faults else ""
    return f"{run.subject}: {', '.join(texts)}{foreign}{faults}"


@contextmanager
def transaction_held_open(url: str) -> Iterator[None]:
    """Hold a transaction open that has an xid and has written an event; roll it back at the end."""
    with psycopg.connect(url, application_name="bench-held") as session:
        session.execute("SET ROLE iu_owner")
        session.execute(
            "INSERT INTO public.iu_tree (tree_id) VALUES (md5('bench tree ' || %s)::uuid)", (_HELD_TREE,)
        )
        session.execute(APPEND, (_HELD_TREE, reason()))
        yield
        session.rollback()


def _of_writers(counted: Sequence[Written], waits: Waits) -> dict[str, float]:
    took = sorted(event.committed_ns - event.started_ns for event in counted)
    first, last = min(event.due_ns for event in counted), max(event.committed_ns for event in counted)
    return {
        "events_per_s": 1e9 * len(counted) / (last - first),
        "commit_p50_ms": percentile(took, 0.5) / 1e6,
        "commit_p99_ms": percentile(took, 0.99) / 1e6,
        "lock_waits": float(waits.found),
    }


def _of_reader(counted: Sequence[Written], seen: Mapping[str, int]) -> dict[str, float]:
    """Commit → visible. An event that was sent late counts from when it would have been committed."""
    came = [event for event in counted if event.event_ref in seen]
    plain = sorted(seen[event.event_ref] - event.committed_ns for event in came)
    took = sorted(
        seen[event.event_ref] - event.committed_ns + (event.started_ns - event.due_ns) for event in came
    )
    return {
        "plain_p50_ms": percentile(plain, 0.5) / 1e6,
        "plain_p99_ms": percentile(plain, 0.99) / 1e6,
        "visible_p50_ms": percentile(took, 0.5) / 1e6,
        "visible_p99_ms": percentile(took, 0.99) / 1e6,
        "visible_max_ms": took[-1] / 1e6,
    }


@contextmanager
def _reader(world: World, pace: Pace, running: Running) -> Iterator[Child]:
    """Start a reader at the end of the topic, and return when a new event has come through to it."""
    words = ("tests.benchmarks.reader_process", running.topic, str(PARTITIONS), running.header)
    environment = world.environment(pace.url, "")
    with Child(words, environment=environment, log=world.log("reader")) as reader:
        reader.hear()
        with psycopg.connect(pace.url, autocommit=True, application_name="bench-beacon") as session:
            session.execute("SET ROLE iu_owner")
            row = session.execute(APPEND, (0, reason())).fetchone()
        assert row is not None
        _await(reader, str(row[0]))
        yield reader


def _await(reader: Child, event_ref: str) -> None:
    if (answer := reader.ask(f"await {event_ref}")) != f"seen {event_ref}":
        raise reader.failed(f"the event that was to come says: {answer}")


def _read_out(reader: Child, written: Sequence[Written]) -> tuple[Mapping[str, int], tuple[str, ...]]:
    for event in sorted(written, key=lambda event: event.committed_ns)[-PARTITIONS:]:
        # One that never comes is counted below, with the others that are missing.
        reader.ask(f"await {event.event_ref}")
    reader.finish_input()
    told = json.loads(reader.hear())
    lost = sum(event.event_ref not in told["seen"] for event in written)
    found = {"lost": lost, "repeated": told["repeated"]}
    return told["seen"], tuple(f"{count:,} {what}" for what, count in found.items() if count)


def _writer(world: World, pace: Pace, start_ns: int) -> Child:
    words = (
        *("tests.benchmarks.writer_process", "--rate", str(pace.rate), "--events", str(pace.events)),
        *("--trees", str(pace.trees), "--start-ns", str(start_ns)),
    )
    return Child(words, environment=world.environment(pace.url, ""), log=world.log("writer"))


def _sleep_until(moment_ns: int) -> None:
    left_s = (moment_ns - time.monotonic_ns()) / 1e9
    if left_s <= 0:
        raise Terminal("the window began before the bench was ready", why=f"{-left_s:.1f} s too late")
    time.sleep(left_s)


def _wal_bytes(url: str) -> float:
    with psycopg.connect(url, autocommit=True) as session:
        return wal_bytes(session)


def _dead_tuples(url: str) -> float:
    return _one(
        url,
        "SELECT n_dead_tup::float8 FROM pg_stat_user_tables WHERE relid = 'public.event_outbox'::regclass",
    )


def _one(url: str, query: str) -> float:
    with psycopg.connect(url, autocommit=True) as session:
        row = session.execute(query).fetchone()
    assert row is not None
    return float(row[0])
