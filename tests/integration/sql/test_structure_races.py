"""Operations that meet: the head row of a tree serialises them, whatever their order.

No step sleeps to let another happen: pg_blocking_pids() tells who waits.
"""

import random
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from itertools import pairwise
from uuid import UUID

import psycopg
import pytest

from iu_core.database import Role
from tests.integration.sql.sessions import Editor, Session, await_blocked, fresh_code, open_gate, session

WORKERS = 4
MOVES_PER_WORKER = 60

Connect = Callable[[str], Editor]


@pytest.fixture
def connect(migrated_url: str) -> Iterator[Connect]:
    """Open editors by the role they play in a test."""
    open_gate(migrated_url)
    with ExitStack() as sessions:

        def open_editor(name: str) -> Editor:
            editor = Editor(migrated_url, name=name)
            sessions.enter_context(editor.session)
            return editor

        yield open_editor


@pytest.fixture
def observer(migrated_url: str) -> Iterator[Session]:
    with session(migrated_url, name="observer") as observer:
        yield observer


def sqlstate_of(error: BaseException | None) -> str | None:
    return error.sqlstate if isinstance(error, psycopg.Error) else None


def test_two_moves_that_would_make_a_ring_together(connect: Connect, observer: Session) -> None:
    """first: a under b ──────────────┐ holds the head
    second: b under a   (waits for first's head) └─► sees a under b: IU002.

    Without FOR UPDATE in fn_iu_tree_lock the second does not wait, and the ring is made.
    """
    first, second = connect("first"), connect("second")
    root = first.add(None)
    a, b = first.add(root), first.add(root)
    with ThreadPoolExecutor() as pool, first.session.transaction():
        first.reparent(a, b)
        late = pool.submit(second.reparent, b, a)
        await_blocked(observer, second.session, by=first.session)
    assert sqlstate_of(late.exception()) == "IU002"
    assert [unit for unit, _, _ in first.children(b)] == [a]


def test_a_child_that_comes_while_its_parent_goes_out_of_use(connect: Connect, observer: Session) -> None:
    """Both orders: the one that comes second sees what the first has done."""
    first, second = connect("first"), connect("second")
    root = first.add(None)
    for_deprecation, for_growth = first.add(root), first.add(root)
    with ThreadPoolExecutor() as pool:
        with first.session.transaction():
            first.deprecate(for_deprecation)
            late = pool.submit(second.add, for_deprecation)
            await_blocked(observer, second.session, by=first.session)
        assert sqlstate_of(late.exception()) == "IU009"
        with first.session.transaction():
            first.add(for_growth)
            late_end = pool.submit(second.deprecate, for_growth)
            await_blocked(observer, second.session, by=first.session)
        assert sqlstate_of(late_end.exception()) == "IU004"


def test_a_second_deprecation_sees_the_first(connect: Connect, observer: Session) -> None:
    """The unit is read in a statement that starts after the wait, so it cannot be seen as it was."""
    first, second = connect("first"), connect("second")
    unit = first.add(first.add(None))
    with ThreadPoolExecutor() as pool, first.session.transaction():
        first.deprecate(unit)
        late = pool.submit(second.deprecate, unit)
        await_blocked(observer, second.session, by=first.session)
    assert sqlstate_of(late.exception()) == "IU009"


def test_operations_on_different_trees_do_not_wait_for_each_other(connect: Connect) -> None:
    first, second = connect("first"), connect("second")
    one, other = first.add(None), first.add(None)
    with first.session.transaction():
        first.add(one)
        # Bounded by statement_timeout: waiting would end this test with 57014.
        assert second.children(other) == []
        added = second.add(other)
    assert second.children(other) == [(added, 0, "enacted")]


def test_of_two_trees_that_want_one_code_the_second_is_told(connect: Connect, observer: Session) -> None:
    """They share no head, so the second finds the code free until the first has committed."""
    first, second = connect("first"), connect("second")
    one, other, code = first.add(None), first.add(None), fresh_code()
    with ThreadPoolExecutor() as pool, first.session.transaction():
        first.add(one, code)
        late = pool.submit(second.add, other, code)
        await_blocked(observer, second.session, by=first.session)
    assert sqlstate_of(late.exception()) == "IU010"


def test_a_snapshot_from_before_the_wait_is_not_worked_on(connect: Connect, observer: Session) -> None:
    """Under REPEATABLE READ the late one cannot see the change, so it must fail, not proceed."""
    first, second = connect("first"), connect("second")
    root = first.add(None)
    a, b = first.add(root), first.add(root)
    second.session.execute("SET default_transaction_isolation = 'repeatable read'")
    with ThreadPoolExecutor() as pool, first.session.transaction():
        first.reparent(a, b)
        late = pool.submit(second.reparent, b, a)
        await_blocked(observer, second.session, by=first.session)
    assert sqlstate_of(late.exception()) == "40001"


def test_the_gate_closes_behind_the_operations_under_way_and_before_those_that_come(
    connect: Connect, observer: Session, migrated_url: str
) -> None:
    """Without the advisory lock the one that comes later overtakes the close."""
    under_way, later = connect("under way"), connect("later")
    root, other = under_way.add(None), under_way.add(None)
    with session(migrated_url, Role.GATEKEEPER, name="closer") as closer, ThreadPoolExecutor() as pool:
        with under_way.session.transaction():
            under_way.add(root)
            close = pool.submit(
                closer.execute, "SELECT fn_iu_config_set('iu_core.structure_op_enabled', 'false', NULL)"
            )
            await_blocked(observer, closer, by=under_way.session)
            late = pool.submit(later.add, other)
            await_blocked(observer, later.session, by=closer)
        assert close.result().fetchone() == ("true",)
        assert sqlstate_of(late.exception()) == "42501"
    assert len(under_way.children(root)) == 1


def test_a_close_by_plain_update_waits_for_the_operations_that_read_the_switch(
    connect: Connect, observer: Session, migrated_url: str
) -> None:
    """FOR SHARE holds even a close that does not know of the gate's advisory lock."""
    under_way = connect("under way")
    root = under_way.add(None)
    with session(migrated_url, Role.GATEKEEPER, name="closer") as closer, ThreadPoolExecutor() as pool:
        with under_way.session.transaction():
            under_way.add(root)
            close = pool.submit(
                closer.execute,
                "UPDATE dot_config SET value = 'false' WHERE key = 'iu_core.structure_op_enabled'",
            )
            await_blocked(observer, closer, by=under_way.session)
        assert close.result().rowcount == 1


def test_a_long_import_does_not_hold_the_kill_switch_back(connect: Connect, migrated_url: str) -> None:
    under_way = connect("under way")
    with under_way.session.transaction():
        under_way.add(None)
        with session(migrated_url, Role.GATEKEEPER) as keeper:
            keeper.execute("SET lock_timeout = '1s'")
            keeper.execute("SELECT fn_iu_config_set('iu_core.delivery_enabled', 'true', 'a test')")
            keeper.execute("SELECT fn_iu_config_set('iu_core.delivery_enabled', 'false', NULL)")


def test_moves_running_free_make_no_ring_and_versions_without_a_hole(
    connect: Connect, observer: Session
) -> None:
    """Four editors move ten units about in one tree, and fill another one, as fast as they can."""
    builder = connect("builder")
    root, other = builder.add(None), builder.add(None)
    units = [builder.add(root) for _ in range(10)]

    def work(editor: Editor, seed: int) -> int:
        chance = random.Random(seed)
        moved = 0
        for _ in range(MOVES_PER_WORKER):
            unit, parent = chance.sample([root, *units], 2)
            try:
                editor.reparent(unit, parent, chance.choice([None, 0]))
                moved += 1
            except psycopg.Error as error:
                assert error.sqlstate in {"IU002", "IU003"}, error  # noqa: PT017 # a ring, or the root
            editor.add(other)
        return moved

    with ThreadPoolExecutor(WORKERS) as pool:
        editors = [connect(f"mover {number}") for number in range(WORKERS)]
        moved = sum(pool.map(work, editors, range(WORKERS)))

    assert moved > WORKERS
    reached = observer.execute(
        "WITH RECURSIVE down AS (SELECT id FROM information_unit WHERE id = %s UNION"
        " SELECT u.id FROM down JOIN information_unit AS u ON u.parent_id = down.id)"
        " SELECT id FROM down",
        (root,),
    ).fetchall()
    assert {row[0] for row in reached} == {root, *units}, "a unit that the root does not reach is in a ring"
    for tree, events in ((root, 11 + moved), (other, 1 + WORKERS * MOVES_PER_WORKER)):
        assert versions(observer, tree) == list(range(1, events + 1))


def versions(observer: Session, tree: UUID) -> list[int]:
    """Return the versions of `tree` in the order of their outbox ids, which must be their own."""
    rows = observer.execute(
        "SELECT aggregate_version FROM event_outbox WHERE aggregate_id = %s ORDER BY id", (tree,)
    ).fetchall()
    found = [int(row[0]) for row in rows]
    assert all(before < after for before, after in pairwise(found)), "ids and versions ascend together"
    return found
