"""Routes: inert by default, live only by the allowlist, every change written down."""

# ruff: noqa: S608 -- every statement here is built from constants

import psycopg
import pytest

from iu_core.database import Role
from tests.integration.delivery.seam import ENABLED, LIVE_ROUTES, ROUTE, Seam
from tests.integration.sql.sessions import refused

SIX = [
    "structure_child_added",
    "structure_piece_deprecated",
    "structure_piece_merged",
    "structure_piece_replaced",
    "structure_piece_split",
    "structure_reparented",
]
GO_LIVE = "UPDATE iu_outbound_route SET enabled = true, dry_run = false WHERE route_code = %s"
NEW_ROUTE = (
    "INSERT INTO iu_outbound_route (route_code, event_type, target_kind, target_ref, enabled, dry_run)"
    " VALUES (%s, 'structure_reparented', 'sql_function', 'fn_iu_structure_consumer', %s, %s)"
)


def check_only_an_allowlisted_route_goes_live(seam: Seam) -> None:
    """The guard: enabled and not dry_run only by name, by whatever statement, and no key is no name."""
    for live_routes in (None, "", "structure_reparented"):
        seam.switch(LIVE_ROUTES, live_routes)
        with refused("42501", str(live_routes)) as said:
            seam.admin.execute(GO_LIVE, (ROUTE,))
        assert f"iu gate allow {ROUTE}" in said.hint
        with refused("42501", str(live_routes)):
            seam.admin.execute(NEW_ROUTE, ("new", True, False))
    seam.switch(LIVE_ROUTES, f"{ROUTE}, new")
    assert seam.admin.execute(GO_LIVE, (ROUTE,)).rowcount == 1
    assert seam.admin.execute(NEW_ROUTE, ("new", True, False)).rowcount == 1


def test_only_an_allowlisted_route_goes_live(seam: Seam) -> None:
    check_only_an_allowlisted_route_goes_live(seam)


def test_the_guard_is_awake_in_replica_mode(seam: Seam) -> None:
    seam.admin.execute("SET session_replication_role = replica")
    with refused("42501"):
        seam.admin.execute(GO_LIVE, (ROUTE,))


def test_registration_is_inert(seam: Seam) -> None:
    rows = seam.admin.execute(
        "SELECT route_code, event_type, target_kind, target_ref, enabled, dry_run"
        " FROM iu_outbound_route ORDER BY route_code"
    ).fetchall()
    assert rows == [(code, code, "sql_function", "fn_iu_structure_consumer", False, True) for code in SIX]
    switches: dict[str, str] = dict(
        seam.admin.execute("SELECT key, value FROM dot_config WHERE key LIKE '%delivery%'").fetchall()
    )
    assert switches == {ENABLED: "false", LIVE_ROUTES: ""}
    assert seam.value("SELECT fn_iu_delivery_enabled()") is False


def test_a_route_that_is_not_live_is_not_the_guards_concern(seam: Seam) -> None:
    for enabled, dry_run in ((True, True), (False, False), (False, True)):
        seam.set_route(enabled=enabled, dry_run=dry_run)
    assert seam.value("SELECT count(*) FROM iu_outbound_route_audit WHERE operation = 'UPDATE'") == 3


def test_opening_needs_a_reason_and_closing_does_not(seam: Seam) -> None:
    seam.open(ROUTE)
    nobody = seam.session(Role.GATEKEEPER, reason="")
    update = f"UPDATE iu_outbound_route SET {{}} WHERE route_code = '{ROUTE}'"
    for opening in ("dry_run = false", "enabled = true, dry_run = false"):
        with refused("IU006", opening) as said:
            nobody.execute(update.format(opening))
        assert "iu.reason" in said.hint
    nobody.execute(update.format("enabled = true"))
    seam.go_live()
    nobody.execute(update.format("enabled = false"))
    with refused("IU006", "enabled outside dry-run"):
        nobody.execute(update.format("enabled = true"))
    seam.go_live()
    nobody.execute(update.format("dry_run = true"))
    seam.go_live()
    owner = seam.session(Role.OWNER, reason="  ")
    with refused("IU006", "a live route pointed elsewhere"):
        owner.execute(update.format("target_ref = 'elsewhere'"))
    owner.execute(f"DELETE FROM iu_outbound_route WHERE route_code = '{ROUTE}'")


def test_every_change_says_who_from_what_to_what_and_why(seam: Seam) -> None:
    seam.open(ROUTE)
    keeper = seam.session(Role.GATEKEEPER, name="console", reason="release 7")
    with keeper.transaction():
        keeper.execute(GO_LIVE, (ROUTE,))
        xid = keeper.execute("SELECT pg_current_xact_id()::text").fetchone()
    row = seam.admin.execute(
        """SELECT operation, route_code, old_route ->> 'enabled', new_route ->> 'enabled',
                  new_route ->> 'dry_run', login, role, application_name, reason, xid::text
             FROM iu_outbound_route_audit ORDER BY id DESC LIMIT 1"""
    ).fetchone()
    login = seam.value("SELECT session_user")
    assert xid is not None
    assert row == (
        *("UPDATE", ROUTE, "false", "true", "false"),
        *(login, "iu_gatekeeper", "console", "release 7", xid[0]),
    )
    seam.admin.execute("DELETE FROM iu_outbound_route WHERE route_code = 'structure_piece_split'")
    gone = (
        "SELECT old_route ->> 'event_type', new_route FROM iu_outbound_route_audit ORDER BY id DESC LIMIT 1"
    )
    assert seam.admin.execute(gone).fetchone() == ("structure_piece_split", None)


def test_a_route_is_not_renamed_nor_truncated_away(seam: Seam) -> None:
    with refused("IU040"):
        seam.set_route(route_code="other")
    with refused("IU040"):
        seam.admin.execute("TRUNCATE iu_outbound_route")


def test_the_gatekeeper_switches_routes_and_cannot_point_them_elsewhere(seam: Seam) -> None:
    keeper = seam.session(Role.GATEKEEPER)
    assert keeper.execute("UPDATE iu_outbound_route SET enabled = true").rowcount == 6
    for statement in (
        "UPDATE iu_outbound_route SET target_kind = 'http'",
        "UPDATE iu_outbound_route SET event_type = 'x'",
        "DELETE FROM iu_outbound_route",
        "UPDATE iu_outbound_route_audit SET reason = 'x'",
    ):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            keeper.execute(statement)


@pytest.mark.parametrize("code", ["a,b", "a b", "", "1a", "ä", "a" * 101, "a\n"])
def test_a_code_that_could_not_stand_in_the_list_is_no_code(seam: Seam, code: str) -> None:
    with pytest.raises(psycopg.errors.CheckViolation, match="iu_outbound_route_code_chk"):
        seam.admin.execute(NEW_ROUTE, (code, False, True))
