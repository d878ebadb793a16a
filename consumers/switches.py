"""Read and turn the switches of `dot_config`, as role `iu_gatekeeper` (reading: `iu_reader` too).

Closing is linearizable: when `close_gate` or `revoke` returns, no delivery that passed the switch
commits any more (guarantee G6); it waits for those that are under way, and new ones queue behind.
Who, when, old, new and why are kept by the database itself.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

import psycopg

from consumers.route.decide import listed
from iu_core.database import Connection, translate
from iu_core.errors import Terminal

ALLOWLIST_KEY: Final = "iu_core.delivery_live_routes"


class Gate(StrEnum):
    """The gates that one switch opens and closes."""

    DELIVERY = "delivery"
    STRUCTURE = "structure"

    @property
    def key(self) -> str:
        """The switch's key in `dot_config`."""
        return _KEYS[self]


_KEYS: Final = {
    Gate.DELIVERY: "iu_core.delivery_enabled",
    Gate.STRUCTURE: "iu_core.structure_op_enabled",
}


@dataclass(frozen=True, slots=True)
class GateState:
    """A gate as it stands. `value` is None where the key is missing, which is closed."""

    gate: Gate
    value: str | None
    is_open: bool


@dataclass(frozen=True, slots=True)
class Switches:
    """Both gates, and the routes that may go live."""

    gates: tuple[GateState, ...]
    live_routes: tuple[str, ...]

    def gate(self, gate: Gate) -> GateState:
        """Return the state of `gate`."""
        return next(state for state in self.gates if state.gate is gate)


@dataclass(frozen=True, slots=True)
class Change:
    """One entry of the audit trail: a switch, or a route."""

    changed_at: datetime
    subject: str
    old: str | None
    new: str | None
    login: str
    role: str | None
    application_name: str | None
    reason: str | None


def read_switches(connection: Connection) -> Switches:
    """Return every switch as it stands."""
    keys = [*_KEYS.values(), ALLOWLIST_KEY]
    with _translated():
        rows = connection.execute(
            "SELECT key, value FROM public.dot_config WHERE key = ANY (%s)", (keys,)
        ).fetchall()
    values: dict[str, str] = dict(rows)
    gates = tuple(GateState(gate, values.get(gate.key), values.get(gate.key) == "true") for gate in Gate)
    return Switches(gates, tuple(sorted(listed(values.get(ALLOWLIST_KEY)))))


def open_gate(connection: Connection, gate: Gate, reason: str) -> None:
    """Open `gate`. Raises `Terminal` (IU006) for a blank reason, `Refused` without the right."""
    _set(connection, gate, "true", reason)


def close_gate(connection: Connection, gate: Gate, reason: str | None = None) -> float:
    """Close `gate`; return, once nothing that passed it can commit any more, how long it took in ms."""
    started = time.monotonic()
    _set(connection, gate, "false", reason or "")
    return (time.monotonic() - started) * 1_000


def allow(connection: Connection, route_code: str, reason: str) -> None:
    """Put `route_code` on the allowlist. Raises `Terminal` if the switch is not registered."""
    _change_allowlist(connection, _ALLOW, route_code, reason)


def revoke(connection: Connection, route_code: str, reason: str | None = None) -> None:
    """Take `route_code` off the allowlist; as final as a close."""
    _change_allowlist(connection, _REVOKE, route_code, reason or "")


def history(connection: Connection, limit: int) -> tuple[Change, ...]:
    """Return the newest `limit` changes of switches and routes, newest first."""
    with _translated():
        rows = connection.execute(_HISTORY, (limit,)).fetchall()
    return tuple(Change(*row) for row in rows)


# One statement each: its trigger takes the gate's lock before the row is touched. A SELECT FOR
# UPDATE first would hold the row while it waits for the lock, and deadlock with deliveries.
_ALLOW: Final = """
    UPDATE public.dot_config AS config
       SET value = array_to_string(ARRAY(
             SELECT btrim(code) FROM unnest(string_to_array(config.value, ',')) AS code
              WHERE btrim(code) <> '' UNION SELECT %(code)s ORDER BY 1), ',')
     WHERE config.key = %(key)s
"""
_REVOKE: Final = """
    UPDATE public.dot_config AS config
       SET value = array_to_string(ARRAY(
             SELECT btrim(code) FROM unnest(string_to_array(config.value, ',')) AS code
              WHERE btrim(code) NOT IN ('', %(code)s) ORDER BY 1), ',')
     WHERE config.key = %(key)s
"""
_HISTORY: Final = """
    SELECT changed_at, subject, old, new, login, role, application_name, reason
      FROM (SELECT changed_at, key AS subject, old_value AS old, new_value AS new,
                   login, role, application_name, reason FROM public.dot_config_audit
            UNION ALL
            SELECT changed_at, 'route ' || route_code,
                   CASE WHEN old_route IS NOT NULL THEN
                     format('enabled=%%s dry_run=%%s', old_route ->> 'enabled', old_route ->> 'dry_run') END,
                   CASE WHEN new_route IS NOT NULL THEN
                     format('enabled=%%s dry_run=%%s', new_route ->> 'enabled', new_route ->> 'dry_run') END,
                   login, role, application_name, reason FROM public.iu_outbound_route_audit) AS change
     ORDER BY changed_at DESC LIMIT %s
"""


def _set(connection: Connection, gate: Gate, value: str, reason: str) -> None:
    with _translated():
        connection.execute("SELECT public.fn_iu_config_set(%s, %s, %s)", (gate.key, value, reason))


def _change_allowlist(connection: Connection, statement: str, route_code: str, reason: str) -> None:
    with _translated(), connection.transaction():
        connection.execute("SELECT set_config('iu.reason', %s, true)", (reason,))
        done = connection.execute(statement.encode(), {"code": route_code, "key": ALLOWLIST_KEY})
        if done.rowcount == 0:
            raise Terminal(
                f"the switch {ALLOWLIST_KEY} is not registered",
                why="a missing allowlist allows nothing",
                remedy="iu db up registers it, empty",
            )


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except psycopg.Error as error:
        raise translate(error) from error
