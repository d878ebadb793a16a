"""Plant a fault in a function of a database that a test may spoil."""

from psycopg import sql

from tests.integration.sql.sessions import Session

_SOURCE = (
    "SELECT pg_get_functiondef(oid) FROM pg_proc WHERE proname = %s AND pronamespace = 'public'::regnamespace"
)


def put_instead(admin: Session, function: str, text: str, instead: str) -> None:
    """Replace `text` in the source of `function` by `instead`; fail if it is not there any more."""
    row = admin.execute(_SOURCE, (function,)).fetchone()
    assert row is not None, f"{function} is not there"
    source: str = row[0]
    assert text in source, f"{function} has changed: {text!r} is not in it"
    admin.execute(sql.SQL(source.replace(text, instead)))
