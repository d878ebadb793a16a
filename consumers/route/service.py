"""Route consumers as a process: a thread for each route, which share nothing but one broker client.

Each route has its own connection, group member and watchdog, so one that waits or holds is of no
consequence to the others. A fault that ends one ends the process: its supervisor starts it again,
and half a process that looks alive is worse than none.
"""

import os
import random
import socket
import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Final

from consumers.route.ledger import Ledger
from consumers.route.postgres_ledger import PostgresLedger
from consumers.route.progress import Progress
from consumers.route.reading import Reader
from consumers.route.topics import SharedTopics
from consumers.route.worker import Ports, RouteWorker, Tempo
from iu_core.bus.kafka_admin import KafkaAdmin
from iu_core.bus.kafka_group import KafkaGroupMember
from iu_core.bus.kafka_reader import KafkaTopicReader
from iu_core.bus.names import BusNames, Lane
from iu_core.bus.ports import GroupMember
from iu_core.bus.watchdog import Watchdog
from iu_core.database import Connection, Role, connect
from iu_core.errors import IUError, Retryable, Terminal
from iu_core.settings import Settings
from iu_core.telemetry import get_logger
from schemas.catalog import Catalog

log = get_logger(__name__)

_REPORT_S: Final = 30.0
# With `until_idle` somebody waits for us: so many steps in a row with something away are enough.
_FAILURES_MAX: Final = 12
_DRAIN_S: Final = 60.0


@dataclass(slots=True)
class _Ended:
    """How the threads ended; the first fault is the one that tells."""

    faults: list[BaseException] = field(default_factory=list)


class ConsumerService:
    """Consumes `routes` until stopped. With `until_idle`: until each is idle, held or at the end."""

    def __init__(
        self, settings: Settings, database_url: str, routes: tuple[str, ...], *, until_idle: bool = False
    ) -> None:
        self._settings = settings
        self._database_url = database_url
        self._routes = routes
        self._until_idle = until_idle
        self._names = BusNames(settings.kafka.prefix)
        self._instance = settings.consumer.instance
        self._owner = f"{self._instance or socket.gethostname()}/{os.getpid()}"
        self._workers: list[RouteWorker] = []

    @property
    def progress(self) -> tuple[Progress, ...]:
        """What each route has done so far; may be read from another thread."""
        return tuple(worker.progress.now() for worker in self._workers)

    def run(self, stop: threading.Event) -> tuple[Progress, ...]:
        """Consume until `stop` is set: batches at hand are finished, the groups are left.

        Raises `Retryable` at once if database or broker cannot be reached at the start (later they
        are waited for), and whatever ended a route.
        """
        with ExitStack() as opened:
            topics = self._topics(opened)
            ended, halt = _Ended(), threading.Event()
            threads = []
            for route in self._routes:
                worker, watchdog = self._worker(route, topics, halt)
                opened.callback(watchdog.close)
                self._workers.append(worker)
                threads.append(
                    # A daemon: the second signal must end the process whatever a thread is at.
                    threading.Thread(target=self._serve, args=(worker, halt, ended), name=route, daemon=True)
                )
            for thread in threads:
                thread.start()
            self._await(threads, stop, halt)
            for thread in threads:
                thread.join(_DRAIN_S)
            log.info("stopped", routes=len(threads))
            if ended.faults:
                raise ended.faults[0]
            return self.progress

    def _await(self, threads: list[threading.Thread], stop: threading.Event, halt: threading.Event) -> None:
        """Wait for `stop`, a fault or the end of all threads; then have them all drain."""
        report_at = time.monotonic() + _REPORT_S
        while not halt.is_set() and any(thread.is_alive() for thread in threads):
            if stop.wait(0.1):
                break
            if time.monotonic() >= report_at:
                report_at = time.monotonic() + _REPORT_S
                for progress in self.progress:
                    log.info("progress", route=progress.route_code, state=progress.state, why=progress.why)
        halt.set()

    def _serve(self, worker: RouteWorker, halt: threading.Event, ended: _Ended) -> None:
        """Step until told to stop; in a thread of its own."""
        try:
            while not halt.is_set():
                worker.step()
                if not self._until_idle:
                    continue
                if worker.settled():
                    break
                if worker.failures > _FAILURES_MAX:
                    raise Retryable(
                        f"route {worker.progress.route_code} does not get on",
                        why=worker.progress.why,
                        remedy="see what is away with: iu status",
                    )
        except IUError as error:
            ended.faults.append(error)
            halt.set()
        except Exception as error:
            log.exception("a fault of the consumer itself", route=worker.progress.route_code)
            ended.faults.append(
                Terminal(
                    f"route {worker.progress.route_code} ended with {type(error).__name__}",
                    why=str(error),
                    remedy="this is a fault of iu; the log above has the traceback",
                )
            )
            halt.set()
        finally:
            worker.close()

    def _topics(self, opened: ExitStack) -> SharedTopics:
        """Connect once to the broker and once to the database, so that a wrong address is said at once."""
        name = "iu-consumer"
        topics = SharedTopics(
            self._names.events, KafkaAdmin(self._settings, name), KafkaTopicReader(self._settings, name)
        )
        opened.callback(topics.close)
        ledger = PostgresLedger(lambda: self._connect(name))
        opened.callback(ledger.close)
        for route in self._routes:
            _known(ledger, route)
        topics.describe()
        return topics

    def _worker(
        self, route: str, topics: SharedTopics, halt: threading.Event
    ) -> tuple[RouteWorker, Watchdog]:
        settings = self._settings.consumer
        watchdog = Watchdog(settings.watchdog_ms / 1_000)
        catalog = Catalog.bundled()

        def join(lane: Lane) -> GroupMember:
            return KafkaGroupMember(
                self._settings,
                group=self._names.group(route, lane),
                topic=self._names.events,
                watchdog=watchdog,
                instance=self._instance,
            )

        ports = Ports(
            ledger=PostgresLedger(lambda: self._connect(f"iu-consumer {route}")),
            topics=topics,
            join=join,
            read=lambda event_type: Reader(event_type, catalog),
            wait=halt.wait,
            clock_s=time.monotonic,
            random=random.random,
        )
        tempo = Tempo(poll_s=settings.poll_ms / 1_000, look_s=settings.hold_recheck_ms / 1_000)
        worker = RouteWorker(route, ports, tempo, owner=self._owner, rows_max=settings.batch_rows_max)
        return worker, watchdog

    def _connect(self, name: str) -> Connection:
        return connect(
            self._database_url, Role.CONSUMER, settings=self._settings.database, application_name=name
        )


def _known(ledger: Ledger, route: str) -> None:
    """Raise `Terminal` for a route that is not registered."""
    if ledger.look(route).route is None:
        raise Terminal(
            f"route {route!r} is not registered",
            why="iu_outbound_route has no such route_code",
            remedy="see the registered ones with: iu route list",
        )
