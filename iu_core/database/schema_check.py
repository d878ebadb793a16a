"""Compare a database with the files it was made from: `iu db verify`.

Four questions. Is the ledger the files? Is every function the text of its file? Is every object
owned by iu_owner and commented? Can PUBLIC execute nothing? The second is asked of the server
itself: each function file is run in a transaction that is rolled back, and the definitions
before and after are compared, so no text has to be parsed here. That takes no lock that a
running delivery or operation would wait for.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psycopg
import psycopg.sql

from iu_core.database.assemble import named_files
from iu_core.database.connection import Connection
from iu_core.database.migration_files import SqlFiles
from iu_core.database.migrations import Migrator
from iu_core.database.sqlstates import translate


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that is not as it should be; `place` is a file or an object of the database."""

    place: str
    what: str


def differences(connection: Connection, files: SqlFiles, sql: Path) -> tuple[Difference, ...]:
    """Return what differs between the database and the files under `sql`; empty if nothing does.

    `connection` is in autocommit mode and its login may act as iu_owner. Changes nothing.
    Raises what `translate` makes of an error of the database.
    """
    entries = Migrator(connection, files).status()
    found = [Difference(entry.name, _STATES[entry.state]) for entry in entries if entry.state != "applied"]
    try:
        # Functions of a pending migration may need tables that are not there yet.
        if all(entry.state == "applied" for entry in entries):
            found += _functions(connection, sql)
        found += _objects(connection)
    except psycopg.Error as error:
        raise translate(error) from error
    return tuple(found)


_STATES: Final = {
    "pending": "is not applied",
    "changed": "was changed after it was applied",
    "unknown": "is applied, and is no file of this release",
}

# Everything about a function that its file says: text, owner, comment, privileges.
_DEFINITIONS: Final = """
    SELECT p.oid::regprocedure::text,
           concat_ws(E'\\n', pg_get_functiondef(p.oid), p.proowner::regrole,
                     obj_description(p.oid, 'pg_proc'),
                     (SELECT string_agg(a::text, ' ' ORDER BY a::text) FROM unnest(p.proacl) AS a))
      FROM pg_proc AS p
     WHERE p.pronamespace = 'public'::regnamespace AND p.proname LIKE 'fn\\_iu\\_%'
"""

_ROW_VERSIONS: Final = "SELECT oid::regprocedure::text, ctid::text FROM pg_proc WHERE oid >= 16384"

_GRANTEES: Final = r"""
    SELECT DISTINCT pg_get_userbyid(a.grantee)
      FROM pg_proc AS p CROSS JOIN aclexplode(p.proacl) AS a
     WHERE p.pronamespace = 'public'::regnamespace AND p.proname LIKE 'fn\_iu\_%'
       AND a.grantee NOT IN (0, p.proowner)
"""
_STRIP: Final = psycopg.sql.SQL("REVOKE ALL ON ALL FUNCTIONS IN SCHEMA public FROM {}")


def _functions(connection: Connection, sql: Path) -> list[Difference]:
    before = _definitions(connection)
    named = named_files(sql)
    unnamed = set((sql / "functions").rglob("*.sql")) - set(named)
    with connection.transaction(force_rollback=True):
        connection.execute("SET LOCAL ROLE iu_owner")
        # CREATE OR REPLACE keeps grants, so one too many would not show: the files start from none.
        for (grantee,) in connection.execute(_GRANTEES).fetchall():
            connection.execute(_STRIP.format(psycopg.sql.Identifier(grantee)))
        versions = set(connection.execute(_ROW_VERSIONS).fetchall())
        for path in named:
            connection.execute(path.read_bytes())
        after = _definitions(connection)
        # A row of pg_proc that no file wrote anew is a function that no file makes.
        unmade = {name for name, _ in versions & set(connection.execute(_ROW_VERSIONS).fetchall())}
    found = [Difference(str(path.relative_to(sql.parent)), "no migration makes it") for path in unnamed]
    for name, definition in after.items():
        if name not in before:
            found.append(Difference(name, "is missing in the database"))
        elif name in unmade:
            found.append(Difference(name, "has no file in sql/functions"))
        elif before[name] != definition:
            found.append(Difference(name, "is not the text of its file"))
    return sorted(found, key=lambda each: each.place)


def _definitions(connection: Connection) -> dict[str, str]:
    return dict(connection.execute(_DEFINITIONS).fetchall())


# What belongs to this project in a schema that others may use too.
_OURS: Final = r"^(iu_|dot_config|information_unit|event_outbox)"

_OBJECTS: Final = """
    WITH relation AS (
      SELECT c.oid, c.relname, c.relowner, c.relkind
        FROM pg_class AS c
       WHERE c.relnamespace = 'public'::regnamespace AND c.relname ~ %(ours)s
    ), object AS (
      SELECT format('%%s %%I', CASE relkind WHEN 'i' THEN 'index' WHEN 'v' THEN 'view' ELSE 'table' END,
                    relname) AS name, relowner AS owner,
             -- Indexes behind a constraint are explained by its name.
             relkind IN ('r', 'p', 'v') OR (relkind = 'i' AND NOT EXISTS (
               SELECT FROM pg_constraint AS k WHERE k.conindid = relation.oid)) AS explained,
             obj_description(oid, 'pg_class') AS comment
        FROM relation WHERE relkind IN ('r', 'p', 'v', 'i')
      UNION ALL
      SELECT format('column %%I.%%I', relname, a.attname), relowner, true, col_description(oid, a.attnum)
        FROM relation JOIN pg_attribute AS a ON a.attrelid = oid
       WHERE relkind IN ('r', 'p', 'v') AND a.attnum > 0 AND NOT a.attisdropped
      UNION ALL
      SELECT format('trigger %%I on %%I', t.tgname, relname), relowner, true,
             obj_description(t.oid, 'pg_trigger')
        FROM relation JOIN pg_trigger AS t ON t.tgrelid = relation.oid WHERE NOT t.tgisinternal
      UNION ALL
      SELECT 'function ' || p.oid::regprocedure, p.proowner, true, obj_description(p.oid, 'pg_proc')
        FROM pg_proc AS p
       WHERE p.pronamespace = 'public'::regnamespace AND p.proname LIKE 'fn\\_iu\\_%%'
    )
    SELECT name, 'is owned by ' || owner::regrole FROM object WHERE owner <> to_regrole('iu_owner')
    UNION ALL
    SELECT name, 'has no comment' FROM object WHERE explained AND comment IS NULL
    UNION ALL
    SELECT 'function ' || p.oid::regprocedure, 'can be executed by PUBLIC'
      FROM pg_proc AS p
     WHERE p.pronamespace = 'public'::regnamespace AND p.proname LIKE 'fn\\_iu\\_%%'
       AND EXISTS (SELECT FROM aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) AS a
                    WHERE a.grantee = 0)
     ORDER BY 1, 2
"""


def _objects(connection: Connection) -> list[Difference]:
    return [Difference(*row) for row in connection.execute(_OBJECTS, {"ours": _OURS})]
