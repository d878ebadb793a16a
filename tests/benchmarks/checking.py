"""Read a topic whole with `read_committed` and count: each event once, in order in its tree?

With librdkafka, because reading a million records must not take longer than making them.
"""

from dataclasses import dataclass
from typing import Any, Final

from confluent_kafka import Consumer, KafkaError, TopicPartition

from iu_core.errors import Terminal

_BATCH: Final = 10_000
_WAIT_S: Final = 30.0
_UUID_BYTES: Final = 16


@dataclass(frozen=True, slots=True)
class Counted:
    """What a topic holds. `disordered`: records whose version is not one above the one before."""

    records: int
    distinct: int
    disordered: int

    def faults(self, rows: int) -> tuple[str, ...]:
        """Return in words what is wrong, given that `rows` events were committed."""
        found = {
            "lost": rows - self.distinct,
            "repeated": self.records - self.distinct,
            "out of order": self.disordered,
        }
        return tuple(f"{count:,} {what}" for what, count in found.items() if count)


def count(bootstrap: str, topic: str, partitions: int, *, header: str, prefix_bytes: int) -> Counted:
    """Count the committed records of `topic`.

    `header` carries the event's id; a value is `prefix_bytes` of wire prefix and the datum of a
    `structure_reparented`. Raises `Terminal` if the end is not reached.
    """
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "bench-count",
            "isolation.level": "read_committed",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "auto.offset.reset": "error",
            "fetch.message.max.bytes": 8_388_608,
            "queued.max.messages.kbytes": 262_144,
        }
    )
    consumer.assign([TopicPartition(topic, number, 0) for number in range(partitions)])
    seen: set[bytes] = set()
    versions: dict[bytes, int] = {}
    records = disordered = open_partitions = 0
    open_partitions = partitions
    try:
        while open_partitions:
            batch = consumer.consume(_BATCH, _WAIT_S if not records else 1.0)
            if not batch and not records:
                raise Terminal(f"{topic} cannot be read to its end", why=f"nothing in {_WAIT_S:.0f} s")
            for message in batch:
                if (error := message.error()) is not None:
                    if error.code() != KafkaError._PARTITION_EOF:
                        raise Terminal(f"{topic} cannot be read", why=str(error))
                    open_partitions -= 1
                    continue
                records += 1
                seen.add(_header(message, header))
                tree, version = _place(message.value() or b"", prefix_bytes)
                # A first version other than 1 is a hole too.
                disordered += version != versions.get(tree, 0) + 1
                versions[tree] = version
    finally:
        consumer.close()
    return Counted(records, len(seen), disordered)


def _header(message: Any, name: str) -> bytes:
    for header, value in message.headers() or ():
        if header == name:
            return bytes(value)
    return b""


def _place(value: bytes, prefix_bytes: int) -> tuple[bytes, int]:
    """Return tree and version: fields 3 and 5 of the datum, behind an id and two varints."""
    at = prefix_bytes + _UUID_BYTES
    while value[at] & 0x80:
        at += 1
    tree = value[at + 1 : at + 1 + _UUID_BYTES]
    # The incarnation is 1 here: one byte.
    at += 2 + _UUID_BYTES
    number = shift = 0
    while value[at] & 0x80:
        number |= (value[at] & 0x7F) << shift
        shift += 7
        at += 1
    return tree, (number | value[at] << shift) >> 1
