"""The part of Avro that contracts may use, and the refusal of the rest with its place."""

from typing import Any

import pytest

from schemas.avro_types import (
    Array,
    Enum,
    Field,
    Fixed,
    Int,
    InvalidSchema,
    Optional,
    Record,
    String,
    TimestampMicros,
    named_types,
    parse,
)
from schemas.source import lines, shown


def record(*fields: dict[str, Any]) -> dict[str, Any]:
    return {"type": "record", "name": "event", "namespace": "iu.structure", "fields": list(fields)}


def test_every_construct_of_a_contract_is_read() -> None:
    uuid = {"type": "fixed", "name": "Uuid", "size": 16, "logicalType": "uuid"}
    phase = {"type": "enum", "name": "Phase", "symbols": ["UNKNOWN", "a"], "default": "UNKNOWN"}
    inner = {"type": "record", "name": "Inner", "fields": [{"name": "again", "type": "iu.structure.Uuid"}]}
    parsed = parse(
        record(
            {"name": "id", "type": uuid},
            {"name": "at", "type": {"type": "long", "logicalType": "timestamp-micros"}},
            {"name": "small", "type": {"type": "int"}, "default": 0},
            {"name": "note", "type": ["null", "string"], "default": None},
            {"name": "phase", "type": phase, "default": "a"},
            {"name": "many", "type": {"type": "array", "items": inner}, "default": []},
        )
    )
    again = Record("Inner", "iu.structure", (Field("again", Fixed("Uuid", 16), False),))
    assert parsed.fields == (
        Field("id", Fixed("Uuid", 16), False),
        Field("at", TimestampMicros(), False),
        Field("small", Int(32), True),
        Field("note", Optional(String()), True),
        Field("phase", Enum("Phase", ("UNKNOWN", "a"), "UNKNOWN"), True),
        Field("many", Array(again), True),
    )
    assert parsed.full_name == "iu.structure.event"
    assert [named.name for named in named_types(parsed)] == ["Uuid", "Phase", "Inner", "event"]


def field(field_type: Any, **more: Any) -> dict[str, Any]:
    return record({"name": "x", "type": field_type, **more})


@pytest.mark.parametrize(
    ("schema", "path", "what"),
    [
        ("string", "", "not a record"),
        (field("double"), "fields[0].type", "'double'"),
        (field("Later"), "fields[0].type", "'Later'"),
        (field(["string", "null"]), "fields[0].type", "a union"),
        (field(["null", "string", "int"]), "fields[0].type", "a union"),
        (field({"type": "map", "values": "int"}), "fields[0].type", "no type"),
        (field({"type": "array", "items": "event"}), "fields[0].type.items", "contains itself"),
        (field({"type": "long", "logicalType": "timestamp-millis"}), "fields[0].type", "timestamp-millis"),
        (field("int", default="0"), "fields[0].default", "does not fit"),
        (field("int", default=True), "fields[0].default", "does not fit"),
        (field("int", default=2**31), "fields[0].default", "does not fit"),
        (field(["null", "int"], default=0), "fields[0].default", "does not fit"),
        (field({"type": "enum", "name": "E", "symbols": ["a", "a"]}), "fields[0].type.symbols", "twice"),
        (
            field({"type": "enum", "name": "E", "symbols": ["a"], "default": "b"}),
            "fields[0].type.default",
            "no symbol",
        ),
        (field({"type": "fixed", "name": "F", "size": 0}), "fields[0].type", "no type"),
        (record({"name": "x", "type": "int"}, {"name": "x", "type": "int"}), "fields", "twice"),
        (record({"name": "no name", "type": "int"}), "fields[0]", "no field"),
        (record({"type": "int"}), "fields[0]", "no field"),
    ],
)
def test_what_a_contract_may_not_use_is_refused_at_its_place(schema: Any, path: str, what: str) -> None:
    with pytest.raises(InvalidSchema) as refused:
        parse(schema)
    assert (shown(refused.value.path), what in refused.value.fault) == (path, True), refused.value


def test_a_place_has_its_line() -> None:
    text = '\n{"a": [1,\n  {"b\\"": "x]}"},\n "y"], "c": \n true, "d": {}, "e": []}'
    assert lines(text) == {
        (): 2,
        ("a",): 2,
        ("a", 0): 2,
        ("a", 1): 3,
        ("a", 1, 'b"'): 3,
        ("a", 2): 4,
        ("c",): 5,
        ("d",): 5,
        ("e",): 5,
    }


def test_what_is_no_json_has_no_lines() -> None:
    with pytest.raises(ValueError, match="Expecting"):
        lines('{"a": }')
