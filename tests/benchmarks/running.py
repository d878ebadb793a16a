"""One invocation from its first fill to its last run."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from tests.benchmarks.drains import drain
from tests.benchmarks.goals import DEFAULT, EXACTLY_ONCE
from tests.benchmarks.growth import grow
from tests.benchmarks.loads import Load, fill
from tests.benchmarks.open_loop import Pace, rounds
from tests.benchmarks.plan import Plan
from tests.benchmarks.progress import say
from tests.benchmarks.results import Absent, Results
from tests.benchmarks.systems.connect import Worker, libraries
from tests.benchmarks.systems.debezium import Debezium, LiveDebezium, prepare
from tests.benchmarks.systems.limits import NAMES, Limit
from tests.benchmarks.systems.live import LiveRelay
from tests.benchmarks.systems.relay import NAME, Relay
from tests.benchmarks.systems.subject import Backlog, Subject
from tests.benchmarks.world import World

_WARM_UP_ROWS = 20_000
# As many as it takes until a JVM has compiled what it does.
_WARM_UP_ROWS_OF_PEERS = 100_000
# What the open loop finds in the outbox.
_HISTORY_ROWS = 20_000
# The large backlog is for what could be slower in the long run, not for every limit again.
_LARGE_LIMITS = ("read", "batched")


@dataclass(slots=True)
class Bench:
    """What every part needs: servers, what is asked for, where results go, and the peers, if any."""

    world: World
    plan: Plan
    results: Results
    peers: Sequence[Debezium] = field(default=())
    _backlogs: dict[Load, Backlog] = field(default_factory=dict)

    def run(self) -> None:
        """Run the parts of the plan, adding to the results as they come."""
        plan = self.plan
        if plan.peers:
            self.peers = self._started_peers()
        self._warm_up()
        if "drain" in plan.parts:
            self._drain(plan.rows, plan.runs, tuple(NAMES))
            if plan.large_runs:
                if plan.large_runs < plan.runs:
                    note = (
                        f"{plan.large_rows:,} rows were drained {plan.large_runs} times only, to save time."
                    )
                    self.results.notes.append(note)
                self._drain(plan.large_rows, plan.large_runs, _LARGE_LIMITS)
        if "open-loop" in plan.parts:
            self._open_loop()
        if "growth" in plan.parts:
            runs = plan.large_runs or 1
            grow(self.world, self.results, self._load(plan.growth_rows), self._backlog, runs)

    def _started_peers(self) -> Sequence[Debezium]:
        """Start a worker of each kind that is wanted. The one that is not at work idles meanwhile."""
        wanted = [mode for mode, name in ((True, EXACTLY_ONCE), (False, DEFAULT)) if self.plan.wants(name)]
        if not wanted:
            return ()
        found = libraries(self.world)
        if isinstance(found, str):
            self.results.absent.append(Absent("every part", "Debezium", found))
            say(f"Debezium left out: {found}")
            return ()
        say(f"starting Kafka Connect with Debezium {found.debezium}")
        return [Debezium(self.world, Worker(self.world, found, exactly_once=mode)) for mode in wanted]

    def _warm_up(self) -> None:
        """One drain of each subject that nobody looks at: caches, and the compilers of the JVMs."""
        rows = _WARM_UP_ROWS_OF_PEERS if self.peers else _WARM_UP_ROWS
        backlog = self._backlog(self._load(min(rows, self.plan.rows)))
        drain(Results([], [], []), "warm-up", backlog, self._subjects(("librdkafka",)), 1)

    def _drain(self, rows: int, runs: int, limits: Sequence[str]) -> None:
        load = self._load(rows)
        drain(self.results, f"drain: {load.name}", self._backlog(load), self._subjects(limits), runs)

    def _open_loop(self) -> None:
        plan = self.plan
        load = self._load(min(_HISTORY_ROWS, plan.rows))
        # One of its own: it is written to.
        url = self._filled(load).url
        ours = LiveRelay(Relay(self.world), url) if plan.wants(NAME) else None
        peers = [LiveDebezium(peer, url) for peer in self.peers]
        part = f"open loop: {plan.rate:,} events/s, windows of {plan.seconds:g} s"
        pace = Pace(url, load.trees, plan.rate, plan.seconds)
        rounds(self.world, self.results, part, pace, ours, peers, plan.runs)

    def _subjects(self, limits: Sequence[str]) -> list[Subject]:
        subjects: list[Subject] = [
            *(Limit(self.world, kind) for kind in limits),
            Relay(self.world),
            *self.peers,
        ]
        return [subject for subject in subjects if self.plan.wants(subject.name)]

    def _load(self, rows: int) -> Load:
        return Load(rows, transaction_rows=self.plan.transaction_rows)

    def _backlog(self, load: Load) -> Backlog:
        """Return a filled outbox for every subject and part to drain; nothing of it is changed by that."""
        if load not in self._backlogs:
            self._backlogs[load] = self._filled(load)
        return self._backlogs[load]

    def _filled(self, load: Load) -> Backlog:
        url = self.world.make_database()
        if self.peers:
            prepare(url)
        return Backlog(url, load, fill(url, load))
