"""What a route's consumer has done and what it is doing, for whoever watches or waits for it."""

from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from consumers.route.batch import Batch
from consumers.route.decide import Deliver, Plan
from consumers.route.reading import Undeliverable

State: TypeAlias = Literal["starting", "idle", "live", "dry_run", "held", "waiting"]


@dataclass(slots=True)
class Progress:
    """Counts since the start, and the state now; `why` tells what holds or keeps it waiting.

    `dead` counts records kept as dead letters, `skipped` those of other routes.
    """

    route_code: str
    state: State = "starting"
    why: str | None = None
    delivered: int = 0
    planned: int = 0
    dead: int = 0
    skipped: int = 0
    transactions: int = 0

    def count(self, batch: Batch, decision: Deliver | Plan) -> None:
        """Count a batch that is committed."""
        events = len(batch.events)
        match decision:
            case Deliver():
                self.delivered += events
            case Plan():
                self.planned += events
        self.dead += sum(isinstance(item, Undeliverable) for item in batch.items)
        self.skipped += batch.skipped
        self.transactions += 1

    def now(self) -> "Progress":
        """Return a copy that no longer changes."""
        return replace(self)
