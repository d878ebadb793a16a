"""Sandbox 080 passes in all nine rows and leaves no row behind, whatever the database holds."""

from psycopg import sql

from iu_core.resources import sql_dir
from tests.integration.delivery.seam import Seam
from tests.integration.sql.sessions import Session

PROBES = ["D1", "D2", "D3", "D4", "D5a", "D5b", "D6", "D7", "D8"]


def run_probe(session: Session) -> list[tuple[str, str, str, str, bool]]:
    """Run the file as psql would, statement by statement; return the rows it prints."""
    printed = []
    cursor = session.cursor()
    cursor.execute((sql_dir() / "sandbox" / "080_delivery_seam_probe.sql").read_text())
    more: bool | None = True
    while more:
        if cursor.description and [column.name for column in cursor.description][:2] == ["probe", "what"]:
            printed += cursor.fetchall()
        more = cursor.nextset()
    return printed


def count_every_table(seam: Seam) -> dict[str, int]:
    """Return the number of rows of each table, partitioned or not, in any schema that is ours."""
    tables = seam.admin.execute(
        "SELECT relname FROM pg_class WHERE relkind IN ('r', 'p') AND relnamespace = 'public'::regnamespace"
    ).fetchall()
    count = sql.SQL("SELECT count(*) FROM {}")
    return {
        name: int(seam.admin.execute(count.format(sql.Identifier(name))).fetchone()[0])  # type: ignore[index]
        for (name,) in tables
    }


def test_all_nine_probes_pass_and_no_row_stays(seam: Seam) -> None:
    before = count_every_table(seam)
    rows = run_probe(seam.admin)
    assert [row[0] for row in rows] == PROBES
    assert [row for row in rows if not row[4]] == []
    assert count_every_table(seam) == before
    assert before["iu_outbound_route"] == 6


def test_probes_pass_beside_real_data_and_leave_the_switches_alone(seam: Seam) -> None:
    seam.go_live()
    worker = seam.worker()
    worker.claim()
    worker.land(*seam.events(3))
    before = count_every_table(seam)
    switches = seam.admin.execute("TABLE dot_config ORDER BY key").fetchall()
    routes = seam.admin.execute("TABLE iu_outbound_route ORDER BY route_code").fetchall()
    assert all(row[4] for row in run_probe(seam.admin))
    assert count_every_table(seam) == before
    assert before["iu_tree_change_log"] == 3
    assert seam.admin.execute("TABLE dot_config ORDER BY key").fetchall() == switches
    assert seam.admin.execute("TABLE iu_outbound_route ORDER BY route_code").fetchall() == routes


def test_probes_pass_with_the_delivery_keys_missing(seam: Seam) -> None:
    seam.admin.execute("DELETE FROM dot_config")
    assert [row[0] for row in run_probe(seam.admin) if row[4]] == PROBES


def test_a_login_that_is_only_a_member_of_the_owner_can_run_it(seam: Seam) -> None:
    login = f"probe_{seam.value('SELECT gen_random_uuid()').hex}"
    name = sql.Identifier(login)
    seam.admin.execute(sql.SQL("CREATE ROLE {} IN ROLE iu_owner").format(name))
    member = seam.session(name="member")
    try:
        member.execute(sql.SQL("SET SESSION AUTHORIZATION {}").format(name))
        assert [row[0] for row in run_probe(member) if row[4]] == PROBES
    finally:
        member.close()
        seam.admin.execute(sql.SQL("DROP ROLE {}").format(name))


def test_a_seam_that_is_broken_does_not_pass(seam: Seam) -> None:
    """With gates 1 and 2 ignored D1 and D2 deliver, and D3 finds the row there already."""
    seam.admin.execute("ALTER FUNCTION fn_iu_delivery_gate(text) RENAME TO fn_iu_delivery_gate_kept")
    seam.admin.execute(
        "CREATE FUNCTION fn_iu_delivery_gate(p_route_code text) RETURNS void LANGUAGE sql AS ''"
    )
    failed = {row[0] for row in run_probe(seam.admin) if not row[4]}
    assert failed == {"D1", "D2", "D3"}
