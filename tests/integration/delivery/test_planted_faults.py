"""The tests of the tests: a database with one fault planted turns the very check red.

Each fault takes one thing out of the seam, in a scratch database, by replacing the text of a
function, or a trigger, an index or a grant. Then the check of the guarantee that this thing
carries must fail. The fault must leave the seam working when nobody is in the way, or the
check would be red for a reason of no interest.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import pytest
from psycopg import sql
from psycopg.errors import DeadlockDetected, QueryCanceled

from tests.integration.delivery import test_claim as claim
from tests.integration.delivery import test_gate_races as races
from tests.integration.delivery import test_gates as gates
from tests.integration.delivery import test_privileges as privileges
from tests.integration.delivery import test_record as record
from tests.integration.delivery import test_route_registry as registry
from tests.integration.delivery.seam import Seam
from tests.integration.sql.planting import put_instead

# What a failed check raises; a close that is starved ends at the statement's time limit, and locks
# taken in the wrong order end in a deadlock. Any other error of the database would mean that the
# fault has broken more than it should.
RED = (AssertionError, pytest.fail.Exception, QueryCanceled, DeadlockDetected)

Plant = Callable[[Seam], None]
Check = Callable[[Seam], None]


@dataclass(frozen=True, slots=True)
class Fault:
    """What is taken out, which guarantee that breaks, and the check that must notice."""

    guarantee: str
    name: str
    plants: tuple[Plant, ...]
    check: Check


def without(function: str, text: str, instead: str = "") -> Plant:
    """Replace `text` in the source of `function`, which must contain it."""

    def plant(seam: Seam) -> None:
        put_instead(seam.admin, function, text, instead)

    return plant


def ddl(statement: str) -> Plant:
    """Run a statement as a superuser."""

    def plant(seam: Seam) -> None:
        seam.admin.execute(sql.SQL(statement))

    return plant


ADVISORY = "PERFORM pg_advisory_xact_lock_shared(18773, 1);"
NO_ADVISORY = (without("fn_iu_delivery_gate", ADVISORY), without("fn_iu_route_lane", ADVISORY))
SHARE = "\n     FOR SHARE"


def queueing(close: str) -> Check:
    return partial(races.check_later_deliveries_queue_behind_a_close, close=races.CLOSES[close])


def under_load(close: str) -> Check:
    return partial(races.check_no_row_lands_after_a_close_under_load, close=races.CLOSES[close])


def past_the_trigger(close: str) -> Check:
    return partial(races.check_a_close_past_the_trigger_still_waits, close=races.CLOSES[close])


def batch_waits(close: str) -> Check:
    return partial(races.check_a_batch_without_delivery_waits_too, close=races.CLOSES[close])


def history(table: str) -> Check:
    return partial(privileges.check_history_refuses_everybody, table=table)


FAULTS = (
    Fault(
        "G4",
        "a projection without its unique event_ref",
        (
            without("fn_iu_structure_consumer", "ON CONFLICT (event_ref) DO NOTHING"),
            ddl("ALTER TABLE iu_tree_change_log DROP CONSTRAINT iu_tree_change_log_event_ref_uq"),
        ),
        gates.check_an_event_has_one_row_however_often_it_is_delivered,
    ),
    Fault(
        "G4",
        "a ledger without its unique sent",
        (
            without(
                "fn_iu_route_record_attempts",
                "ON CONFLICT (route_code, event_ref) WHERE decision = 'sent' DO NOTHING",
            ),
            ddl("DROP INDEX iu_route_attempt_sent_uq"),
        ),
        record.check_one_sent_per_route_and_event,
    ),
    Fault(
        "G4",
        "sent is believed",
        (without("fn_iu_route_record_attempts", "AND p_lane = 'live' THEN", "AND false THEN"),),
        record.check_sent_needs_the_projection_row,
    ),
    Fault(
        "G5",
        "a missing kill switch compared with <>",
        (without("fn_iu_delivery_gate", "IS DISTINCT FROM 'true'", "<> 'true'"),),
        gates.check_every_gate_denies_what_is_missing,
    ),
    Fault(
        "G5",
        "a missing allowlist allows",
        (
            without(
                "fn_iu_route_listed", "(p_live_routes, ',')", "(coalesce(p_live_routes, p_route_code), ',')"
            ),
        ),
        gates.check_every_gate_denies_what_is_missing,
    ),
    Fault(
        "G5",
        "a missing allowlist lets a route go live",
        (
            without(
                "fn_iu_outbound_route_delivery_guard",
                "IF NOT public",
                "IF v_live_routes IS NOT NULL AND NOT public",
            ),
        ),
        registry.check_only_an_allowlisted_route_goes_live,
    ),
    Fault(
        "G5",
        "recording asks no gate",
        (without("fn_iu_route_lane", "PERFORM public.fn_iu_route_gate(p_route_code);", "NULL;"),),
        gates.check_nothing_moves_in_the_live_lane_while_a_gate_is_closed,
    ),
    Fault("G6", "no advisory lock, kill switch", NO_ADVISORY, queueing("kill switch")),
    Fault("G6", "no advisory lock, route disabled", NO_ADVISORY, queueing("disable")),
    Fault("G6", "no advisory lock, under load", NO_ADVISORY, under_load("kill switch")),
    Fault(
        "G6",
        "no lock at all, and the gate asked once",
        (
            *NO_ADVISORY,
            without("fn_iu_delivery_gate", SHARE),
            without("fn_iu_route_lane", "PERFORM public.fn_iu_route_gate(p_route_code);", "NULL;"),
        ),
        under_load("kill switch"),
    ),
    Fault("G6", "no advisory lock in recording", NO_ADVISORY[1:], batch_waits("disable")),
    Fault(
        "G6",
        "a change of a switch that does not queue",
        (ddl("DROP TRIGGER trg_dot_config_queue ON dot_config"),),
        queueing("allowlist"),
    ),
    Fault(
        "G6",
        "a change of a route that does not queue",
        (ddl("DROP TRIGGER trg_iu_outbound_route_queue ON iu_outbound_route"),),
        queueing("dry-run"),
    ),
    Fault(
        "G6",
        "switches read without FOR SHARE",
        (without("fn_iu_delivery_gate", SHARE),),
        past_the_trigger("kill switch"),
    ),
    Fault(
        "G6",
        "switches read without FOR SHARE, allowlist",
        (without("fn_iu_delivery_gate", SHARE),),
        past_the_trigger("allowlist removed"),
    ),
    Fault(
        "G6",
        "the route read without FOR SHARE",
        (without("fn_iu_route_gate", SHARE),),
        past_the_trigger("target"),
    ),
    Fault(
        "G7",
        "what is passed over need not be kept",
        (without("fn_iu_route_record_dead_letters", "IF v_alone IS NOT NULL", "IF false"),),
        record.check_what_is_passed_over_is_kept,
    ),
    Fault(
        "G7",
        "a dead letter without its bytes",
        (without("fn_iu_route_record_dead_letters", "decode(letter.value, 'base64')", "NULL::bytea"),),
        record.check_a_batch_lands_whole,
    ),
    Fault(
        "G9",
        "a position moved without comparing the epoch",
        (without("fn_iu_route_record", "AND position.owner_epoch = p_owner_epoch"),),
        claim.check_a_stale_owner_changes_nothing,
    ),
    Fault(
        "G9",
        "a claim that keeps the epoch",
        (
            without(
                "fn_iu_route_claim_partitions",
                "position.owner_epoch + 1",
                "greatest(position.owner_epoch, 1)",
            ),
        ),
        claim.check_a_stale_owner_changes_nothing,
    ),
    Fault(
        "G9",
        "a position moved without comparing the offset",
        (without("fn_iu_route_record", "AND position.next_offset = p_from_offset"),),
        claim.check_a_batch_is_recorded_once,
    ),
    Fault(
        "G10",
        "a topic made again is not noticed",
        (without("fn_iu_route_claim_partitions", "position.topic_id <> p_topic_id", "false"),),
        claim.check_a_topic_made_again_is_noticed,
    ),
    Fault(
        "G11",
        "a payload taken on trust",
        (without("fn_iu_route_deliver", "p_payload IS DISTINCT FROM v_event.payload", "p_payload IS NULL"),),
        gates.check_a_forged_payload_is_refused,
    ),
    Fault(
        "G11",
        "a column a consumer may read",
        (ddl("GRANT SELECT (event_ref) ON iu_route_attempt TO iu_consumer"),),
        privileges.check_a_consumer_has_four_functions_and_no_table,
    ),
    Fault(
        "G11",
        "a gate a consumer may take hold of",
        (ddl("GRANT EXECUTE ON FUNCTION fn_iu_delivery_gate(text) TO iu_consumer"),),
        privileges.check_a_consumer_has_four_functions_and_no_table,
    ),
    Fault(
        "G11",
        "a projection whose trigger sleeps in replica mode",
        (ddl("ALTER TABLE iu_tree_change_log ENABLE TRIGGER trg_iu_tree_change_log_append_only"),),
        history("iu_tree_change_log"),
    ),
    Fault(
        "G11",
        "a ledger that can be changed",
        (ddl("DROP TRIGGER trg_iu_route_attempt_append_only ON iu_route_attempt"),),
        history("iu_route_attempt"),
    ),
    Fault(
        "G11",
        "a projection that not only its owner empties",
        (ddl("GRANT TRUNCATE ON iu_tree_change_log TO iu_gatekeeper"),),
        privileges.check_only_the_owner_truncates_the_projection,
    ),
)


@pytest.fixture
def scratch(migrated_url: str) -> Iterator[Seam]:
    with Seam(migrated_url) as seam:
        yield seam


def deliver_in_peace(seam: Seam) -> None:
    """Land one event with nobody in the way, on a partition that no check uses."""
    seam.go_live()
    worker = seam.worker(partition=99)
    worker.claim()
    worker.land(*seam.events(1))
    assert seam.projected() == 1
    seam.admin.execute("TRUNCATE iu_tree_change_log")
    # The checks count rows from nothing. A trigger that a fault has dropped stays dropped.
    triggers = seam.admin.execute(
        "SELECT tgname FROM pg_trigger WHERE tgrelid = 'iu_route_attempt'::regclass"
    ).fetchall()
    seam.admin.execute("ALTER TABLE iu_route_attempt DISABLE TRIGGER USER")
    seam.admin.execute("DELETE FROM iu_route_attempt")
    for (name,) in triggers:
        seam.admin.execute(
            sql.SQL("ALTER TABLE iu_route_attempt ENABLE ALWAYS TRIGGER {}").format(sql.Identifier(name))
        )
    seam.admin.execute("DELETE FROM iu_route_offset")


@pytest.mark.parametrize("fault", FAULTS, ids=[f"{fault.guarantee}: {fault.name}" for fault in FAULTS])
def test_a_planted_fault_turns_its_check_red(scratch: Seam, fault: Fault) -> None:
    for plant in fault.plants:
        plant(scratch)
    deliver_in_peace(scratch)
    with pytest.raises(RED):
        fault.check(scratch)


@pytest.mark.parametrize("check", sorted({fault.check for fault in FAULTS}, key=repr), ids=repr)
def test_the_same_check_is_green_without_a_fault(scratch: Seam, check: Check) -> None:
    """Else it would prove nothing that it is red with one."""
    deliver_in_peace(scratch)
    check(scratch)
