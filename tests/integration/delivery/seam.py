"""The delivery seam as its callers see it: somebody who changes it, and workers of a route.

Everything goes through real sessions in the roles of production. A worker's batch is one
transaction, as the consumer's is: deliver each event, then record them all.
"""

import uuid
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from psycopg import sql
from psycopg.types.json import Jsonb

from iu_core.database import Role, connect
from iu_core.settings import DatabaseSettings
from tests.integration.sql.sessions import Session

DEADLINE_S = 5  # when a test gives up, not a measure of speed
ROUTE = "structure_child_added"
TOPIC = "t.iu.structure.events"
TOPIC_ID = "topic-id-1"
ENABLED = "iu_core.delivery_enabled"
LIVE_ROUTES = "iu_core.delivery_live_routes"

DELIVER = "SELECT fn_iu_route_deliver(%s, %s, %s)"
CLAIM = "SELECT fn_iu_route_claim(%s, %s, %s, %s, %s, %s, %s)"
RECORD = "SELECT fn_iu_route_record(%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)"
HOLD = "SELECT fn_iu_route_hold(%s, %s, %s, %s, %s)"


@dataclass(frozen=True, slots=True)
class Event:
    """An event of the outbox, as a worker has decoded it."""

    ref: uuid.UUID
    payload: dict[str, Any]


class Seam:
    """Changes switches and routes, makes events, and counts what landed; as a superuser.

    Every session comes from here, and is closed at the end of the `with` block.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._open = ExitStack()
        self.admin = self.session(name="seam")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()

    def session(self, role: Role | None = None, *, name: str = "test", reason: str = "a test") -> Session:
        """Open a session in which nothing takes longer than the deadline; `reason` is for its changes."""
        bounds = DatabaseSettings(
            statement_timeout_ms=DEADLINE_S * 1000, idle_in_transaction_timeout_ms=2 * DEADLINE_S * 1000
        )
        opened = connect(self._url, role, settings=bounds, application_name=name)
        self._open.callback(opened.close)
        opened.execute("SELECT set_config('iu.reason', %s, false)", (reason,))
        return opened

    def worker(
        self, *, partition: int = 0, lane: str = "live", route: str = ROUTE, name: str = "worker"
    ) -> "Worker":
        """Return a process of the route's group; it has claimed nothing yet."""
        return Worker(self.session(Role.CONSUMER, name=name, reason=""), partition, lane, route, name)

    def events(self, count: int) -> list[Event]:
        """Make `count` trees of one unit each and return their structure_child_added events."""
        self.switch("iu_core.structure_op_enabled", "true")
        refs = [
            row[0]
            for row in self.admin.execute(
                """SELECT done.event_ref
                     FROM generate_series(1, %s) AS number,
                          fn_iu_structure_op_add_new_piece(
                            NULL, NULL, NULL, 't.' || gen_random_uuid() || number, NULL, 'text', 'draft',
                            '{}', 'ada', 'a test') AS done""",
                (count,),
            )
        ]
        rows = self.admin.execute(
            "SELECT event_ref, payload FROM event_outbox WHERE event_ref = ANY (%s) ORDER BY id", (refs,)
        )
        return [Event(*row) for row in rows]

    def switch(self, key: str, value: str | None) -> None:
        """Set a switch, or remove it."""
        if value is None:
            self.admin.execute("DELETE FROM dot_config WHERE key = %s", (key,))
        else:
            self.admin.execute("SELECT fn_iu_config_set(%s, %s, 'a test')", (key, value))

    def open(self, *routes: str) -> None:
        """Open gates 1 and 2, for these routes only."""
        self.switch(ENABLED, "true")
        self.switch(LIVE_ROUTES, ",".join(routes))

    def set_route(self, code: str = ROUTE, /, **columns: object) -> None:
        """Change columns of a route."""
        settings = sql.SQL(", ").join(
            sql.SQL("{} = {}").format(sql.Identifier(name), sql.Literal(value))
            for name, value in columns.items()
        )
        self.admin.execute(
            sql.SQL("UPDATE iu_outbound_route SET {} WHERE route_code = {}").format(settings, code)
        )

    def go_live(self, code: str = ROUTE) -> None:
        """Open both gates for this route and take it out of dry-run."""
        self.open(code)
        self.set_route(code, enabled=True, dry_run=False)

    def go_dry(self, code: str = ROUTE) -> None:
        """Enable the route in dry-run."""
        self.set_route(code, enabled=True, dry_run=True)

    def value(self, query: str, *arguments: object) -> Any:
        """Return the one value of a query."""
        row = self.admin.execute(query, arguments).fetchone()
        assert row is not None
        return row[0]

    def projected(self) -> int:
        """Return how many rows the projection has."""
        return int(self.value("SELECT count(*) FROM iu_tree_change_log"))

    def decisions(self) -> dict[str, int]:
        """Return how many rows the ledger has, by decision."""
        rows = self.admin.execute("SELECT decision, count(*) FROM iu_route_attempt GROUP BY decision")
        return dict(rows.fetchall())

    def position(self, partition: int = 0, lane: str = "live") -> tuple[int, int]:
        """Return (owner_epoch, next_offset)."""
        row = self.admin.execute(
            "SELECT owner_epoch, next_offset FROM iu_route_offset WHERE lane = %s AND partition = %s",
            (lane, partition),
        ).fetchone()
        assert row is not None
        return row[0], row[1]


class Worker:
    """A process of a route's group that owns one partition; its session has role iu_consumer."""

    def __init__(self, session: Session, partition: int, lane: str, route: str, name: str) -> None:
        self.session = session
        self.route, self.lane, self.partition, self.name = route, lane, partition, name
        self.epoch = self.next = 0

    def claim(self, *, topic_id: str = TOPIC_ID, log_start: int = 0) -> dict[str, Any]:
        """Claim the partition and remember epoch and position."""
        answer = self.call(
            CLAIM, self.route, self.lane, TOPIC, topic_id, [self.partition], [log_start], self.name
        )
        (claimed,) = answer["partitions"]
        self.epoch, self.next = claimed["owner_epoch"], claimed["next_offset"]
        assert isinstance(answer, dict)
        return answer

    def look(self) -> dict[str, Any]:
        """Claim nothing; return route and switches as stored."""
        answer = self.call(CLAIM, self.route, self.lane, TOPIC, TOPIC_ID, [], [], self.name)
        assert isinstance(answer, dict)
        return answer

    def deliver(self, event: Event) -> bool:
        """Deliver one event; True if it had an effect."""
        return bool(self.call(DELIVER, self.route, event.ref, Jsonb(event.payload)))

    def record(
        self,
        attempts: Sequence[dict[str, Any]] = (),
        letters: Sequence[dict[str, Any]] = (),
        *,
        advance: int | None = None,
        last: uuid.UUID | None = None,
    ) -> None:
        """Record decisions and move on by `advance` offsets; default: past the last attempt."""
        if advance is None:
            advance = max((attempt["offset"] for attempt in attempts), default=self.next - 1) - self.next + 1
        self.call(
            RECORD,
            *(self.route, self.lane, TOPIC, self.partition, self.epoch, self.next, self.next + advance),
            *(last, Jsonb(list(attempts)), Jsonb(list(letters))),
        )
        self.next += advance

    def land(self, *events: Event, pause: str = "0") -> None:
        """Deliver and record a batch in one transaction; `pause` is SQL for seconds spent in it."""
        before = self.next
        try:
            with self.session.transaction():
                for event in events:
                    self.deliver(event)
                if pause != "0":
                    self.session.execute(f"SELECT pg_sleep({pause})")
                self.record([attempt(event, self.next + place) for place, event in enumerate(events)])
        except BaseException:
            self.next = before
            raise

    def hold(self, gate: str, reason: str) -> uuid.UUID:
        """Report a hold; return its episode."""
        episode = self.call(HOLD, self.route, self.lane, gate, reason, self.name)
        assert isinstance(episode, uuid.UUID)
        return episode

    def call(self, query: str, *arguments: object) -> Any:
        """Return what a function returns."""
        row = self.session.execute(query, arguments).fetchone()
        assert row is not None
        return row[0]


def attempt(event: Event | None, offset: int, decision: str = "sent", **more: object) -> dict[str, Any]:
    """Return a decision as fn_iu_route_record takes it."""
    return {"event_ref": str(event.ref) if event else None, "offset": offset, "decision": decision} | more


def letter(offset: int, reason: str = "undecodable", **more: object) -> dict[str, Any]:
    """Return a dead letter as fn_iu_route_record takes it."""
    return {"offset": offset, "reason": reason} | more
