"""From rows of the outbox to what the bus takes: prefix + datum, key and headers, framed.

The datum was encoded when the event was made; nothing is encoded here, bytes are put one after the
other. Everything that is the same for all events of a contract, or of a tree, is made once. This is
the loop that bounds the relay's rate, so it calls little and makes no object per row.

A row that cannot be published is found here, before the Kafka transaction begins:

    oversized            its record would not fit into a batch
    unknown_type         no released contract of that type and version
    digest_mismatch      the bytes have rotted: every consumer would refuse them for ever
    contract_violation   the datum does not begin as its contract says, with this event and this tree

What it then does is policy, by event type. `halt`: publish what is before it, then stop. `skip`: a
dead letter in the same transaction, and go on. `block_tree`: the same, but the later events of that
tree wait, because their order would be broken; every other tree flows.

Whether a datum decodes to the end is not asked: that takes as long as everything else together,
and the datum was made by the generated encoder in the transaction of its row.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from hashlib import sha256
from typing import Final, Protocol
from uuid import UUID

from iu_core.bus.ports import Outgoing, RecordSection
from iu_core.bus.record_format import SectionBuilder, field, header, length_of
from iu_core.settings import BadRowPolicy
from producers.relay import dead_letters
from producers.relay.cursor import Cursor, Digest, Highest, Layout
from producers.relay.dead_letters import DeadLetter
from producers.relay.outbox import OutboxRow

# Key, headers and everything else of a record beside the datum, amply.
_BESIDE_DATUM_BYTES: Final = 1_024
_TREES_MAX: Final = 50_000
_NEVER: Final = 1 << 63

# Every contract begins with the same block: event_ref (16 bytes), occurred_at (a varint of 1 to
# 10 bytes), tree_id (16 bytes). `schemas check` holds the contracts to it.
_TREE_FROM, _TREE_TO = 17, 42

_ID: Final = field(b"ce_id") + length_of(36)
_TIME: Final = field(b"ce_time") + length_of(27)  # its value stands in two parts behind it
_DIGEST: Final = field(b"iu_digest") + length_of(64)
_TRACE: Final = field(b"traceparent")
_HEADERS: Final = 8


@dataclass(frozen=True, slots=True)
class Wire:
    """What the contract of an event type and version puts on the wire."""

    prefix: bytes
    dataschema: str


class Contracts(Protocol):
    """The released contracts."""

    def wire(self, event_type: str, schema_version: int) -> Wire | None:
        """Return what goes before the datum, None if the type or version is not released."""


class BadReason(StrEnum):
    """Why a row cannot be published."""

    OVERSIZED = "oversized"
    UNKNOWN_TYPE = "unknown_type"
    DIGEST_MISMATCH = "digest_mismatch"
    CONTRACT_VIOLATION = "contract_violation"


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that cannot be published, and why; `detail` is for people."""

    row: OutboxRow
    reason: BadReason
    detail: str


@dataclass(frozen=True, slots=True)
class Framed:
    """What became of a chunk of rows, in order of their ids.

    `sections` are the events, `letters` the records of dead letters; `digests`, `highest` and
    `blocked` are what the cursor says once they are published. `last_id` is the last row that was
    dealt with, None if none was: published, dead, or passed over because its tree waits (`waiting`).
    `halt` is the row that stops everything; nothing behind it was looked at.
    """

    sections: Sequence[RecordSection]
    letters: Sequence[Outgoing]
    published: int
    dead: int
    waiting: int
    last_id: int | None
    digests: Mapping[int, Digest]
    highest: Highest | None
    blocked: Mapping[UUID, int]
    halt: BadRow | None = None

    @property
    def writes(self) -> bool:
        """Whether there is anything to publish."""
        return bool(self.sections or self.letters)


@dataclass(frozen=True, slots=True)
class _Head:
    """What all events of one contract share: wire prefix, and headers up to the event's own values."""

    prefix: bytes
    plain: bytes
    traced: bytes


@dataclass(frozen=True, slots=True)
class _Tree:
    """What all events of one tree share: its id, and the record's key as a field."""

    id: bytes
    key: bytes


def _second_text(row: OutboxRow) -> bytes:
    moment = datetime.fromtimestamp(row.occurred_us // 1_000_000, UTC)
    return _TIME + moment.strftime("%Y-%m-%dT%H:%M:%S.").encode()


def _block_tree(_event_type: str) -> BadRowPolicy:
    return "block_tree"


class Framer:
    """Frames rows for one events topic; one thread at a time.

    `record_bytes_max` bounds a record; of it the datum has what key and headers leave. `policy`
    says what a bad row of an event type does.
    """

    def __init__(
        self,
        contracts: Contracts,
        *,
        topic: str,
        letters_topic: str,
        layout: Layout,
        source: str,
        record_bytes_max: int,
        policy: Callable[[str], BadRowPolicy] = _block_tree,
    ) -> None:
        self._contracts = contracts
        self._topic = topic
        self._letters_topic = letters_topic
        self._layout = layout
        self._source = source.encode()
        self._datum_bytes_max = record_bytes_max - _BESIDE_DATUM_BYTES
        self._policy = policy
        self._heads: dict[tuple[str, int], _Head] = {}
        self._trees: dict[bytes, _Tree] = {}
        self._second, self._second_text = -(1 << 63), b""

    def frame(self, rows: Sequence[OutboxRow], before: Cursor) -> Framed:
        """Frame `rows` in order; `before` is the cursor of everything published before them."""
        chunk = _Chunk(before)
        builders = [SectionBuilder(self._topic, number) for number in range(self._layout.partitions)]
        partitions, chains, counts = self._layout.partitions, chunk.chains, chunk.counts
        heads, trees, waits_from = self._heads, self._trees, chunk.waits_from
        last: OutboxRow | None = None
        for row in rows:
            _, event_ref, _, event_type, version, tree_text, tree_version, _, bucket, datum, digest, _, _ = (
                row
            )
            if waits_from and tree_version >= waits_from.get(tree_text, _NEVER):
                chunk.waiting += 1
                last = row
                continue
            head = heads.get((event_type, version)) or self._new_head(event_type, version)
            tree = trees.get(tree_text) or self._new_tree(tree_text)
            if (
                head is None
                or sha256(datum).digest() != digest
                or not datum.startswith(event_ref)
                or datum.find(tree.id, _TREE_FROM, _TREE_TO) < 0
            ):
                bad = self._fault(row, head)
            elif len(datum) > self._datum_bytes_max:
                bad = BadRow(row, BadReason.OVERSIZED, self._too_large(len(datum)))
            else:
                partition = bucket % partitions
                builders[partition].add(self._parts(row, head, tree))
                chains[partition] = sha256(chains[partition] + event_ref + digest).digest()
                counts[partition] += 1
                chunk.last_published = last = row
                continue
            if self._policy(event_type) == "halt":
                chunk.halt = bad
                break
            self._bury(bad, chunk)
            last = row
        return chunk.framed(builders, None if last is None else last.id)

    def _parts(self, row: OutboxRow, head: _Head, tree: _Tree) -> tuple[bytes, ...]:
        """Return key, value and headers: CloudEvents 1.0, binary mode over Kafka, plus digest and trace."""
        _, _, ref_text, _, _, _, _, _, _, datum, digest, trace, occurred_at = row
        prefix = head.prefix
        # CloudEvents time. Events come in runs of the same second, which is written out once.
        second, micros = divmod(int.from_bytes(occurred_at, "big", signed=True), 1_000_000)
        if second != self._second:
            self._second, self._second_text = second, _second_text(row)
        parts = (
            tree.key,
            length_of(len(prefix) + len(datum)),
            prefix,
            datum,
            head.plain if trace is None else head.traced,
            ref_text,
            self._second_text,
            b"%06dZ" % micros,
            _DIGEST,
            digest.hex().encode(),
        )
        return parts if trace is None else (*parts, _TRACE, length_of(len(trace)), trace)

    def _too_large(self, datum_bytes: int) -> str:
        return f"its datum has {datum_bytes} bytes, {self._datum_bytes_max} fit into a record"

    def _new_head(self, event_type: str, schema_version: int) -> _Head | None:
        wire = self._contracts.wire(event_type, schema_version)
        if wire is None:
            return None
        shared = (
            header("ce_specversion", b"1.0")
            + header("ce_type", event_type.encode())
            + header("ce_source", self._source)
            + header("ce_dataschema", wire.dataschema.encode())
            + header("content-type", b"application/avro")
            + _ID
        )
        plain, traced = length_of(_HEADERS) + shared, length_of(_HEADERS + 1) + shared
        made = self._heads[event_type, schema_version] = _Head(wire.prefix, plain, traced)
        return made

    def _new_tree(self, text: bytes) -> _Tree:
        if len(self._trees) >= _TREES_MAX:
            self._trees.clear()
        made = self._trees[text] = _Tree(UUID(text.decode()).bytes, field(text))
        return made

    @staticmethod
    def _fault(row: OutboxRow, head: _Head | None) -> BadRow:
        if head is None:
            known = f"{row.event_type} version {row.schema_version} is not a released contract"
            return BadRow(row, BadReason.UNKNOWN_TYPE, known)
        if sha256(row.datum).digest() != row.payload_digest:
            return BadRow(row, BadReason.DIGEST_MISMATCH, "its datum does not have the digest of the row")
        return BadRow(row, BadReason.CONTRACT_VIOLATION, "its datum does not begin with this event and tree")

    def _bury(self, bad: BadRow, chunk: "_Chunk") -> None:
        row, policy = bad.row, self._policy(bad.row.event_type)
        letter = DeadLetter(
            outbox_id=row.id,
            event_ref=UUID(bytes=row.event_ref),
            event_type=row.event_type,
            schema_version=row.schema_version,
            tree_id=row.tree_id,
            aggregate_version=row.tree_version,
            incarnation=row.incarnation,
            occurred_at=datetime.fromtimestamp(row.occurred_us / 1_000_000, UTC),
            datum=row.datum,
            payload_digest=row.payload_digest,
            reason=bad.reason.value,
            detail=bad.detail,
            policy=policy,
        )
        partition = self._layout.partition_of(row.bucket)
        chunk.letters += dead_letters.records(letter, self._letters_topic, partition)
        chunk.dead += 1
        if policy == "block_tree":
            chunk.waits_from[row.tree_text] = row.tree_version


class _Chunk:
    """The state of one call of `frame`, kept apart from the framer, which several chunks share."""

    def __init__(self, before: Cursor) -> None:
        self.before = before
        parts = range(before.layout.partitions)
        self.chains = [before.digests.get(part, Digest()).chain for part in parts]
        self.counts = [before.digests.get(part, Digest()).count for part in parts]
        self.waits_from = {str(tree).encode(): version for tree, version in before.blocked.items()}
        self.letters: list[Outgoing] = []
        self.dead = self.waiting = 0
        self.last_published: OutboxRow | None = None
        self.halt: BadRow | None = None

    def framed(self, builders: Sequence[SectionBuilder], last_id: int | None) -> Framed:
        digests = {
            part: Digest(count, chain)
            for part, (count, chain) in enumerate(zip(self.counts, self.chains, strict=True))
            if count
        }
        highest, last = self.before.highest, self.last_published
        if last is not None and (highest is None or last.id > highest.id):
            highest = Highest(last.id, UUID(bytes=last.event_ref))
        before = sum(digest.count for digest in self.before.digests.values())
        return Framed(
            sections=[section for builder in builders for section in builder.close()],
            letters=self.letters,
            published=sum(self.counts) - before,
            dead=self.dead,
            waiting=self.waiting,
            last_id=last_id,
            digests=digests,
            highest=highest,
            blocked={UUID(tree.decode()): version for tree, version in self.waits_from.items()},
            halt=self.halt,
        )
