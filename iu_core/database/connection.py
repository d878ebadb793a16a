"""Open a connection in one of the roles of `sql/roles.sql`.

A process takes the role of its job even when its login could do more, so that a privilege
that is missing in production is missing on a laptop too.
"""

import re
from enum import StrEnum
from typing import Any, TypeAlias

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from iu_core.database.sqlstates import translate
from iu_core.errors import Misconfigured, Retryable, Terminal
from iu_core.settings import DatabaseSettings

Connection: TypeAlias = psycopg.Connection[tuple[Any, ...]]


class Role(StrEnum):
    """The group roles of `sql/roles.sql`."""

    OWNER = "iu_owner"
    RELAY = "iu_relay"
    CONSUMER = "iu_consumer"
    EDITOR = "iu_editor"
    GATEKEEPER = "iu_gatekeeper"
    READER = "iu_reader"


def connect(
    url: str,
    role: Role | None,
    *,
    settings: DatabaseSettings,
    application_name: str,
    autocommit: bool = True,
) -> Connection:
    """Open a connection to `url` and take `role`; None keeps the login's own rights.

    READ COMMITTED, UTF-8, time zone UTC, and bounded: connecting, each statement, and the time
    a transaction may stand idle. Raises `Retryable` if the server cannot be reached,
    `Misconfigured` if `url` is none or its login may not take the role.
    """
    parameters = _parameters(url)
    bounds = " ".join(
        (
            str(parameters.get("options") or ""),
            f"-c statement_timeout={settings.statement_timeout_ms}",
            f"-c idle_in_transaction_session_timeout={settings.idle_in_transaction_timeout_ms}",
            "-c default_transaction_isolation=read\\ committed -c timezone=UTC",
        )
    ).strip()
    address = make_conninfo(
        url,
        connect_timeout=settings.connect_timeout_s,
        application_name=application_name,
        options=bounds,
        client_encoding="utf8",
    )
    try:
        connection = psycopg.connect(address, autocommit=autocommit)
    except psycopg.OperationalError as error:
        raise _unreachable(error, parameters) from error
    if role is not None:
        _take_role(connection, role)
    return connection


def _parameters(url: str) -> dict[str, Any]:
    """Return what `url` says. A refusal repeats nothing of it: any part may be one of the password."""
    try:
        parameters = conninfo_to_dict(url)
    except psycopg.ProgrammingError as error:
        raise Misconfigured(
            "IU_DATABASE_URL is not a PostgreSQL address",
            why=re.sub(r'".*"', '"…"', str(error).strip(), flags=re.DOTALL),
            remedy="write it as postgresql://user@host:port/database",
        ) from error
    # An unescaped @ or / in a password moves the rest of it into the host, the port or the name.
    host, port, name = (str(parameters.get(part) or "") for part in ("host", "port", "dbname"))
    if "@" in host.lstrip("@") or "@" in name or not re.fullmatch(r"[0-9,]*", port):
        raise Misconfigured(
            "IU_DATABASE_URL is not a PostgreSQL address",
            why="its host, port or database name is none; perhaps its password holds a character of URLs",
            remedy="write @ as %40, / as %2F and : as %3A in user and password",
        )
    return parameters


def _take_role(connection: Connection, role: Role) -> None:
    try:
        connection.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(role)))
        if not connection.autocommit:
            connection.commit()
    except psycopg.Error as error:
        login = connection.info.user
        connection.close()
        if error.sqlstate == "22023":
            raise Misconfigured(
                f"the role {role} does not exist", why="the database is not migrated", remedy="iu db up"
            ) from error
        if error.sqlstate == "42501":
            raise Misconfigured(
                f"login {login!r} may not act as {role}",
                why=error.diag.message_primary,
                remedy=f'as an administrator: GRANT {role} TO "{login}"',
                code=error.sqlstate,
            ) from error
        raise translate(error) from error


def _reason(error: psycopg.OperationalError) -> str:
    """Return libpq's last verdict, without the indented questions it asks below it."""
    lines = [line for line in str(error).strip().splitlines() if line and not line[0].isspace()]
    return lines[-1] if lines else type(error).__name__


def _unreachable(error: psycopg.OperationalError, parameters: dict[str, Any]) -> Retryable | Terminal:
    """A wrong password or database stays wrong; a server that does not answer may come back."""
    place = (
        f"{parameters.get('host', 'localhost')}:{parameters.get('port', 5432)}/{parameters.get('dbname', '')}"
    )
    reason = _reason(error)
    if any(
        mark in str(error) for mark in ("does not exist", "authentication failed", "no pg_hba.conf entry")
    ):
        return Misconfigured(
            f"PostgreSQL at {place} does not let us in", why=reason, remedy="correct IU_DATABASE_URL"
        )
    return Retryable(
        f"PostgreSQL at {place} does not answer",
        why=reason,
        remedy="start it (`iu services up` on this machine) or correct IU_DATABASE_URL",
        code=error.sqlstate,
    )
