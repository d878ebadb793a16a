"""What a rebase may do is decided from values: which trees can be adopted, which policy fits."""

from dataclasses import replace
from uuid import UUID

import pytest

from iu_core.errors import IUError, Misconfigured, Usage
from producers.relay.ghosts import Comparison, Tree
from producers.relay.rebase_plan import Policy, Preview, policies, require_fits

GOOD = Tree(
    tree_id=UUID(int=1),
    iu_code="t.one",
    ghosts=3,
    first_version=8,
    last_version=10,
    first_incarnation=1,
    last_incarnation=1,
    event_types=("structure_piece_deprecated", "structure_reparented"),
    version=7,
    incarnation=1,
    fenced=None,
)
COMPARED = Comparison(
    events=7,
    published=10,
    ghosts=3,
    first_ghost=None,
    last_ghost=None,
    trees=(GOOD,),
    unreadable=0,
    altered=0,
    unpublished=2,
    unpublished_trees=1,
    first_id=8,
    last_id=9,
    left_out=0,
)
NO_GHOSTS = replace(COMPARED, ghosts=0, trees=())
BAD = replace(GOOD, tree_id=UUID(int=2), iu_code="t.two", version=9)


def told(compared: Comparison = COMPARED, *, made_again: bool = False) -> Preview:
    differences = ("oid of the database: the cursor says 1, found 2",)
    return Preview("events", 1, made_again, differences, compared, policies(compared, made_again=made_again))


def test_a_tree_that_stands_where_its_ghosts_began_can_be_adopted() -> None:
    assert GOOD.obstacle() is None
    assert GOOD.last_valid_version == 7
    # It had been given up before, and the database knows: the ghosts are of the time after.
    later = replace(GOOD, first_incarnation=2, last_incarnation=2, incarnation=2, fenced=2)
    assert later.obstacle() is None


@pytest.mark.parametrize(
    ("tree", "words"),
    [
        (replace(GOOD, version=None, incarnation=None), "not in the database"),
        (replace(GOOD, fenced=2), "given up before"),
        (replace(GOOD, event_types=("structure_piece_split",)), "digest of a text"),
        (replace(GOOD, version=8), "moved on"),
        (replace(GOOD, version=6), "versions are missing"),
        (replace(GOOD, ghosts=2), "versions are missing"),
        (replace(GOOD, last_incarnation=2), "another incarnation"),
        (replace(GOOD, first_incarnation=2, last_incarnation=2), "another incarnation"),
    ],
)
def test_why_a_tree_cannot_be_adopted(tree: Tree, words: str) -> None:
    assert words in (tree.obstacle() or "")


@pytest.mark.parametrize(
    ("tree", "following"),
    [
        (GOOD, 2),
        (replace(GOOD, incarnation=4), 5),
        (replace(GOOD, last_incarnation=3), 4),
        (replace(GOOD, version=None, incarnation=None, fenced=6), 7),
    ],
)
def test_a_new_incarnation_exceeds_everything_ever_published(tree: Tree, following: int) -> None:
    assert tree.next_incarnation == following


@pytest.mark.parametrize(
    ("found", "policy"),
    [
        (told(), Policy.ADOPT),
        (told(), Policy.ABANDON),
        (told(NO_GHOSTS), None),
        (told(NO_GHOSTS), Policy.ADOPT),
        (told(NO_GHOSTS, made_again=True), Policy.REPUBLISH),
    ],
)
def test_a_policy_that_fits(found: Preview, policy: Policy | None) -> None:
    require_fits(found, policy, abandon_rest=False)


@pytest.mark.parametrize(
    ("found", "policy", "error", "words"),
    [
        (told(), Policy.STOP, Misconfigured, "oid of the database"),
        (told(), None, Usage, "--policy"),
        (told(), Policy.REPUBLISH, Usage, "--policy adopt"),
        (told(NO_GHOSTS, made_again=True), None, Usage, "--policy republish"),
        (told(NO_GHOSTS, made_again=True), Policy.ADOPT, Usage, "--policy republish"),
        (told(made_again=True), Policy.REPUBLISH, Misconfigured, "IU_KAFKA__PREFIX"),
        (told(replace(COMPARED, altered=1)), Policy.ABANDON, Misconfigured, "iu verify"),
        (told(replace(COMPARED, trees=(GOOD, BAD))), Policy.ADOPT, Misconfigured, "t.two"),
    ],
)
def test_a_policy_that_does_not_fit_is_refused_with_what_does(
    found: Preview, policy: Policy | None, error: type[IUError], words: str
) -> None:
    with pytest.raises(error) as raised:
        require_fits(found, policy, abandon_rest=False)
    assert words in f"{raised.value.why} {raised.value.remedy}"


def test_what_cannot_be_adopted_may_be_given_up_alone() -> None:
    require_fits(told(replace(COMPARED, trees=(GOOD, BAD))), Policy.ADOPT, abandon_rest=True)


def test_each_policy_says_in_figures_what_it_would_do() -> None:
    said = policies(replace(COMPARED, ghosts=6, trees=(GOOD, BAD)), made_again=False)
    assert "3 events are put back in 1 trees; refused for 1 trees with 3 events" in said[Policy.ADOPT]
    assert "6 events are given up, 2 trees" in said[Policy.ABANDON]
    assert "2 events are published" in said[Policy.ABANDON]
    assert set(policies(NO_GHOSTS, made_again=True)) == {Policy.REPUBLISH, Policy.STOP}
