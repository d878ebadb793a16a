"""Payloads made from a contract: valid ones full of edges, and broken ones, each broken once.

They hold the encoders of Python and PostgreSQL, the codec and the models to each other. The
generator of random numbers is an argument, so a failing case comes back with its seed.
"""

import random
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, assert_never
from uuid import UUID

from schemas.avro_types import Array, AvroType, Enum, Fixed, Int, Optional, Record, String, TimestampMicros
from schemas.conversion import UNKNOWN
from schemas.source import JsonPath, shown

FIRST_MICROSECOND: Final = -62_135_596_800_000_000  # 0001-01-01T00:00:00Z
LAST_MICROSECOND: Final = 253_402_300_799_999_999  # 9999-12-31T23:59:59.999999Z
SURPLUS: Final = "surplus"  # the key that no contract has
ARRAY_LENGTHS: Final = (0, 0, 1, 2, 3, 5, 64)

_EPOCH: Final = datetime(1970, 1, 1)  # noqa: DTZ001 - naive UTC, as in schemas.conversion
# Around each power of 2^7 a varint of the zigzag number grows by a byte.
_EDGES: Final = tuple(
    sign * ((1 << bits) + near) for bits in range(64) for near in (-1, 0, 1) for sign in (1, -1)
)
_TEXTS: Final = (
    "",
    "plain",
    "Ünïcödé Ω 漢字",
    "🙂𝔘𐍈",
    "quote \" apostrophe ' backslash \\ %s $1",
    "line\nfeed\ttab\r\x01\x7f\u2028\ufeff",
    "x" * 63,
    "x" * 64,
    "é" * 4096,
)


def payload(record: Record, rng: random.Random) -> dict[str, Any]:
    """Return a valid payload of `record`; about a third of its values lie at an edge."""
    return {field.name: _value(field.type, rng) for field in record.fields}


def _value(avro_type: AvroType, rng: random.Random) -> Any:
    match avro_type:
        case String():
            return rng.choice(_TEXTS) if rng.random() < 0.3 else _word(rng)
        case Int(smallest=smallest, largest=largest):
            number = rng.choice(_EDGES) if rng.random() < 0.5 else rng.randint(smallest, largest)
            return min(max(number, smallest), largest)
        case TimestampMicros():
            return _time(rng)
        case Fixed(size=size):
            value = rng.choice((bytes(size), b"\xff" * size)) if rng.random() < 0.1 else rng.randbytes(size)
            return str(UUID(bytes=value)) if avro_type.is_uuid else value.hex()
        case Enum(symbols=symbols):
            return rng.choice([symbol for symbol in symbols if symbol != UNKNOWN])
        case Array(items=items):
            return [_value(items, rng) for _ in range(rng.choice(ARRAY_LENGTHS))]
        case Optional(inner=inner):
            return None if rng.random() < 0.3 else _value(inner, rng)
        case Record():
            return payload(avro_type, rng)
        case _:
            assert_never(avro_type)


def _word(rng: random.Random) -> str:
    # Any character but the surrogates, which are no characters, and U+0000.
    ranges = ((1, 0x7F), (0x80, 0xD7FF), (0xE000, 0x10FFFF))
    return "".join(chr(rng.randint(*rng.choice(ranges))) for _ in range(rng.randrange(20)))


def _time(rng: random.Random) -> str:
    edges = (FIRST_MICROSECOND, LAST_MICROSECOND, 0, -1, 1, 951_868_799_999_999)  # the last: a leap day
    micros = rng.choice(edges) if rng.random() < 0.3 else rng.randint(FIRST_MICROSECOND, LAST_MICROSECOND)
    return (_EPOCH + timedelta(microseconds=micros)).isoformat(timespec="microseconds") + "Z"


@dataclass(frozen=True, slots=True)
class Broken:
    """A payload with one fault. `path` is the field that every check must name."""

    path: str
    fault: str
    payload: Any


def broken(record: Record, valid: dict[str, Any]) -> Iterator[Broken]:
    """Yield `valid`, a payload of `record`, broken in every way that each of its values can be.

    Of an array only the last item is broken, and an empty one only as a whole.
    """
    for path, avro_type, value in _places(record, valid, ()):
        for fault, wrong in _wrong_values(avro_type, value):
            yield Broken(shown(path), fault, _with(valid, path, wrong))
        if isinstance(avro_type, Record):
            surplus = {**value, SURPLUS: 1}
            yield Broken(shown((*path, SURPLUS)), "unknown key", _with(valid, path, surplus))
            for name in value:
                without = {key: kept for key, kept in value.items() if key != name}
                yield Broken(shown((*path, name)), "missing key", _with(valid, path, without))


def _places(avro_type: AvroType, value: Any, path: JsonPath) -> Iterator[tuple[JsonPath, AvroType, Any]]:
    """Yield each value inside `value` with its type and path, itself first."""
    yield path, avro_type, value
    match avro_type:
        case Record(fields=fields):
            for field in fields:
                yield from _places(field.type, value[field.name], (*path, field.name))
        case Array(items=items) if value:
            yield from _places(items, value[-1], (*path, len(value) - 1))
        case _:
            return


def _wrong_values(avro_type: AvroType, value: Any) -> Iterator[tuple[str, Any]]:
    match avro_type:
        case Optional(inner=inner):
            yield from ((fault, wrong) for fault, wrong in _wrong_values(inner, value) if wrong is not None)
            return
        case String():
            yield from (("a number", 7), ("true", True))
        case Int(smallest=smallest, largest=largest):
            yield from (("too small", smallest - 1), ("too large", largest + 1), ("huge", 10**30))
            yield from (("a fraction", 1.5), ("a whole float", 1.0), ("true", True), ("text", "1"))
        case TimestampMicros():
            yield from ((f"time {text!r}", text) for text in _WRONG_TIMES)
            yield "a number", 1_700_000_000_000_000
        case Fixed():
            yield from _wrong_fixed(avro_type, value)
        case Enum():
            yield from ((f"symbol {text!r}", text) for text in (UNKNOWN, "", "Draft", "retired", "0"))
            yield "an index", 1
        case Array():
            yield from (("an object", {}), ("text", "[]"))
        case Record():
            yield from (("an array", []), ("text", "{}"))
        case _:
            assert_never(avro_type)
    yield "null", None


def _wrong_fixed(fixed: Fixed, value: str | None) -> Iterator[tuple[str, Any]]:
    good = value or ("0" * 8 + "-0000" * 3 + "-" + "0" * 12)
    yield from (("empty", ""), ("too short", good[:-1]), ("too long", good + "0"), ("newline", good + "\n"))
    yield from (("not hex", "g" + good[1:]), ("upper case", "A" + good[1:]), ("a number", 5))
    if fixed.is_uuid:
        # PostgreSQL's uuid takes all of these; the bytes would not come back as they were written.
        yield from (("without hyphens", good.replace("-", "")), ("braces", f"{{{good}}}"))
    else:
        yield "two short", good[:-2]


_WRONG_TIMES: Final = (
    "",
    "now",
    "infinity",
    "2026-01-02T03:04:05Z",
    "2026-01-02T03:04:05.678Z",
    "2026-01-02T03:04:05.678901",
    "2026-01-02T03:04:05.678901+00:00",
    "2026-01-02 03:04:05.678901Z",
    "2026-01-02T03:04:05,678901Z",
    "2026-01-02T03:04:05.6789012Z",
    "2026-01-02T03:04:05.678901Z\n",
    "2026-00-02T03:04:05.678901Z",
    "2026-13-02T03:04:05.678901Z",
    "2026-02-29T03:04:05.678901Z",
    "2026-02-30T03:04:05.678901Z",
    "2026-04-31T03:04:05.678901Z",
    "1900-02-29T03:04:05.678901Z",
    "2026-01-00T03:04:05.678901Z",
    "2026-01-32T03:04:05.678901Z",
    "2026-01-02T24:00:00.000000Z",
    "2026-01-02T03:60:05.678901Z",
    "2026-01-02T03:04:60.000000Z",
    "0000-01-02T03:04:05.678901Z",
    "-001-01-02T03:04:05.678901Z",
    "10000-01-02T03:04:05.678901Z",
    "２026-01-02T03:04:05.678901Z",
)


def _with(root: Any, path: JsonPath, value: Any) -> Any:
    """Return a copy of `root` in which `value` stands at `path`."""
    if not path:
        return value
    copied = deepcopy(root)
    inside = copied
    for part in path[:-1]:
        inside = inside[part]
    inside[path[-1]] = value
    return copied
