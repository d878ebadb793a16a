"""Make the delivery seam inert, so that its migration can be rolled back without losing a row.

The rollback of 013 refuses while a route is live or the projection holds rows. Forcing it means
to send the routes to dry-run and to keep the rows in a file. Both happen in the transaction of
the rollback: if that fails, the routes are as they were, and the file says what it was for.
"""

import os
from dataclasses import dataclass
from pathlib import Path

from iu_core.database.connection import Connection
from iu_core.errors import Terminal


@dataclass(frozen=True, slots=True)
class Inert:
    """What was made inert: routes sent to dry-run, rows taken out, and the file that has them."""

    routes: tuple[str, ...]
    rows: int
    file: Path | None


def make_inert(connection: Connection, file: Path | None) -> Inert:
    """Send every live route to dry-run, write the projection to `file`, and empty it.

    Call it inside the transaction that then drops the projection. `file` gets one JSON object a
    line and is on disk before this returns; None writes nothing, for a rehearsal. Raises
    `Terminal` if the file exists or cannot be written.
    """
    connection.execute("SET LOCAL ROLE iu_owner")
    # First: its trigger waits for the deliveries under way, and keeps new ones waiting.
    routes = connection.execute(
        "UPDATE public.iu_outbound_route SET dry_run = true"
        " WHERE enabled AND NOT dry_run RETURNING route_code"
    ).fetchall()
    count = connection.execute("SELECT count(*) FROM public.iu_tree_change_log").fetchone()
    rows = 0 if count is None else int(count[0])
    if file is not None:
        _export(connection, file)
    connection.execute("TRUNCATE public.iu_tree_change_log")
    return Inert(tuple(sorted(row[0] for row in routes)), rows, file)


def _export(connection: Connection, file: Path) -> None:
    query = "COPY (SELECT to_jsonb(change) FROM public.iu_tree_change_log AS change ORDER BY id) TO STDOUT"
    try:
        with file.open("x", encoding="utf-8") as sink, connection.cursor() as cursor:
            with cursor.copy(query) as copy:
                for (row,) in copy.rows():
                    sink.write(f"{row}\n")
            sink.flush()
            os.fsync(sink.fileno())
    except OSError as error:
        raise Terminal(
            f"the projection could not be saved to {file}",
            why=error.strerror,
            remedy="name another file with --export; nothing was rolled back",
        ) from error
