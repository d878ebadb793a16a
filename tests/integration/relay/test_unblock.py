"""A blocked tree goes on: whole, once, in order, whatever ends the command in the middle.

Real database, real broker; the relay that meets the bad rows is the process itself.
"""

from collections.abc import Iterator, Sequence
from typing import Any
from uuid import UUID, uuid4

import pytest

from iu_core.bus.kafka_publisher import KafkaPublisher
from iu_core.bus.ports import Outgoing, RecordSection
from iu_core.bus.watchdog import Watchdog
from iu_core.database import Role
from iu_core.errors import Fenced, Misconfigured, Terminal
from producers.relay import unblock_command
from producers.relay.blocked import blocked_trees
from producers.relay.unblock import How
from tests.conftest import RunIu
from tests.integration.relay.bad_rows import Stage, staged
from tests.integration.relay.relay_process import await_that, running_relay
from tests.integration.sql.sessions import session
from tests.services import create_database, drop_database

REASON = ("--reason", "release 12 has the contract")


@pytest.fixture
def stage(migrated_url: str, kafka_bootstrap: str, bus_prefix: str) -> Iterator[Stage]:
    with staged(migrated_url, kafka_bootstrap, bus_prefix) as made:
        yield made


@pytest.fixture
def blocked(stage: Stage) -> UUID:
    """Return a tree of seven versions that waits from its third on; another tree is published whole."""
    tree, other = stage.tree(7), stage.tree(2)
    stage.spoil(tree, 3)
    stage.drain()
    assert stage.versions(tree) == [1, 2]
    assert stage.versions(other) == [1, 2]
    return tree


def test_retry_publishes_what_waits_and_later_events_follow(stage: Stage, blocked: UUID, iu: RunIu) -> None:
    """Through the command line, as an operator does it."""
    listed = iu("relay", "blocked", "--json", env=stage.environment)
    assert listed.exit_code == 0, listed.stderr
    (found,) = listed.json()
    assert (found["tree_id"], found["from_version"], found["later_events"]) == (str(blocked), 3, 4)
    assert found["letter"]["reason"] == "unknown_type"
    assert found["letter"]["event_ref"] == str(stage.event_ref(blocked, 3))
    assert stage.letters() == [(3, "blocked")]
    words = iu("relay", "blocked", env=stage.environment)
    assert str(blocked) in words.stdout

    stage.mend(blocked, 3)
    done = iu(
        "relay", "unblock", str(blocked), "--retry", *REASON, "--apply", "--json", env=stage.environment
    )
    assert done.exit_code == 0, done.stderr
    assert [event["version"] for event in done.json()["published"]] == [3, 4, 5, 6, 7]
    assert stage.versions(blocked) == [1, 2, 3, 4, 5, 6, 7]
    stage.grow(blocked, 3)
    stage.drain()
    assert stage.versions(blocked) == list(range(1, 11))
    assert stage.faults() == []
    (letter,) = stage.letters("state, resolved_by, resolved_reason")
    assert letter[0] == "published"
    assert letter[1:] == (_login(stage), REASON[1])
    assert iu("relay", "blocked", env=stage.environment).stdout == "no tree waits\n"


def test_skip_leaves_one_event_out_for_good_and_publishes_the_rest(
    stage: Stage, blocked: UUID, iu: RunIu
) -> None:
    """`iu verify` knows what waits and what was left out; what else is missing it still finds."""
    left_out = stage.event_ref(blocked, 3)
    assert iu("verify", env=stage.environment).exit_code == 65
    blocked_trees(stage.settings, stage.url)
    waiting = iu("verify", env=stage.environment)
    assert waiting.exit_code == 0, waiting.stdout
    done = stage.unblock(blocked, How.SKIP).apply()
    assert [each.event.event_ref for each in done.left_out] == [left_out]
    stage.grow(blocked, 1)
    stage.drain()
    assert stage.versions(blocked) == [1, 2, 4, 5, 6, 7, 8]
    assert stage.faults(left_out) == []
    assert stage.letters() == [(3, "discarded")]
    clean = iu("verify", env=stage.environment)
    assert clean.exit_code == 0, clean.stdout
    with session(stage.url, Role.OWNER) as owner:
        owner.execute("UPDATE iu_relay_dead_letter SET aggregate_version = 99, event_ref = gen_random_uuid()")
    differing = iu("verify", "--json", env=stage.environment)
    assert differing.exit_code == 65
    assert len(differing.json()["findings"]) == 2


def test_skip_leaves_the_row_out_even_when_it_could_be_published_now(stage: Stage, blocked: UUID) -> None:
    stage.mend(blocked, 3)
    stage.unblock(blocked, How.SKIP).apply()
    assert stage.versions(blocked) == [1, 2, 4, 5, 6, 7]


def test_skip_of_the_last_row_publishes_nothing_and_frees_the_tree(stage: Stage) -> None:
    tree = stage.tree(2)
    stage.spoil(tree, 2)
    stage.drain()
    done = stage.unblock(tree, How.SKIP).apply()
    assert (done.published, done.transactions) == ((), 1)
    stage.grow(tree, 1)
    stage.drain()
    assert stage.versions(tree) == [1, 3]


@pytest.mark.parametrize("apply", [False, True])
def test_retry_of_a_row_that_is_still_bad_is_refused_and_changes_nothing(
    stage: Stage, blocked: UUID, iu: RunIu, apply: bool
) -> None:
    """Also the relay: it is not asked to step aside for nothing."""
    with running_relay(stage.environment) as relay:
        relay.await_event("started")
        before = stage.cursor()
        words = ("relay", "unblock", str(blocked), "--retry", *REASON, *(["--apply"] if apply else []))
        done = iu(*words, env=stage.environment)
        assert done.exit_code == 1
        assert "unknown_type" in done.stderr
        assert "--skip" in done.stderr
        assert not relay.has_said("aside")
    assert stage.cursor() == before
    assert stage.versions(blocked) == [1, 2]
    assert stage.letters() == [(3, "blocked")]
    assert _actions(stage) == []


def test_a_preview_names_exactly_what_is_then_published(stage: Stage, blocked: UUID, iu: RunIu) -> None:
    stage.mend(blocked, 3)
    before = stage.cursor()
    words = ("relay", "unblock", str(blocked), "--retry", *REASON)
    preview = iu(*words, "--json", env=stage.environment)
    assert preview.exit_code == 0, preview.stderr
    assert stage.cursor() == before
    said = iu(*words, env=stage.environment)
    assert "--apply" in said.stderr
    for version in range(3, 8):
        assert str(stage.event_ref(blocked, version)) in said.stdout
    applied = iu(*words, "--apply", "--json", env=stage.environment)
    assert applied.json() == preview.json() | {"applied": True}
    (action,) = _actions(stage)
    assert action[0] == "relay unblock"
    assert action[1]["tree_id"] == str(blocked)
    assert action[1]["from_version"] == 3
    assert action[2] == REASON[1]


def test_a_further_bad_row_blocks_the_tree_again_from_there(stage: Stage, blocked: UUID) -> None:
    stage.spoil(blocked, 5)
    stage.mend(blocked, 3)
    done = stage.unblock(blocked, How.RETRY).apply()
    assert [event.version for event in done.published] == [3, 4]
    assert done.blocked_again is not None
    assert (done.blocked_again.event.version, done.still_waiting) == (5, 2)
    assert stage.cursor().blocked == {blocked: 5}
    assert stage.letters() == [(3, "published"), (5, "blocked")]
    stage.grow(blocked, 1)
    stage.drain()
    stage.mend(blocked, 5)
    stage.unblock(blocked, How.RETRY).apply()
    stage.drain()
    assert stage.versions(blocked) == list(range(1, 9))
    assert stage.faults() == []
    assert stage.letters() == [(3, "published"), (5, "published")]


def test_a_further_bad_row_of_a_type_whose_policy_is_skip_is_left_out(stage: Stage, blocked: UUID) -> None:
    stage.spoil(blocked, 5, kind="unheard_of")
    stage.mend(blocked, 3)
    relay = stage.settings.relay.model_copy(update={"bad_rows_by_type": {"unheard_of": "skip"}})
    stage.settings = stage.settings.model_copy(update={"relay": relay})
    done = stage.unblock(blocked, How.RETRY).apply()
    assert [(each.event.version, each.by_policy) for each in done.left_out] == [(5, True)]
    assert stage.versions(blocked) == [1, 2, 3, 4, 6, 7]
    assert stage.letters() == [(3, "published"), (5, "skipped")]


def test_a_policy_of_halt_blocks_the_tree_here(stage: Stage, blocked: UUID) -> None:
    """There is no relay to stop, and a cursor that waits for nothing named could never be freed."""
    stage.spoil(blocked, 5)
    stage.mend(blocked, 3)
    relay = stage.settings.relay.model_copy(update={"bad_rows": "halt"})
    stage.settings = stage.settings.model_copy(update={"relay": relay})
    stage.unblock(blocked, How.RETRY).apply()
    assert stage.cursor().blocked == {blocked: 5}
    assert stage.letters("aggregate_version, policy") == [(3, "block_tree"), (5, "block_tree")]


class Died(BaseException):
    """What a SIGKILL is to the code: nothing catches it."""


def dying(at: int, *, committed: bool) -> type[KafkaPublisher]:
    """Return a publisher that dies at its publish number `at`, before or after the transaction."""

    class Dying(KafkaPublisher):
        left = at

        def publish(self, records: Sequence[Outgoing | RecordSection]) -> None:
            self.left -= 1
            if self.left == 0 and not committed:
                raise Died
            super().publish(records)
            if self.left == 0:
                raise Died

    return Dying


@pytest.mark.parametrize(
    ("how", "at", "committed"),
    [(How.SKIP, 1, True), (How.SKIP, 2, False), (How.RETRY, 1, True), (How.RETRY, 3, True)],
)
def test_the_same_command_again_ends_what_a_killed_one_began(
    stage: Stage, blocked: UUID, monkeypatch: pytest.MonkeyPatch, how: How, at: int, committed: bool
) -> None:
    """Seven versions, five of them waiting, two a transaction: three transactions to die in.

    Every point of death is in `tests/unit/relay/test_unblocking.py`, on the model.
    """
    left_out = [stage.event_ref(blocked, 3)] if how is How.SKIP else []
    if how is How.RETRY:
        stage.mend(blocked, 3)
    with monkeypatch.context() as patched:
        patched.setattr(unblock_command, "KafkaPublisher", dying(at, committed=committed))
        with pytest.raises(Died):
            stage.unblock(blocked, how, rows_max=2).apply()
    through = at == 3 and committed
    assert (blocked in stage.cursor().blocked) is not through
    # A relay in between, and more events: they wait behind the others.
    stage.grow(blocked, 1)
    stage.drain()
    if not through:
        stage.unblock(blocked, how, rows_max=2).apply()
        stage.drain()
    assert stage.versions(blocked) == [1, 2, *([3] if how is How.RETRY else []), 4, 5, 6, 7, 8]
    assert stage.faults(*left_out) == []
    blocked_trees(stage.settings, stage.url)
    assert stage.letters() == [(3, "published" if how is How.RETRY else "discarded")]


def test_in_the_middle_the_listing_says_that_it_has_to_be_run_again(
    stage: Stage, blocked: UUID, monkeypatch: pytest.MonkeyPatch, iu: RunIu
) -> None:
    stage.mend(blocked, 3)
    monkeypatch.setattr(unblock_command, "KafkaPublisher", dying(2, committed=False))
    with pytest.raises(Died):
        stage.unblock(blocked, How.RETRY, rows_max=2).apply()
    (found,) = iu("relay", "blocked", "--json", env=stage.environment).json()
    assert (found["from_version"], found["letter"], found["later_events"]) == (5, None, 2)
    assert "again" in iu("relay", "blocked", env=stage.environment).stdout


def test_who_is_overtaken_in_the_middle_is_fenced_and_nothing_is_doubled(
    stage: Stage, blocked: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage.mend(blocked, 3)
    transactional_id = stage.names.transactional_id(stage.settings.relay.cluster, 0)
    watchdog = Watchdog(20.0)

    class Overtaken(KafkaPublisher):
        published = 0

        def publish(self, records: Sequence[Outgoing | RecordSection]) -> None:
            if self.published == 1:
                newer = KafkaPublisher(stage.settings, transactional_id, watchdog)
                newer.open()
                newer.close()
            super().publish(records)
            self.published += 1

    with monkeypatch.context() as patched:
        patched.setattr(unblock_command, "KafkaPublisher", Overtaken)
        with pytest.raises(Fenced):
            stage.unblock(blocked, How.RETRY, rows_max=2).apply()
    watchdog.close()
    assert stage.versions(blocked) == [1, 2, 3, 4]
    stage.unblock(blocked, How.RETRY, rows_max=2).apply()
    assert stage.versions(blocked) == [1, 2, 3, 4, 5, 6, 7]
    assert stage.faults() == []


def test_a_running_relay_steps_aside_and_goes_on(stage: Stage, blocked: UUID) -> None:
    """With events of the tree committed before, while and after: they follow in order."""
    stage.mend(blocked, 3)
    with running_relay(stage.environment) as relay:
        relay.await_event("started")
        stage.grow(blocked, 2)
        stage.unblock(blocked, How.RETRY).apply()
        stage.grow(blocked, 2)
        await_that(lambda: stage.versions(blocked)[-1:] == [11], "the relay published on")
    assert stage.versions(blocked) == list(range(1, 12))
    assert stage.faults() == []


def test_an_oversized_datum_is_kept_whole_in_the_table(stage: Stage) -> None:
    """It takes several records; no limit is raised here, so it can only be left out."""
    tree = stage.tree(2)
    fat = stage.editor.add(tree, content="x")
    stage.editor.call("deprecate_piece", fat, "ada", "ä" * 1_100_000)
    stage.grow(tree, 1)
    stage.drain()
    stage.unblock(tree, How.SKIP).apply()
    query = """SELECT l.datum = o.datum AND l.payload_digest = o.payload_digest, l.last_offset - l."offset"
                 FROM iu_relay_dead_letter AS l JOIN event_outbox AS o USING (event_ref)"""
    with session(stage.url) as onlooker:
        assert onlooker.execute(query).fetchall() == [(True, 2)]
    assert stage.letters("aggregate_version, state, reason") == [(4, "discarded", "oversized")]
    assert stage.versions(tree) == [1, 2, 3, 5]


def test_another_database_is_refused(stage: Stage, blocked: UUID, newest_server: str) -> None:
    """A copy of it has every row and every letter, and is not the one the cursor speaks of."""
    stage.mend(blocked, 3)
    stage.editor.session.close()
    name = (
        stage.url.rpartition("dbname=")[2].split()[0]
        if "dbname=" in stage.url
        else stage.url.rpartition("/")[2]
    )
    copy = create_database(newest_server, name)
    before = stage.cursor()
    try:
        with pytest.raises(Misconfigured, match="another state of the database"):
            stage.unblock(blocked, How.RETRY, url=copy).apply()
    finally:
        drop_database(newest_server, copy)
    assert stage.cursor() == before


def test_a_tree_that_is_not_blocked_is_refused(stage: Stage, blocked: UUID, iu: RunIu) -> None:
    unheard_of = str(uuid4())
    done = iu("relay", "unblock", unheard_of, "--skip", *REASON, "--apply", env=stage.environment)
    assert done.exit_code == 1
    assert "iu relay blocked" in done.stderr


def test_nothing_was_ever_published(stage: Stage, iu: RunIu) -> None:
    """No topic is there yet: nothing waits, and nothing can be unblocked."""
    assert iu("relay", "blocked", "--json", env=stage.environment).json() == []
    with pytest.raises(Terminal, match="is not blocked"):
        stage.unblock(uuid4(), How.RETRY).preview()


def _login(stage: Stage) -> str:
    with session(stage.url) as onlooker:
        (login,) = onlooker.execute("SELECT session_user").fetchone() or ("",)
    return str(login)


def _actions(stage: Stage) -> list[tuple[Any, ...]]:
    with session(stage.url) as onlooker:
        return onlooker.execute("SELECT command, detail, reason FROM iu_relay_action ORDER BY id").fetchall()
