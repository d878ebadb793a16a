"""Framed by us, read by the client: the bytes of a section are those of Kafka's record format v2."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kafka.record.default_records import DefaultRecordBatchBuilder
from kafka.record.memory_records import MemoryRecords

from iu_core.bus.ports import Outgoing, RecordSection
from iu_core.bus.record_format import SECTION_BYTES_AIM, SECTION_BYTES_MAX, records_of, sections, varint

HEADERS = st.lists(st.tuples(st.text(max_size=9), st.binary(max_size=200)), max_size=4).map(tuple)
RECORDS = st.lists(
    st.builds(
        Outgoing,
        topic=st.just("t"),
        partition=st.just(0),
        key=st.none() | st.binary(max_size=70),
        value=st.none() | st.binary(max_size=5_000),
        headers=HEADERS,
    ),
    min_size=1,
    max_size=20,
).filter(lambda records: all(r.key is not None or r.value is not None for r in records))


def clients(records: list[Outgoing]) -> bytes:
    """Return the records part of the batch that kafka-python makes."""
    builder = DefaultRecordBatchBuilder(2, 0, False, -1, -1, -1, 10_000_000)
    for number, record in enumerate(records):
        builder.append(number, 1_000, record.key, record.value, list(record.headers))
    return bytes(builder.build())[DefaultRecordBatchBuilder.header_size_in_bytes() :]


@given(RECORDS)
def test_a_section_has_the_bytes_that_the_client_would_make(records: list[Outgoing]) -> None:
    (section,) = sections(records)
    assert section.data == clients(records)
    assert records_of(section) == records


def test_a_section_is_parsed_by_the_client_as_it_was_given() -> None:
    records = [Outgoing("t", 0, b"k%d" % n, b"v" * n, (("h", b"x" * n),)) for n in (0, 1, 63, 64, 8_191)]
    header = DefaultRecordBatchBuilder(2, 0, False, -1, -1, -1, 10_000_000)
    (section,) = sections(records)
    header._buffer += section.data
    header._num_records, header._last_offset = section.count, section.count - 1
    header._first_timestamp = header._max_timestamp = 5
    (batch,) = MemoryRecords(bytes(header.build()))
    assert batch.validate_crc()
    assert [(r.key, r.value, r.headers[0][1], r.timestamp) for r in batch] == [
        (record.key, record.value, record.headers[0][1], 5) for record in records
    ]


@given(st.integers(min_value=-(2**63), max_value=2**63 - 1))
def test_a_varint_is_zigzag_and_ends_where_it_says(number: int) -> None:
    text = varint(number)
    value = sum((byte & 0x7F) << (7 * place) for place, byte in enumerate(text))
    assert (value >> 1) ^ -(value & 1) == number
    assert [byte >> 7 for byte in text] == [1] * (len(text) - 1) + [0]
    assert len(text) <= 10


def test_records_of_several_places_keep_their_order_and_sections_stay_small() -> None:
    chance = random.Random(1)
    records = [
        Outgoing("t", chance.randrange(3), b"k", b"%d" % n * chance.randrange(900)) for n in range(6_000)
    ]
    made = sections(records)
    assert all(len(section.data) <= SECTION_BYTES_AIM for section in made)
    for partition in range(3):
        back = [
            record for section in made if section.partition == partition for record in records_of(section)
        ]
        assert back == [record for record in records if record.partition == partition]


def test_a_record_that_says_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="neither key nor value"):
        sections([Outgoing("t", 0, None, None)])


def test_a_record_larger_than_a_section_stands_alone() -> None:
    small, large = Outgoing("t", 0, b"k", b"v"), Outgoing("t", 0, b"k", b"v" * SECTION_BYTES_MAX)
    assert [section.count for section in sections([small, large, small])] == [1, 1, 1]


def test_more_records_than_the_table_has_deltas_for() -> None:
    records = [Outgoing("t", 0, None, b"") for _ in range(9_000)]
    (section,) = sections(records)
    assert section.data == clients(records)
    assert records_of(section) == records


@pytest.mark.parametrize("damage", ["cut", "longer", "count", "order"])
def test_a_section_that_is_not_well_formed_is_refused(damage: str) -> None:
    (good,) = sections([Outgoing("t", 0, b"k", b"v"), Outgoing("t", 0, b"k", b"w")])
    data, count = good.data, good.count
    bad = {
        "cut": (data[:-1], count),
        "longer": (data + b"\0", count),
        "count": (data, count + 1),
        "order": (data[len(data) // 2 :] + data[: len(data) // 2], count),
    }[damage]
    with pytest.raises(ValueError, match=r"section|bytes"):
        records_of(RecordSection("t", 0, bad[1], bad[0]))
