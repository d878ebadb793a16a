"""Up, down, up: each rollback restores exactly what stood before its migration."""

import shutil
import subprocess

import psycopg

from iu_core.database.migration_files import SqlFiles, read
from iu_core.database.migrations import Migrator
from iu_core.resources import sql_dir
from tests.integration.sql.dump import pg_dump, schema_of
from tests.integration.sql.sessions import Editor, open_gate, session

FILES: SqlFiles = read(sql_dir())


def migrate(url: str, to: int) -> None:
    with session(url) as admin:
        migrator = Migrator(admin, FILES)
        version = len([entry for entry in migrator.status() if entry.state == "applied"])
        moved = migrator.up(to=to) if to > version else migrator.down(to=to, rehearse=False)
        assert moved.version == to


def test_up_down_up_gives_the_same_schema_and_a_database_that_works(postgres_url: str) -> None:
    migrate(postgres_url, FILES.newest)
    first = schema_of(postgres_url)
    migrate(postgres_url, 0)
    with session(postgres_url) as admin:
        left = admin.execute(
            "SELECT relname FROM pg_class"
            " WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'S', 'v')"
            " UNION ALL SELECT proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace"
        ).fetchall()
    assert left == [("iu_schema_migration",)]
    migrate(postgres_url, FILES.newest)
    assert schema_of(postgres_url) == first
    open_gate(postgres_url)
    editor = Editor(postgres_url)
    with editor.session:
        editor.replace(editor.add(editor.add(None)))


def test_every_rollback_restores_what_stood_before(postgres_url: str) -> None:
    """Migration by migration, so that one rollback cannot hide behind the next one's."""
    before = {}
    for number in range(1, FILES.newest + 1):
        before[number - 1] = "" if number == 1 else schema_of(postgres_url)
        migrate(postgres_url, number)
    for number in range(FILES.newest - 1, 0, -1):
        migrate(postgres_url, number)
        assert schema_of(postgres_url) == before[number], FILES.migrations[number].down.name


def test_the_files_run_alone_with_psql(postgres_url: str) -> None:
    """The runner adds the ledger and nothing else to what `psql -f` makes of the same files."""
    with session(postgres_url) as admin:
        version = admin.info.server_version // 10000
    psql = shutil.which("psql", path=pg_dump(version).rpartition("/")[0])
    assert psql is not None
    sql = sql_dir()
    up = [
        sql / "roles.sql",
        *(m.up.path for m in FILES.migrations),
        *(r.up.path for r in FILES.registrations),
    ]
    run = [psql, "--no-psqlrc", "--quiet", "--set", "ON_ERROR_STOP=1", "--dbname", postgres_url]
    for path in up:
        done = subprocess.run([*run, "--file", path], capture_output=True, text=True, timeout=60)
        assert (done.returncode, done.stderr) == (0, ""), path.name
    by_hand = schema_of(postgres_url)
    down = [r.down.path for r in reversed(FILES.registrations)]
    down += [m.down.path for m in reversed(FILES.migrations)]
    for path in down:
        done = subprocess.run([*run, "--file", path], capture_output=True, text=True, timeout=60)
        assert (done.returncode, done.stderr) == (0, ""), path.name
    migrate(postgres_url, FILES.newest)
    with psycopg.connect(postgres_url, autocommit=True) as admin:
        admin.execute("DROP TABLE iu_schema_migration")
    assert schema_of(postgres_url) == by_hand
