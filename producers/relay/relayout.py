"""The cursors of another number of shards, made from those of the present one. Pure.

What makes this simple is that all old shards have come to rest at one snapshot: everything it
sees is published, nothing else is. So every new shard begins there, whoever owned its
partitions before. What a cursor keeps of a partition (count and chain) or of a tree (that it
waits) goes to the partition's new owner; what it keeps of the whole (highest id, floor,
incarnation) goes to all.

The sequence goes on above the highest of the old ones, and the layout epoch rises by one: of
two cursors anybody can tell which is the later.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from uuid import UUID

from iu_core.errors import Misconfigured, Terminal
from producers.relay.cursor import Cursor, Layout
from producers.relay.snapshot import Position


def partition_of_tree(layout: Layout, tree_id: UUID) -> int:
    """Return the partition of a tree's events. Source: design/00, "Bucket"."""
    return layout.partition_of(hashlib.sha256(tree_id.bytes).digest()[0])


def relaid(old: Sequence[Cursor], shards: int, cursor_partitions: int, at: datetime) -> list[Cursor]:
    """Return the first cursors of a layout of `shards` shards, by shard.

    `old` are the sealed cursors of all shards of the present layout. Partitions of the cursor
    topic beyond `shards` get a cursor, too, that owns nothing and names the new layout, so that
    a relay of a shard that is no more finds out. Raises `Terminal` if the old ones are not at
    rest at one snapshot, `Misconfigured` if they are not cursors of one outbox and topic.
    """
    positions = {cursor.position for cursor in old}
    if not all(cursor.sealed for cursor in old) or len({p.settled for p in positions}) != 1:
        raise Terminal("the old cursors are not at rest", why=", ".join(str(c.position) for c in old))
    kinds = {(c.topic_id, c.origin.outbox_oid, c.incarnation, c.position.floor_id) for c in old}
    if len(kinds) != 1 or any(position.window is not None for position in positions):
        raise Misconfigured(
            "the shards' cursors were not written for one outbox and one topic",
            why=f"topic id, outbox oid, incarnation, floor: {sorted(kinds)}",
            remedy="rebase all shards before they are resharded",
        )
    first = old[0]
    layout = replace(first.layout, shards=shards, epoch=max(c.layout.epoch for c in old) + 1)
    digests = {partition: digest for cursor in old for partition, digest in cursor.digests.items()}
    blocked = {tree: version for cursor in old for tree, version in cursor.blocked.items()}
    highest = max((c.highest for c in old if c.highest), key=lambda found: found.id, default=None)

    def cursor_of(shard: int) -> Cursor:
        own = replace(layout, shard=shard)
        owned = own.owned()
        return replace(
            first,
            sequence=max(cursor.sequence for cursor in old) + 1,
            position=Position(settled=first.position.settled, floor_id=first.position.floor_id),
            layout=own,
            at=at,
            highest=highest,
            digests={partition: digests[partition] for partition in owned if partition in digests},
            blocked={tree: v for tree, v in blocked.items() if partition_of_tree(own, tree) in owned},
            sealed=False,
        )

    return [cursor_of(shard) for shard in range(max(shards, cursor_partitions))]
