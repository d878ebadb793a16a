"""The ledger on PostgreSQL, as role iu_consumer: four functions and no table.

A batch travels as *one message of the simple protocol* that holds both statements,
`fn_iu_route_deliver` over the events and `fn_iu_route_record`. The server starts it when the
whole message is there and commits it by itself, so a process that is stopped or killed at any
moment has either sent nothing or lost its say: no transaction ever waits for this process, and
with it nobody waits for the gate's lock that the transaction holds. Two statements sent one
after the other, or a pipeline, would leave it open for as long as we are stopped in between
(`idle_in_transaction_session_timeout` stands behind as the second line).

The gates are asked inside: by every fn_iu_route_deliver, and by fn_iu_route_record again.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final
from uuid import UUID

import psycopg
from psycopg import ClientCursor

from consumers.route.batch import Batch, attempts, dead_letters
from consumers.route.decide import Deliver, Plan, Route, Switches, Target
from consumers.route.ledger import Claim, Place, Poisoned, View
from iu_core.database import Connection, Verdict, classify, translate
from iu_core.errors import Terminal

_LOOK: Final = b"SELECT public.fn_iu_route_claim(%(route)s, 'live', '', '', '{}', '{}', '')"
_CLAIM: Final = b"""
    SELECT public.fn_iu_route_claim(%(route)s, %(lane)s, %(topic)s, %(topic_id)s,
                                    %(partitions)s::int[], %(log_starts)s::bigint[], %(owner)s)
"""
# In the batch's order: two processes must not take the same rows in different orders.
_DELIVER: Final = b"""
    SELECT count(public.fn_iu_route_deliver(%(route)s, event.event_ref, event.payload))
      FROM jsonb_to_recordset(%(events)s::jsonb) AS event (event_ref uuid, payload jsonb);
"""
_RECORD: Final = b"""
    SELECT public.fn_iu_route_record(%(route)s, %(lane)s, %(topic)s, %(partition)s, %(owner_epoch)s,
             %(from_offset)s, %(next_offset)s, %(last_event_ref)s::uuid,
             %(attempts)s::jsonb, %(dead_letters)s::jsonb);
"""
_HOLD: Final = b"SELECT public.fn_iu_route_hold(%(route)s, %(lane)s, %(gate)s, %(reason)s, %(owner)s)"


class PostgresLedger:
    """`Ledger` on PostgreSQL; one thread at a time. `connect` opens a session as iu_consumer.

    A session that broke is opened anew by the next call.
    """

    def __init__(self, connect: Callable[[], Connection]) -> None:
        self._connect = connect
        self._connection: Connection | None = None

    def look(self, route_code: str) -> View:
        """Return the route and the switches as they stand."""
        return _view(self._ask(_LOOK, {"route": route_code}))

    def claim(self, place: Place, log_starts: Mapping[int, int], owner: str) -> Sequence[Claim]:
        """Become the owner of the partitions that `log_starts` names."""
        partitions = sorted(log_starts)
        arguments = _place(place) | {
            "topic_id": place.topic_id,
            "partitions": partitions,
            "log_starts": [log_starts[partition] for partition in partitions],
            "owner": owner,
        }
        claimed = self._ask(_CLAIM, arguments)["partitions"]
        return [Claim(row["partition"], row["next_offset"], row["owner_epoch"]) for row in claimed]

    def deliver(self, place: Place, claim: Claim, batch: Batch, decision: Deliver) -> None:
        """Deliver the batch's events and record it: one message, one transaction."""
        events = [{"event_ref": str(event.event_ref), "payload": event.payload} for event in batch.events]
        arguments = _recording(place, claim, batch, decision) | {"events": _json(events)}
        self._run(_DELIVER + _RECORD if events else _RECORD, arguments)

    def record(self, place: Place, claim: Claim, batch: Batch, decision: Plan) -> None:
        """Record what was decided on the batch, without any effect."""
        self._run(_RECORD, _recording(place, claim, batch, decision))

    def hold(self, place: Place, gate: str, reason: str, owner: str) -> UUID:
        """Open or touch the one hold episode of the lane and return its id."""
        arguments = _place(place) | {"gate": gate, "reason": reason, "owner": owner}
        episode: UUID = self._ask(_HOLD, arguments)
        return episode

    def close(self) -> None:
        """Disconnect."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(psycopg.Error):
                connection.close()

    def _ask(self, query: bytes, arguments: Mapping[str, Any]) -> Any:
        row = self._run(query, arguments).fetchone()
        if row is None:
            raise Terminal("the database answered nothing", remedy="iu db verify")
        return row[0]

    def _run(self, statements: bytes, arguments: Mapping[str, Any]) -> ClientCursor[tuple[Any, ...]]:
        """Send `statements` as one simple-protocol message: all of it is done, or nothing."""
        try:
            if self._connection is None or self._connection.closed:
                self._connection = self._connect()
            return ClientCursor(self._connection).execute(statements, arguments)
        except psycopg.Error as error:
            if classify(error) is Verdict.RETRY:
                # Whatever state the session is in, a new one is in a known state.
                self.close()
            raise _fault(error) from error


def _fault(error: psycopg.Error) -> Exception:
    translated = translate(error)
    if classify(error) is not Verdict.ISOLATE:
        return translated
    return Poisoned(translated.what, why=translated.why, remedy=translated.remedy, code=translated.code)


def _view(found: Mapping[str, Any]) -> View:
    row, switches = found["route"], found["switches"]
    route = None
    if row is not None:
        route = Route(
            code=row["route_code"],
            event_type=row["event_type"],
            target=Target(row["target_kind"], row["target_ref"]),
            enabled=row["enabled"],
            mode="plan" if row["dry_run"] else "live",
        )
    return View(route, Switches(switches["delivery_enabled"], switches["live_routes"]))


def _place(place: Place) -> dict[str, Any]:
    return {"route": place.route_code, "lane": place.lane, "topic": place.topic}


def _recording(place: Place, claim: Claim, batch: Batch, decision: Deliver | Plan) -> dict[str, Any]:
    return _place(place) | {
        "partition": batch.partition,
        "owner_epoch": claim.owner_epoch,
        "from_offset": batch.from_offset,
        "next_offset": batch.next_offset,
        "last_event_ref": None if batch.last_event_ref is None else str(batch.last_event_ref),
        "attempts": _json(attempts(batch, decision)),
        "dead_letters": _json(dead_letters(batch)),
    }


def _json(rows: Sequence[Mapping[str, Any]]) -> str:
    return json.dumps(rows, ensure_ascii=False, separators=(",", ":"))
