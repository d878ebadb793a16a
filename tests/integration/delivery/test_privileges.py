"""Least privilege: a consumer has four functions and no table; history refuses everybody."""

# ruff: noqa: S608 -- every statement here is built from constants

import psycopg
import pytest
from psycopg import sql

from iu_core.database import Role
from tests.integration.delivery.seam import ROUTE, Seam, attempt, letter
from tests.integration.sql.sessions import refused

CONSUMER_FUNCTIONS = {
    "fn_iu_route_claim",
    "fn_iu_route_deliver",
    "fn_iu_route_record",
    "fn_iu_route_hold",
}
TABLES = (
    "iu_outbound_route",
    "iu_outbound_route_audit",
    "iu_route_attempt",
    "iu_route_dead_letter",
    "iu_route_offset",
    "iu_route_hold",
    "iu_tree_change_log",
)
APPEND_ONLY = ("iu_outbound_route_audit", "iu_route_attempt", "iu_tree_change_log")
EXECUTABLE = """
    SELECT proname FROM pg_proc
     WHERE pronamespace = 'public'::regnamespace AND has_function_privilege(%s, oid, 'EXECUTE')
"""
TABLE_PRIVILEGES = """
    SELECT relname, privilege
      FROM pg_class,
           unnest('{SELECT,INSERT,UPDATE,DELETE,TRUNCATE,REFERENCES,TRIGGER}'::text[]) AS privilege
     WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p', 'v', 'm')
       AND (has_table_privilege(%(role)s, oid, privilege)
            OR privilege IN ('SELECT', 'INSERT', 'UPDATE', 'REFERENCES')
               AND has_any_column_privilege(%(role)s, oid, privilege))
"""


def check_a_consumer_has_four_functions_and_no_table(seam: Seam) -> None:
    """EXECUTE on what it needs, and not one privilege on a table, a column or a sequence."""
    functions = {name for (name,) in seam.admin.execute(EXECUTABLE, ("iu_consumer",))}
    assert functions == CONSUMER_FUNCTIONS
    assert seam.admin.execute(TABLE_PRIVILEGES, {"role": "iu_consumer"}).fetchall() == []
    sequences = seam.admin.execute(
        """SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace
              AND CASE WHEN relkind <> 'S' THEN false
                  ELSE has_sequence_privilege('iu_consumer', oid, 'USAGE, SELECT, UPDATE') END"""
    ).fetchall()
    assert sequences == []


def check_history_refuses_everybody(seam: Seam, table: str) -> None:
    """UPDATE and DELETE of a row that is there, by a superuser and by the owner, in replica mode too."""
    fill(seam)
    name = sql.Identifier(table)
    (column,) = seam.admin.execute(
        "SELECT attname FROM pg_attribute WHERE attrelid = %s::regclass AND attnum = 2", (table,)
    ).fetchone() or ("",)
    for session in (seam.session(), seam.session(Role.OWNER)):
        for statement in (
            sql.SQL("UPDATE {} SET {column} = {column}").format(name, column=sql.Identifier(column)),
            sql.SQL("DELETE FROM {}").format(name),
        ):
            with refused("IU040", table):
                session.execute(statement)
    replica = seam.session()
    replica.execute("SET session_replication_role = replica")
    with refused("IU040", f"{table} in replica mode"):
        replica.execute(sql.SQL("DELETE FROM {}").format(name))
    assert seam.value(f"SELECT count(*) > 0 FROM {table}")


def check_only_the_owner_truncates_the_projection(seam: Seam) -> None:
    """A rebuild needs it; the ledger of decisions cannot be truncated at all."""
    fill(seam)
    for role in set(Role) - {Role.OWNER}:
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            seam.session(role).execute("TRUNCATE iu_tree_change_log")
    owner = seam.session(Role.OWNER)
    owner.execute("TRUNCATE iu_tree_change_log")
    assert seam.projected() == 0
    for table in ("iu_route_attempt", "iu_outbound_route_audit"):
        with refused("IU040", table):
            owner.execute(sql.SQL("TRUNCATE {}").format(sql.Identifier(table)))


def fill(seam: Seam) -> None:
    """Leave a row in every table of the seam."""
    (event,) = seam.events(1)
    seam.go_live()
    worker = seam.worker()
    worker.claim()
    worker.land(event)
    worker.record([attempt(None, 1, "failed")], [letter(1)])
    worker.hold("kill_switch", "closed")


def test_a_consumer_has_four_functions_and_no_table(seam: Seam) -> None:
    check_a_consumer_has_four_functions_and_no_table(seam)


@pytest.mark.parametrize("table", APPEND_ONLY)
def test_history_refuses_everybody(seam: Seam, table: str) -> None:
    check_history_refuses_everybody(seam, table)


@pytest.mark.parametrize("table", TABLES)
def test_a_consumer_is_refused_by_every_table(seam: Seam, table: str) -> None:
    """Tried, not only looked up."""
    fill(seam)
    session = seam.worker().session
    for verb in ("SELECT FROM {}", "DELETE FROM {}", "TRUNCATE {}", "INSERT INTO {} DEFAULT VALUES"):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            session.execute(sql.SQL(verb).format(sql.Identifier(table)))


def test_nobody_but_the_owner_writes_the_tables_of_the_seam(seam: Seam) -> None:
    """But for the gatekeeper, who switches routes."""
    found = {
        (role, table, privilege)
        for role in ("iu_relay", "iu_consumer", "iu_editor", "iu_gatekeeper", "iu_reader", "public")
        for table, privilege in seam.admin.execute(TABLE_PRIVILEGES, {"role": role})
        if table in TABLES and privilege != "SELECT"
    }
    assert found == {("iu_gatekeeper", "iu_outbound_route", "UPDATE")}


def test_only_the_reader_sees_the_ledger_and_relay_and_editor_see_nothing(seam: Seam) -> None:
    for role in (Role.RELAY, Role.EDITOR, Role.CONSUMER):
        granted = seam.admin.execute(TABLE_PRIVILEGES, {"role": role.value})
        assert {table for table, _ in granted} & set(TABLES) == set(), role
    reader = {table for table, _ in seam.admin.execute(TABLE_PRIVILEGES, {"role": "iu_reader"})}
    assert set(TABLES) <= reader


def test_inner_functions_are_the_owners_alone(seam: Seam) -> None:
    """Whoever may call the gate could hold a close back; whoever may call the consumer, pass it."""
    (event,) = seam.events(1)
    inner = (
        ("fn_iu_delivery_gate", "'x'"),
        ("fn_iu_route_gate", "'x'"),
        ("fn_iu_route_lane", "'x', 'live'"),
        ("fn_iu_structure_consumer", f"'{event.ref}', '{{}}'"),
    )
    for role in set(Role) - {Role.OWNER}:
        session = seam.session(role)
        for function, arguments in inner:
            with pytest.raises(psycopg.errors.InsufficientPrivilege, match="permission denied for function"):
                session.execute(f"SELECT {function}({arguments})")
    assert seam.projected() == 0


def test_only_the_owner_truncates_the_projection(seam: Seam) -> None:
    check_only_the_owner_truncates_the_projection(seam)


def test_state_tables_can_be_corrected_by_the_owner(seam: Seam) -> None:
    """Parking, replaying, seeking and closing holds are changes of state, not of history."""
    fill(seam)
    owner = seam.session(Role.OWNER)
    for statement in (
        "UPDATE iu_route_dead_letter SET state = 'parked'",
        "UPDATE iu_route_offset SET next_offset = 0",
        "UPDATE iu_route_hold SET touches = 2",
    ):
        assert owner.execute(statement).rowcount == 1, statement


def test_nothing_of_the_seam_can_reach_outside_or_build_a_statement(seam: Seam) -> None:
    """Its text names no network, no file and no dynamic SQL, and runs in SQL or plpgsql only."""
    rows = seam.admin.execute(
        """SELECT proname, lanname, prosrc FROM pg_proc JOIN pg_language AS language ON language.oid = prolang
            WHERE pronamespace = 'public'::regnamespace
              AND (proname ~ '^fn_iu_(route|delivery|structure_consumer|outbound_route)')"""
    ).fetchall()
    assert len(rows) >= 14
    for name, language, text in rows:
        assert language in ("sql", "plpgsql"), name
        for word in ("EXECUTE", "dblink", "pg_read", "COPY", "http:", "lo_", "pg_notify"):
            assert word not in text, f"{name}: {word}"
    assert ROUTE not in "".join(text for *_, text in rows)
