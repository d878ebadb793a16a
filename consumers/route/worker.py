"""The consumer of one route: follow its state, hold where a gate says no, wait where something is away.

A step is one poll and what follows from it, so it is bounded, and the membership is kept whatever
happens: holding and waiting are steps too, with the partitions silent. Several times a second the
worker looks at route and switches, and by that is idle, in the dry-run lane or in the live one; each
lane is a group with positions of its own, and going from one to the other leaves one and joins the other.

| fault                                        | what follows                                          |
|----------------------------------------------|-------------------------------------------------------|
| `Retryable` (database or broker away, 40, …) | wait, with jitter, ever longer; nothing is written    |
| `Refused` (42501, 0A000, IU030)              | hold: one episode, looked at again all the time       |
| `Fenced` by the database (IU031)             | that partition is dropped (`lane`)                    |
| a record that we must not go past            | hold, alarm, read again: a deployment mends it        |
| `PositionLost`, `RecordCorrupt`              | hold, alarm, with a new member                        |
| `Fenced` by the broker, any other            | raised: the process ends                              |

Source: design/30, "Decisions, in this order".
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Protocol, assert_never

from consumers.route.decide import Decision, Deliver, Hold, Idle, Plan, decide
from consumers.route.lane import LaneRun
from consumers.route.ledger import Ledger, Place
from consumers.route.progress import Progress, State
from consumers.route.reading import Reader
from iu_core.bus.names import Lane
from iu_core.bus.ports import GroupMember, PositionLost, RecordCorrupt, Topic
from iu_core.errors import IUError, Refused, Retryable
from iu_core.telemetry import get_logger

log = get_logger(__name__)

_WAIT_MIN_S: Final = 0.05
_WAIT_MAX_S: Final = 5.0
# A hold that lasts is reported this often: an old report means that nobody is running.
_REPORT_S: Final = 5.0
_TOPIC_CHECK_S: Final = 5.0
# A new member costs a rebalance, so one that broke is not replaced at every look.
_REJOIN_S: Final = 5.0
_TOPIC_MADE_AGAIN: Final = "IU030"
_GATES: Final = ("kill_switch", "allowlist", "target")
# So many polls without a record, after the partitions were told to speak again: nothing is there.
_POLLS_TO_REFETCH: Final = 5


class Topics(Protocol):
    """The events topic as the broker describes it. Raises `Retryable` while it cannot be asked."""

    def describe(self) -> Topic | None:
        """Return the topic, None while there is none."""

    def starts(self) -> Mapping[int, int]:
        """Return the first offset that each partition still holds."""

    def ends(self) -> Mapping[int, int]:
        """Return the end of each partition, as a reader of committed records sees it."""


@dataclass(frozen=True, slots=True)
class Tempo:
    """How long a poll waits at most, and how often the route is looked at, in seconds."""

    poll_s: float
    look_s: float


@dataclass(frozen=True, slots=True)
class Ports:
    """What a worker works with. `join(lane)` makes a member, `read(event_type)` a reader.

    `wait(seconds)` returns early when the process is to stop. `clock_s` is monotonic, `random()`
    lies in [0, 1).
    """

    ledger: Ledger
    topics: Topics
    join: Callable[[Lane], GroupMember]
    read: Callable[[str], Reader]
    wait: Callable[[float], object]
    clock_s: Callable[[], float]
    random: Callable[[], float]


class RouteWorker:
    """Consumes one route; one thread at a time. Call `step` until you stop, then `close`."""

    def __init__(self, route_code: str, ports: Ports, tempo: Tempo, *, owner: str, rows_max: int) -> None:
        self._route_code = route_code
        self._ports = ports
        self._tempo = tempo
        self._owner = owner
        self._rows_max = rows_max
        self._decision: Decision | None = None
        self._event_type = ""
        self._run: LaneRun | None = None
        self._topic_missing = False
        self._look_at = self._quiet_until = self._topic_check_at = 0.0
        self._failures = 0
        self._held: tuple[str, str] | None = None
        self._report_at = 0.0
        self._quiet_polls = 0
        self.progress = Progress(route_code)

    def step(self) -> None:
        """Do what there is to do, for about `poll_s` at most where there is nothing.

        Raises what ends the process: `Fenced` by the broker, `Terminal`.
        """
        try:
            self._look()
            if self._run is None:
                self._enter()
            else:
                self._work(self._run)
        except Retryable as error:
            self._wait_for(error)
        except Refused as error:
            self._refused(error)
        except (PositionLost, RecordCorrupt) as error:
            self._leave()
            self._hold("topic" if isinstance(error, PositionLost) else "record", error, for_s=_REJOIN_S)

    def settled(self) -> bool:
        """Return whether nothing more can be done now: idle, held, or at the end of every partition ours."""
        if self._failures or self._decision is None:
            return False
        if self._held is not None:
            return True
        if self._run is None:
            return isinstance(self._decision, Idle) or self._topic_missing
        if not self._quiet_polls:
            return False
        try:
            return self._run.at_end(self._ports.topics.ends())
        except Retryable as error:
            self._wait_for(error)
            return False

    @property
    def failures(self) -> int:
        """How many steps in a row have ended with something being away."""
        return self._failures

    def close(self) -> None:
        """Leave the group and disconnect."""
        self._leave()
        self._ports.ledger.close()

    def _look(self) -> None:
        """Read route and switches, and decide, if it is time to."""
        now = self._ports.clock_s()
        if now < max(self._look_at, self._quiet_until if self._failures else 0):
            return
        view = self._ports.ledger.look(self._route_code)
        self._look_at = now + self._tempo.look_s
        self._decision = decide(view.route, view.switches)
        lane = _lane_of(self._decision)
        event_type = "" if view.route is None else view.route.event_type
        if self._run is not None and (self._run.place.lane != lane or self._event_type != event_type):
            self._leave()
        self._event_type = event_type
        if lane is None:
            self._held = None
            self._say("idle", None)

    def _enter(self) -> None:
        """Join the group of the lane that the decision asks for."""
        lane = None if self._decision is None else _lane_of(self._decision)
        now = self._ports.clock_s()
        if lane is None or now < self._quiet_until:
            self._ports.wait(self._tempo.poll_s)
            self._failures *= now < self._quiet_until
            return
        topic = self._ports.topics.describe()
        self._failures = 0
        self._topic_missing = topic is None
        if topic is None:
            self._say("waiting", "the topic is not there yet: iu relay run makes it")
            self._ports.wait(self._tempo.poll_s)
            return
        self._topic_check_at = now + _TOPIC_CHECK_S
        self._run = LaneRun(
            place=Place(self._route_code, lane, topic.name, topic.topic_id),
            member=self._ports.join(lane),
            ledger=self._ports.ledger,
            reader=self._ports.read(self._event_type),
            owner=self._owner,
            rows_max=self._rows_max,
            progress=self.progress,
        )
        log.info("joined", route=self._route_code, lane=lane)

    def _work(self, run: LaneRun) -> None:
        """Poll, then claim, hold or settle."""
        something = run.poll(round(1_000 * self._tempo.poll_s))
        now = self._ports.clock_s()
        self._quiet_polls = 0 if something or now < self._quiet_until else self._quiet_polls + 1
        if now < self._quiet_until:
            run.put_back()
            run.silence()
            return
        if now >= self._topic_check_at:
            self._topic_check_at = now + _TOPIC_CHECK_S
            if not self._same_topic(run):
                return
        if unclaimed := run.unclaimed():
            starts = self._ports.topics.starts()
            run.claim({number: starts[number] for number in unclaimed if number in starts})
        match self._decision:
            case Hold() as hold:
                self._stand(run, hold, something)
            case Deliver() | Plan() as decision:
                run.listen()
                self._settle(run, decision, something)
            case Idle() | None:
                pass
        self._failures = 0

    def _stand(self, run: LaneRun, hold: Hold, something: bool) -> None:
        """Hold what waits. A route for which nothing waits says nothing at a closed gate."""
        if something or self._held is not None:
            run.put_back()
            run.silence()
            self._report(run, hold.gate, hold.reason)
        else:
            run.listen()
            self._say("live", hold.reason)

    def _settle(self, run: LaneRun, decision: Deliver | Plan, something: bool) -> None:
        if not something:
            run.pass_markers(decision)
            # What another cause than a gate holds is met again once it has been fetched again.
            if self._held is None or self._held[0] in _GATES or self._quiet_polls > _POLLS_TO_REFETCH:
                self._running(run)
            return
        blocked = run.settle(decision)
        if blocked is None:
            self._running(run)
            return
        run.silence()
        self._quiet_until = self._ports.clock_s() + self._tempo.look_s
        self._report(run, blocked.gate, f"{blocked.reason}: {blocked.detail}")

    def _running(self, run: LaneRun) -> None:
        if self._held is not None:
            log.info("resumed", route=self._route_code, lane=run.place.lane)
        self._held = None
        self._say(run.place.lane, None)

    def _refused(self, error: Refused) -> None:
        """The database said no. If the switches say so too, that is the hold; else its own words are."""
        self._look_at = 0.0
        if error.code == _TOPIC_MADE_AGAIN:
            self._hold("topic", error, for_s=self._tempo.look_s)
            return
        try:
            self._look()
        except Retryable as away:
            self._wait_for(away)
            return
        except Refused:
            # Not even looking is allowed: a missing GRANT, which may come back.
            self._hold("refused", error, for_s=self._tempo.look_s)
            return
        if isinstance(self._decision, Hold):
            self._hold(self._decision.gate, error, for_s=0, reason=self._decision.reason)
        elif self._run is not None:
            self._hold("refused", error, for_s=self._tempo.look_s)

    def _hold(self, gate: str, error: IUError, *, for_s: float, reason: str | None = None) -> None:
        """Stand still for `for_s` at least, and say why."""
        self._quiet_until = self._ports.clock_s() + for_s
        run = self._run
        if run is not None:
            run.put_back()
            run.silence()
        try:
            self._report(run, gate, reason or str(error))
        except Retryable as away:
            self._wait_for(away)
        except Refused as refused:
            log.error("the hold cannot be written down", route=self._route_code, why=str(refused))
            self._say("held", str(refused))

    def _report(self, run: LaneRun | None, gate: str, reason: str) -> None:
        """Write the hold down: when it begins, when its cause changes, and now and then while it lasts."""
        now = self._ports.clock_s()
        changed = self._held != (gate, reason)
        if not changed and now < self._report_at:
            return
        place = run.place if run is not None else self._last_place()
        if place is not None:
            self._ports.ledger.hold(place, gate, reason, self._owner)
        self._held, self._report_at = (gate, reason), now + _REPORT_S
        self._say("held", reason)
        if changed:
            log.warning("held", route=self._route_code, gate=gate, reason=reason)

    def _last_place(self) -> Place | None:
        lane = None if self._decision is None else _lane_of(self._decision)
        return None if lane is None else Place(self._route_code, lane, "", "")

    def _same_topic(self, run: LaneRun) -> bool:
        """Leave the group if the topic was made again: the claim that follows says so with IU030."""
        topic = self._ports.topics.describe()
        if topic is not None and topic.topic_id == run.place.topic_id:
            return True
        log.warning("the topic was made again or is gone", topic=run.place.topic)
        self._leave()
        return False

    def _wait_for(self, error: Retryable) -> None:
        """Something is away: stand still, longer each time, never all processes in step."""
        self._failures += 1
        longest_s = min(_WAIT_MAX_S, _WAIT_MIN_S * 2.0 ** min(self._failures, 10))
        self._quiet_until = self._ports.clock_s() + longest_s * (0.5 + self._ports.random() / 2)
        self._say("waiting", str(error))
        log.warning(
            "waiting", route=self._route_code, what=error.what, why=error.why, failures=self._failures
        )
        if self._run is not None:
            self._run.put_back()
            self._run.silence()
        else:
            self._ports.wait(min(self._tempo.poll_s, longest_s))

    def _leave(self) -> None:
        run, self._run = self._run, None
        self._quiet_polls = 0
        if run is not None:
            run.close()
            log.info("left", route=self._route_code, lane=run.place.lane)

    def _say(self, state: State, why: str | None) -> None:
        self.progress.state = state
        self.progress.why = why


def _lane_of(decision: Decision) -> Lane | None:
    match decision:
        case Idle():
            return None
        case Plan():
            return "dry_run"
        case Hold() | Deliver():
            return "live"
        case _:
            assert_never(decision)
