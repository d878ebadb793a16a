"""Whom the doctor can ask. Each connection is opened when a check first needs it, and only once.

Three logins on one database, because the answers differ: the login itself sees the other
sessions (a group role would hide them), `iu_relay` sees what the relay sees, `iu_reader` sees
the positions of the routes. A service that is away is remembered, so that ten checks do not
wait ten times for it.
"""

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any, Final, Protocol, TypeVar

import psycopg

from iu_core.bus.inspection import BusInspection, ClockReading, NotOffered
from iu_core.bus.kafka_admin import KafkaAdmin
from iu_core.bus.kafka_client import require_reachable
from iu_core.bus.kafka_inspection import KafkaInspection
from iu_core.bus.kafka_reader import KafkaTopicReader
from iu_core.bus.names import BusNames
from iu_core.bus.ports import BusAdmin, Topic, TopicReader
from iu_core.database import Connection, Role, connect, translate
from iu_core.errors import IUError, Misconfigured
from iu_core.settings import Settings
from producers.doctor.finding import Patience
from producers.relay import recovery
from producers.relay.cursor import Cursor, Layout
from producers.relay.outbox import Pending, PostgresOutbox

_NAME: Final = "iu-doctor"
T = TypeVar("T")


class _Closable(Protocol):
    def close(self) -> None: ...


C = TypeVar("C", bound=_Closable)


class Examination:
    """The services of one deployment, as far as they answer.

    Every property and method raises the `IUError` of the service that does not answer.
    """

    def __init__(
        self,
        database_url: Callable[[], str],
        bus_settings: Callable[[], Settings],
        settings: Settings,
        *,
        patience: Patience | None = None,
        sleep_s: Callable[[float], None] = time.sleep,
    ) -> None:
        self._database_url = database_url
        self._bus_settings = bus_settings
        self._settings = settings
        self._known: dict[str, Any] = {}
        self._opened = ExitStack()
        self.patience = patience or Patience()
        self.sleep_s = sleep_s

    @property
    def names(self) -> BusNames:
        """What this deployment calls its topics."""
        return BusNames(self._settings.kafka.prefix)

    @property
    def settings(self) -> Settings:
        """The settings, as the relay would have them."""
        return self._settings

    @property
    def layouts(self) -> tuple[Layout, ...]:
        """The shards of the layout in force: what the newest cursor says or, without any, their topic."""
        layout = self._once("layout", self._layout)
        return tuple(replace(layout, shard=shard) for shard in range(layout.shards))

    def _layout(self) -> Layout:
        if (known := recovery.in_force(self.cursors())) is not None:
            return known
        topic = self.described(self.names.cursor)
        # Every topic of the mock has four partitions, whatever it was made for.
        shards = self._settings.relay.shards if topic is None or self.mock else topic.partitions
        return Layout(partitions=self._settings.kafka.partitions, shards=shards)

    @property
    def login(self) -> Connection:
        """A session with the login's own rights."""
        return self._database(None)

    @property
    def reader_session(self) -> Connection:
        """A session in role iu_reader."""
        return self._database(Role.READER)

    def outbox(self, layout: Layout) -> PostgresOutbox:
        """The outbox as the relay reads it."""
        return PostgresOutbox(self._database(Role.RELAY), layout)

    @property
    def mock(self) -> bool:
        """Whether the broker is the mock, of which half of the questions cannot be asked."""
        return self._once("bus settings", self._bus_settings).kafka.mock

    @property
    def bootstrap(self) -> str:
        """The broker's address, for remedies."""
        return self._once("bus settings", self._bus_settings).kafka_bootstrap_servers or "BROKER"

    @property
    def admin(self) -> BusAdmin:
        """Describes topics."""

        def build() -> KafkaAdmin:
            settings = self._once("bus settings", self._bus_settings)
            require_reachable(settings)
            return self._kept(KafkaAdmin(settings, _NAME))

        return self._once("admin", build)

    @property
    def topics(self) -> TopicReader:
        """Reads topics."""
        return self._once("topics", lambda: self._kept(KafkaTopicReader(self._answering_bus(), _NAME)))

    @property
    def inspection(self) -> BusInspection:
        """Looks into the broker."""
        return self._once("inspection", lambda: self._kept(KafkaInspection(self._answering_bus(), _NAME)))

    def rows(
        self, query: str, bound: Sequence[Any] | None = None, *, reader: bool = False
    ) -> list[tuple[Any, ...]]:
        """Return the answer to a question of ours, asked as the login (or in role iu_reader)."""
        connection = self.reader_session if reader else self.login
        try:
            return connection.execute(query, bound).fetchall()
        except psycopg.Error as error:
            raise translate(error) from error

    def described(self, topic: str) -> Topic | None:
        """Return a topic as the broker describes it, asked once."""
        return self._once(f"topic {topic}", lambda: self.admin.describe(topic))

    def cursors(self) -> dict[int, Cursor]:
        """Return the last committed cursor of each shard that has one, read anew."""
        if self.described(self.names.cursor) is None:
            return {}
        return recovery.last_cursors(self.topics, self.names.cursor)

    def pending(self, layout: Layout) -> Pending:
        """Return what waits to be published of a shard, asked once."""

        def ask() -> Pending:
            cursor = self.cursors().get(layout.shard)
            return self.outbox(layout).pending(None if cursor is None else cursor.position)

        return self._once(f"pending {layout.shard}", ask)

    def database_clock(self) -> ClockReading:
        """Compare PostgreSQL's clock with this machine's: the best of three looks, asked once."""

        def ask() -> ClockReading:
            readings = []
            for _ in range(3):
                before_s = time.time()
                ((there_s,),) = self.rows("SELECT extract(epoch FROM clock_timestamp())::float8")
                after_s = time.time()
                readings.append(ClockReading(there_s - (before_s + after_s) / 2, (after_s - before_s) / 2))
            return min(readings, key=lambda reading: reading.uncertain_s)

        return self._once("database clock", ask)

    def close(self) -> None:
        """Close everything that was opened. Idempotent."""
        self._opened.close()

    def _database(self, role: Role | None) -> Connection:
        def open_session() -> Connection:
            url = self._once("database url", self._database_url)
            # An unreachable server is found out with the first session, not with each.
            if role is not None:
                self._database(None)
            try:
                session = connect(url, role, settings=self._settings.database, application_name=_NAME)
            except Misconfigured as error:
                # Not being a reader is the doctor's loss, not the relay's.
                if role is Role.READER:
                    raise NotOffered(error.what, why=error.why, remedy=error.remedy) from error
                raise
            return self._kept(session)

        return self._once(f"session {role}", open_session)

    def _answering_bus(self) -> Settings:
        """Return the bus settings, once the broker has answered: a frozen one is waited for once."""
        self.described(self.names.events)
        return self._once("bus settings", self._bus_settings)

    def _kept(self, client: C) -> C:
        self._opened.callback(client.close)
        return client

    def _once(self, name: str, ask: Callable[[], T]) -> T:
        if name not in self._known:
            try:
                self._known[name] = ask()
            except IUError as error:
                self._known[name] = error
        answer: T | IUError = self._known[name]
        if isinstance(answer, IUError):
            raise answer
        return answer
