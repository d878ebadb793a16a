"""Generate, from a contract, the SQL that encodes a payload into its Avro datum.

One file per event and version: an encoder `fn_iu_avro_<event>_v<N>(jsonb) RETURNS bytea`, and
before it one function for each enum, nested record and array that the contract has. They
stand on the primitives of `sql/functions/avro/avro_primitives.sql`, which are written by hand.
The text depends on the contract alone: equal contracts give equal files, to the byte.
Source: design/10 and design/40, "The SQL encoder".
"""

from collections.abc import Iterator
from typing import Final, assert_never

from schemas.avro_types import (
    Array,
    AvroType,
    Enum,
    Fixed,
    Int,
    InvalidSchema,
    Optional,
    Record,
    String,
    TimestampMicros,
    children,
)

IDENTIFIER_BYTES_MAX: Final = 63  # PostgreSQL cuts a longer name off and two could meet
NEVER_WRITTEN: Final = "UNKNOWN"

_BANNER: Final = """\
-- Generated from schemas/structure/{event}/v{version}.avsc by `iu schemas sql`.
-- Do not edit: `iu schemas check` compares this file with its contract.
--
-- {encoder} makes the Avro datum of one event, without wire
-- prefix, as fastavro makes it. It takes the payload whole: each field there, none besides,
-- each in its one spelling; anything else is refused with IU021, which names the field.
-- Needs avro_primitives.sql; why the functions are plpgsql and who has a SET stands there.
"""

_FUNCTION: Final = """
CREATE OR REPLACE FUNCTION public.{name}({parameters})
RETURNS bytea
LANGUAGE plpgsql
STABLE
PARALLEL SAFE
{settings}AS $$
{body}
$$;

ALTER FUNCTION public.{name}({types}) OWNER TO iu_owner;
COMMENT ON FUNCTION public.{name}({types}) IS
  '{comment}';
REVOKE ALL ON FUNCTION public.{name}({types}) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION public.{name}({types}) TO iu_owner;
"""

_RECORD: Final = """\
DECLARE
  v_unknown jsonb;
BEGIN
  IF jsonb_typeof({value}) IS DISTINCT FROM 'object' THEN
    RETURN public.fn_iu_avro_refuse({path}, 'an object', {value});
  END IF;
  v_unknown := {value} - ARRAY[
{keys}
  ];
  IF v_unknown <> '{{}}' THEN
    RETURN public.fn_iu_avro_refuse({path}, 'no field besides those of the contract', v_unknown);
  END IF;
  RETURN {fields};
END;"""

_ENUM: Final = """\
BEGIN
  -- An object or a number reads as text too, but never as one of these.
  RETURN CASE p_value #>> '{{}}'
{symbols}
    ELSE public.fn_iu_avro_refuse(p_path, '{expected}', p_value)
  END;
END;"""

_ARRAY: Final = """\
BEGIN
  IF jsonb_typeof(p_value) IS DISTINCT FROM 'array' THEN
    RETURN public.fn_iu_avro_refuse(p_path, 'an array', p_value);
  END IF;
  IF jsonb_array_length(p_value) = 0 THEN
    RETURN '\\x00'::bytea;
  END IF;
  -- One block with its count, then the empty block that ends an array.
  RETURN public.fn_iu_avro_number(jsonb_array_length(p_value)) || (
    SELECT string_agg(
             {item},
             ''::bytea ORDER BY each.position)
      FROM jsonb_array_elements(p_value) WITH ORDINALITY AS each (item, position)
  ) || '\\x00'::bytea;
END;"""


def encoder_name(event_type: str, version: int) -> str:
    """Return the name of the SQL function that encodes this version of the event."""
    return f"fn_iu_avro_{event_type}_v{version}"


def encoder_sql(record: Record, version: int) -> str:
    """Return the SQL file that encodes `record`, released as `version`.

    Raises `InvalidSchema` if a function's name would be too long for PostgreSQL.
    """
    encoder = encoder_name(record.name, version)
    parts = [_BANNER.format(event=record.name, version=version, encoder=encoder)]
    written: set[str] = set()
    for inner in _parts(record):
        name = _part_name(inner, encoder)
        if inner is not record and name not in written:
            written.add(name)
            parts.append(_part_sql(inner, name, encoder, record.name, version))
    parts.append(
        _FUNCTION.format(
            name=_checked(encoder),
            parameters="p_payload jsonb",
            types="jsonb",
            settings="SET search_path = pg_catalog, pg_temp\n",
            body=_record_body(record, encoder, value="p_payload", path=f"'{record.name}'"),
            comment=f"Avro datum of a {record.name} payload, version {version}, or IU021. Internal.",
        )
    )
    return "".join(parts)


def _parts(avro_type: AvroType) -> Iterator[AvroType]:
    """Yield every type inside `avro_type` and itself, the inner before the outer."""
    for child in children(avro_type):
        yield from _parts(child)
    if isinstance(avro_type, Enum | Array | Record):
        yield avro_type


def _part_sql(part: AvroType, name: str, encoder: str, event_type: str, version: int) -> str:
    match part:
        case Enum():
            body, what = _enum_body(part), f"Avro enum {part.name}"
        case Array(items=items):
            item = _call(items, encoder, "each.item", "p_path || '[' || (each.position - 1) || ']'")
            body, what = _ARRAY.format(item=item), "Avro array"
        case Record():
            body, what = (
                _record_body(part, encoder, value="p_value", path="p_path"),
                f"Avro record {part.name}",
            )
        case _:
            raise InvalidSchema((), f"{part} has no SQL function of its own")
    return _FUNCTION.format(
        name=_checked(name),
        parameters="p_value jsonb, p_path text",
        types="jsonb, text",
        settings="",
        body=body,
        comment=f"{what} of {event_type}, version {version}, or IU021. Internal.",
    )


def _part_name(part: AvroType, encoder: str) -> str:
    match part:
        case Array(items=items):
            return _part_name(items, f"{encoder}_each")
        case Record(name=name) | Enum(name=name) | Fixed(name=name):
            return f"{encoder}_{_snake(name)}"
        case _:
            return f"{encoder}_{type(part).__name__.lower()}"


def _record_body(record: Record, encoder: str, *, value: str, path: str) -> str:
    names = [field.name for field in record.fields]
    calls = []
    for field in record.fields:
        # A literal where the path is known, so that the good case concatenates nothing.
        inside = f"{path[:-1]}.{field.name}'" if path.startswith("'") else f"{path} || '.{field.name}'"
        calls.append(_call(field.type, encoder, f"{value} -> '{field.name}'", inside))
    keys = ",\n".join(f"    '{name}'" for name in names)
    return _RECORD.format(value=value, path=path, keys=keys, fields="\n    || ".join(calls))


def _enum_body(enum: Enum) -> str:
    writable = [(index, symbol) for index, symbol in enumerate(enum.symbols) if symbol != NEVER_WRITTEN]
    if len(enum.symbols) > 64:
        raise InvalidSchema(
            (), f"{enum.name} has more than 64 symbols", remedy="their index no longer fits one byte"
        )
    lines = [f"    WHEN '{symbol}' THEN '\\x{2 * index:02x}'::bytea" for index, symbol in writable]
    expected = "one of " + ", ".join(symbol for _, symbol in writable)
    return _ENUM.format(symbols="\n".join(lines), expected=expected)


def _call(avro_type: AvroType, encoder: str, value: str, path: str) -> str:
    match avro_type:
        case String():
            return f"public.fn_iu_avro_string({value}, {path})"
        case Int(bits=bits):
            return f"public.fn_iu_avro_{'int' if bits == 32 else 'long'}({value}, {path})"
        case TimestampMicros():
            return f"public.fn_iu_avro_timestamp_micros({value}, {path})"
        case Fixed(size=size):
            if avro_type.is_uuid:
                return f"public.fn_iu_avro_uuid({value}, {path})"
            return f"public.fn_iu_avro_fixed({value}, {size}, {path})"
        case Optional(inner=inner):
            call = _call(inner, encoder, value, path)
            null = f"CASE jsonb_typeof({value}) WHEN 'null' THEN '\\x00'::bytea"
            return f"{null}\n         ELSE '\\x02'::bytea || {call} END"
        case Enum() | Array() | Record():
            return f"public.{_part_name(avro_type, encoder)}({value}, {path})"
        case _:
            assert_never(avro_type)


def _snake(name: str) -> str:
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name).lstrip("_")


def _checked(name: str) -> str:
    if len(name.encode()) > IDENTIFIER_BYTES_MAX:
        what = f"its SQL function would be {name}, longer than {IDENTIFIER_BYTES_MAX} bytes"
        raise InvalidSchema((), what, remedy="shorten the name of the event or of the type")
    return name
