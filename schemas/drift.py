"""Do the pydantic models of `iu_core.events` still say what the contracts say?

Both are turned into one form, JSON Schema: pydantic's own of the model, and the one that the
contract calls for. What pydantic enforces is what it prints there, so a bound or a pattern that
is missing shows; a time that no calendar has does not (golden data and mutated payloads hold it).
"""

from collections.abc import Iterator
from typing import Any, assert_never

from iu_core.events import DIGEST_PATTERN, TEXT_PATTERN, TIMESTAMP_PATTERN, UUID_PATTERN, StructureEvent
from schemas.avro_types import Array, AvroType, Enum, Fixed, Int, Optional, Record, String, TimestampMicros
from schemas.conversion import UNKNOWN

DIGEST_BYTES = 32


def differences(record: Record, model: type[StructureEvent]) -> Iterator[tuple[str, str]]:
    """Yield the path of each field on which the two differ, and how."""
    document = model.model_json_schema()
    definitions = document.pop("$defs", {})
    yield from _compare(_expected(record), _resolved(document, definitions), "")


def _expected(avro_type: AvroType) -> dict[str, Any]:
    match avro_type:
        case String():
            return {"type": "string", "pattern": TEXT_PATTERN}
        case Int():
            return {"type": "integer", "minimum": avro_type.smallest, "maximum": avro_type.largest}
        case TimestampMicros():
            return {"type": "string", "pattern": TIMESTAMP_PATTERN}
        case Fixed(size=size):
            hex_pattern = DIGEST_PATTERN if size == DIGEST_BYTES else f"^[0-9a-f]{{{2 * size}}}$"
            return {"type": "string", "pattern": UUID_PATTERN if avro_type.is_uuid else hex_pattern}
        case Enum(symbols=symbols):
            return {"type": "string", "enum": [symbol for symbol in symbols if symbol != UNKNOWN]}
        case Array(items=items):
            return {"type": "array", "items": _expected(items)}
        case Optional(inner=inner):
            return {"anyOf": [_expected(inner), {"type": "null"}]}
        case Record(fields=fields):
            return {
                "type": "object",
                "properties": {field.name: _expected(field.type) for field in fields},
                "required": [field.name for field in fields],
                "additionalProperties": False,
            }
        case _:
            assert_never(avro_type)


def _resolved(schema: Any, definitions: dict[str, Any]) -> Any:
    """Return `schema` with references replaced by what they name, and without titles and docs."""
    if isinstance(schema, list):
        return [_resolved(part, definitions) for part in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        return _resolved(definitions[schema["$ref"].rpartition("/")[2]], definitions)
    dropped = {"title", "description"} if isinstance(schema.get("title"), str) else set()
    return {key: _resolved(part, definitions) for key, part in schema.items() if key not in dropped}


def _compare(expected: dict[str, Any], found: dict[str, Any], path: str) -> Iterator[tuple[str, str]]:
    if expected.get("type") == found.get("type") == "object":
        wanted, present = expected["properties"], found.get("properties", {})
        yield from _compare_fields(wanted, present, path)
        for key in ("required", "additionalProperties"):
            if found.get(key) != expected[key] and list(wanted) == list(present):
                yield path, f"{key} is {found.get(key)!r}, the contract asks for {expected[key]!r}"
    elif expected.get("type") == found.get("type") == "array":
        yield from _compare(expected["items"], found.get("items", {}), f"{path}[]")
    elif expected != found:
        yield path, f"the model has {found}, the contract asks for {expected}"


def _compare_fields(wanted: dict[str, Any], present: dict[str, Any], path: str) -> Iterator[tuple[str, str]]:
    prefix = f"{path}." if path else ""
    for name in wanted:
        if name not in present:
            yield f"{prefix}{name}", "the model lacks the field"
        else:
            yield from _compare(wanted[name], present[name], f"{prefix}{name}")
    for name in present.keys() - wanted.keys():
        yield f"{prefix}{name}", "the contract has no such field"
    if list(wanted) != list(present) and wanted.keys() == present.keys():
        yield path, f"the fields stand in another order: {', '.join(present)}"
