"""The runner: all or nothing per file, no edited history, one at a time, and clear words."""

import json
import shutil
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg import sql as q
from psycopg.types.json import Jsonb

from iu_core.database import Role
from iu_core.database.migration_files import read
from iu_core.database.migrations import Limits, Migrator
from iu_core.errors import Misconfigured, Refused, Retryable, Terminal, Usage
from iu_core.resources import sql_dir
from tests.integration.sql.dump import schema_of
from tests.integration.sql.sessions import Session, session

NEWEST = read(sql_dir()).newest
NEXT, NEXT_BUT_ONE = f"{NEWEST + 1:03}", f"{NEWEST + 2:03}"
SEAM = 13


@pytest.fixture
def sql(tmp_path: Path) -> Path:
    """Return a copy of the SQL files that a test may edit."""
    return Path(shutil.copytree(sql_dir(), tmp_path / "sql"))


@pytest.fixture
def admin(migrated_url: str) -> Iterator[Session]:
    with session(migrated_url, name="iu db") as admin:
        yield admin


def runner(connection: Session, sql: Path, **limits: int) -> Migrator:
    return Migrator(connection, read(sql), limits=Limits(**limits))


def add_migration(sql: Path, body: str) -> None:
    number = read(sql).newest + 1
    for path in (
        sql / "migrations" / f"{number:03}_later.sql",
        sql / "rollback" / f"{number:03}_later.rollback.sql",
    ):
        path.write_text(f"BEGIN;\nSET LOCAL ROLE iu_owner;\n{body}COMMIT;\n")


def test_a_migration_that_fails_in_the_middle_leaves_nothing(
    admin: Session, sql: Path, migrated_url: str
) -> None:
    before = schema_of(migrated_url)
    add_migration(sql, "CREATE TABLE public.iu_good (id int);\n")
    add_migration(sql, "CREATE TABLE public.iu_half (id int);\nSELECT 1 / 0;\n")
    with pytest.raises(Terminal, match=rf"{NEXT_BUT_ONE}_later\.sql.*division by zero") as failure:
        runner(admin, sql).up()
    assert failure.value.code == "22012"
    assert failure.value.remedy is not None
    assert "nothing of this file was kept" in failure.value.remedy
    tables = admin.execute("SELECT to_regclass('iu_good') IS NOT NULL, to_regclass('iu_half') IS NULL")
    assert tables.fetchone() == (True, True), "what came before it stays, and it has left nothing"
    assert [entry.state for entry in runner(admin, sql).status()][-2:] == ["applied", "pending"]
    admin.execute("DROP TABLE iu_good")
    assert schema_of(migrated_url) == before


def test_a_migration_that_cannot_be_written_down_leaves_nothing(admin: Session, sql: Path) -> None:
    """Its row in the ledger is taken: what it did is in the same transaction, and goes with it."""
    add_migration(
        sql,
        "CREATE TABLE public.iu_unrecorded (id int);\n"
        "INSERT INTO public.iu_schema_migration (number, name, checksum, rollback_checksum)"
        f" VALUES ({int(NEXT)}, 'taken', repeat('0', 64), repeat('0', 64));\n",
    )
    with pytest.raises(Terminal, match="iu_schema_migration_pk"):
        runner(admin, sql).up()
    assert admin.execute("SELECT to_regclass('iu_unrecorded')").fetchone() == (None,)
    assert runner(admin, sql).status()[-1].state == "pending"


def test_a_fault_names_file_and_line(admin: Session, sql: Path) -> None:
    add_migration(sql, "SELECT 1;\nSELECT no_such_column;\n")
    with pytest.raises(Terminal, match=rf"^{NEXT}_later\.sql line 4: column .no_such_column. does not exist"):
        runner(admin, sql).up()


@pytest.mark.parametrize(
    "tampered", ["migrations/004_event_outbox.sql", "rollback/004_event_outbox.rollback.sql"]
)
def test_an_applied_file_that_was_edited_is_refused_by_name(admin: Session, sql: Path, tampered: str) -> None:
    path = sql / tampered
    path.write_text(path.read_text() + "-- only a comment\n")
    moves: list[Callable[[], object]] = [
        lambda: runner(admin, sql).up(),
        lambda: runner(admin, sql).up(rehearse=True),
        lambda: runner(admin, sql).down(to=SEAM - 1, rehearse=False),
    ]
    for move in moves:
        with pytest.raises(Misconfigured, match=f"^{path.name} was changed after it was applied") as refusal:
            move()
        assert refusal.value.exit_code == 78
        assert "git checkout" in (refusal.value.remedy or "")
    states = {entry.number: entry.state for entry in runner(admin, sql).status()}
    assert [number for number, state in states.items() if state == "changed"] == [4]


def test_a_renamed_applied_file_is_refused_too(admin: Session, sql: Path) -> None:
    (sql / "migrations" / "013_delivery_seam.sql").rename(sql / "migrations" / "013_other.sql")
    (sql / "rollback" / "013_delivery_seam.rollback.sql").rename(sql / "rollback" / "013_other.rollback.sql")
    with pytest.raises(Misconfigured, match=r"013_other\.sql was changed") as refusal:
        runner(admin, sql).up()
    assert "013_delivery_seam.sql" in (refusal.value.why or "")


def test_a_database_ahead_of_the_files_is_refused(admin: Session, sql: Path) -> None:
    add_migration(sql, "CREATE TABLE public.iu_later (id int);\n")
    runner(admin, sql).up()
    with pytest.raises(Misconfigured, match=rf"the database has {NEXT}_later\.sql"):
        runner(admin, sql_dir()).up()
    assert runner(admin, sql_dir()).status()[-1].state == "unknown"


def test_a_ledger_with_a_hole_is_refused(admin: Session, sql: Path) -> None:
    admin.execute("DELETE FROM iu_schema_migration WHERE number = 5")
    with pytest.raises(Misconfigured, match="migration 005 is missing in the database"):
        runner(admin, sql).up()


def test_a_second_runner_waits_its_turn_and_then_says_who_is_at_work(
    admin: Session, sql: Path, migrated_url: str
) -> None:
    with session(migrated_url, name="iu db, the first") as first:
        first.execute("SELECT pg_advisory_lock(18773, 3)")
        with pytest.raises(Retryable, match="another `iu db` is at work") as refusal:
            runner(admin, sql, runner_wait_ms=50).up()
        assert refusal.value.exit_code == 75
        assert f"process {first.info.backend_pid}" in (refusal.value.why or "")
        assert "iu db, the first" in (refusal.value.why or "")
    assert runner(admin, sql).up().applied == ()


def test_the_runner_gives_its_lock_back_whatever_happens(
    admin: Session, sql: Path, migrated_url: str
) -> None:
    add_migration(sql, "SELECT 1 / 0;\n")
    with pytest.raises(Terminal):
        runner(admin, sql).up()
    with session(migrated_url) as other:
        assert other.execute("SELECT pg_try_advisory_lock(18773, 3)").fetchone() == (True,)


def test_a_migration_waits_for_a_lock_only_so_long(admin: Session, sql: Path, migrated_url: str) -> None:
    add_migration(sql, "ALTER TABLE public.iu_tree ADD COLUMN later int;\n")
    with session(migrated_url, name="a reader at work") as other, other.transaction():
        other.execute("SELECT FROM iu_tree")
        with pytest.raises(Retryable, match=rf"{NEXT}_later\.sql.*lock timeout") as refusal:
            runner(admin, sql, lock_timeout_ms=50).up()
    assert refusal.value.code == "55P03"
    assert runner(admin, sql).up().applied == (f"{NEXT}_later.sql",)


def test_a_rehearsal_runs_everything_and_keeps_nothing(postgres_url: str, sql: Path) -> None:
    before = schema_of(postgres_url)
    with session(postgres_url) as admin:
        moved = runner(admin, sql).up(rehearse=True)
        assert (moved.version, len(moved.applied)) == (NEWEST, NEWEST)
        assert len(moved.registered) >= 3
        # The default privileges of roles.sql are rolled back with the rest.
        assert schema_of(postgres_url) == before
        add_migration(sql, "SELECT 1 / 0;\n")
        with pytest.raises(Terminal, match="division by zero"):
            runner(admin, sql).up(rehearse=True)
        assert schema_of(postgres_url) == before


def test_a_preview_of_down_meets_the_refusal_and_keeps_everything(
    admin: Session, sql: Path, migrated_url: str
) -> None:
    before = schema_of(migrated_url)
    moved = runner(admin, sql).down(to=0, rehearse=True)
    assert (moved.version, len(moved.rolled_back)) == (0, NEWEST)
    assert schema_of(migrated_url) == before
    make_live(admin)
    with pytest.raises(Terminal) as refusal:
        runner(admin, sql).down(to=SEAM - 1, rehearse=True)
    assert refusal.value.code == "IU012"


def make_live(admin: Session) -> None:
    """One live route, one row of the projection."""
    with admin.transaction():
        admin.execute("SELECT set_config('iu.reason', 'a test', true)")
        admin.execute(
            "UPDATE dot_config SET value = 'structure_reparented' WHERE key = 'iu_core.delivery_live_routes'"
        )
        admin.execute(
            "UPDATE iu_outbound_route SET enabled = true, dry_run = false"
            " WHERE route_code = 'structure_reparented'"
        )
        admin.execute(
            "INSERT INTO iu_tree_change_log"
            " (event_ref, event_type, tree_id, aggregate_version, incarnation, payload)"
            " VALUES (gen_random_uuid(), 'structure_reparented', gen_random_uuid(), 1, 1, %s)",
            (Jsonb({"a": 'b\\\n\t"'}),),
        )


def test_a_seam_in_use_is_rolled_back_only_by_force_and_keeps_its_rows(
    admin: Session, sql: Path, tmp_path: Path, migrated_url: str
) -> None:
    make_live(admin)
    with pytest.raises(Terminal, match="in use") as refusal:
        runner(admin, sql).down(to=SEAM - 1, rehearse=False)
    assert refusal.value.code == "IU012"
    assert "--force-inert" in (refusal.value.remedy or "")
    row = admin.execute("SELECT to_jsonb(c) FROM iu_tree_change_log AS c").fetchone()
    assert row is not None

    file = tmp_path / "kept.jsonl"
    runner(admin, sql).down(to=SEAM - 1, rehearse=True, force_inert=file)
    assert not file.exists(), "a preview writes no file"
    moved = runner(admin, sql).down(to=SEAM - 1, rehearse=False, force_inert=file)
    assert moved.inert is not None
    assert (moved.inert.routes, moved.inert.rows) == (("structure_reparented",), 1)
    assert [json.loads(line) for line in file.read_text().splitlines()] == [row[0]]
    route = admin.execute(
        "SELECT enabled, dry_run FROM iu_outbound_route WHERE route_code = 'structure_reparented'"
    ).fetchone()
    assert route == (True, True)
    assert admin.execute("SELECT to_regclass('iu_tree_change_log')").fetchone() == (None,)


def test_rows_are_not_dropped_when_they_cannot_be_saved(admin: Session, sql: Path, tmp_path: Path) -> None:
    make_live(admin)
    file = tmp_path / "there"
    file.write_text("somebody else's")
    with pytest.raises(Terminal, match="could not be saved") as refusal:
        runner(admin, sql).down(to=SEAM - 1, rehearse=False, force_inert=file)
    assert "--export" in (refusal.value.remedy or "")
    assert file.read_text() == "somebody else's"
    assert admin.execute("SELECT count(*) FROM iu_tree_change_log").fetchone() == (1,)
    live = admin.execute("SELECT count(*) FROM iu_outbound_route WHERE enabled AND NOT dry_run").fetchone()
    assert live == (1,)


def test_a_database_that_stores_no_utf8_is_refused(postgres_url: str, sql: Path) -> None:
    server, _, _ = postgres_url.rpartition("/")
    name = f"iu_latin_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(postgres_url, autocommit=True) as admin:
        create = "CREATE DATABASE {} ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0"
        admin.execute(q.SQL(create).format(q.Identifier(name)))
        try:
            with session(f"{server}/{name}") as latin, pytest.raises(Misconfigured, match="UTF-8"):
                runner(latin, sql).up()
        finally:
            admin.execute(q.SQL("DROP DATABASE {}").format(q.Identifier(name)))


@pytest.fixture
def login(postgres_url: str) -> Iterator[str]:
    """Return a login without any right, whose password is its name."""
    name = f"iu_test_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(postgres_url, autocommit=True) as admin:
        admin.execute(q.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(q.Identifier(name), name))
        yield name
        admin.execute(q.SQL("DROP OWNED BY {}; DROP ROLE {}").format(q.Identifier(name), q.Identifier(name)))


def as_login(url: str, login: str) -> Session:
    return psycopg.connect(url, user=login, password=login, autocommit=True)


def test_a_login_without_rights_is_refused(postgres_url: str, sql: Path, login: str) -> None:
    with as_login(postgres_url, login) as stranger, pytest.raises(Refused) as refusal:
        runner(stranger, sql).up()
    assert refusal.value.exit_code == 77
    assert refusal.value.code == "42501"
    assert refusal.value.remedy


def test_a_login_that_may_not_look_is_told_which_may(migrated_url: str) -> None:
    with session(migrated_url, Role.RELAY) as relay, pytest.raises(Refused) as refusal:
        runner(relay, sql_dir()).status()
    assert "iu_owner" in (refusal.value.remedy or "")


def test_a_member_of_the_owner_may_migrate_what_an_administrator_has_prepared(
    postgres_url: str, sql: Path, login: str
) -> None:
    with psycopg.connect(postgres_url, autocommit=True) as admin:
        admin.execute((sql / "roles.sql").read_bytes())
        admin.execute(q.SQL("GRANT iu_owner TO {}").format(q.Identifier(login)))
    with as_login(postgres_url, login) as member:
        assert runner(member, sql).up().version == NEWEST
        who = member.execute("SELECT DISTINCT applied_by FROM iu_schema_migration").fetchall()
    assert who == [(login,)]


def test_a_version_that_does_not_exist_is_a_mistake_in_the_words(admin: Session, sql: Path) -> None:
    moves: list[Callable[[], object]] = [
        lambda: runner(admin, sql).up(to=99),
        lambda: runner(admin, sql).down(to=-1, rehearse=True),
    ]
    for move in moves:
        with pytest.raises(Usage, match="there is no migration"):
            move()
