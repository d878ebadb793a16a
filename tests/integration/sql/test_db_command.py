"""`iu db` as a user meets it: words, JSON, exit codes, and no traceback."""

from pathlib import Path

import pytest

from iu_core.database.migration_files import read
from iu_core.resources import sql_dir
from tests.conftest import Ran, RunIu
from tests.integration.sql.sessions import session

NEWEST = read(sql_dir()).newest


def ok(ran: Ran) -> Ran:
    assert (ran.exit_code, ran.stderr) == (0, "")
    return ran


def refused(ran: Ran, code: int, *words: str) -> None:
    assert ran.exit_code == code, ran.stderr
    assert ran.stdout == ""
    assert "Traceback" not in ran.stderr
    assert "remedy" in ran.stderr
    for word in words:
        assert word in ran.stderr


def test_up_status_down_and_up_again(iu: RunIu, postgres_url: str) -> None:
    env = {"IU_DATABASE_URL": postgres_url}
    first = ok(iu("db", "up", "--json", env=env)).json()
    assert (first["version"], len(first["applied"]), first["rehearsed"]) == (NEWEST, NEWEST, False)
    again = ok(iu("db", "up", env=env)).stdout
    assert "Nothing to do." in again
    assert f"The database is at version {NEWEST}." in again
    status = ok(iu("db", "status", "--json", env=env)).json()
    assert [entry["state"] for entry in status] == ["applied"] * NEWEST
    assert "013_delivery_seam.sql" in ok(iu("db", "status", env=env)).stdout
    assert ok(iu("db", "verify", "--json", env=env)).json() == []

    preview = ok(iu("db", "down", "--to", "0", env=env)).stdout
    assert "add --apply to do it" in preview
    assert f"The database would be at version {0}." in preview
    assert ok(iu("db", "status", "--json", env=env)).json() == status
    gone = ok(iu("db", "down", "--to", "0", "--apply", "--json", env=env)).json()
    assert (gone["version"], len(gone["rolled_back"])) == (0, NEWEST)
    assert ok(iu("db", "up", "--json", env=env)).json()["version"] == NEWEST


def test_verify_ends_with_65_and_says_what_differs(iu: RunIu, migrated_url: str) -> None:
    with session(migrated_url) as admin:
        admin.execute("COMMENT ON TABLE event_outbox IS NULL")
    found = iu("db", "verify", env={"IU_DATABASE_URL": migrated_url})
    assert found.exit_code == 65
    assert "table event_outbox" in found.stdout
    assert "has no comment" in found.stderr


def test_a_seam_in_use_is_refused_with_the_remedy_and_goes_by_force(
    iu: RunIu, migrated_url: str, tmp_path: Path
) -> None:
    with session(migrated_url) as admin:
        admin.execute(
            "INSERT INTO iu_tree_change_log"
            " (event_ref, event_type, tree_id, aggregate_version, incarnation, payload)"
            " VALUES (gen_random_uuid(), 'structure_reparented', gen_random_uuid(), 1, 1, '{}')"
        )
    env = {"IU_DATABASE_URL": migrated_url}
    down = ("db", "down", "--to", "12", "--apply")
    refused(iu(*down, env=env), 1, "IU012", "--force-inert")
    file = tmp_path / "kept.jsonl"
    assert "1 rows of the projection" in ok(iu(*down, "--force-inert", "--export", str(file), env=env)).stdout
    assert len(file.read_text().splitlines()) == 1


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (("up", "--to", "99"), 2, "there is no migration 99"),
        (("down", "--to", "99"), 2, "there is no migration 99"),
    ],
)
def test_wrong_words(iu: RunIu, migrated_url: str, words: tuple[str, ...], code: int, says: str) -> None:
    refused(iu("db", *words, env={"IU_DATABASE_URL": migrated_url}), code, says)


@pytest.mark.parametrize("words", [("up",), ("down", "--to", "0"), ("status",), ("verify",)])
def test_the_database_is_down(iu: RunIu, words: tuple[str, ...]) -> None:
    # Port 1 of the loopback interface is reserved, and nothing listens there.
    nowhere = {"IU_DATABASE_URL": "postgresql://nobody@127.0.0.1:1/nothing"}
    refused(iu("db", *words, env=nowhere), 75, "does not answer", "iu services up")
