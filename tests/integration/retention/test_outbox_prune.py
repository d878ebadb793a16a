"""The deed: bounded, a prefix of each tree's versions, a stub for each row, and by the function alone."""

import uuid
from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from iu_core.database import Role
from iu_core.resources import sql_dir
from tests.integration.retention.yard import Bound, Yard
from tests.integration.sql.sessions import Session, event_of, refused, session

FLAG = "SELECT set_config('iu.maintenance', 'outbox_prune', false)"


def test_a_stub_keeps_what_must_be_known_for_ever(yard: Yard) -> None:
    (row,) = yard.tree(1)
    event = event_of(yard.admin, row.event_ref)
    assert yard.prune() == (1, 1, row.id)
    names = (
        "event_ref, event_type, schema_version, aggregate_id, aggregate_version, incarnation,"
        " payload_digest, occurred_at"
    )
    stub = yard.admin.execute(f"SELECT {names} FROM event_outbox_stub").fetchone()  # noqa: S608
    assert stub == tuple(getattr(event, name) for name in names.replace(",", " ").split())
    seen = yard.admin.execute("SELECT bucket, pruned_at, payload, xid FROM iu_event").fetchone()
    assert seen is not None
    assert (seen[0], seen[2], seen[3]) == (event.bucket, None, None)
    assert seen[1] > event.occurred_at


def test_a_call_is_bounded_and_the_next_goes_on(yard: Yard) -> None:
    """By limit and by window; whatever the steps, each tree has lost a prefix of its versions."""
    trees = [yard.tree(4) for _ in range(3)]
    ids = [row.id for row in yard.rows()]
    assert yard.prune(limit=5) == (12, 5, ids[-1])
    assert [row.id for row in yard.rows()] == ids[5:]
    after_id, steps = 0, []
    while (batch := yard.prune(after_id=after_id, window=3)).examined:
        assert batch.last_id is not None
        steps.append(batch)
        after_id = batch.last_id
    assert [step.pruned for step in steps] == [3, 3, 1]
    assert yard.stubs() == sorted((rows[0].tree_id, row.version) for rows in trees for row in rows)


def test_versions_leave_in_order_even_where_ids_do_not_ascend_with_them(yard: Yard) -> None:
    """As after a restore that put rows back: a lower version may have the higher id."""
    rows = yard.tree(4)
    yard.behind_guards("UPDATE event_outbox SET id = DEFAULT WHERE id = %s", (rows[0].id,))
    # Only the last three ids in the window: versions 2 to 4 must not leave before version 1.
    assert yard.prune(window=3).pruned == 0
    assert yard.prune(limit=2).pruned == 2
    assert [version for _, version in yard.stubs()] == [1, 2]


def test_a_prune_that_waits_for_another_sees_what_it_took(yard: Yard) -> None:
    rows = yard.tree(4)
    other = session(yard.url, Role.OWNER)
    with other, session(yard.url) as observer, other.transaction():
        yard.prune(limit=2, by=other)
        waiter = session(yard.url, Role.OWNER)
        # The lock is granted in the statement after: so this cannot deadlock, only wait.
        waiter.execute("SET lock_timeout = '300ms'")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            yard.prune(by=waiter)
        waiter.close()
        del observer
    assert len(yard.stubs()) == 2
    assert yard.prune().pruned == 2
    assert len(yard.stubs()) == len(rows)


def test_a_prune_that_is_rolled_back_has_done_nothing(yard: Yard) -> None:
    rows = yard.tree(2)
    with yard.owner.transaction(force_rollback=True):
        assert yard.prune().pruned == 2
    assert (yard.rows(), yard.stubs()) == (rows, [])


def delete(somebody: Session) -> None:
    somebody.execute("DELETE FROM event_outbox")


def delete_in_a_block(somebody: Session) -> None:
    somebody.execute("DO $$ BEGIN DELETE FROM public.event_outbox; END $$")


def delete_by_a_namesake(somebody: Session) -> None:
    """A function that is called like ours, in a schema of one's own."""
    somebody.execute(
        "CREATE FUNCTION pg_temp.fn_iu_outbox_prune(text, bigint[]) RETURNS void LANGUAGE plpgsql"
        " AS $$ BEGIN DELETE FROM public.event_outbox; END $$"
    )
    somebody.execute("SELECT pg_temp.fn_iu_outbox_prune('1', '{}')")


def truncate(somebody: Session) -> None:
    somebody.execute("TRUNCATE event_outbox")


def update(somebody: Session) -> None:
    somebody.execute("UPDATE event_outbox SET headers = '{}'")


@pytest.mark.parametrize("attempt", [delete, delete_in_a_block, delete_by_a_namesake, truncate, update])
@pytest.mark.parametrize("role", [None, Role.OWNER], ids=["superuser", "owner"])
def test_a_session_that_sets_the_flag_itself_is_refused(
    yard: Yard, role: Role | None, attempt: Callable[[Session], None]
) -> None:
    """Goes green for the vandal if the flag is believed without the call stack."""
    rows = yard.tree(1)
    with session(yard.url, role) as somebody:
        somebody.execute(FLAG)
        if attempt is delete_by_a_namesake and role is Role.OWNER:
            yard.admin.execute(
                "GRANT TEMPORARY ON DATABASE {} TO iu_owner".format(
                    yard.value("SELECT quote_ident(current_database())")
                ).encode()
            )
        with refused("IU040"):
            attempt(somebody)
    assert yard.rows() == rows


def test_believing_the_flag_alone_would_let_the_vandal_through(yard: Yard) -> None:
    """The test of the test above."""
    yard.tree(1)
    source = yard.value("SELECT pg_get_functiondef(oid) FROM pg_proc WHERE proname = 'fn_iu_append_only'")
    asked = [line for line in source.splitlines() if "IF v_stack ~" in line]
    assert len(asked) == 1
    yard.admin.execute(source.replace(asked[0], "IF true THEN").encode())
    yard.admin.execute(FLAG)
    delete(yard.admin)
    assert yard.rows() == []


def test_the_flag_does_not_outlive_the_call(yard: Yard) -> None:
    yard.tree(1)
    kept = yard.tree(1, decided=False)
    with yard.owner.transaction():
        assert yard.prune().pruned == 1
        assert yard.owner.execute("SELECT current_setting('iu.maintenance', true)").fetchone() == ("",)
        with refused("IU040") as said, yard.owner.transaction():
            delete(yard.owner)
    assert "iu relay prune" in said.hint
    assert yard.rows() == kept


def test_without_the_flag_not_even_the_function_passes(yard: Yard) -> None:
    rows = yard.tree(1)
    source = yard.value("SELECT pg_get_functiondef(oid) FROM pg_proc WHERE proname = 'fn_iu_outbox_prune'")
    words = "PERFORM set_config('iu.maintenance', 'outbox_prune', true);"
    assert words in source
    yard.admin.execute(source.replace(words, "").encode())
    with refused("IU040"):
        yard.prune()
    assert yard.rows() == rows


def test_nobody_but_the_owner_prunes_judges_or_takes_baselines(yard: Yard) -> None:
    calls = (
        "fn_iu_outbox_prune('1', '{}', '{}', '0', 0, 1, 1)",
        "fn_iu_outbox_judge('1', '{}', '{}', '0', true, 0, 1)",
        "fn_iu_tree_baseline_take(gen_random_uuid(), 1, '', 'a', 'b')",
        "fn_iu_route_event(gen_random_uuid(), '{}')",
    )
    for role in set(Role) - {Role.OWNER}:
        with session(yard.url, role) as somebody:
            for call in calls:
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    somebody.execute(f"SELECT {call}".encode())


@pytest.mark.parametrize(
    "wrong",
    [
        {"before": None},
        {"newest": None},
        {"blocked": None},
        {"older_than": None},
        {"newest": [None]},
        {"blocked": [None]},
        {"before": "18446744073709551615"},
    ],
    ids=str,
)
def test_a_bound_that_cannot_be_true_is_refused(yard: Yard, wrong: dict[str, Any]) -> None:
    """A NULL would hold no row back, and a bound ahead of this database is another's."""
    rows = yard.tree(1)
    bound = Bound(**({"before": yard.bound().before} | wrong))
    with refused("IU013") as said:
        yard.prune(bound)
    assert "iu relay prune" in said.hint
    for limits in ({"after_id": None}, {"window": 0}, {"limit": 0}, {"limit": None}):
        with refused("IU013"):
            yard.prune(**limits)
    assert yard.rows() == rows


def test_a_baseline_is_taken_of_the_tree_that_was_folded(yard: Yard) -> None:
    (row, *_) = yard.tree(3, baseline=False)
    take = "SELECT fn_iu_tree_baseline_take(%s, %s, %s, 'ada', 'a test')"
    assert yard.take_baseline(row.tree_id)
    assert yard.take_baseline(row.tree_id), "taking it again is no fault"
    version, digest, again = yard.admin.execute(
        "SELECT version, digest, fn_iu_tree_baseline_digest(units) FROM iu_tree_baseline"
    ).fetchone() or (0, b"", b"")
    assert (version, digest) == (3, again)
    assert yard.owner.execute(take, (row.tree_id, 2, digest)).fetchone() == (False,)
    with refused("IU020") as said:
        yard.owner.execute(take, (row.tree_id, 3, bytes(32)))
    assert "iu verify" in said.hint
    with refused("IU001"):
        yard.owner.execute(take, (uuid.uuid4(), 3, digest))


def test_a_tree_changed_behind_its_events_gets_no_baseline(yard: Yard) -> None:
    """Else pruning would make the damage lawful: nothing would be left to hold it against."""
    rows = yard.tree(3, baseline=False)
    yard.admin.execute(
        "UPDATE information_unit SET ordinal = 77 WHERE tree_id = %s AND ordinal = 1",
        (rows[0].tree_id,),
    )
    with refused("IU020"):
        yard.take_baseline(rows[0].tree_id)
    assert yard.prune().pruned == 0


def test_a_baseline_waits_for_an_operation_of_its_tree(yard: Yard) -> None:
    """Under the head lock: what is written down is the tree of one version, not of two halves."""
    (row,) = yard.tree(1, baseline=False)
    before = yard.value("SELECT count(*) FROM iu_tree_baseline")
    with session(yard.url) as blocker, session(yard.url, Role.OWNER) as waiter, blocker.transaction():
        blocker.execute("SELECT FROM iu_tree WHERE tree_id = %s FOR UPDATE", (row.tree_id,))
        waiter.execute("SET lock_timeout = '200ms'")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            waiter.execute("SELECT fn_iu_tree_baseline_take(%s, 1, '', 'ada', 'a test')", (row.tree_id,))
    assert yard.value("SELECT count(*) FROM iu_tree_baseline") == before


def test_rollback_refuses_while_there_are_stubs(yard: Yard) -> None:
    yard.tree(1)
    yard.prune()
    rollback = (sql_dir() / "rollback" / "015_outbox_prune.rollback.sql").read_text()
    with refused("IU012") as said:
        yard.admin.execute(rollback.encode())
    yard.admin.execute("ROLLBACK")
    assert "event_outbox_stub: 1" in said.detail
