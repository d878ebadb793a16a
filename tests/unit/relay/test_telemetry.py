"""What a shard tells of itself in each state, and that the docs list the metrics there are."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from uuid import uuid4

import pytest

from iu_core.bus.watchdog import Watchdog
from iu_core.errors import IUError
from iu_core.metrics import as_markdown
from iu_core.settings import RelaySettings, Settings
from producers.relay import metrics
from producers.relay.backlog import BacklogSampler
from producers.relay.outbox import Backlog
from producers.relay.relay import Relay, Step
from producers.relay.snapshot import Position
from producers.relay.telemetry import STEP_AGE_MAX_S, RelayTelemetry, ShardState, ShardTelemetry

PAGE = Path(__file__).parents[3] / "docs" / "architecture" / "relay-sidecar.md"
SAMPLE_S = 5
SETTINGS = Settings(relay=RelaySettings(backlog_sample_s=SAMPLE_S))


class Clock:
    def __init__(self) -> None:
        self.now_s = 1_000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def telemetry() -> RelayTelemetry:
    return RelayTelemetry(SETTINGS, [0, 1])


def relay(*, blocked: int = 0) -> Relay:
    return cast(Relay, SimpleNamespace(position=Position(), blocked={uuid4(): 1 for _ in range(blocked)}))


def value(telemetry: RelayTelemetry, name: str, **labels: str) -> float | None:
    return telemetry.registry.get_sample_value(name, labels)


def states(telemetry: RelayTelemetry, shard: int) -> dict[str, float | None]:
    return {
        state.value: value(telemetry, "iu_relay_state", shard=str(shard), state=state.value)
        for state in ShardState
    }


@pytest.mark.parametrize(
    ("state", "ready"),
    [
        (ShardState.STARTING, False),
        (ShardState.STANDBY, True),
        (ShardState.PUBLISHING, True),
        (ShardState.OUTAGE, False),
        (ShardState.STOPPED, False),
    ],
)
def test_a_shard_is_in_one_state_and_ready_in_two_of_them(
    telemetry: RelayTelemetry, state: ShardState, ready: bool
) -> None:
    telemetry.shards[0].enter(state)
    assert states(telemetry, 0) == {one.value: float(one is state) for one in ShardState}
    assert states(telemetry, 1)["starting"] == 1.0
    assert telemetry.shards[0].ready is ready
    assert telemetry.live().holds


def test_a_process_is_ready_when_all_of_its_shards_are(telemetry: RelayTelemetry) -> None:
    telemetry.shards[0].enter(ShardState.PUBLISHING)
    assert not telemetry.ready().holds
    telemetry.shards[1].enter(ShardState.STANDBY)
    assert telemetry.ready().holds
    told = cast(list[dict[str, Any]], telemetry.ready().details["shards"])
    assert [(one["shard"], one["state"]) for one in told] == [(0, "publishing"), (1, "standby")]


@pytest.mark.parametrize("state", [ShardState.PUBLISHING, ShardState.STANDBY])
def test_a_shard_whose_last_step_is_old_is_not_ready(state: ShardState) -> None:
    clock = Clock()
    shard = ShardTelemetry(clock_s=clock)
    shard.enter(state)
    clock.now_s += STEP_AGE_MAX_S
    seen = [shard.ready]
    clock.now_s += 0.1
    seen.append(shard.ready)
    shard.stepped(Step(0, drained=True), relay())
    assert [*seen, shard.ready] == [True, False, True]


def test_a_shard_lives_unless_its_thread_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    watchdog, shard = Watchdog(60.0), ShardTelemetry()
    shard.guarded_by(watchdog)
    shard.enter(ShardState.PUBLISHING)
    seen = [shard.live]
    monkeypatch.setattr(Watchdog, "stalled", property(lambda _: True))
    seen.append(shard.live)
    shard.enter(ShardState.STOPPED)
    watchdog.close()
    assert [*seen, shard.live] == [True, False, True]


def test_steps_and_transactions_are_counted_and_timed() -> None:
    clock, wall = Clock(), Clock()
    telemetry = RelayTelemetry(SETTINGS, [])
    shard = ShardTelemetry(0, telemetry.metrics, clock_s=clock, now_s=wall)
    shard.started(relay(), "batches")
    shard.stage("reading")
    shard.stage("publishing")
    clock.now_s += 0.2
    shard.stage("published")
    newest_us = int((wall.now_s - 3) * 1_000_000)
    shard.stepped(Step(40, drained=True, dead=2, waiting=5, newest_us=newest_us), relay(blocked=2))
    shard.stepped(Step(0, drained=True), relay(blocked=2))
    found = {
        name: value(telemetry, name, shard="0")
        for name in (
            "iu_events_published_total",
            "iu_relay_dead_letters_total",
            "iu_relay_transactions_total",
            "iu_relay_transaction_rows_sum",
            "iu_relay_transaction_rows_count",
            "iu_relay_blocked_trees",
            "iu_relay_sessions_total",
        )
    }
    assert list(found.values()) == [40, 2, 1, 42, 1, 2, 1]
    assert value(telemetry, "iu_relay_transaction_seconds_sum", shard="0") == pytest.approx(0.2)
    assert value(telemetry, "iu_relay_publish_lag_seconds_sum", shard="0") == pytest.approx(3)
    assert value(telemetry, "iu_relay_path_info", shard="0", path="batches") == 1
    assert value(telemetry, "iu_relay_path_info", shard="0", path="send") == 0


class Answers:
    """In place of the outbox: the backlog, or an error."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, telemetry: RelayTelemetry) -> None:
        self.clock = Clock()
        self.sampler = BacklogSampler(SETTINGS, "", telemetry, clock_s=self.clock, now_s=Clock())
        self.answer: Backlog | Exception = Backlog(0, 0.0)
        monkeypatch.setattr(self.sampler, "_ask", self._ask)

    def _ask(self, _shard: int, _position: Position) -> Backlog:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def backlog_of(telemetry: RelayTelemetry, shard: int) -> tuple[float | None, float | None]:
    label = str(shard)
    return (
        value(telemetry, "iu_outbox_pending_events", shard=label),
        value(telemetry, "iu_outbox_oldest_age_seconds", shard=label),
    )


def test_only_the_shard_that_publishes_tells_its_backlog(
    monkeypatch: pytest.MonkeyPatch, telemetry: RelayTelemetry
) -> None:
    answers = Answers(monkeypatch, telemetry)
    answers.answer = Backlog(7, 1.5)
    telemetry.shards[0].started(relay(), "batches")
    telemetry.shards[1].enter(ShardState.STANDBY)
    answers.sampler.sample()
    assert backlog_of(telemetry, 0) == (7, 1.5)
    assert backlog_of(telemetry, 1) == (None, None)
    telemetry.shards[0].enter(ShardState.OUTAGE)
    answers.sampler.sample()
    assert backlog_of(telemetry, 0) == (7, 1.5)
    telemetry.shards[0].enter(ShardState.STANDBY)
    answers.sampler.sample()
    assert backlog_of(telemetry, 0) == (None, None)


def test_what_waits_grows_older_while_the_outbox_cannot_be_asked(
    monkeypatch: pytest.MonkeyPatch, telemetry: RelayTelemetry
) -> None:
    """So that the alert on age fires also when the database is what is away."""
    answers = Answers(monkeypatch, telemetry)
    telemetry.shards[0].started(relay(), "batches")
    answers.answer = Backlog(7, 1.5)
    answers.sampler.sample()
    answers.answer = IUError("away")
    answers.clock.now_s += 2 * SAMPLE_S + 100
    answers.sampler.sample()
    assert backlog_of(telemetry, 0) == (7, 101.5)


def test_where_nothing_waits_nothing_grows_old(
    monkeypatch: pytest.MonkeyPatch, telemetry: RelayTelemetry
) -> None:
    answers = Answers(monkeypatch, telemetry)
    telemetry.shards[0].started(relay(), "batches")
    answers.sampler.sample()
    answers.clock.now_s += 1_000
    assert backlog_of(telemetry, 0) == (0, 0.0)


def test_the_docs_list_the_metrics_there_are() -> None:
    assert as_markdown(metrics.ALL) in PAGE.read_text()
