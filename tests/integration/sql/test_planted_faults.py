"""The tests of the tests for G11: a privilege too many, or history that can be changed, turns the test red.

Each fault is one statement that a hurried migration might hold. Those of the delivery seam are in
`tests/integration/delivery/test_planted_faults.py`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import pytest
from psycopg import sql

from tests.integration.sql import test_schema_rules as rules
from tests.integration.sql.sessions import Session, session

RED = (AssertionError, pytest.fail.Exception)

Check = Callable[[Session, str], None]


@dataclass(frozen=True, slots=True)
class Fault:
    """What a superuser runs, which guarantee that breaks, and the test that must notice."""

    guarantee: str
    name: str
    statement: str
    check: Check


def rights(admin: Session, url: str) -> None:
    rules.test_each_role_may_do_its_work_and_nothing_else(admin)


def history(admin: Session, url: str, *, table: str, replica: bool) -> None:
    rules.test_history_is_not_changed_even_by_a_superuser(admin, url, table, replica)


def units_stay(admin: Session, url: str) -> None:
    rules.test_no_unit_and_no_tree_is_ever_deleted(admin, "information_unit")


FAULTS = (
    Fault(
        "G11",
        "a relay that reads the units",
        "GRANT SELECT ON information_unit TO iu_relay",
        rights,
    ),
    Fault(
        "G11",
        "a relay that marks what it has published",
        "GRANT UPDATE ON event_outbox TO iu_relay",
        rights,
    ),
    Fault(
        "G11",
        "an editor that loads baselines",
        "GRANT EXECUTE ON FUNCTION fn_iu_tree_baseline_load(jsonb, text, text) TO iu_editor",
        rights,
    ),
    Fault(
        "G11",
        "an outbox that can be changed",
        "DROP TRIGGER trg_event_outbox_append_only ON event_outbox",
        partial(history, table="event_outbox", replica=False),
    ),
    Fault(
        "G11",
        "an outbox whose trigger sleeps in replica mode",
        "ALTER TABLE event_outbox ENABLE TRIGGER trg_event_outbox_append_only",
        partial(history, table="event_outbox", replica=True),
    ),
    Fault(
        "G11",
        "units that can be deleted",
        "DROP TRIGGER trg_information_unit_no_delete ON information_unit",
        units_stay,
    ),
)


@pytest.mark.parametrize("fault", FAULTS, ids=[f"{fault.guarantee}: {fault.name}" for fault in FAULTS])
def test_a_planted_fault_turns_its_check_red(migrated_url: str, fault: Fault) -> None:
    with session(migrated_url) as admin:
        admin.execute(sql.SQL(fault.statement))
        with pytest.raises(RED):
            fault.check(admin, migrated_url)
