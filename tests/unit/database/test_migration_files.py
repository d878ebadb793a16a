"""What the runner takes for a migration, and what it refuses to guess about."""

import hashlib
from pathlib import Path

import pytest

from iu_core.database.assemble import assembled, stale
from iu_core.database.migration_files import read, read_script
from iu_core.errors import Misconfigured
from iu_core.resources import sql_dir

UP = "-- why\n\nBEGIN;\nSET LOCAL ROLE iu_owner;\nSELECT 1;\nCOMMIT;\n"


@pytest.fixture
def sql(tmp_path: Path) -> Path:
    """Return a folder with two migrations and one registration."""
    for name in ("migrations", "rollback", "runtime/rollback", "functions"):
        (tmp_path / "sql" / name).mkdir(parents=True)
    sql = tmp_path / "sql"
    for name in ("roles.sql", "ledger.sql"):
        (sql / name).write_text(f"-- {name}\n")
    for name in ("001_one", "002_two"):
        (sql / "migrations" / f"{name}.sql").write_text(UP)
        (sql / "rollback" / f"{name}.rollback.sql").write_text(UP)
    (sql / "runtime" / "010_one_register.sql").write_text(f"-- Requires: migration 002\n{UP}")
    (sql / "runtime" / "rollback" / "010_one_register.rollback.sql").write_text(UP)
    (sql / "runtime" / "210_batch.sql").write_text("-- a batch is approved by hand, never run by `up`\n")
    return sql


def test_files_are_read_in_order_with_their_rollbacks_and_registrations(sql: Path) -> None:
    files = read(sql)
    assert [migration.up.name for migration in files.migrations] == ["001_one.sql", "002_two.sql"]
    assert files.migrations[0].down.name == "001_one.rollback.sql"
    assert files.newest == 2
    assert [(each.up.name, each.requires) for each in files.registrations] == [("010_one_register.sql", 2)]
    assert files.roles == "-- roles.sql\n"


def test_the_frame_goes_and_the_lines_keep_their_numbers(sql: Path) -> None:
    script = read_script(sql / "migrations" / "001_one.sql")
    assert script.body.splitlines()[4] == UP.splitlines()[4] == "SELECT 1;"
    assert "BEGIN" not in script.body
    assert "COMMIT" not in script.body
    assert script.checksum == hashlib.sha256(UP.encode()).hexdigest()


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("SELECT 1;\n", "not of the form BEGIN; … COMMIT;"),
        ("BEGIN;\nSELECT 1;\n", "not of the form BEGIN; … COMMIT;"),
        ("SELECT 0;\nBEGIN;\nSELECT 1;\nCOMMIT;\n", "not of the form BEGIN; … COMMIT;"),
        ("BEGIN;\nSELECT 1;\nCOMMIT;\nSELECT 2;\n", "not of the form BEGIN; … COMMIT;"),
        ("BEGIN;\nSELECT 1;\nCOMMIT;\nBEGIN;\nSELECT 2;\nCOMMIT;\n", "ends its transaction in the middle"),
        ("BEGIN;\nSELECT 1;\nrollback;\nCOMMIT;\n", "ends its transaction in the middle"),
    ],
)
def test_a_file_that_is_not_one_transaction_is_refused(sql: Path, text: str, what: str) -> None:
    path = sql / "migrations" / "002_two.sql"
    path.write_text(text)
    with pytest.raises(Misconfigured, match=what) as refusal:
        read(sql)
    assert "002_two.sql" in refusal.value.what


def test_the_begin_of_a_function_body_is_no_transaction(sql: Path) -> None:
    body = "DO $$\nBEGIN\n  BEGIN\n    NULL;\n  END;\nEND;\n$$;\n"
    path = sql / "migrations" / "002_two.sql"
    path.write_text(f"BEGIN;\n{body}COMMIT;\n")
    assert read_script(path).body == f"\n{body}"


def test_a_gap_in_the_numbers_is_refused(sql: Path) -> None:
    (sql / "migrations" / "002_two.sql").rename(sql / "migrations" / "003_two.sql")
    (sql / "rollback" / "002_two.rollback.sql").rename(sql / "rollback" / "003_two.rollback.sql")
    with pytest.raises(Misconfigured, match="migration 002 is missing"):
        read(sql)


def test_a_number_used_twice_is_refused(sql: Path) -> None:
    (sql / "migrations" / "002_zwei.sql").write_text(UP)
    (sql / "rollback" / "002_zwei.rollback.sql").write_text(UP)
    with pytest.raises(Misconfigured, match="migration 003 is missing"):
        read(sql)


def test_a_migration_without_rollback_is_refused(sql: Path) -> None:
    (sql / "rollback" / "002_two.rollback.sql").unlink()
    with pytest.raises(Misconfigured, match=r"002_two\.sql has no rollback"):
        read(sql)


@pytest.mark.parametrize("line", ["", "-- Requires: migration 003\n", "-- Requires: migration 000\n"])
def test_a_registration_names_the_migration_it_stands_on(sql: Path, line: str) -> None:
    (sql / "runtime" / "010_one_register.sql").write_text(f"{line}{UP}")
    with pytest.raises(Misconfigured, match=r"010_one_register\.sql does not say which migration"):
        read(sql)


def test_only_the_newest_migration_follows_a_function_file(sql: Path) -> None:
    """An older migration made the function as it was then, and has run somewhere."""
    block = "BEGIN;\n-- >> sql/functions/fn_x.sql\n{}-- << sql/functions/fn_x.sql\nCOMMIT;\n"
    old, new = sql / "migrations" / "001_one.sql", sql / "migrations" / "002_two.sql"
    old.write_text(block.format("SELECT 'as it was';\n"))
    new.write_text(block.format(""))
    (sql / "functions" / "fn_x.sql").write_text("SELECT 'as it is';\n")
    assert stale(sql) == [new]
    texts = assembled(sql)
    assert texts[old] == old.read_text()
    assert texts[new] == block.format("SELECT 'as it is';\n")
    new.write_text(texts[new])
    assert stale(sql) == []


def test_a_migration_that_names_no_function_file_is_refused(sql: Path) -> None:
    path = sql / "migrations" / "002_two.sql"
    path.write_text("BEGIN;\n-- >> sql/functions/fn_y.sql\n-- << sql/functions/fn_y.sql\nCOMMIT;\n")
    with pytest.raises(Misconfigured, match=r"002_two\.sql names sql/functions/fn_y\.sql"):
        stale(sql)


def test_the_files_of_this_project_are_in_order() -> None:
    files = read(sql_dir())
    assert files.newest >= 13
    assert {each.up.name[:3] for each in files.registrations} >= {"010", "020", "200"}
    assert stale(sql_dir()) == [], "run python -m iu_core.database.assemble"
