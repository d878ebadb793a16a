"""What the relay tells of itself while it runs: the state of each shard, its metrics, its probes.

The thread of a shard writes, threads of the HTTP server read; nothing here waits or takes a lock.

  live    no shard hangs: each thread gave a sign within the watchdog's limits
  ready   each shard is publishing and its last step is young, or it stands by for another process
          that holds the shard (then it would take over at once). Not ready: starting, in an outage
"""

import time
from collections.abc import Callable, Iterable
from enum import StrEnum
from typing import Final, TypeAlias

from prometheus_client import CollectorRegistry

from iu_core.bus.watchdog import Watchdog
from iu_core.health import Verdict
from iu_core.metrics import new_registry
from iu_core.settings import Settings
from producers.relay.metrics import RelayMetrics
from producers.relay.relay import Relay, Step
from producers.relay.snapshot import Position

# A step takes a fraction of a second; idle ones come every `poll_max_ms`.
STEP_AGE_MAX_S: Final = 10.0

Clock: TypeAlias = Callable[[], float]


class ShardState(StrEnum):
    """What a shard of this process is doing."""

    STARTING = "starting"
    STANDBY = "standby"
    PUBLISHING = "publishing"
    OUTAGE = "outage"
    STOPPED = "stopped"


class ShardTelemetry:
    """Of one shard; its hooks are called from the shard's thread."""

    def __init__(
        self,
        shard: int = 0,
        metrics: RelayMetrics | None = None,
        *,
        step_age_max_s: float = STEP_AGE_MAX_S,
        clock_s: Clock = time.monotonic,
        now_s: Clock = time.time,
    ) -> None:
        self.shard = shard
        self.state = ShardState.STARTING
        self.position: Position | None = None
        self._metrics = metrics or RelayMetrics(CollectorRegistry())
        self._step_age_max_s = step_age_max_s
        self._clock_s = clock_s
        self._now_s = now_s
        self._watchdog: Watchdog | None = None
        self._sign_at_s = clock_s()
        self._began_at_s = clock_s()
        self._label = str(shard)
        for state in ShardState:
            self._metrics.state.labels(self._label, state).set_function(
                lambda state=state: float(self.state is state)  # type: ignore[misc]
            )
        of_shard = [
            instrument.labels(self._label)
            for instrument in (
                self._metrics.published,
                self._metrics.transactions,
                self._metrics.dead_letters,
            )
        ]
        self._published, self._transactions, self._dead_letters = of_shard
        self._sessions = self._metrics.sessions.labels(self._label)
        self._rows = self._metrics.transaction_rows.labels(self._label)
        self._seconds = self._metrics.transaction_seconds.labels(self._label)
        self._lag = self._metrics.lag.labels(self._label)

    def guarded_by(self, watchdog: Watchdog) -> None:
        """Ask `watchdog` from now on whether the thread hangs."""
        self._watchdog = watchdog

    def enter(self, state: ShardState) -> None:
        """Note a new state. Only the relay that publishes, or last did, knows what waits."""
        self.state = state
        if state in (ShardState.STANDBY, ShardState.STOPPED):
            self.position = None
        self.sign()

    def sign(self) -> None:
        """Note that the thread goes on."""
        self._sign_at_s = self._clock_s()

    def stage(self, stage: str) -> None:
        """Time the Kafka transaction: `Relay` names each stage as it begins."""
        if stage == "publishing":
            self._began_at_s = self._clock_s()
        elif stage == "published":
            self._seconds.observe(self._clock_s() - self._began_at_s)
            self._transactions.inc()

    def started(self, relay: Relay, path: str | None) -> None:
        """Note that a session stands; `path` is how its records get to the client."""
        self._sessions.inc()
        for known in ("batches", "send"):
            self._metrics.path.labels(self._label, known).set(known == path)
        self._note(relay)
        self.enter(ShardState.PUBLISHING)

    def stepped(self, step: Step, relay: Relay) -> None:
        """Note what one step did."""
        if step.published or step.dead:
            self._published.inc(step.published)
            self._dead_letters.inc(step.dead)
            self._rows.observe(step.published + step.dead)
            if step.newest_us is not None:
                self._lag.observe(max(0.0, self._now_s() - step.newest_us / 1_000_000))
        self._note(relay)
        self.sign()

    def _note(self, relay: Relay) -> None:
        self.position = relay.position
        self._metrics.blocked.labels(self._label).set(len(relay.blocked))

    @property
    def live(self) -> bool:
        """Whether the thread does not hang."""
        return self._watchdog is None or self.state is ShardState.STOPPED or not self._watchdog.stalled

    @property
    def ready(self) -> bool:
        """Whether the shard is being published, or would be at once."""
        at_work = self.state in (ShardState.PUBLISHING, ShardState.STANDBY)
        return at_work and self._age_s <= self._step_age_max_s

    @property
    def _age_s(self) -> float:
        return self._clock_s() - self._sign_at_s

    def told(self) -> dict[str, object]:
        """Return what the probes say of it."""
        return {
            "shard": self.shard,
            "state": self.state.value,
            "last_step_age_s": round(self._age_s, 3),
            "live": self.live,
            "ready": self.ready,
        }


class RelayTelemetry:
    """Of all shards that this process runs; answers the probes (`iu_core.health.Probed`)."""

    def __init__(self, settings: Settings, shards: Iterable[int]) -> None:
        self.registry = new_registry()
        self.metrics = RelayMetrics(self.registry)
        step_age_max_s = STEP_AGE_MAX_S + settings.relay.poll_max_ms / 1_000
        self.shards = {
            shard: ShardTelemetry(shard, self.metrics, step_age_max_s=step_age_max_s) for shard in shards
        }

    def live(self) -> Verdict:
        """Say whether every shard's thread gave a sign within the watchdog's limits."""
        return self._verdict(all(shard.live for shard in self.shards.values()))

    def ready(self) -> Verdict:
        """Say whether every shard is being published by this process, or by another it stands by for."""
        return self._verdict(all(shard.ready for shard in self.shards.values()))

    def _verdict(self, holds: bool) -> Verdict:
        return Verdict(holds, {"shards": [shard.told() for shard in self.shards.values()]})
