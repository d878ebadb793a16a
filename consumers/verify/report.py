"""What `verify` found, as values."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Finding:
    """One kind of difference: what it means, how often it was met, the first case in words."""

    check: str
    count: int
    first: str


@dataclass(frozen=True, slots=True)
class RouteStates:
    """Where the events of one route stand; the states are those of design/30 and exclude each other.

    `undecided` is none of them: the live lane has passed the event and left no decision. `planned`
    counts decisions of the dry-run lane, which come beside.
    """

    route_code: str
    projected: int
    dead: int
    parked: int
    discarded: int
    refused: int
    ahead: int
    before_start: int
    unpublished: int
    undecided: int
    planned: int


@dataclass(frozen=True, slots=True)
class Report:
    """The outcome of one run. `pruned` of the `events` have left the outbox.

    `proven` is False where the broker is a mock: then the checks ran, but on nothing that
    could break them.
    """

    events: int
    pruned: int
    published: int
    projected: int
    trees: int
    units: int
    routes: tuple[RouteStates, ...]
    findings: tuple[Finding, ...] = field(default=())
    proven: bool = True

    @property
    def clean(self) -> bool:
        """Whether nothing differs."""
        return not self.findings
