"""The topics the relay writes to, made with every setting that matters said aloud.

Events: nothing ever deletes them, because a default-deny system holds events for as long as a
gate is closed. Cursor: one partition per shard, compacted; a compacted topic keeps the last
record of each key for ever, where a group's committed offsets expire after seven days. Dead
letters: partitioned as the events are, so that a shard writes to partitions of its own.
"""

from collections.abc import Mapping
from typing import Final

from iu_core.bus.names import BusNames
from iu_core.bus.ports import BusAdmin, Topic
from iu_core.errors import Retryable
from producers.relay.cursor import Layout

# Both ends of a record's life are bounded by one number: the relay refuses a larger record
# before it opens a transaction, so that no batch can be refused by the broker in the middle.
RECORD_BYTES_MAX: Final = 1_000_000
_MESSAGE_BYTES_MAX: Final = 1_048_588

EVENTS_CONFIG: Final[Mapping[str, str]] = {
    "cleanup.policy": "delete",
    "retention.ms": "-1",
    "retention.bytes": "-1",
    "max.message.bytes": str(_MESSAGE_BYTES_MAX),
    # The record timestamp is ours: the time of publishing.
    "message.timestamp.type": "CreateTime",
    # Stored as the relay compressed it, never recompressed by the broker.
    "compression.type": "producer",
}
CURSOR_CONFIG: Final[Mapping[str, str]] = {
    "cleanup.policy": "compact",
    "max.message.bytes": str(_MESSAGE_BYTES_MAX),
    "message.timestamp.type": "CreateTime",
    "compression.type": "producer",
}
# Who reads it may come years later; like the events, a letter is never deleted.
DEAD_LETTERS_CONFIG: Final[Mapping[str, str]] = {
    "cleanup.policy": "delete",
    "retention.ms": "-1",
    "retention.bytes": "-1",
    "max.message.bytes": str(_MESSAGE_BYTES_MAX),
    "message.timestamp.type": "CreateTime",
    "compression.type": "producer",
}


def ensure(admin: BusAdmin, names: BusNames, layout: Layout) -> Topic:
    """Make what is missing and return the events topic. Idempotent.

    Raises `Misconfigured` when the events topic is there with another number of partitions. A
    cursor topic that is there stays as it is: for how many shards, its cursors say (`recovery`).
    """
    admin.create(names.events, partitions=layout.partitions, configs=EVENTS_CONFIG)
    if admin.describe(names.cursor) is None:
        admin.create(names.cursor, partitions=layout.shards, configs=CURSOR_CONFIG)
    admin.create(names.relay_dead_letters, partitions=layout.partitions, configs=DEAD_LETTERS_CONFIG)
    if (events := admin.describe(names.events)) is None:
        raise Retryable(f"the topic {names.events} has just gone", remedy="try again")
    return events
