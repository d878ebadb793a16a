"""The part of Avro that our contracts may use, as values.

Everything that walks a contract (the SQL generator, the codec, the lints, the drift check)
walks these values and not the JSON, so a construct that one of them could not carry is
refused here, once, for all. What is left out is left out on purpose: floats (not exact),
maps and general unions (a reader must be told what it gets), bytes (a digest has a size),
recursion (a payload has a bound depth).
Source: Apache Avro 1.12 specification; design/40.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias, assert_never

from iu_core.errors import Terminal
from schemas.source import JsonPath, shown

UUID_NAME: Final = "Uuid"
NULLABLE: Final = 2  # branches of the one union we allow


class InvalidSchema(Terminal):
    """A contract is no Avro schema, or uses what our contracts may not. `path` says where."""

    def __init__(self, path: JsonPath, what: str, *, remedy: str | None = None) -> None:
        super().__init__(f"{shown(path)}: {what}" if path else what, remedy=remedy)
        self.path = path
        self.fault = what


@dataclass(frozen=True, slots=True)
class String:
    """UTF-8 text."""


@dataclass(frozen=True, slots=True)
class Int:
    """A signed integer of `bits` 32 (`int`) or 64 (`long`)."""

    bits: int

    @property
    def smallest(self) -> int:
        """The smallest value, inclusive."""
        return -(1 << (self.bits - 1))

    @property
    def largest(self) -> int:
        """The largest value, inclusive."""
        return (1 << (self.bits - 1)) - 1


@dataclass(frozen=True, slots=True)
class TimestampMicros:
    """A `long`: microseconds since 1970-01-01T00:00:00Z."""


@dataclass(frozen=True, slots=True)
class Fixed:
    """`size` bytes. Called `Uuid` with 16, it is a UUID; anything else is hex in JSON."""

    name: str
    size: int

    @property
    def is_uuid(self) -> bool:
        """Whether JSON shows it as a UUID and not as hex."""
        return self.name == UUID_NAME


@dataclass(frozen=True, slots=True)
class Enum:
    """One of `symbols`, by position; `default` is what an older reader makes of a new one."""

    name: str
    symbols: tuple[str, ...]
    default: str | None


@dataclass(frozen=True, slots=True)
class Array:
    """Any number of `items`, in order."""

    items: "AvroType"


@dataclass(frozen=True, slots=True)
class Optional:
    """The union of null, first, and `inner`."""

    inner: "AvroType"


@dataclass(frozen=True, slots=True)
class Field:
    """A field of a record; `has_default` says whether readers may do without it."""

    name: str
    type: "AvroType"
    has_default: bool


@dataclass(frozen=True, slots=True)
class Record:
    """A record: its fields in wire order. `namespace` is empty where none is given."""

    name: str
    namespace: str
    fields: tuple[Field, ...]

    @property
    def full_name(self) -> str:
        """The name a registry knows the record by."""
        return f"{self.namespace}.{self.name}" if self.namespace else self.name


AvroType: TypeAlias = String | Int | TimestampMicros | Fixed | Enum | Array | Optional | Record

_PRIMITIVES: Final[Mapping[str, AvroType]] = {"string": String(), "int": Int(32), "long": Int(64)}


def parse(schema: Any) -> Record:
    """Return the record that the JSON value `schema` of an `.avsc` file describes.

    Raises `InvalidSchema` at the first construct that is not Avro or not ours.
    """
    parsed = _Parser(schema.get("namespace", "") if isinstance(schema, dict) else "").type(schema, ())
    if not isinstance(parsed, Record):
        raise InvalidSchema((), "the contract is not a record", remedy="an event is one record")
    return parsed


def children(avro_type: AvroType) -> tuple[AvroType, ...]:
    """Return the types that stand directly inside `avro_type`."""
    match avro_type:
        case Array(items=inner) | Optional(inner=inner):
            return (inner,)
        case Record(fields=fields):
            return tuple(field.type for field in fields)
        case String() | Int() | TimestampMicros() | Fixed() | Enum():
            return ()
        case _:
            assert_never(avro_type)


def named_types(record: Record) -> tuple[Record | Enum | Fixed, ...]:
    """Return each named type inside `record` once, the inner before the outer, itself last."""
    found: dict[str, Record | Enum | Fixed] = {}

    def visit(avro_type: AvroType) -> None:
        for child in children(avro_type):
            visit(child)
        if isinstance(avro_type, Record | Enum | Fixed):
            found.setdefault(avro_type.name, avro_type)

    visit(record)
    return tuple(found.values())


class _Parser:
    """Walks a schema once, in document order, and remembers the names it has met."""

    def __init__(self, namespace: str) -> None:
        self._namespace = namespace
        self._named: dict[str, AvroType] = {}
        self._open: list[str] = []

    def type(self, schema: Any, path: JsonPath) -> AvroType:
        match schema:
            case str(name):
                return self._by_name(name, path)
            case [*branches]:
                return self._union(branches, path)
            case {"type": "record", "name": str(name), "fields": [*fields]}:
                return self._record(name, schema, fields, path)
            case {"type": "enum", "name": str(name), "symbols": [*symbols]} if symbols:
                return self._enum(name, symbols, schema.get("default"), path)
            case {"type": "fixed", "name": str(name), "size": int(size)} if size > 0:
                return self._define(name, Fixed(name, size), path)
            case {"type": "array", "items": items}:
                return Array(self.type(items, (*path, "items")))
            case {"type": "long", "logicalType": "timestamp-micros"}:
                return TimestampMicros()
            case {"logicalType": logical}:
                what = f"logical type {logical!r} on {schema.get('type')!r}"
                raise InvalidSchema(path, what, remedy="times are timestamp-micros on a long")
            case {"type": (str() | dict() | list()) as inner} if len(schema) == 1:
                return self.type(inner, (*path, "type"))
        raise InvalidSchema(path, f"{str(schema)[:60]!r} is no type that a contract may use")

    def _by_name(self, name: str, path: JsonPath) -> AvroType:
        short = name.removeprefix(f"{self._namespace}.")
        if short in self._open:
            raise InvalidSchema(path, f"{name} contains itself", remedy="a payload has a bound depth")
        found = _PRIMITIVES.get(name) or self._named.get(short)
        if found is None:
            known = ", ".join([*_PRIMITIVES, *self._named])
            raise InvalidSchema(
                path, f"{name!r} is no type that a contract may use here", remedy=f"known: {known}"
            )
        return found

    def _union(self, branches: list[Any], path: JsonPath) -> Optional:
        if len(branches) != NULLABLE or branches[0] != "null" or not isinstance(branches[1], str | dict):
            raise InvalidSchema(path, "a union other than null and one type", remedy='write ["null", T]')
        return Optional(self.type(branches[1], (*path, 1)))

    def _enum(self, name: str, symbols: list[Any], default: Any, path: JsonPath) -> AvroType:
        if len(set(map(str, symbols))) != len(symbols) or not all(_is_name(symbol) for symbol in symbols):
            raise InvalidSchema((*path, "symbols"), f"enum {name} has a symbol twice, or one that is no name")
        if default is not None and default not in symbols:
            raise InvalidSchema((*path, "default"), f"the default {default!r} is no symbol of {name}")
        return self._define(name, Enum(name, tuple(symbols), default), path)

    def _record(self, name: str, schema: Mapping[str, Any], fields: list[Any], path: JsonPath) -> AvroType:
        self._open.append(name)
        parsed = tuple(self._field(field, (*path, "fields", index)) for index, field in enumerate(fields))
        self._open.pop()
        names = [field.name for field in parsed]
        if len(set(names)) != len(names):
            raise InvalidSchema((*path, "fields"), f"record {name} names a field twice")
        return self._define(name, Record(name, schema.get("namespace", self._namespace), parsed), path)

    def _field(self, field: Any, path: JsonPath) -> Field:
        match field:
            case {"name": str(name), "type": field_type} if _is_name(name):
                parsed = self.type(field_type, (*path, "type"))
                if "default" in field and not _fits(field["default"], parsed):
                    what = f"the default {field['default']!r} does not fit the type"
                    raise InvalidSchema(
                        (*path, "default"), what, remedy="it must fit the first branch of a union"
                    )
                return Field(name, parsed, "default" in field)
        raise InvalidSchema(path, f"{str(field)[:60]!r} is no field")

    def _define(self, name: str, avro_type: AvroType, path: JsonPath) -> AvroType:
        if name in self._named or not _is_name(name):
            raise InvalidSchema(path, f"{name!r} is defined twice, or is no name")
        self._named[name] = avro_type
        return avro_type


def _is_name(name: Any) -> bool:
    return isinstance(name, str) and name.isascii() and name.isidentifier()


def _fits(value: Any, avro_type: AvroType) -> bool:
    """Whether `value` may be the default of a field of this type."""
    match avro_type:
        case Optional():
            return value is None
        case String():
            return isinstance(value, str)
        case Int() | TimestampMicros():
            bounds = avro_type if isinstance(avro_type, Int) else Int(64)
            return type(value) is int and bounds.smallest <= value <= bounds.largest
        case Enum(symbols=symbols):
            return value in symbols
        case Array():
            return isinstance(value, list) and not value
        case Fixed() | Record():
            return False  # no sensible default exists, and none has been needed
        case _:
            assert_never(avro_type)
