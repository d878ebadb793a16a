"""Several shards in one process: each relayed in a thread, with a lock and connections of its own.

The threads share nothing but the order to stop. The first that ends with an error stops the
others, which finish their transaction; then the error is raised, and the process ends with its
exit code. A process that went on without one of its shards would look healthy to whoever
watches it.
"""

import gc
import sys
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from iu_core.errors import Misconfigured, Usage
from iu_core.settings import Settings
from iu_core.telemetry import get_logger
from producers.relay.framing import Contracts
from producers.relay.service import Progress, RelayService
from producers.relay.telemetry import RelayTelemetry

log = get_logger(__name__)

_SWITCH_INTERVAL_S: Final = 0.0005


def chosen_shards(settings: Settings, asked: Iterable[int]) -> list[int]:
    """Return the shards to run: those asked for, in order; none asked means all.

    Raises `Usage` for a shard that there is not, `Misconfigured` for more shards than partitions.
    """
    shards, partitions = settings.relay.shards, settings.kafka.partitions
    if shards > partitions:
        raise Misconfigured(
            f"{shards} shards cannot share {partitions} partitions",
            why="IU_RELAY__SHARDS is larger than IU_KAFKA__PARTITIONS: a shard would have none",
            remedy=f"set IU_RELAY__SHARDS to {partitions} or less",
        )
    chosen = sorted(set(asked)) or list(range(shards))
    if strangers := [shard for shard in chosen if not 0 <= shard < shards]:
        raise Usage(
            f"there is no shard {strangers[0]}",
            why=f"IU_RELAY__SHARDS={shards} makes the shards 0 to {shards - 1}",
            remedy="name one of these, or none to run all",
        )
    return chosen


class Supervisor:
    """Runs one service per shard of `shards` until stopped, or until one of them fails."""

    def __init__(
        self,
        settings: Settings,
        database_url: str,
        contracts: Contracts,
        *,
        shards: Sequence[int],
        until_idle: bool = False,
        telemetry: RelayTelemetry | None = None,
        service: Callable[..., RelayService] = RelayService,
    ) -> None:
        self._services = {
            shard: service(
                settings,
                database_url,
                contracts,
                shard=shard,
                until_idle=until_idle,
                telemetry=telemetry and telemetry.shards[shard],
            )
            for shard in shards
        }
        self._errors: list[BaseException] = []

    @property
    def progress(self) -> Progress:
        """The sum over the shards."""
        parts = [service.progress for service in self._services.values()]
        return Progress(
            sessions=sum(part.sessions for part in parts),
            published=sum(part.published for part in parts),
            transactions=sum(part.transactions for part in parts),
        )

    @staticmethod
    def _tune_interpreter() -> None:
        """Let threads take turns often, and the collector look at what was loaded at the start no more.

        While one thread frames rows, another one has to answer the broker several times a transaction;
        each time it would wait for the 5 ms that an interpreter gives a thread by default. Rows make
        no cycles, so collecting them early only costs.
        """
        sys.setswitchinterval(_SWITCH_INTERVAL_S)
        gc.freeze()
        gc.set_threshold(50_000, 20, 50)

    def run(self, stop: threading.Event) -> Progress:
        """Relay until `stop` is set or, with `until_idle`, every shard is idle. Sets `stop` on an error.

        Raises the first error of a shard, once all others have ended.
        """
        self._tune_interpreter()
        threads = [
            threading.Thread(target=self._guarded, args=(shard, stop), name=f"shard-{shard}", daemon=True)
            for shard in self._services
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if self._errors:
            raise self._errors[0]
        return self.progress

    def _guarded(self, shard: int, stop: threading.Event) -> None:
        try:
            self._services[shard].run(stop)
        except BaseException as error:
            self._errors.append(error)
            if len(self._services) > 1:
                log.warning("failed", shard=shard, what=str(error))
            stop.set()
