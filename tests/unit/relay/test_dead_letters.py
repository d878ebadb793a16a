"""A dead letter read back is the letter written, whatever its size and words; a gap is refused."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iu_core.bus.ports import Outgoing, Record
from iu_core.errors import Terminal
from producers.relay import topics
from producers.relay.dead_letters import (
    PART_BYTES_MAX,
    TEXT_CHARACTERS_MAX,
    Assembler,
    DeadLetter,
    Outcome,
    Place,
    Resolution,
    assemble,
    records,
    resolution_record,
)

WRITTEN_AT = datetime(2026, 3, 1, 1, 2, 3, 456_000, tzinfo=UTC)
LETTER = DeadLetter(
    outbox_id=42,
    event_ref=UUID(int=1042),
    event_type="structure_reparented",
    schema_version=3,
    tree_id=UUID(int=7),
    aggregate_version=12,
    incarnation=2,
    occurred_at=datetime(2026, 3, 1, 3, 2, 3, 45, tzinfo=timezone(timedelta(hours=2))),
    datum=b"\x00datum",
    payload_digest=hashlib.sha256(b"\x00datum").digest(),
    reason="unknown_type",
    detail="structure_reparented version 3 is not a released contract",
    policy="block_tree",
)
RESOLUTION = Resolution(
    LETTER.event_ref, LETTER.tree_id, 2, Outcome.DISCARDED, "ada", "đã duyệt: 100% sai", at=WRITTEN_AT
)
# Without surrogates, which UTF-8 does not have, and NUL, which PostgreSQL does not have.
texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=60)


def stand(outgoing: Sequence[Outgoing], start: int = 100) -> list[Record]:
    """Return what the broker would hold, from offset `start` on."""
    return [
        Record(
            each.topic, each.partition, start + index, int(WRITTEN_AT.timestamp() * 1_000),
            each.key, each.value, each.headers,
        )
        for index, each in enumerate(outgoing)
    ]  # fmt: skip


def sized(size: int) -> DeadLetter:
    return replace(LETTER, datum=bytes(size))


def test_a_letter_is_one_record_with_every_header_of_the_format() -> None:
    (record,) = records(LETTER, "letters", 3)
    assert (record.topic, record.partition) == ("letters", 3)
    assert record.key == str(LETTER.tree_id).encode()
    assert record.value == LETTER.datum
    assert dict(record.headers) == {
        "iu_outbox_id": b"42",
        "ce_id": str(LETTER.event_ref).encode(),
        "ce_type": b"structure_reparented",
        "iu_schema_version": b"3",
        "iu_aggregate_version": b"12",
        "iu_incarnation": b"2",
        "ce_time": b"2026-03-01T01:02:03.000045Z",
        "iu_digest": LETTER.payload_digest.hex().encode(),
        "iu_reason": b"unknown_type",
        "iu_detail": b"structure_reparented version 3 is not a released contract",
        "iu_policy": b"block_tree",
        "iu_part": b"1/1",
    }


@pytest.mark.parametrize(
    ("size", "parts"),
    [(0, 1), (1, 1), (PART_BYTES_MAX, 1), (PART_BYTES_MAX + 1, 2), (3 * PART_BYTES_MAX, 3)],
)
def test_a_datum_of_any_size_comes_back_from_its_parts(size: int, parts: int) -> None:
    written = records(sized(size), "letters", 3)
    assert [dict(record.headers)["iu_part"].decode() for record in written] == [
        f"{number}/{parts}" for number in range(1, parts + 1)
    ]
    (read,) = assemble(stand(written))
    assert replace(read, place=None) == sized(size)
    assert read.place == Place("letters", 3, 100, 99 + parts, WRITTEN_AT)


@given(texts, texts, st.binary(max_size=50))
def test_words_of_any_language_come_back_and_travel_as_ascii(detail: str, policy: str, datum: bytes) -> None:
    letter = replace(LETTER, detail=detail, policy=policy, datum=datum)
    written = records(letter, "letters", 0)
    assert all(value.isascii() for _, value in written[0].headers)
    assert [replace(read, place=None) for read in assemble(stand(written))] == [letter]


def test_no_part_is_larger_than_a_record_may_be() -> None:
    """Even where every text is as long, and as far from ASCII, as it can be."""
    long = "𝄞" * 3 * TEXT_CHARACTERS_MAX
    letter = replace(sized(PART_BYTES_MAX), event_type=long, reason=long, detail=long, policy=long)
    (record,) = records(letter, "letters", 0)
    size = len(record.value or b"") + sum(len(name) + len(value) for name, value in record.headers)
    assert size < topics.RECORD_BYTES_MAX
    (read,) = assemble(stand([record]))
    assert read.detail == long[:TEXT_CHARACTERS_MAX]


def test_letters_of_several_trees_and_their_resolutions_are_told_apart() -> None:
    other = replace(sized(2 * PART_BYTES_MAX), event_ref=UUID(int=9), tree_id=UUID(int=8))
    stood = stand(
        [
            *records(LETTER, "letters", 3),
            *records(other, "letters", 3),
            resolution_record(RESOLUTION, "letters", 3),
            *records(LETTER, "letters", 3),
        ]
    )
    assert [letter.event_ref for letter in assemble(stood)] == [
        LETTER.event_ref, other.event_ref, LETTER.event_ref,
    ]  # fmt: skip
    assembler = Assembler()
    entries = [entry for record in stood if (entry := assembler.take(record)) is not None]
    assert [entry for entry in entries if isinstance(entry, Resolution)] == [RESOLUTION]


@pytest.mark.parametrize("missing", [[0], [1], [2], [0, 1], [1, 2]])
def test_a_letter_with_a_part_missing_is_refused(missing: list[int]) -> None:
    stood = stand(records(sized(3 * PART_BYTES_MAX), "letters", 3))
    left = [record for index, record in enumerate(stood) if index not in missing]
    with pytest.raises(Terminal, match="is not a whole dead letter") as caught:
        assemble(left)
    assert caught.value.why
    assert "part" in caught.value.why


@pytest.mark.parametrize("order", [(0, 2, 1), (1, 0, 2), (0, 0, 1, 2)])
def test_parts_out_of_order_or_repeated_are_refused(order: tuple[int, ...]) -> None:
    stood = stand(records(sized(3 * PART_BYTES_MAX), "letters", 3))
    with pytest.raises(Terminal, match="is not a whole dead letter"):
        assemble([stood[index] for index in order])


def test_parts_of_two_letters_are_never_joined() -> None:
    one, other = sized(2 * PART_BYTES_MAX), replace(sized(2 * PART_BYTES_MAX), event_ref=UUID(int=9))
    mixed = [stand(records(one, "letters", 3))[0], stand(records(other, "letters", 3))[1]]
    with pytest.raises(Terminal) as caught:
        assemble(mixed)
    assert str(other.event_ref) in (caught.value.why or "")


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("iu_part", b"0/1"),
        ("iu_part", b"2/1"),
        ("iu_part", b"one"),
        ("ce_id", b"nobody"),
        ("iu_digest", b"xyz"),
        ("ce_time", b"yesterday"),
        ("iu_outbox_id", b""),
        ("iu_detail", "é".encode()),
    ],
)
def test_a_record_that_is_no_letter_is_named(header: str, value: bytes) -> None:
    (record,) = stand(records(LETTER, "letters", 3))
    spoilt = tuple((name, value if name == header else old) for name, old in record.headers)
    with pytest.raises(Terminal, match="offset 100 of letters, partition 3"):
        assemble([replace(record, headers=spoilt)])


@pytest.mark.parametrize("header", ["iu_part", "ce_id", "iu_reason"])
def test_a_record_without_a_header_is_named(header: str) -> None:
    (record,) = stand(records(LETTER, "letters", 3))
    left = tuple((name, value) for name, value in record.headers if name != header)
    with pytest.raises(Terminal, match="offset 100 of letters, partition 3"):
        assemble([replace(record, headers=left)])
