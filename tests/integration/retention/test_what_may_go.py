"""A row leaves the outbox only if every condition holds, and each condition alone keeps it.

The table names a condition, what makes it fail, and the words of fn_iu_outbox_judge that ask for
it. Each is run twice: as it is, where the rows must stay for this reason; and in a database where
those words are taken out, where they must go. So no condition is held only by another one.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

import pytest
from psycopg import sql

from tests.integration.retention.yard import Bound, Row, Yard


def nothing(yard: Yard, rows: list[Row], bound: Bound) -> None:
    """All conditions hold."""


def unsettled(yard: Yard, rows: list[Row], bound: Bound) -> None:
    """The slowest shard's S1 ends where the tree's second event was written."""
    bound.before = yard.value("SELECT xid::text FROM event_outbox WHERE id = %s", rows[1].id)


def newest(yard: Yard, rows: list[Row], bound: Bound) -> None:
    """The second event is the newest that a shard has published."""
    bound.newest = [rows[1].id]


def blocked(yard: Yard, rows: list[Row], bound: Bound) -> None:
    """The tree waits for a dead letter."""
    bound.blocked = [rows[0].tree_id]


def young(yard: Yard, rows: list[Row], bound: Bound) -> None:
    """The retention has not passed."""
    bound.older_than = timedelta(hours=1)


def undecided(yard: Yard, rows: list[Row], bound: Bound) -> None:
    """No decision at all."""
    yard.behind_guards("DELETE FROM iu_route_attempt")


def rehearsed(yard: Yard, rows: list[Row], bound: Bound) -> None:
    """Decisions of the dry-run lane settle nothing, not even a refusal."""
    undecided(yard, rows, bound)
    yard.decide([row.event_ref for row in rows], "refused", lane="dry_run")


def failed(yard: Yard, rows: list[Row], bound: Bound) -> None:
    """Failed is not final: somebody may replay it."""
    undecided(yard, rows, bound)
    yard.decide([row.event_ref for row in rows], "failed", final=False)


def second_route(yard: Yard, rows: list[Row], bound: Bound) -> None:
    """Another route of the type is registered, inert, and has decided nothing."""
    yard.admin.execute(
        "INSERT INTO iu_outbound_route (route_code, event_type, target_kind, target_ref)"
        " VALUES ('another', 'structure_child_added', 'sql_function', 'fn_iu_structure_consumer')"
    )


def no_baseline(yard: Yard, rows: list[Row], bound: Bound) -> None:
    """The tree has none."""
    yard.behind_guards("DELETE FROM iu_tree_baseline")


def old_baseline(yard: Yard, rows: list[Row], bound: Bound) -> None:
    """The tree's only one stands below the first event."""
    yard.behind_guards("UPDATE iu_tree_baseline SET version = 0")


def hole(yard: Yard, rows: list[Row], bound: Bound) -> None:
    """The first event stays for another reason, the others would go."""
    bound.newest = [rows[0].id]


@dataclass(frozen=True, slots=True)
class Condition:
    """A condition, how it fails, the reasons the three rows then stay (None: gone), and its words."""

    breaks: Callable[[Yard, list[Row], Bound], None]
    reasons: tuple[str | None, str | None, str | None]
    words: str


def all_for(reason: str) -> tuple[str, str, str]:
    return (reason, "behind" if reason == "newest_published" else reason, reason)


CONDITIONS = (
    Condition(unsettled, (None, "unsettled", "unsettled"), "examined.xid >= p_before::xid8"),
    Condition(newest, (None, "newest_published", "behind"), "examined.id = ANY (p_newest_ids)"),
    Condition(blocked, all_for("blocked"), "examined.aggregate_id = ANY (p_blocked)"),
    Condition(young, all_for("too_young"), "examined.occurred_at > statement_timestamp() - p_older_than"),
    Condition(undecided, all_for("undecided"), "route.event_type = examined.event_type"),
    Condition(rehearsed, all_for("undecided"), "attempt.lane = 'live'"),
    Condition(failed, all_for("undecided"), "attempt.final"),
    Condition(second_route, all_for("undecided"), "attempt.route_code = route.route_code"),
    Condition(no_baseline, all_for("no_baseline"), "NOT (examined.baseline OR p_with_baselines)"),
    Condition(old_baseline, all_for("no_baseline"), "base.version >= event.aggregate_version"),
    Condition(hole, ("newest_published", "behind", "behind"), "count(judged.reason) OVER versions > 0"),
)
# What stands in for the words, so that the condition never holds a row.
INSTEAD = {
    "attempt.lane = 'live'": "true",
    "attempt.final": "true",
    "attempt.route_code = route.route_code": "true",
    "base.version >= event.aggregate_version": "true",
}


def kept(yard: Yard, rows: list[Row]) -> tuple[bool, ...]:
    """Say of each of `rows` whether it is still there."""
    there = {row.id for row in yard.rows()}
    return tuple(row.id in there for row in rows)


def take_out(yard: Yard, words: str) -> None:
    """Remove a condition from the judge."""
    source = yard.value("SELECT pg_get_functiondef(oid) FROM pg_proc WHERE proname = 'fn_iu_outbox_judge'")
    assert words in source, f"the judge has changed: {words!r} is not in it"
    yard.admin.execute(sql.SQL(source.replace(words, INSTEAD.get(words, "false"))))


def name_of(condition: Condition) -> str:
    return condition.breaks.__name__


@pytest.mark.parametrize("condition", CONDITIONS, ids=name_of)
def test_a_condition_keeps_its_rows_and_says_why(yard: Yard, condition: Condition) -> None:
    rows = yard.tree(3)
    bound = yard.bound()
    condition.breaks(yard, rows, bound)
    assert tuple(yard.judged(bound)[row.id] for row in rows) == condition.reasons
    yard.prune(bound)
    assert kept(yard, rows) == tuple(reason is not None for reason in condition.reasons)


@pytest.mark.parametrize("condition", CONDITIONS, ids=name_of)
def test_without_the_condition_its_rows_go(yard: Yard, condition: Condition) -> None:
    """The test of the test above: what is kept there is kept by these words alone."""
    take_out(yard, condition.words)
    rows = yard.tree(3)
    bound = yard.bound()
    condition.breaks(yard, rows, bound)
    yard.prune(bound)
    held = tuple(reason is not None for reason in condition.reasons)
    assert kept(yard, rows) != held


@pytest.mark.parametrize("how", ["sent", "refused", "discarded", "no route"])
def test_a_row_goes_when_every_route_has_decided_for_good(yard: Yard, how: str) -> None:
    """By an effect, a refusal, or a dead letter that somebody discarded; and if there is no route."""
    rows = yard.tree(2, decided=False)
    refs = [row.event_ref for row in rows]
    if how == "no route":
        yard.admin.execute("DELETE FROM iu_outbound_route WHERE event_type = 'structure_child_added'")
    elif how == "discarded":
        yard.decide(refs, "failed", final=False)
        yard.admin.execute(
            "INSERT INTO iu_route_dead_letter (route_code, lane, state, event_ref, topic, partition,"
            " \"offset\", reason) SELECT event_type, 'live', 'dead', event_ref, 't', 0, id, 'x'"
            "  FROM event_outbox"
        )
        assert set(yard.judged().values()) == {"undecided"}
        yard.admin.execute("UPDATE iu_route_dead_letter SET state = 'discarded'")
    else:
        yard.decide(refs, how)
    assert yard.prune().pruned == 2
    assert yard.rows() == []


def test_trees_hold_only_themselves(yard: Yard) -> None:
    """A tree that is blocked, undecided or without a baseline does not keep another's rows."""
    stuck, free = yard.tree(3, decided=False), yard.tree(3)
    assert yard.prune().pruned == 3
    assert kept(yard, stuck) == (True, True, True)
    assert kept(yard, free) == (False, False, False)
