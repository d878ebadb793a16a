"""The relay of one shard until it is stopped: sessions, standing by, outages.

A *session* is everything from connecting to the first fault: connections, producer, lock, cursor.
All but the last two are opened before the shard is taken, so that a standby is warm. After a
fault nothing of it is reused, because only the topic knows what was committed. What comes next
depends on the fault:

  Retryable, before the first session stood   raise: whoever starts us is told what is missing
  Retryable, later                            a new session after a pause; raise at `outage_max_s`
  Retryable, while stopping                   end: the transaction at hand is given up, not lost
  Fenced, Misconfigured, Terminal             raise
  a call that hangs                           the watchdog ends the process with 75

No fault: a command that asks for the shard (`maintenance`) gets it after the transaction at
hand, and the relay stands by until it is given back.
"""

import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Final

from iu_core.bus.watchdog import Watchdog
from iu_core.database import Connection, Role, connect
from iu_core.errors import Retryable
from iu_core.settings import Settings
from iu_core.telemetry import get_logger
from producers.relay.framing import Contracts
from producers.relay.lock import Holder, ShardLock
from producers.relay.relay import Relay
from producers.relay.shard import Shard, layout_of, relay_name, step_limit_s
from producers.relay.telemetry import ShardState, ShardTelemetry

log = get_logger(__name__)

_LOCK_POLL_S: Final = 0.05
_PAUSE_MIN_S: Final = 0.05
_PAUSE_MAX_S: Final = 2.0
_REPORT_S: Final = 30.0
# A machine that is busy must not have a pause taken for a hang.
_PAUSE_SLACK_S: Final = 30.0


@dataclass(slots=True)
class Progress:
    """What a relay has done so far; read by whoever runs it in a thread."""

    sessions: int = 0
    published: int = 0
    transactions: int = 0


class RelayService:
    """Relays one shard until stopped. With `until_idle`: until all that is committed is published."""

    def __init__(
        self,
        settings: Settings,
        database_url: str,
        contracts: Contracts,
        *,
        shard: int = 0,
        until_idle: bool = False,
        telemetry: ShardTelemetry | None = None,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._telemetry = telemetry or ShardTelemetry(shard)
        self._settings = settings
        self._database_url = database_url
        self._contracts = contracts
        self._layout = layout_of(settings, shard)
        self._until_idle = until_idle
        self._clock_s = clock_s
        self._stood_by = 0
        self.progress = Progress()

    def run(self, stop: threading.Event) -> Progress:
        """Relay until `stop` is set (the transaction at hand is finished) or there is nothing left.

        Raises the errors of the module's table.
        """
        watchdog = Watchdog(self._settings.relay.watchdog_ms / 1_000)
        self._telemetry.guarded_by(watchdog)
        failing_since: float | None = None
        pause_s = _PAUSE_MIN_S
        try:
            while not stop.is_set():
                stood = self._stood
                try:
                    if self._session(stop, watchdog):
                        break
                except Retryable as error:
                    if stop.is_set():
                        log.warning("gave up", shard=self._layout.shard, what=error.what, why=error.why)
                        break
                    if self._stood > stood or failing_since is None:
                        failing_since, pause_s = self._clock_s(), _PAUSE_MIN_S
                    out_s = self._clock_s() - failing_since
                    never_stood = self._stood == 0
                    if never_stood or self._until_idle or out_s > self._settings.relay.outage_max_s:
                        raise
                    log.warning(
                        "outage",
                        shard=self._layout.shard,
                        what=error.what,
                        why=error.why,
                        out_s=round(out_s, 1),
                    )
                    self._telemetry.enter(ShardState.OUTAGE)
                    _pause(stop, watchdog, pause_s)
                    pause_s = min(2 * pause_s, _PAUSE_MAX_S)
        finally:
            self._telemetry.enter(ShardState.STOPPED)
            watchdog.close()
        log.info("stopped", shard=self._layout.shard, published=self.progress.published)
        return self.progress

    @property
    def _stood(self) -> int:
        """How often everything was there: as the shard's relay, or as its standby."""
        return self.progress.sessions + self._stood_by

    def _connect(self) -> Connection:
        return connect(
            self._database_url,
            Role.RELAY,
            settings=self._settings.database,
            application_name=relay_name(self._settings, self._layout.shard),
        )

    def _session(self, stop: threading.Event, watchdog: Watchdog) -> bool:
        """Take the shard and publish until there is nothing left to do; closes all it opened, in reverse.

        Returns false if it has stepped aside for a command and wants the shard back.
        """
        limit_s = step_limit_s(self._settings)
        with ExitStack() as opened:
            with watchdog.guard("connecting", limit_s):
                shard = Shard(self._settings, self._database_url, self._contracts, self._layout, watchdog)
                opened.callback(shard.close)
                shard.check_layout()
            # Given back before the connections are closed: a standby need not wait for that.
            lock = ShardLock(self._connect, self._layout.shard)
            opened.callback(lock.release)
            if not self._await_lock(lock, shard, stop, watchdog):
                return True
            began_s = self._clock_s()
            with watchdog.guard("taking the shard over", limit_s):
                relay = shard.relay(observe=self._telemetry.stage)
                cursor = relay.start()
                if cursor.sequence == 0:
                    # Only now does nobody else begin here: is it still the first cursor of this layout?
                    shard.check_layout()
            self._telemetry.started(relay, shard.publisher.path)
            self.progress.sessions += 1
            log.info(
                "started",
                shard=self._layout.shard,
                sequence=cursor.sequence,
                position=str(cursor.position.settled),
                took_ms=round(1_000 * (self._clock_s() - began_s)),
            )
            return self._publish(relay, lock, stop, watchdog)

    def _await_lock(self, lock: ShardLock, shard: Shard, stop: threading.Event, watchdog: Watchdog) -> bool:
        """Wait as a standby until the lock is ours; False if stopped first."""
        other: Holder | None = None
        announced, limit_s = False, step_limit_s(self._settings)
        while True:
            with watchdog.guard("asking for the shard's lock", limit_s):
                if announced:
                    shard.refresh()
                other = lock.acquire(known=other)
            if other is None:
                return True
            if self._until_idle:
                raise Retryable(
                    f"shard {self._layout.shard} is being relayed by {other}",
                    why="one relay at a time holds a shard",
                    remedy="let that one do it, or stop it first",
                )
            if not announced:
                log.info("standby", shard=self._layout.shard, holder=str(other))
                self._stood_by += 1
                self._telemetry.enter(ShardState.STANDBY)
                announced = True
            self._telemetry.sign()
            if stop.wait(_LOCK_POLL_S):
                return False

    def _publish(self, relay: Relay, lock: ShardLock, stop: threading.Event, watchdog: Watchdog) -> bool:
        """Step until `stop`, or until a command wants the shard: then return false.

        Polls quickly after work, ever more slowly without.
        """
        shortest_s = self._settings.relay.poll_min_ms / 1_000
        longest_s = max(shortest_s, self._settings.relay.poll_max_ms / 1_000)
        wait_s, report_at = shortest_s, self._clock_s() + _REPORT_S
        limit_s = step_limit_s(self._settings)
        while not stop.is_set():
            with watchdog.guard("a step of the relay", limit_s):
                lock.check()
                if lock.wanted:
                    log.info("stepping aside", shard=self._layout.shard)
                    self._telemetry.enter(ShardState.STANDBY)
                    return False
                step = relay.step()
            self._telemetry.stepped(step, relay)
            if step.published:
                self.progress.published += step.published
                self.progress.transactions += 1
                wait_s = shortest_s
            elif step.drained:
                if self._until_idle:
                    return True
                _pause(stop, watchdog, wait_s)
                wait_s = min(1.5 * wait_s, longest_s)
            if self._clock_s() >= report_at:
                report_at = self._clock_s() + _REPORT_S
                log.info(
                    "progress",
                    shard=self._layout.shard,
                    published=self.progress.published,
                    transactions=self.progress.transactions,
                )
        return True


def _pause(stop: threading.Event, watchdog: Watchdog, seconds: float) -> None:
    """Wait, and let the liveness probe know that this is no hang."""
    with watchdog.guard("pausing", seconds + _PAUSE_SLACK_S):
        stop.wait(seconds)
