"""The names this system owns on the broker. Source: design/00, "Kafka names"."""

from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

Lane: TypeAlias = Literal["live", "dry_run"]

# ce_type of a record on the events topic that is no event: after a restore it says of a tree
# which of the events before it were given up, and in which incarnation the tree goes on.
FENCE_TYPE: Final = "iu.relay.fence"


@dataclass(frozen=True, slots=True)
class BusNames:
    """Every topic, group and transactional id, under one prefix (empty in production)."""

    prefix: str = ""

    @property
    def events(self) -> str:
        """The structure events, keyed by tree."""
        return f"{self.prefix}iu.structure.events"

    @property
    def cursor(self) -> str:
        """The relay's position: compacted, one partition per shard."""
        return f"{self.prefix}iu.relay.cursor"

    @property
    def relay_dead_letters(self) -> str:
        """Outbox rows that cannot be published."""
        return f"{self.prefix}iu.relay.dead-letters"

    @property
    def relay_topics(self) -> tuple[str, ...]:
        """Every topic the relay writes to."""
        return (self.events, self.cursor, self.relay_dead_letters)

    @property
    def route_dead_letters(self) -> str:
        """Copies of undeliverable events, for tools outside."""
        return f"{self.prefix}iu.route.dead-letters"

    def group(self, route_code: str, lane: Lane) -> str:
        """Return the consumer group of one route and lane."""
        return f"{self.prefix}iu.route.{route_code}.{'live' if lane == 'live' else 'dry-run'}"

    def transactional_id(self, cluster: str, shard: int) -> str:
        """Return the id under which the relay of `shard` fences its predecessor."""
        return f"{self.prefix}iu-relay-{cluster}-{shard}"
