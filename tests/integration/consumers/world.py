"""A database, a topic and people at the switches: what tests of the route consumers act on.

Events come from real operations through the real relay. Switches and routes are turned by plain
UPDATE, as a superuser in a hurry would, so that nothing of ours stands between close and database.
"""

import threading
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg

from consumers.route.progress import Progress
from consumers.route.service import ConsumerService
from consumers.verify.report import Report
from consumers.verify.verification import Bus, verify
from iu_core.bus.kafka_admin import KafkaAdmin
from iu_core.bus.kafka_reader import KafkaTopicReader
from iu_core.bus.names import BusNames
from iu_core.database import Role, connect
from iu_core.settings import ConsumerSettings, DatabaseSettings, KafkaSettings, RelaySettings, Settings
from producers.relay.contracts import BundledContracts
from producers.relay.service import RelayService
from producers.relay.status import ask
from schemas.catalog import Catalog
from tests.integration.sql.sessions import Editor, fresh_piece, open_gate, session

DEADLINE_S = 30  # when a test gives up, not a measure of speed
SIX = (
    "structure_child_added",
    "structure_piece_deprecated",
    "structure_piece_merged",
    "structure_piece_replaced",
    "structure_piece_split",
    "structure_reparented",
)
TURN_DELIVERY = "UPDATE public.dot_config SET value = %s WHERE key = 'iu_core.delivery_enabled'"
TURN_ALLOWLIST = "UPDATE public.dot_config SET value = %s WHERE key = 'iu_core.delivery_live_routes'"
TURN_ROUTE = "UPDATE public.iu_outbound_route SET enabled = %s, dry_run = %s WHERE route_code = ANY (%s)"


@dataclass(frozen=True, slots=True)
class World:
    """One test's database and topics. `admin` is a superuser's session in autocommit mode."""

    url: str
    settings: Settings
    admin: psycopg.Connection[tuple[Any, ...]]

    @property
    def names(self) -> BusNames:
        """The names of this test's topics and groups."""
        return BusNames(self.settings.kafka.prefix)

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs to find this world."""
        return {
            "IU_DATABASE_URL": self.url,
            "IU_KAFKA_BOOTSTRAP_SERVERS": self.settings.kafka_bootstrap_servers or "",
            "IU_KAFKA__PREFIX": self.settings.kafka.prefix,
            "IU_CONSUMER__SESSION_TIMEOUT_MS": str(self.settings.consumer.session_timeout_ms),
            "IU_CONSUMER__POLL_MS": str(self.settings.consumer.poll_ms),
            "IU_CONSUMER__BATCH_ROWS_MAX": str(self.settings.consumer.batch_rows_max),
        }

    def events(self, count: int, *, trees: int = 3) -> None:
        """Make at least `count` events of all six types by operations, on several trees."""
        editor = Editor(self.url)
        try:
            before = self.one("SELECT count(*) FROM event_outbox")
            roots = [editor.add(None) for _ in range(trees)]
            while self.one("SELECT count(*) FROM event_outbox") < before + count:
                for root in roots:
                    one, two, three = (editor.add(root) for _ in range(3))
                    editor.reparent(two, one)
                    editor.reparent(two, root)
                    editor.split(one, [fresh_piece(), fresh_piece()])
                    made = editor.merge([two, three]).unit_ids[0]
                    editor.deprecate(editor.replace(made).unit_ids[0])
        finally:
            editor.session.close()

    def reparents(self, count: int) -> list[uuid.UUID]:
        """Make `count` events of one route, after three of another; return their event_refs."""
        editor = Editor(self.url)
        try:
            root = editor.add(None)
            here, there = editor.add(root), editor.add(root)
            unit = editor.add(here)
            parents = [there if turn % 2 == 0 else here for turn in range(count)]
            return [editor.reparent(unit, parent).event_ref for parent in parents]
        finally:
            editor.session.close()

    def relay(self) -> None:
        """Publish what is committed by now."""
        contracts = BundledContracts(Catalog.bundled(), BusNames().events)
        RelayService(self.settings, self.url, contracts, until_idle=True).run(threading.Event())

    def turn_delivery(self, value: str) -> None:
        """Turn the kill switch."""
        with self._because_a_test_says_so():
            self.admin.execute(TURN_DELIVERY, (value,))

    def allow(self, *routes: str) -> None:
        """Set the allowlist."""
        with self._because_a_test_says_so():
            self.admin.execute(TURN_ALLOWLIST, (",".join(routes),))

    def turn_routes(self, *routes: str, enabled: bool, dry_run: bool) -> None:
        """Turn routes."""
        with self._because_a_test_says_so():
            done = self.admin.execute(TURN_ROUTE, (enabled, dry_run, list(routes)))
            assert done.rowcount == len(routes)

    def go_live(self, *routes: str) -> None:
        """Open everything for `routes`."""
        self.allow(*routes)
        self.turn_routes(*routes, enabled=True, dry_run=False)
        self.turn_delivery("true")

    def consume(self, *routes: str) -> Mapping[str, Progress]:
        """Run consumers of `routes` (default: all six) in this process until idle; return how they stand."""
        service = ConsumerService(self.settings, self.url, routes or SIX, until_idle=True)
        return {done.route_code: done for done in service.run(threading.Event())}

    def one(self, query: str, *arguments: object) -> Any:
        """Return the single value of `query`."""
        row = self.admin.execute(query.encode(), arguments).fetchone()
        assert row is not None
        return row[0]

    def rows(self, query: str, *arguments: object) -> list[tuple[Any, ...]]:
        """Return the rows of `query`."""
        return self.admin.execute(query.encode(), arguments).fetchall()

    def decisions(self, route: str) -> list[tuple[Any, ...]]:
        """Return (event_ref, lane, decision, gate) of `route`, in order."""
        return self.rows(
            "SELECT event_ref, lane, decision, gate FROM iu_route_attempt WHERE route_code = %s ORDER BY id",
            route,
        )

    def await_that(self, condition: str, *arguments: object, within_s: float = DEADLINE_S) -> None:
        """Return once the SQL `condition` holds; fail the test at the deadline."""
        give_up_at = time.monotonic() + within_s
        while not self.one(f"SELECT {condition}", *arguments):
            assert time.monotonic() < give_up_at, f"never held: {condition} {arguments}"
            time.sleep(0.02)

    @contextmanager
    def _because_a_test_says_so(self) -> Iterator[None]:
        self.admin.execute("SELECT set_config('iu.reason', 'a test', false)")
        yield


@contextmanager
def made_world(url: str, kafka_bootstrap: str, prefix: str, *, batch_rows_max: int = 500) -> Iterator[World]:
    """Yield a world with open structure gate, closed delivery, and no route enabled."""
    settings = Settings(
        database_url=url,
        kafka_bootstrap_servers=kafka_bootstrap,
        kafka=KafkaSettings(prefix=prefix),
        relay=RelaySettings(cluster="test"),
        consumer=ConsumerSettings(
            session_timeout_ms=6_000, poll_ms=50, hold_recheck_ms=50, batch_rows_max=batch_rows_max
        ),
        database=DatabaseSettings(),
    )
    open_gate(url)
    with session(url, None, name="a test") as admin:
        try:
            yield World(url, settings, admin)
        finally:
            _delete_topics(settings)


def _delete_topics(settings: Settings) -> None:
    names, admin = BusNames(settings.kafka.prefix), KafkaAdmin(settings, "a-test")
    try:
        admin.delete([names.events, names.cursor, names.relay_dead_letters, names.route_dead_letters])
    finally:
        admin.close()


def effects(world: World, routes: Sequence[str] = SIX) -> dict[str, int]:
    """Return the figures that must be equal when everything of `routes` is delivered exactly once."""
    (figures,) = world.rows(
        """
        SELECT (SELECT count(*) FROM event_outbox WHERE event_type = ANY (%s)),
               (SELECT count(*) FROM iu_tree_change_log),
               (SELECT count(DISTINCT event_ref) FROM iu_tree_change_log),
               (SELECT count(*) FROM iu_route_attempt WHERE decision = 'sent'),
               (SELECT count(*) FROM (SELECT DISTINCT route_code, event_ref
                                        FROM iu_route_attempt WHERE decision = 'sent') AS pair)
        """,
        list(routes),
    )
    names = ("events", "projection rows", "events projected", "sent", "pairs sent")
    return dict(zip(names, figures, strict=True))


def verified(world: World) -> Report:
    """Run `verify` as the command does."""
    found = ask(world.settings, world.url)
    settled = None if found.settled is None else str(found.settled)
    with ExitStack() as opened:
        reader = KafkaTopicReader(world.settings, "test-verify")
        opened.callback(reader.close)
        admin = KafkaAdmin(world.settings, "test-verify")
        opened.callback(admin.close)
        connection = connect(world.url, Role.READER, settings=DatabaseSettings(), application_name="test")
        opened.callback(connection.close)
        bus = Bus(reader, admin, world.names, mock=False)
        return verify(connection, bus, settled=settled, floor_id=found.floor_id)


def session_of(world: World, role: Role | None = None) -> psycopg.Connection[tuple[Any, ...]]:
    """Open another session, as some role."""
    return session(world.url, role)
