"""`iu schemas`: what it prints, and the exit codes of design/40 that a CI job acts on."""

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from iu_core.cli.schemas import app
from iu_core.errors import ExitCode, Usage
from iu_core.resources import sql_dir
from schemas.catalog import SCHEMAS_DIR

CONTRACT = Path("schemas/structure/structure_child_added/v1.avsc")
ENCODER = Path("sql/functions/avro/fn_iu_avro_structure_child_added_v1.sql")
RUN = CliRunner()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of what `iu schemas` looks at."""
    ignored = shutil.ignore_patterns("*.py", "__pycache__", "py.typed")
    shutil.copytree(SCHEMAS_DIR, tmp_path / "schemas", ignore=ignored)
    shutil.copytree(sql_dir() / "functions" / "avro", tmp_path / "sql" / "functions" / "avro")
    return tmp_path


def test_the_contracts_of_this_checkout_are_clean() -> None:
    result = RUN.invoke(app, ["check"])
    assert (result.exit_code, result.stdout) == (0, "clean: 6 contracts, 25 golden cases\n")


def test_findings_go_to_stdout_one_after_the_other_with_their_fix(checkout: Path) -> None:
    text = (checkout / CONTRACT).read_text()
    (checkout / CONTRACT).write_text(text.replace('"doc": "Its code.", ', ""))
    result = RUN.invoke(app, ["check", "--root", str(checkout)])
    assert result.exit_code == 1
    assert result.stdout == (
        f"{CONTRACT}:52: fields[10] field 'iu_code' has no doc [doc]\n"
        "  fix: say in a sentence what it holds, and its unit\n"
        f"{CONTRACT}: the text of a released contract has changed (docs, defaults or layout) [released]\n"
        "  fix: undo it, or write v2.avsc\n"
    )
    assert result.stderr == "6 contracts, 25 golden cases, 2 faults\n"


@pytest.mark.parametrize("words", [["--format", "json"], ["--json"], ["--against", "lock", "--json"]])
def test_findings_as_json_carry_everything_a_program_needs(checkout: Path, words: list[str]) -> None:
    (checkout / ENCODER).unlink()
    result = RUN.invoke(app, ["check", "--root", str(checkout), *words])
    assert result.exit_code == 3
    assert json.loads(result.stdout) == {
        "against": "lock",
        "exit_code": 3,
        "report": {
            "contracts": 6,
            "golden_cases": 25,
            "findings": [
                {
                    "kind": "drift",
                    "rule": "sql",
                    "file": str(ENCODER),
                    "line": None,
                    "path": "",
                    "what": "it is missing",
                    "fix": "iu schemas sql",
                }
            ],
        },
    }


def test_a_contract_that_is_no_schema_exits_2(checkout: Path) -> None:
    (checkout / CONTRACT).write_text("{")
    assert RUN.invoke(app, ["check", "--root", str(checkout)]).exit_code == 2


def test_sql_check_writes_nothing_and_sql_mends(checkout: Path) -> None:
    good = (checkout / ENCODER).read_text()
    (checkout / ENCODER).write_text("-- edited\n")
    looked = RUN.invoke(app, ["sql", "--check", "--root", str(checkout)])
    assert (looked.exit_code, looked.stdout) == (3, f"{ENCODER}: it is not what its contract gives\n")
    assert (checkout / ENCODER).read_text() == "-- edited\n"
    wrote = RUN.invoke(app, ["sql", "--root", str(checkout)])
    assert (wrote.exit_code, wrote.stdout) == (0, f"wrote {ENCODER}\n")
    assert (checkout / ENCODER).read_text() == good
    again = RUN.invoke(app, ["sql", "--root", str(checkout), "--json"])
    assert (again.exit_code, json.loads(again.stdout)) == (0, {"written": [], "stale": []})


def test_sql_reports_a_file_that_no_contract_gives_and_leaves_it(checkout: Path) -> None:
    left_over = checkout / ENCODER.with_name("fn_iu_avro_structure_vanished_v1.sql")
    left_over.write_text("")
    result = RUN.invoke(app, ["sql", "--root", str(checkout)])
    assert (result.exit_code, left_over.exists()) == (3, True)


def test_lock_adds_what_is_new_and_makes_missing_datums(checkout: Path) -> None:
    lock, datum = (
        checkout / "schemas/schemas.lock",
        checkout / "schemas/golden/structure_reparented/v1/plain.bin",
    )
    text, kept = lock.read_text(), datum.read_bytes()
    lock.write_text(text[: text.rindex("\n[[contract]]")])
    datum.unlink()
    result = RUN.invoke(app, ["lock", "--root", str(checkout)])
    assert result.stdout == (
        "locked structure_reparented v1 released\nmade schemas/golden/structure_reparented/v1/plain.bin\n"
    )
    assert (lock.read_text(), datum.read_bytes()) == (text, kept)
    assert RUN.invoke(app, ["lock", "--root", str(checkout)]).stdout == "nothing is new\n"


def test_a_folder_that_is_no_checkout_is_wrong_usage(tmp_path: Path) -> None:
    result = RUN.invoke(app, ["check", "--root", str(tmp_path)])
    assert isinstance(result.exception, Usage)
    assert result.exception.exit_code is ExitCode.USAGE
    assert RUN.invoke(app, ["check", "--against", "git:HEAD"]).exit_code == 2  # comes with the history check
