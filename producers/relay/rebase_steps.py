"""The four steps of a rebase, on what `rebase` has opened and fenced; their order is its docstring."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

import psycopg

from iu_core import __version__
from iu_core.bus.names import FENCE_TYPE
from iu_core.bus.ports import Outgoing, RecordSection, Topic, TransactionalPublisher
from iu_core.database import Connection
from iu_core.errors import Misconfigured, Retryable, Terminal
from iu_core.telemetry import get_logger
from producers.relay import cursor as cursors
from producers.relay import ghosts
from producers.relay import ghosts_queries as queries
from producers.relay.actions import record_action
from producers.relay.cursor import Cursor, Highest, Layout, Origin
from producers.relay.framing import BadRow, Framed, Framer
from producers.relay.ghosts import Comparison, Tree
from producers.relay.outbox import Identity, OutboxRow, PostgresOutbox
from producers.relay.outbox_queries import COLUMNS
from producers.relay.rebase_plan import Done, Policy, Preview
from producers.relay.snapshot import Position

log = get_logger(__name__)

# Between the first step and the last: no database is this one, so no relay goes on from it.
SEALED: Final = Origin("none: a rebase is under way", 0, "0/0", 0, 0)


class Rebase:
    """The four steps. The cursors in hand are those last published."""

    def __init__(
        self,
        session: Connection,
        outbox: PostgresOutbox,
        publisher: TransactionalPublisher,
        framer: Framer,
        topic: Topic,
        found: Mapping[int, Cursor],
        layout: Layout,
        *,
        cursor_topic: str,
        source: str,
        rows_max: int,
    ) -> None:
        self._session = session
        self._outbox = outbox
        self._publisher = publisher
        self._framer = framer
        self._topic = topic
        self._found = dict(found)
        self._layout = layout
        self._cursor_topic = cursor_topic
        self._source = source
        self._rows_max = rows_max
        self._cursors: dict[int, Cursor] = {}

    def run(
        self,
        told: Preview,
        policy: Policy | None,
        *,
        abandon_rest: bool,
        reason: str,
        progress: Callable[[str], None],
    ) -> Done:
        """Seal, decide, publish, open."""
        detail = {"policy": policy, "ghosts": told.compared.ghosts, "abandon_rest": abandon_rest}
        record_action(self._session, "relay rebase", detail, reason)
        self._cursors = self._sealed(made_again=told.made_again)
        self._publish([], {})
        progress("sealed: no relay starts until this is done")
        adopted, abandoned, identity, floor_id = self._decide(told.compared, policy, abandon_rest, reason)
        progress(f"every row up to {floor_id} is settled by its id")
        self._rehighest()
        fences = self._fence_trees()
        published, dead = self._publish_missing(floor_id)
        self._open(identity, floor_id)
        done = Done(policy, adopted, abandoned, fences, published, dead, floor_id, self._layout.shards)
        log.info("rebased", policy=policy, adopted=adopted, abandoned=abandoned, published=published)
        return done

    def _sealed(self, *, made_again: bool) -> dict[int, Cursor]:
        """Return the cursors to begin with: those found, bound to the topic at hand and to no database."""
        chains = {} if self._found and not made_again else ghosts.chains(self._session)
        first = next(iter(self._found.values()), None)
        sealed = {}
        for shard in range(self._layout.shards):
            layout = replace(self._layout, shard=shard)
            cursor = self._found.get(shard) or Cursor(
                sequence=0,
                position=Position(),
                layout=layout,
                origin=SEALED,
                topic=self._topic.name,
                topic_id=self._topic.topic_id,
                relay_version=__version__,
                at=datetime.now(UTC),
                incarnation=1 if first is None else first.incarnation,
            )
            digests = cursor.digests
            if chains or made_again or shard not in self._found:
                digests = {p: chain for p, chain in chains.items() if p in layout.owned()}
            sealed[shard] = replace(
                cursor,
                layout=layout,
                origin=SEALED,
                topic=self._topic.name,
                topic_id=self._topic.topic_id,
                digests=digests,
            )
        return sealed

    def _decide(
        self, compared: Comparison, policy: Policy | None, abandon_rest: bool, reason: str
    ) -> tuple[int, int, Identity, int]:
        """Put back or give up in one transaction; return the figures, and what the cursors will say."""
        refused = [tree for tree in compared.trees if tree.obstacle() is not None]
        adopted = [tree for tree in compared.trees if tree.obstacle() is None]
        if policy is Policy.ABANDON:
            adopted, refused = [], list(compared.trees)
        if policy is Policy.ADOPT and not abandon_rest:
            refused = []
        try:
            with self._session.transaction():
                for statement in queries.LOCK:
                    self._session.execute(statement.encode())
                put_back = self._adopt([tree.tree_id for tree in adopted], reason)
                given_up = sum(self._abandon(tree, reason) for tree in refused)
                blocked = blocked_trees(self._found)
                ghosts.leave_out(self._session, blocked)
                identity = self._outbox.identity()
                (floor_id,) = self._one(queries.LAST_ROW)
                if identity.last_id < floor_id:
                    raise Misconfigured(
                        "the identity of event_outbox is behind its rows",
                        why=f"its last value is {identity.last_id}, the highest id {floor_id}",
                        remedy=f"SELECT setval('public.event_outbox_id_seq', {floor_id}); then again",
                    )
        except psycopg.errors.LockNotAvailable as error:
            raise Retryable(
                "the outbox could not be locked in 10 s",
                why="a transaction that writes to it, or to the structure gate, is open",
                remedy="pg_stat_activity names it; end it, then run the same command again",
                code=error.sqlstate,
            ) from error
        return put_back, given_up, identity, floor_id

    def _adopt(self, trees: Sequence[UUID], reason: str) -> int:
        """Redo the ghosts of `trees` in the order of the topic; return how many."""
        adopted, place = 0, (-1, -1)
        while trees:
            bound = {
                "trees": list(trees), "partition": place[0], "above": place[1], "page": ghosts.PAGE
            }  # fmt: skip
            page = self._session.execute(queries.ADOPTABLE.encode(), bound).fetchall()
            if not page:
                break
            with self._session.cursor() as cursor:
                cursor.executemany(
                    queries.ADOPT.encode(),
                    [{"partition": p, "offset": o, "reason": reason} for p, o in page],
                )
            adopted, place = adopted + len(page), page[-1]
        return adopted

    def _abandon(self, tree: Tree, reason: str) -> int:
        bound = {
            "tree": tree.tree_id, "seen": tree.incarnation_seen, "topic": self._topic.name, "reason": reason
        }  # fmt: skip
        self._session.execute(queries.ABANDON.encode(), bound)
        return tree.ghosts

    def _rehighest(self) -> None:
        """Let each cursor name the highest row that is on the topic: adopted rows have ids of their own."""
        for shard, cursor in self._cursors.items():
            bound = {
                "partitions": self._layout.partitions, "shards": self._layout.shards, "shard": shard
            }  # fmt: skip
            row = self._session.execute(queries.HIGHEST.encode(), bound).fetchone()
            self._cursors[shard] = replace(cursor, highest=None if row is None else Highest(*row))

    def _fence_trees(self) -> int:
        """Publish the fences that are due, each behind the events it gives up."""
        due = self._session.execute(queries.FENCES.encode()).fetchall()
        for low in range(0, len(due), ghosts.PAGE):
            self._publish([self._fence(*row) for row in due[low : low + ghosts.PAGE]], {})
        return len(due)

    def _fence(
        self, tree_id: UUID, partition: int, incarnation: int, from_version: int, to_version: int
    ) -> Outgoing:
        document = {
            "tree_id": str(tree_id),
            "last_version": from_version - 1,
            "incarnation": incarnation,
            "abandoned": {"from_version": from_version, "to_version": to_version},
        }
        return Outgoing(
            topic=self._topic.name,
            partition=partition,
            key=str(tree_id).encode(),
            value=json.dumps(document, sort_keys=True, separators=(",", ":")).encode(),
            headers=(
                ("ce_specversion", b"1.0"),
                ("ce_id", f"fence-{tree_id}-{incarnation}".encode()),
                ("ce_type", FENCE_TYPE.encode()),
                ("ce_source", self._source.encode()),
                ("ce_time", datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ").encode()),
                ("content-type", b"application/json"),
            ),
        )

    def _publish_missing(self, through: int) -> tuple[int, int]:
        """Publish the rows up to id `through` that are not on the topic, by id.

        Returns how many were published, and how many cannot be and are dead letters now.
        """
        published = dead = 0
        for rows in self._missing(through):
            by_shard: dict[int, list[OutboxRow]] = {}
            for row in rows:
                shard = self._layout.partition_of(row.bucket) % self._layout.shards
                by_shard.setdefault(shard, []).append(row)
            framed = {
                shard: self._framer.frame(ours, self._cursors[shard]) for shard, ours in by_shard.items()
            }
            records: list[Outgoing | RecordSection] = []
            for chunk in framed.values():
                records += [*chunk.sections, *chunk.letters]
            self._publish(records, framed)
            published += sum(chunk.published for chunk in framed.values())
            dead += sum(chunk.dead for chunk in framed.values())
            for chunk in framed.values():
                if chunk.halt is not None:
                    raise _halted(chunk.halt)
        return published, dead

    def _missing(self, through: int) -> Iterator[Sequence[OutboxRow]]:
        query = queries.UNPUBLISHED_ROWS.format(columns=COLUMNS).encode()
        above = 0
        while True:
            bound = {"above": above, "through": through, "rows_max": self._rows_max}
            with self._session.cursor(binary=True) as cursor:
                rows = [OutboxRow(*row) for row in cursor.execute(query, bound)]
            if not rows:
                return
            above = rows[-1].id
            yield rows

    def _open(self, identity: Identity, floor_id: int) -> None:
        """Publish the cursors from which relays go on."""
        position = Position(settled=identity.snapshot, floor_id=floor_id)
        # A tree whose blocked event was restored away has nothing to wait for any more.
        waiting = self._session.execute(queries.STILL_BLOCKED.encode()).fetchall()
        still = {row[0] for row in waiting}
        for shard, cursor in self._cursors.items():
            self._cursors[shard] = replace(
                cursor,
                position=position,
                origin=identity.origin,
                incarnation=cursor.incarnation + 1,
                relay_version=__version__,
                blocked={tree: version for tree, version in cursor.blocked.items() if tree in still},
            )
        self._publish([], {})

    def _publish(self, records: Sequence[Outgoing | RecordSection], framed: Mapping[int, Framed]) -> None:
        """Publish `records` and every cursor in one transaction, each moved on over what was `framed`."""
        at = datetime.now(UTC)
        after = {
            shard: cursor.after(
                digests=cursor.digests if (chunk := framed.get(shard)) is None else chunk.digests,
                highest=cursor.highest if chunk is None else chunk.highest,
                blocked=cursor.blocked if chunk is None else chunk.blocked,
                position=cursor.position,
                origin=cursor.origin,
                at=at,
            )
            for shard, cursor in self._cursors.items()
        }
        notes = [
            Outgoing(self._cursor_topic, shard, cursors.key(cursor.layout), cursors.encode(cursor))
            for shard, cursor in after.items()
        ]
        self._publisher.publish([*records, *notes])
        self._cursors = after

    def _one(self, query: str) -> tuple[Any, ...]:
        row = self._session.execute(query.encode()).fetchone()
        if row is None:
            raise Retryable("the database returned nothing where one row is certain")
        return row


def _halted(bad: BadRow) -> Terminal:
    return Terminal(
        f"outbox row {bad.row.id} cannot be published: {bad.detail}",
        why=f"event {bad.row.ref_text.decode()}, tree {bad.row.tree_id}; the policy of its type is to halt",
        remedy="release its contract, or let its tree wait: IU_RELAY__BAD_ROWS=block_tree; then again",
    )


def blocked_trees(found: Mapping[int, Cursor]) -> dict[UUID, int]:
    """Return what waits for `iu relay unblock`, over all shards."""
    return {tree: version for cursor in found.values() for tree, version in cursor.blocked.items()}
