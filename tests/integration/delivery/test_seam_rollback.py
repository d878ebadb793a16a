"""Rolling the seam back restores what stood before it, and refuses while it is in use."""

from pathlib import Path

import pytest
from psycopg import sql

from iu_core.resources import sql_dir
from tests.integration.delivery.seam import ROUTE, Seam
from tests.integration.sql.sessions import refused

OBJECTS = {
    "function": "SELECT pg_get_functiondef('fn_iu_route_deliver(text, uuid, jsonb)'::regprocedure)",
    "its comment": """SELECT obj_description(oid, 'pg_proc') FROM pg_proc
                       WHERE proname = 'fn_iu_route_deliver'""",
    "its privileges": "SELECT proacl::text FROM pg_proc WHERE proname = 'fn_iu_route_deliver'",
    "constraints": """SELECT string_agg(conname || ' ' || pg_get_constraintdef(oid), E'\\n' ORDER BY conname)
                        FROM pg_constraint
                       WHERE conrelid = 'iu_outbound_route'::regclass AND contype <> 'n'""",
    "triggers": """SELECT string_agg(pg_get_triggerdef(oid), E'\\n' ORDER BY tgname)
                     FROM pg_trigger WHERE tgrelid = 'iu_outbound_route'::regclass""",
    "functions": """SELECT string_agg(oid::regprocedure::text, E'\\n' ORDER BY oid::regprocedure::text)
                      FROM pg_proc WHERE pronamespace = 'public'::regnamespace""",
    "tables": """SELECT string_agg(relname, E'\\n' ORDER BY relname)
                   FROM pg_class WHERE relnamespace = 'public'::regnamespace""",
}
SAFE = "iu_outbound_route_safe_chk CHECK (((enabled = false) OR (dry_run = true)))"


def run(seam: Seam, *files: Path) -> None:
    """Run the files as psql -f does."""
    for file in files:
        try:
            seam.admin.execute(file.read_text())
        finally:
            seam.admin.execute("ROLLBACK")


def migration(number: int) -> Path:
    (file,) = (sql_dir() / "migrations").glob(f"{number:03}_*.sql")
    return file


def rollback(number: int) -> Path:
    (file,) = (sql_dir() / "rollback").glob(f"{number:03}_*.sql")
    return file


def state(seam: Seam) -> dict[str, str]:
    return {name: seam.value(query) for name, query in OBJECTS.items()}


def roll_back_to_the_seam(seam: Seam) -> None:
    """Undo what came after 013, if anything did."""
    later = sorted((sql_dir() / "rollback").glob("0[1-9][0-9]_*.sql"), reverse=True)
    run(seam, *(file for file in later if int(file.name[:3]) > 13))


def test_rollback_of_013_restores_what_stood_after_012(seam: Seam) -> None:
    roll_back_to_the_seam(seam)
    with_seam = state(seam)
    run(seam, *(rollback(number) for number in (13, 12, 11, 10, 9)))
    run(seam, *(migration(number) for number in (9, 10, 11, 12)))
    after_012 = state(seam)
    assert "feature_not_supported" in after_012["function"]
    assert SAFE in after_012["constraints"]
    run(seam, migration(13))
    assert state(seam) == with_seam
    assert "safe_chk" not in with_seam["constraints"]
    run(seam, rollback(13))
    assert state(seam) == after_012


def test_the_stub_refuses_as_a_gate_and_the_check_forbids_every_live_route(seam: Seam) -> None:
    (event,) = seam.events(1)
    roll_back_to_the_seam(seam)
    run(seam, rollback(13))
    with refused("0A000") as said:
        seam.worker().deliver(event)
    assert "iu db up" in said.hint
    seam.open(ROUTE)
    with pytest.raises(Exception, match="iu_outbound_route_safe_chk"):
        seam.set_route(enabled=True, dry_run=False)


def test_the_dry_run_lane_works_without_the_seam_and_the_live_lane_refuses(seam: Seam) -> None:
    """012 stands by itself: what 013 brings is looked up only by a live route, which cannot be."""
    roll_back_to_the_seam(seam)
    run(seam, rollback(13))
    seam.go_dry()
    dry, live = seam.worker(lane="dry_run"), seam.worker()
    dry.claim()
    dry.record(advance=2)
    assert seam.position(lane="dry_run") == (1, 2)
    live.claim()
    with refused("42501"):
        live.record(advance=1)


def test_rollback_refuses_while_a_route_is_live(seam: Seam) -> None:
    roll_back_to_the_seam(seam)
    seam.go_live()
    before = state(seam)
    with refused("IU012") as said:
        run(seam, rollback(13))
    assert ROUTE in said.detail
    assert "iu db down --to 12 --force-inert" in said.hint
    assert state(seam) == before
    seam.set_route(dry_run=True)
    run(seam, rollback(13))
    assert SAFE in state(seam)["constraints"]


def test_rollback_refuses_while_the_projection_holds_rows(seam: Seam) -> None:
    roll_back_to_the_seam(seam)
    (event,) = seam.events(1)
    seam.open(ROUTE)
    seam.worker().deliver(event)
    with refused("IU012") as said:
        run(seam, rollback(13))
    assert "Rows of iu_tree_change_log: 1" in said.detail
    assert seam.projected() == 1
    seam.admin.execute("TRUNCATE iu_tree_change_log")
    run(seam, rollback(13))


def test_registering_again_changes_nothing(seam: Seam) -> None:
    """Neither inert nor in use: what an operator has set since is left alone."""
    seam.go_live()
    tables = ("dot_config", "iu_outbound_route", "dot_config_audit", "iu_outbound_route_audit")
    rows = [
        seam.admin.execute(sql.SQL("SELECT * FROM {} ORDER BY 1").format(sql.Identifier(table))).fetchall()
        for table in tables
    ]
    runtime = sql_dir() / "runtime"
    run(seam, runtime / "020_route_register.sql", runtime / "200_delivery_seam_register.sql")
    assert rows == [
        seam.admin.execute(sql.SQL("SELECT * FROM {} ORDER BY 1").format(sql.Identifier(table))).fetchall()
        for table in tables
    ]


def test_registration_is_undone_and_done_again(seam: Seam) -> None:
    runtime = sql_dir() / "runtime"
    undo = [
        runtime / "rollback" / f"{name}.rollback.sql"
        for name in ("200_delivery_seam_register", "020_route_register")
    ]
    count = """SELECT (SELECT count(*) FROM iu_outbound_route),
                      (SELECT count(*) FROM dot_config WHERE key ~ 'delivery')"""
    run(seam, *undo, *undo)
    assert seam.admin.execute(count).fetchone() == (0, 0)
    run(seam, runtime / "020_route_register.sql", runtime / "200_delivery_seam_register.sql")
    assert seam.admin.execute(count).fetchone() == (6, 2)


def test_a_live_route_is_not_unregistered(seam: Seam) -> None:
    seam.go_live()
    with refused("IU012") as said:
        run(seam, sql_dir() / "runtime" / "rollback" / "020_route_register.rollback.sql")
    assert f"iu route disable {ROUTE}" in said.hint
    assert seam.value("SELECT count(*) FROM iu_outbound_route") == 6
