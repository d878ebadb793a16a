"""Between the JSON of a payload and what fastavro takes once logical types are stripped.

fastavro's own logical types make a UUID object and a datetime out of each value and cost as
much as the codec itself (design/40). Here the functions a record needs are put together once,
from its contract, and only fields that differ are touched: UUID text and 16 bytes, hex and
bytes, time text and microseconds. Strings, longs and enums are the same on both sides.
"""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, Final, TypeAlias, assert_never

from schemas.avro_types import Array, AvroType, Enum, Fixed, Int, Optional, Record, String, TimestampMicros
from schemas.errors import Malformed, UnknownSymbol

Convert: TypeAlias = Callable[[Any], Any]

UNKNOWN: Final = "UNKNOWN"
_EPOCH: Final = datetime(1970, 1, 1)  # noqa: DTZ001 - naive UTC throughout: no zone is looked up
_MICROSECOND: Final = timedelta(microseconds=1)


def to_wire(avro_type: AvroType) -> Convert | None:
    """Return the function that turns a *valid* JSON value into fastavro's; None if it is the same."""
    match avro_type:
        case String() | Int() | Enum():
            return None
        case TimestampMicros():
            return _micros
        case Fixed():
            return _uuid_bytes if avro_type.is_uuid else bytes.fromhex
        case Array(items=items):
            return _each(to_wire(items))
        case Optional(inner=inner):
            return _unless_null(to_wire(inner))
        case Record(fields=fields):
            steps = [(field.name, step) for field in fields if (step := to_wire(field.type))]
            return _record(steps)
        case _:
            assert_never(avro_type)


def from_wire(avro_type: AvroType, event: str, path: str = "") -> Convert | None:
    """Return the function that turns fastavro's value into JSON's; None if it is the same.

    It raises what fastavro lets pass: `Malformed` for an int beyond 32 bits, a time that no
    calendar has and U+0000 in a string, `UnknownSymbol` for UNKNOWN.
    """
    match avro_type:
        case String():
            return _storable(event, path)
        case Int(bits=bits):
            return _within(avro_type, event, path) if bits < 64 else None
        case TimestampMicros():
            return _time_text(event, path)
        case Fixed():
            return _uuid_text if avro_type.is_uuid else bytes.hex
        case Enum():
            return _known_symbol(event, path)
        case Array(items=items):
            return _each(from_wire(items, event, f"{path}[]"))
        case Optional(inner=inner):
            return _unless_null(from_wire(inner, event, path))
        case Record(fields=fields):
            prefix = f"{path}." if path else ""
            steps = [
                (field.name, step)
                for field in fields
                if (step := from_wire(field.type, event, f"{prefix}{field.name}"))
            ]
            return _record(steps)
        case _:
            assert_never(avro_type)


def _micros(text: str) -> int:
    return (datetime.fromisoformat(text[:-1]) - _EPOCH) // _MICROSECOND


def _uuid_bytes(text: str) -> bytes:
    return bytes.fromhex(text.replace("-", ""))


def _uuid_text(value: bytes) -> str:
    digits = value.hex()
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def _time_text(event: str, path: str) -> Convert:
    def convert(micros: int) -> str:
        try:
            return (_EPOCH + timedelta(microseconds=micros)).isoformat(timespec="microseconds") + "Z"
        except OverflowError:
            raise Malformed(event, f"{path} is {micros} µs, outside the years 1 to 9999") from None

    return convert


def _storable(event: str, path: str) -> Convert:
    def convert(text: str) -> str:
        if "\x00" in text:
            raise Malformed(event, f"{path} holds U+0000, which PostgreSQL cannot store")
        return text

    return convert


def _within(bounds: Int, event: str, path: str) -> Convert:
    smallest, largest = bounds.smallest, bounds.largest

    def convert(number: int) -> int:
        if smallest <= number <= largest:
            return number
        raise Malformed(event, f"{path} is {number}, beyond {bounds.bits} bits")

    return convert


def _known_symbol(event: str, path: str) -> Convert:
    def convert(symbol: str) -> str:
        if symbol == UNKNOWN:
            raise UnknownSymbol(event, path)
        return symbol

    return convert


def _each(step: Convert | None) -> Convert | None:
    return None if step is None else lambda items: [step(item) for item in items]


def _unless_null(step: Convert | None) -> Convert | None:
    return None if step is None else lambda value: None if value is None else step(value)


def _record(steps: list[tuple[str, Convert]]) -> Convert:
    def convert(record: dict[str, Any]) -> dict[str, Any]:
        converted = dict(record)
        for name, step in steps:
            converted[name] = step(converted[name])
        return converted

    return convert
