"""Run every check of `verify` in one snapshot, as role `iu_reader`.

Order matters. First the relay's cursor, then the end of the topic, then the database's snapshot:
whatever the cursor calls published is below that end, and whatever is below that end has its row
in the snapshot. Writers, relay and consumers may go on meanwhile.
Source: design/30, "Rebuild, replay, verify".
"""

from collections.abc import Callable
from dataclasses import dataclass

import psycopg

from consumers.verify import queries
from consumers.verify.report import Finding, Report, RouteStates
from consumers.verify.trees import compare_trees
from iu_core.bus.names import BusNames
from iu_core.bus.ports import BusAdmin, TopicReader
from iu_core.database import Connection, translate
from schemas.topic_copy import copy_topic


@dataclass(frozen=True, slots=True)
class Bus:
    """The broker as `verify` needs it; `mock` says that nothing is proven on it."""

    reader: TopicReader
    admin: BusAdmin
    names: BusNames
    mock: bool


def verify(
    connection: Connection,
    bus: Bus,
    *,
    settled: str | None,
    floor_id: int = 0,
    progress: Callable[[str], None] = lambda line: None,
) -> Report:
    """Compare outbox, topic, decisions, projection and trees.

    `connection` must be idle and in autocommit mode. `settled` is the snapshot of the relay's
    cursor, read before this call, None where there is no cursor; rows up to `floor_id` are settled
    by their id. Raises `Retryable` if the
    broker or the database goes away meanwhile.
    """
    topic = bus.names.events
    exists = bus.admin.describe(topic) is not None
    ends = bus.reader.end_offsets(topic, committed=True) if exists else {}
    try:
        with connection.transaction():
            connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            connection.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
            connection.execute("SET LOCAL statement_timeout = 0")
            progress(f"reading {sum(ends.values())} offsets of {topic}")
            published = copy_topic(connection, bus.reader, topic, ends, table="verify_topic")
            progress("comparing decisions and effects")
            findings = [
                finding
                for check in (*queries.ON_TOPIC, *queries.ON_PRUNED, *queries.ON_DECISIONS)
                if (finding := _ask(connection, check)) is not None
            ]
            if settled is not None:
                skipped = _ask(connection, queries.SKIPPED, settled=settled, floor=floor_id)
                findings += [] if skipped is None else [skipped]
            routes, undecided = _states(connection, topic)
            findings += undecided
            progress("folding the trees")
            trees = compare_trees(connection)
            if trees.finding is not None:
                findings.append(trees.finding)
            return Report(
                events=_count(connection, "iu_event"),
                pruned=_count(connection, "event_outbox_stub"),
                published=published,
                projected=_count(connection, "iu_tree_change_log"),
                trees=trees.trees,
                units=trees.units,
                routes=routes,
                findings=tuple(findings),
                proven=not bus.mock,
            )
    except psycopg.Error as error:
        raise translate(error) from error


def _ask(connection: Connection, check: queries.Check, **parameters: str | int) -> Finding | None:
    row = connection.execute(check.query.encode(), parameters or None).fetchone()
    count, first = row if row is not None else (0, None)
    return Finding(check.rule, count, first or "") if count else None


def _states(connection: Connection, topic: str) -> tuple[tuple[RouteStates, ...], list[Finding]]:
    rows = connection.execute(queries.STATES.encode(), {"topic": topic}).fetchall()
    routes = tuple(RouteStates(*row[:11]) for row in rows)
    rule = "what the live lane has passed has a decision"
    return routes, [Finding(rule, row[9], f"route {row[0]}, event {row[11]}") for row in rows if row[9]]


def _count(connection: Connection, table: str) -> int:
    query = psycopg.sql.SQL("SELECT count(*) FROM public.{}").format(psycopg.sql.Identifier(table))
    row = connection.execute(query).fetchone()
    return int(row[0]) if row is not None else 0
