"""Wrong input at every command: one clear message with the remedy, the documented exit code, no
traceback, and nothing changed.

Exit codes are those of docs/architecture/commands.md.
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from infra.local.ports import free_ports
from iu_core.database import Role, connect
from iu_core.settings import DatabaseSettings
from producers import reference_state
from tests.conftest import Ran, RunIu

NO_EVENT = "01a20bd0-95e0-7bfa-9032-403bdd3ee8aa"
WHY = ("--reason", "acceptance")
# words, exit code, what the message must name
CASES: list[tuple[tuple[str, ...], int, str]] = [
    (("op", "reparent", "nobody", "--under", "dieu44.charter", *WHY), 1, "nobody"),
    (("op", "reparent", "dieu44.charter.s01", "--under", "dieu44.charter.s01", *WHY), 1, "IU002"),
    (("op", "reparent", "dieu44.charter.s01", "--under", "dieu44.glossary", *WHY), 1, "IU003"),
    (("op", "reparent", "dieu44.charter.s01", "--under", "dieu44.charter", "--at", "-1", *WHY), 1, "IU011"),
    (("op", "deprecate", "law.frozen-01", *WHY), 1, "IU005"),
    (("op", "deprecate", "dieu44.charter", *WHY), 1, "IU004"),
    (("op", "deprecate", "pilot.iu0.test-002"), 2, "--reason"),
    (("op", "deprecate", "pilot.iu0.test-002", "--reason", "  "), 2, "--reason"),
    (("op", "add", "x", "--file", "absent.md", *WHY), 2, "absent.md"),
    (("op", "add", "x", "--file", "latin1.md", *WHY), 2, "position 3"),
    (("op", "add", "x", "--file", "nul.md", *WHY), 2, "position 2"),
    (("op", "add", "dieu44.charter.s02", "--file", "good.md", *WHY), 1, "IU010"),
    (("op", "split", "dieu44.charter.s02", "--piece", "a=good.md", *WHY), 1, "two pieces"),
    (("op", "split", "dieu44.charter.s02", "--piece", "good.md", *WHY), 2, "CODE=FILE"),
    (("op", "merge", "dieu44.charter.s02", "--into", "m=good.md", *WHY), 1, "IU002"),
    (("op", "replace", "dieu44.charter", "--by", "r=good.md", *WHY), 1, "IU003"),
    (("op", "sing"), 2, "sing"),
    (("gate", "open"), 2, "--reason"),
    (("gate", "open", "garden", *WHY), 2, "garden"),
    (("gate", "allow", "structure_invented", *WHY), 1, "structure_reparented"),
    (("gate", "allow", "structure_reparented"), 2, "--reason"),
    (("gate", "history", "--limit", "0"), 2, "limit"),
    (("route", "enable", "structure_reparented", *WHY), 77, "iu gate allow structure_reparented"),
    (("route", "enable", "structure_reparented"), 2, "--reason"),
    (("route", "show", "structure_invented"), 1, "structure_reparented"),
    (("route", "disable", "structure_invented"), 1, "structure_reparented"),
    (("explain", "nonsense"), 2, "nonsense"),
    (("db", "down", "--to", "99"), 2, "99"),
    (("consumer", "run", "structure_invented", "--until-idle"), 1, "structure_invented"),
    (("verfy",), 2, "verify"),
]


@pytest.fixture
def files(tmp_path: Path) -> None:
    (tmp_path / "good.md").write_text("# Good\n")
    (tmp_path / "latin1.md").write_bytes(b"caf\xe9\n")
    (tmp_path / "nul.md").write_bytes(b"ab\0c\n")


@pytest.fixture
def loaded(services_env: dict[str, str]) -> dict[str, str]:
    """A database with the reference state and an open structure gate."""
    url = services_env["IU_DATABASE_URL"]
    with connect(url, Role.OWNER, settings=DatabaseSettings(), application_name="tests") as connection:
        reference_state.load(connection, actor="tests", reason="acceptance")
        connection.execute("SELECT set_config('iu.reason', 'acceptance', false)")
        connection.execute(
            "UPDATE public.dot_config SET value = 'true' WHERE key = 'iu_core.structure_op_enabled'"
        )
    return services_env


@pytest.fixture
def row_counts(loaded: dict[str, str]) -> Iterator[Callable[[], dict[str, int]]]:
    with psycopg.connect(loaded["IU_DATABASE_URL"], autocommit=True) as connection:
        tables = [
            name
            for (name,) in connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        ]

        def count() -> dict[str, int]:
            counts: dict[str, int] = {}
            for name in tables:
                row = connection.execute(
                    psycopg.sql.SQL("SELECT count(*) FROM public.{}").format(psycopg.sql.Identifier(name))
                ).fetchone()
                assert row is not None
                counts[name] = row[0]
            return counts

        yield count


def assert_a_clear_no(ran: Ran, exit_code: int, named: str) -> None:
    said = ran.stdout + ran.stderr
    assert ran.exit_code == exit_code, said
    assert named in said
    assert "Traceback" not in said
    assert "a fault of iu itself" not in said


def test_every_wrong_input_is_a_clear_no_that_changes_nothing(
    iu: RunIu, loaded: dict[str, str], row_counts: Callable[[], dict[str, int]], files: None
) -> None:
    before = row_counts()
    for words, exit_code, named in CASES:
        # Asked to do it, not only to preview it: a refusal must stand either way.
        in_earnest = ("--apply",) if words[0] == "op" and words != ("op", "sing") else ()
        assert_a_clear_no(iu(*words, *in_earnest, env=loaded), exit_code, named)
    assert row_counts() == before


def test_a_closed_gate_names_its_value_and_the_command_that_opens_it(
    iu: RunIu, services_env: dict[str, str], files: None
) -> None:
    ran = iu("op", "add", "x", "--file", "good.md", *WHY, "--apply", env=services_env)
    assert_a_clear_no(ran, 77, "iu gate open structure")
    assert "iu_core.structure_op_enabled is 'false'" in ran.stderr


def test_an_unknown_event_is_said_so(iu: RunIu, services_env: dict[str, str]) -> None:
    assert_a_clear_no(iu("explain", NO_EVENT, env=services_env), 1, NO_EVENT)


@pytest.mark.parametrize(
    "words",
    [
        ("gate", "status"),
        ("gate", "close"),
        ("route", "list"),
        ("status",),
        ("verify",),
        ("db", "status"),
        ("op", "deprecate", "x", *WHY),
        ("relay", "run", "--until-idle"),
        ("relay", "prune"),
        ("consumer", "run", "--until-idle"),
    ],
    ids=" ".join,
)
def test_a_database_that_is_down_is_temporary(iu: RunIu, words: tuple[str, ...]) -> None:
    (port,) = free_ports(1)
    nowhere = {
        "IU_DATABASE_URL": f"postgresql://nobody@127.0.0.1:{port}/none",
        "IU_KAFKA_BOOTSTRAP_SERVERS": f"127.0.0.1:{port}",
    }
    assert_a_clear_no(iu(*words, env=nowhere), 75, f"127.0.0.1:{port}")


@pytest.mark.parametrize(
    "words",
    [
        ("status",),
        ("verify",),
        ("relay", "status"),
        ("relay", "run", "--until-idle"),
        ("relay", "prune"),
        ("consumer", "run", "--until-idle"),
    ],
    ids=" ".join,
)
def test_a_broker_that_is_down_is_temporary(
    iu: RunIu, services_env: dict[str, str], words: tuple[str, ...]
) -> None:
    (port,) = free_ports(1)
    away = services_env | {"IU_KAFKA_BOOTSTRAP_SERVERS": f"127.0.0.1:{port}"}
    assert_a_clear_no(iu(*words, env=away | {"IU_KAFKA__REQUEST_TIMEOUT_MS": "2000"}), 75, "error")


@pytest.mark.parametrize(
    ("setting", "named"),
    [
        ({"IU_KAFKA__PARTITIONS": "many"}, "IU_KAFKA__PARTITIONS"),
        ({"IU_KAFFKA__PARTITIONS": "4"}, "IU_KAFFKA__PARTITIONS"),
        ({"IU_DATABASE_URL": "nonsense"}, "IU_DATABASE_URL"),
    ],
)
def test_a_wrong_setting_is_named(iu: RunIu, setting: dict[str, str], named: str) -> None:
    assert_a_clear_no(iu("gate", "status", env=setting), 78, named)


def test_no_services_at_all_names_the_command_that_starts_them(iu: RunIu) -> None:
    assert_a_clear_no(iu("status"), 78, "iu services up")


def test_a_database_that_is_not_migrated_is_said_so(iu: RunIu, postgres_url: str) -> None:
    ran = iu("gate", "status", env={"IU_DATABASE_URL": postgres_url})
    assert_a_clear_no(ran, 78, "iu db up")


def test_a_fault_in_json_is_json(iu: RunIu, services_env: dict[str, str]) -> None:
    ran = iu("route", "show", "structure_invented", "--json", env=services_env)
    fault = json.loads(ran.stderr)["error"]
    assert (ran.exit_code, fault["exit_code"], ran.stdout) == (1, 1, "")
    assert fault["remedy"]
