"""What `iu relay rebase` found, what each policy would do about it, and whether one fits. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from iu_core.errors import Misconfigured, Usage
from producers.relay.ghosts import Comparison, Tree


class Policy(StrEnum):
    """What is to become of the ghosts, or of a topic that was made again."""

    ADOPT = "adopt"
    ABANDON = "abandon"
    REPUBLISH = "republish"
    STOP = "stop"


@dataclass(frozen=True, slots=True)
class Preview:
    """What differs, and what each policy would do about it, in words.

    `differences` are those for which a relay would not start, `shards` how many there are.
    """

    topic: str
    shards: int
    made_again: bool
    differences: tuple[str, ...]
    compared: Comparison
    policies: Mapping[Policy, str]

    @property
    def nothing_to_do(self) -> bool:
        """Whether a relay would start, and nothing is on the topic that the database has not."""
        return not self.differences and not self.compared.ghosts


@dataclass(frozen=True, slots=True)
class Done:
    """What a rebase did. `floor_id`: up to this id every row is settled by its id. `dead`: rows that

    cannot be published, as the relay finds them.
    """

    policy: Policy | None
    adopted: int
    abandoned: int
    fences: int
    published: int
    dead: int
    floor_id: int
    shards: int


def require_fits(told: Preview, policy: Policy | None, *, abandon_rest: bool) -> None:
    """Raise unless `policy` can resolve what `told` says. Pure."""
    compared = told.compared
    if policy is Policy.STOP:
        raise Misconfigured(
            "stopped, as asked: nothing was changed",
            why="; ".join(told.differences) or f"{compared.ghosts} events are on the topic only",
            remedy="restore the database or the topic that belong together, then: iu relay rebase",
        )
    if compared.altered:
        raise Misconfigured(
            f"{compared.altered} records hold other bytes than their rows",
            why="an event has one digest for ever: database or topic was changed by hand",
            remedy="iu verify names the first; restore what was changed",
        )
    if told.made_again and policy is not Policy.REPUBLISH:
        raise Usage(
            "the events topic was made again",
            why="; ".join(told.differences),
            remedy="publish everything again with --policy republish; consumers outside see it all anew",
        )
    if told.made_again and compared.ghosts:
        raise Misconfigured(
            "the events topic was made again and holds events of another database",
            why=f"{compared.ghosts} of its events are not in this one",
            remedy="point IU_KAFKA__PREFIX at the topic of this database, or at an unused name",
        )
    if compared.ghosts and policy not in (Policy.ADOPT, Policy.ABANDON):
        raise Usage(
            f"{compared.ghosts} events are on the topic and not in the database",
            why="whether they are put back or given up is not decided here",
            remedy="choose --policy adopt, --policy abandon or --policy stop",
        )
    refused = [tree for tree in compared.trees if tree.obstacle() is not None]
    if policy is Policy.ADOPT and refused and not abandon_rest:
        shown = "; ".join(f"tree {_named(tree)}: {tree.obstacle()}" for tree in refused[:10])
        more = f"; and {len(refused) - 10} more" if len(refused) > 10 else ""
        raise Misconfigured(
            f"the events of {len(refused)} trees cannot be adopted",
            why=shown + more,
            remedy="give up theirs alone with --policy adopt --abandon-rest, or all with --policy abandon",
        )


def _named(tree: Tree) -> str:
    return f"{tree.iu_code} ({tree.tree_id})" if tree.iu_code else str(tree.tree_id)


def policies(compared: Comparison, *, made_again: bool) -> dict[Policy, str]:
    """Return what each policy would do, in words. Pure."""
    published = f"{compared.unpublished} events are published"
    stop = "nothing is changed; exit 78"
    if made_again:
        return {Policy.REPUBLISH: f"{published}, all of the outbox from the beginning", Policy.STOP: stop}
    refused = [tree for tree in compared.trees if tree.obstacle() is not None]
    lost = sum(tree.ghosts for tree in refused)
    adopt = f"{compared.ghosts - lost} events are put back in {len(compared.trees) - len(refused)} trees"
    if refused:
        adopt += f"; refused for {len(refused)} trees with {lost} events, unless --abandon-rest"
    abandon = f"{compared.ghosts} events are given up, {len(compared.trees)} trees go on in a new incarnation"
    return {
        Policy.ADOPT: f"{adopt}; {published}",
        Policy.ABANDON: f"{abandon}; {published}",
        Policy.STOP: stop,
    }
