"""From a refusal to the thing done, by typing what each message says and nothing else."""

import re

import pytest

from tests.conftest import RunIu

COMMAND = re.compile(r"(iu (?:gate|route) [^\n]*)")
ROUTE = "structure_reparented"


@pytest.fixture
def database(migrated_url: str) -> dict[str, str]:
    return {"IU_DATABASE_URL": migrated_url}


def words_of(command: str) -> list[str]:
    return command.replace('"..."', "acceptance").split()[1:]


def test_a_route_goes_live_by_typing_the_remedies(iu: RunIu, database: dict[str, str]) -> None:
    """The guard names the allowlist; its command previews, and names --apply; then the route turns."""
    turn_on = ("route", "enable", ROUTE, "--reason", "acceptance", "--apply")
    refused = iu(*turn_on, env=database)
    assert refused.exit_code == 77
    named = COMMAND.search(refused.stderr)
    assert named is not None, refused.stderr

    previewed = iu(*words_of(named[1]), env=database)
    assert (previewed.exit_code, "do it with: --apply" in previewed.stderr) == (0, True)
    assert iu(*turn_on, env=database).exit_code == 77
    assert iu(*words_of(named[1]), "--apply", env=database).exit_code == 0
    assert iu(*turn_on, env=database).exit_code == 0

    # Live behind the closed kill switch it holds, and says how to open that.
    held = iu("route", "show", ROUTE, env=database).stdout
    opening = COMMAND.search(held)
    assert opening is not None, held
    assert iu(*words_of(opening[1]), env=database).exit_code == 0
    assert f"{ROUTE}  live" in iu("route", "show", ROUTE, env=database).stdout


def test_the_trail_tells_what_changed_by_whom_and_why(iu: RunIu, database: dict[str, str]) -> None:
    assert iu("gate", "open", "structure", "--reason", "release 12", "--apply", env=database).exit_code == 0
    told = iu("gate", "history", env=database).stdout
    assert "iu_core.structure_op_enabled  'false' → 'true'\n" in told
    assert "(iu gate) as iu_gatekeeper, because release 12\n" in told
    assert f"route {ROUTE}  missing → 'enabled=false dry_run=true'\n" in told
