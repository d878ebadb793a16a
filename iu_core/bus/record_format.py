"""Records in Kafka's own format (record batch v2), framed without the client.

A record is a length and a body, and the body is bytes that the caller mostly has already: key,
value, headers. Framing them here takes a tenth of what `KafkaProducer.send` takes for a record
(design/20), because nothing is looked up, copied twice, or given a future of its own.

    record  = length, attributes 0, timestamp delta 0, offset delta, key, value, headers
    key     = length, bytes; -1 for none         headers = count, then name and value each so

Lengths, deltas and counts are zigzag varints. Offset deltas count from 0 in each section, so a
section is the records of exactly one batch; the timestamp is the batch's.

Source: Kafka protocol guide, "Message Format", "Record" (magic 2).
"""

from collections.abc import Iterable
from typing import Final

from iu_core.bus.ports import Headers, Outgoing, RecordSection

# A batch must fit into the broker's message.max.bytes (1,048,588) even where lz4 finds nothing to
# save. Smaller sections leave the network busy while the next one is being framed.
SECTION_BYTES_MAX: Final = 1_000_000
SECTION_BYTES_AIM: Final = 256_000

_NOTHING: Final = b"\x01"  # length -1: no key, no value


def varint(number: int) -> bytes:
    """Return `number` (64 bits, signed) as a zigzag varint, at most ten bytes."""
    rest = (number << 1) ^ (number >> 63)
    out = bytearray()
    while rest > 0x7F:
        out.append(0x80 | (rest & 0x7F))
        rest >>= 7
    out.append(rest)
    return bytes(out)


# Most lengths of a record are among these: looking up is five times faster than encoding.
VARINTS: Final = tuple(varint(number) for number in range(4_096))
_TABLE_MAX: Final = len(VARINTS)
_RECORD_HEAD_BYTES: Final = 8  # length, attributes and deltas, at most, of a record of a million bytes
# What a record's body begins with: attributes, timestamp delta, offset delta.
_HEADS: Final = tuple(b"\x00\x00" + number for number in VARINTS)


def length_of(number: int) -> bytes:
    """Return a length or delta as a varint, from the table where it can."""
    return VARINTS[number] if number < _TABLE_MAX else varint(number)


def field(value: bytes | None) -> bytes:
    """Return a key, value or header value with its length before it."""
    return _NOTHING if value is None else length_of(len(value)) + value


def header(name: str, value: bytes) -> bytes:
    """Return one header, name and value."""
    return field(name.encode()) + field(value)


def headers_field(headers: Headers) -> bytes:
    """Return a record's headers: their count, then each."""
    return length_of(len(headers)) + b"".join(header(name, value) for name, value in headers)


class SectionBuilder:
    """Collects the records of one partition into sections; `add` in order, then `close`."""

    __slots__ = ("_count", "_full", "_partition", "_parts", "_size", "_topic")

    def __init__(self, topic: str, partition: int) -> None:
        self._topic = topic
        self._partition = partition
        self._parts: list[bytes] = []
        self._count = 0
        self._size = 0
        self._full: list[RecordSection] = []

    def add(self, parts: tuple[bytes, ...]) -> None:
        """Append a record: its key, value and headers, each as `field` or `headers_field` says.

        They may come in any number of parts; nothing is copied until the section is cut.
        """
        size = sum(map(len, parts))
        if self._size + size > SECTION_BYTES_AIM and self._count:
            self._cut()
        count = self._count
        head = _HEADS[count] if count < _TABLE_MAX else b"\x00\x00" + varint(count)
        self._parts.append(length_of(len(head) + size))
        self._parts.append(head)
        self._parts += parts
        self._count = count + 1
        self._size += size + _RECORD_HEAD_BYTES

    def close(self) -> list[RecordSection]:
        """Return every section, in order."""
        if self._count:
            self._cut()
        done, self._full = self._full, []
        return done

    def _cut(self) -> None:
        data = b"".join(self._parts)
        self._full.append(RecordSection(self._topic, self._partition, self._count, data))
        self._parts, self._count, self._size = [], 0, 0


def sections(records: Iterable[Outgoing | RecordSection]) -> list[RecordSection]:
    """Return `records` as sections, those of each partition in the order given.

    Raises `ValueError` for a record with neither key nor value: it says nothing, and no compacted
    topic could keep it.
    """
    done: list[RecordSection] = []
    building: dict[tuple[str, int], SectionBuilder] = {}
    for record in records:
        place = (record.topic, record.partition)
        if isinstance(record, RecordSection):
            if (begun := building.pop(place, None)) is not None:
                done += begun.close()
            done.append(record)
            continue
        if record.key is None and record.value is None:
            raise ValueError(f"a record for {record.topic} has neither key nor value")
        if (builder := building.get(place)) is None:
            builder = building[place] = SectionBuilder(*place)
        rest = field(record.key) + field(record.value) + headers_field(record.headers)
        builder.add((rest,))
    for builder in building.values():
        done += builder.close()
    return done


def records_of(section: RecordSection) -> list[Outgoing]:
    """Return the records of a section. Raises `ValueError` if it is not well-formed."""
    parser = _Parser(section.data)
    records = []
    for number in range(section.count):
        end = parser.varint() + parser.at
        if parser.take(2) != b"\x00\x00" or parser.varint() != number:
            raise ValueError(f"record {number} of the section is not where it should be")
        key, value = parser.field(), parser.field()
        headers = tuple(
            ((parser.field() or b"").decode(), parser.field() or b"") for _ in range(parser.varint())
        )
        if parser.at != end:
            raise ValueError(f"record {number} of the section ends at {parser.at}, not at {end}")
        records.append(Outgoing(section.topic, section.partition, key, value, headers))
    if parser.at != len(section.data):
        raise ValueError(f"{len(section.data) - parser.at} bytes after the last record of the section")
    return records


class _Parser:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self.at = 0

    def take(self, size: int) -> bytes:
        if size < 0 or self.at + size > len(self._data):
            raise ValueError(f"{size} bytes at {self.at} of a section of {len(self._data)}")
        taken = self._data[self.at : self.at + size]
        self.at += size
        return taken

    def varint(self) -> int:
        number = shift = 0
        while True:
            byte = self.take(1)[0]
            number |= (byte & 0x7F) << shift
            if byte < 0x80:
                return (number >> 1) ^ -(number & 1)
            shift += 7
            if shift > 63:
                raise ValueError(f"a varint of more than ten bytes at {self.at}")

    def field(self) -> bytes | None:
        size = self.varint()
        return None if size == -1 else self.take(size)
